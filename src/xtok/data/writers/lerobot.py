"""Episodes out as a LeRobot v3.0 folder with films and sub-tasks, that LeRobot and `open_dataset` both read.

`write_lerobot` takes episodes in poses: `observation.state` holds the channels of `arms26` that any episode has, under
their names; `action` is the state one frame later (the last one twice). Where episodes differ in their channels,
`channel_valid` says which are real. `write_folder` takes whatever columns a recorder has.

# N frames of an episode, W channels written, D channels of the layout, C colours, V values of a byte
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from xtok.actions.layout import ARMS26
from xtok.data.episode import Episode, Segment
from xtok.data.features import ACTION, CHANNEL_VALID, STATE
from xtok.data.media.video_write import FilmJoiner
from xtok.data.writers.lerobot_meta import (
    CHUNKS_SIZE,
    DATA_MB,
    VIDEO_MB,
    Stats,
    arrow,
    describe_camera,
    describe_folder,
    describe_vectors,
    picture_stats,
    texts_table,
    vector_stats,
    write_json,
    write_table,
)

_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Film:
    """A camera's mp4 of one episode. size: height and width, pixels. histogram_CV: counts of byte values a colour."""

    path: Path
    size: tuple[int, int]
    histogram_CV: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class EpisodeRecord:
    """One episode to be written. vectors: feature -> [N, W]. films: feature -> film of N frames, the same cameras in
    every episode. more: columns of our own in meta/episodes, the same in every episode.
    """

    vectors: Mapping[str, np.ndarray]
    instruction: str
    subtasks: tuple[Segment, ...] = ()
    films: Mapping[str, Film] = field(default_factory=dict)
    more: Mapping[str, str | int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.vectors.values())))


def write_lerobot(root: Path, episodes: Sequence[Episode], robot_type: str) -> None:
    """Write `episodes` (layout arms26, one rate) into the new folder `root`; they are numbered 0, 1, ... again.

    Pictures are not copied.

    Raises:
        ValueError: no episodes, another layout, several rates, or a folder that is there already.
    """
    _check(root, episodes)
    used_D = np.any([episode.mask_D for episode in episodes], axis=0)
    names = [name for name, used in zip(ARMS26.channel_names, used_D, strict=True) if used]
    records = (EpisodeRecord(_pose_vectors(e, used_D), e.instruction, e.subtasks) for e in episodes)
    channels = dict.fromkeys((STATE, ACTION, CHANNEL_VALID), names)
    write_folder(root, records, robot_type, episodes[0].control_hz, channels)


def write_folder(
    root: Path,
    episodes: Iterable[EpisodeRecord],
    robot_type: str,
    fps: float,
    names: Mapping[str, Sequence[str]],
    **more: object,
) -> None:
    """Write episodes of one robot and rate into the new folder `root`, numbered in their order; they are read once.

    names: feature -> its channels. more: entries of our own in info.json.

    Raises:
        ValueError: no episodes, a folder that is there already, or a film that is not as long as its episode.
    """
    if root.exists():
        raise ValueError(f"{root} is there already; choose a new folder or remove it")
    writer = _FolderWriter(root, fps)
    for episode in episodes:
        writer.add(episode)
    writer.finish(robot_type, names, more)


def _check(root: Path, episodes: Sequence[Episode]) -> None:
    if not episodes:
        raise ValueError("no episodes to write")
    if root.exists():
        raise ValueError(f"{root} is there already; choose a new folder or remove it")
    if layouts := {episode.layout.name for episode in episodes} - {ARMS26.name}:
        raise ValueError(f"episodes have layouts {sorted(layouts)}; only arms26 is written")
    if len(rates := {episode.control_hz for episode in episodes}) > 1:
        raise ValueError(f"episodes run at {sorted(rates)} Hz; a LeRobot folder has one fps")


def _pose_vectors(episode: Episode, used_D: np.ndarray) -> dict[str, np.ndarray]:
    state_NW = episode.absolute_ND[:, used_D]
    return {
        STATE: state_NW,
        ACTION: np.concatenate([state_NW[1:], state_NW[-1:]]),
        CHANNEL_VALID: np.tile(episode.mask_D[used_D], (len(episode), 1)),
    }


