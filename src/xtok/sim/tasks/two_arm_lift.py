"""TwoArmLift: a pot by its two handles, and what is in it stays in."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xtok.sim.arms import LEFT, RIGHT
from xtok.sim.geometry import Pose
from xtok.sim.language import subtask
from xtok.sim.moves import CLOSED, Move, Style, Together
from xtok.sim.props import POST_M, Placement, Prop, cube, pot
from xtok.sim.tasks.base import Goal, Scene, Stage, Task, pick_colours
from xtok.sim.tasks.pairs import HALF, SIGN, grip, handle_pose, in_step, place_of, reach
from xtok.sim.tasks.stages import NEAR_M
from xtok.sim.world import World

LIFTED_M, LIFT_M = 0.12, 0.15
GRIP_M = 0.034  # of a handle, over the middle of the pot
LEVEL = 0.97  # cosine of the tilt that is allowed


class TwoArmLift(Task):
    """One pot, so words decide nothing here; it must be lifted level, by both hands."""

    name = "TwoArmLift"
    max_steps = 160
    arms = 2

    def props(self) -> tuple[Prop, ...]:
        return pot("pot"), cube("cargo", 0.018)

    def scene(self, rng: np.random.Generator) -> Scene:
        at = Placement(
            float(rng.uniform(-0.08, 0.08)), float(rng.uniform(-0.04, 0.04)), float(rng.uniform(-0.35, 0.35))
        )
        beside_m = rng.uniform(-0.02, 0.02, 2)
        cargo = Placement(at.x_m + beside_m[0], at.y_m + beside_m[1], float(rng.uniform(-0.7, 0.7)), 0.007)
        colours = dict(zip(("pot", "cargo"), pick_colours(rng, 2), strict=True))
        return Scene({"pot": at, "cargo": cargo}, colours, (Goal({"colour": colours["pot"]}, ("pot",)),))

    def stages(self, goal: Goal) -> tuple[Stage, ...]:
        thing = f"{goal.words['colour']} pot"
        return (
            Stage(subtask("reach", f"handles of the {thing}"), _at_handles),
            Stage(subtask("grasp", f"handles of the {thing}"), lambda world: len(world.holders("pot")) == 2),
            Stage(subtask("lift", f"{thing} with both hands"), _lifted),
        )

    def failed(self, world: World, goal: Goal) -> str | None:
        if world.upright("pot") < 0.8:
            return "the pot tipped over"
        return None if _in_pot(world) else "what was in the pot fell out"

    def moves(self, world: World, goal: Goal, style: Style) -> Iterator[Together]:
        thing = f"{goal.words['colour']} pot"
        sides = (LEFT, RIGHT)
        grasps = {side: handle_pose(world.of(side), "pot", _handle(side), HALF / 2, style) for side in sides}
        yield Together(
            subtask("reach", f"handles of the {thing}"),
            {side: reach(world.of(side), grasps[side], style) for side in sides},
        )
        yield Together(
            subtask("grasp", f"handles of the {thing}"),
            {side: grip(world.of(side), "pot", grasps[side]) for side in sides},
        )
        up = np.array([0.0, 0.0, LIFT_M + 0.2 * style.hover_m])
        lift = {
            side: Move("", Pose(grasps[side].position_m + up, grasps[side].rotation), CLOSED, speed=0.7 * style.speed)
            for side in sides
        }
        yield Together(subtask("lift", f"{thing} with both hands"), in_step(lift, world))


def _handle(side: str) -> tuple[float, float, float]:
    """Where a hand takes the pot, in its frame."""
    return 0.0, SIGN[side] * POST_M, GRIP_M


def _at_handles(world: World) -> bool:
    away = (world.of(side).hand().position_m - place_of(world, "pot", _handle(side)) for side in (LEFT, RIGHT))
    return all(float(np.linalg.norm(each)) < NEAR_M for each in away)


def _in_pot(world: World) -> bool:
    offset = world.pose("pot").inverse().compose(world.pose("cargo")).position_m
    return bool(np.abs(offset[:2]).max() < 0.09 and -0.02 < offset[2] < 0.05)


def _lifted(world: World) -> bool:
    held = len(world.holders("pot")) == 2
    return held and world.height("pot") > LIFTED_M and world.upright("pot") > LEVEL and _in_pot(world)
