"""Demonstrations as robosuite 1.4 and later, robomimic and LIBERO keep them: data/demo_N/{actions, obs/...} in HDF5.

Read are actions, numeric observations and pictures; states, next_obs, rewards, dones and the groups of mask/ are not,
and that is told. Poses are those that the observations give: in the world's frame, quaternions x, y, z, w.

# N frames of the episode, W columns of one feature
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from xtok.data.episode import EpisodeDataset
from xtok.data.features import Feature
from xtok.data.mapping.file import MappingSpec, parse_mapping
from xtok.data.mapping.mapped import open_mapped
from xtok.data.mapping.yaml_lines import parse_yaml
from xtok.data.media.images import ImageSequence
from xtok.data.order import Remark
from xtok.data.readers.hdf5 import open_hdf5
from xtok.data.readers.instructions import of_wordings
from xtok.data.readers.json_fields import Fields
from xtok.data.source import RawEpisode, Source, check_finite

_DEMO = re.compile(r"demo_(\d+)")
_READ = ("actions", "action_dict", "obs")
_WIDTH_MAX, _VALUES_MAX = 1024, 10_000_000
_FPS = 20.0  # for the length of picture sequences only
PANDA_OPEN_M = 0.04  # how far each finger of the Panda's gripper goes


@dataclass(frozen=True)
class Demo:
    """One group of a file, located but not read."""

    file: Path
    key: str


@dataclass(frozen=True)
class Environment:
    """What data's attributes say. robots: as robosuite names them. hz: None where no rate is stated."""

    name: str
    robots: tuple[str, ...]
    hz: float | None
    wordings: tuple[str, ...]


def holds_demos(file: Path) -> bool:
    """Whether an HDF5 file has data/demo_N. What cannot be opened has not; its own reader says why."""
    try:
        with open_hdf5(file) as archive:
            return "data" in archive and any(_DEMO.fullmatch(key) for key in archive["data"])
    except (ValueError, OSError, RuntimeError, KeyError, AttributeError, TypeError):
        return False


def demo_files(root: Path) -> list[Path]:
    return [path for path in sorted(root.rglob("*.hdf5")) if holds_demos(path)]


def vectors_in(file: Path) -> set[str]:
    """What the first demonstration of a file has to read, pictures aside: some of actions, action_dict, obs."""
    with open_hdf5(file) as archive:
        found = dict(_columns(archive, _demos_in(archive, file)[0]))
    return {name.split("/")[0] for name, shape in found.items() if len(shape) < 3}


def robomimic_source(root: Path) -> Source:
    """All demonstrations below a folder, by file and number.

    Raises:
        ValueError: none of them can be read, or attributes that are no JSON.
    """
    files = demo_files(root)
    demos = [demo for file in files for demo in _demos(file)]
    if not demos:
        raise ValueError(f"no HDF5 file below {root} has data/demo_0, data/demo_1, ...; expected robomimic's layout")
    about = _environment(files[0])
    features, cameras = _first_readable(demos)
    numbers = [int(_DEMO.fullmatch(demo.key)[1]) for demo in demos]  # type: ignore[index]
    indices = tuple(numbers) if len(files) == 1 else tuple(range(len(demos)))
    robot = "robosuite_" + "_".join(about.robots or (about.name or "robot",))
    read = partial(_read, demos, indices, root.name, features, cameras, about)
    told = tuple(_unclear(features, robot))
    remarks = (*_not_read(files[0], demos[0]), *(remark.text for remark in told))
    return Source(
        root.name, "robomimic HDF5", robot, about.hz, features, indices, read, cameras, remarks, contradictions=told
    )


def open_robomimic(root: Path, layout: str | None, embodiment: str | None) -> EpisodeDataset:
    """The same as episodes. See `open_dataset` for the arguments.

    Raises:
        ValueError: as `robomimic_source`, no control rate, or observations whose names do not tell the layout.
    """
    source = robomimic_source(root)
    made = robomimic_mapping(source, layout)
    if made is None:
        raise ValueError(
            f"{source.name} ({source.format}, {source.robot_type}) has {', '.join(source.features)}, none of which "
            f"xtok knows as layout {layout or 'arms26 or joints'}: write a mapping (`xtok inspect` proposes one), and "
            "give it with mapping=... or --mapping"
        )
    return open_mapped(source, replace(made, embodiment=embodiment) if embodiment else made)


def _unclear(features: Mapping[str, Feature], robot: str) -> Iterator[Remark]:
    if any(key.startswith("obs/robot1_") for key in features):
        yield Remark(
            "arms", "which of its two robots is the left one is not stored: joints are read, poses by a mapping"
        )
    elif "panda" not in robot.lower() and any("gripper" in key for key in features):
        yield Remark(
            "gripper", f"the ends of the gripper of {robot} are not known: it is left out unless a mapping has them"
        )


