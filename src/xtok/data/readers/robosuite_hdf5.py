"""Human demonstrations as robosuite records them: demo.hdf5 with MuJoCo states, and the model beside them as a file
(0.3, 1.0) or in an attribute (1.4 and later). Observations beside states are robomimic_hdf5.py's.

Poses come from the stored states by forward kinematics. The stored actions are no help: integrating them is wrong by
.4 to 4.8 m, and Sawyer's are zero in 95 % of the frames. States stand .01 to .024 s apart and some are stored twice, so
the joints are interpolated to a steady 20 Hz before the kinematics; the pose then stays one that the arm can take.

# S stored states, N frames at 20 Hz, J joints
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from xtok.actions.embodiments import get_embodiment
from xtok.actions.kinematics import ForwardKinematics
from xtok.actions.layout import ARMS26
from xtok.data.episode import EpisodeDataset
from xtok.data.features import CHANNEL_VALID, STATE, Column, Feature
from xtok.data.mapping.apply import map_source
from xtok.data.mapping.channels import NamedPoses, write_arm
from xtok.data.readers.hdf5 import open_hdf5
from xtok.data.readers.json_fields import Fields
from xtok.data.readers.robomimic_hdf5 import demo_files, vectors_in
from xtok.data.source import RawEpisode, Source

CONTROL_HZ = 20.0  # robosuite's default control rate, at which the Panda's states are stored


@dataclass(frozen=True)
class TeleopRobot:
    """Names in a robot's MJCF. Poses are those of `frames` (arm side -> body or site) in the frame of `base`.

    fingers: arm side -> the two finger joints; their difference is the raw gripper value of the embodiment registry.
    """

    base: str
    frames: Mapping[str, str]
    fingers: Mapping[str, tuple[str, str]]


# Baxter by its hands, since its peg-in-hole task has no grippers and so no grip sites.
ROBOTS = {
    "panda": TeleopRobot(
        "robot0_base",
        {"right": "gripper0_grip_site"},
        {"right": ("gripper0_finger_joint1", "gripper0_finger_joint2")},
    ),
    "sawyer": TeleopRobot(
        "base",
        {"right": "grip_site"},
        {"right": ("r_gripper_l_finger_joint", "r_gripper_r_finger_joint")},
    ),
    "baxter": TeleopRobot(
        "base",
        {"left": "left_hand", "right": "right_hand"},
        {
            "left": ("l_gripper_l_finger_joint", "l_gripper_r_finger_joint"),
            "right": ("r_gripper_l_finger_joint", "r_gripper_r_finger_joint"),
        },
    ),
}


@dataclass(frozen=True)
class _Demo:
    """One group of one demo.hdf5, located but not read."""

    file: Path
    key: str
    robot: str
    instruction: str


def robosuite_source(root: Path) -> Source:
    """All demonstrations below a folder, sorted by path and number; several robots may be among them.

    Its one feature is `observation.state`, the poses by forward kinematics under the names of arms26, beside the
    channels that an episode really has.

    Raises:
        ValueError: a file that is missing, truncated or malformed, or a robot that is not one of ROBOTS.
    """
    demos = [demo for file in sorted(root.rglob("demo.hdf5")) for demo in _list_demos(file)]
    if not demos:
        raise ValueError(f"the demo.hdf5 files below {root} hold no demonstrations; copy them again")

    robots = "+".join(sorted({demo.robot for demo in demos}))
    names = ARMS26.channel_names
    features = {STATE: Feature(len(names), names), CHANNEL_VALID: Feature(len(names), names)}
    indices = tuple(range(len(demos)))
    return Source(root.name, "robosuite HDF5", robots, CONTROL_HZ, features, indices, partial(_read_at, demos))


def _read_at(demos: Sequence[_Demo], position: int, wanted: Sequence[str]) -> RawEpisode:
    return _read_episode(demos[position], position)


def open_robosuite(root: Path, layout: str | None, embodiment: str | None) -> EpisodeDataset:
    """The same as episodes. See `open_dataset` for the arguments.

    Raises:
        ValueError: as `robosuite_source`, a layout other than "arms26", or an embodiment that the demonstrations are
            not of.
    """
    if layout not in (None, ARMS26.name):
        raise ValueError(f"{root.name} gives poses; open it with layout 'arms26', not {layout!r}")
    source = robosuite_source(root)
    robots = tuple(source.robot_type.split("+"))
    if embodiment is not None and robots != (embodiment,):
        raise ValueError(f"{root} holds demonstrations of {list(robots)}, not of {embodiment!r}; leave embodiment out")
    mapping = NamedPoses(robots[0], {i: Column(STATE, i) for i in range(ARMS26.width)}, has_valid=True)
    return map_source(source, mapping, embodiments=robots)


def _read_episode(demo: _Demo, index: int) -> RawEpisode:
    where = f"{demo.file}, {demo.key}"
    states, model = _read_states(demo)
    robot, embodiment = ROBOTS[demo.robot], get_embodiment(demo.robot)
    robot, forward = _kinematics(robot, model)
    fingers = {side: pair for side, pair in robot.fingers.items() if set(pair) <= set(forward.model_joints)}
    names = (*forward.joint_names, *(name for pair in fingers.values() for name in pair))
    if states.ndim != 2 or not len(states) or states.shape[1] <= forward.qpos_width:
        raise ValueError(
            f"{where}: states have shape {states.shape}; its model wants 1 + {forward.qpos_width} and more"
        )
    time_s, q_NJ = resample(states[:, 0], states[:, [1 + forward.qpos_index(name) for name in names]], where)

    poses = forward(names, q_NJ)
    absolute_ND = np.zeros((len(q_NJ), ARMS26.width))
    mask_D = embodiment.mask(ARMS26)
    for frame, side in enumerate(robot.frames):
        write_arm(absolute_ND, side, poses.position_m[:, frame], poses.matrix[:, frame])
        channel = ARMS26.slices[f"{side}_gripper"]
        if side in fingers:
            first, second = (q_NJ[:, [names.index(name)]] for name in fingers[side])
            absolute_ND[:, channel] = embodiment.gripper_opening(first - second)
        else:
            mask_D[channel] = False
    valid_ND = np.repeat(mask_D[None].astype(np.float64), len(absolute_ND), axis=0)
    arrays = {STATE: absolute_ND, CHANNEL_VALID: valid_ND}
    return RawEpisode(arrays, index, time_s, demo.instruction, embodiment=demo.robot)


def _kinematics(robot: TeleopRobot, model: Path | str) -> tuple[TeleopRobot, ForwardKinematics]:
    """With the names of the version that wrote the model: since 1.5, those of a gripper say its side."""
    try:
        return robot, ForwardKinematics(model, list(robot.frames.values()), base=robot.base)
    except ValueError as error:
        if "gripper0_" not in repr(robot):
            raise
        sided = TeleopRobot(
            robot.base,
            {side: name.replace("gripper0_", "gripper0_right_") for side, name in robot.frames.items()},
            {side: (a.replace("gripper0_", "gripper0_right_"), b.replace("gripper0_", "gripper0_right_"))
             for side, (a, b) in robot.fingers.items()},
        )  # fmt: skip
        try:
            return sided, ForwardKinematics(model, list(sided.frames.values()), base=sided.base)
        except ValueError:
            raise error from None


def resample(time_s: np.ndarray, q_SJ: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Joint values at a steady 20 Hz: times [N] from 0, the first state, and values [N, J], linear between states.

    Raises:
        ValueError: time that runs backwards, or a value that is not finite.
    """
    if not np.isfinite(time_s).all() or not np.isfinite(q_SJ).all():
        row = int(np.flatnonzero(~(np.isfinite(time_s) & np.isfinite(q_SJ).all(axis=1)))[0])
        raise ValueError(f"{where}: column 'states', row {row} is not finite; repair or drop that demonstration")
    if (np.diff(time_s) < 0).any():
        row = int(np.flatnonzero(np.diff(time_s) < 0)[0]) + 1
        raise ValueError(f"{where}: column 'states', row {row}: time runs backwards; cut the demonstration there")
    kept = np.concatenate([[True], np.diff(time_s) > 0])  # a repeated time is the same state stored twice
    count = int(np.floor((time_s[-1] - time_s[0]) * CONTROL_HZ + 1e-6)) + 1
    grid_s = np.arange(count) / CONTROL_HZ
    columns = [np.interp(grid_s, time_s[kept] - time_s[0], column) for column in q_SJ[kept].T]
    return grid_s, np.stack(columns, axis=1)


