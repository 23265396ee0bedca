"""A packed corpus as episodes: their words are read when asked for, their frames from where they lie.

# E episodes, N frames of an episode, n frames of it, K stored channels, D channels
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from xtok.actions.embodiments import Embodiment
from xtok.actions.layout import Layout, get_layout
from xtok.actions.statistics import Statistics
from xtok.data.episode import Episode, Segment, robot_called
from xtok.data.packed.format import (
    ABSOLUTE,
    ENDS,
    EPISODES,
    INDEX,
    MANIFEST,
    PACK_AGAIN,
    TABLE,
    TIMESTAMPS,
    PackedSource,
    StoredStatistics,
    Unit,
    episode_digest,
    file_digest,
    map_array,
    statistics_key,
)
from xtok.data.packed.shard import EpisodeEntry, ShardDescription, read_shard
from xtok.data.source import typed_errors

_WORDS_KEPT = 8  # shards whose words are kept parsed
_MAPS_KEPT = 4096  # arrays that stay mapped; Linux allows some 65,000
_T = TypeVar("_T")


class PackedUnit:
    """One data set in one layout, achieved or commanded, in memory-mapped shards.

    Raises:
        ValueError: index files that are missing, cut short or not of the shape that source.json says; of a shard,
            when it is first looked at.
    """

    def __init__(
        self,
        root: Path,
        source: PackedSource,
        unit: Unit,
        statistics: Mapping[str, StoredStatistics] | None = None,
        robots: Mapping[str, Embodiment] | None = None,
    ) -> None:
        self._root, self.folder, self.source, self.about = root, root / unit.folder, source, unit
        self.layout: Layout = get_layout(unit.layout)
        self.statistics = statistics or {}
        self.robots = robots or {kind.embodiment: robot_called(kind.embodiment) for kind in unit.kinds}
        self.ends_E = map_array(self.folder / ENDS, "<i8", (unit.episodes,))
        self.table_E = map_array(self.folder / INDEX, TABLE, (unit.episodes,))
        self._shard_frames = np.array(unit.shard_frames, dtype=np.int64)
        self._shard_row = np.concatenate([[0], np.cumsum(self._shard_frames)])  # of its first frame among all
        self._columns = [np.array(each) for each in unit.columns]
        self._masks = [kind.mask(self.layout) for kind in unit.kinds]
        self._maps: OrderedDict[tuple[int, str], np.ndarray] = OrderedDict()
        self._words: OrderedDict[int, ShardDescription] = OrderedDict()

    def __reduce__(self) -> Any:  # files are mapped anew where it is unpickled
        return PackedUnit, (self._root, self.source, self.about, self.statistics, self.robots)

    def __len__(self) -> int:
        return self.about.episodes

    def place(self, position: int) -> tuple[int, int, int]:
        """Shard, first row in it and number of frames of an episode.

        Raises:
            ValueError: an index that points outside the shard.
        """
        shard_1, row_1, frames_1 = self.places(np.array([position]))
        return int(shard_1[0]), int(row_1[0]), int(frames_1[0])

    def places(self, position_n: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`place` of several, [n] each."""
        shard_n = position_n // self.about.per_shard
        start_n = np.where(position_n > 0, self.ends_E[position_n - 1], 0)
        row_n, frames_n = start_n - self._shard_row[shard_n], self.ends_E[position_n] - start_n
        outside_n = (row_n < 0) | (frames_n < 1) | (row_n + frames_n > self._shard_frames[shard_n])
        if outside_n.any():
            first = position_n[outside_n][0]
            raise ValueError(f"{self.folder / ENDS}: episode {first} lies outside its shard; {PACK_AGAIN}")
        return shard_n, row_n, frames_n

    def columns(self, shard: int) -> np.ndarray:
        """The channels that a shard stores, in order: [K]."""
        return self._columns[self.about.shard_columns[shard]]

    def absolute(self, shard: int) -> np.ndarray:
        """float32 [N, K] of a shard, mapped."""
        shape = (self.about.shard_frames[shard], len(self.columns(shard)))
        return _kept(self._maps, (shard, ABSOLUTE), _MAPS_KEPT, lambda: self._map(shard, ABSOLUTE, "<f4", shape))

    def mask(self, position: int) -> np.ndarray:
        return self._masks[int(self.kinds(np.array([position]))[0])]

    def masks(self, kind_n: np.ndarray) -> np.ndarray:
        """bool [n, D] of `kinds`."""
        return np.stack(self._masks)[kind_n]

    def kinds(self, position_n: np.ndarray) -> np.ndarray:
        """Number of each episode's robot and mask in `about.kinds`.

        Raises:
            ValueError: an index that names others.
        """
        kind_n = self.table_E["kind"][position_n]
        if (unknown_n := kind_n >= len(self._masks)).any():
            raise ValueError(
                f"{self.folder / INDEX}: episode {position_n[unknown_n][0]} is of kind {kind_n[unknown_n][0]}, there "
                f"are fewer; {PACK_AGAIN}"
            )
        return kind_n

    def read(self, position: int) -> np.ndarray:
        """float32 [N, D] of an episode.

        Raises:
            ValueError: the values are not those that were packed.
        """
        shard, row, frames = self.place(position)
        stored_NK = self.absolute(shard)[row : row + frames]
        if episode_digest(stored_NK) != int(self.table_E["digest"][position]):
            file = self.folder / f"{shard:05d}" / ABSOLUTE
            raise ValueError(f"{file}: episode {position} is not as it was packed (another digest); {PACK_AGAIN}")
        return self._spread(stored_NK, shard)

    def rows(self, position: int, frame_n: np.ndarray) -> np.ndarray:
        """float32 [n, D]: some frames of an episode, unchecked."""
        shard, row, _ = self.place(position)
        return self._spread(self.absolute(shard)[row + frame_n], shard)

    def gather(self, position_n: np.ndarray, frame_nT: np.ndarray, out_BTD: np.ndarray, row_n: np.ndarray) -> None:
        """Frames of several episodes, unchecked, into rows of `out_BTD`, which is 0 elsewhere: see `rows`."""
        shard_n, start_n, _ = self.places(position_n)
        at_nT = start_n[:, None] + frame_nT
        for shard, at_T, row in zip(shard_n.tolist(), at_nT, row_n.tolist(), strict=True):
            out_BTD[row][:, self.columns(shard)] = self.absolute(shard)[at_T]

    def timestamps_s(self, position: int) -> np.ndarray:
        """float64 [N]."""
        shard, row, frames = self.place(position)
        dtype = self._words_of(shard)["timestamps"]
        shape = (self.about.shard_frames[shard],)
        times = _kept(self._maps, (shard, TIMESTAMPS), _MAPS_KEPT, lambda: self._map(shard, TIMESTAMPS, dtype, shape))
        return times[row : row + frames].astype(np.float64)

    def words(self, position: int) -> EpisodeEntry:
        """What episodes.json says of an episode."""
        return self._words_of(position // self.about.per_shard)["episodes"][position % self.about.per_shard]

    def episode(self, position: int) -> Episode:
        with typed_errors(f"{self.folder}, episode {position}"):
            return PackedEpisode.of(self, position)

    def check(self) -> None:
        """Read everything once.

        Raises:
            ValueError: the first file that is not as it was packed.
        """
        for name, digest in self.about.digests.items():
            _check_file(self.folder / name, digest)
        for shard, digest in enumerate(self.about.shard_digests):
            folder = self.folder / f"{shard:05d}"
            _check_file(folder / EPISODES, digest)
            for name, inner in read_shard(folder)["files"].items():
                _check_file(folder / name, inner)

    def _words_of(self, shard: int) -> ShardDescription:
        def read() -> ShardDescription:
            folder = self.folder / f"{shard:05d}"
            _check_file(folder / EPISODES, self.about.shard_digests[shard])
            return read_shard(folder)

        return _kept(self._words, shard, _WORDS_KEPT, read)

    def _map(self, shard: int, name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        return map_array(self.folder / f"{shard:05d}" / name, dtype, shape)

    def _spread(self, stored_nK: np.ndarray, shard: int) -> np.ndarray:
        absolute_nD = np.zeros((len(stored_nK), self.layout.width), dtype=np.float32)
        absolute_nD[:, self.columns(shard)] = stored_nK
        return absolute_nD


class PackedEpisode(Episode):
    """An episode of a packed corpus: the same in every field, but its arrays are read each time they are looked at.

    A changed copy (`dataclasses.replace`) is a plain Episode.
    """

    _unit: PackedUnit
    _position: int
    _frames: int

    def __new__(cls, *args: Any, **fields: Any) -> Any:
        return Episode(*args, **fields)

    @classmethod
    def of(cls, unit: PackedUnit, position: int) -> PackedEpisode:
        """Raises ValueError where files are missing or do not fit together."""
        words = unit.words(position)
        mask_D = unit.mask(position)
        kind = unit.about.kinds[int(unit.table_E["kind"][position])]
        fields = {
            "layout": unit.layout,
            "mask_D": mask_D.copy(),
            "embodiment": kind.embodiment,
            "control_hz": kind.control_hz,
            "instruction": words["instruction"],
            "dataset": unit.source.name,
            "index": int(unit.table_E["index"][position]),
            "action_source": unit.about.action_source,
            "subtasks": tuple(Segment(start, end, text) for start, end, text in words["subtasks"]),
            "videos": {},
            "task": words["task"],
            "wordings": tuple(words.get("wordings", ())),
            "robot": unit.robots[kind.embodiment],
            "joint_unit": unit.source.joint_units.get(kind.embodiment, ""),
            "_unit": unit,
            "_position": position,
            "_frames": unit.place(position)[2],
        }
        self = object.__new__(cls)
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        return self

    def __reduce__(self) -> Any:
        return PackedEpisode.of, (self._unit, self._position)

    def __getattr__(self, name: str) -> Any:  # for what `of` leaves out
        if name == "absolute_ND":
            return self._unit.read(self._position)
        if name == "timestamps_s":
            return self._unit.timestamps_s(self._position)
        raise AttributeError(name)

    def __len__(self) -> int:
        return self._frames

    def rows(self, frame_n: np.ndarray) -> np.ndarray:
        """float32 [n, D]: some of its frames, without reading the others."""
        return self._unit.rows(self._position, frame_n)

    @property
    def place(self) -> tuple[PackedUnit, int]:
        """Where it lies: a unit, and its position in it."""
        return self._unit, self._position

    @property
    def digest(self) -> int:
        """64 bits over its stored values."""
        return int(self._unit.table_E["digest"][self._position])

    @property
    def known_statistics(self) -> Mapping[str, StoredStatistics]:
        """Of its corpus, by key."""
        return self._unit.statistics


@dataclass(frozen=True)
class PackedEpisodes:
    """Place in the set that was packed -> episode of a unit. rows: place -> position, {} where they are the same."""

    unit: PackedUnit
    rows: Mapping[int, int]

    def __call__(self, place: int) -> Episode:
        return self.unit.episode(self.rows[place] if self.rows else place)


def stored_statistics(episodes: Sequence[Episode]) -> Statistics | None:
    """What was gathered when exactly these episodes of one robot were packed, or None."""
    stored = [episode for episode in episodes if isinstance(episode, PackedEpisode)]
    if not stored or len(stored) != len(episodes):
        return None
    first = stored[0]
    digest_E = np.array([episode.digest for episode in stored], dtype=np.uint64)
    key = statistics_key(first.layout.name, first.embodiment, first.control_hz, digest_E)
    found = first.known_statistics.get(key)
    if found is None:
        return None
    with typed_errors(f"the statistics in {MANIFEST} of the corpus that {first.dataset} is in"):
        statistics = Statistics.from_dict(found)
        statistics.check(first.layout, first.control_hz, 1)
        return statistics


def _kept(cache: OrderedDict[Any, _T], key: Any, most: int, make: Callable[[], _T]) -> _T:
    """From the cache, or made; the one not used for longest makes room."""
    if key in cache:
        cache.move_to_end(key)
        return cache[key]
    if len(cache) >= most:
        cache.popitem(last=False)
    cache[key] = made = make()
    return made


def _check_file(path: Path, digest: str) -> None:
    if not path.is_file() or file_digest(path) != digest:
        raise ValueError(f"{path} is missing or not as it was packed (another SHA-256); {PACK_AGAIN}")
