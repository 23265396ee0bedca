"""The mapping file: a small YAML that says which features of a data set are which channels, in which unit and form.

docs/data.md describes it with examples. Everything read here keeps the line it stood in, so that whatever turns out
wrong later, when it meets the data, is named by its line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from xtok.actions.layout import ARMS26, JOINTS
from xtok.data.episode import ActionSource
from xtok.data.mapping.rotation_forms import FORMS, RADIANS, rotation_matrices
from xtok.data.mapping.yaml_lines import Node, read_yaml

SIDES = ("left", "right")
SCALARS = ("base_velocity", "lift_height", "head")
METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001}
SPEEDS = {"m/s": 1.0, "mm/s": 0.001}
JOINT_UNITS = {**RADIANS, "native": 1.0}
_EULER = re.compile(r"[xyz]{3}|[XYZ]{3}")


@dataclass(frozen=True)
class Picked:
    """Columns of one feature: `feature`, `feature[3]`, `feature[0:3]`, `feature[x, y, z]`. columns: None takes all."""

    feature: str
    columns: tuple[int | str | range, ...] | None
    where: str  # "mapping.yaml, line 7", for messages


@dataclass(frozen=True)
class Channels:
    """Columns and what one of their units is in the layout's unit."""

    picked: Picked
    scale: float
    unit: str


@dataclass(frozen=True)
class Rotation:
    picked: Picked
    form: str
    order: str
    scale: float  # rad a unit, of angles


@dataclass(frozen=True)
class Gripper:
    """closed, open: the raw values of a closed and an open gripper. Several columns: their mean is the raw value."""

    picked: Picked
    closed: float
    open: float


@dataclass(frozen=True)
class Arm:
    """What one side has; position and rotation are None where kinematics give them."""

    position: Channels | None
    rotation: Rotation | None
    gripper: Gripper | None


@dataclass(frozen=True)
class JointModel:
    """Joint columns that a URDF turns into poses. frames: side -> link. names: the URDF's joint of each column."""

    urdf: str
    base: str | None
    joints: Channels
    names: tuple[str, ...]
    frames: dict[str, str]
    where: str


@dataclass(frozen=True)
class Frame:
    """The frame that poses are given in. position_m, matrix: where the robot's base stands in it (None: it is the
    base).
    """

    name: str
    position_m: np.ndarray | None = None
    matrix: np.ndarray | None = None


@dataclass(frozen=True)
class MappingSpec:
    """A mapping file as read. data: folder or hub id that it is for, if it says so. undecided: while there are any, the
    mapping is for looking at and not for use (`data.mapping.mapped.open_mapped`).
    """

    where: str
    layout: Literal["arms26", "joints"]
    embodiment: str | None
    control_hz: float | None
    pose: ActionSource
    frame: Frame
    arms: dict[str, Arm]
    scalars: dict[str, Channels]
    kinematics: JointModel | None
    joints: tuple[Channels, ...]
    grippers: tuple[Gripper, ...]
    data: str | None
    folder: Path
    undecided: tuple[str, ...] = ()  # questions of a proposal that nobody has answered yet
    undecided_where: str = ""


_KEYS = (
    "data",
    "undecided",
    "layout",
    "embodiment",
    "control_hz",
    "pose",
    "frame",
    *SIDES,
    *SCALARS,
    "kinematics",
    "joints",
    "grippers",
)


def read_mapping(path: str | Path) -> MappingSpec:
    """A mapping file.

    Raises:
        ValueError: anything wrong with it, by line.
    """
    path = Path(path)
    return parse_mapping(read_yaml(path), path.parent)


