"""Intervals of 95 % for what a few episodes can tell.

# N episodes, R resamples
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

Z95 = 1.959963984540054  # of the normal distribution, two-sided
RESAMPLES = 2000


class EstimateJson(TypedDict):
    """An `Estimate` in a file, to four places."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Estimate:
    """A value and the ends of its 95 % interval; None where there is nothing to estimate it from."""

    value: float | None
    low: float | None
    high: float | None

    def rounded(self) -> EstimateJson:
        return {"value": _rounded(self.value), "low": _rounded(self.low), "high": _rounded(self.high)}


NOTHING = Estimate(None, None, None)


def wilson(successes: int, count: int) -> Estimate:
    """The rate successes / count with Wilson's score interval (J. Am. Stat. Assoc. 22, 1927)."""
    if not 0 <= successes <= count:
        raise ValueError(f"{successes} successes in {count} episodes; expected 0 to {count}")
    if count == 0:
        return NOTHING
    rate = successes / count
    spread = Z95**2 / count
    centre = (rate + spread / 2) / (1 + spread)
    half = Z95 / (1 + spread) * (rate * (1 - rate) / count + spread / (4 * count)) ** 0.5
    low = 0.0 if successes == 0 else centre - half  # exact, where rounding would leave 1e-17
    high = 1.0 if successes == count else centre + half
    return Estimate(rate, low, high)


def bootstrap_mean(values: Sequence[float], seed: int = 0) -> Estimate:
    """The mean with the percentile bootstrap over episodes."""
    if not len(values):
        return NOTHING
    values_N = np.asarray(values, dtype=np.float64)
    return _percentiles(float(values_N.mean()), values_N[_draws(len(values_N), seed)].mean(axis=1))


def paired_ratio(ours: Sequence[bool], theirs: Sequence[bool], seed: int = 0) -> Estimate:
    """Successes of ours over successes of theirs on the same seeds; both of a seed are drawn together.

    Resamples in which theirs never succeeds have no ratio and are left out.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} and {len(theirs)} episodes; paired seeds need as many of each")
    ours_N, theirs_N = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if not theirs_N.sum():
        return NOTHING
    drawn_RN = _draws(len(ours_N), seed)
    above, below = ours_N[drawn_RN].sum(axis=1), theirs_N[drawn_RN].sum(axis=1)
    return _percentiles(float(ours_N.sum() / theirs_N.sum()), above[below > 0] / below[below > 0])


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _draws(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))


def _percentiles(value: float, resampled_R: np.ndarray) -> Estimate:
    low, high = np.percentile(resampled_R, [2.5, 97.5])
    return Estimate(value, float(low), float(high))
