"""Serve: a thing into a bin, another into the other bin, then the button, all as the words say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import permutations

import numpy as np

from xtok.sim.language import subtask
from xtok.sim.moves import Move, Style, pick, place
from xtok.sim.props import Placement, Prop, ball, bottle, button, can, tray
from xtok.sim.tasks.base import Goal, Scene, Stage, Task, pick_colours, scatter, shuffled_colours
from xtok.sim.tasks.press import PRESSED_M, press
from xtok.sim.tasks.stages import at_rest, fell, inside, lifted
from xtok.sim.world import World

THINGS, BINS = ("can", "ball", "bottle"), ("near", "far")


class Serve(Task):
    """Five sub-tasks of two kinds. The words choose two of three things, their order and the bin of each."""

    name = "Serve"
    max_steps = 420

    def props(self) -> tuple[Prop, ...]:
        return can("can"), ball("ball"), bottle("bottle"), *(tray(n, 0.058) for n in BINS), button("button", stays=True)

    def scene(self, rng: np.random.Generator) -> Scene:
        x = rng.uniform(-0.04, 0.06, size=2)
        bins = {name: Placement(float(x[i]), (-0.205, 0.205)[i]) for i, name in enumerate(BINS)}
        taken = {name: (place.x_m, place.y_m, 0.082) for name, place in bins.items()}
        radii = {"button": 0.042, **dict.fromkeys((THINGS[i] for i in rng.permutation(3)), 0.023)}
        rest = scatter(rng, radii, (-0.11, 0.13), (-0.13, 0.13), 0.7, taken, gap_m=0.03)
        near, far, knob = pick_colours(rng, 3)
        colours = {**shuffled_colours(rng, THINGS), "near": near, "far": far, "button": knob}
        goals = tuple(
            Goal(
                {
                    "first": first,
                    "first_bin": colours[bins_[0]],
                    "second": second,
                    "second_bin": colours[bins_[1]],
                    "colour": knob,
                },
                (first, bins_[0], second, bins_[1]),
            )
            for first, second in permutations(THINGS, 2)
            for bins_ in permutations(BINS)
        )
        return Scene({**bins, **rest}, colours, goals)

    def stages(self, goal: Goal) -> tuple[Stage, ...]:
        def put_in(name: str, target: str) -> Callable[[World], bool]:
            return lambda world: inside(world, name, target) and at_rest(world, name)

        stages: list[Stage] = []
        for name, target, where in _parts(goal):
            stages += [lifted(name, name), Stage(subtask("place_in", name, where), put_in(name, target))]
        button_ = f"{goal.words['colour']} button"
        return (*stages, Stage(subtask("press", button_), lambda world: world.joint("button") < PRESSED_M))

    def failed(self, world: World, goal: Goal) -> str | None:
        first, first_bin, second, second_bin = goal.targets
        for name in THINGS:
            for target in BINS:
                if inside(world, name, target) and (name, target) not in ((first, first_bin), (second, second_bin)):
                    return f"the {name} is in a wrong bin"
        done = [inside(world, first, first_bin), inside(world, second, second_bin)]
        if done == [False, True]:
            return f"the {second} was served before the {first}"
        if world.joint("button") < PRESSED_M and not all(done):
            return "the button was pressed too early"
        return fell(world, THINGS)

    def moves(self, world: World, goal: Goal, style: Style) -> Iterator[Move]:
        for name, target, where in _parts(goal):
            yield from pick(world, style, name, name, reach_text=subtask("lift", name))
            onto = world.position(target) + np.array([0.0, 0.0, 0.004])
            yield from place(world, style, name, onto, subtask("place_in", name, where), drop_m=0.012)
        line = subtask("press", f"{goal.words['colour']} button")
        yield from press(world, style, "button", f"{goal.words['colour']} button", reach_text=line)


def _parts(goal: Goal) -> list[tuple[str, str, str]]:
    """(thing, bin, what words call the bin) in their order."""
    first, first_bin, second, second_bin = goal.targets
    return [
        (first, first_bin, f"{goal.words['first_bin']} bin"),
        (second, second_bin, f"{goal.words['second_bin']} bin"),
    ]
