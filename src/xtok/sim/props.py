"""Things on the table, as data: geoms, joints, what words call them. Turned into MJCF by `to_mjcf`.

Lengths in metres. A prop's origin lies at its centre for free things, at its foot for fixtures.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from xml.etree import ElementTree as ET

import numpy as np

# Colours that can be told apart at 96 px under coloured light.
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.82, 0.08, 0.08),
    "green": (0.10, 0.62, 0.16),
    "blue": (0.10, 0.22, 0.85),
    "yellow": (0.95, 0.82, 0.08),
    "purple": (0.52, 0.14, 0.66),
    "white": (0.95, 0.95, 0.95),
}
GREY = (0.35, 0.35, 0.38)
WOOD = (0.55, 0.38, 0.22)


@dataclass(frozen=True)
class Part:
    """One geom. size: MuJoCo half sizes. painted: takes the prop's colour; otherwise `rgb` holds."""

    shape: Literal["box", "cylinder", "sphere", "capsule"]
    size: tuple[float, ...]
    at: tuple[float, float, float] = (0.0, 0.0, 0.0)
    yaw_rad: float = 0.0
    painted: bool = True
    rgb: tuple[float, float, float] = GREY
    density: float = 400.0  # kg/m^3


@dataclass(frozen=True)
class Joint:
    """The one joint of a fixture's moving part. weightless: its part does not sink, however weak the joint."""

    kind: Literal["slide", "hinge"]
    range: tuple[float, float]  # m or rad
    stiffness: float
    damping: float
    frictionloss: float = 0.0
    weightless: bool = False


@dataclass(frozen=True)
class Prop:
    """One thing. parts: of its body. moving, joint: parts of a second body that moves against it (buttons, levers).

    free: it can be carried. height_m: from table to top. grip_m: height of a good grasp above its lowest point.
    grip_width_m: between the fingers there. symmetry_rad: turns about z after which it looks the same to a gripper
    (0 = any turn). foot_m: its origin above its lowest point. inner_m: half the width inside the walls of a container.
    """

    name: str
    kind: str
    parts: tuple[Part, ...]
    free: bool
    height_m: float
    radius_m: float
    foot_m: float = 0.0
    grip_m: float = 0.0
    symmetry_rad: float = float(np.pi / 2)
    inner_m: float = 0.0
    moving: tuple[Part, ...] = ()
    joint: Joint | None = None
    friction: tuple[float, float, float] = field(default=(1.2, 0.02, 0.0005))


@dataclass(frozen=True)
class Placement:
    """Where a prop starts: (x, y) in m from the table's middle, height of its lowest point over the table, yaw."""

    x_m: float
    y_m: float
    yaw_rad: float = 0.0
    z_m: float = 0.0


def cube(name: str, half_m: float = 0.021) -> Prop:
    return Prop(
        name, "cube", (Part("box", (half_m,) * 3),), True, 2 * half_m, 1.42 * half_m, foot_m=half_m, grip_m=half_m
    )


def can(name: str) -> Prop:
    parts = (
        Part("cylinder", (0.021, 0.030)),
        Part("cylinder", (0.017, 0.002), at=(0, 0, 0.0315), painted=False, rgb=(0.75, 0.75, 0.78)),
    )
    return Prop(name, "can", parts, True, 0.0635, 0.022, foot_m=0.030, grip_m=0.036, symmetry_rad=0.0)


def ball(name: str) -> Prop:
    part = Part("sphere", (0.022,), density=250.0)
    # rolling friction high enough that it stays where it is put
    return Prop(
        name,
        "ball",
        (part,),
        True,
        0.044,
        0.022,
        foot_m=0.022,
        grip_m=0.022,
        symmetry_rad=0.0,
        friction=(1.5, 0.05, 0.004),
    )


def bar(name: str) -> Prop:
    part = Part("box", (0.048, 0.016, 0.016))
    return Prop(name, "bar", (part,), True, 0.032, 0.052, foot_m=0.016, grip_m=0.016, symmetry_rad=float(np.pi))


def bottle(name: str) -> Prop:
    parts = (
        Part("cylinder", (0.020, 0.026)),
        Part("cylinder", (0.0095, 0.014), at=(0, 0, 0.040), density=150.0),
        Part("cylinder", (0.0105, 0.005), at=(0, 0, 0.055), painted=False, rgb=(0.12, 0.12, 0.12), density=150.0),
    )
    return Prop(name, "bottle", parts, True, 0.086, 0.021, foot_m=0.026, grip_m=0.032, symmetry_rad=0.0)


