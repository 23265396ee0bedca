"""The simulated table: one compiled model for a (task, arm, level), put into a new state for every episode.

robosuite supplies robot, gripper and the operational space controller; props are MJCF of our own (xtok.sim.props), so a
reset moves bodies and repaints geoms in the compiled model and never builds it again. All poses here are in the world
frame unless a name says base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

import mujoco
import numpy as np
from robosuite.controllers import load_composite_controller_config
from robosuite.environments.manipulation.manipulation_env import ManipulationEnv
from robosuite.models.arenas import TableArena
from robosuite.models.tasks import ManipulationTask
from robosuite.utils.mjcf_utils import xml_path_completion

from xtok.sim.arms import ArmSpec
from xtok.sim.geometry import Pose, rotation_from_rotvec, rotation_z, rotvec_from_rotation
from xtok.sim.meshes import decimate_visual_meshes
from xtok.sim.props import COLOURS, Placement, Prop, painted_geoms, to_mjcf

CONTROL_HZ = 20.0
TABLE_TOP_M = 0.80  # world height of the table on Easy
TABLE_SIZE_M = (0.8, 1.0, 0.05)
STEP_M, STEP_RAD = 0.06, 0.5  # how far the controller's target may move in one control step: 1.2 m/s, 10 rad/s
TORQUE_EVERY = 2  # physics steps for each torque of the controller: 250 Hz, and a third of the time saved
WRIST_CAMERA = "robot0_eye_in_hand"
SETTLE_STEPS = 8  # at reset: objects come to rest, the gripper opens


@dataclass(frozen=True)
class Lag:
    """What the arm has not done yet: distance of the commanded from the achieved pose."""

    position_m: float
    rotation_rad: float


class _TableTop(ManipulationEnv):
    """robosuite's side: an arm at a table with our props, no observables, no rewards of its own."""

    def __init__(self, arm: ArmSpec, props: Sequence[Prop], surfaces: Sequence[str]) -> None:
        self._props, self._surfaces = props, surfaces
        controller = load_composite_controller_config(robot=arm.robot)
        part = controller["body_parts"]["right"]
        controller["body_parts"] = {"right": part}
        # Position and rotation solved together: apart, as robosuite has it, each disturbs the other by up to 8 cm.
        part.update(input_type="absolute", input_ref_frame="world", uncouple_pos_ori=False)
        part.update(kp=arm.kp, kp_limits=[0, 1000])
        super().__init__(
            robots=arm.robot,
            controller_configs=controller,
            initialization_noise={"magnitude": 0.02, "type": "gaussian"},
            use_camera_obs=False,
            has_renderer=False,
            has_offscreen_renderer=False,
            control_freq=int(CONTROL_HZ),
            ignore_done=True,
            hard_reset=False,
            renderer="mujoco",
            seed=0,
        )

    def edit_model_xml(self, xml_str: str) -> str:
        return decimate_visual_meshes(super().edit_model_xml(xml_str))

    def _load_model(self) -> None:
        super()._load_model()
        base = self.robots[0].robot_model.base_xpos_offset["table"](TABLE_SIZE_M[0])
        self.robots[0].robot_model.set_base_xpos(base)
        arena = TableArena(table_full_size=TABLE_SIZE_M, table_offset=(0, 0, TABLE_TOP_M), has_legs=False)
        arena.set_origin([0, 0, 0])
        for index, prop in enumerate(self._props):
            arena.worldbody.append(to_mjcf(prop, (3.0, 0.3 * index, 0.5)))
            if prop.joint is not None:  # its parts overlap, and mujoco lets a child collide with a fixed parent
                ET.SubElement(arena.contact, "exclude", body1=prop.name, body2=f"{prop.name}_moving")
        for name in self._surfaces:
            file = xml_path_completion(f"textures/{name}.png")
            ET.SubElement(arena.asset, "texture", {"name": f"surface-{name}", "type": "2d", "file": file})
            look = {"texture": f"surface-{name}", "texuniform": "true", "specular": "0.1", "shininess": "0.1"}
            ET.SubElement(arena.asset, "material", {"name": f"surface-{name}", **look})
        for name in ("scene", "front"):
            camera = {"name": name, "mode": "fixed", "pos": "1 0 2", "quat": "1 0 0 0", "fovy": "36"}
            ET.SubElement(arena.worldbody, "camera", camera)
        self.model = ManipulationTask(arena, [robot.robot_model for robot in self.robots])

    def _setup_observables(self) -> dict:
        return {}  # read straight from mujoco instead: robosuite updates its observables 500 times a second

    def reward(self, action: object = None) -> float:
        return 0.0


