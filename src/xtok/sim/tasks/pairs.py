"""What tasks for two arms share: who takes what, grasps of a thing's handle, ways home. Frames are the world's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from xtok.sim.arms import LEFT, RIGHT
from xtok.sim.geometry import Pose
from xtok.sim.moves import CLOSED, OPEN, Move, Style, nearest_turn, yaw_of
from xtok.sim.world import World, turned

SIGN = {LEFT: 1.0, RIGHT: -1.0}  # of y, on an arm's own side of the table
OTHER = {LEFT: RIGHT, RIGHT: LEFT}
HOME_M = (0.22, 0.20)  # a hand out of the way: distance from the middle towards its own arm, height over the table
QUARTER, HALF = float(np.pi / 2), float(np.pi)


def side_of(y_m: float) -> str:
    """The arm on whose side of the table something is."""
    return LEFT if y_m > 0 else RIGHT


def place_of(world: World, name: str, local_m: tuple[float, float, float]) -> np.ndarray:
    """World position of a point of a prop, given in the prop's frame."""
    pose = world.pose(name)
    return pose.position_m + pose.rotation @ np.array(local_m)


def handle_pose(
    world: World, name: str, local_m: tuple[float, float, float], symmetry_rad: float, style: Style
) -> Pose:
    """The hand of `world` straight down on a point of a prop, fingers across it as the prop lies."""
    yaw = nearest_turn(yaw_of(world.pose(name).rotation) - world.yaw_rad, symmetry_rad) + 0.1 * style.yaw_rad
    at = place_of(world, name, local_m)
    lowest = world.table_top_m + world.arm.tip_m + 0.005  # fingertips stay off the table
    at[2] = max(at[2] + style.deeper_m, lowest if world.height(name) < 0.02 else -np.inf)
    return Pose(at, turned(world.down, yaw))


def reach(world: World, grasp: Pose, style: Style, over_m: float = 0.0) -> Iterator[Move]:
    """Open, from above."""
    over = max(world.table_top_m + style.hover_m, grasp.position_m[2] + 0.05, over_m)
    yield Move("", grasp, OPEN, over_m=over, speed=style.speed, bulge_m=style.bulge_m, precise=True, hold=style.pause)


def grip(world: World, name: str, grasp: Pose) -> Iterator[Move]:
    """Close the fingers on a prop."""
    yield Move("", grasp, CLOSED, hold=9, until=lambda w: w.held(name) and w.gripped())
    if not world.held(name):  # wide grippers need longer for small things
        yield Move("", grasp, CLOSED, hold=8, until=lambda w: w.held(name))


def straight(world: World, to: Pose, gripper: float, style: Style, speed: float = 1.0) -> Iterator[Move]:
    yield Move("", to, gripper, speed=speed * style.speed, precise=True)


def raised(world: World, by_m: float) -> Pose:
    """Where the hand is, so much higher."""
    hand = world.hand()
    return Pose(hand.position_m + np.array([0.0, 0.0, by_m]), hand.rotation)


def home(world: World, gripper: float, style: Style) -> Iterator[Move]:
    """Out of the way of the other arm: up, and back to one's own side."""
    back, up = HOME_M
    hand = world.hand()
    at = np.array([0.5 * hand.position_m[0], SIGN[world.side or RIGHT] * back, world.table_top_m + up])
    over = max(float(hand.position_m[2]) + 0.03, float(at[2]))
    yield Move("", Pose(at, world.down), gripper, over_m=over, speed=style.speed)


def in_step(moves: dict[str, Move], world: World) -> dict[str, list[Move]]:
    """Moves of both hands that last equally long, for a thing that they carry together."""
    steps = max(move.steps(world.of(side).hand()) for side, move in moves.items()) + 1
    return {side: [replace(move, least_steps=steps)] for side, move in moves.items()}
