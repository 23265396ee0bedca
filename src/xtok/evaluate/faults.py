"""Ways for a code stream to be wrong, whatever its tokens mean: flipped, dropped, swapped, cut off.

# Q levels
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Corrupt = Callable[[np.ndarray, float, int, np.random.Generator], np.ndarray]
ONE_TOKEN = math.inf  # in place of a rate: one token of each sequence, however long it is


def flip(tokens: np.ndarray, rate: float, vocab_size: int, rng: np.random.Generator) -> np.ndarray:
    """Tokens become other tokens of the vocabulary."""
    return np.where(touched(tokens, rate, rng), _others(tokens, vocab_size, rng), tokens)


def drop(tokens: np.ndarray, rate: float, vocab_size: int, rng: np.random.Generator) -> np.ndarray:
    """Tokens are missing, those after them move up."""
    return tokens[~touched(tokens, rate, rng)]


def swap(tokens: np.ndarray, rate: float, vocab_size: int, rng: np.random.Generator) -> np.ndarray:
    """Tokens change places with their right neighbours; the last one with the one before."""
    out = tokens.copy()
    if len(out) > 1:
        for at in np.flatnonzero(touched(tokens, rate, rng)):
            left = min(at, len(out) - 2)
            out[left], out[left + 1] = out[left + 1], out[left]
    return out


def truncate(tokens: np.ndarray, rate: float, vocab_size: int, rng: np.random.Generator) -> np.ndarray:
    """The end is missing."""
    return tokens[: len(tokens) - _count(tokens, rate, rng)]


def flip_level(level: int, levels: int) -> Corrupt:
    """That share of the codes of one level, where Q levels of a slot follow each other."""

    def flip_of_level(tokens: np.ndarray, rate: float, vocab_size: int, rng: np.random.Generator) -> np.ndarray:
        out = tokens.copy()
        out[level::levels] = flip(tokens[level::levels], rate, vocab_size, rng)
        return out

    return flip_of_level


KINDS: dict[str, Corrupt] = {"flip": flip, "drop": drop, "swap": swap, "truncate": truncate}


def touched(tokens: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Which of the tokens a fault meets: True for the rate's share of them, drawn without order."""
    found = np.zeros(len(tokens), dtype=bool)
    found[rng.permutation(len(tokens))[: _count(tokens, rate, rng)]] = True
    return found


def _count(tokens: np.ndarray, rate: float, rng: np.random.Generator) -> int:
    """The share as a number of tokens, rounded by chance, so that short sequences meet the rate on average."""
    if rate == ONE_TOKEN:
        return min(1, len(tokens))
    return int(rate * len(tokens) + rng.random()) if rate > 0 else 0


def _others(tokens: np.ndarray, vocab_size: int, rng: np.random.Generator) -> np.ndarray:
    return (tokens + rng.integers(1, vocab_size, len(tokens))) % vocab_size
