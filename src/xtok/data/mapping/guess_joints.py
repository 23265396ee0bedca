"""Which columns are joints: everything that a set measures of its robot's motion, as it is, where there are no poses.

Values are taken as they stand, so a proposal of joints loses nothing: what is doubtful (a unit, the ends of a gripper)
is left unclaimed and told, not guessed.

# N frames of an episode, W columns of a feature
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from xtok.actions.layout import JOINTS
from xtok.data.features import Column
from xtok.data.mapping import evidence
from xtok.data.mapping.column_names import bare
from xtok.data.mapping.guess_grippers import guess_gripper
from xtok.data.mapping.guess_types import Doubt, Guess, Looked
from xtok.data.mapping.text import Opening, gripper_value, joint_values

JOINTS_MAX = JOINTS.slices["joint"].stop
GRIPPERS_MAX = JOINTS.width - JOINTS_MAX
_POSE_ROLES = ("position", "quaternion", "6d", "matrix", "euler", "axis_angle", "turn", "rotation", "pose")
_POSE_WIDTHS = (6, 7, 8, 12, 13, 14, 16)  # of one arm or two, with grippers or without
_TURN = 2 * np.pi + 0.1
_NORMALISED = 1.05  # what stays within it can be -1..1 of a calibration as well as radians


def guess_joints(looked: Looked, asked_for: bool = False) -> Guess | None:
    """The measured columns that are joints; those of an action if nothing is measured. asked_for: whoever asks has said
    that these are joints.
    """
    for commanded in (False, True):
        reasons: list[str] = []
        doubts: list[Doubt] = []
        columns = _motion(looked, commanded, reasons)
        if not columns:
            continue
        reasons.insert(
            0,
            f"{_few(looked, columns)}: {'measured' if not commanded else 'commanded'} motion that makes no pose, "
            "so joints",
        )
        grippers, hands = _grippers(looked, columns, commanded, reasons)
        rest = [c for c in columns if c not in {c for g in grippers for c in g.columns}]
        groups = _with_units(looked, rest, reasons, doubts)
        for column in hands:
            hand = guess_gripper(looked, [column], "grippers")
            if hand.opening is not None:
                turned = Opening(hand.opening.columns, hand.opening.open, hand.opening.closed)
                text = f"{hand.doubts[-1].text}. Kept among the joints as it is; to have it as a gripper, say so"
                lines = tuple(f"grippers: {gripper_value(each)}" for each in (hand.opening, turned))
                doubts.append(Doubt("grippers", text, lines, safe=True))
        if not asked_for:
            doubts += _perhaps_poses(looked, columns)
        if commanded:
            reasons.append("the set measures nothing, so these are commands")
        return Guess(
            "joints",
            joints=groups,
            grippers=tuple(grippers),
            commanded=commanded,
            reasons=tuple(reasons),
            doubts=tuple(doubts),
        )
    return None


def _motion(looked: Looked, commanded: bool, reasons: list[str]) -> list[Column]:
    """Columns to code, in the order of the set, and why others are left out.

    Raises:
        ValueError: more of them than the layout has room for.
    """
    features = looked.commanded if commanded else looked.measured
    by_feature = {f.name: [Column(f.name, i) for i in range(f.width)] for f in features}
    role = {column: looked.name(column).role for columns in by_feature.values() for column in columns}
    jointed = any(each == "joint" for each in role.values())
    out: list[Column] = []
    for name, columns in by_feature.items():
        kinds = {role[column] for column in columns}
        is_state = name.replace("/", ".").split(".")[-1] in (
            "state",
            "qpos",
            "action",
            "actions",
            "joint_state",
            "joint_states",
        )
        if not (kinds & {"joint", "gripper"} or is_state or (not jointed and len(features) == 1)):
            reasons.append(f"{name} [{len(columns)}]: left out, it names no joints")
            continue
        kept = [c for c in columns if _keeps(looked, c, columns, jointed)]
        new = [column for column in kept if not _again(looked, column, out)]
        left = [column for column in columns if column not in kept]
        if left:
            reasons.append(f"{name}: left out, as no place of a joint: {_few(looked, left)}")
        if len(new) < len(kept):
            reasons.append(f"{name}: {len(kept) - len(new)} columns repeat columns taken before")
        out += new
    if not any(role[column] in ("joint", "number", "other") or role[column] in _POSE_ROLES for column in out):
        return []
    if len(out) > JOINTS_MAX:
        raise ValueError(
            f"{looked.survey.source.name} has {len(out)} columns of motion ({_few(looked, out)}), layout joints has "
            f"room for {JOINTS_MAX}: write a mapping with those that matter (docs/data.md)"
        )
    if any(role[column] in _POSE_ROLES for column in out):
        some = [column for column in out if role[column] in _POSE_ROLES]
        reasons.append(
            f"{_few(looked, some)} make no pose with both position and rotation, so they are kept as they are"
        )
    return out


def _keeps(looked: Looked, column: Column, columns: Sequence[Column], jointed: bool) -> bool:
    """Poses go beside joints, which give them; a velocity goes where it is seen to be the change of the column of "
    "its name."""
    role = looked.name(column).role
    if role in ("effort", "foreign", "difference"):
        return False
    if role in _POSE_ROLES:
        return not jointed
    if role != "velocity":
        return True
    speed = np.concatenate([v[1:, 0] for v in looked.values([column])])
    own = bare(looked.called(column))
    places = [c for c in columns if looked.name(c).role != "velocity" and bare(looked.called(c)) == own]
    changes = (np.concatenate([np.diff(v[:, 0]) * looked.hz for v in looked.values([c])]) for c in places)
    return not any(evidence.goes_with(each, speed) for each in changes)


