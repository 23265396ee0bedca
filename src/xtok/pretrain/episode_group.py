"""Recordings of one robot, and where chunks may begin in them.

# E episodes of a source, N frames of an episode, n chunks, D channels
"""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xtok.actions.statistics import Statistics
from xtok.actions.types import HORIZON_MIN
from xtok.data.origins import EpisodeKey, WordsTable
from xtok.pretrain.motion import Motion


@dataclass(frozen=True)
class EpisodeGroup:
    """All episodes of one robot (and channel mask), with its statistics."""

    episode_E: tuple[EpisodeKey, ...]
    task_E: tuple[str, ...]  # the set's name of it, else the instruction
    words_E: WordsTable
    statistics: Statistics
    motion: Motion
    recorded_E: Int[Tensor, " E"]  # frames of each episode
    held_E: Int[Tensor, " E"]  # the same, longer where an episode too short for the longest chunk is held at its end
    mask_D: Tensor
    weight: float = 1.0  # of its frames

    @cached_property
    def first_E(self) -> Int[Tensor, " E"]:
        """First frame of each episode among all, those included that only hold an end."""
        return self.held_E.cumsum(0) - self.held_E

    @cached_property
    def frames(self) -> int:
        return int(self.held_E.sum())

    def among(self, keys: Container[EpisodeKey]) -> Bool[Tensor, " E"]:
        """Which episodes are among `keys`; looked up once for a set that cannot change."""
        if not isinstance(keys, frozenset):
            return torch.tensor([key in keys for key in self.episode_E], dtype=torch.bool)
        return self._once(keys, lambda: self.among(set(keys)))

    def of_task(self, task: str) -> Bool[Tensor, " E"]:
        """Which episodes are of a task."""
        return self._once(task, lambda: torch.tensor([each == task for each in self.task_E], dtype=torch.bool))

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """By name."""
        return tuple(sorted(set(self.task_E)))

    @cached_property
    def _found(self) -> dict[Hashable, Tensor]:
        return {}

    def _once(self, key: Hashable, find: Callable[[], Tensor]) -> Tensor:
        if key not in self._found:
            self._found[key] = find()
        return self._found[key]


@dataclass(frozen=True)
class Starts:
    """Frames that can be anchors: the first count_E of each episode."""

    count_E: Int[Tensor, " E"]

    def __len__(self) -> int:
        return int(self.until_E[-1]) if len(self.count_E) else 0

    @cached_property
    def until_E(self) -> Int[Tensor, " E"]:
        return self.count_E.cumsum(0)

    def episode(self, start_n: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """The episode of some of them, by their numbers from 0."""
        return torch.searchsorted(self.until_E, start_n, right=True)

    def before(self, episode_n: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """How many come before an episode's own."""
        return self.until_E[episode_n] - self.count_E[episode_n]


def starts_of(source: EpisodeGroup, horizon: int, rate: float) -> Starts:
    """Frames that can be the anchor of a chunk played at `rate`; if held at the end, with recorded motion to come."""
    long_enough_E = source.held_E - int(np.ceil(horizon * rate))
    moving_E = torch.where(source.held_E == source.recorded_E, source.held_E, source.recorded_E - HORIZON_MIN)
    return Starts(torch.minimum(long_enough_E, moving_E).clamp_min(0))


@dataclass(frozen=True)
class Places:
    """Where the chunks of a batch are to be cut, and how they are played. source_B: number of the group; chunks of one
    follow each other."""

    horizon: int
    source_B: Int[Tensor, " B"]
    episode_B: Int[Tensor, " B"]
    anchor_B: Int[Tensor, " B"]
    rate_B: Float[Tensor, " B"]
    reversed_B: Bool[Tensor, " B"]

    def __len__(self) -> int:
        return len(self.source_B)

    def __getitem__(self, rows: slice) -> Places:
        parts = (self.source_B, self.episode_B, self.anchor_B, self.rate_B, self.reversed_B)
        return Places(self.horizon, *(part[rows] for part in parts))


def draw_cells(
    sources: Sequence[EpisodeGroup],
    starts: Sequence[Starts],
    count: int,
    generator: torch.Generator,
    one_chunk_each: Container[EpisodeKey],
    cells: int,
) -> list[tuple[int, Starts, int]]:
    """Some pairs of robot (by number of its group) and task that have two episodes of `one_chunk_each`, chances equal,
    with equal parts of `count`."""
    found: list[tuple[int, Starts]] = []
    for number, (source, allowed) in enumerate(zip(sources, starts, strict=True)):
        known_E = source.among(one_chunk_each)
        for task in source.tasks if known_E.any() else ():
            cell = Starts(allowed.count_E * (known_E & source.of_task(task)))
            if (cell.count_E > 0).sum() > 1:
                found.append((number, cell))
    chosen = torch.randperm(len(found), generator=generator)[:cells].tolist()
    share = [count // len(chosen) + (i < count % len(chosen)) for i in range(len(chosen))]
    return [(*found[c], n) for c, n in zip(chosen, share, strict=True) if n]


def draw_starts(
    source: EpisodeGroup, starts: Starts, count: int, generator: torch.Generator, one_chunk_each: Container[EpisodeKey]
) -> Tensor:
    """Any of `starts`, chances equal. If an episode is in `one_chunk_each`: a second chunk of one only after all the
    others."""
    episode_E = starts.count_E.nonzero().flatten()
    if not source.among(one_chunk_each)[episode_E].any():
        return torch.randint(len(starts), (count,), generator=generator)
    first_E, count_E = starts.before(episode_E), starts.count_E[episode_E]
    out: list[Tensor] = []
    while count > 0:
        n = min(count, len(episode_E))
        chosen = torch.multinomial(count_E.double(), n, replacement=False, generator=generator)
        at = (torch.rand(n, generator=generator, dtype=torch.float64) * count_E[chosen]).long()
        out.append(first_E[chosen] + at)
        count -= n
    return torch.cat(out)
