"""The simulated table: one compiled model for a (task, arm or pair, level), put into a new state for every episode.

robosuite supplies robot, gripper and the operational space controller; props are MJCF of our own (xtok.sim.props), so a
reset moves bodies and repaints geoms in the compiled model and never builds it again. All poses here are in the world
frame unless a name says base.
"""

from __future__ import annotations

import copy
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

from xtok.sim.arms import ArmSpec, PairSpec
from xtok.sim.geometry import Pose, rotation_z, rotvec_from_rotation
from xtok.sim.hand import Hand
from xtok.sim.meshes import decimate_visual_meshes
from xtok.sim.props import COLOURS, Placement, Prop, painted_geoms, to_mjcf
from xtok.sim.robots import prepare

CONTROL_HZ = 20.0
TABLE_TOP_M = 0.80  # world height of the table on Easy
TABLE_SIZE_M = (0.8, 1.0, 0.05)
POST_M = 0.06  # half the width of a post under an arm
TORQUE_EVERY = 2  # physics steps for each torque of the controller: 250 Hz, and a third of the time saved
SETTLE_STEPS = 8  # at reset: objects come to rest, the gripper opens


@dataclass(frozen=True)
class Lag:
    """What the arm (of two: the one further behind) has not done yet: commanded from achieved pose."""

    position_m: float
    rotation_rad: float


