"""Share: of two cubes in the middle, each into the tray of the arm that the words give it to, both arms at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xtok.sim.arms import LEFT, RIGHT
from xtok.sim.language import subtask
from xtok.sim.moves import Move, Style, Together, pick, place
from xtok.sim.props import Placement, Prop, cube, tray
from xtok.sim.tasks.base import Goal, Scene, Stage, Task, pick_colours
from xtok.sim.tasks.pairs import SIGN
from xtok.sim.tasks.stages import at_rest, fell, inside
from xtok.sim.world import World

CUBES = ("one", "two")
SIDES = (LEFT, RIGHT)
LIFTED_M = 0.04


class Share(Task):
    """Two cubes that each arm could take; only the words say who takes which."""

    name = "Share"
    max_steps = 220
    arms = 2

    def props(self) -> tuple[Prop, ...]:
        return (*(cube(name, 0.019) for name in CUBES), *(tray(_tray(side), 0.060) for side in SIDES))

    def scene(self, rng: np.random.Generator) -> Scene:
        order = [CUBES[i] for i in rng.permutation(2)]
        placements = {
            name: Placement(
                x_sign * float(rng.uniform(0.12, 0.15)), float(rng.uniform(-0.05, 0.05)), float(rng.uniform(-0.7, 0.7))
            )
            for name, x_sign in zip(order, (1.0, -1.0), strict=True)
        }
        for side in SIDES:
            placements[_tray(side)] = Placement(float(rng.uniform(-0.08, 0.08)), SIGN[side] * rng.uniform(0.17, 0.21))
        colours = {**dict(zip(CUBES, pick_colours(rng, 2), strict=True)), **{_tray(side): "white" for side in SIDES}}
        goals = tuple(
            Goal({LEFT: colours[left], RIGHT: colours[right]}, (left, right)) for left, right in (CUBES, CUBES[::-1])
        )
        return Scene(placements, colours, goals)

    def stages(self, goal: Goal) -> tuple[Stage, ...]:
        given = dict(zip(SIDES, goal.targets, strict=True))

        def in_hands(world: World) -> bool:
            return all(side in world.holders(name) and world.height(name) > LIFTED_M for side, name in given.items())

        def in_trays(world: World) -> bool:
            return all(inside(world, name, _tray(side)) and at_rest(world, name) for side, name in given.items())

        return (
            Stage(subtask("lift", "two cubes"), in_hands),
            Stage(subtask("place_in", _list(goal), "trays"), in_trays),
        )

    def failed(self, world: World, goal: Goal) -> str | None:
        left, right = goal.targets
        if inside(world, left, _tray(RIGHT)) or inside(world, right, _tray(LEFT)):
            return "a cube is in the wrong tray"
        return fell(world, CUBES)

    def moves(self, world: World, goal: Goal, style: Style) -> Iterator[Together]:
        given = dict(zip(SIDES, goal.targets, strict=True))

        def take(side: str) -> Iterator[Move]:
            mine = world.of(side)
            yield from pick(mine, style, given[side], "cube")

        def put(side: str) -> Iterator[Move]:
            onto = world.position(_tray(side)) + np.array([0.0, 0.0, 0.004])
            yield from place(world.of(side), style, given[side], onto, "", drop_m=0.010)

        yield Together(subtask("lift", "two cubes"), {side: take(side) for side in SIDES})
        # once more for an arm that the other one pushed off its cube; where both were lifted nothing changes
        low = [side for side, name in given.items() if world.height(name) < LIFTED_M]
        if low:
            yield Together(subtask("lift", "two cubes"), {side: take(side) for side in low})
        yield Together(subtask("place_in", _list(goal), "trays"), {side: put(side) for side in SIDES})


def _tray(side: str) -> str:
    return f"{side}_tray"


def _list(goal: Goal) -> str:
    return f"{goal.words[LEFT]} and the {goal.words[RIGHT]} cube"
