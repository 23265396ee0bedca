"""95 % intervals for means over chunks that are not independent: whole episodes are drawn again.

# N values, G groups (episodes), R resamples
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xtok.evaluate.semantics_result import MeanJson

RESAMPLES = 1000


@dataclass(frozen=True)
class Mean:
    """A mean and the ends of its 95 % interval (percentile bootstrap over groups)."""

    value: float
    low: float
    high: float

    def to_dict(self) -> MeanJson:
        return {"value": self.value, "low": self.low, "high": self.high}


def clustered_mean(values_N: np.ndarray, group_N: np.ndarray, seed: int = 0) -> Mean:
    """The mean of all values, with groups (chunks of one episode) drawn together.

    Raises:
        ValueError: no values, or as many groups as there are not values.
    """
    values_N = np.asarray(values_N, dtype=np.float64)
    if not len(values_N) or len(values_N) != len(group_N):
        raise ValueError(f"{len(values_N)} values in {len(group_N)} groups; expected as many, and one or more")
    _, index_N = np.unique(group_N, return_inverse=True)
    count_G = np.bincount(index_N).astype(np.float64)
    total_G = np.bincount(index_N, weights=values_N)
    drawn_RG = np.random.default_rng(seed).integers(len(count_G), size=(RESAMPLES, len(count_G)))
    means_R = total_G[drawn_RG].sum(axis=1) / count_G[drawn_RG].sum(axis=1)
    low, high = np.percentile(means_R, [2.5, 97.5])
    return Mean(float(values_N.mean()), float(low), float(high))
