"""FAST at the rates that ours is compared at: a sweep of scales whose bits enclose those of our prefixes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from xtok.actions.types import Actions, ActionTokenizer, ChunkBatch, Codes, Context
from xtok.evaluate.batches import encode
from xtok.evaluate.rate import bits_mean

SCALE_START = 2.0  # coarse scales are fitted fastest
TRIES = 5  # to enclose the bits, on either side
STEP_MAX = 1.8  # neighbouring scales are at most this factor apart, so that interpolation stays honest
BITS_EXPONENT = 0.5  # bits grow about as the root of the scale: a guess for the next scale to try


@dataclass
class Sweep:
    """Tokenizers of one kind at rising scales; encodes and decodes as the one at `headline_scale`."""

    name: str
    by_scale: dict[float, ActionTokenizer]
    headline_scale: float

    def __post_init__(self) -> None:
        self._headline = self.by_scale[self.headline_scale]
        self.vocab_size = self._headline.vocab_size

    def encode(self, chunks: ChunkBatch) -> Codes:
        return self._headline.encode(chunks)

    def decode(self, codes: Codes, context: Context) -> Actions:
        return self._headline.decode(codes, context)

    def rate_points(self) -> list[ActionTokenizer]:
        return list(self.by_scale.values())


def sweep_around(
    name: str,
    fit: Callable[[float], ActionTokenizer],
    probe: ChunkBatch,
    bits: tuple[float, float],
    bits_headline: float,
    scale_max: float = math.inf,
) -> Sweep:
    """Tokenizers fitted at scales whose mean bits on `probe` enclose `bits`; the one nearest to `bits_headline` leads.

    `probe` only tells which scales are of interest: nothing is fitted to it. Gives up after a few tries where a set is
    too simple to spend so many bits on, or cannot spend so few; the comparison then says "outside the sweep".
    """
    fitted: dict[float, ActionTokenizer] = {}
    spent: dict[float, float] = {}

    def spend(scale: float) -> float:
        if scale not in fitted:
            fitted[scale] = fit(scale)
            spent[scale] = bits_mean(encode(fitted[scale], probe))
        return spent[scale]

    def search(wanted: float, finer: bool) -> None:
        scale = min(SCALE_START, scale_max)
        before, now = 0.0, spend(scale)
        for _ in range(TRIES):
            enclosed = now >= wanted if finer else now <= wanted
            if enclosed or math.isclose(before, now, rel_tol=0.01):
                return
            guess = (wanted / now) ** (1 / BITS_EXPONENT)
            factor = min(max(1.2 * guess, 1.5), 8.0) if finer else max(min(guess / 1.2, 1 / 1.5), 1 / 8.0)
            scale = min(scale * factor, scale_max)
            before, now = now, spend(scale)

    search(min(bits), finer=False)
    search(max(bits), finer=True)
    while (scale := _gap(spent, *bits)) is not None:
        spend(scale)
    nearest = min(spent, key=lambda scale: abs(math.log(spent[scale] / bits_headline)))
    return Sweep(name, {scale: fitted[scale] for scale in sorted(fitted)}, nearest)


def _gap(bits_of: Mapping[float, float], low: float, high: float) -> float | None:
    """The middle of two neighbouring scales that are too far apart where it matters, between low and high; or None."""
    for left, right in pairwise(sorted(bits_of)):
        if right / left > STEP_MAX and bits_of[right] > low and bits_of[left] < high:
            return math.sqrt(left * right)
    return None
