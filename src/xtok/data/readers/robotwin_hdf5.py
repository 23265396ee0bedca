"""RoboTwin 2.0 demonstrations, one HDF5 an episode, in both generations.

Classic: joint_action/{left_arm, left_gripper, right_arm, right_gripper, vector}, endpose/{left,right}_{endpose,
gripper}, observation/*_camera/rgb, and instructions/episode{i}.json {seen, unseen} beside data/. v1.0: state/ and
action/ with {left,right}_{arm_joint_states, ee_joint_states, ee_poses}, vision/cam_*/colors, instructions,
additional_info/frequency.

Three traps. Pictures are JPEGs that cv2.imencode made of RGB arrays, which it takes for BGR: an honest decoder gives
red for blue, so they change places here, unless a JPEG is marked as true RGB, as later versions do (media.images). HDF5
fills the JPEGs of a column up with zeros to one length. And the joint "states" are what the drives were told, not what
the joints did; the end poses are measured.

# N frames of the episode, W columns of one feature
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from xtok.data.features import Feature
from xtok.data.media.images import PIXELS_MAX, ImageSequence
from xtok.data.readers.hdf5 import open_hdf5
from xtok.data.readers.instructions import of_wordings
from xtok.data.readers.json_fields import Fields, read_json
from xtok.data.source import RawEpisode, Source, check_finite

_NUMBER = re.compile(r"(\d+)\.hdf5$")
CLASSIC, V1 = "robotwin-classic", "robotwin-v1"
_GROUPS = {CLASSIC: ("joint_action", "endpose"), V1: ("state", "action")}
_CAMERAS = {CLASSIC: ("observation", "rgb"), V1: ("vision", "colors")}
_VALUES_MAX = 10_000_000  # of one feature of one episode; hours of motion have fewer
_TEXT_MAX = 1_000_000
_WORDINGS_MAX = 1000
NOMINAL_FPS = 15.0  # for the length of picture sequences only


def episode_files(root: Path) -> list[Path]:
    """All RoboTwin episodes below a folder, by folder and number."""
    found = [path for path in root.rglob("episode*.hdf5") if _NUMBER.search(path.name)]
    return sorted(found, key=lambda path: (str(path.parent), _number(path)))


def robotwin_source(root: Path) -> Source:
    """Every episode below a folder. `Source.robot_type` is the embodiment that v1.0's path names, else "robotwin".

    Raises:
        ValueError: a file that is truncated, of neither generation, or of another one than the first.
    """
    files = episode_files(root)
    first, kind = _first_readable(files)
    with open_hdf5(first) as archive:
        features = {
            name: Feature(1 if len(shape) == 1 else shape[1]) for name, shape in _vectors(archive, kind).items()
        }
        hz = _frequency(archive, first) if kind == V1 else None
        group, key = _CAMERAS[kind]
        cameras = tuple(name for name in archive.get(group, ()) if _is_inside(archive, f"{group}/{name}/{key}"))
    if not features:
        raise ValueError(f"{first} has no numeric columns in {_GROUPS[kind]}; get the file again")
    robot = first.parent.parent.name if kind == V1 and first.parent.name == "data" else "robotwin"
    label = "RoboTwin HDF5, " + ("classic" if kind == CLASSIC else "v1.0")
    read = partial(_read_at, files, kind, root.name, features, cameras, hz)
    return Source(root.name, label, robot, hz, features, tuple(range(len(files))), read, cameras, ships_as=kind)


def _first_readable(files: Sequence[Path]) -> tuple[Path, str]:
    """The first file that tells what the set is, and which generation; a damaged one says so when it is read."""
    failure: ValueError | None = None
    for file in files:
        try:
            with open_hdf5(file) as archive:
                return file, _kind(archive, file)
        except ValueError as error:
            failure = failure or error
    assert failure is not None, "find_reader has found a file"
    raise failure


def _read_at(
    files: Sequence[Path],
    kind: str,
    dataset: str,
    features: Mapping[str, Feature],
    cameras: Sequence[str],
    hz: float | None,
    position: int,
    wanted: Sequence[str],
) -> RawEpisode:
    return _read_episode(files[position], position, kind, dataset, features, wanted, cameras, hz)


def _read_episode(
    file: Path,
    index: int,
    kind: str,
    dataset: str,
    features: Mapping[str, Feature],
    wanted: Sequence[str],
    cameras: Sequence[str],
    hz: float | None,
) -> RawEpisode:
    where = f"{dataset}, episode {index} ({file.name})"
    with open_hdf5(file) as archive:
        if _kind(archive, file) != kind:
            raise ValueError(f"{file} is of another generation of RoboTwin than the first file; open them apart")
        shapes = _vectors(archive, kind)
        arrays = {}
        for name in wanted:
            shape, width = shapes.get(name), features[name].width
            if shape is None or (1 if len(shape) == 1 else shape[1]) != width:
                found = "nothing" if shape is None else f"shape {shape}"
                raise ValueError(f"{where}: {name!r} has {found}; expected [N, {width}] as in the first file")
            values = _array(archive, name, file).reshape(-1, width).astype(np.float64)
            arrays[name] = check_finite(values, name, where)
        if len(lengths := {name: len(array) for name, array in arrays.items()}) and len(set(lengths.values())) > 1:
            raise ValueError(f"{where}: features differ in length, {lengths}; get the file again")
        said = of_wordings(_classic_wordings(file) if kind == CLASSIC else _v1_wordings(archive))
        group, key = _CAMERAS[kind]
        videos = {}
        for camera in cameras:
            name = f"{group}/{camera}/{key}"
            if _is_inside(archive, name):
                reader = partial(_read_pictures, file, name)
                fps = hz or NOMINAL_FPS
                videos[camera] = ImageSequence(
                    len(archive[name]), fps, reader, swapped=True, where=f"{where}, {camera}"
                )
    return RawEpisode(arrays, index, None, said.instruction, videos=videos, wordings=said.wordings)


def _read_pictures(file: Path, name: str, indices: Sequence[int]) -> list[bytes | np.ndarray]:
    with open_hdf5(file) as archive:
        column = archive[name]
        size = column.dtype.itemsize * int(np.prod(column.shape[1:], dtype=np.float64))
        if size > 3 * PIXELS_MAX:
            raise ValueError(f"{file}, {name}: a picture of {size:,} bytes; expected one of a camera")
        try:
            stored = [column[index] for index in indices]
        except (OSError, ValueError, IndexError) as error:
            raise ValueError(f"cannot read {file}, {name}: {error}; it looks truncated, copy it again") from error
    return [picture if getattr(picture, "ndim", 0) == 3 else _bytes(picture) for picture in stored]


def _bytes(stored: Any) -> bytes:
    """A JPEG as h5py gives it: a fixed or variable string, an opaque value, or a row of uint8."""
    return stored.tobytes() if isinstance(stored, np.ndarray | np.void) else bytes(stored)


def _is_inside(archive: Any, name: str) -> bool:
    """Whether a data set of that path is in this very file: an external link would open any file of this machine."""
    import h5py

    at = archive
    for part in name.split("/"):
        if not isinstance(at, h5py.Group) or not isinstance(at.get(part, getlink=True), h5py.HardLink):
            return False
        at = at[part]
    return isinstance(at, h5py.Dataset) and at.ndim >= 1


def _vectors(archive: Any, kind: str) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every numeric column, [N] or [N, W], of the groups of motion."""
    import h5py

    found: dict[str, tuple[int, ...]] = {}

    def visit(prefix: str, group: Any, depth: int) -> None:
        nonlocal found
        for key in group:
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):  # see _is_inside
                continue
            child = group[key]
            if isinstance(child, h5py.Group) and depth < 3:
                visit(f"{prefix}/{key}", child, depth + 1)
            elif isinstance(child, h5py.Dataset) and child.dtype.kind in "fiu" and 1 <= child.ndim <= 2:
                found |= {f"{prefix}/{key}": child.shape} if 0 < child.size <= _VALUES_MAX else {}

    for name in _GROUPS[kind]:
        if isinstance(archive.get(name), h5py.Group):
            visit(name, archive[name], 0)
    return found


