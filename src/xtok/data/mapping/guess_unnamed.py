"""Poses in columns that have no names: only what the numbers cannot be by chance is taken for one, and it is asked.

# N frames of an episode, W columns of a feature
"""

from __future__ import annotations

import numpy as np

from xtok.data.features import Column
from xtok.data.inspect.survey import FeatureSurvey
from xtok.data.inspect.traps import unit_quaternions
from xtok.data.mapping import evidence
from xtok.data.mapping.guess_grippers import guess_gripper
from xtok.data.mapping.guess_rotations import REACH_M, ROWS_MIN, angle_unit
from xtok.data.mapping.guess_types import Doubt, Guess, GuessedArm, Looked
from xtok.data.mapping.text import Turned, rotation_line

_SIDES = ("left", "right")


def guess_unnamed_poses(looked: Looked, commanded: bool) -> Guess | None:
    """Three numbers and a quaternion or a 6D rotation after them; of RLDS sets, x, y, z, three angles and a gripper."""
    for feature in looked.commanded if commanded else looked.measured:
        if not all(looked.name(Column(feature.name, i)).role == "number" for i in range(feature.width)):
            continue
        found = _turned(looked, feature) or _rlds(looked, feature)
        if found is not None:
            found.commanded = commanded
            return found
    return None


def _turned(looked: Looked, feature: FeatureSurvey) -> Guess | None:
    columns = tuple(Column(feature.name, i) for i in range(feature.width))
    arrays = looked.survey.arrays(feature.name)
    starts = [(start, 4) for start in unit_quaternions(arrays) if start >= 3]
    if not starts:
        starts = [(start, 6) for start in _six(arrays) if start >= 3]
    apart = [each for k, each in enumerate(starts) if k == 0 or each[0] >= starts[k - 1][0] + starts[k - 1][1] + 3]
    if not apart or len(apart) > 2:
        return None
    arms: dict[str, GuessedArm] = {}
    doubts: list[Doubt] = []
    reasons = [f"{feature.name}: its columns have no names, so only its numbers were looked at"]
    for side, (start, width) in zip(_SIDES if len(apart) == 2 else ("right",), apart, strict=True):
        what = "a quaternion" if width == 4 else "a 6D rotation"
        where = f"{feature.name}[{start}:{start + width}]"
        orders = ("wxyz", "xyzw") if width == 4 else ("columns", "rows")
        if width == 4 and _mean(looked, columns[start]) < _mean(looked, columns[start + 3]):
            orders = orders[::-1]
        turned = [
            Turned(columns[start : start + width], "quaternion" if width == 4 else "6d", order) for order in orders
        ]
        text = (
            f"{feature.name} names no columns. {where} can be {what} in every frame; is it {orders[0]} or "
            f"{orders[1]}, and are the three before it the position?"
        )
        doubts.append(
            Doubt(f"{side}.rotation", text, (rotation_line(turned[1]),), alike=f"unnamed {orders[0]}", subject=where)
        )
        position = columns[start - 3 : start]
        reach = looked.largest(position)
        unit = "m" if reach <= REACH_M[1] else "cm" if reach < 30 else "mm"
        if unit != "m":
            reasons.append(f"positions reach {reach:.4g}, so they are {unit}")
        rest = columns[start + width : start + width + 1]
        gripper = None
        taken = {i for begin, size in apart for i in range(begin - 3, begin + size)}
        if rest and rest[0].index not in taken:
            hand = guess_gripper(looked, rest, f"{side}.gripper")
            gripper, doubts = hand.opening, [*doubts, *hand.doubts]
        arms[side] = GuessedArm(position, unit, turned[0], gripper)
    if len(arms) == 2:
        doubts.insert(
            0, Doubt("sides", f"which arm of {feature.name} is left? The first is read as left, and no name says so")
        )
    else:
        reasons.append("a lone arm takes the right side")
    return Guess("arms26", arms, reasons=tuple(reasons), doubts=tuple(doubts))


def _six(arrays: list[np.ndarray]) -> list[int]:
    joined = np.concatenate(arrays)
    out = []
    for start in range(joined.shape[1] - 5):
        six = joined[:, start : start + 6]
        moves = (np.ptp(six, axis=0) > 1e-4).sum() >= 4
        if moves and evidence.orthonormal_share([six[:, :3]], [six[:, 3:]]) >= ROWS_MIN:
            out.append(start)
    return out


def _mean(looked: Looked, column: Column) -> float:
    return float(np.abs(np.concatenate(looked.values([column]))).mean())


def _rlds(looked: Looked, feature: FeatureSurvey) -> Guess | None:
    """What most RLDS sets hold, where the numbers can be that."""
    columns = tuple(Column(feature.name, i) for i in range(feature.width))
    fits = feature.names is None and looked.survey.source.format.startswith("RLDS") and feature.width in (7, 8)
    if not fits or np.abs(np.r_[feature.low_W[3:6], feature.high_W[3:6]]).max() > np.pi + 0.1:
        return None
    readings = [
        Turned(columns[3:6], "euler", order, angle_unit(looked, columns[3:6])) for order in ("xyz", "XYZ", "ZYX")
    ]
    text = (
        f"{feature.name} names no columns. Most RLDS sets hold x, y, z, roll, pitch, yaw and a gripper last, and "
        "these numbers can be that: are they, and in which order are the angles?"
    )
    hand = guess_gripper(looked, columns[-1:], "right.gripper")
    unnamed = f"{feature.name}: its columns have no names, so only its numbers were looked at"
    doubts = (Doubt("right.rotation", text, tuple(map(rotation_line, readings[1:]))), *hand.doubts)
    arm = GuessedArm(columns[:3], "m", readings[0], hand.opening)
    return Guess(
        "arms26", {"right": arm}, reasons=(unnamed, "a lone arm takes the right side", *hand.reasons), doubts=doubts
    )
