"""From the named columns of a data set to the channels of a layout. Names decide, never widths.

G1's state has 26 columns and `arms26` has 26 channels, and they have nothing to do with each other.

# N frames of the episode, W columns of one feature, D channels of the layout
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from typing import Protocol

import numpy as np
import torch

from xtok.actions.embodiments import NONE, Embodiment, Kinematics, find_robot_type, get_embodiment, unregistered_name
from xtok.actions.kinematics import ForwardKinematics, bundled_urdf
from xtok.actions.layout import ARMS26, JOINTS, Layout, get_layout
from xtok.actions.rotation import check_rotation6d, rotation6d_from_matrix
from xtok.data.episode import ActionSource
from xtok.data.features import ACTION, CHANNEL_VALID, STATE, Column, Feature
from xtok.data.mapping.column_names import repeated

CLOSE_MAX = 6  # names in one message
BY_NUMBER = "say by number which is meant, in a mapping (`xtok inspect` writes one)"

# The episode dict of the authors' library, and plain group names, as features of their own.
POSE_FEATURES: dict[str, str] = {
    **{
        f"follow_{side}_{theirs}": f"{side}_{ours}"
        for side in ("left", "right")
        for theirs, ours in (("ee_cartesian_pos", "position"), ("ee_rotation_6D", "rotation"), ("gripper", "gripper"))
    },
    "velocity_decomposed": "base_velocity",
    "height": "lift_height",
    "head_actions": "head",
    **{group: group for group in ARMS26.slices},
}


class ChannelMapping(Protocol):
    """Turns the arrays of one episode into channels. `features` says which arrays it wants."""

    @property
    def layout(self) -> Layout: ...

    @property
    def embodiment(self) -> str: ...

    @property
    def features(self) -> tuple[str, ...]: ...

    def __call__(self, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """arrays: feature -> float64 [N, W]. Returns absolute float32 [N, D] and mask bool [D]."""
        ...


@dataclass(frozen=True)
class NamedPoses:
    """Columns that are channels of `arms26` already, perhaps under the names of the authors' library."""

    embodiment: str
    columns: Mapping[int, Column]  # channel of arms26 -> column
    has_valid: bool = False
    layout: Layout = ARMS26

    @property
    def features(self) -> tuple[str, ...]:
        used = dict.fromkeys(column.feature for column in self.columns.values())
        return (*used, CHANNEL_VALID) if self.has_valid else tuple(used)

    def __call__(self, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        mask_D = np.zeros(self.layout.width, dtype=bool)
        absolute_ND = np.zeros((len(arrays[self.features[0]]), self.layout.width), dtype=np.float32)
        for channel, column in self.columns.items():
            absolute_ND[:, channel] = arrays[column.feature][:, column.index]
            mask_D[channel] = not self.has_valid or _constant_flag(arrays[CHANNEL_VALID][:, column.index])
        for _, channels in self.layout.of_kind("rotation6d"):
            if mask_D[channels].all():
                check_rotation6d(torch.from_numpy(absolute_ND[:, channels]))
        absolute_ND[:, ~mask_D] = 0.0
        return absolute_ND, mask_D


@dataclass(frozen=True)
class JointChannels:
    """Joint columns into joint.0, joint.1, ... as they are, gripper columns into gripper.0, ... on the 0..1 scale."""

    robot: Embodiment
    joints: tuple[Column, ...]
    grippers: tuple[Column, ...] = ()
    layout: Layout = JOINTS

    @property
    def embodiment(self) -> str:
        return self.robot.name

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(column.feature for column in (*self.joints, *self.grippers)))

    def __call__(self, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        absolute_ND = np.zeros((len(arrays[self.features[0]]), self.layout.width), dtype=np.float32)
        mask_D = np.zeros(self.layout.width, dtype=bool)
        for group, columns in (("joint", self.joints), ("gripper", self.grippers)):
            for channel, column in enumerate(columns, start=self.layout.slices[group].start):
                raw_N = arrays[column.feature][:, column.index]
                absolute_ND[:, channel] = self.robot.gripper_opening(raw_N) if group == "gripper" else raw_N
                mask_D[channel] = True
        return absolute_ND, mask_D


@dataclass(frozen=True)
class PosesByKinematics:
    """Joint columns into poses by forward kinematics; the gripper is the mean of a hand's channels on the 0..1 scale.

    A hand has many joints and `arms26` one gripper channel a side, so a scalar stands for the hand; which channels it
    averages is data, in the embodiment registry.
    """

    robot: Embodiment
    kinematics: Kinematics
    joints: Mapping[str, Column]  # joint of the URDF -> column
    hands: Mapping[str, tuple[Column, ...]]  # side -> columns
    layout: Layout = ARMS26

    @property
    def embodiment(self) -> str:
        return self.robot.name

    @property
    def features(self) -> tuple[str, ...]:
        fingers = [column for columns in self.hands.values() for column in columns]
        return tuple(dict.fromkeys(column.feature for column in (*self.joints.values(), *fingers)))

    @cached_property
    def _forward(self) -> ForwardKinematics:
        return ForwardKinematics(_urdf_text(self.kinematics.urdf), list(self.kinematics.frames.values()))

    def __call__(self, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        q_NJ = np.stack([arrays[column.feature][:, column.index] for column in self.joints.values()], axis=1)
        poses = self._forward(tuple(self.joints), q_NJ)
        absolute_ND = np.zeros((len(q_NJ), self.layout.width), dtype=np.float32)
        for frame, side in enumerate(self.kinematics.frames):
            write_arm(absolute_ND, side, poses.position_m[:, frame], poses.matrix[:, frame])
        for side, columns in self.hands.items():
            raw_N = np.mean([arrays[column.feature][:, column.index] for column in columns], axis=0)
            absolute_ND[:, self.layout.slices[f"{side}_gripper"]] = self.robot.gripper_opening(raw_N)[:, None]
        return absolute_ND, self.robot.mask(self.layout)


def write_arm(absolute_ND: np.ndarray, side: str, position_m: np.ndarray, matrix: np.ndarray) -> None:
    """Put one arm's positions [N, 3] and rotation matrices [N, 3, 3] into channels of `arms26`, in place."""
    absolute_ND[:, ARMS26.slices[f"{side}_position"]] = position_m
    absolute_ND[:, ARMS26.slices[f"{side}_rotation"]] = rotation6d_from_matrix(torch.from_numpy(matrix)).numpy()


def known_mapping(
    features: Mapping[str, Feature],
    robot_type: str,
    layout: str | None,
    embodiment: str | None,
    action_source: ActionSource = "achieved",
) -> ChannelMapping | None:
    """What names and the registry alone decide: poses if they give them (named so, or by kinematics), else joints; None
    where the columns have to be looked at (`data.mapping.propose`).

    layout: "arms26" or "joints" to insist on one. embodiment: a registry name to overrule robot_type. action_source:
    "commanded" takes the poses that `action` names in place of those of `observation.state`.

    Raises:
        ValueError: an embodiment that the set's columns do not fit, names that stand twice or cannot be read.
    """
    if action_source == "commanded":
        return _commanded_poses(features, robot_type, layout, embodiment)
    wanted = None if layout is None else get_layout(layout).name
    nameless = get_embodiment(unregistered_name(robot_type))
    robot = get_embodiment(embodiment) if embodiment is not None else find_robot_type(robot_type) or nameless
    candidates: list[NamedPoses | PosesByKinematics | JointChannels | None] = []
    if wanted in (None, "arms26"):
        candidates += [_named_poses(features, robot), _by_kinematics(features, robot)]
    if wanted in (None, "joints"):
        candidates.append(_registered_joints(features, robot))
    found = next((candidate for candidate in candidates if candidate is not None), None)
    if found is None and embodiment is not None and embodiment.split(":")[0] != NONE:
        raise ValueError(_does_not_fit(features, robot, wanted))
    return found


def _named_poses(features: Mapping[str, Feature], robot: Embodiment) -> NamedPoses | None:
    columns: dict[int, Column] = {}
    state = features.get(STATE)
    if state is not None and state.names and set(state.names) <= set(ARMS26.channel_names):
        if twice := repeated(state.names):
            raise ValueError(f"{STATE!r} has several columns called {twice[0]!r}; {BY_NUMBER}")
        columns = {ARMS26.channel_names.index(name): Column(STATE, i) for i, name in enumerate(state.names)}
    named = {name: name.removeprefix("observation.") for name in features}
    groups = {name: POSE_FEATURES[plain] for name, plain in named.items() if plain in POSE_FEATURES}
    if not columns and not {"left_position", "right_position"} & set(groups.values()):
        return None  # without an arm, a feature called "height" or "head" is somebody else's
    for name, group in groups.items():
        channels = range(ARMS26.width)[ARMS26.slices[group]]
        if features[name].width != len(channels):
            raise ValueError(f"feature {name!r} has {features[name].width} columns; {group!r} has {len(channels)}")
        columns |= {channel: Column(name, i) for i, channel in enumerate(channels)}
    for group, where in ARMS26.slices.items():
        present = [channel in columns for channel in range(where.start, where.stop)]
        if any(present) and not all(present):
            raise ValueError(f"group {group!r} of arms26 is named only in part; give all its {len(present)} channels")
    return NamedPoses(robot.name, dict(sorted(columns.items())), has_valid=CHANNEL_VALID in features)


def _commanded_poses(
    features: Mapping[str, Feature], robot_type: str, layout: str | None, embodiment: str | None
) -> ChannelMapping:
    action = features.get(ACTION)
    if layout not in (None, "arms26") or action is None or not set(action.names or ("",)) <= set(ARMS26.channel_names):
        found = None if action is None else list(action.names) if action.names else action.width
        raise ValueError(
            f"commanded goals are read where {ACTION!r} names channels of arms26 ({ARMS26.channel_names[10]!r}, ...); "
            f"the set has {found}, asked for as layout {layout!r}. Open it with action_source='achieved'"
        )
    mapping = known_mapping({STATE: action}, robot_type, layout, embodiment)
    assert isinstance(mapping, NamedPoses)  # all its names are channels of arms26
    return replace(mapping, columns={i: Column(ACTION, column.index) for i, column in mapping.columns.items()})


def _by_kinematics(features: Mapping[str, Feature], robot: Embodiment) -> PosesByKinematics | None:
    if robot.kinematics is None:
        return None
    joints = _find_columns(features, tuple(robot.kinematics.joints))
    hands = {side: _find_columns(features, channels) for side, channels in robot.kinematics.hands.items()}
    if joints is None or any(columns is None for columns in hands.values()):
        return None
    found = {side: columns for side, columns in hands.items() if columns is not None}
    by_joint = dict(zip(robot.kinematics.joints.values(), joints, strict=True))
    return PosesByKinematics(robot, robot.kinematics, by_joint, found)


def _registered_joints(features: Mapping[str, Feature], robot: Embodiment) -> JointChannels | None:
    joints = _find_columns(features, robot.joint_names)
    grippers = _find_columns(features, robot.gripper_names, sources=(STATE, ACTION))  # some are commanded only
    if not joints or grippers is None:
        return None
    return JointChannels(robot, joints, grippers)


def _find_columns(
    features: Mapping[str, Feature], names: Sequence[str], sources: Sequence[str] = (STATE,)
) -> tuple[Column, ...] | None:
    """Where each of `names` stands in the first source that has it; None unless all are found.

    Columns without names count as joint_0, joint_1, ..., but only if there are as many as asked for.

    Raises:
        ValueError: names in a form that cannot be read, or one of `names` that several columns have.
    """
    if not names:
        return ()
    found: dict[str, Column] = {}
    for source in reversed(sources):
        feature = features.get(source, Feature(0))
        if feature.unreadable:
            raise ValueError(f"{feature.unreadable}; or give a mapping that picks columns by number (docs/data.md)")
        if feature.names is not None:  # LeRobot's robots append ".pos" to what they measure
            plain = [name.removesuffix(".pos") for name in feature.names]
            for name in set(names) & set(repeated(plain)):
                raise ValueError(f"{source!r} has several columns called {name!r}; {BY_NUMBER}")
            found |= {name: Column(source, i) for i, name in enumerate(plain)}
        elif feature.width == len(names):
            found |= {f"joint_{i}": Column(source, i) for i in range(feature.width)}
    return tuple(found[name] for name in names) if all(name in found for name in names) else None


def _constant_flag(flags_N: np.ndarray) -> bool:
    if (flags_N != flags_N[0]).any():
        raise ValueError(f"{CHANNEL_VALID!r} changes within an episode; a channel is valid in all frames or in none")
    return bool(flags_N[0])


def _urdf_text(urdf: str) -> str:
    return bundled_urdf(urdf) if "/" not in urdf else urdf


def _does_not_fit(features: Mapping[str, Feature], robot: Embodiment, layout: str | None) -> str:
    wanted = [*robot.joint_names, *robot.gripper_names] or sorted(robot.pose_groups)
    named = [name.removesuffix(".pos") for feature in features.values() for name in feature.names or ()]
    close = sorted({hit for name in wanted for hit in get_close_matches(name, named, n=1)} - set(wanted))[:CLOSE_MAX]
    found = {name: feature.width for name, feature in features.items()}
    hint = f" (close to names of it: {', '.join(close)})" if close else ""
    target = f" in layout {layout!r}" if layout else ""
    return (
        f"embodiment {robot.name!r} does not fit the columns{target}: it wants {_short(wanted)}, the set has "
        f"{found}{hint}. Leave 'embodiment' out, or run `xtok inspect` on the folder and give the mapping that it "
        "writes"
    )


def _short(names: Sequence[str]) -> str:
    more = f" and {len(names) - CLOSE_MAX} more" if len(names) > CLOSE_MAX else ""
    return ", ".join(names[:CLOSE_MAX]) + more
