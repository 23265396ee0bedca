"""FAST at the rates that ours is compared at: a sweep of scales that encloses the bits and tokens of our prefixes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from xtok.actions.types import Actions, ActionTokenizer, ChunkBatch, Codes, Context
from xtok.baselines.fast import FastTokenizer, cosines
from xtok.evaluate.rate import bits_mean, tokens_mean

SCALE_START = 2.0  # coarse scales are fitted fastest
TRIES = 6  # to enclose the prices, on either side
STEP_MAX = 1.8  # neighbouring scales are at most this factor apart, so that interpolation stays honest
EXPONENT = 0.5  # prices grow about as the root of the scale: a guess for the next scale to try


@dataclass(frozen=True)
class Price:
    """Mean bits and tokens a chunk."""

    bits: float
    tokens: float

    @staticmethod
    def of(codes: Codes) -> Price:
        return Price(bits_mean(codes), tokens_mean(codes))

    def times(self, factor: float) -> Price:
        return Price(self.bits * factor, self.tokens * factor)

    def falls_short(self, wanted: Price) -> float:
        """By how much this must grow so that neither is under `wanted`; 1 or less where it need not."""
        return max(wanted.bits / self.bits, wanted.tokens / self.tokens)

    def exceeds(self, wanted: Price) -> float:
        """By how much this must shrink so that neither is over `wanted`; 1 or less where it need not."""
        return max(self.bits / wanted.bits, self.tokens / wanted.tokens)


@dataclass
class Sweep:
    """FAST at rising scales; encodes and decodes as the one at `headline_scale`.

    ends: why the sweep goes no lower and no higher, where it could not.
    """

    name: str
    by_scale: dict[float, FastTokenizer]
    headline_scale: float
    ends: tuple[str | None, str | None] = (None, None)

    def __post_init__(self) -> None:
        self._headline = self.by_scale[self.headline_scale]
        self.vocab_size = self._headline.vocab_size

    @property
    def own_rate(self) -> int:
        return list(self.by_scale).index(self.headline_scale)

    @property
    def form(self) -> str:
        return self._headline.form

    def encode(self, chunks: ChunkBatch) -> Codes:
        return self._headline.encode(chunks)

    def encode_rates(self, chunks: ChunkBatch) -> list[Codes]:
        """Codes at every scale: the cosine transform is the same for all."""
        given = cosines(self._headline.statistics, [chunks], self._headline.form)
        return [tokenizer.encode_cosines(given) for tokenizer in self.by_scale.values()]

    def decode(self, codes: Codes, context: Context) -> Actions:
        return self._headline.decode(codes, context)

    def rate_points(self) -> list[ActionTokenizer]:
        return list(self.by_scale.values())


def enclose(spend: Callable[[float], Price], low: Price, high: Price, scale_max: float = math.inf) -> None:
    """Ask `spend` (which remembers) for scales until their prices enclose `low` and `high`, no two far apart.

    Gives up after a few tries where a set is too simple to spend so much, or cannot spend so little.
    """
    spent: dict[float, Price] = {}

    def asked(scale: float) -> Price:
        if scale not in spent:
            spent[scale] = spend(scale)
        return spent[scale]

    start = min(SCALE_START, scale_max)
    scale, before, now = start, None, asked(start)
    for _ in range(TRIES):
        if now.exceeds(low) <= 1 or (before is not None and math.isclose(before.bits, now.bits, rel_tol=0.01)):
            break
        scale *= max(min(now.exceeds(low) ** (-1 / EXPONENT) / 1.2, 1 / 1.5), 1 / 8.0)
        before, now = now, asked(scale)
    scale, before, now = start, None, asked(start)
    for _ in range(TRIES):
        if now.falls_short(high) <= 1 or scale >= scale_max:
            break
        if before is not None and math.isclose(before.bits, now.bits, rel_tol=0.01):
            break
        scale = min(scale * min(max(1.2 * now.falls_short(high) ** (1 / EXPONENT), 1.5), 8.0), scale_max)
        before, now = now, asked(scale)
    while (middle := _gap(spent, low, high)) is not None:
        asked(middle)


def grid(spent: Mapping[float, Price], low: Price, high: Price, scale_max: float = math.inf) -> list[float]:
    """Scales, at most STEP_MAX apart, from the one that spends about `low` to the one that spends about `high`."""
    scales = sorted(spent)
    first = max((s for s in scales if spent[s].exceeds(low) <= 1), default=scales[0])
    last = min((s for s in scales if spent[s].falls_short(high) <= 1), default=scales[-1])
    first, last = min(first, last), min(max(first, last), scale_max)
    after = [s for s in scales if s > first]
    if after and spent[first].exceeds(low) < 1:  # no lower than need be
        first = _between(first, after[0], -math.log(spent[first].exceeds(low)), -math.log(spent[after[0]].exceeds(low)))
    before = [s for s in scales if s < last]
    if before and last in spent and spent[last].falls_short(high) < 1:  # else it is the finest that there may be
        falls = [math.log(spent[s].falls_short(high)) for s in (before[-1], last)]
        last = min(_between(before[-1], last, *falls), scale_max)
    if last <= first:
        return [first]
    steps = max(1, math.ceil(math.log(last / first) / math.log(STEP_MAX) - 1e-9))
    return [float(scale) for scale in np.geomspace(first, last, steps + 1)]


def _between(left: float, right: float, at_left: float, at_right: float) -> float:
    """The scale between two at which a figure is 0, by its logarithm; the nearer one where it has one sign."""
    if at_left == at_right or at_left * at_right > 0:
        return left if abs(at_left) <= abs(at_right) else right
    share = at_left / (at_left - at_right)
    return math.exp(math.log(left) + share * (math.log(right) - math.log(left)))


def _gap(spent: Mapping[float, Price], low: Price, high: Price) -> float | None:
    """The middle of two neighbouring scales that are too far apart where it matters, between low and high; or None."""
    for left, right in pairwise(sorted(spent)):
        if right / left > STEP_MAX and spent[right].exceeds(low) > 1 and spent[left].falls_short(high) > 1:
            return math.sqrt(left * right)
    return None
