"""Arrow streams that Hugging Face `datasets` caches: one table of all episodes, and no meta/ beside it.

Channel names, robot and instruction are not stored, so `dataset_info.json`'s name of the set decides what it is.

# N frames of an episode
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow

from xtok.actions.embodiments import get_embodiment
from xtok.data.episode import EpisodeDataset
from xtok.data.mapping import ACTION, STATE, Feature
from xtok.data.open_by_names import open_by_names
from xtok.data.source import RawEpisode, Source
from xtok.data.tables import column_array, feature_arrays


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
    table = pyarrow.concat_tables([_read_stream(path) for path in sorted(root.glob("*.arrow"))])
    for column in (STATE, "timestamp", "episode_index"):
        if column not in table.column_names:
            raise ValueError(f"{root} has columns {table.column_names}; expected {column!r} too, as LeRobot writes it")
    if not len(table):
        raise ValueError(f"{root} holds no rows; download the data set again")
    name = _set_name(root)
    known = KNOWN_SETS.get(name)  # None: a set that nobody described here
    features = {key: _feature(table, key, known) for key in (STATE, ACTION) if key in table.column_names}
    numbers = table["episode_index"].to_numpy()
    indices = tuple(int(number) for number in np.unique(numbers))
    hz = _nominal_hz(table["timestamp"].to_numpy(), numbers)

    def read(position: int, wanted: Sequence[str]) -> RawEpisode:
        index = indices[position]
        where = f"{root.name}, episode {index}"
        rows = table.take(np.flatnonzero(numbers == index))
        arrays = feature_arrays(rows, features, wanted, where)
        timestamps_s = column_array(rows, "timestamp", 1, where)[:, 0]
        return RawEpisode(arrays, index, timestamps_s, known.instruction if known else "")

    robot_type = known.embodiment if known else name
    return Source(root.name, "Arrow stream", robot_type, hz, features, indices, read)


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
        return json.loads(path.read_text(encoding="utf-8"))["dataset_name"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"cannot read the set's name from {path}: {error!r}; `datasets` writes it there") from error


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
    steps_s = np.diff(timestamps)[np.diff(numbers) == 0]
    if not len(steps_s) or not np.median(steps_s) > 0:
        raise ValueError("timestamps do not advance, so there is no control rate; repair the timestamp column")
    return round(float(1.0 / np.median(steps_s)), 1)
