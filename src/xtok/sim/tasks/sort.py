"""Sort: all blocks of the named colour into the named bin."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xtok.sim.language import subtask
from xtok.sim.moves import Move, Style, pick, place
from xtok.sim.props import Placement, Prop, cube, tray
from xtok.sim.tasks.base import Goal, Scene, Stage, Task, pick_colours, scatter
from xtok.sim.tasks.stages import at_rest, fell, inside, lifted
from xtok.sim.world import World

BLOCKS = ("one", "two", "three", "four")  # of one colour the first two, of another the others
BINS = ("near", "far")
SPOTS_M = (-0.026, 0.026)  # where in a bin the first and the second block go


class Sort(Task):
    """Two pairs of blocks, two bins in two further colours; the words name a pair and a bin."""

    name = "Sort"
    max_steps = 320

    def props(self) -> tuple[Prop, ...]:
        return (*(cube(name, 0.019) for name in BLOCKS), *(tray(name, 0.065) for name in BINS))

    def scene(self, rng: np.random.Generator) -> Scene:
        x = rng.uniform(-0.04, 0.06, size=2)
        bins = {name: Placement(float(x[i]), (-0.21, 0.21)[i]) for i, name in enumerate(BINS)}
        taken = {name: (place.x_m, place.y_m, 0.092) for name, place in bins.items()}
        order = [BLOCKS[i] for i in rng.permutation(4)]  # no block has a place of its own
        blocks = scatter(rng, dict.fromkeys(order, 0.027), (-0.11, 0.13), (-0.13, 0.13), 0.7, taken, gap_m=0.03)
        first, second, near, far = pick_colours(rng, 4)
        colours = {"one": first, "two": first, "three": second, "four": second, "near": near, "far": far}
        goals = tuple(
            Goal({"colour": colours[pair[0]], "bin": colours[target]}, (*pair, target))
            for pair in (BLOCKS[:2], BLOCKS[2:])
            for target in BINS
        )
        return Scene({**blocks, **bins}, colours, goals)

    def stages(self, goal: Goal) -> tuple[Stage, ...]:
        *pair, target = goal.targets
        thing, where = f"{goal.words['colour']} block", f"{goal.words['bin']} bin"

        def sorted_(count: int, world: World) -> bool:
            return sum(inside(world, name, target) and at_rest(world, name) for name in pair) >= count

        def in_hand(world: World) -> bool:
            return any(lifted(name, thing).done(world) for name in pair)

        return (
            Stage(subtask("lift", f"first {thing}"), in_hand),
            Stage(subtask("place_in", f"first {thing}", where), lambda world: sorted_(1, world)),
            Stage(subtask("lift", f"second {thing}"), in_hand),
            Stage(subtask("place_in", f"second {thing}", where), lambda world: sorted_(2, world)),
        )

    def failed(self, world: World, goal: Goal) -> str | None:
        *pair, target = goal.targets
        for name in BLOCKS:
            for bin_name in BINS:
                if inside(world, name, bin_name) and not (name in pair and bin_name == target):
                    return "a block is in the wrong bin" if name in pair else "a block of the wrong colour is in a bin"
        return fell(world, BLOCKS)

    def moves(self, world: World, goal: Goal, style: Style) -> Iterator[Move]:
        *pair, target = goal.targets
        thing, where = f"{goal.words['colour']} block", f"{goal.words['bin']} bin"
        if style.bulge_m < 0:
            pair.reverse()
        for number, name, spot in zip(("first", "second"), pair, SPOTS_M, strict=True):
            which = f"{number} {thing}"
            # a sub-task here is a whole carry: its first half is the lift
            yield from pick(world, style, name, which, reach_text=subtask("lift", which))
            onto = world.position(target) + np.array([spot, 0.0, 0.004])
            yield from place(world, style, name, onto, subtask("place_in", which, where), drop_m=0.010)