def _list_demos(file: Path) -> list[_Demo]:
    with open_hdf5(file) as archive:
        if "data" not in archive:
            raise ValueError(f"{file} has {sorted(archive)[:8]}; expected the group 'data' with demo_1, demo_2, ...")
        env, stated = _environment(archive["data"].attrs, file)
        keys = [key for key in archive["data"] if re.fullmatch(r"demo_\d+", key)]
        keys.sort(key=lambda key: int(key.removeprefix("demo_")))
    robot = _known(stated)
    if robot is None:
        raise ValueError(f"{file} is of robot {stated!r}; expected one of {sorted(ROBOTS)}")
    task = re.sub(f"^{robot}", "", env, flags=re.IGNORECASE)
    instruction = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", task).lower()  # the env's name is the only language there is
    return [_Demo(file, key, robot, instruction) for key in keys]


def holds_states(root: Path) -> bool:
    """Whether a folder with demo.hdf5 files is for this reader: robosuite's own recordings are simulator states, and
    what has observations beside them is in robomimic's layout."""
    first = next(iter(demo_files(root)), None)
    found = set() if first is None else vectors_in(first)
    return first is None or not found or ("obs" not in found and _knows_robot(first))


def _knows_robot(file: Path) -> bool:
    """Whether the robot of a file is one whose poses can be had from states."""
    with open_hdf5(file) as archive:
        return "data" in archive and _known(_environment(archive["data"].attrs, file)[1]) is not None


