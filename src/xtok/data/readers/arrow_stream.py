"""Arrow streams that Hugging Face `datasets` caches: one table of all episodes, and no meta/ beside it.

Channel names, robot and instruction are not stored, so `dataset_info.json`'s name of the set decides what it is.

# R rows of the whole set, N frames of an episode
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow

from xtok.actions.embodiments import get_embodiment
from xtok.data.episode import EpisodeDataset
from xtok.data.features import ACTION, STATE, Feature
from xtok.data.mapping.open_by_names import open_by_names
from xtok.data.order import find_order
from xtok.data.readers.json_fields import Fields, read_json
from xtok.data.readers.tables import feature_arrays, loose_column
from xtok.data.source import RawEpisode, Source


@dataclass(frozen=True)
class KnownSet:
    """What the file does not say: the robot (whose joints, then grippers, are the columns) and the instruction."""

    embodiment: str
    instruction: str


# name in dataset_info.json -> what it is. LeRobot's order of an SO-101: five joints, then the gripper.
KNOWN_SETS = {"pick_place_tape": KnownSet("so101", "pick place tape")}


def arrow_source(root: Path) -> Source:
    """A folder with .arrow stream files and a dataset_info.json, its columns as they are.

    Raises:
        ValueError: files that are truncated or lack a column, or uneven numbers of columns.
    """
    name = _set_name(root)
    known = KNOWN_SETS.get(name)  # None: a set that nobody described here
    episodes = ArrowEpisodes(root, known)
    table, number_R = episodes.rows
    features = {key: _feature(table, key, known) for key in (STATE, ACTION) if key in table.column_names}
    episodes.features = features
    indices = tuple(int(number) for number in np.unique(number_R))
    episodes.indices = indices
    hz = _nominal_hz(loose_column(table, "timestamp"), number_R)
    robot_type = known.embodiment if known else name
    return Source(root.name, "Arrow stream", robot_type, hz, features, indices, episodes)


class ArrowEpisodes:
    """Position -> episode of all rows of a folder's streams; a copy in another process reads its own."""

    def __init__(self, root: Path, known: KnownSet | None) -> None:
        self.root, self.known = root, known
        self.features: dict[str, Feature] = {}
        self.indices: tuple[int, ...] = ()

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if key != "rows"}

    @cached_property
    def rows(self) -> tuple[Any, np.ndarray]:
        """The table, and the number of the episode of each of its rows."""
        table = pyarrow.concat_tables([_read_stream(path) for path in sorted(self.root.glob("*.arrow"))])
        for column in (STATE, "timestamp", "episode_index"):
            if column not in table.column_names:
                raise ValueError(
                    f"{self.root} has columns {table.column_names}; expected {column!r} too, as LeRobot writes it"
                )
        if not len(table):
            raise ValueError(f"{self.root} holds no rows; download the data set again")
        number_R = loose_column(table, "episode_index")
        if not np.isfinite(number_R).all():
            row = int(np.flatnonzero(~np.isfinite(number_R))[0])
            raise ValueError(f"{self.root}, column 'episode_index', row {row} is no number; repair or drop that row")
        return table, number_R

    def __call__(self, position: int, wanted: Sequence[str]) -> RawEpisode:
        index = self.indices[position]
        where = f"{self.root.name}, episode {index}"
        table, number_R = self.rows
        rows = table.take(np.flatnonzero(number_R == index))
        frame_N = loose_column(rows, "frame_index") if "frame_index" in rows.column_names else None
        order = find_order(frame_N, loose_column(rows, "timestamp"), len(rows), where)
        rows = rows if order.rows_N is None else rows.take(order.rows_N)
        arrays = feature_arrays(rows, self.features, wanted, where)
        instruction = self.known.instruction if self.known else ""
        return RawEpisode(arrays, index, order.time_s_N, instruction, remarks=order.remarks)


def open_arrow_stream(root: Path, layout: str | None, embodiment: str | None) -> EpisodeDataset:
    """The same as episodes. See `open_dataset` for the arguments.

    Raises:
        ValueError: as `arrow_source`, or channels without a mapping.
    """
    source = arrow_source(root)
    return open_by_names(source, root, layout, embodiment)


def _read_stream(path: Path) -> Any:
    try:
        with pyarrow.OSFile(str(path)) as source:
            return pyarrow.ipc.open_stream(source).read_all()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"cannot read {path}: {error}; it looks truncated or is no stream, copy it again") from error


def _set_name(root: Path) -> str:
    path = root / "dataset_info.json"
    try:
        content = read_json(path, "the description that `datasets` writes")
        return Fields(content, str(path)).text("dataset_name", "the name of the set")
    except ValueError as error:
        raise ValueError(f"cannot read the set's name: {error}") from error


def _feature(table: Any, key: str, known: KnownSet | None) -> Feature:
    first = table[key][0].as_py()
    if not isinstance(first, list) or not first:
        raise ValueError(f"column {key!r} holds {type(first).__name__}; expected a list of numbers a row")
    width = len(first)
    if known is None:
        return Feature(width)
    robot = get_embodiment(known.embodiment)
    names = (*robot.joint_names, *robot.gripper_names)
    if len(names) != width:
        raise ValueError(f"column {key!r} has {width} values; {known.embodiment} has {len(names)}: {list(names)}")
    return Feature(width, names)


def _nominal_hz(timestamps: np.ndarray, numbers: np.ndarray) -> float:
    """The rate that the median step of time within an episode makes, since the file does not state one."""
    rows = np.lexsort((timestamps, numbers))  # they may stand in any order
    steps_s = np.diff(timestamps[rows])[np.diff(numbers[rows]) == 0]
    if not len(steps_s) or not np.isfinite(steps_s).all() or not np.median(steps_s) > 0:
        raise ValueError("timestamps do not advance, so there is no control rate; repair the timestamp column")
    return round(float(1.0 / np.median(steps_s)), 1)
