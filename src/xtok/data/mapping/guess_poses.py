"""Where a set keeps the poses of its hands: found by the names of columns, tested on their numbers, else asked.

A position and a rotation make an arm. Words name the side; blocks that nobody names (`xyz[0..5]`, arm0 and arm1) give
two arms and a question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from xtok.data.features import Column
from xtok.data.mapping import evidence
from xtok.data.mapping.guess_grippers import guess_gripper
from xtok.data.mapping.guess_rotations import REACH_M, NoRotation, Parts, arm_columns, blocks_of, guess_rotation
from xtok.data.mapping.guess_types import Doubt, Guess, GuessedArm, Looked
from xtok.data.mapping.guess_unnamed import guess_unnamed_poses
from xtok.data.mapping.text import gripper_line, position_line, rotation_line

_SIDES = ("left", "right")
_SCALE = {"m": 1.0, "cm": 0.01, "mm": 0.001}


@dataclass(frozen=True)
class Arm:
    """columns: role -> columns of one arm. side: as the names say it, else None; order: of arms that nobody names."""

    columns: Parts
    side: str | None
    order: int = 0


def guess_poses(looked: Looked, rejected: list[str]) -> Guess | None:
    """Measured poses before commanded ones; None where no complete pose is to be seen.

    rejected: filled with questions about columns that are named as a pose and are none.
    """
    for commanded in (False, True):
        arms = find_arms(looked, commanded)
        try:
            found = _read(looked, arms, commanded) if arms else None
        except NoRotation as error:
            rejected.append(str(error))
            found = None
        found = found or guess_unnamed_poses(looked, commanded)
        if found is None:
            continue
        changes = [
            side for side, arm in found.arms.items() if evidence.looks_like_differences(looked.values(arm.position))
        ]
        if commanded and changes:
            if any(looked.name(column).role == "joint" for column in looked.columns(commanded=False)):
                continue  # the joints that are measured say more
            found.doubts = (*found.doubts, *(_differences(looked, side, found.arms[side]) for side in changes))
        return found
    return None


def find_arms(looked: Looked, commanded: bool) -> list[Arm]:
    """Every arm whose columns are named: those with a side, a lone one, or two that no word tells apart."""
    sorted_out: dict[tuple[str | None, int | None], Parts] = {}
    for column in looked.columns(commanded):
        name = looked.name(column)
        if name.role in ("joint", "velocity", "effort", "difference", "foreign", "number", "other"):
            continue
        of_role = sorted_out.setdefault((name.side, name.arm if name.side is None else None), {}).setdefault(
            name.role, {}
        )
        of_role.setdefault(column.feature, []).append((name.part, column))
    arms: list[Arm] = []
    for (side, number), parts in sorted(sorted_out.items(), key=lambda each: (str(each[0][0]), each[0][1] or 0)):
        split = blocks_of(looked, parts)
        for k, block in enumerate(split):
            if arm_columns(block) is not None:
                arms.append(Arm(block, side, k if number is None else number))
    grippers = {side: parts.get("gripper", {}) for (side, _), parts in sorted_out.items() if side is not None}
    return _with_named_grippers(looked, arms, grippers)


def _with_named_grippers(looked: Looked, arms: list[Arm], grippers: dict[str, dict[str, list]]) -> list[Arm]:
    """Arms without a side, in the order in which the grippers that have one stand (a lone arm takes all of them)."""
    nameless = [arm for arm in arms if arm.side is None]
    if not grippers or not nameless or len(nameless) != len(arms):
        return arms
    if len(arms) == 1:
        merged = {k: v for each in grippers.values() for k, v in each.items()}
        for side in sorted(grippers, reverse=True):
            for feature, found in grippers[side].items():
                if merged.get(feature) is not found:
                    merged[feature] = [*found, *merged[feature]]
        own = {**merged, **arms[0].columns.get("gripper", {})}
        return [replace(arms[0], columns={**arms[0].columns, "gripper": own})]
    order = sorted(grippers, key=lambda side: [c.index for found in grippers[side].values() for _, c in found])
    return [
        replace(arm, columns={**arm.columns, "gripper": arm.columns.get("gripper") or grippers[order[k]]})
        if k < len(order) and len(arms) == 2
        else arm
        for k, arm in enumerate(arms)
    ]


def _hypothesis(looked: Looked, arms: Sequence[Arm], commanded: bool) -> tuple[dict[str, Arm], bool, list[str]]:
    """side -> arm, whether it is known, and why."""
    if len(arms) == 1:
        side = arms[0].side or "right"
        return {side: arms[0]}, True, [] if arms[0].side else ["a lone arm takes the right side"]
    if all(arm.side for arm in arms):
        return {str(arm.side): arm for arm in arms}, True, []
    first, second = sorted(arms, key=lambda arm: arm.order)[:2]
    order = list(_SIDES)
    sides = [_gripper_side(looked, arm) for arm in (first, second)]
    if sides == ["right", "left"]:
        order = ["right", "left"]
    pair = {order[0]: first, order[1]: second}
    other = {str(arm.side): arm for arm in find_arms(looked, not commanded) if arm.side}
    if other.keys() == set(_SIDES):
        crossed = evidence.swapped(_paths(looked, pair), _paths(looked, other))
        if crossed is not None:
            pair = {"left": pair["right"], "right": pair["left"]} if crossed else pair
            told = "state" if commanded else "action"
            return (
                pair,
                True,
                [f"which arm is left: the one that goes with the left of the {told}, which names its sides"],
            )
    return pair, False, []


def _gripper_side(looked: Looked, arm: Arm) -> str | None:
    return next((looked.name(c).side for found in arm.columns.get("gripper", {}).values() for _, c in found), None)


def _paths(looked: Looked, arms: dict[str, Arm]) -> tuple[list, list]:
    found = {side: arm_columns(arm.columns) for side, arm in arms.items()}
    left, right = (found[side] for side in _SIDES)
    assert left is not None and right is not None  # find_arms gives complete arms only
    return looked.values(left[0]), looked.values(right[0])


def _read(looked: Looked, arms: Sequence[Arm], commanded: bool) -> Guess | None:
    if len(arms) > 2 or len({arm.side for arm in arms if arm.side}) + sum(arm.side is None for arm in arms) != len(
        arms
    ):
        return None
    pair, known, why = _hypothesis(looked, arms, commanded)
    doubts: list[Doubt] = []
    guessed: dict[str, GuessedArm] = {}
    for side in sorted(pair):
        read = _arm(looked, pair[side], side, commanded, why, doubts)
        if read is None:
            return None
        guessed[side] = read
    if not known:
        left, right = (guessed[side] for side in _SIDES)
        lines = [line for side, arm in (("left", right), ("right", left)) for line in arm_lines(side, arm)]
        text = "which arm is left? No name says so: "
        told = f"{_span(looked, left)} is read as left, {_span(looked, right)} as right"
        doubts.insert(0, Doubt("sides", text + told, ("\n".join(lines),)))
    elif len(guessed) == 2:
        doubts += _crossed(looked, pair, commanded)
    if commanded:
        why.append("no measured column is named as a pose, an action is: the poses are commanded ones")
    return Guess("arms26", dict(sorted(guessed.items())), commanded=commanded, reasons=tuple(why), doubts=tuple(doubts))


def arm_lines(side: str, arm: GuessedArm) -> list[str]:
    lines = [f"{side}:", f"  {position_line(arm.position, arm.position_unit)}", f"  {rotation_line(arm.rotation)}"]
    return lines if arm.gripper is None else [*lines, f"  {gripper_line(arm.gripper)}"]


def _span(looked: Looked, arm: GuessedArm) -> str:
    return f"{looked.called(arm.position[0])} to {looked.called(arm.position[-1])}"


def _arm(
    looked: Looked, arm: Arm, side: str, commanded: bool, why: list[str], doubts: list[Doubt]
) -> GuessedArm | None:
    found = arm_columns(arm.columns)
    assert found is not None  # as find_arms promises
    position, turning = found
    if len({column.feature for column in position}) > 1:
        return None
    rotation = guess_rotation(looked, turning, side)
    if rotation is None:
        return None
    why.append(f"{side} hand: {_listed(looked, position)} and {_listed(looked, rotation.turned.columns)}")
    why += rotation.reasons
    doubts += rotation.doubts
    unit = _unit(looked, position, side, why, doubts)
    gripper = None
    fingers = _gripper_columns(looked, arm, commanded)
    if fingers:
        if not commanded and fingers[0].feature in {f.name for f in looked.commanded}:
            why.append(f"{side} gripper: no measured one is named, so it is the commanded one of {fingers[0].feature}")
        hand = guess_gripper(looked, fingers, f"{side}.gripper")
        gripper = hand.opening
        why += hand.reasons
        doubts += hand.doubts
    return GuessedArm(position, unit, rotation.turned, gripper)


def _listed(looked: Looked, columns: Sequence[Column]) -> str:
    return ", ".join(looked.called(column) for column in columns)


def _gripper_columns(looked: Looked, arm: Arm, commanded: bool) -> tuple[Column, ...]:
    """Of the arm's own feature first; where nothing measured opens, the command of the same side."""
    own = arm.columns.get("gripper", {})
    if not own and not commanded:
        same = [
            column
            for column in looked.columns(commanded=True)
            if looked.name(column).role == "gripper" and looked.name(column).side == arm.side
        ]
        return tuple(column for column in same if column.feature == same[0].feature)[:2]
    for found in own.values():
        return tuple(column for _, column in found)
    return ()


