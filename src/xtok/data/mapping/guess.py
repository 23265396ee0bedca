"""A reading of a data set by the names of its columns, tested on its numbers, with every doubt told beside it."""

from __future__ import annotations

import re
from dataclasses import replace

from xtok.data.features import Column
from xtok.data.inspect.survey import WIDTH_MAX, FeatureSurvey, Survey, is_action
from xtok.data.mapping.column_names import Name, read_names, repeated
from xtok.data.mapping.evidence import follows_columns
from xtok.data.mapping.guess_joints import guess_joints
from xtok.data.mapping.guess_poses import guess_poses
from xtok.data.mapping.guess_types import Doubt, Guess, Looked

_NO_MOTION = re.compile(r"annotation|next[./]|language")


def guess(survey: Survey, layout: str | None) -> Guess:
    """Poses where names or numbers show them, else joints.

    Raises:
        ValueError: neither is to be seen, or not in the layout asked for.
    """
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
