"""PickPlace: of several things, the named one into the tray."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xtok.sim.language import subtask
from xtok.sim.moves import Move, Style, pick, place
from xtok.sim.props import Placement, Prop, ball, bar, bottle, can, tray
from xtok.sim.tasks.base import Goal, Scene, Stage, Task, scatter, shuffled_colours
from xtok.sim.tasks.stages import at_rest, fell, grasped, inside, lifted, reached
from xtok.sim.world import World

THINGS = ("can", "ball", "bar", "bottle")


class PickPlace(Task):
    """A can, a ball, a bar and a bottle in any colours; the words name the kind."""

    name = "PickPlace"
    max_steps = 200

    def props(self) -> tuple[Prop, ...]:
        return can("can"), ball("ball"), bar("bar"), bottle("bottle"), tray("tray", 0.07)

    def scene(self, rng: np.random.Generator) -> Scene:
        side = -1.0 if rng.random() < 0.5 else 1.0
        home = Placement(float(rng.uniform(-0.02, 0.06)), side * float(rng.uniform(0.19, 0.22)))
        radii = {"can": 0.023, "ball": 0.023, "bar": 0.05, "bottle": 0.023}
        y_m = (-0.10, 0.22) if side < 0 else (-0.22, 0.10)
        things = scatter(rng, radii, (-0.11, 0.13), y_m, 0.9, taken={"tray": (home.x_m, home.y_m, 0.105)}, gap_m=0.03)
        colours = shuffled_colours(rng, THINGS)
        goals = tuple(Goal({"thing": thing}, (thing,)) for thing in THINGS)
        return Scene({**things, "tray": home}, {**colours, "tray": "white"}, goals)

    def stages(self, goal: Goal) -> tuple[Stage, ...]:
        (name,) = goal.targets
        return (
            reached(name, name),
            grasped(name, name),
            lifted(name, name),
            Stage(
                subtask("place_in", name, "tray"), lambda world: inside(world, name, "tray") and at_rest(world, name)
            ),
        )

    def failed(self, world: World, goal: Goal) -> str | None:
        for name in THINGS:
            if name not in goal.targets and inside(world, name, "tray"):
                return f"the {name} is in the tray"
        return fell(world, THINGS)

    def moves(self, world: World, goal: Goal, style: Style) -> Iterator[Move]:
        (name,) = goal.targets
        yield from pick(world, style, name, name)
        floor = world.position("tray") + np.array([0.0, 0.0, 0.004])
        yield from place(world, style, name, floor, subtask("place_in", name, "tray"), drop_m=0.012)