def _array(archive: Any, name: str, file: Path) -> np.ndarray:
    try:
        return np.asarray(archive[name])
    except (OSError, RuntimeError) as error:
        raise ValueError(f"cannot read {file}, {name}: {error}; it looks truncated, copy it again") from error


def _kind(archive: Any, file: Path) -> str:
    for kind, groups in _GROUPS.items():
        if groups[0] in archive:
            return kind
    raise ValueError(f"{file} has {sorted(archive)[:8]}; expected RoboTwin's 'joint_action' or 'state'")


def _frequency(archive: Any, file: Path) -> float | None:
    if "additional_info/frequency" not in archive:
        return None
    try:
        value = float(np.asarray(archive["additional_info/frequency"][()]).ravel()[0])
    except (TypeError, ValueError, IndexError, OSError) as error:
        raise ValueError(f"{file}: additional_info/frequency is no number ({error}); expected a rate in Hz") from error
    if not 0 < value < 10_000:
        raise ValueError(f"{file}: additional_info/frequency is {value}; expected a rate in Hz")
    return value


def _classic_wordings(file: Path) -> list[str]:
    """All wordings of instructions/episode{i}.json, none without one."""
    path = file.parent.parent / "instructions" / f"{file.stem}.json"
    if not path.is_file():
        return []
    expected = "{seen: [...], unseen: [...]}"
    fields = Fields(read_json(path, expected), str(path))
    return [text for key in ("seen", "unseen") for text in fields.texts(key, "a list of texts", default=())]


def _v1_wordings(archive: Any) -> list[str]:
    """All of `instructions` (JSON of a list, or strings), else `instruction`."""
    for key in ("instructions", "instruction"):
        if key not in archive:
            continue
        column = archive[key]
        stored = np.asarray(column[()] if column.shape == () else column[:_WORDINGS_MAX]).ravel()
        texts = [text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text) for text in stored]
        if found := [each for text in texts for each in _in_json(text[:_TEXT_MAX]) if each.strip()]:
            return found
    return []


def _in_json(text: str) -> list[str]:
    try:
        parsed = json.loads(text) if text.startswith(("[", '"')) else text
    except (ValueError, RecursionError):
        parsed = text
    return [str(each) for each in parsed] if isinstance(parsed, list) else [str(parsed)]


def _number(path: Path) -> int:
    match = _NUMBER.search(path.name)
    assert match is not None
    return int(match[1])
