"""Lift: one cube off the table."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xtok.sim.language import subtask
from xtok.sim.moves import Move, Style, pick
from xtok.sim.props import Prop, cube
from xtok.sim.tasks.base import Goal, Scene, Stage, Task, pick_colours, scatter
from xtok.sim.tasks.stages import grasped, reached
from xtok.sim.world import World

LIFTED_M = 0.06


class Lift(Task):
    """The simplest task, and the only one in which words decide nothing: there is one cube."""

    name = "Lift"
    max_steps = 120

    def props(self) -> tuple[Prop, ...]:
        return (cube("cube"),)

    def scene(self, rng: np.random.Generator) -> Scene:
        (colour,) = pick_colours(rng, 1)
        placements = scatter(rng, {"cube": 0.03}, (-0.10, 0.12), (-0.18, 0.18), yaw_rad=0.7)
        return Scene(placements, {"cube": colour}, (Goal({"colour": colour}, ("cube",)),))

    def stages(self, goal: Goal) -> tuple[Stage, ...]:
        thing = f"{goal.words['colour']} cube"
        return (
            reached("cube", thing),
            grasped("cube", thing),
            Stage(subtask("lift", thing), lambda world: world.height("cube") > LIFTED_M and world.held("cube")),
        )

    def failed(self, world: World, goal: Goal) -> str | None:
        return "the cube fell off the table" if world.height("cube") < -0.05 else None

    def moves(self, world: World, goal: Goal, style: Style) -> Iterator[Move]:
        yield from pick(world, style, "cube", f"{goal.words['colour']} cube")
