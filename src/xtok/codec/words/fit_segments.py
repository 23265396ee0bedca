"""Segment coders from samples: least squares, activity bins, principal directions, k-means.

# n rows, F features, X values of a segment, H histories, G groups of books, A activity bins, C dimensions of a code
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from xtok.actions.types import FRAMES_PER_SLOT
from xtok.codec.gaussian.basis import fixed_sign
from xtok.codec.words.grammar import LENGTHS, LEVELS, Grammar
from xtok.codec.words.kmeans import kmeans, nearest
from xtok.codec.words.model import TAILS
from xtok.codec.words.segment import BINS, HISTORIES, Level, SegmentCoder, activity, group_of, history_of

GROUPS = (0, 1)
ENOUGH = 8_000  # rows of a length and history; with fewer, rows of the open loop are put beside them
PRIOR_ROWS = 8  # what a bin's size leans on the mean of all with
_SIZE_MIN = 1e-4


class SegmentSettings(Protocol):
    """What fitting has to know, as `FitSettings` has it."""

    @property
    def dim(self) -> int: ...
    @property
    def ridge(self) -> float: ...
    @property
    def sample(self) -> int: ...
    @property
    def iterations(self) -> tuple[int, int]: ...


@dataclass
class Samples:
    """Features [n, F] and wanted segments [n, X], by length and history."""

    parts: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = field(default_factory=dict)

    def add(self, length: int, slot: int, features_nF: Tensor, wanted_nX: Tensor) -> None:
        if len(features_nF):
            rows = (features_nF.float(), wanted_nX.float())
            self.parts.setdefault((length, history_of(slot)), []).append(rows)

    def fill(self, other: Samples) -> None:
        """Rows of another source beside those of which there are too few."""
        for key, rows in other.parts.items():
            if sum(len(features_nF) for features_nF, _ in self.parts.get(key, [])) < ENOUGH:
                self.parts.setdefault(key, []).extend(rows)

    def of(self, length: int, history: int) -> tuple[Tensor, Tensor]:
        """All rows; none where there are none."""
        found = self.parts.get((length, history), [])
        return torch.cat([f for f, _ in found]), torch.cat([w for _, w in found])


@dataclass(frozen=True)
class _Fitted:
    """One length and history. left_nX: what the prediction leaves, over its size."""

    weight_FX: Tensor
    edge_A: Tensor
    size_A: Tensor
    left_nX: Tensor
    size_n: Tensor


def fit_coders(
    samples: Samples, grammar: Grammar, settings: SegmentSettings, generator: torch.Generator
) -> dict[int, SegmentCoder]:
    """Coders of 1 to 4 slots; 3 has no books."""
    return {length: _fit_coder(length, samples, grammar, settings, generator) for length in TAILS}


def _fit_coder(
    length: int, samples: Samples, grammar: Grammar, settings: SegmentSettings, generator: torch.Generator
) -> SegmentCoder:
    forms = closed_forms(length, samples, settings)
    books, directions = [], []
    if length in LENGTHS:
        for group in GROUPS:
            x_nC, direction_XC = forms.left_open(group, settings, generator)
            sizes = [grammar.size_of[length, level] for level in range(1, LEVELS + 1)]
            books.append(place_levels(x_nC, sizes, settings.iterations, generator))
            directions.append(direction_XC)
    return forms.coder(directions, books)


@dataclass(frozen=True)
class ClosedForms:
    """What one length is predicted from, by history; those that were never met have their neighbour's."""

    length: int
    seen: dict[int, _Fitted]

    def left_open(
        self, group: int, settings: SegmentSettings, generator: torch.Generator
    ) -> tuple[Float[Tensor, "n C"], Float[Tensor, "x C"]]:
        """Segments that books of a group are placed on, large ones more often, along their main directions; and
        these."""
        # Chunks of one block never begin 4 slots behind the first: the same books again.
        members = [each for history, each in self.seen.items() if group_of(history) == group] or list(
            self.seen.values()
        )
        size_n = torch.cat([each.size_n for each in members])
        picked = torch.multinomial(size_n, min(settings.sample, len(size_n)), generator=generator)
        x_nX = torch.cat([each.left_nX for each in members])[picked]
        direction_XC = _directions(x_nX, settings.dim)
        return x_nX @ direction_XC, direction_XC

    def coder(self, directions: Sequence[Tensor], books: Sequence[tuple[Level, ...]]) -> SegmentCoder:
        """With the directions and books of each group; neither for a length that has none."""
        # 4 slots never begin at slot 1: what is never met takes the place of its neighbour.
        fitted = [self.seen[h] if h in self.seen else self.seen[max(self.seen)] for h in range(HISTORIES)]
        X = fitted[0].weight_FX.shape[1]
        return SegmentCoder(
            self.length,
            torch.stack([each.weight_FX for each in fitted]),
            torch.stack([each.edge_A for each in fitted]),
            torch.stack([each.size_A for each in fitted]),
            torch.stack(list(directions)) if directions else torch.zeros(2, X, 0),
            tuple(books),
        )


