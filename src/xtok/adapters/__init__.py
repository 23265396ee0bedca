"""The codec behind other people's contracts. Each file names the contract that it meets and imports its extra itself.

- `huggingface`: FAST's call contract, `ActionProcessor` (extra hf)
- `authors`: the 9-key episode dict and statistics JSON of the authors' library
- `torchrl`: `ActionTokenizerBase` (extra torchrl)
- `openpi`: the class that `Pi0FASTConfig.fast_model_tokenizer` names
- `wall_x`: `ActionTokenizerMixin`
- `lerobot`: a processor step, for lerobot 0.4.4

Codes as tokens of a language model are `xtok.codec.tokens`; `vocabulary` and `stream` here re-export its names.
"""
