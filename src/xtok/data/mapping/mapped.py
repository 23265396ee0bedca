"""A mapping file held against a data set: its columns found, then turned into channels, every mistake named by its
line.

# N frames of the episode, W columns of one feature, D channels of the layout
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from xtok.actions.embodiments import (
    UNREGISTERED_PREFIX,
    Embodiment,
    find_robot_type,
    unregistered_name,
)
from xtok.actions.kinematics import ForwardKinematics, bundled_urdf
from xtok.actions.layout import ARMS26, JOINTS, Layout, get_layout
from xtok.data.episode import EpisodeDataset
from xtok.data.features import Column, Feature
from xtok.data.mapping.apply import map_source
from xtok.data.mapping.channels import write_arm
from xtok.data.mapping.file import Arm, Channels, Gripper, JointModel, MappingSpec, Picked
from xtok.data.mapping.rotation_forms import FORMS, rotation_matrices
from xtok.data.source import Source

REACH_MAX_M = 10.0  # no hand is farther from its robot's base; millimetres read as metres are
JOINT_MAX_RAD = 40.0  # six turns; degrees read as radians are beyond
OPENING_MIN, OPENING_MAX = -0.6, 1.6  # fingers overshoot their convention somewhat, a wrong convention does grossly


def open_mapped(source: Source, spec: MappingSpec, undecided: bool = False) -> EpisodeDataset:
    """Episodes of a source through a mapping file. undecided: even while questions of a proposal stand in it, to look.

    Raises:
        ValueError: the mapping names what the set does not have, by line; no rate, in neither; questions that are open.
    """
    if spec.undecided and not undecided:
        asked = "\n".join(f"  {question}" for question in spec.undecided)
        raise ValueError(
            f"{spec.undecided_where}: not decided yet:\n{asked}\nChoose between the readings in the file, then delete "
            "the questions there"
        )
    mapping = MappedChannels(spec, bind(spec, source), robot_of(spec, source))
    if spec.control_hz is None and source.control_hz is None:
        raise ValueError(f"{spec.where}: {source.name} states no control rate; add 'control_hz: ...'")
    units = {mapping.embodiment: unit} if (unit := joint_unit(spec)) else {}
    return map_source(source, mapping, spec.control_hz, spec.pose, action_sources=(spec.pose,), joint_units=units)


def joint_unit(spec: MappingSpec) -> str:
    """What the joints are in, once read: "rad", or "native" where any of them is; "" in a layout without joints."""
    units = {each.unit for each in spec.joints}
    return "" if not units else "native" if "native" in units else "rad"


def robot_of(spec: MappingSpec, source: Source) -> str:
    """Registry name of the robot: the mapping's, else as the set says. Where the registry does not know it, or not with
    these channels, "none:..."."""
    called = spec.embodiment or source.robot_type
    known = find_robot_type(called)
    if known is not None and (spec.embodiment or _has_channels(known, spec, source)):
        return known.name
    return called if called.startswith(UNREGISTERED_PREFIX) else unregistered_name(called)


def _has_channels(robot: Embodiment, spec: MappingSpec, source: Source) -> bool:
    if spec.layout == JOINTS.name:
        joints = sum(len(find_columns(channels.picked, source.features)) for channels in spec.joints)
        counts = (joints, len(spec.grippers)) == (len(robot.joint_names), len(robot.gripper_names))
        return counts and joint_unit(spec) == robot.joint_unit
    poses = {f"{side}_position" for side in (*spec.arms, *(spec.kinematics.frames if spec.kinematics else ()))}
    grippers = {f"{side}_gripper" for side, arm in spec.arms.items() if arm.gripper is not None}
    return poses | grippers | set(spec.scalars) <= set(robot.pose_groups)


def bind(spec: MappingSpec, source: Source) -> dict[Picked, tuple[Column, ...]]:
    """Every `from` of a mapping -> its columns in the set.

    Raises:
        ValueError: a feature or column that is not there, or another number of columns than the place wants, by line.
    """
    bound: dict[Picked, tuple[Column, ...]] = {}

    def take(picked: Picked, width: int | None, what: str) -> None:
        columns = find_columns(picked, source.features)
        if width is not None and len(columns) != width:
            raise ValueError(f"{picked.where}: {len(columns)} columns for {what}, which has {width}")
        bound[picked] = columns

    for side, arm in spec.arms.items():
        if arm.position is not None and arm.rotation is not None:
            take(arm.position.picked, 3, f"{side} position")
            take(arm.rotation.picked, FORMS[arm.rotation.form][0], f"a rotation of form {arm.rotation.form}")
        if arm.gripper is not None:
            take(arm.gripper.picked, None, "the gripper")
    for name, channels in spec.scalars.items():
        take(channels.picked, _width(ARMS26, name), name)
    if spec.kinematics is not None:
        take(spec.kinematics.joints.picked, len(spec.kinematics.names), "the joints that 'names' lists")
    for channels in spec.joints:
        take(channels.picked, None, "joints")
    for gripper in spec.grippers:
        take(gripper.picked, None, "a gripper")
    for group, parts in (("joint", [bound[each.picked] for each in spec.joints]), ("gripper", list(spec.grippers))):
        count = sum(map(len, parts)) if group == "joint" else len(parts)  # type: ignore[arg-type]
        if count > _width(JOINTS, group):
            raise ValueError(f"{spec.where}: {count} {group}s; layout 'joints' has room for {_width(JOINTS, group)}")
    return bound


def find_columns(picked: Picked, features: Mapping[str, Feature]) -> tuple[Column, ...]:
    """The columns that a `from` means.

    Raises:
        ValueError: no such feature or column, by line.
    """
    feature = features.get(picked.feature)
    if feature is None:
        raise ValueError(f"{picked.where}: the set has no feature {picked.feature!r}; it has {', '.join(features)}")
    if picked.columns is None:
        return tuple(Column(picked.feature, i) for i in range(feature.width))
    out: list[int] = []
    for column in picked.columns:
        if isinstance(column, str):
            if feature.names is None or column not in feature.names:
                names = f"its columns are {', '.join(feature.names)}" if feature.names else "its columns have no names"
                raise ValueError(f"{picked.where}: {picked.feature!r} has no column {column!r}; {names}")
            if feature.names.count(column) > 1:
                which = " and ".join(str(i) for i, name in enumerate(feature.names) if name == column)
                raise ValueError(
                    f"{picked.where}: {picked.feature!r} has several columns called {column!r} ({which}); say "
                    "which by number"
                )
            out.append(feature.names.index(column))
        else:
            found = column if isinstance(column, range) else range(column, column + 1)
            if found[-1] >= feature.width:
                raise ValueError(
                    f"{picked.where}: {picked.feature!r} has columns 0 to {feature.width - 1}, not {found[-1]}"
                )
            out += found
    return tuple(Column(picked.feature, i) for i in out)


@dataclass(frozen=True)
class MappedChannels:
    """The ChannelMapping of a mapping file."""

    spec: MappingSpec
    bound: Mapping[Picked, tuple[Column, ...]] = field(repr=False)
    embodiment: str

    @property
    def layout(self) -> Layout:
        return get_layout(self.spec.layout)

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(column.feature for columns in self.bound.values() for column in columns))

    def __call__(self, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        N = len(arrays[self.features[0]])
        absolute_ND = np.zeros((N, self.layout.width), dtype=np.float64)
        mask_D = np.zeros(self.layout.width, dtype=bool)

        def put(group: str, values: np.ndarray) -> None:
            channels = self.layout.slices[group]
            absolute_ND[:, channels], mask_D[channels] = values, True

        if self.spec.layout == JOINTS.name:
            self._joints(arrays, absolute_ND, mask_D)
        else:
            for side, (position_m, matrix) in self._poses(arrays).items():
                write_arm(absolute_ND, side, *_to_base(self.spec, position_m, matrix))
                mask_D[self.layout.slices[f"{side}_position"]] = mask_D[self.layout.slices[f"{side}_rotation"]] = True
            for side, arm in self.spec.arms.items():
                if arm.gripper is not None:
                    put(f"{side}_gripper", self._opening(arm.gripper, arrays)[:, None])
            for group, channels in self.spec.scalars.items():
                put(group, self._take(channels.picked, arrays) * channels.scale)
        return absolute_ND.astype(np.float32), mask_D

    def _joints(self, arrays: Mapping[str, np.ndarray], absolute_ND: np.ndarray, mask_D: np.ndarray) -> None:
        joints = [_joint_values(each, self._take(each.picked, arrays)) for each in self.spec.joints]
        grippers = [self._opening(each, arrays)[:, None] for each in self.spec.grippers]
        for group, parts in (("joint", joints), ("gripper", grippers)):
            if parts:
                values = np.concatenate(parts, axis=1)
                start = self.layout.slices[group].start
                absolute_ND[:, start : start + values.shape[1]] = values
                mask_D[start : start + values.shape[1]] = True

    def _poses(self, arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Side -> position_m [N, 3] and matrix [N, 3, 3], in the frame that the mapping names."""
        out: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        model = self.spec.kinematics
        if model is not None:
            q_NJ = _joint_values(model.joints, self._take(model.joints.picked, arrays))
            try:
                poses = self._forward(model.names, q_NJ)
            except ValueError as error:
                raise ValueError(f"{model.where}: {error}") from error
            for frame, side in enumerate(model.frames):
                out[side] = poses.position_m[:, frame], poses.matrix[:, frame]
        for side, arm in self.spec.arms.items():
            if arm.position is not None:
                out[side] = self._stored_pose(arm, arrays)
        return out

    def _stored_pose(self, arm: Arm, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        position, rotation = arm.position, arm.rotation
        assert position is not None and rotation is not None
        position_m = self._take(position.picked, arrays) * position.scale
        farthest_m = float(np.abs(position_m).max(initial=0.0))
        if farthest_m > REACH_MAX_M:
            raise ValueError(
                f"{position.picked.where}: a hand {farthest_m:.0f} m from the base, read as {position.unit}; check "
                "'unit' and 'from'"
            )
        values = self._take(rotation.picked, arrays)
        try:
            return position_m, rotation_matrices(values, rotation.form, rotation.order, rotation.scale)
        except ValueError as error:
            raise ValueError(f"{rotation.picked.where}: {error}") from error

    def _opening(self, gripper: Gripper, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        raw_N = self._take(gripper.picked, arrays).mean(axis=1)
        opening_N = (raw_N - gripper.closed) / (gripper.open - gripper.closed)
        low, high = float(opening_N.min(initial=0.0)), float(opening_N.max(initial=0.0))
        if low < OPENING_MIN or high > OPENING_MAX:
            raise ValueError(
                f"{gripper.picked.where}: raw values {raw_N.min():.4g} to {raw_N.max():.4g} go far beyond closed "
                f"{gripper.closed:g} and open {gripper.open:g}; check both"
            )
        return opening_N

    def _take(self, picked: Picked, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """[N, W] of the columns that a `from` means."""
        columns = self.bound[picked]
        return np.stack([arrays[column.feature][:, column.index] for column in columns], axis=1)

    @cached_property
    def _forward(self) -> ForwardKinematics:
        model = self.spec.kinematics
        assert model is not None
        return load_model(model, self.spec)


def load_model(model: JointModel, spec: MappingSpec) -> ForwardKinematics:
    """A URDF that ships, or one beside the mapping file."""
    try:
        path = spec.folder / model.urdf
        text = path if path.is_file() else bundled_urdf(model.urdf)
        return ForwardKinematics(text, list(model.frames.values()), base=model.base)
    except (ValueError, OSError) as error:
        raise ValueError(f"{model.where}: {error}") from error


def _joint_values(channels: Channels, values: np.ndarray) -> np.ndarray:
    scaled = values * channels.scale
    largest = float(np.abs(scaled).max(initial=0.0))
    if channels.unit != "native" and largest > JOINT_MAX_RAD:
        raise ValueError(
            f"{channels.picked.where}: a joint at {largest:.0f} rad, read as {channels.unit}; is it deg, or native?"
        )
    return scaled


def _to_base(spec: MappingSpec, position_m: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From the frame of the data to that of the robot's base, where the mapping says how it stands there."""
    frame = spec.frame
    if frame.position_m is None or frame.matrix is None:
        return position_m, matrix
    return (position_m - frame.position_m) @ frame.matrix, frame.matrix.T @ matrix


def _width(layout: Layout, group: str) -> int:
    return layout.slices[group].stop - layout.slices[group].start