def closed_forms(length: int, samples: Samples, settings: SegmentSettings) -> ClosedForms:
    """Predictors and sizes of one length."""
    seen = {
        h: _fit_history(*samples.of(length, h), length, settings.ridge)
        for h in range(HISTORIES)
        if (length, h) in samples.parts
    }
    return ClosedForms(length, seen)


def _fit_history(features_nF: Tensor, wanted_nX: Tensor, length: int, ridge: float) -> _Fitted:
    n, F = features_nF.shape
    channels = wanted_nX.shape[1] // (length * FRAMES_PER_SLOT)
    gram_FF, cross_FX = torch.zeros(F, F, dtype=torch.float64), torch.zeros(F, wanted_nX.shape[1], dtype=torch.float64)
    for f, w in zip(features_nF.split(8192), wanted_nX.split(8192), strict=True):
        gram_FF += f.double().T @ f.double()
        cross_FX += f.double().T @ w.double()
    weight_FX = torch.linalg.solve(gram_FF + ridge * n * torch.eye(F, dtype=torch.float64), cross_FX).float()
    predicted_nX = features_nF @ weight_FX
    left_nX = wanted_nX - predicted_nX
    active_n = activity(predicted_nX, features_nF, channels)
    edge_A = torch.quantile(active_n[:: max(1, n // 50_000)], torch.linspace(0, 1, BINS + 1)[1:-1])
    bin_n = torch.bucketize(active_n, edge_A)
    energy_n = left_nX.square().sum(dim=1)
    total_A = torch.zeros(BINS).index_add_(0, bin_n, energy_n) + PRIOR_ROWS * energy_n.mean()
    size_A = (total_A / (torch.bincount(bin_n, minlength=BINS) + PRIOR_ROWS)).sqrt().clamp_min(_SIZE_MIN)
    size_n = size_A[bin_n]
    return _Fitted(weight_FX, edge_A, size_A, left_nX / size_n[:, None], size_n)


def _directions(x_nX: Tensor, dim: int) -> Float[Tensor, "x C"]:
    """Main directions of what is left, by falling variance."""
    second_XX = (x_nX.T @ x_nX).double()
    _, vectors = torch.linalg.eigh(second_XX)
    return fixed_sign(vectors.flip(-1)[:, :dim]).float()


def place_levels(
    x_nC: Tensor, sizes: list[int], iterations: tuple[int, int], generator: torch.Generator
) -> tuple[Level, ...]:
    """Level after level, on what the ones before leave, in units of how large that usually is behind each code."""
    levels = []
    for number, size in enumerate(sizes):
        code_VC = kmeans(x_nC, size, iterations[min(number, 1)], generator)
        index_n, left_nC = left_open(x_nC, code_VC)
        energy_n = left_nC.square().mean(dim=1)
        total_V = torch.zeros(size).index_add_(0, index_n, energy_n) + PRIOR_ROWS * energy_n.mean()
        spread_V = (total_V / (torch.bincount(index_n, minlength=size) + PRIOR_ROWS)).sqrt().clamp_min(_SIZE_MIN)
        levels.append(Level(code_VC, spread_V))
        x_nC = left_nC / spread_V[index_n][:, None]
    return tuple(levels)


def left_open(x_nC: Tensor, code_VC: Tensor) -> tuple[Tensor, Tensor]:
    """The code of each vector that a book was placed on, and what it leaves of vectors that it was not placed on.

    A code is the mean of its own vectors, which lie nearer to it than others will. Without one of them, the mean of the
    n - 1 that remain is n / (n - 1) times as far from it; a code of a single vector is gone, and the next one serves.
    """
    index_n = nearest(x_nC, code_VC)
    count_n = torch.bincount(index_n, minlength=len(code_VC))[index_n]
    alone = (count_n == 1).nonzero()[:, 0]
    if len(alone):
        distance_mV = torch.cdist(x_nC[alone], code_VC)
        distance_mV[torch.arange(len(alone)), index_n[alone]] = torch.inf
        index_n[alone] = distance_mV.argmin(dim=1)
    factor_n = torch.where(count_n > 1, count_n / (count_n - 1).clamp_min(1), 1.0)
    return index_n, (x_nC - code_VC[index_n]) * factor_n[:, None]
