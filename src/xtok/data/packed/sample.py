"""Chunks drawn from a packed corpus of any size: memory grows neither with its frames nor with its episodes.

A frame is drawn uniformly from all frames of a unit, its episode found in the memory-mapped ends of all episodes, and
drawn anew where it is no anchor of a whole chunk of the split: so each anchor is as likely as any other.

# B chunks, T frames, D channels
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import torch

from xtok.actions.layout import Layout
from xtok.actions.types import HORIZON_MAX, HORIZON_MIN, ChunkBatch, Context
from xtok.data.episode import ActionSource
from xtok.data.origins import EpisodeKey, Origins, Words, words_of
from xtok.data.packed.episodes import PackedUnit
from xtok.data.packed.format import ENDS, HELD_OUT, INDEX, PACK_AGAIN, TASK_HELD_OUT
from xtok.data.packed.sources import open_sources
from xtok.data.sampler import ChunkSampler, Drawn, generators
from xtok.data.splits import Split

_ROUNDS_MAX = 1000  # of drawing anew; all but certain to end in the first few unless the index lies


@dataclass(frozen=True)
class PackedDrawn(Drawn):
    """unit_B: position in `PackedCorpus.units`; episode_B: position in it; anchor_B: frame of the anchor in the
    episode."""

    unit_B: np.ndarray
    episode_B: np.ndarray
    anchor_B: np.ndarray


class PackedCorpus(ChunkSampler):
    """Random chunks of all sources in one layout, every anchor equally likely.

    Robots that are held out by their own marks are in no train split; nor are held-out tasks and every fifth episode.
    """

    def __init__(self, units: Sequence[PackedUnit], name: str) -> None:
        self.units, self.name = list(units), name

    @classmethod
    def open(
        cls, path: str | Path, layout: str = "arms26", action_sources: Sequence[ActionSource] = ("achieved",)
    ) -> PackedCorpus:
        """A corpus, or the folder of one of its sources.

        Raises:
            ValueError: as `open_sources`, or nothing in it was packed in that layout.
        """
        units = []
        for source in open_sources(path):
            asked = [source.about.unit(layout, each) for each in action_sources]
            # a set that has one kind of motion gives it once, whatever is asked
            for unit in dict.fromkeys(unit.folder for unit in asked if unit is not None):
                about = next(each for each in source.about.units if each.folder == unit)
                units.append(PackedUnit(source.root, source.about, about, source.statistics))
        if not units:
            raise ValueError(f"{path} holds nothing in layout {layout!r} as {' or '.join(action_sources)}")
        return cls(units, str(path))

    @property
    def layout(self) -> Layout:
        return self.units[0].layout

    @property
    def frames(self) -> int:
        return sum(unit.about.frames for unit in self.units)

    @property
    def episodes(self) -> int:
        return sum(unit.about.episodes for unit in self.units)

    @property
    def index_bytes(self) -> int:
        """Of the memory-mapped index on disk."""
        return sum((unit.folder / name).stat().st_size for unit in self.units for name in (ENDS, INDEX))

    def starts(self, horizon: int, split: Split = "train") -> int:
        """How many frames can be anchors of chunks of that length."""
        return int(sum(_starts(unit, horizon, split) for unit in self.units))

    def draw(self, horizon: int, batch_size: int, generator: torch.Generator, split: Split = "train") -> PackedDrawn:
        """Random chunks, anchor and target at the recorded rate.

        Raises:
            ValueError: no episode of the split is long enough, or a shard is damaged.
        """
        if not HORIZON_MIN <= horizon <= HORIZON_MAX:
            raise ValueError(f"horizon is {horizon} frames; expected {HORIZON_MIN} to {HORIZON_MAX}")
        weight = torch.tensor([_starts(unit, horizon, split) for unit in self.units], dtype=torch.float64)
        if weight.sum() == 0:
            raise ValueError(f"no {split} episode of {self.name} is longer than {horizon} frames; choose a shorter one")
        unit_B = torch.multinomial(weight, batch_size, replacement=True, generator=generator).numpy()
        path_BTD = np.zeros((batch_size, horizon + 1, self.layout.width), dtype=np.float32)
        mask_BD = np.zeros((batch_size, self.layout.width), dtype=bool)
        hz_B = np.zeros(batch_size, dtype=np.float32)
        episode_B, anchor_B = np.zeros(batch_size, dtype=np.int64), np.zeros(batch_size, dtype=np.int64)
        last_B = np.zeros(batch_size, dtype=np.int64)
        names = [""] * batch_size
        for number in np.unique(unit_B):
            unit = self.units[number]
            rows = np.flatnonzero(unit_B == number)
            episode_B[rows], anchor_B[rows] = _draw(unit, horizon, len(rows), generator, split)
            shard_n, row_n, frames_n = unit.places(episode_B[rows])
            if ((anchor_B[rows] < 0) | (anchor_B[rows] >= frames_n - horizon)).any():
                raise ValueError(_contradicts(unit))
            for b, shard, first in zip(rows.tolist(), shard_n.tolist(), (row_n + anchor_B[rows]).tolist(), strict=True):
                path_BTD[b][:, unit.columns(shard)] = unit.absolute(shard)[first : first + horizon + 1]
            kind_n = unit.kinds(episode_B[rows])
            mask_BD[rows], last_B[rows] = unit.masks(kind_n), frames_n - 1
            hz_B[rows] = np.array([kind.control_hz for kind in unit.about.kinds])[kind_n]
            for b, kind in zip(rows.tolist(), kind_n.tolist(), strict=True):
                names[b] = unit.about.kinds[kind].embodiment
        path = torch.from_numpy(path_BTD)
        context = Context(
            layout=self.layout,
            anchor_BD=path[:, 0].clone(),
            mask_BD=torch.from_numpy(mask_BD),
            control_hz_B=torch.from_numpy(hz_B),
            embodiment=tuple(names),
            horizon=horizon,
        )
        origins = Origins(
            tuple(self._keys(unit_B, episode_B)),
            torch.from_numpy(anchor_B),
            torch.ones(batch_size),
            torch.from_numpy(last_B),
            torch.zeros(batch_size, dtype=torch.bool),
            _WordsOf(self.units, unit_B, episode_B),
        )
        return PackedDrawn(ChunkBatch(path[:, 1:].contiguous(), context), origins, unit_B, episode_B, anchor_B)

    def _keys(self, unit_B: np.ndarray, episode_B: np.ndarray) -> Iterator[EpisodeKey]:
        index_B = np.zeros(len(unit_B), dtype=np.int64)
        for number in np.unique(unit_B):
            rows = unit_B == number
            index_B[rows] = self.units[number].table_E["index"][episode_B[rows]]
        for number, index in zip(unit_B.tolist(), index_B.tolist(), strict=True):
            yield self.units[number].source.name, index

    def batches(
        self, horizon: int, batch_size: int, seed: int = 0, first: int = 0, step: int = 1, split: Split = "train"
    ) -> Iterator[PackedDrawn]:
        """As `ChunkSampler.batches`, of any split."""
        return (self.draw(horizon, batch_size, generator, split) for generator in generators(seed, first, step))


class _WordsOf(Sequence[Words]):
    """The sub-tasks of some episodes, read when they are asked for: a run without a teacher never asks."""

    def __init__(self, units: Sequence[PackedUnit], unit_B: np.ndarray, episode_B: np.ndarray) -> None:
        self._units, self._unit_B, self._episode_B = units, unit_B, episode_B

    def __len__(self) -> int:
        return len(self._unit_B)

    @overload
    def __getitem__(self, b: int) -> Words: ...

    @overload
    def __getitem__(self, b: slice) -> Sequence[Words]: ...

    def __getitem__(self, b: int | slice) -> Words | Sequence[Words]:
        if isinstance(b, slice):
            return _WordsOf(self._units, self._unit_B[b], self._episode_B[b])
        return words_of(self._units[self._unit_B[b]].episode(int(self._episode_B[b])))


def _starts(unit: PackedUnit, horizon: int, split: Split) -> int:
    if split == "train" and unit.source.held_out_robot:
        return 0
    return unit.about.starts[split][horizon - HORIZON_MIN]


def _draw(
    unit: PackedUnit, horizon: int, count: int, generator: torch.Generator, split: Split
) -> tuple[np.ndarray, np.ndarray]:
    """Episodes and anchors, uniform over all that can be."""
    frames, good = unit.about.frames, _starts(unit, horizon, split)
    episodes: list[np.ndarray] = []
    anchors: list[np.ndarray] = []
    missing = count
    for _ in range(_ROUNDS_MAX):
        tries = min(1 << 20, int(1.2 * missing * frames / good) + 8)
        at = torch.randint(frames, (tries,), generator=generator).numpy()
        episode = np.searchsorted(unit.ends_E, at, side="right")
        end = unit.ends_E[episode]
        first = np.where(episode > 0, unit.ends_E[np.maximum(episode - 1, 0)], 0)
        kept = (at + horizon < end) & belongs(unit.table_E["flags"][episode], split)
        episodes.append(episode[kept][:missing])
        anchors.append((at - first)[kept][:missing])
        missing -= len(episodes[-1])
        if not missing:
            return np.concatenate(episodes), np.concatenate(anchors)
    raise ValueError(_contradicts(unit))


def _contradicts(unit: PackedUnit) -> str:
    return f"{unit.folder}: index and source.json contradict each other; {PACK_AGAIN}"


def belongs(flags: np.ndarray, split: Split) -> np.ndarray:
    """Which episodes are of a split, by their flags."""
    if split == "all":
        return np.ones(len(flags), dtype=bool)
    if split == "heldout":
        return (flags & HELD_OUT) > 0
    return (flags & (HELD_OUT | TASK_HELD_OUT)) == 0