def _known(stated: str) -> str | None:
    return next((name for name in ROBOTS if stated.lower().startswith(name)), None)


def _environment(attributes: Any, file: Path) -> tuple[str, str]:
    """The task, and the robot: in `env_info` (1.0), `env_args` (1.4 and robomimic), or the task's name (0.3)."""
    stored = {key: str(attributes[key]) for key in ("env", "env_info", "env_args") if key in attributes}
    found = {}
    for key in ("env_info", "env_args"):
        if key in stored:
            try:
                found[key] = Fields(json.loads(stored[key]), f"{file}, data, {key}")
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{file}: the attribute {key!r} of data is no JSON object: {error}") from error
    args, info = (found.get(key, Fields({}, "")) for key in ("env_args", "env_info"))
    inner = args.inner("env_kwargs") if "env_kwargs" in args else info
    env = stored.get("env") or args.text("env_name", default="") or info.text("env_name", default="")
    robots = inner.texts("robots", "a robot's name, or a list of them", default=())
    if not env and not robots:
        raise ValueError(
            f"{file}: data has the attributes {sorted(attributes)[:8]}; expected 'env', 'env_info' or 'env_args'"
        )
    return env, "+".join(robots) or env


def _read_states(demo: _Demo) -> tuple[np.ndarray, Path | str]:
    """States [S, 1 + nq + nv] (time, qpos, qvel) and the model that they belong to: its path, or itself."""
    with open_hdf5(demo.file) as archive:
        group = archive["data"][demo.key]
        if "states" not in group or "model_file" not in group.attrs:
            raise ValueError(
                f"{demo.file}, {demo.key} lacks 'states' or 'model_file'; expected robosuite's own recording"
            )
        try:
            states = np.asarray(group["states"], dtype=np.float64)
        except OSError as error:
            raise ValueError(f"cannot read {demo.file}: {error}; it looks truncated, copy it again") from error
        model = str(group.attrs["model_file"])
        if model.lstrip().startswith("<"):
            return states, model
        return states, demo.file.parent / "models" / Path(model).name
