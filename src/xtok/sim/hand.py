"""One arm of a compiled model: where its hand is, how far it is open, what its fingers touch, and how it is steered."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from xtok.sim.arms import ArmSpec
from xtok.sim.geometry import Pose, rotation_from_rotvec, rotation_z, rotvec_from_rotation

STEP_M, STEP_RAD = 0.06, 0.5  # how far the controller's target may move in one control step: 1.2 m/s, 10 rad/s
_Y = np.array([0.0, 1.0, 0.0])


class Hand:
    """An arm and its gripper. All poses are in the world frame unless a name says base.

    robot: robosuite's, whose arm it calls "right" whatever its side of the table. index: robosuite's number of it.
    yaw_rad: where its stand looks. down: rotation of a hand that points straight down, its fingers opening across the
    way the stand looks. seen: geoms of the gripper.
    """

    def __init__(
        self, robot: Any, index: int, arm: ArmSpec, model: mujoco.MjModel, data: mujoco.MjData, yaw_rad: float
    ) -> None:
        self.arm, self.yaw_rad = arm, yaw_rad
        self.camera = f"robot{index}_eye_in_hand"
        self._robot, self._model, self._data = robot, model, data
        self._site = robot.eef_site_id["right"]
        gripper = robot.gripper["right"]
        pads = (gripper.important_geoms.get(pad, [gripper.naming_prefix + pad])[0] for pad in arm.pads)
        self._pads = [model.geom(pad).id for pad in pads]
        if arm.rest_rad:
            robot.init_qpos = np.array(arm.rest_rad)
        bodies = {i for i in range(model.nbody) if model.body(i).name.startswith(gripper.naming_prefix)}
        self.seen = frozenset(i for i in range(model.ngeom) if model.geom_bodyid[i] in bodies)
        self._fingers = [_subtree(model, model.geom_bodyid[pad]) for pad in self._pads]
        root = model.body(robot.robot_model.root_body).id
        self.base = Pose(data.xpos[root].copy(), data.xmat[root].reshape(3, 3).copy())
        self._target = self.pose()
        self._opening_before = 0.0
        self._action = np.zeros(7)
        self.down = self._pointing_down()

    def pose(self) -> Pose:
        """Pose of the grip site, between the fingertips."""
        data = self._data
        return Pose(data.site_xpos[self._site].copy(), data.site_xmat[self._site].reshape(3, 3).copy())

    def in_base(self) -> Pose:
        return self.base.inverse().compose(self.pose())

    def opening(self) -> float:
        """Measured opening of the gripper, 0 closed .. 1 open."""
        data = self._data
        gap = float(np.linalg.norm(data.geom_xpos[self._pads[0]] - data.geom_xpos[self._pads[1]]))
        return (gap - self.arm.pads_closed_m) / (self.arm.pads_open_m - self.arm.pads_closed_m)

    def gripped(self) -> bool:
        """Whether the fingers have stopped moving."""
        return abs(self.opening() - self._opening_before) < 0.015

    def touches(self, geoms: frozenset[int]) -> bool:
        """Whether any part of the fingers touches one of these geoms."""
        return any(self._touching(finger, geoms) for finger in self._fingers)

    def holds(self, geoms: frozenset[int]) -> bool:
        """Whether both fingers touch them."""
        return all(self._touching(finger, geoms) for finger in self._fingers)

    def rest(self) -> None:
        """Begin an episode where the arm is now."""
        self._target = self.pose()

    def aim(self, goal_in_base: Pose, gripper: float) -> Pose:
        """Move the controller's target towards a goal by a step; returns the goal in the world frame."""
        self._opening_before = self.opening()
        goal = self.base.compose(goal_in_base)
        self._target = _towards(self._target, goal, STEP_M, STEP_RAD)
        self._action = np.concatenate(
            (
                self._target.position_m,
                rotvec_from_rotation(self._target.rotation),
                [-1.0 if gripper > 0.5 else 1.0],
            )
        )
        return goal

    def control(self) -> None:
        """At the first physics step of a control step: give robosuite the target."""
        self._robot.control(self._action, policy_step=True)

    def update_torques(self) -> None:
        """The arm's share of robot.control, all that changes within a step; the rest would double the time."""
        arm = self._robot.part_controllers["right"]
        actuators = self._robot._ref_actuators_indexes_dict["right"]
        low, high = self._model.actuator_ctrlrange[actuators].T
        self._data.ctrl[actuators] = np.clip(arm.run_controller(), low, high)

    def turn_camera(self) -> None:
        """Put the wrist camera on the side of the hand that faces away from the robot, where an arm has it behind."""
        if self.arm.camera_behind:
            model = self._model
            camera = model.camera(self.camera).id
            half_turn = np.array([0.0, 0.0, 0.0, 1.0])  # about the hand's own axis
            model.cam_pos[camera][:2] *= -1.0
            quat = model.cam_quat[camera].copy()
            mujoco.mju_mulQuat(model.cam_quat[camera], half_turn, quat)

    def _pointing_down(self) -> np.ndarray:
        gap = self._data.geom_xpos[self._pads[0]] - self._data.geom_xpos[self._pads[1]]
        fingers = np.round(self.pose().rotation.T @ gap / np.linalg.norm(gap))  # an axis of the grip site's frame
        approach = np.array([0.0, 0.0, 1.0])
        local = np.stack((approach, fingers, np.cross(approach, fingers)), axis=1)
        down = np.array([0.0, 0.0, -1.0])
        across = rotation_z(self.yaw_rad) @ _Y
        ways = [np.stack((down, way, np.cross(down, way)), axis=1) @ local.T for way in (across, -across)]
        return max(ways, key=lambda way: float(np.trace(way.T @ self.pose().rotation)))

    def _touching(self, first: frozenset[int], second: frozenset[int]) -> bool:
        one, two = self._data.contact.geom1, self._data.contact.geom2
        return any(
            (a in first and b in second) or (b in first and a in second)
            for a, b in zip(one.tolist(), two.tolist(), strict=True)
        )


def _subtree(model: mujoco.MjModel, body: int) -> frozenset[int]:
    """Geoms of a body and of all below it."""
    bodies = {body}
    for child in range(body + 1, model.nbody):
        if model.body_parentid[child] in bodies:
            bodies.add(child)
    return frozenset(i for i in range(model.ngeom) if model.geom_bodyid[i] in bodies)


def _towards(start: Pose, goal: Pose, step_m: float, step_rad: float) -> Pose:
    """`goal`, or as far on the straight way to it as a step allows."""
    away = goal.position_m - start.position_m
    turn = rotvec_from_rotation(goal.rotation @ start.rotation.T)
    share_m = min(1.0, step_m / max(float(np.linalg.norm(away)), 1e-9))
    share_rad = min(1.0, step_rad / max(float(np.linalg.norm(turn)), 1e-9))
    rotation = goal.rotation if share_rad == 1.0 else rotation_from_rotvec(turn * share_rad) @ start.rotation
    return Pose(start.position_m + share_m * away, rotation)
