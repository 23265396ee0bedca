"""Episodes of a source through a mapping.

# N frames of the episode, D channels of a layout
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from xtok.actions.embodiments import Embodiment
from xtok.data.episode import ActionSource, Episode, EpisodeDataset, robot_called
from xtok.data.mapping.channels import ChannelMapping
from xtok.data.order import Remark, rate_remark
from xtok.data.source import Source


def map_source(
    source: Source,
    mapping: ChannelMapping,
    control_hz: float | None = None,
    action_source: ActionSource = "achieved",
    embodiments: tuple[str, ...] = (),
    joint_units: Mapping[str, str] | None = None,
    action_sources: tuple[ActionSource, ...] = ("achieved",),
) -> EpisodeDataset:
    """Episodes of a source through a mapping. control_hz: where the set has none, or to overrule it. joint_units: robot
    -> what the mapping says that its joints are in.

    Raises:
        ValueError: no rate known; when an episode is read, columns that the mapping cannot take.
    """
    hz = control_hz or source.control_hz
    if hz is None:
        raise ValueError(
            f"{source.name} states no control rate; give control_hz in a mapping (`xtok inspect` writes one)"
        )

    names = embodiments or (mapping.embodiment,)
    robots = tuple(map(robot_called, names))
    return EpisodeDataset(
        source.name,
        mapping.layout,
        names,
        hz,
        source.episode_indices,
        MappedEpisodes(source, mapping, hz, action_source, joint_units or {}, robots),
        broken=source.broken,
        remarks=tuple(remark.text for remark in source.contradictions),
        joint_units=joint_units or {},
        robots=robots,
        held_out_tasks=source.held_out_tasks,
        held_out_robot=source.held_out_robot,
        action_sources=action_sources,
    )


class MappedEpisodes:
    """Position -> episode of a source through a mapping. Oddities are told, each kind once."""

    def __init__(
        self,
        source: Source,
        mapping: ChannelMapping,
        control_hz: float,
        action_source: ActionSource,
        joint_units: Mapping[str, str],
        robots: Sequence[Embodiment],
    ) -> None:
        self.source, self.mapping, self.control_hz, self.action_source = source, mapping, control_hz, action_source
        self.joint_units = joint_units
        self.robots = {robot.name: robot for robot in robots}
        self._told: set[str] = set()

    def __call__(self, position: int) -> Episode:
        source, mapping, hz = self.source, self.mapping, self.control_hz
        raw = source.read_episode(position, mapping.features)
        try:
            absolute_ND, mask_D = mapping(raw.arrays)
        except ValueError as error:
            raise ValueError(f"{source.name}, episode {raw.index}: {error}") from error
        off = None if raw.timestamps_s is None else rate_remark(raw.timestamps_s, hz)
        for remark in (*raw.remarks, *([off] if off else [])):
            self._tell(remark, raw.index)
        robot = raw.embodiment or mapping.embodiment
        nominal_s = np.arange(len(absolute_ND)) / hz
        return Episode(
            absolute_ND=absolute_ND,
            layout=mapping.layout,
            mask_D=mask_D,
            embodiment=robot,
            control_hz=hz,
            instruction=raw.instruction,
            dataset=source.name,
            index=raw.index,
            timestamps_s=nominal_s if raw.timestamps_s is None else raw.timestamps_s,
            action_source=self.action_source,
            subtasks=raw.subtasks,
            videos=raw.videos,
            task=raw.task,
            wordings=raw.wordings,
            joint_unit=self.joint_units.get(robot, ""),
            robot=self.robots[robot],
        )

    def _tell(self, remark: Remark, index: int) -> None:
        if remark.kind not in self._told:
            self._told.add(remark.kind)
            warnings.warn(
                f"{self.source.name}, episode {index}: {remark.text} (told once; others may be alike)", stacklevel=4
            )
