"""Quantiles of more values than fit in memory, by counting: two passes, mergeable, exact to one bin.

# D channels, X any number of values
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

BINS = 65_536


class QuantileHistogram:
    """Counts of D channels in 65,536 equal bins each; a quantile is off by at most one bin, 1.5e-5 of the range.

    Two passes: the ranges first (`low_D`, `high_D` over all data), then `add` any number of times. Histograms over the
    same ranges, filled on several machines, `merge` into what one pass gives.
    """

    def __init__(self, low_D: np.ndarray, high_D: np.ndarray) -> None:
        self.low_D = np.asarray(low_D, dtype=np.float64)
        self.high_D = np.asarray(high_D, dtype=np.float64)
        if self.low_D.shape != self.high_D.shape or not (self.low_D <= self.high_D).all():
            raise ValueError("a histogram needs low <= high in each channel, of one shape [D]")
        self.counts = np.zeros((len(self.low_D), BINS), dtype=np.int64)

    def add(self, values_XD: Float[np.ndarray, "X D"]) -> None:
        """Count some values.

        Raises:
            ValueError: a value outside the ranges, or one that is not finite.
        """
        if not ((values_XD >= self.low_D) & (values_XD <= self.high_D)).all():
            raise ValueError("values outside the ranges of the histogram; take the ranges over all data first")
        width_D = self.high_D - self.low_D
        scale_D = np.divide(BINS, width_D, out=np.zeros_like(width_D), where=width_D > 0)
        bins_DX = np.ascontiguousarray(((values_XD - self.low_D) * scale_D).T).astype(np.int64)
        np.minimum(bins_DX, BINS - 1, out=bins_DX)
        for counts, bins in zip(self.counts, bins_DX, strict=True):
            counts += np.bincount(bins, minlength=BINS)

    def merge(self, other: QuantileHistogram) -> QuantileHistogram:
        """The histogram of both data together.

        Raises:
            ValueError: the ranges differ.
        """
        if not (np.array_equal(self.low_D, other.low_D) and np.array_equal(self.high_D, other.high_D)):
            raise ValueError("histograms over different ranges do not merge; agree on the ranges in the first pass")
        merged = QuantileHistogram(self.low_D, self.high_D)
        merged.counts = self.counts + other.counts
        return merged

    def quantile(self, p: float) -> Float[np.ndarray, " D"]:
        """The value under which a share `p` of each channel lies, linear inside a bin.

        Raises:
            ValueError: `p` outside [0, 1], or nothing was counted yet.
        """
        if not 0 <= p <= 1 or not self.counts.sum():
            raise ValueError(f"quantile {p} of {self.counts.sum()} values; expected p in [0, 1] and some values")
        position_D = np.array([_position(counts, p) for counts in self.counts])
        return self.low_D + (self.high_D - self.low_D) * position_D / BINS


def _position(counts: np.ndarray, p: float) -> float:
    """Where the quantile lies, in bins from the low end."""
    until = np.cumsum(counts)
    rank = p * until[-1]
    index = int(np.searchsorted(until, rank))
    return index + (rank - (until[index] - counts[index])) / max(counts[index], 1)
