"""The arms of the suite, one entry each: what robosuite calls them, and what an expert must know of their hands. Pairs
of them at one table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import pi

LEFT, RIGHT = "left", "right"  # sides of arms26; seen from the near edge of the table (x < 0), left is +y
HELD_OUT_ARMS = ("Kinova3", "Jaco")  # no tokenizer is ever trained on them


@dataclass(frozen=True)
class ArmSpec:
    """One arm with its usual gripper.

    robot: robosuite's name. embodiment: name in xtok.actions.embodiments. pads_closed_m, pads_open_m: distance of the
    finger pads' centres with the gripper fully closed and open, measured in simulation; the recorded opening is 0..1
    between them. tip_m: how far the fingertips reach beyond the grip site along its approach axis. kp: stiffness of
    the operational space controller (1/s^2), critically damped. speed: factor on the expert's. pads: geoms of the
    finger pads, without the gripper's prefix, or groups of them in robosuite's important_geoms. rest_rad: joints at the
    start of an episode, hand over the near half of the table. camera_behind: the wrist camera looks at the robot.
    stand_m: where the foot of the robot is, in world coordinates; None: where robosuite has it beside a table. post: it
    stands on a post of that height. package: what the robot's model comes with, if not robosuite.
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
    stand_m: tuple[float, float, float] | None = None
    post: bool = False
    package: str = ""

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
        ArmSpec(
            "Sawyer",
            robot="SawyerLight",
            embodiment="sim_sawyer",
            pads_closed_m=0.0214,
            pads_open_m=0.0665,
            tip_m=0.014,
            rest_rad=(-0.3243, -1.2264, -0.0427, 2.2192, 0.0264, 0.5784, -1.7829),
        ),
        ArmSpec(
            "Jaco",
            robot="JacoLight",
            embodiment="sim_jaco",
            pads_closed_m=0.0028,
            pads_open_m=0.1109,
            tip_m=0.022,
            rest_rad=(3.172, 3.7477, -0.0136, 1.4212, 0.0106, 3.9567, 3.1535),
        ),
        ArmSpec(
            "Baxter",
            robot="BaxterRight",
            embodiment="sim_baxter",
            pads_closed_m=0.0214,
            pads_open_m=0.0665,
            tip_m=0.014,
            rest_rad=(-0.1373, -0.5105, 1.5215, 2.205, -1.1713, 1.241, 1.2018),
            stand_m=(-0.58, 0.2, 0.0),
        ),
        ArmSpec(
            "SpotArm",
            robot="SpotArmRobotiq",
            embodiment="sim_spot_arm",
            pads_closed_m=0.0146,
            pads_open_m=0.1102,
            tip_m=0.013,
            rest_rad=(0.0, -1.5193, 1.8902, 0.0, 1.1999, 0.0),
            stand_m=(-0.52, 0.0, 1.0),
            post=True,
        ),
        ArmSpec(
            "ViperX",
            robot="ViperX",
            embodiment="sim_viperx",
            pads_closed_m=0.0012,
            pads_open_m=0.059,
            tip_m=0.0715,
            pads=("left_finger_g4", "right_finger_g4"),
            rest_rad=(0.0, -0.0784, 0.4043, 0.0, 1.2457, 0.0),
            stand_m=(-0.42, 0.0, 0.84),
            post=True,
            package="robosuite_models",
        ),
        ArmSpec(
            "ARX5",
            robot="Arx5Robotiq",
            embodiment="sim_arx5",
            pads_closed_m=0.0146,
            pads_open_m=0.1102,
            tip_m=0.013,
            rest_rad=(0.0, 1.3162, 0.8978, -1.1524, 0.0, 0.0),
            stand_m=(-0.3, 0.0, 1.05),
            post=True,
            package="robosuite_models",
        ),
        ArmSpec(
            "Z1",
            robot="Z1Robotiq",
            embodiment="sim_z1",
            pads_closed_m=0.0146,
            pads_open_m=0.1102,
            tip_m=0.013,
            rest_rad=(0.0, 1.881, -0.9328, 0.6226, 0.0, 0.0),
            stand_m=(-0.38, 0.0, 1.05),
            post=True,
            package="robosuite_models",
        ),
        ArmSpec(
            "YuMi",
            robot="YumiRight",
            embodiment="sim_yumi",
            pads_closed_m=0.0084,
            pads_open_m=0.0584,
            tip_m=0.046,
            rest_rad=(0.5937, -0.9104, -0.7486, 1.1993, -1.8047, 1.1194, -0.1999),
            stand_m=(-0.42, 0.12, -0.15),
            pads=("gripper_r_finger_r_collision", "gripper_r_finger_l_collision"),
            package="robosuite_models",
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


def is_held_out(name: str) -> bool:
    """Whether an arm, or an arm of a pair, is kept from every tokenizer's training."""
    return any(arm.name in HELD_OUT_ARMS for arm in get_arm(name).arms.values())


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