def peg(name: str) -> Prop:
    """A square peg that stands upright."""
    part = Part("box", (0.016, 0.016, 0.040), density=350.0)
    return Prop(name, "peg", (part,), True, 0.080, 0.023, foot_m=0.040, grip_m=0.058)


def tray(name: str, half_m: float = 0.075, wall_m: float = 0.028) -> Prop:
    """An open box; its origin is the middle of its underside."""
    floor, thick = 0.004, 0.004
    parts = [Part("box", (half_m, half_m, floor / 2), at=(0, 0, floor / 2))]
    for sign in (-1, 1):
        parts.append(Part("box", (thick, half_m, wall_m / 2), at=(sign * (half_m - thick), 0, wall_m / 2)))
        parts.append(Part("box", (half_m, thick, wall_m / 2), at=(0, sign * (half_m - thick), wall_m / 2)))
    return Prop(name, "tray", tuple(parts), False, wall_m, 1.42 * half_m, inner_m=half_m - 2 * thick)


def socket(name: str, clearance_m: float = 0.006) -> Prop:
    """A block with a square hole for `peg`, `clearance_m` wider on each side, bevelled by its low height."""
    inner, thick, tall = 0.016 + clearance_m, 0.012, 0.036
    outer = inner + 2 * thick
    parts = []
    for sign in (-1, 1):
        parts.append(Part("box", (thick, outer, tall / 2), at=(sign * (inner + thick), 0, tall / 2)))
        parts.append(Part("box", (inner, thick, tall / 2), at=(0, sign * (inner + thick), tall / 2)))
    parts.append(Part("box", (inner, inner, 0.001), at=(0, 0, 0.001), painted=False, rgb=(0.08, 0.08, 0.08)))
    return Prop(name, "socket", tuple(parts), False, tall, 1.42 * outer)


def button(name: str, stays: bool = False) -> Prop:
    """A round button on a grey foot; its joint is 0 at rest and -0.014 pressed down. stays: it stays down."""
    foot = (Part("cylinder", (0.040, 0.010), at=(0, 0, 0.010), painted=False),)
    cap = (Part("cylinder", (0.028, 0.012), at=(0, 0, 0.030), density=300.0),)
    joint = Joint("slide", (-0.014, 0.0), stiffness=120.0, damping=4.0)
    if stays:
        joint = Joint("slide", (-0.014, 0.0), stiffness=0.0, damping=4.0, frictionloss=1.5, weightless=True)
    return Prop(name, "button", foot, False, 0.042, 0.042, moving=cap, joint=joint)


def lever(name: str) -> Prop:
    """An arm that turns about a post; its joint is 0 in the middle, positive counterclockwise from above."""
    foot = (Part("cylinder", (0.030, 0.012), at=(0, 0, 0.012), painted=False),)
    arm = (
        Part("box", (0.055, 0.011, 0.014), at=(0.050, 0, 0.040), density=300.0),
        Part("cylinder", (0.018, 0.016), at=(0, 0, 0.040), painted=False, rgb=(0.15, 0.15, 0.16), density=300.0),
    )
    joint = Joint("hinge", (-1.4, 1.4), stiffness=0.0, damping=0.12, frictionloss=0.03)
    return Prop(name, "lever", foot, False, 0.056, 0.035, moving=arm, joint=joint)


POST_M = 0.125  # of handles that stand up, from the middle of their pot or paddle
STICK_M = 0.105  # half the length of a stick


def pot(name: str) -> Prop:
    """An open box with an upright handle at both ends, for two hands; its handles lie along y."""
    x, y, wall, thick = 0.065, 0.080, 0.034, 0.004
    parts = [Part("box", (x, y, 0.003), at=(0, 0, -0.017), density=150.0)]
    for sign in (-1, 1):
        parts += [
            Part("box", (thick, y, wall / 2), at=(sign * (x - thick), 0, wall / 2 - 0.020), density=150.0),
            Part("box", (x, thick, wall / 2), at=(0, sign * (y - thick), wall / 2 - 0.020), density=150.0),
            Part("box", (0.012, 0.022, 0.006), at=(0, sign * (y + 0.022), -0.004), density=150.0),
            _post(sign * POST_M, foot_m=0.020),
        ]
    return Prop(name, "pot", tuple(parts), True, 0.072, POST_M + 0.014, foot_m=0.020, inner_m=x - 2 * thick)


