"""A reading of a data set by the names of its columns, tested on its numbers, with every doubt told beside it.

# N frames of all episodes looked at, W columns of a feature
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from xtok.data.inspect.survey import WIDTH_MAX, FeatureSurvey, Survey, is_action
from xtok.data.mapping.channels import Column
from xtok.data.mapping.column_names import Name, read_names, repeated
from xtok.data.mapping.evidence import follows_columns
from xtok.data.mapping.text import Opening, Turned

_NO_MOTION = re.compile(r"annotation|next[./]|language")


@dataclass(frozen=True)
class Doubt:
    """What neither names nor numbers decide.

    place: the line of the mapping that it is about ("right.gripper", "joints", "layout", "sides"). text: what was seen
    and what has to be decided. others: the lines of the mapping in the other readings, one a reading or, for a whole
    mapping, all of it. safe: the reading in use claims nothing and loses nothing, so that it may be used while nobody
    has decided. alike, subject: doubts that are alike are one question, of all their subjects.
    """

    place: str
    text: str
    others: tuple[str, ...] = ()
    safe: bool = False
    alike: str = ""
    subject: str = ""


@dataclass(frozen=True)
class GuessedArm:
    position: tuple[Column, ...]
    position_unit: str
    rotation: Turned
    gripper: Opening | None = None


@dataclass
class Guess:
    """What a mapping would say, why, and what is open."""

    layout: str
    arms: dict[str, GuessedArm] = field(default_factory=dict)
    joints: tuple[tuple[tuple[Column, ...], str], ...] = ()  # columns and their unit
    grippers: tuple[Opening, ...] = ()
    commanded: bool = False
    reasons: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()


@dataclass(frozen=True)
class Looked:
    """A survey with what its names say. measured, commanded: features that may hold motion."""

    survey: Survey = field(repr=False)
    names: dict[tuple[str, int], Name]
    measured: tuple[FeatureSurvey, ...]
    commanded: tuple[FeatureSurvey, ...]
    reasons: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()

    @property
    def hz(self) -> float:
        """Stated, else measured, else a rate that speeds are judged with."""
        return self.survey.source.control_hz or self.survey.measured_hz or 10.0

    def name(self, column: Column) -> Name:
        return self.names[column.feature, column.index]

    def called(self, column: Column) -> str:
        """The column for people: its name, else feature[index]."""
        feature = self.survey.features[column.feature]
        return feature.names[column.index] if feature.names else f"{column.feature}[{column.index}]"

    def values(self, columns: Sequence[Column]) -> list[np.ndarray]:
        """[N, W] of some columns, an episode each."""
        return [np.stack([raw.arrays[c.feature][:, c.index] for c in columns], axis=1) for raw in self.survey.episodes]

    def largest(self, columns: Sequence[Column]) -> float:
        return max(float(np.abs(each).max()) for each in self.values(columns))

    def columns(self, commanded: bool) -> list[Column]:
        return [Column(f.name, i) for f in (self.commanded if commanded else self.measured) for i in range(f.width)]


def questions_of(doubts: Sequence[Doubt]) -> list[tuple[str, tuple[Doubt, ...]]]:
    """What has to be asked, each question with the doubts that it answers."""
    out: list[tuple[str, tuple[Doubt, ...]]] = []
    for doubt in (doubt for doubt in doubts if not doubt.safe):
        same = tuple(d for d in doubts if not d.safe and d.alike == doubt.alike) if doubt.alike else (doubt,)
        if same[0] is doubt:
            more = " and ".join(d.subject for d in same[1:])
            text = doubt.text if doubt.text[-1] in ".?" else f"{doubt.text}."
            out.append((f"{text} The same of {more}." if more else text, same))
    return out


def guess(survey: Survey, layout: str | None) -> Guess:
    """Poses where names or numbers show them, else joints.

    Raises:
        ValueError: neither is to be seen, or not in the layout asked for.
    """
    from xtok.data.mapping.guess_joints import guess_joints
    from xtok.data.mapping.guess_poses import guess_poses

    looked = look(survey)
    rejected: list[str] = []
    found = None if layout == "joints" else guess_poses(looked, rejected)
    if found is None and layout != "arms26":
        found = guess_joints(looked, asked_for=layout == "joints")
    if found is None:
        seen = {name: list(f.names) if f.names else f.width for name, f in survey.features.items()}
        open_ones = "".join(f"; {text}" for text in [*(doubt.text for doubt in looked.doubts), *rejected])
        raise ValueError(
            f"nothing in {survey.source.name} looks like {'poses' if layout == 'arms26' else 'poses or joints'}; it "
            f"has {seen}{open_ones}. Write a mapping by hand (docs/data.md)"
        )
    jointed = any(looked.name(column).role == "joint" for columns, _ in found.joints for column in columns)
    broken = tuple(Doubt("layout", text, safe=jointed) for text in rejected)
    used = {column.feature for column in _columns(found)}
    named = tuple(doubt for doubt in looked.doubts if doubt.subject in used)
    return replace(found, reasons=(*looked.reasons, *found.reasons), doubts=(*named, *broken, *found.doubts))


def _columns(found: Guess) -> list[Column]:
    """Every column that a reading uses."""
    groups = [columns for columns, _ in found.joints] + [gripper.columns for gripper in found.grippers]
    for arm in found.arms.values():
        groups += [arm.position, arm.rotation.columns, *([arm.gripper.columns] if arm.gripper else [])]
    return [column for group in groups for column in group]


def look(survey: Survey) -> Looked:
    """Read all names. A state without names takes those of an action of its width that it follows column by column."""
    usable = [f for f in survey.features.values() if f.width <= WIDTH_MAX and not _NO_MOTION.match(f.name)]
    measured = [f for f in usable if not is_action(f.name)]
    commanded = [f for f in usable if is_action(f.name)]
    reasons: list[str] = []
    doubts = [doubt for f in usable for doubt in _name_doubts(survey, f)]
    lent: dict[str, tuple[str, ...]] = {}
    for feature in (f for f in measured if f.names is None):
        for action in (f for f in commanded if f.names is not None and f.width == feature.width):
            if follows_columns(survey.arrays(feature.name), survey.arrays(action.name)):
                lent[feature.name] = action.names or ()
                reasons.append(
                    f"{feature.name} has no names and follows {action.name} column by column, so it has its names"
                )
                break
    names: dict[tuple[str, int], Name] = {}
    for some, asked in ((measured, False), (commanded, True)):
        names |= read_names({f.name: f.names or lent.get(f.name) or f.width for f in some}, asked)
    return Looked(survey, names, tuple(measured), tuple(commanded), tuple(reasons), tuple(doubts))


def _name_doubts(survey: Survey, feature: FeatureSurvey) -> list[Doubt]:
    declared = survey.source.features[feature.name]
    if declared.unreadable:
        text = f"which column of {feature.name} is which? Its names cannot be read: {declared.unreadable}"
        return [Doubt("names", text, subject=feature.name)]
    twice = repeated(feature.names or ())
    if not twice:
        return []
    where = ", ".join(
        f"{name!r} (columns {' and '.join(str(i) for i, each in enumerate(feature.names or ()) if each == name)})"
        for name in twice
    )
    return [
        Doubt(
            "names",
            f"{feature.name} has several columns of one name: {where}; which is which? Say it by number",
            subject=feature.name,
        )
    ]
