"""A mapping file to begin with: what ships or the registry knows, else a reading of names and numbers with its doubts.

# W columns of a feature
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from xtok.actions.embodiments import find_robot_type, unregistered_name
from xtok.data.features import ACTION, CHANNEL_VALID, STATE, Column
from xtok.data.inspect.survey import Survey
from xtok.data.mapping.channels import JointChannels, NamedPoses, PosesByKinematics, known_mapping
from xtok.data.mapping.file import MappingSpec, parse_mapping, read_mapping
from xtok.data.mapping.guess import guess
from xtok.data.mapping.guess_types import Doubt, questions_of
from xtok.data.mapping.mapped import MappedChannels, bind
from xtok.data.mapping.propose_text import guessed_text, joints_text, kinematics_text, named_text
from xtok.data.mapping.shipped import shipped_mapping
from xtok.data.mapping.yaml_lines import parse_yaml


@dataclass(frozen=True)
class Proposal:
    """text: the YAML, None where the set says all that is needed itself. reasons: why it looks as it does. doubts: what
    nobody but the maker of the set can decide; guessed: whether names and numbers had to be read at all.
    """

    text: str | None
    reasons: tuple[str, ...]
    guessed: bool = False
    doubts: tuple[Doubt, ...] = field(default=())

    @property
    def questions(self) -> tuple[str, ...]:
        """What has to be answered before the mapping may be used."""
        return tuple(text for text, _ in questions_of(self.doubts))

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not sure either and does no harm while nobody answers."""
        return tuple(doubt.text for doubt in self.doubts if doubt.safe)

    def spec(self, name: str) -> MappingSpec:
        assert self.text is not None
        return parse_mapping(parse_yaml(self.text, name), Path())


def propose(looked: Survey, layout: str | None = None) -> Proposal:
    """A mapping for a set that was surveyed. layout: "arms26" or "joints" to insist on one.

    Raises:
        ValueError: nothing in the set looks like poses or joints.
    """
    source = looked.source
    if CHANNEL_VALID in source.features:
        return Proposal(None, ("its features are named as xtok names channels, so no mapping is needed",))
    shipped = shipped_mapping(source, layout)
    if shipped is not None and _binds(shipped, looked):
        return Proposal(
            shipped.read_text(encoding="utf-8"), (f"{source.format} of {source.robot_type!r}: this mapping ships",)
        )
    known = _known(looked, layout)
    if known is not None:
        return known
    found = guess(looked, layout)
    # A name of the registry on columns that are not its own would take that robot's statistics
    robot = unregistered_name(source.robot_type) if find_robot_type(source.robot_type) else None
    doubts = list(found.doubts)
    hz = None
    if not source.control_hz:
        hz = looked.measured_hz or 10.0
        told = f"time stamps say {hz:.4g}" if looked.measured_hz else "nothing says it, 10 stands in its place"
        doubts.append(Doubt("control_hz", f"at how many Hz was this recorded? The files state no rate ({told})"))
    text = guessed_text(replace(found, doubts=tuple(doubts)), robot, hz)
    if failure := _cannot_read(text, looked):
        doubts.insert(0, Doubt("layout", f"which columns are it? Read as proposed, {failure}"))
        text = guessed_text(replace(found, doubts=tuple(doubts)), robot, hz)
    return Proposal(text, found.reasons, True, tuple(doubts))


def _cannot_read(text: str, looked: Survey) -> str:
    """Why not one of the episodes looked at can be read so, "" where one can."""
    spec = parse_mapping(parse_yaml(text, "the proposal"), Path())
    mapping = MappedChannels(spec, bind(spec, looked.source), "")
    failure = ""
    for raw in looked.episodes:
        try:
            mapping(raw.arrays)
        except ValueError as error:
            failure = failure or str(error)
        else:
            return ""
    return failure


def _binds(path: Path, looked: Survey) -> bool:
    try:
        bind(read_mapping(path), looked.source)
    except ValueError:
        return False
    return True


def _known(looked: Survey, layout: str | None) -> Proposal | None:
    """What the registry or the names of the channels say, written out; None where the columns have to be looked at."""
    source = looked.source
    try:
        mapping = known_mapping(source.features, source.robot_type, layout, None)
    except ValueError:  # names that stand twice, or cannot be read
        return None
    if mapping is None:
        return _known_commands(looked, layout)
    if isinstance(mapping, NamedPoses):
        return Proposal(named_text(mapping), ("its columns are named as channels of arms26",))
    if isinstance(mapping, PosesByKinematics):
        why = f"the registry knows {source.robot_type!r} as {mapping.embodiment!r}, with a URDF that gives poses"
        return Proposal(kinematics_text(mapping), (why, mapping.robot.note))
    assert isinstance(mapping, JointChannels)  # there is no fourth kind
    why = f"the registry knows {source.robot_type!r} as {mapping.embodiment!r} and its joints by name"
    return Proposal(joints_text(mapping), (why, mapping.robot.note))


def _known_commands(looked: Survey, layout: str | None) -> Proposal | None:
    """The same of a set that has an action and no state."""
    source = looked.source
    if ACTION not in source.features or STATE in source.features:
        return None
    try:
        mapping = known_mapping({STATE: source.features[ACTION]}, source.robot_type, layout, None)
    except ValueError:
        return None
    if not isinstance(mapping, JointChannels):
        return None
    joints = tuple(Column(ACTION, column.index) for column in mapping.joints)
    why = f"the registry knows {source.robot_type!r} as {mapping.embodiment!r}; the set has commands only"
    return Proposal(joints_text(replace(mapping, joints=joints, grippers=())), (why, mapping.robot.note))
