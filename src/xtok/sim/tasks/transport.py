"""Transport: out of one arm's crate, over a pad in the middle, into the named bin of the other arm."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xtok.sim.language import subtask
from xtok.sim.moves import OPEN, Move, Style, Together, pick, place
from xtok.sim.props import Placement, Prop, cube, pad, tray
from xtok.sim.tasks.base import Goal, Scene, Stage, Task, pick_colours
from xtok.sim.tasks.pairs import OTHER, home, side_of
from xtok.sim.tasks.stages import at_rest, fell, inside
from xtok.sim.world import World

CUBES, BINS = ("one", "two"), ("near", "far")
LIFTED_M = 0.04
ON_PAD_M = 0.05  # of a cube's middle from the pad's


class Transport(Task):
    """Two cubes in a crate before one arm, two bins before the other; the words name a cube and a bin."""

    name = "Transport"
    max_steps = 380
    arms = 2

    def props(self) -> tuple[Prop, ...]:
        return (
            *(cube(name, 0.019) for name in CUBES),
            *(tray(name, 0.058) for name in BINS),
            tray("crate", 0.095, wall_m=0.020),
            pad("pad"),
        )

    def scene(self, rng: np.random.Generator) -> Scene:
        sign = 1.0 if rng.random() < 0.5 else -1.0  # whose side the crate is on
        crate = Placement(float(rng.uniform(-0.06, 0.06)), sign * float(rng.uniform(0.17, 0.20)))
        order = [CUBES[i] for i in rng.permutation(2)]
        placements = {
            name: Placement(
                crate.x_m + float(rng.uniform(-0.012, 0.012)),
                crate.y_m + y_sign * float(rng.uniform(0.034, 0.042)),
                float(rng.uniform(-0.3, 0.3)),
                0.005,
            )
            for name, y_sign in zip(order, (1.0, -1.0), strict=True)
        }
        x_signs = rng.permutation([-1.0, 1.0])
        for name, x_sign in zip(BINS, x_signs, strict=True):
            x, y = x_sign * float(rng.uniform(0.085, 0.11)), -sign * float(rng.uniform(0.17, 0.20))
            placements[name] = Placement(x, y)
        placements["crate"] = crate
        placements["pad"] = Placement(float(rng.uniform(-0.05, 0.05)), float(rng.uniform(-0.02, 0.02)))
        one, two, near, far = pick_colours(rng, 4)
        colours = {"one": one, "two": two, "near": near, "far": far, "crate": "white", "pad": "white"}
        goals = tuple(
            Goal({"colour": colours[name], "bin": colours[target]}, (name, target)) for name in CUBES for target in BINS
        )
        return Scene(placements, colours, goals)

    def stages(self, goal: Goal) -> tuple[Stage, ...]:
        name, target = goal.targets
        thing, where = f"{goal.words['colour']} cube", f"{goal.words['bin']} bin"

        def in_hand(world: World) -> bool:
            return world.held(name) and world.height(name) > LIFTED_M

        def on_pad(world: World) -> bool:
            away = world.position(name) - world.position("pad")
            return float(np.hypot(*away[:2])) < ON_PAD_M and at_rest(world, name)

        return (
            Stage(subtask("lift", f"{thing} out of the crate"), in_hand),
            Stage(subtask("place_on", thing, "pad"), on_pad),
            Stage(subtask("lift", f"{thing} off the pad"), in_hand),
            Stage(
                subtask("place_in", thing, where), lambda world: inside(world, name, target) and at_rest(world, name)
            ),
        )

    def failed(self, world: World, goal: Goal) -> str | None:
        name, target = goal.targets
        if any(world.height(other) > 0.035 for other in CUBES if other != name):
            return "the wrong cube was taken"
        if any(inside(world, name, other) for other in BINS if other != target):
            return "the cube is in the wrong bin"
        return fell(world, CUBES)

    def moves(self, world: World, goal: Goal, style: Style) -> Iterator[Together]:
        name, target = goal.targets
        thing, where = f"{goal.words['colour']} cube", f"{goal.words['bin']} bin"
        giver = side_of(world.position("crate")[1])
        give, take = world.of(giver), world.of(OTHER[giver])

        def set_down() -> Iterator[Move]:
            yield from place(give, style, name, world.position("pad") + np.array([0.0, 0.0, 0.004]), "")
            yield from home(give, OPEN, style)

        def put_away() -> Iterator[Move]:
            onto = world.position(target) + np.array([0.0, 0.0, 0.004])
            yield from place(take, style, name, onto, "", drop_m=0.010)

        yield Together(subtask("lift", f"{thing} out of the crate"), {giver: pick(give, style, name, thing)})
        yield Together(subtask("place_on", thing, "pad"), {giver: set_down()})
        yield Together(subtask("lift", f"{thing} off the pad"), {OTHER[giver]: pick(take, style, name, thing)})
        yield Together(subtask("place_in", thing, where), {OTHER[giver]: put_away()})
