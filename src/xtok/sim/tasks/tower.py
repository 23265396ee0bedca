"""Tower: three cubes on top of each other, in the order that the words give."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import numpy as np

from xtok.sim.language import subtask
from xtok.sim.moves import Move, Style, pick, place
from xtok.sim.props import Prop, cube
from xtok.sim.tasks.base import Goal, Scene, Stage, Task, pick_colours, scatter
from xtok.sim.tasks.stack import SIDE_M, stacked
from xtok.sim.tasks.stages import fell, lifted
from xtok.sim.world import World

CUBES = ("one", "two", "three")


class Tower(Task):
    """Four sub-tasks; a cube on another that the words do not have there is a failure."""

    name = "Tower"
    max_steps = 340

    def props(self) -> tuple[Prop, ...]:
        return tuple(cube(name, SIDE_M / 2) for name in CUBES)

    def scene(self, rng: np.random.Generator) -> Scene:
        radii = dict.fromkeys([CUBES[i] for i in rng.permutation(3)], 0.03)
        placements = scatter(rng, radii, (-0.09, 0.11), (-0.17, 0.17), yaw_rad=0.7, gap_m=0.045)
        colours = dict(zip(CUBES, pick_colours(rng, 3), strict=True))
        goals = tuple(
            Goal(dict(zip(("bottom", "middle", "top"), (colours[name] for name in order), strict=True)), order)
            for order in permutations(CUBES)
        )
        return Scene(placements, colours, goals)

    def stages(self, goal: Goal) -> tuple[Stage, ...]:
        bottom, middle, top = goal.targets
        base, second, third = (f"{goal.words[place]} cube" for place in ("bottom", "middle", "top"))
        return (
            lifted(middle, second),
            Stage(subtask("place_on", second, base), lambda world: stacked(world, middle, bottom)),
            lifted(top, third),
            Stage(
                subtask("place_on", third, second),
                lambda world: stacked(world, top, middle) and stacked(world, middle, bottom),
            ),
        )

    def failed(self, world: World, goal: Goal) -> str | None:
        bottom, middle, top = goal.targets
        meant = {(middle, bottom), (top, middle)}
        if any(stacked(world, *pair) for pair in permutations(CUBES, 2) if pair not in meant):
            return "a cube is on the wrong one"
        if stacked(world, top, middle) and not stacked(world, middle, bottom):
            return "the top was built before the bottom"
        return "the bottom cube was lifted" if world.height(bottom) > 0.03 else fell(world, CUBES)

    def moves(self, world: World, goal: Goal, style: Style) -> Iterator[Move]:
        called = dict(zip(goal.targets, (f"{goal.words[p]} cube" for p in ("bottom", "middle", "top")), strict=True))
        for under, name in zip(goal.targets[:2], goal.targets[1:], strict=True):
            thing = called[name]
            yield from pick(world, style, name, thing, reach_text=subtask("lift", thing))
            onto = world.position(under) + np.array([0.0, 0.0, SIDE_M / 2])
            yield from place(world, style, name, onto, subtask("place_on", thing, called[under]))