def parse_mapping(root: Node, folder: Path) -> MappingSpec:
    """The same of a parsed YAML. folder: what relative paths in it are relative to."""
    keys = root.keys(_KEYS, required=("layout",))
    layout: Literal["arms26", "joints"] = (
        "joints" if keys["layout"].choice((ARMS26.name, JOINTS.name)) == "joints" else "arms26"
    )
    foreign = ("joints", "grippers") if layout == "arms26" else ("frame", "kinematics", *SIDES, *SCALARS)
    for key in foreign:
        if key in keys:
            keys[key].fail(f"{key!r} does not go with layout {layout}")
    pose: ActionSource = "achieved"
    if "pose" in keys and keys["pose"].choice(("achieved", "commanded")) == "commanded":
        pose = "commanded"
    kinematics = _kinematics(keys["kinematics"]) if "kinematics" in keys else None
    arms = {side: _arm(keys[side], kinematics, side) for side in SIDES if side in keys}
    hz = keys["control_hz"].number() if "control_hz" in keys else None
    if hz is not None and not 0 < hz <= 10_000:
        keys["control_hz"].fail(f"'control_hz' is {hz:g}; expected a rate in Hz")
    spec = MappingSpec(
        where=root.file,
        layout=layout,
        embodiment=keys["embodiment"].text() if "embodiment" in keys else None,
        control_hz=hz,
        pose=pose,
        frame=_frame(keys["frame"]) if "frame" in keys else Frame("base"),
        arms=arms,
        scalars={name: _scalar(keys[name]) for name in SCALARS if name in keys},
        kinematics=kinematics,
        joints=tuple(_channels(each, JOINT_UNITS, "rad") for each in _one_or_more(keys.get("joints"))),
        grippers=tuple(_gripper(each) for each in _one_or_more(keys.get("grippers"))),
        data=keys["data"].text() if "data" in keys else None,
        folder=folder,
        undecided=_undecided(keys.get("undecided")),
        undecided_where=f"{root.file}, line {keys['undecided'].line}" if "undecided" in keys else "",
    )
    if layout == "arms26" and not arms and kinematics is None:
        root.fail("layout arms26 wants an arm: 'left' or 'right' with position and rotation, or 'kinematics'")
    if layout == "joints" and not spec.joints:
        root.fail("layout joints wants 'joints: {from: ...}'")
    return spec


def _undecided(node: Node | None) -> tuple[str, ...]:
    """The questions that are left; none where all have been deleted and the key stands alone."""
    if node is None or node.is_empty:
        return ()
    return tuple(item.text() for item in _one_or_more(node))


def _one_or_more(node: Node | None) -> list[Node]:
    if node is None:
        return []
    return node.items() if node.is_list else [node]


def _arm(node: Node, kinematics: JointModel | None, side: str) -> Arm:
    by_joints = kinematics is not None and side in kinematics.frames
    keys = node.keys(("gripper",) if by_joints else ("position", "rotation", "gripper"))
    if not by_joints and (missing := {"position", "rotation"} - keys.keys()):
        node.fail(f"{side!r} lacks {sorted(missing)[0]!r}; an arm has both position and rotation")
    return Arm(
        None if by_joints else _channels(keys["position"], METRES, "m"),
        None if by_joints else _rotation(keys["rotation"]),
        _gripper(keys["gripper"]) if "gripper" in keys else None,
    )


def _channels(node: Node, units: dict[str, float], default: str) -> Channels:
    keys = node.keys(("from", "unit"), required=("from",))
    unit = keys["unit"].choice(tuple(units)) if "unit" in keys else default
    return Channels(_picked(keys["from"]), units[unit], unit)


def _scalar(node: Node) -> Channels:
    units = {"base_velocity": SPEEDS, "lift_height": METRES, "head": RADIANS}[node.name]
    return _channels(node, units, next(iter(units)))


def _rotation(node: Node) -> Rotation:
    keys = node.keys(("from", "form", "order", "unit"), required=("from", "form"))
    form, order, scale = _form(node, keys)
    return Rotation(_picked(keys["from"]), form, order, scale)


