"""The arms of the suite, one entry each: what robosuite calls them, and what an expert must know of their hands. Pairs
of them at one table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import pi

LEFT, RIGHT = "left", "right"  # sides of arms26; seen from the near edge of the table (x < 0), left is +y
HELD_OUT_ARM = "Kinova3"  # no tokenizer is ever trained on it


@dataclass(frozen=True)
class ArmSpec:
    """One arm with its usual gripper.

    robot: robosuite's name. embodiment: name in xtok.actions.embodiments. pads_closed_m, pads_open_m: distance of the
    finger pads' centres with the gripper fully closed and open, measured in simulation; the recorded opening is 0..1
    between them. tip_m: how far the fingertips reach beyond the grip site along its approach axis. kp: stiffness of
    the operational space controller (1/s^2), critically damped. speed: factor on the expert's. pads: geoms of the
    finger pads, without the gripper's prefix, or groups of them in robosuite's important_geoms. rest_rad: joints at the
    start of an episode, hand over the near half of the table. camera_behind: the wrist camera looks at the robot.
    """

    name: str
    robot: str
    embodiment: str
    pads_closed_m: float
    pads_open_m: float
    tip_m: float
    kp: float = 450.0
    speed: float = 1.0
    pads: tuple[str, str] = ("left_fingerpad", "right_fingerpad")
    rest_rad: tuple[float, ...] = ()
    camera_behind: bool = False

    @property
    def arms(self) -> Mapping[str, ArmSpec]:
        """Side -> arm: a lone arm is on the right side of arms26."""
        return {RIGHT: self}


ARMS: dict[str, ArmSpec] = {
    spec.name: spec
    for spec in (
        ArmSpec(
            "Panda",
            robot="Panda",
            embodiment="sim_panda",
            pads_closed_m=0.0082,
            pads_open_m=0.0869,
            tip_m=0.009,
            rest_rad=(0.0, 0.2014, 0.0, -2.4687, 0.0, 2.6702, 0.7858),
        ),
        ArmSpec(
            "UR5e",
            robot="UR5e",
            embodiment="sim_ur5e",
            pads_closed_m=0.0146,
            pads_open_m=0.1102,
            tip_m=0.013,
            rest_rad=(-0.2829, -1.4766, 2.0883, -2.1826, -1.5708, -1.8537),
        ),
        ArmSpec(
            "IIWA",
            robot="IIWA",
            embodiment="sim_iiwa",
            pads_closed_m=0.0226,
            pads_open_m=0.1287,
            tip_m=0.014,
            rest_rad=(0.0, 0.4382, 0.0, -1.813, 0.0, 0.8914, 0.0),
        ),
        ArmSpec(
            "Kinova3",
            robot="Kinova3",
            embodiment="sim_kinova3",
            pads_closed_m=0.0146,
            pads_open_m=0.1102,
            tip_m=0.013,
            kp=300.0,  # its small motors saturate when more is asked of them
            speed=0.8,
            rest_rad=(-0.0334, 0.6028, -0.0274, 1.6602, 0.0198, 0.8803, -1.6393),
        ),
        ArmSpec(
            "XArm7",
            robot="XArm7",
            embodiment="sim_xarm7",
            pads_closed_m=0.0093,
            pads_open_m=0.0912,
            tip_m=0.024,
            rest_rad=(0.0, 0.2261, 0.0, 0.9392, 0.0, 0.7043, 0.0),
            pads=("left_finger_pad_1", "right_finger_pad_1"),
            camera_behind=True,
        ),
    )
}


@dataclass(frozen=True)
class Stand:
    """Where an arm's base is: on the floor at (x, y), from the table's middle, looking along `yaw_rad` (0: along x)."""

    x_m: float
    y_m: float
    yaw_rad: float = 0.0


FACING = (Stand(0.0, 0.66, -pi / 2), Stand(0.0, -0.66, pi / 2))  # across the table from each other


@dataclass(frozen=True)
class PairSpec:
    """Two arms at one table. embodiment: of both together, in xtok.actions.embodiments. stands: left, right."""

    name: str
    left: ArmSpec
    right: ArmSpec
    embodiment: str
    stands: tuple[Stand, Stand] = FACING

    @property
    def arms(self) -> Mapping[str, ArmSpec]:
        """Side of arms26 -> arm, in the order in which robosuite has them."""
        return {LEFT: self.left, RIGHT: self.right}


def _pair(left: str, right: str, stands: tuple[Stand, Stand] = FACING) -> PairSpec:
    embodiment = f"{ARMS[left].embodiment}_{right.lower()}"
    return PairSpec(f"{left}_{right}", ARMS[left], ARMS[right], embodiment, stands)


# Named left_right: gymnasium's ids allow no plus sign.
PAIRS: dict[str, PairSpec] = {
    pair.name: pair
    for pair in (
        _pair("Panda", "Panda"),
        _pair("UR5e", "UR5e"),
        _pair("Panda", "UR5e"),
        _pair("XArm7", "IIWA"),
    )
}


def get_arm(name: str) -> ArmSpec | PairSpec:
    """The arm, or the pair of arms, called `name`.

    Raises:
        ValueError: neither; the message lists all.
    """
    known: dict[str, ArmSpec | PairSpec] = {**ARMS, **PAIRS}
    if name in known:
        return known[name]
    close = get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"unknown arm {name!r}{hint} Expected one of {list(known)}")
