"""Tidy: three cubes into the tray, in the order that the words give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import permutations

import numpy as np

from xtok.sim.language import subtask
from xtok.sim.moves import Move, Style, pick, place
from xtok.sim.props import Placement, Prop, cube, tray
from xtok.sim.tasks.base import Goal, Scene, Stage, Task, pick_colours, scatter
from xtok.sim.tasks.stages import at_rest, fell, inside, lifted
from xtok.sim.world import World

CUBES = ("one", "two", "three")
SPOTS_M = ((-0.032, -0.030), (0.032, -0.030), (0.0, 0.034))  # in the tray, for the first, second and third cube


class Tidy(Task):
    """The long task: six sub-tasks in an order that only the words tell; a cube out of turn is a failure."""

    name = "Tidy"
    max_steps = 420

    def props(self) -> tuple[Prop, ...]:
        return (*(cube(name, 0.019) for name in CUBES), tray("tray", 0.085))

    def scene(self, rng: np.random.Generator) -> Scene:
        side = -1.0 if rng.random() < 0.5 else 1.0
        home = Placement(float(rng.uniform(-0.03, 0.05)), side * float(rng.uniform(0.18, 0.21)))
        y_m = (-0.06, 0.22) if side < 0 else (-0.22, 0.06)
        taken = {"tray": (home.x_m, home.y_m, 0.12)}
        cubes = scatter(rng, dict.fromkeys(CUBES, 0.027), (-0.11, 0.13), y_m, 0.7, taken, gap_m=0.035)
        colours = dict(zip(CUBES, pick_colours(rng, 3), strict=True))
        goals = tuple(
            Goal(dict(zip(("first", "second", "third"), (colours[name] for name in order), strict=True)), order)
            for order in permutations(CUBES)
        )
        return Scene({**cubes, "tray": home}, {**colours, "tray": "white"}, goals)

    def stages(self, goal: Goal) -> tuple[Stage, ...]:
        def in_tray(name: str) -> Callable[[World], bool]:
            return lambda world: inside(world, name, "tray") and at_rest(world, name)

        stages: list[Stage] = []
        for name, colour in zip(goal.targets, goal.words.values(), strict=True):
            thing = f"{colour} cube"
            stages += [lifted(name, thing), Stage(subtask("place_in", thing, "tray"), in_tray(name))]
        return tuple(stages)

    def failed(self, world: World, goal: Goal) -> str | None:
        there = [inside(world, name, "tray") for name in goal.targets]
        if there != sorted(there, reverse=True):
            return "a cube is in the tray before its turn"
        return fell(world, CUBES)

    def moves(self, world: World, goal: Goal, style: Style) -> Iterator[Move]:
        for name, colour, spot in zip(goal.targets, goal.words.values(), SPOTS_M, strict=True):
            thing = f"{colour} cube"
            yield from pick(world, style, name, thing, reach_text=subtask("lift", thing))
            onto = world.position("tray") + np.array([*spot, 0.004])
            yield from place(world, style, name, onto, subtask("place_in", thing, "tray"), drop_m=0.010)