class World:
    """One arm, one table, the props of a task, textures for its top."""

    def __init__(self, arm: ArmSpec, props: Sequence[Prop], surfaces: Sequence[str] = ()) -> None:
        self.arm = arm
        self.props = {prop.name: prop for prop in props}
        self._table = _TableTop(arm, props, surfaces)
        self.model: mujoco.MjModel = self._table.sim.model._model
        self.data: mujoco.MjData = self._table.sim.data._data
        self.table_top_m = TABLE_TOP_M
        self._robot = self._table.robots[0]
        self._site = self._robot.eef_site_id["right"]
        model = self.model
        self._body = {name: model.body(name).id for name in self.props}
        self._joint = {prop.name: model.joint(f"{prop.name}_joint").qposadr[0] for prop in props if prop.joint}
        self._felt = {name: self._geoms_of(f"{name}_c") for name in self.props}
        self._seen = {name: self._geoms_of(f"{name}_g") for name in self.props}
        gripper = self._robot.gripper["right"]
        pads = (gripper.important_geoms.get(pad, [gripper.naming_prefix + pad])[0] for pad in arm.pads)
        self._pads = [model.geom(pad).id for pad in pads]
        if arm.rest_rad:
            self._robot.init_qpos = np.array(arm.rest_rad)
        self._fingers = [self._subtree(model.geom_bodyid[pad]) for pad in self._pads]
        root = model.body(self._robot.robot_model.root_body).id
        self.base = Pose(self.data.xpos[root].copy(), self.data.xmat[root].reshape(3, 3).copy())
        self._target = self.hand()
        self.steps = 0  # control steps since the episode began
        self._opening_before = 0.0
        self._table_body = model.body("table").id
        self._pristine = {name: np.copy(getattr(model, name)) for name in _CHANGEABLE}
        self.down = self._pointing_down()

    # -- state ------------------------------------------------------------------------------------------------------

    def hand(self) -> Pose:
        """Pose of the grip site, between the fingertips."""
        return Pose(self.data.site_xpos[self._site].copy(), self.data.site_xmat[self._site].reshape(3, 3).copy())

    def hand_in_base(self) -> Pose:
        return self.base.inverse().compose(self.hand())

    def opening(self) -> float:
        """Measured opening of the gripper, 0 closed .. 1 open."""
        gap = float(np.linalg.norm(self.data.geom_xpos[self._pads[0]] - self.data.geom_xpos[self._pads[1]]))
        return (gap - self.arm.pads_closed_m) / (self.arm.pads_open_m - self.arm.pads_closed_m)

    def gripped(self) -> bool:
        """Whether the fingers have stopped moving."""
        return abs(self.opening() - self._opening_before) < 0.015

    def pose(self, name: str) -> Pose:
        """Pose of a prop."""
        body = self._body[name]
        return Pose(self.data.xpos[body].copy(), self.data.xmat[body].reshape(3, 3).copy())

    def position(self, name: str) -> np.ndarray:
        return self.data.xpos[self._body[name]].copy()

    def height(self, name: str) -> float:
        """Of a prop's origin over where it would be standing upright on the table, m."""
        return float(self.data.xpos[self._body[name]][2]) - self.table_top_m - self.props[name].foot_m

    def upright(self, name: str) -> float:
        """Cosine of the angle between a prop's axis and the vertical."""
        return float(self.data.xmat[self._body[name]][8])

    def joint(self, name: str) -> float:
        """Position of a fixture's joint, m or rad."""
        return float(self.data.qpos[self._joint[name]])

    def speed(self, name: str) -> float:
        """Of a prop's origin, m/s."""
        return float(np.linalg.norm(self.data.cvel[self._body[name]][3:]))

    def touched(self, name: str) -> bool:
        """Whether any part of the hand's fingers touches a prop."""
        return any(self._touching(finger, self._felt[name]) for finger in self._fingers)

    def held(self, name: str) -> bool:
        """Whether both fingers touch a prop."""
        return all(self._touching(finger, self._felt[name]) for finger in self._fingers)

    def visible_geoms(self, name: str) -> frozenset[int]:
        return self._seen[name]

    # -- acting -----------------------------------------------------------------------------------------------------

    def advance(self, goal_in_base: Pose, gripper: float) -> Lag:
        """One control step (50 ms) towards a goal in the base frame; gripper 0 closed .. 1 open (more than half opens).

        The controller's target follows the goal at up to STEP_M and STEP_RAD a step and keeps following.
        """
        self.steps += 1
        self._opening_before = self.opening()
        goal = self.base.compose(goal_in_base)
        self._target = _towards(self._target, goal, STEP_M, STEP_RAD)
        action = np.concatenate(
            (
                self._target.position_m,
                rotvec_from_rotation(self._target.rotation),
                [-1.0 if gripper > 0.5 else 1.0],
            )
        )
        sim = self._table.sim
        for substep in range(round(1.0 / (CONTROL_HZ * self.model.opt.timestep))):
            sim.step1()
            if substep == 0:
                self._robot.control(action, policy_step=True)
            elif substep % TORQUE_EVERY == 0:
                self._update_torques()
            sim.step2()
        # step2 leaves positions one step old; what is seen and recorded should be now
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        hand = self.hand()
        return Lag(
            float(np.linalg.norm(goal.position_m - hand.position_m)),
            float(np.linalg.norm(rotvec_from_rotation(goal.rotation @ hand.rotation.T))),
        )

    def reset(self, placements: Mapping[str, Placement], rng: np.random.Generator) -> None:
        """A new episode: every prop where `placements` has it, the arm near its rest pose. Call `restore` first."""
        self._table.rng = rng
        self._table.reset()
        for name, placement in placements.items():
            self._place(self.props[name], placement)
        mujoco.mj_forward(self.model, self.data)
        self._target = self.hand()
        hold = self.base.inverse().compose(self._target)
        for _ in range(SETTLE_STEPS):
            self.advance(hold, 1.0)
        self.steps = 0

    def restore(self) -> None:
        """Undo what the last episode changed in the model."""
        for name, values in self._pristine.items():
            getattr(self.model, name)[...] = values
        self.table_top_m = TABLE_TOP_M

    def raise_table(self, by_m: float) -> None:
        self.model.body_pos[self._table_body][2] += by_m
        self.table_top_m = TABLE_TOP_M + by_m

    def paint(self, name: str, colour: str) -> None:
        self.paint_rgb(name, COLOURS[colour])

    def paint_rgb(self, name: str, rgb: tuple[float, float, float]) -> None:
        for geom in painted_geoms(self.props[name]):
            self.model.geom(geom).rgba[:3] = rgb

    def turn_wrist_camera(self) -> None:
        """Put the wrist camera on the side of the hand that faces away from the robot, where an arm has it behind."""
        if self.arm.camera_behind:
            camera = self.model.camera(WRIST_CAMERA).id
            half_turn = np.array([0.0, 0.0, 0.0, 1.0])  # about the hand's own axis
            self.model.cam_pos[camera][:2] *= -1.0
            quat = self.model.cam_quat[camera].copy()
            mujoco.mju_mulQuat(self.model.cam_quat[camera], half_turn, quat)

    def close(self) -> None:
        self._table.close()

    def _update_torques(self) -> None:
        """The arm's share of robot.control, all that changes within a step; the rest would double the time."""
        arm = self._robot.part_controllers["right"]
        actuators = self._robot._ref_actuators_indexes_dict["right"]
        low, high = self.model.actuator_ctrlrange[actuators].T
        self.data.ctrl[actuators] = np.clip(arm.run_controller(), low, high)

    def _pointing_down(self) -> np.ndarray:
        """Rotation of a hand that points straight down, its fingers opening along the world's y, near the rest pose."""
        gap = self.data.geom_xpos[self._pads[0]] - self.data.geom_xpos[self._pads[1]]
        fingers = np.round(self.hand().rotation.T @ gap / np.linalg.norm(gap))  # an axis of the grip site's frame
        approach = np.array([0.0, 0.0, 1.0])
        local = np.stack((approach, fingers, np.cross(approach, fingers)), axis=1)
        down = np.array([0.0, 0.0, -1.0])
        ways = [np.stack((down, way, np.cross(down, way)), axis=1) @ local.T for way in (_Y, -_Y)]
        return max(ways, key=lambda way: float(np.trace(way.T @ self.hand().rotation)))

    def _place(self, prop: Prop, placement: Placement) -> None:
        at = np.array([placement.x_m, placement.y_m, self.table_top_m + prop.foot_m + placement.z_m])
        quat = np.array([np.cos(placement.yaw_rad / 2), 0.0, 0.0, np.sin(placement.yaw_rad / 2)])
        if prop.free:
            start = self.model.joint(f"{prop.name}_free").qposadr[0]
            self.data.qpos[start : start + 7] = (*at, *quat)
        else:
            self.model.body_pos[self._body[prop.name]] = at
            self.model.body_quat[self._body[prop.name]] = quat

    def _geoms_of(self, prefix: str) -> frozenset[int]:
        return frozenset(i for i in range(self.model.ngeom) if self.model.geom(i).name.startswith(prefix))

    def _subtree(self, body: int) -> frozenset[int]:
        """Geoms of a body and of all below it."""
        bodies = {body}
        for child in range(body + 1, self.model.nbody):
            if self.model.body_parentid[child] in bodies:
                bodies.add(child)
        return frozenset(i for i in range(self.model.ngeom) if self.model.geom_bodyid[i] in bodies)

    def _touching(self, first: frozenset[int], second: frozenset[int]) -> bool:
        one, two = self.data.contact.geom1, self.data.contact.geom2
        return any(
            (a in first and b in second) or (b in first and a in second)
            for a, b in zip(one.tolist(), two.tolist(), strict=True)
        )


# What an episode may change. Not how often a texture repeats: a renderer keeps what it finds when it is made.
_CHANGEABLE = (
    "body_pos", "body_quat", "geom_rgba", "geom_matid", "mat_rgba", "light_pos", "light_dir",
    "light_diffuse", "light_ambient", "cam_pos", "cam_quat", "cam_fovy",
)  # fmt: skip


_Y = np.array([0.0, 1.0, 0.0])


def _towards(start: Pose, goal: Pose, step_m: float, step_rad: float) -> Pose:
    """`goal`, or as far on the straight way to it as a step allows."""
    away = goal.position_m - start.position_m
    turn = rotvec_from_rotation(goal.rotation @ start.rotation.T)
    share_m = min(1.0, step_m / max(float(np.linalg.norm(away)), 1e-9))
    share_rad = min(1.0, step_rad / max(float(np.linalg.norm(turn)), 1e-9))
    rotation = goal.rotation if share_rad == 1.0 else rotation_from_rotvec(turn * share_rad) @ start.rotation
    return Pose(start.position_m + share_m * away, rotation)


def turned(rotation: np.ndarray, yaw_rad: float) -> np.ndarray:
    """A rotation turned about the world's vertical."""
    return rotation_z(yaw_rad) @ rotation
