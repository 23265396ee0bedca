"""Codes as tokens of a language model, appended after its text vocabulary. docs/method.md#policies.

# B sequences, L tokens of a sequence, M slots, Q levels, V codes a level, N ids of the language model

Every level has V tokens of its own: `<xtok_q0_17>` and `<xtok_q2_17>` are different words. Order is position-major: all
Q levels of slot i before slot i + 1; with `marker`, `<xtok_slot>` stands before every slot. The codec
itself knows codes 0 .. V - 1 and no language model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from torch import Tensor

from xtok.actions.entrance import integers_of, whole_of
from xtok.actions.types import Codes
from xtok.codec.tokens.appended import AppendedVocabulary, append_tokens, rows_of

MARKER = "<xtok_slot>"


@dataclass(frozen=True)
class CodeVocabulary(AppendedVocabulary):
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
        return append_tokens(text_tokenizer, lambda offset: cls(offset, levels, codebook_size, marker))

    # -- ids and strings ------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        return self.levels * self.codebook_size + self.marker

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
        sequences = [self._codes_of(self.written(row, given)) for row, given in enumerate(rows_of(ids))]
        return Codes(tuple(sequences), self.codebook_size)

    def _codes_of(self, ids: list[int]) -> np.ndarray:
        found = [self.code(number, token_id) for number, token_id in enumerate(ids)]
        return np.array([code for code in found if code is not None], dtype=np.int64)

    def code(self, number: int, token_id: int) -> int | None:
        """The code that an id means as the n-th token of a chunk; None for a marker.

        Raises:
            ValueError: text, or a token of this vocabulary that is not due there.
        """
        due = self._level_at(number)
        if not self.owns(token_id):
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
        return divmod(self.place_of(token_id), self.codebook_size)

    # -- generation -----------------------------------------------------------------------------------------------

    def allowed(self, number: int, size: int | None = None) -> Bool[Tensor, " N"]:
        """True for the ids that may be the n-th token of a chunk. size: N, ids of the language model."""
        start = self.offset + self._level_at(number) * self.codebook_size
        return self.mask([(start, min(start + self.codebook_size, self.end))], size)
