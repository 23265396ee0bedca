"""episodes.json of a shard: what it holds, and all of its episodes but their frames and time stamps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict, cast

from xtok.data.episode import ActionSource
from xtok.data.packed.format import EPISODES, read_json


class _EpisodeEntry(TypedDict):
    index: int
    frames: int
    kind: int  # row of ShardDescription.kinds
    flags: int
    digest: int
    instruction: str
    task: str
    subtasks: list[tuple[int, int, str]]  # first frame, the frame after the last, words


class EpisodeEntry(_EpisodeEntry, total=False):
    """An episode. digest: of its stored values."""

    wordings: list[str]


class RangeEntry(TypedDict):
    """DeltaRange of the train episodes of one kind."""

    kind: int
    low: list[float]
    high: list[float]
    count: int


class ShardDescription(TypedDict):
    """columns: stored channels. timestamps: their dtype. kinds: what `Kind.of` takes. files: name -> SHA-256."""

    action_source: ActionSource
    columns: list[int]
    timestamps: str
    kinds: list[Mapping[str, object]]
    episodes: list[EpisodeEntry]
    ranges: list[RangeEntry]
    files: dict[str, str]


def read_shard(folder: Path) -> ShardDescription:
    """The description of a shard. Fields are as the file has them: its digest tells whether xtok wrote it.

    Raises:
        ValueError: no JSON of a sane size.
    """
    return cast(ShardDescription, read_json(folder / EPISODES))
