"""Codes as tokens of a language model, appended after its text vocabulary. docs/method.md#policies.

# B sequences, L tokens of a sequence, M slots, Q levels, V codes a level, N ids of the language model

Every level has V tokens of its own: `<xtok_q0_17>` and `<xtok_q2_17>` are different words. Order is position-major: all
Q levels of slot i before slot i + 1; with `marker`, `<xtok_slot>` stands before every slot. The codec
itself knows codes 0 .. V - 1 and no language model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from xtok.actions.entrance import integers_of, whole_of
from xtok.actions.types import Codes

MARKER = "<xtok_slot>"


@dataclass(frozen=True)
class CodeVocabulary:
    """Ids `offset` .. `offset + size - 1`: level 0's V codes, level 1's, ..., then the marker if there is one.

    offset: the size of the text vocabulary, so that no text id is ever touched (openpi #708 overwrote some).

    Raises:
        ValueError: counts under 1, a negative offset, or numbers that are not whole.
    """

    offset: int
    levels: int = 4
    codebook_size: int = 2048
    marker: bool = False

    def __post_init__(self) -> None:
        for name in ("offset", "levels", "codebook_size"):
            object.__setattr__(self, name, whole_of(getattr(self, name), name))
        if not isinstance(self.marker, (bool, np.bool_)):
            raise ValueError(f"marker is {self.marker!r}; expected True or False")
        object.__setattr__(self, "marker", bool(self.marker))
        if self.levels < 1 or self.codebook_size < 1 or self.offset < 0:
            raise ValueError(
                f"levels is {self.levels}, codebook_size {self.codebook_size}, offset {self.offset}; "
                "expected one or more levels and codes, and the size of the text vocabulary as the offset"
            )

    @classmethod
    def append_to(
        cls, text_tokenizer: Any, levels: int = 4, codebook_size: int = 2048, marker: bool = False
    ) -> CodeVocabulary:
        """Add all tokens to a `tokenizers.Tokenizer` or a transformers tokenizer, in place, after its last id.

        Resize the model too: `model.resize_token_embeddings(vocabulary.end)`, if it has fewer rows than that.

        Raises:
            ValueError: the tokenizer already has some of the tokens, or does not number new ones from its end.
        """
        if not hasattr(text_tokenizer, "get_vocab"):
            kind = type(text_tokenizer).__name__
            raise ValueError(f"a {kind} has no get_vocab(); expected a tokenizers.Tokenizer or one of transformers")
        known = text_tokenizer.get_vocab()
        vocabulary = cls(max(known.values(), default=-1) + 1, levels, codebook_size, marker)
        tokens = vocabulary.tokens()
        if taken := [token for token in tokens if token in known]:
            raise ValueError(
                f"this tokenizer already has {taken[0]} ({len(taken)} such tokens); it was extended before: "
                f"use CodeVocabulary(offset={known[taken[0]]}, ...) of the time"
            )
        if hasattr(text_tokenizer, "add_special_tokens") and not hasattr(text_tokenizer, "convert_ids_to_tokens"):
            text_tokenizer.add_special_tokens(tokens)  # tokenizers.Tokenizer
        else:
            text_tokenizer.add_tokens(tokens, special_tokens=True)
        found = text_tokenizer.get_vocab()
        if any(found.get(token) != vocabulary.offset + i for i, token in enumerate(tokens)):
            raise ValueError("the tokenizer gave the new tokens other ids than the next ones; add them by hand")
        return vocabulary

    # -- ids and strings ------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        return self.levels * self.codebook_size + self.marker

    @property
    def end(self) -> int:
        """One more than the last id: rows that the model's embedding needs at least."""
        return self.offset + self.size

    @property
    def marker_id(self) -> int | None:
        return self.end - 1 if self.marker else None

    @property
    def tokens_per_slot(self) -> int:
        return self.levels + self.marker

    def tokens(self) -> list[str]:
        """All token strings, by id."""
        codes = [f"<xtok_q{q}_{code}>" for q in range(self.levels) for code in range(self.codebook_size)]
        return [*codes, MARKER] if self.marker else codes

    def token(self, token_id: int) -> str:
        """The string of an id of this vocabulary."""
        level, code = self._level_and_code(whole_of(token_id, "token_id"))
        return MARKER if level == self.levels else f"<xtok_q{level}_{code}>"

    def length(self, slots: int) -> int:
        """L: tokens of a chunk of M slots."""
        return slots * self.tokens_per_slot

    # -- codes and ids --------------------------------------------------------------------------------------------

    def ids(self, codes: Codes) -> list[list[int]]:
        """Ids of each chunk.

        Raises:
            ValueError: codes that are no whole slots of Q levels, or outside the book.
        """
        if not isinstance(codes, Codes):
            raise ValueError(f"codes are a {type(codes).__name__}; expected Codes: tokenizer.encode(chunks)")
        out = []
        for row, sequence in enumerate(codes.tokens):
            if len(sequence) % self.levels or len(sequence) == 0:
                raise ValueError(f"chunk {row} has {len(sequence)} codes; expected whole slots of {self.levels} levels")
            grid = (
                integers_of(sequence, f"codes of chunk {row}", "in one row", 1).cpu().numpy().reshape(-1, self.levels)
            )
            if ((grid < 0) | (grid >= self.codebook_size)).any():
                raise ValueError(f"chunk {row} has codes outside [0, {self.codebook_size}); another tokenizer's?")
            grid = grid + self.offset + np.arange(self.levels) * self.codebook_size
            if self.marker:
                grid = np.concatenate([np.full((len(grid), 1), self.end - 1), grid], axis=1)
            out.append(grid.reshape(-1).tolist())
        return out

    def codes(self, ids: Iterable[Sequence[int] | Int[Tensor, " L"]]) -> Codes:
        """Inverse of `ids`: the codes among the ids, whose order is checked.

        Text ids before the first and after the last code are passed over, so a whole generation may be given.

        Raises:
            ValueError: no code at all, text or a marker between codes, or a code of another level than is due.
        """
        if isinstance(ids, (str, bytes, Mapping)) or not hasattr(ids, "__iter__") or getattr(ids, "ndim", 2) < 2:
            raise ValueError(f"ids are a {type(ids).__name__}; expected a list of ids for each sequence, [B, L]")
        rows = [
            integers_of(given, f"ids of sequence {row}", "in one row", 1).tolist() if _any(given) else []
            for row, given in enumerate(ids)
        ]
        sequences = [self._codes_of(row, given) for row, given in enumerate(rows)]
        return Codes(tuple(sequences), self.codebook_size)

    def check_text(self, ids: Iterable[int]) -> None:
        """Look whether text has ids of codes: then the offset lies inside the text vocabulary.

        Raises:
            ValueError: it has.
        """
        for token_id in ids:
            if self.offset <= token_id < self.end:
                raise ValueError(
                    f"text has id {token_id}, and ids of codes are {self.offset} to {self.end - 1}: they overlap. "
                    "offset is the size of the text vocabulary, added tokens included"
                )

    def _codes_of(self, row: int, ids: list[int]) -> np.ndarray:
        ours = [at for at, token_id in enumerate(ids) if self.offset <= token_id < self.end]
        if not ours:
            raise ValueError(f"sequence {row} has no code; ids of codes are {self.offset} to {self.end - 1}")
        found = [self.code(number, ids[at]) for number, at in enumerate(range(ours[0], ours[-1] + 1))]
        return np.array([code for code in found if code is not None], dtype=np.int64)

    def code(self, number: int, token_id: int) -> int | None:
        """The code that an id means as the n-th token of a chunk; None for a marker.

        Raises:
            ValueError: text, or a token of this vocabulary that is not due there.
        """
        due = self._level_at(number)
        if not self.offset <= token_id < self.end:
            raise ValueError(f"id {token_id} at token {number} of the chunk is no code; expected {self._name(due)}")
        level, code = self._level_and_code(token_id)
        if level != due:
            raise ValueError(f"{self.token(token_id)} is token {number} of the chunk; expected {self._name(due)}")
        return None if level == self.levels else code

    def _level_at(self, number: int) -> int:
        """Level of the n-th token of a chunk; Q where a marker is due."""
        place = number % self.tokens_per_slot
        return (place - 1) % self.tokens_per_slot if self.marker else place

    def _name(self, level: int) -> str:
        return MARKER if level == self.levels else f"a code of level {level}"

    def _level_and_code(self, token_id: int) -> tuple[int, int]:
        if not self.offset <= token_id < self.end:
            raise ValueError(f"id {token_id} is no code; ids of codes are {self.offset} to {self.end - 1}")
        return divmod(token_id - self.offset, self.codebook_size)

    # -- generation -----------------------------------------------------------------------------------------------

    def allowed(self, number: int, size: int | None = None) -> Bool[Tensor, " N"]:
        """True for the ids that may be the n-th token of a chunk. size: N, ids of the language model."""
        size = self.end if size is None else whole_of(size, "size", 1)
        if size < self.end:
            raise ValueError(
                f"the language model has {size} ids, the codes need {self.end}; "
                f"resize it: model.resize_token_embeddings({self.end})"
            )
        start = self.offset + self._level_at(number) * self.codebook_size
        out = torch.zeros(size, dtype=torch.bool)
        out[start : min(start + self.codebook_size, self.end)] = True
        return out


def _any(given: Any) -> bool:
    """False for a sequence without ids, whose dtype says nothing."""
    return not hasattr(given, "__len__") or getattr(given, "ndim", 1) != 1 or len(given) > 0
