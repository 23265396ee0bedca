"""Arrow streams that Hugging Face `datasets` caches: one table of all episodes, and no meta/ beside it.

Channel names, robot and instruction are not stored, so `dataset_info.json`'s name of the set decides what it is.

# N frames of an episode
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow

from xtok.actions.embodiments import get_embodiment
from xtok.data.episode import Episode, EpisodeDataset
from xtok.data.mapping import ACTION, STATE, Feature, choose_mapping
from xtok.data.tables import column_array, feature_arrays


@dataclass(frozen=True)
class KnownSet:
    """What the file does not say: the robot (whose joints, then grippers, are the columns) and the instruction."""

    embodiment: str
    instruction: str


# name in dataset_info.json -> what it is. LeRobot's order of an SO-101: five joints, then the gripper.
KNOWN_SETS = {"pick_place_tape": KnownSet("so101", "pick place tape")}


def open_arrow_stream(root: Path, layout: str | None, embodiment: str | None) -> EpisodeDataset:
    """A folder with .arrow stream files and a dataset_info.json as episodes. See `open_dataset` for the arguments.

    Raises:
        ValueError: files that are truncated or lack a column, uneven numbers of columns, channels without a mapping.
    """
    table = pyarrow.concat_tables([_read_stream(path) for path in sorted(root.glob("*.arrow"))])
    for column in (STATE, "timestamp", "episode_index"):
        if column not in table.column_names:
            raise ValueError(f"{root} has columns {table.column_names}; expected {column!r} too, as LeRobot writes it")
    name = _set_name(root)
    known = KNOWN_SETS.get(name)  # None: a set that nobody described here, opened as joints
    features = {key: _feature(table, key, known) for key in (STATE, ACTION) if key in table.column_names}
    mapping = choose_mapping(features, known.embodiment if known else name, layout, embodiment)
    numbers = table["episode_index"].to_numpy()
    indices = tuple(int(number) for number in np.unique(numbers))
    hz = _nominal_hz(table["timestamp"].to_numpy(), numbers)
    instruction = known.instruction if known else ""

    def load(position: int) -> Episode:
        index = indices[position]
        where = f"{root.name}, episode {index}"
        rows = table.take(np.flatnonzero(numbers == index))
        absolute_ND, mask_D = mapping(feature_arrays(rows, features, mapping.features, where))
        return Episode(
            absolute_ND=absolute_ND,
            layout=mapping.layout,
            mask_D=mask_D,
            embodiment=mapping.embodiment,
            control_hz=hz,
            instruction=instruction,
            dataset=root.name,
            index=index,
            timestamps_s=column_array(rows, "timestamp", 1, where)[:, 0],
        )

    return EpisodeDataset(root.name, mapping.layout, (mapping.embodiment,), hz, indices, load)


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
    width = len(table[key][0].as_py())
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