def _unit(looked: Looked, position: Sequence[Column], side: str, why: list[str], doubts: list[Doubt]) -> str:
    """As the names say, else what makes a reach of an arm: one unit that does, or a question."""
    named = looked.name(position[0]).unit
    reach = looked.largest(position)
    if named in _SCALE:
        unit = named
    else:
        fitting = [unit for unit, scale in _SCALE.items() if REACH_M[0] < reach * scale <= REACH_M[1]] or ["m"]
        unit = fitting[0]
        if reach <= REACH_M[1]:
            unit = "m"
        elif len(fitting) == 1:
            why.append(f"positions of {side} reach {reach:.4g}, so they are {unit}")
        else:
            text = f"positions of {side} reach {reach:.4g}: are they {' or '.join(fitting)}?"
            others = tuple(position_line(position, other) for other in fitting[1:])
            doubts.append(Doubt(f"{side}.position", text, others))
    paths_m = [each * _SCALE[unit] for each in looked.values(position)]
    share = evidence.speed_share(paths_m, looked.hz)
    if share > 0.01:
        text = (
            f"read in {unit} at {looked.hz:g} Hz, {side} moves faster than {evidence.SPEED_MAX_M_S:g} m/s in "
            f"{share:.0%} of its steps: are these columns a position, in this unit, at this rate?"
        )
        doubts.append(Doubt(f"{side}.position", text))
    return unit


def _crossed(looked: Looked, pair: dict[str, Arm], commanded: bool) -> list[Doubt]:
    """Named sides whose left goes with the other feature's right."""
    other = {str(arm.side): arm for arm in find_arms(looked, not commanded) if arm.side}
    if (
        commanded
        or other.keys() != set(_SIDES)
        or evidence.swapped(_paths(looked, pair), _paths(looked, other)) is not True
    ):
        return []
    text = "which names are right? Left of the state goes with right of the action, and right with left"
    return [Doubt("sides", text)]


def _differences(looked: Looked, side: str, arm: GuessedArm) -> Doubt:
    """Commanded poses that stay around zero are changes, as most controllers are given, and no places."""
    text = (
        f"{_span(looked, arm)} stay around zero, as changes of a pose do and poses do not: are they where the hand "
        "shall be, or how far it shall move? Changes cannot be read as poses"
    )
    return Doubt(f"{side}.position", text, alike="differences", subject=_span(looked, arm))