def robomimic_mapping(source: Source, layout: str | None) -> MappingSpec | None:
    """Channels by the names that robosuite, robomimic and LIBERO give observations; None where they do not tell."""
    features = source.features
    panda = "panda" in source.robot_type.lower()
    arms = {"right": _arm(features, "obs/robot0_") or _arm(features, "obs/")}
    if any(key.startswith("obs/robot0_right_eef") for key in features):
        arms = {side: _arm(features, f"obs/robot0_{side}_") for side in ("right", "left")}
    if source.control_hz is None:
        raise ValueError(
            f"{source.name} states no control rate (control_freq in the attribute env_args or env_info of data): run "
            "`xtok inspect`, which writes a mapping, add control_hz there, and give it with mapping=... or --mapping"
        )
    found = {side: keys for side, keys in arms.items() if keys}
    several = any(key.startswith("obs/robot1_") for key in features)  # which of two robots is the left one is not told
    if several and layout == "arms26":
        raise ValueError(
            f"{source.name} has two robots, and which is the left one is not stored: write a mapping (`xtok inspect` "
            "proposes one) that says so, or open it with layout 'joints'"
        )
    lines = []
    if layout in (None, "arms26") and found and not several:
        lines = ["layout: arms26", "frame: world"]
        for side, (position, rotation, form, gripper) in found.items():
            lines += [f"{side}:", f'  position: {{from: "{position}", unit: m}}']
            lines += [f'  rotation: {{from: "{rotation}", {form}}}']
            if gripper and panda:
                lines += [f'  gripper: {{from: "{gripper}[0]", closed: 0, open: {PANDA_OPEN_M}}}']
    elif layout in (None, "joints"):
        joints = [
            key for key in ("obs/robot0_joint_pos", "obs/robot1_joint_pos", "obs/joint_states") if key in features
        ]
        lines = (
            ["layout: joints", "joints:", *(f'  - {{from: "{key}", unit: rad}}' for key in joints)] if joints else []
        )
    if not lines:
        return None
    return parse_mapping(parse_yaml("\n".join(lines), f"what xtok makes of {source.name}"), Path())


def _arm(features: Mapping[str, Feature], prefix: str) -> tuple[str, str, str, str] | None:
    """Position, rotation, its form, and gripper (or "") of an arm whose observations begin so."""
    gripper = next(
        (f"{prefix}{name}" for name in ("gripper_qpos", "gripper_states") if f"{prefix}{name}" in features), ""
    )
    quaternion, angles = "form: quaternion, order: xyzw", "form: axis_angle, unit: rad"
    for position, rotation, width, form in (
        ("eef_pos", "eef_quat", 4, quaternion),
        ("eef_pos", "eef_quat_site", 4, quaternion),
        ("ee_pos", "ee_ori", 3, angles),
    ):
        pair = [features.get(f"{prefix}{name}", Feature(0)).width for name in (position, rotation)]
        if pair == [3, width]:
            return f"{prefix}{position}", f"{prefix}{rotation}", form, gripper
    return None


def _demos(file: Path) -> list[Demo]:
    with open_hdf5(file) as archive:
        return _demos_in(archive, file)


def _demos_in(archive: Any, file: Path) -> list[Demo]:
    keys = [key for key in archive["data"] if _DEMO.fullmatch(key)]
    return [Demo(file, key) for key in sorted(keys, key=lambda key: int(key.removeprefix("demo_")))]


