"""What the name of a column says: which arm it is of, what it measures, and which part of that.

Only words decide, never positions: "left_hand_pos_x", "hands/xyz[3]" and "obs/arm_l/eef_pos" are taken apart, and
words that nobody knows are kept as such.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Role = Literal[
    "position",  # of a hand
    "quaternion",
    "6d",
    "matrix",
    "euler",
    "axis_angle",
    "turn",  # rx, ry, rz: Euler angles or a rotation vector
    "rotation",  # a rotation whose form the number of its columns tells
    "pose",  # position and rotation in one vector
    "gripper",
    "joint",
    "velocity",
    "effort",
    "difference",
    "foreign",  # of something that is not this robot, or not its motion
    "number",  # a name that says no more than a number
    "other",
]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SIDES = {"left": "left", "right": "right", "l": "left", "r": "right", "lh": "left", "rh": "right"}
_LETTERS = {"l", "r"}
_GLUED = re.compile(r"^(left|right|l|r)(arm|hand|hands|gripper|grip|eef?|tcp|wrist|finger|fingers|jaw|pos|quat)$")
_NUMBERED = re.compile(
    r"(left|right|joint|motor|arm|robot|xyz|pos|quat|quaternion|rpy|euler|rotvec|j|q|dim|servo|eef|hand)(\d+)"
)
_HAND = _words(  # words that say no more than "the hand" or "measured"
    """
    eef ee eefs tcp tool flange hand hands arm arms end effector effectors endeffector endpose robot robots obs
    observation observations state states action actions follow follower measured actual achieved current base
    frame world abs absolute cartesian cart proprio proprioception of in the main puppet tip
    """
)
_OF_A_HAND = _words("eef ee eefs tcp tool flange hand hands effector endeffector endpose gripper")
_FOREIGN = _words(
    """
    object objects obj goal goals image images depth embedding leader master teleop camera cam reward done
    success annotation language marker cube human head_pose index_ timestamp time is terminated truncated
    """
)
_COMMANDS = _words("target targets cmd command commanded desired des reference ref setpoint goal")
_VELOCITY = _words(
    """
    vel vels velocity velocities speed qvel qd dq dot omega twist angvel linvel gyro vx vy vz wx wy wz
    """
)
_EFFORT = _words(
    """
    effort efforts torque torques tau force forces ft wrench currents temp temperature load voltage pressure
    tactile touch fx fy fz acc accel acceleration accelerations qacc
    """
)
_DIFFERENCE = _words(
    """
    delta deltas diff rel relative increment offset dx dy dz droll dpitch dyaw drx dry drz dpos drot
    """
)
_ANATOMY = _words(
    """
    shoulder elbow wrist forearm waist hip knee ankle neck head torso thumb index middle ring pinky little spine
    finger upperarm lift pan flex clavicle chest
    """
)
_FINGERS = _words("thumb index middle ring pinky little")
_JOINT = _words("joint joints qpos servo dof joint_pos jnt encoder actuator")
_GENERIC = _words(
    """
    motor motors dim dims feature value values ch channel col column element d data state action observation s a
    """
)
_POSITION = _words("pos position positions xyz trans translation p t loc location coord coords point")
_UNITS = {
    **dict.fromkeys(_words("m meter meters metre metres"), "m"),
    **dict.fromkeys(_words("cm centimeters"), "cm"),
    **dict.fromkeys(_words("mm millimeter millimeters millimetres"), "mm"),
    **dict.fromkeys(_words("rad radian radians"), "rad"),
    **dict.fromkeys(_words("deg degree degrees"), "deg"),
}
_FORMS: tuple[tuple[re.Pattern[str], Role], ...] = (  # of the words joined by "_", first match wins
    (re.compile(r"(^|_)((rot|rotation|ortho|orientation|ori|r)_?)?6_?d(_|$)|(^|_)(rot|ortho|r)6d?(_|$)"), "6d"),
    (re.compile(r"(^|_)(rot_?mat|rotation_matrix|rmat|rot_matrix|matrix|dcm|r[0-3][0-3])(_|$)"), "matrix"),
    (re.compile(r"(^|_)(rot_?vec|rotation_vector|axis_?angles?|angle_axis|rv|aa)(_|$|[xyz]$)"), "axis_angle"),
    (re.compile(r"(^|_)(quats?|quaternions?|q)_?[wxyz](_|$)|(^|_)(quats?|quaternions?)(_|$)"), "quaternion"),
    (re.compile(r"(^|_)(rpy|eulers?|eul)(_|$)"), "euler"),
    (re.compile(r"(^|_)r[xyz]$"), "turn"),
    (re.compile(r"(^|_)(rot|rotation|orientation|orient|ori|orn)(_|$)"), "rotation"),
)
_WIDER = re.compile(r"open|width|apertur|distance|stroke|gap")
_NARROWER = re.compile(r"clos")


@dataclass(frozen=True)
class Name:
    """side: "left", "right" or None. arm: its number where arms are numbered. part: "x", "w", "roll" or an index, None
    where the name has none. unit: as the name says, or "". wider: of a gripper, whether its name says that larger is
    open. rpy: Euler angles said to be roll, pitch and yaw.
    """

    role: Role
    side: str | None = None
    arm: int | None = None
    part: str | int | None = None
    unit: str = ""
    wider: bool | None = None
    rpy: bool = False


def words_of(name: str) -> list[str]:
    """A name as lower-case words and numbers: "leftHand.pos[3]" -> left, hand, pos, 3."""
    split = re.sub(r"([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])", r"\1\3 \2\4", name)
    out: list[str] = []
    for word in re.findall(r"\w+", split.replace("_", " ").lower()):
        glued = _GLUED.match(word)
        if glued:
            out += [glued[1], glued[2]]
        elif number := _NUMBERED.fullmatch(word):
            out += [number[1], number[2]]
        else:
            out.append(word)
    return out


def read_names(features: Mapping[str, Sequence[str] | int], commanded: bool = False) -> dict[tuple[str, int], Name]:
    """(feature, column) -> what its name says, the feature's own name included.

    features: the names of its columns, or how many it has where they have none. commanded: words like "target" say
    nothing new of what was asked of a robot, and of a state that it is no state.
    """
    words = {
        (feature, i): (words_of(feature), words_of(names[i]) if not isinstance(names, int) else [str(i)])
        for feature, names in features.items()
        for i in range(names if isinstance(names, int) else len(names))
    }
    seen = {word for both in words.values() for part in both for word in part}
    letters = _LETTERS <= seen  # "r" alone is as likely a rotation as a side
    return {place: _read(feature + own, letters, commanded) for place, (feature, own) in words.items()}


def bare(name: str) -> list[str]:
    """A name without the words for place and speed, which a joint's position and its velocity share."""
    return [word for word in words_of(name) if word not in _VELOCITY | _POSITION | {"qpos"}]


