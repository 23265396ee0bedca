"""The rows of one episode of a LeRobot folder: found, also where meta/ points to the wrong file, and put in order.

# N frames of the episode, W columns of one feature
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from xtok.data.episode import Segment
from xtok.data.features import Feature
from xtok.data.order import Remark, find_order
from xtok.data.readers.instructions import Instructions, of_labels, of_wordings
from xtok.data.readers.lerobot_entries import EpisodeEntry, read_entries, read_tasks, read_texts
from xtok.data.readers.lerobot_info import Info, read_info
from xtok.data.readers.tables import column_array, feature_arrays, loose_column, read_parquet
from xtok.data.source import RawEpisode

_HELPERS = ("timestamp", "frame_index", "index", "episode_index", "task_index", "subtask_index")
_LOOKED_AT_MAX = 20_000  # files searched for the rows of an episode that is not where meta/ says


@dataclass(frozen=True)
class LeRobotFolder:
    """meta/ of one data set, checked when it is first used."""

    root: Path

    @cached_property
    def info(self) -> Info:
        return read_info(self.root)

    @property
    def features(self) -> dict[str, Feature]:
        """Every numeric vector, with the names of its channels where the set gives them."""
        return dict(self.info.features)

    @property
    def cameras(self) -> tuple[str, ...]:
        return self.info.videos if self.info.video_path is not None else ()  # null or absent in sets without video

    @cached_property
    def entries(self) -> tuple[EpisodeEntry, ...]:
        """All episodes, by episode number."""
        return read_entries(self.root, self.info)

    @cached_property
    def tasks(self) -> dict[int, tuple[str, ...]]:
        """task_index -> instruction, in one wording or several."""
        return read_tasks(self.root, self.info)

    @cached_property
    def subtasks(self) -> dict[int, tuple[str, ...]]:
        """subtask_index -> text, empty where the set has no sub-tasks."""
        path = self.root / "meta" / "subtasks.parquet"
        return read_texts(path, "subtask_index") if path.is_file() else {}

    @property
    def listing(self) -> str:
        return "meta/episodes" if self.info.is_v3 else "meta/episodes.jsonl"

    @property
    def tasks_file(self) -> str:
        return "meta/tasks.parquet" if self.info.is_v3 else "meta/tasks.jsonl"

    @cached_property
    def rows_by_number(self) -> dict[int, list[tuple[Path, int]]]:
        """Number of an episode -> files below data/ that hold rows of it, and how many. Reads one column of each file
        that is here, so it is asked for only where meta/ is wrong."""
        out: dict[int, list[tuple[Path, int]]] = {}
        for path in sorted(self.root.glob("data/**/*.parquet"))[:_LOOKED_AT_MAX]:
            try:
                numbers = loose_column(read_parquet(path, ["episode_index"]), "episode_index")
            except ValueError:  # a file that is damaged or has no such column; who points to it is told
                continue
            found, counts = np.unique(numbers[np.isfinite(numbers)], return_counts=True)
            for number, count in zip(found.tolist(), counts.tolist(), strict=True):
                out.setdefault(int(number), []).append((path, count))
        return out


class EpisodeReader:
    """Reads one episode a call and keeps the last parquet file, which in v3.0 holds the next episode too."""

    def __init__(self, folder: LeRobotFolder) -> None:
        self._folder = folder
        self._held: tuple[tuple[Path, tuple[str, ...]], Any] | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"_folder": self._folder, "_held": None}  # a worker reads its own tables

    def __call__(self, position: int, features: Sequence[str]) -> RawEpisode:
        folder = self._folder
        entry = folder.entries[position]
        where = f"{folder.root.name}, episode {entry.index}"
        if entry.fault:
            raise ValueError(f"{where}: {entry.fault}")
        table, told = self._rows(entry, features, where)
        columns = set(table.column_names)
        frame_N = loose_column(table, "frame_index") if "frame_index" in columns else None
        if frame_N is None and "index" in columns:  # of all frames of the set, so it tells the order as well
            index_N = loose_column(table, "index")
            frame_N = index_N if len(np.unique(index_N)) == len(index_N) and np.isfinite(index_N).all() else None
        time_s_N = loose_column(table, "timestamp") if "timestamp" in columns else None
        order = find_order(frame_N, time_s_N, len(table), where)
        if order.rows_N is not None:
            table = table.take(order.rows_N)
        said = self._instructions(table, entry, where)
        subtasks = self._segments(table, where)
        return RawEpisode(
            arrays=self._arrays(table, features, entry, where),
            index=entry.index,
            timestamps_s=order.time_s_N,
            instruction=said.instruction,
            subtasks=subtasks or said.spans,
            videos=entry.videos,
            task=entry.task,
            wordings=said.wordings,
            remarks=(*told, *order.remarks, *said.remarks),
        )

    def _rows(self, entry: EpisodeEntry, features: Sequence[str], where: str) -> tuple[Any, list[Remark]]:
        """The rows of an episode, from the file that meta/ points to or the one that has them.

        Raises:
            ValueError: there are none, or others than meta/ says; with where they are.
        """
        folder = self._folder
        told: list[Remark] = []
        failure: ValueError | None = None
        rows, table = None, None
        try:
            table = self._table(entry.parquet, features)
            rows, told = _mine(table, entry, folder)
            if entry.length and len(rows) == entry.length:
                return table.take(rows), told
        except ValueError as error:
            failure = error
        others = [(path, n) for path, n in folder.rows_by_number.get(entry.index, []) if path != entry.parquet]
        if entry.length and not (rows is not None and len(rows)) and [n for _, n in others] == [entry.length]:
            (path, _), table = others[0], self._table(others[0][0], features)
            text = f"meta/ points to {_short(entry.parquet, folder.root)}, its rows are in {_short(path, folder.root)}"
            return table.take(_numbered(table, entry.index)), [
                Remark("wrong file", f"{text}; they were read from there")
            ]
        if failure is None and table is not None and not len(rows if rows is not None else ()):
            adopted = _renumbered(table, entry, folder)
            if adopted is not None and not others:
                text = f"{_short(entry.parquet, folder.root)} numbers all its rows {adopted}, meta/ lists it as"
                return table, [Remark("renumbered", f"{text} {entry.index}; the file's place was taken")]
        there = ", ".join(f"{n} in {_short(path, folder.root)}" for path, n in others[:4])
        elsewhere = f"; rows of episode {entry.index} are elsewhere: {there}" if others else ""
        if failure is not None:
            raise ValueError(f"{where}, which {folder.listing} lists: {failure}{elsewhere}") from failure
        count = len(rows) if rows is not None else 0
        if count == entry.length == 0 and not others:
            raise ValueError(
                f"{where} has no frames: length is 0 in {entry.where}, and so is {entry.parquet}; remove it there"
            )
        none = "" if count or others else "; no file below data/ has rows of it"
        raise ValueError(
            f"{where}: {entry.parquet} has {count} rows, meta/ says {entry.length} (length, in {entry.where})"
            f"{elsewhere}{none}; correct it there, or get the file again"
        )

    def _arrays(self, table: Any, features: Sequence[str], entry: EpisodeEntry, where: str) -> dict[str, np.ndarray]:
        try:
            return feature_arrays(table, self._folder.features, features, where)
        except ValueError as error:
            raise ValueError(f"{error} ({entry.parquet}; meta/info.json declares what is expected)") from error

    def _table(self, path: Path, features: Sequence[str]) -> Any:
        wanted = (path, tuple(features))
        if self._held is None or self._held[0] != wanted:
            self._held = (wanted, read_parquet(path, features, _HELPERS))
        return self._held[1]

    def _instructions(self, table: Any, entry: EpisodeEntry, where: str) -> Instructions:
        tasks, file = self._folder.tasks, self._folder.tasks_file
        if "task_index" not in table.column_names:
            if not entry.tasks and len(tasks) == 1:
                return of_wordings(next(iter(tasks.values())))
            said = of_wordings(entry.tasks)
            if len(entry.tasks) == 1 or not (entry.tasks or tasks):
                return said
            text = f"the data have no task_index, and {self._folder.listing} lists {len(entry.tasks)} tasks for it"
            return Instructions(
                said.instruction, said.wordings, (), (Remark("tasks", f"{text}; which is when is unknown"),)
            )
        labels_N = loose_column(table, "task_index")
        whole_N = np.where(np.isfinite(labels_N), labels_N, -1).astype(int)
        if unknown := sorted(set(whole_N.tolist()) - tasks.keys()):
            raise ValueError(
                f"{where}: task {unknown[0]} is not in meta/tasks; it lists {sorted(tasks)}; add it to {file}"
            )
        said = of_labels(whole_N, tasks)
        return said if said.instruction else of_wordings(entry.tasks)

    def _segments(self, table: Any, where: str) -> tuple[Segment, ...]:
        texts = self._folder.subtasks
        if not texts or "subtask_index" not in table.column_names:
            return ()
        labels_N = column_array(table, "subtask_index", 1, where)[:, 0].astype(int)
        if unknown := sorted(set(labels_N.tolist()) - texts.keys()):
            raise ValueError(
                f"{where}: sub-task {unknown[0]} is not in meta/subtasks.parquet; it lists {sorted(texts)}"
            )
        cuts = [0, *(np.flatnonzero(np.diff(labels_N)) + 1).tolist(), len(labels_N)]
        return tuple(Segment(a, b, of_wordings(texts[int(labels_N[a])]).instruction) for a, b in pairwise(cuts))


def _mine(table: Any, entry: EpisodeEntry, folder: LeRobotFolder) -> tuple[np.ndarray, list[Remark]]:
    """The rows of an episode in a table: by their number, or where they have none by all that is known of them."""
    if "episode_index" in table.column_names:
        return _numbered(table, entry.index), []
    if not folder.info.is_v3:
        return np.arange(len(table)), [
            Remark("episode_index", "the data have no episode_index; the file's place was taken")
        ]
    if entry.rows is not None and "index" in table.column_names:
        index_N = loose_column(table, "index")
        told = Remark("episode_index", "the data have no episode_index; rows were found by dataset_from_index")
        return np.flatnonzero((index_N >= entry.rows[0]) & (index_N < entry.rows[1])), [told]
    raise ValueError(
        f"{entry.parquet} has no column 'episode_index', and nothing else tells whose its rows are; "
        f"it has {table.column_names}"
    )


def _numbered(table: Any, index: int) -> np.ndarray:
    return np.flatnonzero(loose_column(table, "episode_index") == index)


def _renumbered(table: Any, entry: EpisodeEntry, folder: LeRobotFolder) -> int | None:
    """The one number of all rows of a v2 file, if no episode is listed by it: files renamed after some were removed."""
    numbers = np.unique(loose_column(table, "episode_index"))
    fits = not folder.info.is_v3 and len(numbers) == 1 and len(table) == entry.length and np.isfinite(numbers[0])
    return int(numbers[0]) if fits and int(numbers[0]) not in {e.index for e in folder.entries} else None


def _short(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
