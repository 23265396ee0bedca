"""Which columns of a set each channel comes from, by the set's own names: what people know their robot by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xtok.data.episode import EpisodeDataset
from xtok.data.features import Column, Feature
from xtok.data.mapping.apply import MappedEpisodes
from xtok.data.mapping.channels import JointChannels, NamedPoses, PosesByKinematics
from xtok.data.mapping.mapped import MappedChannels


def channel_sources(dataset: EpisodeDataset) -> dict[str, tuple[str, ...]]:
    """Group of the layout -> names of the columns that it is made of, in order; of "joint" and "gripper" one a channel.

    Empty where the reader makes the channels itself (robosuite, a packed corpus).
    """
    load = dataset.load
    if not isinstance(load, MappedEpisodes):
        return {}
    mapping = load.mapping
    groups: dict[str, Sequence[Column]] = {}
    if isinstance(mapping, MappedChannels):
        return _of_spec(mapping, load.source.features)
    if isinstance(mapping, JointChannels):
        groups = {"joint": mapping.joints, "gripper": mapping.grippers}
    elif isinstance(mapping, NamedPoses):
        for group, where in mapping.layout.slices.items():
            groups[group] = [mapping.columns[i] for i in range(where.start, where.stop) if i in mapping.columns]
    elif isinstance(mapping, PosesByKinematics):
        joints = list(mapping.joints.values())
        for side, columns in mapping.hands.items():
            groups |= {f"{side}_position": joints, f"{side}_rotation": joints, f"{side}_gripper": columns}
    return {group: _named(columns, load.source.features) for group, columns in groups.items() if columns}


def _of_spec(mapping: MappedChannels, features: Mapping[str, Feature]) -> dict[str, tuple[str, ...]]:
    spec, bound = mapping.spec, mapping.bound
    out: dict[str, tuple[str, ...]] = {}
    for side, arm in spec.arms.items():
        for kind, part in (("position", arm.position), ("rotation", arm.rotation), ("gripper", arm.gripper)):
            if part is not None:
                out[f"{side}_{kind}"] = _named(bound[part.picked], features)
    if spec.kinematics is not None:
        joints = _named(bound[spec.kinematics.joints.picked], features)
        for side in spec.kinematics.frames:
            out |= {f"{side}_position": joints, f"{side}_rotation": joints}
    out |= {name: _named(bound[channels.picked], features) for name, channels in spec.scalars.items()}
    joints = tuple(name for channels in spec.joints for name in _named(bound[channels.picked], features))
    grippers = tuple(", ".join(_named(bound[gripper.picked], features)) for gripper in spec.grippers)
    return out | ({"joint": joints} if joints else {}) | ({"gripper": grippers} if grippers else {})


def _named(columns: Sequence[Column], features: Mapping[str, Feature]) -> tuple[str, ...]:
    """The name of each column, or where it stands."""

    def name(column: Column) -> str:
        names = features[column.feature].names
        return names[column.index] if names else f"{column.feature}[{column.index}]"

    return tuple(map(name, columns))