class _TableTop(ManipulationEnv):
    """robosuite's side: arms at a table with our props, no observables, no rewards of its own."""

    def __init__(self, robot: ArmSpec | PairSpec, props: Sequence[Prop], surfaces: Sequence[str]) -> None:
        self._props, self._surfaces = props, surfaces
        self._stands = robot.stands if isinstance(robot, PairSpec) else ()
        self._arms = arms = list(robot.arms.values())
        for arm in arms:
            prepare(arm.robot, arm.package)
        super().__init__(
            robots=[arm.robot for arm in arms],
            controller_configs=[_controller(arm) for arm in arms],
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
        for stand, robot in zip(self._stands, self.robots, strict=False):
            robot.robot_model.set_base_xpos([stand.x_m, stand.y_m, 0.0])
            robot.robot_model.set_base_ori([0.0, 0.0, stand.yaw_rad])
        if not self._stands:
            base = self.robots[0].robot_model.base_xpos_offset["table"](TABLE_SIZE_M[0])
            self.robots[0].robot_model.set_base_xpos(self._arms[0].stand_m or base)
        arena = TableArena(table_full_size=TABLE_SIZE_M, table_offset=(0, 0, TABLE_TOP_M), has_legs=False)
        arena.set_origin([0, 0, 0])
        for index, prop in enumerate(self._props):
            arena.worldbody.append(to_mjcf(prop, (3.0, 0.3 * index, 0.5)))
            if prop.joint is not None:  # its parts overlap, and mujoco lets a child collide with a fixed parent
                ET.SubElement(arena.contact, "exclude", body1=prop.name, body2=f"{prop.name}_moving")
        for arm in self._arms:
            if arm.post and arm.stand_m is not None:
                arena.worldbody.append(_post(*arm.stand_m))
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


def _post(x_m: float, y_m: float, top_m: float) -> ET.Element:
    """What an arm without a mount of its own stands on: to be seen, not felt."""
    size, at = f"{POST_M} {POST_M} {top_m / 2}", f"{x_m} {y_m} {top_m / 2}"
    look = {"rgba": "0.25 0.25 0.27 1", "group": "1", "contype": "0", "conaffinity": "0"}
    return ET.Element("geom", {"name": "post", "type": "box", "size": size, "pos": at, **look})


def _controller(arm: ArmSpec) -> dict:
    """Settings of robosuite's operational space controller for an arm."""
    controller = load_composite_controller_config(robot=arm.robot)
    part = controller["body_parts"]["right"]
    controller["body_parts"] = {"right": part}
    # Position and rotation solved together: apart, as robosuite has it, each disturbs the other by up to 8 cm.
    part.update(input_type="absolute", input_ref_frame="world", uncouple_pos_ori=False)
    part.update(kp=arm.kp, kp_limits=[0, 1000])
    return controller


@dataclass
class _Now:
    """What all views of a world share and an episode changes. steps: control steps since it began."""

    table_top_m: float
    steps: int = 0


class World:
    """One arm or two, one table, the props of a task, textures for its top.

    With two arms, `of(side)` is the same world as one of them has it; whatever concerns "the hand" needs that.
    """

    def __init__(self, robot: ArmSpec | PairSpec, props: Sequence[Prop], surfaces: Sequence[str] = ()) -> None:
        self.props = {prop.name: prop for prop in props}
        self._table = _TableTop(robot, props, surfaces)
        self.model: mujoco.MjModel = self._table.sim.model._model
        self.data: mujoco.MjData = self._table.sim.data._data
        self._now = _Now(TABLE_TOP_M)
        model = self.model
        self._body = {name: model.body(name).id for name in self.props}
        self._joint = {prop.name: model.joint(f"{prop.name}_joint").qposadr[0] for prop in props if prop.joint}
        self._felt = {name: self._geoms_of(f"{name}_c") for name in self.props}
        self._seen = {name: self._geoms_of(f"{name}_g") for name in self.props}
        yaws_rad = [stand.yaw_rad for stand in robot.stands] if isinstance(robot, PairSpec) else [0.0]
        self.hands = {
            side: Hand(self._table.robots[i], i, arm, model, self.data, yaws_rad[i])
            for i, (side, arm) in enumerate(robot.arms.items())
        }
        self._table_body = model.body("table").id
        self._pristine = {name: np.copy(getattr(model, name)) for name in _CHANGEABLE}
        self._side = next(iter(self.hands)) if len(self.hands) == 1 else None
        self._of: dict[str, World] = {}
        for side in self.hands:
            self._of[side] = self._seen_by(side)

    # -- sides ------------------------------------------------------------------------------------------------------

    def of(self, side: str) -> World:
        """The same world, all its state shared, in which "the hand" is the one of a side."""
        return self._of[side]

    @property
    def side(self) -> str | None:
        """Whose hand is meant by "the hand"; None where there are two."""
        return self._side

    @property
    def arm(self) -> ArmSpec:
        return self._mine.arm

    @property
    def base(self) -> Pose:
        return self._mine.base

    @property
    def down(self) -> np.ndarray:
        """Rotation of a hand that points straight down, its fingers opening across the way the arm's stand looks."""
        return self._mine.down

    @property
    def yaw_rad(self) -> float:
        """Where the arm's stand looks."""
        return self._mine.yaw_rad

    def hand(self) -> Pose:
        """Pose of the grip site, between the fingertips."""
        return self._mine.pose()

    def opening(self) -> float:
        """Measured opening of the gripper, 0 closed .. 1 open."""
        return self._mine.opening()

    def gripped(self) -> bool:
        """Whether the fingers have stopped moving."""
        return self._mine.gripped()

    def touched(self, name: str) -> bool:
        """Whether any part of the fingers (of two arms: of either) touches a prop."""
        return any(hand.touches(self._felt[name]) for hand in self._meant)

    def held(self, name: str) -> bool:
        """Whether both fingers of the hand (of two arms: of either) touch a prop."""
        return any(hand.holds(self._felt[name]) for hand in self._meant)

    def holders(self, name: str) -> tuple[str, ...]:
        """Sides of the hands that hold a prop."""
        return tuple(side for side, hand in self.hands.items() if hand.holds(self._felt[name]))

    # -- state of the table -----------------------------------------------------------------------------------------

    @property
    def table_top_m(self) -> float:
        return self._now.table_top_m

    @property
    def steps(self) -> int:
        """Control steps since the episode began."""
        return self._now.steps

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

    def visible_geoms(self, name: str) -> frozenset[int]:
        return self._seen[name]

    # -- acting -----------------------------------------------------------------------------------------------------

    def advance(self, goals: Mapping[str, tuple[Pose, float]]) -> Lag:
        """One control step (50 ms). goals: side -> goal in that arm's base frame, gripper 0 closed .. 1 open (more than
        half opens). Each controller's target follows its goal at up to STEP_M and STEP_RAD a step and keeps following.
        """
        self._now.steps += 1
        aims = {side: hand.aim(*goals[side]) for side, hand in self.hands.items()}
        hands = list(self.hands.values())
        sim = self._table.sim
        for substep in range(round(1.0 / (CONTROL_HZ * self.model.opt.timestep))):
            sim.step1()
            if substep == 0:
                for hand in hands:
                    hand.control()
            elif substep % TORQUE_EVERY == 0:
                for hand in hands:
                    hand.update_torques()
            sim.step2()
        # step2 leaves positions one step old; what is seen and recorded should be now
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        now = {side: hand.pose() for side, hand in self.hands.items()}
        return Lag(
            max(float(np.linalg.norm(aims[side].position_m - now[side].position_m)) for side in now),
            max(
                float(np.linalg.norm(rotvec_from_rotation(aims[side].rotation @ now[side].rotation.T))) for side in now
            ),
        )

    def reset(self, placements: Mapping[str, Placement], rng: np.random.Generator) -> None:
        """A new episode: every prop where `placements` has it, the arms near their rest pose. Call `restore` first."""
        self._table.rng = rng
        self._table.reset()
        for name, placement in placements.items():
            self._place(self.props[name], placement)
        mujoco.mj_forward(self.model, self.data)
        for hand in self.hands.values():
            hand.rest()
        hold = {side: (hand.in_base(), 1.0) for side, hand in self.hands.items()}
        for _ in range(SETTLE_STEPS):
            self.advance(hold)
        self._now.steps = 0

    def restore(self) -> None:
        """Undo what the last episode changed in the model."""
        for name, values in self._pristine.items():
            getattr(self.model, name)[...] = values
        self._now.table_top_m = TABLE_TOP_M

    def raise_table(self, by_m: float) -> None:
        self.model.body_pos[self._table_body][2] += by_m
        self._now.table_top_m = TABLE_TOP_M + by_m

    def paint(self, name: str, colour: str) -> None:
        self.paint_rgb(name, COLOURS[colour])

    def paint_rgb(self, name: str, rgb: tuple[float, float, float]) -> None:
        for geom in painted_geoms(self.props[name]):
            self.model.geom(geom).rgba[:3] = rgb

    def turn_wrist_cameras(self) -> None:
        for hand in self.hands.values():
            hand.turn_camera()

    def close(self) -> None:
        self._table.close()

    @property
    def _mine(self) -> Hand:
        if self._side is None:
            raise ValueError(f"there are two hands; ask world.of(side) with a side of {list(self.hands)}")
        return self.hands[self._side]

    @property
    def _meant(self) -> tuple[Hand, ...]:
        return tuple(self.hands.values()) if self._side is None else (self.hands[self._side],)

    def _seen_by(self, side: str) -> World:
        if self._side == side:
            return self
        seen = copy.copy(self)
        seen._side = side
        return seen

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


# What an episode may change. Not how often a texture repeats: a renderer keeps what it finds when it is made.
_CHANGEABLE = (
    "body_pos", "body_quat", "geom_rgba", "geom_matid", "mat_rgba", "light_pos", "light_dir",
    "light_diffuse", "light_ambient", "cam_pos", "cam_quat", "cam_fovy",
)  # fmt: skip


def turned(rotation: np.ndarray, yaw_rad: float) -> np.ndarray:
    """A rotation turned about the world's vertical."""
    return rotation_z(yaw_rad) @ rotation
