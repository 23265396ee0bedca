"""Is the vocabulary in use? Share of codes seen and perplexity, level by level.

# B chunks, M slots, Q levels, V codes
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from xtok.actions.types import Codes
from xtok.evaluate.coded import Coded


class CodebookFigures(TypedDict):
    """A value a level. usage: share of the vocabulary seen. perplexity: exp of the entropy."""

    usage: list[float]
    perplexity: list[float]


def run(coded: Coded) -> CodebookFigures:
    """How much of the vocabulary is used.

    Tokenizers without a grid of slots and levels have one vocabulary and so one entry. Both figures are bounded by
    the number of codes looked at: compare them between tokenizers on the same chunks.
    """
    counts = code_counts(coded.codes)
    return {"usage": [usage(level) for level in counts], "perplexity": [perplexity(level) for level in counts]}


def code_counts(codes: Codes) -> list[np.ndarray]:
    """How often each code occurs: one int64 [V] a level."""
    return [np.bincount(level, minlength=codes.vocab_size) for level in by_level(codes)]


def by_level(codes: Codes) -> list[np.ndarray]:
    """All tokens of all chunks, level by level; one list where there is no grid of slots and levels."""
    if codes.grid_BMQ is None:
        return [np.concatenate(codes.tokens)]
    return list(codes.grid_BMQ.flatten(0, 1).T.cpu().numpy())


def usage(counts: np.ndarray) -> float:
    return float((counts > 0).mean())


def perplexity(counts: np.ndarray) -> float:
    """exp of the entropy: the number of equally likely codes that would be as hard to guess."""
    share = counts[counts > 0] / counts.sum()
    return float(np.exp(-(share * np.log(share)).sum()))