def _environment(file: Path) -> Environment:
    """env_args of robomimic and LIBERO, env and env_info of robosuite."""
    with open_hdf5(file) as archive:
        attributes = archive["data"].attrs
        stored = {
            key: _text(attributes[key]) for key in ("env_args", "env_info", "env", "problem_info") if key in attributes
        }
    parsed = {key: _object(stored[key], f"{file}, data, {key}") for key in stored if key != "env"}
    args, info = (parsed.get(key, Fields({}, "")) for key in ("env_args", "env_info"))
    inner = args.inner("env_kwargs") if "env_kwargs" in args else info
    rate = "the control rate, a positive number of Hz"
    name = args.text("env_name", default=None) or info.text("env_name", default=None) or stored.get("env", "")
    said = parsed["problem_info"].texts("language_instruction", default=()) if "problem_info" in parsed else ()
    return Environment(
        name=name,
        robots=inner.texts("robots", "a robot's name, or a list of them", default=()),
        hz=inner.number("control_freq", rate, 0.0, 10_000.0, default=None),
        wordings=said or ((re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").lower(),) if name else ()),
    )


def _object(text: str, where: str) -> Fields:
    try:
        return Fields(json.loads(text), where)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is no JSON object: {error}") from error


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _first_readable(demos: Sequence[Demo]) -> tuple[dict[str, Feature], tuple[str, ...]]:
    failure: ValueError | None = None
    for demo in demos:
        try:
            with open_hdf5(demo.file) as archive:
                found = dict(_columns(archive, demo))
        except ValueError as error:
            failure = failure or error
            continue
        features = {name: Feature(1 if len(s) == 1 else s[1]) for name, s in found.items() if len(s) < 3}
        if features:
            return dict(sorted(features.items())), tuple(sorted(name for name, s in found.items() if len(s) == 4))
    raise failure or ValueError(
        f"{demos[0].file}: no demonstration has actions or obs to read; expected robomimic's layout"
    )


def _columns(archive: Any, demo: Demo) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every vector and camera of a demonstration."""
    import h5py

    group = archive["data"][demo.key]
    if not isinstance(group, h5py.Group):
        raise ValueError(f"{demo.file}: data/{demo.key} is no group; expected actions and obs in it")

    def visit(prefix: str, at: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
        for key in at:
            if not isinstance(at.get(key, getlink=True), h5py.HardLink):  # links elsewhere are not followed
                continue
            child, name = at[key], f"{prefix}{key}"
            if isinstance(child, h5py.Group) and (prefix or key in _READ):
                yield from visit(f"{name}/", child)
            elif isinstance(child, h5py.Dataset) and (prefix or key in _READ) and child.dtype.kind in "fiu":
                vector = child.ndim == 1 or (child.ndim == 2 and child.shape[1] <= _WIDTH_MAX)
                picture = child.ndim == 4 and child.shape[3] == 3 and child.dtype == np.uint8
                if picture or (vector and 0 < child.size <= _VALUES_MAX):
                    yield name, child.shape

    return visit("", group)


def _not_read(file: Path, demo: Demo) -> Iterator[str]:
    with open_hdf5(file) as archive:
        left = sorted(set(archive["data"][demo.key]) - set(_READ))
        if left:
            yield f"not read of each demonstration: {', '.join(left)}"
        if "mask" in archive:
            groups = ", ".join(sorted(archive["mask"])[:6])
            yield f"the groups of mask/ ({groups}) are not used: every fifth is held out"


def _read(
    demos: Sequence[Demo],
    indices: Sequence[int],
    dataset: str,
    features: Mapping[str, Feature],
    cameras: Sequence[str],
    about: Environment,
    position: int,
    wanted: Sequence[str],
) -> RawEpisode:
    demo, index = demos[position], indices[position]
    where = f"{dataset}, episode {index} ({demo.file.name}, {demo.key})"
    with open_hdf5(demo.file) as archive:
        shapes = dict(_columns(archive, demo))
        arrays = {name: _array(archive, demo, name, shapes.get(name), features[name].width, where) for name in wanted}
        if len(set(map(len, arrays.values()))) > 1:
            lengths = {name: len(array) for name, array in arrays.items()}
            raise ValueError(f"{where}: features differ in length, {lengths}; get the file again")
        here = [name for name in cameras if name in shapes]
        said = _wordings(archive["data"][demo.key].attrs, where) or about.wordings
    fps = about.hz or _FPS
    videos = {
        name.removeprefix("obs/"): ImageSequence(
            shapes[name][0], fps, partial(_pictures, demo, name), where=f"{where}, {name}"
        )
        for name in here
    }
    words = of_wordings(said)
    return RawEpisode(arrays, index, None, words.instruction, videos=videos, wordings=words.wordings)


def _array(archive: Any, demo: Demo, name: str, shape: tuple[int, ...] | None, width: int, where: str) -> np.ndarray:
    if shape is None or (1 if len(shape) == 1 else shape[1]) != width:
        found = "nothing" if shape is None else f"shape {shape}"
        raise ValueError(f"{where}: {name!r} has {found}; expected [N, {width}] as in the first demonstration")
    try:
        values = np.asarray(archive["data"][demo.key][name]).reshape(-1, width).astype(np.float64)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"cannot read {where}, {name}: {error}; it looks truncated, copy it again") from error
    return check_finite(values, name, where)


def _wordings(attributes: Any, where: str) -> tuple[str, ...]:
    """What robosuite 1.5 and RoboCasa say of one demonstration."""
    if "ep_meta" not in attributes:
        return ()
    return _object(_text(attributes["ep_meta"]), f"{where}, ep_meta").texts("lang", default=())


def _pictures(demo: Demo, name: str, indices: Sequence[int]) -> list[bytes | np.ndarray]:
    with open_hdf5(demo.file) as archive:
        try:
            return [np.asarray(archive["data"][demo.key][name][index]) for index in indices]
        except (OSError, RuntimeError, KeyError) as error:
            raise ValueError(f"cannot read {demo.file}, {demo.key}, {name}: {error}; copy it again") from error
