"""The logits mask: a language model that generates under it writes whole chunks of codes and nothing else.

# B sequences, L tokens of a sequence, N ids of the language model
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from xtok.actions.entrance import whole_of
from xtok.codec.tokens.vocabulary import CodeVocabulary


class CodeMask:
    """A logits processor for `model.generate`: whatever is sampled is a chunk of M slots, then `end_id`.

    prompt_length: tokens before the first code (prompts of a batch are padded on the left). end_id: the only id allowed
    after the chunk; None leaves the scores alone from there on.

    Raises:
        ValueError: no slot, numbers that are not whole, or an end_id among the ids of the codes.
    """

    def __init__(self, vocabulary: CodeVocabulary, slots: int, prompt_length: int, end_id: int | None = None) -> None:
        slots, prompt_length = whole_of(slots, "slots", 1), whole_of(prompt_length, "prompt_length", 0)
        if end_id is not None:
            vocabulary.check_text([end_id := whole_of(end_id, "end_id", 0)])
        self.vocabulary, self.slots, self.prompt_length, self.end_id = vocabulary, slots, prompt_length, end_id

    def __call__(self, input_ids: Int[Tensor, "B L"], scores: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        """Scores with -inf at the ids that are not allowed next."""
        if input_ids.ndim != 2 or scores.ndim != 2:
            shapes = f"{tuple(input_ids.shape)} and {tuple(scores.shape)}"
            raise ValueError(f"input_ids and scores have shapes {shapes}; expected [B, L] and [B, N]")
        if self.end_id is not None and self.end_id >= scores.shape[1]:
            raise ValueError(f"end_id is {self.end_id}; the language model has {scores.shape[1]} ids")
        number = input_ids.shape[1] - self.prompt_length
        if number < 0:
            raise ValueError(f"there are {input_ids.shape[1]} ids, prompt_length is {self.prompt_length}")
        if number < self.vocabulary.length(self.slots):
            keep = self.vocabulary.allowed(number, scores.shape[1])
        elif self.end_id is not None:
            keep = torch.zeros(scores.shape[1], dtype=torch.bool)
            keep[self.end_id] = True
        else:
            return scores
        return scores.masked_fill(~keep.to(scores.device), float("-inf"))
