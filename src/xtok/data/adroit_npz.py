"""The Adroit hand's door demonstrations as npz: actions_00 [N, 28], observations_00, rewards_00, actions_01, ...

Only commanded joint targets are there in full, so these episodes are "commanded". No rate is stored; the registry's is
the simulation's.

# N frames of an episode
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np

from xtok.actions.embodiments import get_embodiment
from xtok.actions.layout import JOINTS
from xtok.data.episode import Episode, EpisodeDataset
from xtok.data.mapping import ACTION, Column, JointChannels

_KEY = re.compile(r"actions_(\d+)")
_INSTRUCTION = "open the door"


def open_adroit(root: Path, layout: str | None, embodiment: str | None) -> EpisodeDataset:
    """A folder with one Adroit npz as episodes. See `open_dataset` for the arguments.

    Raises:
        ValueError: a truncated file, actions of another width, values that are not finite, or another layout.
    """
    if layout not in (None, JOINTS.name):
        raise ValueError(f"{root.name} holds joint commands only; open it with layout 'joints', not {layout!r}")
    paths = sorted(root.glob("*.npz"))
    if len(paths) != 1:
        raise ValueError(f"{root} has {len(paths)} npz files; expected one")
    robot = get_embodiment(embodiment or "adroit")
    if robot.control_hz is None:
        raise ValueError(f"the npz stores no rate and embodiment {robot.name!r} has none; register it with control_hz")
    actions = _read(paths[0])
    indices = tuple(sorted(actions))
    control_hz = robot.control_hz
    mapping = JointChannels(robot, tuple(Column(ACTION, i) for i in range(len(robot.joint_names))))

    def load(position: int) -> Episode:
        index = indices[position]
        raw = _checked(actions[index], len(robot.joint_names), f"{root.name}, episode {index}")
        absolute_ND, mask_D = mapping({ACTION: raw})
        return Episode(
            absolute_ND=absolute_ND,
            layout=mapping.layout,
            mask_D=mask_D,
            embodiment=robot.name,
            control_hz=control_hz,
            instruction=_INSTRUCTION,
            dataset=root.name,
            index=index,
            timestamps_s=np.arange(len(raw)) / control_hz,
            action_source="commanded",
        )

    return EpisodeDataset(root.name, mapping.layout, (robot.name,), control_hz, indices, load)


def _read(path: Path) -> dict[int, np.ndarray]:
    try:
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
