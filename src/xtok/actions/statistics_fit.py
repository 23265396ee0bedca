"""Statistics from episodes, in two passes that can be split over parts of the data: ranges, then a histogram over them.

# N frames of an episode, D channels, X any number of values
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from xtok.actions.delta import tangent_mask
from xtok.actions.histogram import QuantileHistogram
from xtok.actions.layout import Kind, Layout
from xtok.actions.rotation import matrix_from_rotation6d, rotation6d_from_matrix
from xtok.actions.statistics import FLOORS, Statistics
from xtok.actions.types import HORIZON_MAX
from xtok.actions.validate import check_actions

QUANTILES = (0.001, 0.999)  # paper, section 3
STILL = 1e-3  # of a channel's floor: what stays within it never moved (float32 recordings of a still joint do)
_KEPT_BYTES = 256 << 20  # deltas of fewer bytes are made once for both passes
_IDENTITY = np.array([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])  # a 6D rotation that turns nothing


def fit_statistics(
    layout: Layout,
    embodiment: str,
    control_hz: float,
    mask_D: Bool[np.ndarray, " D"],
    episodes: Sequence[Float[np.ndarray, "N D"]],
    horizon_max: int = HORIZON_MAX,
) -> Statistics:
    """Statistics of pose[t + k] relative to pose[t - 1], every t, k = 0 .. horizon_max - 1, nothing subsampled.

    `episodes` hold absolute actions in the units of the layout. Short ones give the horizons that they reach.

    Raises:
        ValueError: no motion at all, a wrong width, a value that is not finite, or a degenerate rotation in a valid
            channel; the message names episode, frame and channel.
    """
    mask_D = np.asarray(mask_D, dtype=bool)
    _check_episodes(layout, mask_D, episodes)
    deltas: Iterable[np.ndarray] = _deltas(layout, mask_D, episodes, horizon_max)
    kept = sum(map(len, episodes)) * horizon_max * int(mask_D.sum()) * 8 <= _KEPT_BYTES
    if kept:  # half the time: both passes look at the same deltas
        deltas = list(deltas)
    found = _range(deltas)
    if found is None:
        raise ValueError("no episode has two frames, so there is no motion to take statistics of; check the split")
    histogram = found.histogram()
    for delta in deltas if kept else _deltas(layout, mask_D, episodes, horizon_max):
        histogram.add(delta)
    return statistics_of(layout, embodiment, control_hz, mask_D, histogram, found.count, horizon_max)


@dataclass(frozen=True)
class DeltaRange:
    """The first of two passes. low, high: of all deltas, valid channels only. count: how many there are."""

    low: np.ndarray
    high: np.ndarray
    count: int

    def __or__(self, other: DeltaRange) -> DeltaRange:
        """Of both data together."""
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return DeltaRange(low, high, self.count + other.count)

    def histogram(self) -> QuantileHistogram:
        return QuantileHistogram(self.low, self.high)


def delta_range(
    layout: Layout,
    mask_D: Bool[np.ndarray, " D"],
    episodes: Sequence[Float[np.ndarray, "N D"]],
    horizon_max: int = HORIZON_MAX,
) -> DeltaRange | None:
    """First pass over some episodes: None if they have no motion. Ranges of parts unite with `|`.

    Raises:
        ValueError: as `fit_statistics`.
    """
    _check_episodes(layout, mask_D, episodes)
    return _range(_deltas(layout, mask_D, episodes, horizon_max))


def _range(deltas: Iterable[np.ndarray]) -> DeltaRange | None:
    found = None
    for delta in deltas:
        part = DeltaRange(delta.min(axis=0), delta.max(axis=0), len(delta))
        found = part if found is None else found | part
    return found


def count_deltas(
    histogram: QuantileHistogram,
    layout: Layout,
    mask_D: Bool[np.ndarray, " D"],
    episodes: Sequence[Float[np.ndarray, "N D"]],
    horizon_max: int = HORIZON_MAX,
) -> None:
    """Second pass over some episodes, into a histogram over the range of all. Histograms of parts `merge`."""
    for delta in _deltas(layout, mask_D, episodes, horizon_max):
        histogram.add(delta)


def statistics_of(
    layout: Layout,
    embodiment: str,
    control_hz: float,
    mask_D: Bool[np.ndarray, " D"],
    histogram: QuantileHistogram,
    count: int,
    horizon_max: int = HORIZON_MAX,
) -> Statistics:
    """What both passes have found: `count` deltas in `histogram`."""
    kinds = [kind for kind, valid in zip(layout.channel_kinds, mask_D, strict=True) if valid]
    low_D, high_D = np.full(layout.width, -1.0), np.full(layout.width, 1.0)
    low_D[mask_D], high_D[mask_D] = _floored(kinds, *(histogram.quantile(p) for p in QUANTILES))
    least_D, most_D = np.full(layout.width, -np.inf), np.full(layout.width, np.inf)
    least_D[mask_D], most_D[mask_D] = histogram.low_D, histogram.high_D  # ranges: a quantile may miss a rare motion
    for channels, value in _still(layout, least_D, most_D):
        low_D[channels] = high_D[channels] = value
    return Statistics(
        layout.name, layout.digest, embodiment, float(control_hz), horizon_max, count, mask_D, low_D, high_D
    )


def _still(layout: Layout, least_D: np.ndarray, most_D: np.ndarray) -> Iterator[tuple[slice, Any]]:
    """Channels that never left one value, and that value. A rotation is still as a whole or not at all."""
    for group in layout.groups:
        channels, size = layout.slices[group.name], STILL * FLOORS[group.kind]
        least, most = least_D[channels], most_D[channels]
        if group.kind == "rotation6d":
            if (least >= _IDENTITY - size).all() and (most <= _IDENTITY + size).all():
                yield channels, _IDENTITY
        elif group.delta == "none":
            for i in np.flatnonzero(most - least <= size) + channels.start:
                yield slice(i, i + 1), (least_D[i] + most_D[i]) / 2
        else:  # a difference that is always the same is 0
            for i in np.flatnonzero((least >= -size) & (most <= size)) + channels.start:
                yield slice(i, i + 1), 0.0


def _deltas(
    layout: Layout, mask_D: np.ndarray, episodes: Sequence[np.ndarray], horizon_max: int
) -> Iterator[np.ndarray]:
    """Valid channels of all deltas over k + 1 frames, for each k: [X, valid channels]. As `to_delta` has them, but each
    frame's rotation is built once instead of once a step."""
    if not episodes:
        return
    absolute_ND = torch.from_numpy(np.concatenate(episodes).astype(np.float64))
    left_N = np.concatenate([np.arange(len(episode))[::-1] for episode in episodes])  # that follow in the same episode
    groups = []
    for group in layout.groups:
        channels = layout.slices[group.name]
        valid = torch.from_numpy(mask_D[channels])
        if valid.any():
            value = absolute_ND[:, channels]
            frames = matrix_from_rotation6d(value) if group.delta == "compose" else value[:, valid]
            groups.append((group.delta, frames))
    for step in range(1, min(horizon_max, int(left_N.max(initial=0))) + 1):
        anchor = torch.from_numpy(np.flatnonzero(left_N >= step))
        parts = []
        for delta, frames in groups:
            there = frames[anchor + step]
            if delta == "compose":
                parts.append(rotation6d_from_matrix(frames[anchor].transpose(-1, -2) @ there))
            else:
                parts.append(there - frames[anchor] if delta == "subtract" else there)
        yield torch.cat(parts, dim=-1).numpy()


def _floored(kinds: Sequence[Kind], low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranges widened about their centre to at least the floor of their kind."""
    floor = np.array([FLOORS[kind] for kind in kinds])
    widen = np.maximum(floor - (high - low), 0.0) / 2
    return low - widen, high + widen


def _check_episodes(layout: Layout, mask_D: np.ndarray, episodes: Sequence[np.ndarray]) -> None:
    if mask_D.shape != (layout.width,) or not mask_D.any():
        raise ValueError(f"mask has shape {mask_D.shape}; expected [{layout.width}] with at least one valid channel")
    tangent_mask(layout, torch.from_numpy(mask_D))  # raises where a rotation is valid in part
    for number, episode in enumerate(episodes):
        if episode.ndim != 2 or episode.shape[1] != layout.width:
            raise ValueError(
                f"episode {number} has shape {episode.shape}; layout {layout.name!r} expects [N, {layout.width}]"
            )
        try:
            check_actions(layout, torch.from_numpy(episode), torch.from_numpy(mask_D))
        except ValueError as error:
            raise ValueError(f"episode {number}: {error}") from error