def _again(looked: Looked, column: Column, taken: Sequence[Column]) -> bool:
    """Whether a column of another feature holds the same numbers."""
    own = np.concatenate(looked.values([column]))
    if np.ptp(own) < 1e-6:
        return False
    return any(
        c.feature != column.feature and np.allclose(own, np.concatenate(looked.values([c])), atol=1e-6) for c in taken
    )


def _grippers(
    looked: Looked, columns: list[Column], commanded: bool, reasons: list[str]
) -> tuple[list[Opening], list[Column]]:
    """Grippers whose ends are known, and gripper columns whose ends are not. Where none is measured, commands serve."""
    hands = [column for column in columns if looked.name(column).role == "gripper"]
    if not hands and not commanded:
        hands = [column for column in looked.columns(commanded=True) if looked.name(column).role == "gripper"]
        if hands:
            reasons.append(f"no gripper is measured, so the commanded one is taken: {_few(looked, hands)}")
            columns += hands
    known: list[Opening] = []
    unknown: list[Column] = []
    for column in hands:
        alone = sum(looked.called(c) == looked.called(column) for c in hands) == 1
        hand = guess_gripper(looked, [column], "grippers")
        if (
            hand.sure
            and hand.opening is not None
            and alone
            and len(known) < GRIPPERS_MAX
            and len(hands) <= GRIPPERS_MAX
        ):
            known.append(hand.opening)
            reasons += hand.reasons
        elif len(hands) <= GRIPPERS_MAX:
            unknown.append(column)
    return known, unknown


def _with_units(
    looked: Looked, columns: Sequence[Column], reasons: list[str], doubts: list[Doubt]
) -> tuple[tuple[tuple[Column, ...], str], ...]:
    """Runs of columns of one unit. Radians only where names say so, or all joints stay within a turn and leave "
    "-1..1."""
    joints = [c for c in columns if looked.name(c).role in ("joint", "number", "other")]
    named = {looked.name(c).unit for c in joints}
    largest = looked.largest(joints) if joints else 0.0
    if len(named) == 1 and (unit := named.pop()) in ("rad", "deg"):
        reasons.append(f"the names of the joints say {unit}")
    elif _NORMALISED < largest <= _TURN and joints:
        unit = "rad"
        reasons.append(f"unit rad: all joints stay within a turn (largest {largest:.3g}), not tested otherwise")
    else:
        unit = "native"
        if joints:
            can = "rad" if largest <= _NORMALISED else "deg"
            text = (
                f"are the joints in {can}? They reach {largest:.4g}, which can be that or the range of a calibration. "
                "Kept as they are, in native units"
            )
            other = "joints:\n" + "\n".join(f"  - {each}" for each in joint_values(joints, can))
            doubts.append(Doubt("joints", text, (other,), safe=True))
    in_unit = {c: unit if c in joints else "native" for c in columns}
    runs = groupby(columns, key=lambda c: (in_unit[c], c.feature))
    return tuple((tuple(run), run_unit) for (run_unit, _), run in runs)


def _perhaps_poses(looked: Looked, columns: Sequence[Column]) -> list[Doubt]:
    """Columns whose names say nothing and whose numbers can be a place and angles as well as joints."""
    first = columns[0].feature
    own = [column for column in columns if column.feature == first]
    nameless = all(looked.name(column).role == "number" for column in own)
    if not nameless or len(own) not in _POSE_WIDTHS or not evidence.can_be_pose(looked.values(own)):
        return []
    six = joint_values(own[:3], "m")[0][1:-1], joint_values(own[3:6], "rad")[0][1:-1].replace(", unit: rad", "")
    rotation = f"{six[1]}, form: euler, order: xyz, unit: rad"
    pose = f"layout: arms26\nright:\n  position: {{{six[0]}}}\n  rotation: {{{rotation}}}"
    text = (
        f"are the {len(own)} columns of {first} joints, or a pose? They have no names, and their numbers can be x, "
        "y, z and three "
        'angles. For joints, --layout joints (layout="joints" in Python) says so too'
    )
    return [Doubt("layout", text, (pose,))]


def _few(looked: Looked, columns: Sequence[Column]) -> str:
    shown = ", ".join(looked.called(column) for column in columns[:6])
    return shown if len(columns) <= 6 else f"{shown} and {len(columns) - 6} more"