def paddle(name: str, clearance_m: float = 0.007) -> Prop:
    """A square hole with a floor for `peg`, and an upright handle along y to hold it by."""
    inner, thick, tall = 0.016 + clearance_m, 0.006, 0.030
    outer = inner + 2 * thick
    parts = [Part("box", (outer, outer, 0.0015), at=(0, 0, 0.0015 - tall / 2), painted=False, rgb=(0.08, 0.08, 0.08))]
    for sign in (-1, 1):
        parts.append(Part("box", (thick, outer, tall / 2), at=(sign * (inner + thick), 0, 0), density=200.0))
        parts.append(Part("box", (inner, thick, tall / 2), at=(0, sign * (inner + thick), 0), density=200.0))
    beam = POST_M - outer
    parts.append(Part("box", (0.010, beam / 2, 0.008), at=(0, outer + beam / 2, -0.004), density=150.0))
    parts.append(_post(POST_M, foot_m=tall / 2))
    return Prop(name, "paddle", tuple(parts), True, 0.072, POST_M + 0.014, foot_m=tall / 2)


def _post(y_m: float, foot_m: float) -> Part:
    """A handle of 28 mm square, 72 mm tall."""
    return Part("box", (0.014, 0.014, 0.036), at=(0, y_m, 0.036 - foot_m), density=150.0)


def stick(name: str) -> Prop:
    """Long enough for a hand at each end; it lies along x."""
    part = Part("box", (STICK_M, 0.014, 0.014), density=250.0)
    return Prop(name, "stick", (part,), True, 0.028, STICK_M, foot_m=0.014, grip_m=0.014, symmetry_rad=float(np.pi))


def pad(name: str, radius_m: float = 0.05) -> Prop:
    """A flat disc to put things on."""
    part = Part("cylinder", (radius_m, 0.002), at=(0, 0, 0.002))
    return Prop(name, "pad", (part,), False, 0.004, radius_m)


def to_mjcf(prop: Prop, parked_m: tuple[float, float, float]) -> ET.Element:
    """The prop as a body of the world.

    parked_m: where it is in the compiled model; every episode moves it.
    """
    body = ET.Element("body", name=prop.name, pos=_text(parked_m))
    if prop.free:
        ET.SubElement(body, "joint", name=f"{prop.name}_free", type="free", damping="0.0005")
    for index, part in enumerate(prop.parts):
        body.extend(_geoms(prop, index, part))
    if prop.joint is not None:
        inner = ET.SubElement(body, "body", name=f"{prop.name}_moving")
        joint = prop.joint
        attributes = {
            "name": f"{prop.name}_joint",
            "type": joint.kind,
            "axis": "0 0 1",
            "limited": "true",
            "range": _text(joint.range),
            "stiffness": str(joint.stiffness),
            "damping": str(joint.damping),
            "frictionloss": str(joint.frictionloss),
        }
        ET.SubElement(inner, "joint", attributes)
        if joint.weightless:
            inner.set("gravcomp", "1")
        for index, part in enumerate(prop.moving, start=len(prop.parts)):
            inner.extend(_geoms(prop, index, part))
    return body


def painted_geoms(prop: Prop) -> list[str]:
    """Names of the visible geoms that take the prop's colour."""
    return [f"{prop.name}_g{i}" for i, part in enumerate((*prop.parts, *prop.moving)) if part.painted]


def _geoms(prop: Prop, index: int, part: Part) -> tuple[ET.Element, ET.Element]:
    """What is felt (group 0, has the mass) and what is seen (group 1)."""
    half = 0.5 * part.yaw_rad
    shape = {
        "type": part.shape,
        "size": _text(part.size),
        "pos": _text(part.at),
        "quat": _text((np.cos(half), 0.0, 0.0, np.sin(half))),
        "rgba": _text((*part.rgb, 1.0)),
    }
    contact = {
        "density": str(part.density),
        "friction": _text(prop.friction),
        "condim": "6" if prop.kind == "ball" else "4",
        "solref": "0.004 1",
    }
    felt = ET.Element("geom", {"name": f"{prop.name}_c{index}", "group": "0", **shape, **contact})
    seen = ET.Element(
        "geom",
        {"name": f"{prop.name}_g{index}", "group": "1", **shape, "contype": "0", "conaffinity": "0", "mass": "0"},
    )
    return felt, seen


def _text(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.6g}" for value in values)
