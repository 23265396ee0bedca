"""meta/info.json of a LeRobot folder, every entry of the type that it should have.

# W columns of one feature
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xtok.data.features import Feature
from xtok.data.readers.json_fields import Fields, read_json

VERSIONS = ("v2.0", "v2.1", "v3.0")
CHUNKS_SIZE = 1000  # episodes a folder, where info.json does not say: what LeRobot takes
_NUMERIC = re.compile(r"^(float|int|uint|bool)")
_HZ_MAX = 100_000.0
_WIDTH_MAX = 1_000_000
_TOTALS = ("total_episodes", "total_frames")


@dataclass(frozen=True)
class Info:
    """What info.json says. robot_type: "" where it names none. features: the numeric vectors. videos: cameras with
    films. declared: all names of features. totals: those that it states. held_out_robot, held_out_tasks: no part of
    LeRobot, `xtok sim record` writes them; so is has_action_source."""

    path: Path
    version: str
    fps: float
    robot_type: str
    chunks_size: int
    data_path: str
    video_path: str | None
    features: Mapping[str, Feature]
    videos: tuple[str, ...]
    declared: tuple[str, ...]
    totals: Mapping[str, int]
    held_out_robot: bool
    held_out_tasks: tuple[str, ...]
    has_action_source: bool

    @property
    def is_v3(self) -> bool:
        return self.version == "v3.0"


def read_info(root: Path) -> Info:
    """meta/info.json of a folder.

    Raises:
        ValueError: it is missing, no JSON, or an entry is missing or of another kind; with its name, what is there and
            what is expected.
    """
    path = root / "meta" / "info.json"
    fields = Fields(read_json(path, "the description of a LeRobot folder"), str(path))
    version = fields.raw("codebase_version", f"one of {', '.join(VERSIONS)}")
    if version not in VERSIONS:
        fields.refuse("codebase_version", version, f"one of {', '.join(VERSIONS)}; LeRobot converts older sets")
    robot_held_out, tasks_held_out = _held_out(fields)
    features = fields.inner("features", "an object: name of a feature -> {dtype, shape, names}")
    vectors: dict[str, Feature] = {}
    videos = []
    for name in features:
        declared = features.inner(name)
        dtype = declared.text("dtype", "a type such as 'float32' or 'video'")
        if dtype == "video":
            videos.append(name)
        elif _NUMERIC.match(dtype):
            shape = _shape(declared)
            if len(shape) == 1:
                vectors[name] = _feature(declared, name, shape[0])
    return Info(
        path=path,
        version=version,
        fps=fields.number("fps", "the control rate, a positive number of Hz", 0.0, _HZ_MAX),
        robot_type=_robot_type(fields),
        chunks_size=fields.whole(
            "chunks_size", "how many episodes a folder holds, 1 or more (LeRobot: 1000)", 1, default=CHUNKS_SIZE
        ),
        data_path=fields.text("data_path", "a path such as 'data/chunk-{episode_chunk:03d}/episode_...'"),
        video_path=fields.text("video_path", "a path with {video_key}, or null", default=None),
        features=vectors,
        videos=tuple(videos),
        declared=tuple(features),
        totals={key: fields.whole(key, "a whole number, or nothing") for key in _TOTALS if key in fields},
        held_out_robot=robot_held_out,
        held_out_tasks=tasks_held_out,
        has_action_source="action_source" in fields,
    )


def _robot_type(fields: Fields) -> str:
    """A name; null in sets that LeRobot converted from elsewhere; some list the arms of a pair."""
    value = fields.raw("robot_type", "the robot's name", default="")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return "_".join(fields.texts("robot_type", "the robot's name, or null", default=()))


def _held_out(fields: Fields) -> tuple[bool, tuple[str, ...]]:
    if "held_out" not in fields:
        return False, ()
    kept = fields.raw("held_out", "")
    tasks = kept.get("tasks") if isinstance(kept, dict) else None
    fits = isinstance(tasks, list) and isinstance(kept.get("robot"), bool) and all(isinstance(t, str) for t in tasks)
    if not fits:
        fields.refuse("held_out", kept, '{"robot": bool, "tasks": [...]}')
    return kept["robot"], tuple(kept["tasks"])


def _shape(declared: Fields) -> tuple[int, ...]:
    expected = "a list of sizes, such as [7]"
    shape = declared.raw("shape", expected)
    shape = [shape] if isinstance(shape, int) and not isinstance(shape, bool) else shape
    sizes = [int(n) for n in shape if _is_size(n)] if isinstance(shape, list) else []
    if not isinstance(shape, list) or len(sizes) != len(shape):
        declared.refuse("shape", shape, expected)
    return tuple(sizes)


def _is_size(value: Any) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= _WIDTH_MAX and value % 1 == 0
    )


def _feature(declared: Fields, name: str, width: int) -> Feature:
    """With its names, or with what is wrong with them: then columns can still be told by number."""
    try:
        return Feature(width, channel_names(declared, name, width))
    except ValueError as error:
        return Feature(width, unreadable=str(error))


def channel_names(declared: Fields, feature: str, width: int) -> tuple[str, ...] | None:
    """Names of the columns, None where the set leaves them unnamed.

    Sets write a list; a list in a list (G1); lists or further groups in an object, {"motors": [...]}; or
    {"x": 0, "y": 1}, name to column. Numbers 0, 1, 2 ... are no names. Where groups repeat a name, each is put before
    it: left.gripper, right.gripper.

    Raises:
        ValueError: another form, or another number of names than columns.
    """
    value = declared.raw("names", "", default=None)
    if not value and value != 0:
        return None
    found = _flat(value) if isinstance(value, str | list | dict) else None  # a number alone names nothing
    if found is None:
        declared.refuse("names", value, f'a list of {width} names, {{"motors": [...]}}, or {{name: column}}')
    assert found is not None
    if [name for _, name in found] == list(range(len(found))):
        found = []  # positions are no names
    if len(found) == 1 and width > 1:
        found = []  # ["state"], as converters write it, names the vector and no column
    plain = [str(name) for _, name in found]
    if len(set(plain)) < len(plain) and len({group for group, _ in found}) > 1:
        plain = [".".join((*group, str(name))) for group, name in found]
    if plain and len(plain) != width:
        raise ValueError(
            f"{declared.where}: feature {feature!r} has {len(plain)} names for {width} columns: "
            f"{plain[:8]}; give one name a column in meta/info.json, or null"
        )
    return tuple(plain) or None


def _flat(value: Any, group: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], str | int]] | None:
    """(groups, name) of every column, None where there is something else."""
    if isinstance(value, str):
        return [(group, value)]
    if isinstance(value, int) and not isinstance(value, bool):
        return [(group, value)]
    if isinstance(value, dict) and all(isinstance(n, int) and not isinstance(n, bool) for n in value.values()):
        by_column = sorted(value, key=lambda name: value[name])
        numbered = [value[name] for name in by_column] == list(range(len(value)))
        return [(group, name) for name in by_column] if numbered else None
    if isinstance(value, list):
        parts = [_flat(each, group) for each in value]
    elif isinstance(value, dict) and all(isinstance(each, list | dict) for each in value.values()):
        parts = [_flat(each, (*group, str(name))) for name, each in value.items()]
    else:
        return None
    return None if None in parts else [each for part in parts if part is not None for each in part]
