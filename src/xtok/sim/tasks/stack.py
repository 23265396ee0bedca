"""Stack: of two cubes, the named one on the other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xtok.sim.language import subtask
from xtok.sim.moves import Move, Style, pick, place
from xtok.sim.props import Prop, cube
from xtok.sim.tasks.base import Goal, Scene, Stage, Task, pick_colours, scatter
from xtok.sim.tasks.stages import at_rest, grasped, lifted, reached
from xtok.sim.world import World

SIDE_M = 0.042


class Stack(Task):
    """Two cubes of the same size; which goes on which is in the words alone."""

    name = "Stack"
    max_steps = 200

    def props(self) -> tuple[Prop, ...]:
        return cube("one", SIDE_M / 2), cube("two", SIDE_M / 2)

    def scene(self, rng: np.random.Generator) -> Scene:
        colours = dict(zip(("one", "two"), pick_colours(rng, 2), strict=True))
        placements = scatter(rng, {"one": 0.03, "two": 0.03}, (-0.10, 0.12), (-0.18, 0.18), yaw_rad=0.7, gap_m=0.035)
        goals = tuple(
            Goal({"top": colours[top], "bottom": colours[bottom]}, (top, bottom))
            for top, bottom in (("one", "two"), ("two", "one"))
        )
        return Scene(placements, colours, goals)

    def stages(self, goal: Goal) -> tuple[Stage, ...]:
        top, bottom = goal.targets
        thing, where = f"{goal.words['top']} cube", f"{goal.words['bottom']} cube"
        return (
            reached(top, thing),
            grasped(top, thing),
            lifted(top, thing),
            Stage(subtask("place_on", thing, where), lambda world: stacked(world, top, bottom)),
        )

    def failed(self, world: World, goal: Goal) -> str | None:
        _, bottom = goal.targets
        if world.height(bottom) > 0.03:
            return "the wrong cube was lifted"
        if min(world.height(name) for name in goal.targets) < -0.05:
            return "a cube fell off the table"
        return None

    def moves(self, world: World, goal: Goal, style: Style) -> Iterator[Move]:
        top, bottom = goal.targets
        thing, where = f"{goal.words['top']} cube", f"{goal.words['bottom']} cube"
        yield from pick(world, style, top, thing)
        base = world.pose(bottom)
        onto = base.position_m + np.array([0.0, 0.0, SIDE_M / 2])
        yield from place(world, style, top, onto, subtask("place_on", thing, where))


def stacked(world: World, top: str, bottom: str) -> bool:
    """Whether a cube lies on another, let go of."""
    offset = world.position(top) - world.position(bottom)
    return bool(np.hypot(*offset[:2]) < 0.75 * SIDE_M) and abs(offset[2] - SIDE_M) < 0.008 and at_rest(world, top)