def _form(node: Node, keys: dict[str, Node]) -> tuple[str, str, float]:
    """Form, order and rad a unit of a rotation; orders have no default, since both ways are in use."""
    form = keys["form"].choice(tuple(FORMS))
    orders = FORMS[form][1]
    order = ""
    if form == "euler" or orders:
        if "order" not in keys:
            wanted = "xyz (fixed axes) or XYZ (moving axes), ..." if form == "euler" else " or ".join(orders)
            node.fail(f"a rotation of form {form} wants its 'order': {wanted}")
        order = keys["order"].text() if form == "euler" else keys["order"].choice(orders)
        letters = order.lower()
        if form == "euler" and (not _EULER.fullmatch(order) or letters[0] == letters[1] or letters[1] == letters[2]):
            keys["order"].fail(f"'order' is {order!r}; expected three axes, xyz (fixed axes) or XYZ (moving axes)")
    elif "order" in keys:
        keys["order"].fail(f"form {form} has no 'order'")
    if "unit" in keys and form not in ("euler", "axis_angle"):
        keys["unit"].fail(f"form {form} has no 'unit'")
    return form, order, RADIANS[keys["unit"].choice(tuple(RADIANS))] if "unit" in keys else 1.0


def _gripper(node: Node) -> Gripper:
    keys = node.keys(("from", "closed", "open"), required=("from", "closed", "open"))
    closed, opened = keys["closed"].number(), keys["open"].number()
    if closed == opened:
        keys["open"].fail(f"'open' equals 'closed' ({closed:g}); give the raw values of both ends")
    return Gripper(_picked(keys["from"]), closed, opened)


def _kinematics(node: Node) -> JointModel:
    keys = node.keys(("urdf", "base", "joints", "frames"), required=("urdf", "joints", "frames"))
    joints = keys["joints"].keys(("from", "unit", "names"), required=("from", "names"))
    unit = joints["unit"].choice(tuple(RADIANS)) if "unit" in joints else "rad"
    names = tuple(item.text() for item in joints["names"].items())
    frames = {side: link.text() for side, link in keys["frames"].keys(SIDES).items()}
    if not frames:
        keys["frames"].fail("'frames' is empty; give the link of one side or both")
    return JointModel(
        urdf=keys["urdf"].text(),
        base=keys["base"].text() if "base" in keys else None,
        joints=Channels(_picked(joints["from"]), RADIANS[unit], unit),
        names=names,
        frames=frames,
        where=f"{node.file}, line {node.line}",
    )


def _frame(node: Node) -> Frame:
    if not node.is_mapping:
        return Frame(node.text())
    keys = node.keys(("name", "base_position_m", "base_rotation"), required=("name",))
    position, matrix = np.zeros(3), np.eye(3)
    if "base_position_m" in keys:
        position = np.array(_numbers(keys["base_position_m"], 3))
    if "base_rotation" in keys:
        turned = keys["base_rotation"].keys(("form", "order", "unit", "value"), required=("form", "value"))
        form, order, scale = _form(keys["base_rotation"], turned)
        value = np.array([_numbers(turned["value"], FORMS[form][0])])
        try:
            matrix = rotation_matrices(value, form, order, scale)[0]
        except ValueError as error:
            turned["value"].fail(str(error))
    return Frame(keys["name"].text(), position, matrix)


def _numbers(node: Node, count: int) -> list[float]:
    values = [item.number() for item in node.items()]
    if len(values) != count:
        node.fail(f"{node.name!r} has {len(values)} numbers; expected {count}")
    return values


def _picked(node: Node) -> Picked:
    text = node.text()
    feature, bracket, rest = text.partition("[")
    feature = feature.strip()
    where = f"{node.file}, line {node.line}"
    if not feature or "]" in feature or (bracket and (not rest.endswith("]") or "[" in rest or "]" in rest[:-1])):
        node.fail(f"'from' is {text!r}; expected FEATURE, FEATURE[3], FEATURE[0:3] or FEATURE[name, name]")
    if not bracket:
        return Picked(feature, None, where)
    return Picked(feature, tuple(_column(part.strip(), node) for part in rest[:-1].split(",")), where)


def _column(text: str, node: Node) -> int | str | range:
    if span := re.fullmatch(r"(\d{1,6}):(\d{1,6})", text):
        start, stop = int(span[1]), int(span[2])
        if start >= stop:
            node.fail(f"[{text}] is empty; the end is not included, so [0:3] takes 0, 1 and 2")
        return range(start, stop)
    if not text:
        node.fail("a column is missing between the brackets")
    return int(text) if re.fullmatch(r"\d{1,6}", text) else text
