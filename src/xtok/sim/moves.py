"""Smooth straight-down motion: what an expert's hand does between two waypoints, and how to pick and place with it.

All poses are in the world frame, lengths in metres, steps are control steps of 50 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from xtok.sim.geometry import Pose, rotation_from_rotvec, rotvec_from_rotation
from xtok.sim.language import subtask
from xtok.sim.world import CONTROL_HZ, World, turned

SPEED_M_S = 0.42  # mean speed of a move in ordinary style; its peak is 1.9 times that
TURN_RAD_S = 2.2
TOLERANCE_M, TOLERANCE_RAD = 0.006, 0.06
SETTLE_STEPS = 10  # longest wait for the arm to catch up with the end of a move
OPEN, CLOSED = 1.0, 0.0
BLOCKED_M = 0.008  # a hand that stays this far above its grasp stands on something


@dataclass(frozen=True)
class Style:
    """How one episode differs from another. speed: factor. hover_m: height of the way between things, over the table.

    bulge_m: how far a way bends to one side. yaw_rad: turn of a grasp. grasp_m: where along the fingers' flat a thing
    is taken. deeper_m: of a grasp. pause: extra steps before the fingers close.
    """

    speed: float = 1.0
    hover_m: float = 0.12
    bulge_m: float = 0.0
    yaw_rad: float = 0.0
    grasp_m: float = 0.0
    deeper_m: float = 0.0
    pause: int = 0

    @classmethod
    def draw(cls, rng: np.random.Generator, speed: float = 1.0) -> Style:
        """A random manner. speed: what the arm is good for."""
        return cls(
            speed=speed * float(rng.uniform(0.8, 1.25)),
            hover_m=float(rng.uniform(0.10, 0.15)),
            bulge_m=float(rng.uniform(-0.04, 0.04)),
            yaw_rad=float(rng.uniform(-0.5, 0.5)),
            grasp_m=float(rng.uniform(-0.005, 0.005)),
            deeper_m=float(rng.uniform(-0.003, 0.003)),
            pause=int(rng.integers(0, 3)),
        )


@dataclass(frozen=True)
class Move:
    """Go to a pose with the gripper commanded to `gripper`, then hold for `hold` steps.

    over_m: world height of the way (up, across, down), or None for a straight one. precise: its end counts only
    when the arm is close to it. until: ends the move early. least_steps: it takes no fewer, so that two arms that carry
    one thing keep step.
    """

    text: str
    to: Pose
    gripper: float
    over_m: float | None = None
    speed: float = 1.0
    bulge_m: float = 0.0
    precise: bool = False
    hold: int = 0
    until: Callable[[World], bool] | None = None
    least_steps: int = 1

    def steps(self, start: Pose) -> int:
        """Control steps of the way from `start`."""
        across = float(np.linalg.norm(self.to.position_m - start.position_m))
        if self.over_m is not None:
            rise = max(0.0, self.over_m - start.position_m[2]) + max(0.0, self.over_m - self.to.position_m[2])
            across = float(np.linalg.norm((self.to.position_m - start.position_m)[:2])) + 0.7 * rise
        turn = float(np.linalg.norm(rotvec_from_rotation(self.to.rotation @ start.rotation.T)))
        seconds = max(across / (SPEED_M_S * self.speed), turn / TURN_RAD_S)
        # short ways need time to start and stop as well
        return max(self.least_steps, round(CONTROL_HZ * (seconds + (0.15 if across > 0.004 or turn > 0.04 else 0.0))))

    def at(self, start: Pose, share: float) -> Pose:
        """Pose after `share` (0..1) of the way from `start`, eased at both ends."""
        target = self.to.position_m
        rotvec = rotvec_from_rotation(self.to.rotation @ start.rotation.T)
        if self.over_m is None:
            eased = _ease(share)
            position = start.position_m + eased * (target - start.position_m)
            rotation = rotation_from_rotvec(rotvec * eased) @ start.rotation
            return Pose(position + self._bend(start, eased), rotation)
        across = _ease(_between(share, 0.12, 0.80))
        position = start.position_m + across * (target - start.position_m)
        up, down = _ease(_between(share, 0.0, 0.40)), _ease(_between(share, 0.58, 1.0))
        position[2] = start.position_m[2] + up * (self.over_m - start.position_m[2]) + down * (target[2] - self.over_m)
        rotation = rotation_from_rotvec(rotvec * across) @ start.rotation
        return Pose(position + self._bend(start, across), rotation)

    def _bend(self, start: Pose, eased: float) -> np.ndarray:
        """Sideways part of the way, level; short ways bend less."""
        along = (self.to.position_m - start.position_m)[:2]
        length = float(np.linalg.norm(along))
        if length < 1e-6 or self.bulge_m == 0.0:
            return np.zeros(3)
        side = np.array([-along[1], along[0], 0.0]) / length
        return side * (self.bulge_m * min(1.0, length / 0.2) * (4.0 * eased * (1.0 - eased)) ** 2)


@dataclass(frozen=True)
class Together:
    """A stage of two arms: each makes its own moves, and the stage ends when both have. text: its sub-task line.

    moves: side -> moves; a side that is not named stays where it is.
    """

    text: str
    moves: Mapping[str, Iterable[Move]]


def _ease(share: float) -> float:
    """Smooth start and stop: 10 s^3 - 15 s^4 + 6 s^5."""
    return share**3 * (10.0 - 15.0 * share + 6.0 * share**2)


def _between(share: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, (share - low) / (high - low)))


def nearest_turn(yaw_rad: float, symmetry_rad: float) -> float:
    """The smallest turn that is the same as `yaw_rad` for a thing of this symmetry."""
    return (yaw_rad + symmetry_rad / 2) % symmetry_rad - symmetry_rad / 2


def yaw_of(rotation: np.ndarray) -> float:
    return float(np.arctan2(rotation[1, 0], rotation[0, 0]))


def grasp_pose(world: World, name: str, style: Style) -> Pose:
    """Where the hand takes a prop that stands on something: straight from above."""
    prop, pose = world.props[name], world.pose(name)
    if prop.symmetry_rad == 0.0:
        yaw = style.yaw_rad
    else:
        yaw = nearest_turn(yaw_of(pose.rotation) - world.yaw_rad, prop.symmetry_rad) + 0.15 * style.yaw_rad
    rotation = turned(world.down, yaw)
    lowest = pose.position_m[2] - prop.foot_m
    grip = max(prop.grip_m + style.deeper_m, world.arm.tip_m + 0.005)
    along = turned(np.eye(3), yaw + world.yaw_rad)[:, 0] * (style.grasp_m if prop.symmetry_rad else 0.0)
    return Pose(np.array([pose.position_m[0], pose.position_m[1], lowest + grip]) + along, rotation)


def pick(world: World, style: Style, name: str, thing: str, reach_text: str | None = None) -> Iterator[Move]:
    """Reach for a prop, take it, lift it. `thing` is what the sub-task lines call it.

    reach_text: one line for all three, where a task's sub-tasks are that long.
    """
    reach, grip, lift = (reach_text or subtask(verb, thing) for verb in ("reach", "grasp", "lift"))
    grasp = grasp_pose(world, name, style)
    over = max(world.table_top_m + style.hover_m, grasp.position_m[2] + 0.05)
    yield Move(
        reach, grasp, OPEN, over_m=over, speed=style.speed, bulge_m=style.bulge_m, precise=True,
        hold=style.pause,
    )  # fmt: skip
    blocked = world.hand().position_m[2] > grasp.position_m[2] + BLOCKED_M
    if blocked and world.props[name].symmetry_rad <= np.pi / 2:
        grasp = _across(world, grasp)
        back = Pose(world.hand().position_m + np.array([0.0, 0.0, 0.06]), world.hand().rotation)
        yield Move(reach, back, OPEN, speed=style.speed)
        yield Move(reach, grasp, OPEN, over_m=over, speed=style.speed, precise=True)
    yield Move(grip, grasp, CLOSED, hold=9, until=lambda w: w.held(name) and w.gripped())
    if not world.held(name):  # wide grippers need longer for small things
        yield Move(grip, grasp, CLOSED, hold=8, until=lambda w: w.held(name))
    up = np.array([0.0, 0.0, style.hover_m])
    yield Move(lift, Pose(grasp.position_m + up, grasp.rotation), CLOSED, speed=style.speed)


def _across(world: World, grasp: Pose) -> Pose:
    """The same grasp a quarter turn on: where an open finger came down on a neighbour, the other way is free."""
    yaw = yaw_of(grasp.rotation @ world.down.T)
    return Pose(grasp.position_m, turned(grasp.rotation, -np.pi / 2 if yaw > 0 else np.pi / 2))


def carried(world: World, name: str, to_m: np.ndarray, yaw_rad: float | None = None) -> Pose:
    """Pose of the hand that puts the origin of a carried prop at `to_m`, turned to `yaw_rad` where that is asked."""
    hand, thing = world.hand(), world.pose(name)
    turn = 0.0
    if yaw_rad is not None:
        turn = nearest_turn(yaw_rad - yaw_of(thing.rotation), world.props[name].symmetry_rad or 1e-9)
    offset = turned(np.eye(3), turn) @ (thing.position_m - hand.position_m)
    # upright hand: what the arm leans by mistake is not to be kept
    return Pose(to_m - offset, turned(world.down, yaw_of(hand.rotation @ world.down.T) + turn))


def place(
    world: World,
    style: Style,
    name: str,
    onto_m: np.ndarray,
    text: str,
    drop_m: float = 0.004,
) -> Iterator[Move]:
    """Carry a held prop over and set its lowest point `drop_m` above `onto_m`, let go, go up. `text`: sub-task line."""
    foot = world.props[name].foot_m
    target = onto_m + np.array([0.0, 0.0, foot + drop_m])
    hand = carried(world, name, target)
    over = max(float(world.hand().position_m[2]), hand.position_m[2] + 0.05)
    yield Move(text, hand, CLOSED, over_m=over, speed=style.speed, bulge_m=style.bulge_m, precise=True)
    yield from release(world, style, hand, text)


def release(world: World, style: Style, hand: Pose, text: str) -> Iterator[Move]:
    """Open the fingers and leave upwards."""
    yield Move(text, hand, OPEN, hold=5)
    yield Move(text, Pose(hand.position_m + np.array([0.0, 0.0, 0.09]), hand.rotation), OPEN, speed=1.2 * style.speed)
