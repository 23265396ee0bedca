"""Is the vocabulary in use? Share of codes seen and perplexity, level by level.

# B chunks, M slots, Q levels, V codes
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from xtok.actions.types import ActionTokenizer, Codes
from xtok.evaluate.coded import Coded
from xtok.evaluate.result import BookUseJson
from xtok.evaluate.word_use import Books, HasBooks, book_use, level_counts, perplexity


class CodebookFigures(TypedDict):
    """A value a level. usage: share of the vocabulary seen. perplexity: exp of the entropy. books: of motion words,
    book by book, else None."""

    usage: list[float]
    perplexity: list[float]
    books: list[BookUseJson] | None


def run(coded: Coded) -> CodebookFigures:
    """How much of the vocabulary is used.

    Motion words have levels without a grid: the word, then residuals, all lengths of segments together. Tokenizers with
    neither have one vocabulary and so one entry. Both figures are bounded by the number of codes looked at: compare
    them between tokenizers on the same chunks.
    """
    books = books_of(coded.tokenizer)
    counts = code_counts(coded.codes, books)
    return {
        "usage": [usage(level) for level in counts],
        "perplexity": [perplexity(level) for level in counts],
        "books": None if books is None else book_use(coded.codes, books),
    }


def books_of(tokenizer: ActionTokenizer) -> Books | None:
    """Of motion words."""
    return tokenizer.grammar if isinstance(tokenizer, HasBooks) else None


def code_counts(codes: Codes, books: Books | None = None) -> list[np.ndarray]:
    """How often each code occurs: one int64 [V] a level."""
    if books is not None:
        return level_counts(codes, books)
    return [np.bincount(level, minlength=codes.vocab_size) for level in by_level(codes)]


def by_level(codes: Codes) -> list[np.ndarray]:
    """All tokens of all chunks, level by level; one list where there is no grid of slots and levels."""
    if codes.grid_BMQ is None:
        return [np.concatenate(codes.tokens)]
    return list(codes.grid_BMQ.flatten(0, 1).T.cpu().numpy())


def usage(counts: np.ndarray) -> float:
    return float((counts > 0).mean())
