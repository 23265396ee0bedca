"""A set without a mapping: opened as names and the registry say, else through a proposal that leaves no question.

A proposal with an open question is never used by itself: the error asks it and says which line answers it.
"""

from __future__ import annotations

import shlex
import warnings
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from xtok.actions.embodiments import UNREGISTERED_PREFIX, embodiment_names, find_robot_type
from xtok.data.episode import SKIP_BAD, ActionSource, EpisodeDataset
from xtok.data.features import ACTION, STATE
from xtok.data.hub import is_snapshot
from xtok.data.inspect.survey import EPISODES, Unreadable, survey
from xtok.data.mapping.apply import map_source
from xtok.data.mapping.channels import known_mapping
from xtok.data.mapping.file import MappingSpec, read_mapping
from xtok.data.mapping.mapped import joint_unit, open_mapped
from xtok.data.mapping.propose import propose
from xtok.data.mapping.shipped import shipped_mapping
from xtok.data.source import Source

HUB_EPISODES = 5


def open_by_names(
    source: Source,
    root: Path,
    layout: str | None,
    embodiment: str | None,
    action_source: ActionSource = "achieved",
    action_sources: tuple[ActionSource, ...] = ("achieved",),
) -> EpisodeDataset:
    """Episodes of a source. See `open_dataset` for layout, embodiment, action_source. root: the folder, for messages.

    Raises:
        ValueError: names of columns that cannot be read, columns that nothing maps, or whose mapping leaves a
            question open; how to go on.

    Warns:
        with one line, where a proposal is used.
    """
    for name in (STATE, ACTION):
        if name in source.features and source.features[name].unreadable:
            raise ValueError(f"{source.features[name].unreadable}, since as they are the names cannot be read")
    mapping = known_mapping(source.features, source.robot_type, layout, embodiment, action_source)
    if mapping is None:
        return open_proposed(source, root, layout, embodiment)
    return map_source(source, mapping, action_source=action_source, action_sources=action_sources)


def open_shipped(source: Source, root: Path, layout: str | None, embodiment: str | None) -> EpisodeDataset:
    """Through the mapping that ships for the set, else as `open_proposed`."""
    path = shipped_mapping(source, layout)
    if path is None:
        return open_proposed(source, root, layout, embodiment)
    spec = read_mapping(path)
    return open_mapped(source, replace(spec, embodiment=embodiment) if embodiment else spec)


def open_proposed(
    source: Source,
    root: Path,
    layout: str | None,
    embodiment: str | None,
) -> EpisodeDataset:
    """Through the mapping that `xtok inspect` would write, if it asks nothing."""
    folder = shlex.quote(str(root))
    try:
        few = HUB_EPISODES if is_snapshot(root) else EPISODES  # each of the hub's is a download
        proposal = propose(survey(source, few, pictures=False), layout)
    except Unreadable as error:  # what is wrong is not the mapping
        raise ValueError(f"{error}; {SKIP_BAD}") from error
    except ValueError as error:
        raise ValueError(f"{_unknown(source)}, and no mapping can be proposed: {error}") from error
    if proposal.questions or proposal.text is None:
        asked = "\n".join(f"  {k}. {text}" for k, text in enumerate(proposal.questions, start=1))
        yaml = f"out/inspect/{source.name}.yaml"
        raise ValueError(
            f"{_unknown(source)}, and its columns leave open:\n{asked}\nTo go on, run `xtok inspect {folder}`, answer "
            f"that in the mapping it writes, and give the mapping in place of the folder: open_dataset({yaml!r}), or "
            f"`xtok ... {shlex.quote(yaml)}`"
        )
    spec = proposal.spec(f"the mapping proposed for {source.name}")
    if embodiment is not None and embodiment.startswith(UNREGISTERED_PREFIX):
        spec = replace(spec, embodiment=embodiment)
    dataset = open_mapped(source, spec)
    known = find_robot_type(source.robot_type) is not None
    kept = f" ({len(proposal.notes)} remarks on what is not sure stand there)" if proposal.notes else ""
    warnings.warn(
        f"{source.name}: robot {source.robot_type!r} is {'known with other channels' if known else 'not registered'}; "
        f"its columns were read by their names as {_summary(spec, dataset)}. `xtok inspect {folder}` shows the "
        f"mapping{kept}",
        stacklevel=2,
    )
    return dataset


def _unknown(source: Source) -> str:
    """What is known of the robot's name, with names that are close to it."""
    where = " (meta/info.json)" if source.format.startswith("LeRobot") else ""
    if find_robot_type(source.robot_type) is not None:
        return (
            f"{source.name}{where}: the registry knows robot_type {source.robot_type!r} with other channels than these"
        )
    close = get_close_matches(source.robot_type, embodiment_names(), n=3, cutoff=0.7)
    hint = f" (if it is one of {', '.join(close)}, embodiment= or --embodiment says so)" if close else ""
    return f"{source.name}{where}: cannot map robot_type {source.robot_type!r} by itself{hint}: nobody registered it"


def _summary(spec: MappingSpec, dataset: EpisodeDataset) -> str:
    if spec.layout == "joints":
        unit = joint_unit(spec)
        hands = f" and {len(spec.grippers)} grippers" if spec.grippers else ""
        return f"joints ({'rad' if unit == 'rad' else 'in native units, as they are'}){hands}"
    hands = " with gripper" if all(arm.gripper is not None for arm in spec.arms.values()) else ""
    return f"poses of {' and '.join(f'the {side} hand' for side in spec.arms)}{hands}, {spec.pose}"