class _FolderWriter:
    """Appends episodes to the files of a folder; meta/ is written at the end, from what was seen."""

    def __init__(self, root: Path, fps: float) -> None:
        self._root, self._fps = root, fps
        self._tasks: dict[str, int] = {}
        self._subtasks: dict[str, int] = {}
        self._rows: list[dict[str, Any]] = []
        self._columns: list[dict[str, np.ndarray]] = []
        self._frames = 0
        self._data: tuple[pyarrow.parquet.ParquetWriter, Path] | None = None
        self._films: dict[str, _FilmFiles] = {}
        self._data_place = 0

    def add(self, episode: EpisodeRecord) -> None:
        columns = self._episode_columns(episode)
        place = self._write_rows(columns)
        films = {key: self._add_film(key, film, len(episode)) for key, film in episode.films.items()}
        stats = vector_stats(columns) | picture_stats(
            {key: film.histogram_CV for key, film in episode.films.items()}, len(episode)
        )
        self._rows.append(
            {
                "episode_index": len(self._rows),
                **dict(zip(("data/chunk_index", "data/file_index"), divmod(place, CHUNKS_SIZE), strict=True)),
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
                "dataset_from_index": self._frames,
                "dataset_to_index": self._frames + len(episode),
                **{f"videos/{key}/{name}": value for key, film in films.items() for name, value in film.items()},
                "tasks": [episode.instruction],
                "length": len(episode),
                **episode.more,
                **{f"stats/{key}/{name}": value for key, each in stats.items() for name, value in each.items()},
            }
        )
        self._columns.append(columns)
        self._frames += len(episode)

    def finish(self, robot_type: str, names: Mapping[str, Sequence[str]], more: Mapping[str, object]) -> None:
        if not self._rows:
            raise ValueError("no episodes to write")
        self._close_data()
        for films in self._films.values():
            films.close()
        root, merged = self._root, self._merged()
        stats: Stats = vector_stats(merged)
        stats |= picture_stats({key: films.histogram_CV for key, films in self._films.items()}, self._frames)
        features = describe_vectors(merged, names)
        features |= {key: describe_camera(films.size, self._fps) for key, films in self._films.items()}
        count = len(self._rows)
        info = describe_folder(robot_type, self._fps, count, self._frames, len(self._tasks), features, **more)
        write_table(root / "meta/episodes/chunk-000/file-000.parquet", pyarrow.Table.from_pylist(self._rows))
        write_table(root / "meta/tasks.parquet", texts_table(list(self._tasks), "task_index"))
        if self._subtasks:
            write_table(root / "meta/subtasks.parquet", texts_table(list(self._subtasks), "subtask_index"))
        write_json(root / "meta/stats.json", stats)
        write_json(root / "meta/info.json", info)

    def _episode_columns(self, episode: EpisodeRecord) -> dict[str, np.ndarray]:
        N = len(episode)
        task = self._tasks.setdefault(episode.instruction, len(self._tasks))
        columns = {
            **{key: np.ascontiguousarray(values) for key, values in episode.vectors.items()},
            "timestamp": (np.arange(N) / self._fps).astype(np.float32),
            "frame_index": np.arange(N),
            "episode_index": np.full(N, len(self._rows)),
            "index": self._frames + np.arange(N),
            "task_index": np.full(N, task),
        }
        if episode.subtasks:
            columns["subtask_index"] = self._subtask_numbers(episode.subtasks, N)
        if self._columns and set(columns) != set(self._columns[0]):
            raise ValueError(
                f"episode {len(self._rows)} has columns {sorted(columns)}, those before it {sorted(self._columns[0])}; "
                "a LeRobot folder has the same in all episodes (sub-tasks too)"
            )
        return columns

    def _subtask_numbers(self, segments: Sequence[Segment], N: int) -> np.ndarray:
        numbers_N = np.full(N, -1)
        for segment in segments:
            numbers_N[segment.start : segment.end] = self._subtasks.setdefault(segment.text, len(self._subtasks))
        if (numbers_N < 0).any():  # LeRobot has no "none", so frames between sub-tasks get one without words
            numbers_N[numbers_N < 0] = self._subtasks.setdefault("", len(self._subtasks))
        return numbers_N

    def _write_rows(self, columns: Mapping[str, np.ndarray]) -> int:
        """Append to the data file, or to the next one if it is full; returns the file's number."""
        if self._data is not None and self._data[1].stat().st_size > DATA_MB * _MEGABYTE:
            self._close_data()
            self._data_place += 1
        table = pyarrow.table({key: arrow(values) for key, values in columns.items()})
        if self._data is None:
            path = self._root / "data/chunk-{:03d}/file-{:03d}.parquet".format(*divmod(self._data_place, CHUNKS_SIZE))
            path.parent.mkdir(parents=True, exist_ok=True)
            self._data = pyarrow.parquet.ParquetWriter(path, table.schema, compression="zstd"), path
        self._data[0].write_table(table)
        return self._data_place

    def _close_data(self) -> None:
        if self._data is not None:
            self._data[0].close()
            self._data = None

    def _add_film(self, key: str, film: Film, length: int) -> dict[str, int | float]:
        files = self._films.setdefault(key, _FilmFiles(self._root / "videos" / key, film.size))
        place, start, end = files.add(film)
        if end - start != length:
            raise ValueError(f"{film.path} has {end - start} frames, its episode {length}; record it again")
        chunk, number = divmod(place, CHUNKS_SIZE)
        return {
            "chunk_index": chunk,
            "file_index": number,
            "from_timestamp": start / self._fps,
            "to_timestamp": end / self._fps,
        }

    def _merged(self) -> dict[str, np.ndarray]:
        return {key: np.concatenate([each[key] for each in self._columns]) for key in self._columns[0]}


class _FilmFiles:
    """The joined films of one camera, each of limited size, and the counts of all byte values in them."""

    def __init__(self, folder: Path, size: tuple[int, int]) -> None:
        self.size = size
        self.histogram_CV = np.zeros((3, 256), dtype=np.int64)
        self._folder, self._place = folder, 0
        self._joiner: FilmJoiner | None = None

    def add(self, film: Film) -> tuple[int, int, int]:
        """Append; returns the file's number and the frames between which the film lies in it."""
        if film.size != self.size:
            raise ValueError(f"{film.path} has {film.size} pixels, the films before it {self.size}; record it again")
        if self._joiner is not None and self._joiner.bytes + film.path.stat().st_size > VIDEO_MB * _MEGABYTE:
            self.close()
            self._place += 1
        if self._joiner is None:
            name = "chunk-{:03d}/file-{:03d}.mp4".format(*divmod(self._place, CHUNKS_SIZE))
            self._joiner = FilmJoiner(self._folder / name)
        self.histogram_CV += film.histogram_CV
        return self._place, *self._joiner.add(film.path)

    def close(self) -> None:
        if self._joiner is not None:
            self._joiner.close()
            self._joiner = None
