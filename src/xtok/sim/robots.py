"""Robots that robosuite does not have in the form that the suite needs: one arm of a two-armed body whose other joints
are held, or an arm with a hand other than its own. Registered with robosuite under names of our own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any
from xml.etree import ElementTree as ET

import mujoco
import numpy as np

Quat = tuple[float, float, float, float]  # w, x, y, z


@dataclass(frozen=True)
class Eye:
    """A wrist camera. position_m, quat: in the frame in which the gripper is mounted (z: where it points)."""

    position_m: tuple[float, float, float]
    quat: Quat
    fovy_deg: float = 75.0


@dataclass(frozen=True)
class Form:
    """One arm made of one of robosuite's models.

    model: robosuite's class. gripper: robosuite's. hand: body that carries it. moving: pattern of the names of the
    arm's joints; all others are held at `held_rad` (by name, else 0) and their motors taken away. mount_m, mount_quat:
    the gripper in the hand. eye: a wrist camera for hands without one. base: robosuite's. damping: of the arm's joints
    in N m s/rad, armature in kg m^2, torque_nm: limits of its motors; where the model's are not fit for OSC. apart:
    bodies whose collision meshes overlap at rest.
    """

    model: str
    gripper: str
    moving: str
    hand: str = "right_hand"
    held_rad: Mapping[str, float] = field(default_factory=dict)
    mount_m: tuple[float, float, float] | None = None
    mount_quat: Quat | None = None
    eye: Eye | None = None
    base: str = "NullMount"
    damping: float | None = None
    armature: float | None = None
    torque_nm: tuple[float, ...] = ()
    apart: tuple[tuple[str, str], ...] = ()


_BESIDE = Eye((0.05, 0.0, 0.0), (0.0, 0.707108, 0.707108, 0.0))  # as robosuite has Sawyer's
_ALONG_X = (0.70710678, 0.0, 0.70710678, 0.0)  # hands whose x axis points forwards
# Grippers that would take seconds to close: own name -> robosuite's, and share of the way in a control step.
_QUICKER = {
    "JacoQuickHand": ("JacoThreeFingerGripper", 0.3),
    "YumiQuickHand": ("YumiRightGripper", 0.4),
}

FORMS: dict[str, Form] = {
    "SawyerLight": Form("Sawyer", gripper="RethinkGripper", moving="^right_j", base="RethinkMount", armature=0.1),
    "JacoLight": Form("Jaco", gripper="JacoQuickHand", moving="^j2s7s300", base="RethinkMount", armature=0.2),
    "BaxterRight": Form(
        "Baxter",
        gripper="RethinkGripper",
        moving="^right_",
        held_rad={"left_s0": 0.9, "left_s1": -0.6, "left_e1": 1.9, "left_w1": 0.6},
        eye=_BESIDE,
        base="RethinkMinimalMount",
    ),
    "SpotArmRobotiq": Form(
        "SpotArm",
        gripper="Robotiq85Gripper",
        moving="^arm_",
        mount_m=(0.05, 0.0, 0.0),
        mount_quat=_ALONG_X,
        eye=_BESIDE,
        damping=0.5,
        armature=0.1,
        torque_nm=(90.0, 180.0, 90.0, 30.0, 30.0, 30.0),
    ),
    "ViperX": Form(
        "VX300S",
        gripper="AlohaGripper",
        moving="^right/",
        eye=Eye((0.0, -0.08, 0.0), (0.0, 0.0, 1.0, 0.0)),
        damping=0.5,
        armature=0.05,
        torque_nm=(20.0, 50.0, 50.0, 15.0, 8.0, 8.0),
    ),
    "Arx5Robotiq": Form(
        "Arx5",
        gripper="Robotiq85Gripper",
        moving="^joint",
        mount_quat=_ALONG_X,
        eye=_BESIDE,
        damping=0.5,
        armature=0.05,
        apart=(("base_link", "link1"),),
    ),
    "Z1Robotiq": Form(
        "Z1",
        gripper="Robotiq85Gripper",
        moving="^joint",
        mount_m=(0.05, 0.0, 0.0),
        mount_quat=_ALONG_X,
        eye=_BESIDE,
        damping=0.5,
        armature=0.1,
    ),
    "YumiRight": Form(
        "Yumi",
        gripper="YumiQuickHand",
        moving="_r$",
        held_rad={"yumi_joint_1_l": 0.79, "yumi_joint_2_l": -0.43, "yumi_joint_7_l": 0.15, "yumi_joint_3_l": 0.31},
        eye=_BESIDE,
        base="RethinkMount",
        damping=0.5,
        armature=0.1,
        apart=(("yumi_link_2_r", "yumi_link_4_r"),),
    ),
}


def prepare(robot: str, package: str = "") -> None:
    """Make robosuite know a robot by name. package: what must be installed for it.

    Raises:
        ValueError: the package is not installed.
    """
    if package:
        try:
            import_module(package)
        except ImportError as error:
            name = package.replace("_", "-")
            raise ValueError(f"robot {robot} comes with {name}, which is not installed: pip install {name}") from error
    from robosuite.models.grippers import GRIPPER_MAPPING
    from robosuite.models.robots.robot_model import REGISTERED_ROBOTS
    from robosuite.robots import register_robot_class

    for name, (own, speed) in _QUICKER.items():
        if name not in GRIPPER_MAPPING and own in GRIPPER_MAPPING:
            GRIPPER_MAPPING[name] = type(name, (GRIPPER_MAPPING[own],), {"speed": speed})
    if robot in FORMS and robot not in REGISTERED_ROBOTS:
        made = _class(robot, FORMS[robot], REGISTERED_ROBOTS[FORMS[robot].model])  # its metaclass registers it
        register_robot_class("FixedBaseRobot")(made)


def _class(name: str, form: Form, model: type) -> type:
    def __init__(self: Any, idn: int = 0) -> None:
        model.__init__(self, idn=idn)  # type: ignore[misc]
        _reform(self, form)

    def constant(value: Any) -> property:
        return property(lambda self: value)

    turn = {} if form.mount_quat is None else {"right": form.mount_quat}
    shift = {} if form.mount_m is None else {"right": form.mount_m}
    body: dict[str, object] = {
        "__init__": __init__,
        "arms": ["right"],
        "arm_type": constant("single"),
        "default_base": constant(form.base),
        "default_gripper": constant({"right": form.gripper}),
        "gripper_mount_quat_offset": constant(turn),
        "gripper_mount_pos_offset": constant(shift),
        "_eef_name": constant({"right": form.hand}),
        "init_qpos": property(lambda self: np.zeros(len(self._joints))),
        "init_torso_qpos": constant(None),
    }
    return type(name, (model,), body)


def _reform(model: Any, form: Form) -> None:
    """Hold what does not move, and give the hand its camera, in the MJCF of a robosuite model."""
    prefix = model.naming_prefix
    parents = {child: parent for parent in model.worldbody.iter() for child in parent}
    for free in list(model.worldbody.iter("freejoint")):
        parents[free].remove(free)
    gone = set()
    for joint in list(model.worldbody.iter("joint")):
        name = (joint.get("name") or "").removeprefix(prefix)
        if re.search(form.moving, name):
            if form.damping is not None:
                joint.set("damping", str(form.damping))
            if form.armature is not None:
                joint.set("armature", str(form.armature))
        else:
            _hold(parents[joint], joint, form.held_rad.get(name, 0.0))
            parents[joint].remove(joint)
            gone.add(prefix + name)
    for section in (model.actuator, model.tendon, model.equality, model.sensor):
        for entry in list(section):
            if any(value in gone for part in entry.iter() for value in part.attrib.values()):
                section.remove(entry)
    kept = {name.get("name", "").removeprefix(prefix) for name in model.actuator}
    model._joints = [joint for joint in model._joints if prefix + joint not in gone]
    model._actuators = [actuator for actuator in model._actuators if actuator in kept]
    hand = next(body for body in model.worldbody.iter("body") if body.get("name") == prefix + form.hand)
    for one, two in form.apart:
        ET.SubElement(model.contact, "exclude", body1=prefix + one, body2=prefix + two)
    for motor, limit_nm in zip(model.actuator, form.torque_nm, strict=bool(form.torque_nm)):
        motor.set("ctrlrange", f"{-limit_nm:g} {limit_nm:g}")
    if form.eye is not None:
        mount = np.array(form.mount_quat or (1.0, 0.0, 0.0, 0.0))
        at, turned = np.zeros(3), np.zeros(4)
        mujoco.mju_rotVecQuat(at, np.array(form.eye.position_m), mount)
        mujoco.mju_mulQuat(turned, mount, np.array(form.eye.quat))
        at += np.array(form.mount_m or (0.0, 0.0, 0.0))
        look = {"pos": _text(at), "quat": _text(turned), "fovy": f"{form.eye.fovy_deg:g}"}
        for camera in list(model.worldbody.iter("camera")):
            if camera.get("name") == f"{prefix}eye_in_hand":
                parents[camera].remove(camera)
        ET.SubElement(hand, "camera", {"name": f"{prefix}eye_in_hand", "mode": "fixed", **look})
        model.cameras = model.get_element_names(model.worldbody, "camera")


def _hold(body: ET.Element, joint: ET.Element, at: float) -> None:
    """Give a body the pose that it has with its joint at `at` (rad)."""
    if at == 0.0:
        return
    turned_otherwise = "quat" not in body.attrib and {"euler", "xyaxes", "axisangle", "zaxis"} & set(body.attrib)
    off_centre = any(float(value) for value in joint.get("pos", "0 0 0").split())
    if off_centre or turned_otherwise or joint.get("type", "hinge") != "hinge":
        raise ValueError(
            f"cannot hold joint {joint.get('name')} at {at}: no hinge at its body's origin, by a quaternion"
        )
    axis = np.array([float(value) for value in joint.get("axis", "0 0 1").split()])
    quat = np.array([float(value) for value in body.get("quat", "1 0 0 0").split()])
    turn, turned = np.zeros(4), np.zeros(4)
    mujoco.mju_axisAngle2Quat(turn, axis / np.linalg.norm(axis), at)
    mujoco.mju_mulQuat(turned, quat / np.linalg.norm(quat), turn)
    body.set("quat", _text(turned))


def _text(values: Any) -> str:
    return " ".join(f"{float(value):.9g}" for value in values)
