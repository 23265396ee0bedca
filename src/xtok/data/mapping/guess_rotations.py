"""Which form of rotation some columns hold: as their names say, then as their numbers can be, then asked.

# N frames of an episode
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from xtok.data.features import Column
from xtok.data.mapping import evidence
from xtok.data.mapping.guess_types import Doubt, Looked
from xtok.data.mapping.text import Turned, rotation_line

Part = str | int | None
Turning = tuple[str, tuple[Column, ...], tuple[Part, ...]]  # role, columns and parts of a rotation
Parts = dict[str, dict[str, list[tuple[Part, Column]]]]  # role -> feature -> its columns with the part each is

ROWS_MIN = 0.98  # share of rows that must be a rotation; a damaged episode more or less decides nothing
REACH_M = (0.03, evidence.REACH_MAX_M)  # how far from its robot a hand comes at most, at least and at most
_LETTERS = {"quaternion": "wxyz", "rotation": "wxyz", "position": "xyz", "axis_angle": "xyz", "turn": "xyz"}
_WIDTHS = {"position": 3, "quaternion": 4, "6d": 6, "matrix": 9, "euler": 3, "axis_angle": 3, "turn": 3}
_BY_COUNT = {3: "turn", 4: "quaternion", 6: "6d", 9: "matrix"}
_POSES = {6: "turn", 7: "quaternion", 9: "6d", 12: "matrix"}  # width of position and rotation -> form of the rotation
_ANGLES = ("roll", "pitch", "yaw")
_RATHER = ("quaternion", "6d", "matrix", "axis_angle", "euler", "turn")  # of several rotations of one hand, the first


class NoRotation(Exception):
    """Columns whose numbers are not what their names say; its text asks what they are."""


@dataclass(frozen=True)
class Rotation:
    turned: Turned
    reasons: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()


def blocks_of(looked: Looked, parts: Parts) -> list[Parts]:
    """The columns of one name and role, dealt out to as many arms as they make: one in most sets, two where
    `xyz` has six columns, or every name stands twice.
    """
    dealt: dict[str, dict[str, list[list[tuple[Part, Column]]]]] = {}
    for role, features in parts.items():
        for feature, found in features.items():
            for name, deal in _deal(role, found):
                dealt.setdefault(name, {}).setdefault(feature, []).extend(deal)
    if {
        "position",
        "6",
    } <= dealt.keys():  # "cartesian_position" six wide: two places where a rotation stands beside, else a pose
        alone = not dealt.keys() & (_WIDTHS.keys() - {"position"})
        dealt = {role: each for role, each in dealt.items() if role != ("position" if alone else "6")}
    places = [*dealt.get("position", {}).values(), *dealt.get("pose", {}).values(), *dealt.get("6", {}).values()]
    count = max(map(len, places), default=0)
    if count == 0:
        return [parts]
    if count == 1 and "gripper" in dealt:  # its fingers, though they have one name
        dealt["gripper"] = {f: [[each for block in deal for each in block]] for f, deal in dealt["gripper"].items()}
    out: list[Parts] = [{} for _ in range(count)]
    for role, by_feature in dealt.items():
        for feature, deal in by_feature.items():
            if len(deal) == count:
                for k, block in enumerate(deal):
                    out[k].setdefault(_role_of(role, block), {})[feature] = block
    return out


def _role_of(role: str, block: Sequence[tuple[Part, Column]]) -> str:
    return "pose" if role == "6" else role


def _deal(role: str, found: list[tuple[Part, Column]]) -> list[tuple[str, list[list[tuple[Part, Column]]]]]:
    """(role, blocks): columns with letters by how often each letter stands, numbered ones by their number."""
    parts = [part for part, _ in found]
    if role == "gripper":
        return [(role, [[each] for each in found])] if len(found) == 2 and len(set(parts)) < 2 else [(role, [found])]
    letters = [part for part in parts if isinstance(part, str)]
    if role == "rotation" and letters:
        role = "quaternion" if "w" in letters else "turn"
    if letters and len(letters) == len(parts):
        wanted = _ANGLES if role == "euler" and set(letters) <= set(_ANGLES) else tuple(_LETTERS.get(role, "xyz"))
        by_letter = [[each for each in found if each[0] == letter] for letter in wanted]
        count = min(map(len, by_letter))
        if count == 0 or len({len(each) for each in by_letter}) > 1:
            return []
        return [(role, [[each[k] for each in by_letter] for k in range(count)])]
    if not parts or not all(isinstance(part, int) for part in parts):
        return []
    numbered = sorted(found, key=lambda each: int(each[0] or 0))
    numbers = [int(part or 0) for part, _ in numbered]
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        return []
    if role == "pose":
        return [("pose", [numbered])] if len(numbered) in _POSES or len(numbered) - 1 in _POSES else []
    if role == "rotation":
        n = len(numbered)
        role = _BY_COUNT.get(n, "")
        return [(role, [numbered])] if role else [("quaternion", [numbered[:4], numbered[4:]])] if n == 8 else []
    width = _WIDTHS[role]
    blocks = [numbered[i : i + width] for i in range(0, len(numbered), width)] if len(numbered) % width == 0 else []
    if role == "position" and len(numbered) in (6, 7):
        whole = [("6", [numbered])]
        return [(role, blocks), *whole] if blocks else [("pose", [numbered])]
    return [(role, blocks)] if blocks else []


def arm_columns(parts: Parts) -> tuple[tuple[Column, ...], Turning] | None:
    """Position, and role, columns and parts of the rotation, of one arm; those of one feature rather than of two."""
    for found in parts.get("pose", {}).values():
        columns = tuple(column for _, column in found)
        width = len(columns) if len(columns) in _POSES else len(columns) - 1
        return columns[:3], (_POSES[width], columns[3:width], tuple(range(width - 3)))
    places = parts.get("position", {})
    turns = [(role, feature, found) for role in _RATHER for feature, found in parts.get(role, {}).items()]
    for place, position in places.items():
        ranked = sorted(turns, key=lambda each: each[1] != place)
        if ranked:
            role, _, found = ranked[0]
            return tuple(c for _, c in position), (role, tuple(c for _, c in found), tuple(p for p, _ in found))
    return None


def guess_rotation(looked: Looked, turning: Turning, side: str) -> Rotation | None:
    """The rotation of one arm; None where its columns stand in several features.

    Raises:
        NoRotation: the numbers are not what the names say.
    """
    role, columns, which = turning
    if len({column.feature for column in columns}) > 1:
        return None
    readers: dict[str, Callable[[], Rotation | None]] = {
        "quaternion": lambda: _quaternion(looked, columns, which, side),
        "6d": lambda: _six(looked, columns, side),
        "matrix": lambda: _matrix(looked, columns, side),
        "euler": lambda: _euler(looked, columns, which, side),
        "axis_angle": lambda: _axis_angle(looked, columns, side),
        "turn": lambda: _turn(looked, columns, side),
    }
    return readers[role]()


def _quaternion(looked: Looked, columns: tuple[Column, ...], which: tuple[Part, ...], side: str) -> Rotation | None:
    share = evidence.unit_share(looked.values(columns))
    called = f"{looked.called(columns[0])} to {looked.called(columns[-1])}"
    if share < ROWS_MIN:
        raise NoRotation(
            f"{called} are named as a quaternion and have length 1 in {share:.0%} of rows only: which columns are it?"
        )
    if all(isinstance(part, str) for part in which):
        last = (*columns[1:], columns[0])  # as they stand, where w stands last
        w_last = [column.index for column in last] == list(range(last[0].index, last[0].index + 4))
        turned = Turned(last, "quaternion", "xyzw") if w_last else Turned(columns, "quaternion", "wxyz")
        called = ", ".join(looked.called(column) for column in turned.columns)
        return Rotation(turned, (f"{called}: of length 1, as a quaternion is",))
    ends = [float(np.abs(np.concatenate(looked.values([column]))).mean()) for column in (columns[0], columns[3])]
    order, other = ("wxyz", "xyzw") if ends[0] >= ends[1] else ("xyzw", "wxyz")
    both = [Turned(columns, "quaternion", each) for each in (order, other)]
    spoken = _by_velocity(looked, both, side)
    if spoken is not None:
        told = f"{called}: in order {spoken.order} it turns as the angular velocity beside it says"
        return Rotation(spoken, (told,))
    text = (
        f"is {called} in order wxyz or xyzw? Both have length 1 and turn alike; its "
        f"{'first' if order == 'wxyz' else 'last'} column is the larger on average ({ends[0]:.2f} and {ends[1]:.2f}), "
        "which is a hint and no more"
    )
    return Rotation(both[0], (), (_asked(side, text, both[1:], f"quaternion {order}", called),))


def _by_velocity(looked: Looked, readings: Sequence[Turned], side: str) -> Turned | None:
    """The reading that the angular velocity of the same side, where the set has one, speaks for."""
    spoken = [
        column
        for column in looked.columns(commanded=False)
        if looked.name(column).role == "velocity"
        and looked.name(column).side in (side, None)
        and _of_turning(looked.called(column))
    ]
    by_axis = {str(looked.name(column).part): column for column in spoken}
    three = [by_axis.get(axis) or by_axis.get(str(i)) for i, axis in enumerate("xyz")]
    if None in three or len(spoken) != 3:
        return None
    turning = looked.values([column for column in three if column is not None])
    if readings[0].unit == "deg":
        return None
    best = evidence.rotation_order_by_velocity(
        looked.values(readings[0].columns), turning, looked.hz, [(each.form, each.order) for each in readings]
    )
    return next((each for each in readings if (each.form, each.order) == best), None)


def _of_turning(name: str) -> bool:
    lower = name.lower()
    return any(word in lower for word in ("ang", "omega", "wx", "wy", "wz", "gyro", "rot"))


def _six(looked: Looked, columns: tuple[Column, ...], side: str) -> Rotation:
    called = f"{looked.called(columns[0])} to {looked.called(columns[-1])}"
    in_halves = evidence.orthonormal_share(looked.values(columns[:3]), looked.values(columns[3:]))
    in_turn = evidence.orthonormal_share(looked.values(columns[::2]), looked.values(columns[1::2]))
    if in_halves >= ROWS_MIN:
        readings = [Turned(columns, "6d", order) for order in ("columns", "rows")]
        spoken = _by_velocity(looked, readings, side)
        if spoken is not None:
            return Rotation(spoken, (f"{called}: as {spoken.order} of a matrix it turns as the angular velocity says",))
        text = f"does {called} hold two columns of the matrix, or two rows? Both halves are of length 1 and upright"
        return Rotation(readings[0], (), (_asked(side, text, readings[1:], "6d", called),))
    if in_turn >= ROWS_MIN:
        why = f"{called}: every second number makes vectors of length 1 at right angles, so columns are read row by row"
        return Rotation(Turned(columns, "6d", "interleaved"), (why,))
    share = max(in_halves, in_turn)
    raise NoRotation(
        f"{called} are named as a 6D rotation and are one in {share:.0%} of rows only: which columns are it?"
    )


def _matrix(looked: Looked, columns: tuple[Column, ...], side: str) -> Rotation:
    called = f"{looked.called(columns[0])} to {looked.called(columns[-1])}"
    rowwise = Turned(columns, "matrix")
    share = evidence.orthonormal_share(looked.values(columns[:3]), looked.values(columns[3:6]))
    if share < ROWS_MIN:
        raise NoRotation(
            f"{called} are named as a rotation matrix and are one in {share:.0%} of rows only: which columns are it?"
        )
    other = Turned(columns[:6], "6d", "columns")
    text = f"is {called} a matrix row by row, or column by column?"
    return Rotation(rowwise, (), (_asked(side, text, [other], "matrix", called),))


def _euler(looked: Looked, columns: tuple[Column, ...], which: tuple[Part, ...], side: str) -> Rotation:
    turned = Turned(columns, "euler", "xyz", angle_unit(looked, columns))
    called = ", ".join(looked.called(column) for column in columns)
    _within_a_turn(looked, turned)
    if looked.name(columns[0]).rpy or set(which) <= set(_ANGLES):
        why = f"{called}: roll, pitch and yaw, taken as angles about fixed axes x, y, z, as they usually are"
        return Rotation(turned, (why,))
    others = [Turned(columns, "euler", order, turned.unit) for order in ("XYZ", "zyx", "ZYX")]
    text = f"about which axes, and in which order, are the Euler angles {called}?"
    return Rotation(turned, (), (_asked(side, text, others, "euler", called),))


def _axis_angle(looked: Looked, columns: tuple[Column, ...], side: str) -> Rotation:
    turned = Turned(columns, "axis_angle", "", angle_unit(looked, columns))
    called = ", ".join(looked.called(column) for column in columns)
    _within_a_turn(looked, turned)
    return Rotation(turned, (f"{called}: named as a rotation vector",))


def _turn(looked: Looked, columns: tuple[Column, ...], side: str) -> Rotation:
    """rx, ry, rz: some robots mean a rotation vector, others Euler angles."""
    unit = angle_unit(looked, columns)
    vector = Turned(columns, "axis_angle", "", unit)
    _within_a_turn(looked, vector)
    angles = [Turned(columns, "euler", order, unit) for order in ("xyz", "XYZ", "ZYX")]
    called = ", ".join(looked.called(column) for column in columns)
    euler = evidence.is_euler(looked.values(columns), 180.0 if unit == "deg" else np.pi)
    if euler is False:
        return Rotation(
            vector, (f"{called}: they go on at the opposite at half a turn, so they are a rotation vector",)
        )
    spoken = _by_velocity(looked, [vector, *angles], side)
    if spoken is not None:
        return Rotation(
            spoken,
            (f"{called}: as {spoken.form} {spoken.order} they turn as the angular velocity says".replace("  ", " "),),
        )
    if euler:
        text = f"{called} are Euler angles (longer than a rotation vector can be, or jumping alone): in which order?"
        return Rotation(angles[0], (), (_asked(side, text, angles[1:], "turn, euler", called),))
    text = f"is {called} a rotation vector or three Euler angles? Robots use both, and these numbers can be either"
    return Rotation(vector, (), (_asked(side, text, angles, "turn", called),))


def _asked(side: str, text: str, others: Sequence[Turned], alike: str, subject: str) -> Doubt:
    return Doubt(f"{side}.rotation", text, tuple(map(rotation_line, others)), alike=alike, subject=subject)


def angle_unit(looked: Looked, columns: Sequence[Column]) -> str:
    named = looked.name(columns[0]).unit
    if named in ("rad", "deg"):
        return named
    return "rad" if looked.largest(columns) <= 2 * np.pi + 0.1 else "deg"


def _within_a_turn(looked: Looked, turned: Turned) -> None:
    """Angles beyond a turn are no angles of a hand."""
    largest = looked.largest(turned.columns)
    if largest > (2 * np.pi + 0.1 if turned.unit == "rad" else 366):
        called = ", ".join(looked.called(column) for column in turned.columns)
        raise NoRotation(
            f"{called} reach {largest:.4g}, which is no angle in {turned.unit}: what are they, and in which unit?"
        )
