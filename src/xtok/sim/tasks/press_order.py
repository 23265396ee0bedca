"""PressOrder: three buttons that stay down, in the order that the words give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import permutations

import numpy as np

from xtok.sim.language import subtask
from xtok.sim.moves import Move, Style
from xtok.sim.props import Prop, button
from xtok.sim.tasks.base import Goal, Scene, Stage, Task, pick_colours, scatter
from xtok.sim.tasks.press import BUTTONS, PRESSED_M, press
from xtok.sim.tasks.stages import reached
from xtok.sim.world import World


class PressOrder(Task):
    """Six sub-tasks, reach and press three times; a button out of turn is a failure."""

    name = "PressOrder"
    max_steps = 260

    def props(self) -> tuple[Prop, ...]:
        return tuple(button(name, stays=True) for name in BUTTONS)

    def scene(self, rng: np.random.Generator) -> Scene:
        placements = scatter(rng, dict.fromkeys(BUTTONS, 0.042), (-0.10, 0.12), (-0.20, 0.20), gap_m=0.04)
        colours = dict(zip(BUTTONS, pick_colours(rng, 3), strict=True))
        goals = tuple(
            Goal(dict(zip(("first", "second", "third"), (colours[name] for name in order), strict=True)), order)
            for order in permutations(BUTTONS)
        )
        return Scene(placements, colours, goals)

    def stages(self, goal: Goal) -> tuple[Stage, ...]:
        def down(name: str) -> Callable[[World], bool]:
            return lambda world: world.joint(name) < PRESSED_M

        stages: list[Stage] = []
        for name, colour in zip(goal.targets, goal.words.values(), strict=True):
            thing = f"{colour} button"
            stages += [reached(name, thing, 0.10), Stage(subtask("press", thing), down(name))]
        return tuple(stages)

    def failed(self, world: World, goal: Goal) -> str | None:
        down = [world.joint(name) < PRESSED_M for name in goal.targets]
        return None if down == sorted(down, reverse=True) else "a button was pressed before its turn"

    def moves(self, world: World, goal: Goal, style: Style) -> Iterator[Move]:
        for name, colour in zip(goal.targets, goal.words.values(), strict=True):
            yield from press(world, style, name, f"{colour} button")
