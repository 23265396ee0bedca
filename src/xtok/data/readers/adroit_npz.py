"""The Adroit hand's door demonstrations as npz: actions_00 [N, 28], observations_00, rewards_00, actions_01, ...

Only commanded joint targets are there in full, so these episodes are "commanded". No rate is stored; the registry's is
the simulation's.

# N frames of an episode
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from xtok.actions.embodiments import get_embodiment
from xtok.actions.layout import JOINTS
from xtok.data.episode import EpisodeDataset
from xtok.data.features import ACTION, Column, Feature
from xtok.data.mapping.apply import map_source
from xtok.data.mapping.channels import JointChannels
from xtok.data.source import RawEpisode, Source

UNPACKED_MAX = 2_000_000_000  # bytes; the 25 demonstrations have 7 million
_KEY = re.compile(r"actions_(\d+)")
_ROBOT, _INSTRUCTION = "adroit", "open the door"


def adroit_source(root: Path) -> Source:
    """A folder with one Adroit npz: the commanded joint targets.

    Raises:
        ValueError: a truncated file; when an episode is read, actions of another width or values that are not finite.
    """
    paths = sorted(root.glob("*.npz"))
    if len(paths) != 1:
        raise ValueError(f"{root} has {len(paths)} npz files; expected one")
    names = get_embodiment(_ROBOT).joint_names
    episodes = AdroitEpisodes(paths[0], root.name)
    indices = tuple(sorted(episodes.actions))
    features = {ACTION: Feature(len(names), names)}
    return Source(root.name, "Adroit npz", _ROBOT, get_embodiment(_ROBOT).control_hz, features, indices, episodes)


class AdroitEpisodes:
    """Position -> episode of one file; a copy in another process reads its own."""

    def __init__(self, path: Path, dataset: str) -> None:
        self.path, self.dataset = path, dataset

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "dataset": self.dataset}

    @cached_property
    def actions(self) -> dict[int, np.ndarray]:
        return _read(self.path)

    def __call__(self, position: int, wanted: Sequence[str]) -> RawEpisode:
        index = sorted(self.actions)[position]
        width = len(get_embodiment(_ROBOT).joint_names)
        raw = _checked(self.actions[index], width, f"{self.dataset}, episode {index}").astype(np.float64)
        return RawEpisode(dict.fromkeys(wanted, raw), index, None, _INSTRUCTION)


def open_adroit(root: Path, layout: str | None, embodiment: str | None) -> EpisodeDataset:
    """The same as episodes. See `open_dataset` for the arguments.

    Raises:
        ValueError: as `adroit_source`, or another layout.
    """
    if layout not in (None, JOINTS.name):
        raise ValueError(f"{root.name} holds joint commands only; open it with layout 'joints', not {layout!r}")
    robot = get_embodiment(embodiment or _ROBOT)
    if robot.control_hz is None:
        raise ValueError(f"the npz stores no rate and embodiment {robot.name!r} has none; register it with control_hz")
    mapping = JointChannels(robot, tuple(Column(ACTION, i) for i in range(len(robot.joint_names))))
    return map_source(adroit_source(root), mapping, robot.control_hz, "commanded")


def _read(path: Path) -> dict[int, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as packed:
            size = sum(member.file_size for member in packed.infolist())
        if size > UNPACKED_MAX:
            raise ValueError(f"it unpacks to {size:,} bytes")
        with np.load(path, allow_pickle=False) as archive:
            found = {int(match[1]): archive[key] for key in archive.files if (match := _KEY.fullmatch(key))}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"cannot read {path}: {error}; it looks truncated or is no npz, copy it again") from error
    if not found:
        raise ValueError(f"{path} has no arrays named actions_00, actions_01, ...; expected one an episode")
    return found


def _checked(actions: np.ndarray, width: int, where: str) -> np.ndarray:
    if actions.ndim != 2 or actions.shape[1] != width:
        raise ValueError(f"{where}: actions have shape {actions.shape}; expected [N, {width}]")
    if not np.isfinite(actions).all():
        row, column = np.argwhere(~np.isfinite(actions))[0]
        raise ValueError(f"{where}, column actions[{column}], row {row} is {actions[row, column]}; repair or drop it")
    return actions