def repeated(names: Iterable[str]) -> list[str]:
    """Names that stand more than once."""
    return [name for name, count in Counter(names).items() if count > 1]


def _read(words: Sequence[str], letters: bool, commanded: bool) -> Name:
    sides = [word for word in words if word in _SIDES and (letters or word not in _LETTERS)]
    side = _SIDES[sides[-1]] if sides else None
    unit = next((_UNITS[word] for word in reversed(words) if word in _UNITS and word != "m"), "")
    arm, rest = None, []
    for i, word in enumerate(words):
        if word.isdigit() and i and words[i - 1] in ("arm", "robot", "hand", "eef", "gripper") and i < len(words) - 1:
            arm = int(word)
        elif word not in sides and not (word in _UNITS and word != "m"):
            rest.append(word)
    role, part, rpy = _role(rest, commanded)
    wider = None
    if role == "gripper":
        text = "_".join(rest)
        if bool(_WIDER.search(text)) != bool(_NARROWER.search(text)):
            wider = bool(_WIDER.search(text))
    return Name(role, side, arm, part, unit, wider, rpy)


def _role(words: Sequence[str], commanded: bool) -> tuple[Role, str | int | None, bool]:
    """Role, part, and whether Euler angles are said to be roll, pitch and yaw."""
    bag = set(words)
    if bag & _FOREIGN and not (commanded and bag & _FOREIGN <= _COMMANDS):
        return "foreign", None, False
    if bag & _COMMANDS and not commanded:
        return "foreign", None, False
    part = _part(words)
    if "base" in bag and not bag & _OF_A_HAND:
        return "other", part, False  # of a base that drives
    for marks, role in ((_DIFFERENCE, "difference"), (_VELOCITY, "velocity"), (_EFFORT, "effort")):
        if bag & marks and not ("q" in bag and part in ("x", "y", "z", "w")):
            return role, part, False  # type: ignore[return-value]
    if _is_gripper(words):
        return "gripper", part, False
    own = [word for word in words if word not in _HAND]
    if bag & _JOINT or bag & _ANATOMY:
        return "joint", part, False
    if own and set(own) <= {"roll", "pitch", "yaw", "rpy", "euler", "rot", "rotation", "orientation"} and part in (
        "roll", "pitch", "yaw",
    ):  # fmt: skip
        return "euler", part, True
    joined = "_".join(own)
    for pattern, form in _FORMS:
        if pattern.search(joined):
            return form, part, "rpy" in own
    axis = _POSITION | {"x", "y", "z", str(part), *(f"{word}{part}" for word in ("p", "pos", "t"))}
    if own and part is not None and set(own) <= axis and not all(word.isdigit() for word in own):
        return "position", part, False
    if "pose" in own or "poses" in own or "endpose" in bag or "cartesian" in bag:
        return "pose", part, False
    if own and re.fullmatch(r"(q|j|axis)(_?\d+)", joined):
        return "joint", part, False
    if all(word.isdigit() or word in _GENERIC or re.fullmatch(r"[a-z]\d+", word) for word in own):
        return "number", part, False
    return "other", part, False


def _is_gripper(words: Sequence[str]) -> bool:
    bag = set(words)
    if bag & _FINGERS:
        return False
    if any(re.match(r"grip|grasp|jaw|claw|pinch|finger", word) for word in words):
        return True
    return bool(bag & {"hand", "hands"}) and any(re.match(r"open|clos|apert|width", word) for word in words)


def _part(words: Sequence[str]) -> str | int | None:
    """The axis, angle or index that a name ends with."""
    for word in reversed(words):
        if word in ("x", "y", "z", "w", "roll", "pitch", "yaw"):
            return word
        if match := re.fullmatch(r"(?:q|quat|p|pos|r|t|v|w|rv|aa|d|dr|f)([wxyz])", word):
            return match[1]
        if match := re.fullmatch(r"r([0-3])([0-3])", word):
            return 3 * int(match[1]) + int(match[2])
        if word.isdigit():
            return int(word)
    return None
