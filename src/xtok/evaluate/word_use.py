"""Are the books of motion words in use? Share of codes seen and perplexity of each, by length of segment and level.

# V codes of a book
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from xtok.actions.types import FRAMES_PER_SLOT, Codes
from xtok.evaluate.result import BookUseJson

WORD = (0, 0)  # as length and level, of the book of words


class Books(Protocol):
    """What is asked of `xtok.codec.words.Grammar`. size_of: of residual books, by length in slots and level."""

    @property
    def words(self) -> int: ...

    @property
    def size_of(self) -> Mapping[tuple[int, int], int]: ...

    def range_of(self, length: int = 0, level: int = 0) -> tuple[int, int]: ...


@runtime_checkable
class HasBooks(Protocol):
    """A tokenizer whose ids are of several books."""

    @property
    def grammar(self) -> Books: ...


def book_counts(codes: Codes, books: Books) -> dict[tuple[int, int], np.ndarray]:
    """(length in slots, level) -> how often each code of that book occurs, int64 [V]; words first."""
    tokens = np.concatenate(codes.tokens) if len(codes) else np.zeros(0, dtype=np.int64)
    counts = np.bincount(tokens, minlength=codes.vocab_size)
    return {key: counts[slice(*books.range_of(*key))] for key in (WORD, *books.size_of)}


def level_counts(codes: Codes, books: Books) -> list[np.ndarray]:
    """How often each code of a level occurs, words first: the books of all lengths of a level side by side."""
    by_book = book_counts(codes, books)
    levels = sorted({level for _, level in by_book})
    return [np.concatenate([counts for (_, level), counts in by_book.items() if level == q]) for q in levels]


def book_use(codes: Codes, books: Books) -> list[BookUseJson]:
    """Each book's use, words first."""
    return [
        {
            "frames": length * FRAMES_PER_SLOT,
            "level": level,
            "size": len(counts),
            "tokens": int(counts.sum()),
            "usage": float((counts > 0).mean()),
            "perplexity": perplexity(counts),
        }
        for (length, level), counts in book_counts(codes, books).items()
    ]


def perplexity(counts: np.ndarray) -> float:
    """exp of the entropy: the number of equally likely codes that would be as hard to guess; 0 of none at all."""
    if not counts.sum():
        return 0.0
    share = counts[counts > 0] / counts.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def by_level(books: Sequence[BookUseJson]) -> list[tuple[int, int]]:
    """(tokens, codes) of each level, all lengths together."""
    levels = sorted({book["level"] for book in books})
    mine = [[book for book in books if book["level"] == level] for level in levels]
    return [(sum(book["tokens"] for book in each), sum(book["size"] for book in each)) for each in mine]
