"""Handover: the named one of two sticks from the arm before which it lies to the other arm."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xtok.sim.arms import LEFT, RIGHT
from xtok.sim.geometry import Pose
from xtok.sim.language import subtask
from xtok.sim.moves import CLOSED, OPEN, Move, Style, Together, carried
from xtok.sim.props import STICK_M, Placement, Prop, stick
from xtok.sim.tasks.base import Goal, Scene, Stage, Task, pick_colours
from xtok.sim.tasks.pairs import HALF, OTHER, QUARTER, SIGN, grip, handle_pose, home, place_of, raised, reach
from xtok.sim.tasks.stages import fell
from xtok.sim.world import World

STICKS = ("one", "two")
END_M = STICK_M - 0.027  # where hands take a stick, from its middle
LIFTED_M, MEET_M = 0.06, 0.17  # heights of the stick over the table
WITHDRAWN_M = 0.14  # of the giver's hand from the stick's middle, once it has let go


class Handover(Task):
    """A stick lies before each arm; the words name a colour, and so which arm gives and which takes."""

    name = "Handover"
    max_steps = 260
    arms = 2

    def props(self) -> tuple[Prop, ...]:
        return tuple(stick(name) for name in STICKS)

    def scene(self, rng: np.random.Generator) -> Scene:
        order = [STICKS[i] for i in rng.permutation(2)]
        near_far = 1.0 if rng.random() < 0.5 else -1.0  # beside each other, so that neither is in the other's way
        placements = {
            name: Placement(
                near_far * sign * float(rng.uniform(0.06, 0.10)),
                sign * float(rng.uniform(0.08, 0.12)),
                QUARTER + float(rng.uniform(-0.3, 0.3)),
            )
            for name, sign in zip(order, (1.0, -1.0), strict=True)
        }
        colours = dict(zip(STICKS, pick_colours(rng, 2), strict=True))
        return Scene(placements, colours, tuple(Goal({"colour": colours[name]}, (name,)) for name in STICKS))

    def stages(self, goal: Goal) -> tuple[Stage, ...]:
        (name,) = goal.targets
        thing = f"{goal.words['colour']} stick"

        def passed(world: World) -> bool:
            holders = world.holders(name)
            if len(holders) != 1 or world.height(name) < LIFTED_M:
                return False
            away = world.of(OTHER[holders[0]]).hand().position_m - world.position(name)
            return float(np.linalg.norm(away)) > WITHDRAWN_M

        return (
            Stage(subtask("lift", thing), lambda world: bool(world.holders(name)) and world.height(name) > LIFTED_M),
            Stage(subtask("take_over", thing), lambda world: len(world.holders(name)) == 2),
            Stage(subtask("let_go", thing), passed),
        )

    def failed(self, world: World, goal: Goal) -> str | None:
        wrong = [name for name in STICKS if name not in goal.targets and world.height(name) > 0.03]
        return "the wrong stick was lifted" if wrong else fell(world, STICKS)

    def moves(self, world: World, goal: Goal, style: Style) -> Iterator[Together]:
        (name,) = goal.targets
        thing = f"{goal.words['colour']} stick"
        giver = max((LEFT, RIGHT), key=lambda side: SIGN[side] * world.position(name)[1])
        taker = OTHER[giver]
        give, take = world.of(giver), world.of(taker)

        def lift() -> Iterator[Move]:
            grasp = handle_pose(give, name, _end(world, name, giver), HALF, style)
            yield from reach(give, grasp, style)
            yield from grip(give, name, grasp)
            yield Move("", raised(give, style.hover_m), CLOSED, speed=style.speed)

        def bring() -> Iterator[Move]:
            middle = np.array([0.4 * style.bulge_m, 0.0, world.table_top_m + MEET_M])
            yield Move("", carried(give, name, middle, QUARTER), CLOSED, speed=style.speed, precise=True)

        def take_end() -> Iterator[Move]:
            grasp = handle_pose(take, name, _end(world, name, taker), HALF, style)
            yield from reach(take, grasp, style, over_m=float(grasp.position_m[2]) + 0.07)
            yield from grip(take, name, grasp)

        def let_go() -> Iterator[Move]:
            yield Move("", give.hand(), OPEN, hold=5)
            up = raised(give, 0.07)
            yield Move("", up, OPEN, speed=style.speed)
            yield from home(give, OPEN, style)

        def keep() -> Iterator[Move]:
            yield Move("", take.hand(), CLOSED, hold=9)
            back = np.array([0.0, SIGN[taker] * 0.08, 0.02])
            yield Move("", Pose(take.hand().position_m + back, take.hand().rotation), CLOSED, speed=0.7 * style.speed)

        yield Together(subtask("lift", thing), {giver: lift()})
        yield Together(subtask("take_over", thing), {giver: bring()})
        yield Together(subtask("take_over", thing), {taker: take_end()})
        yield Together(subtask("let_go", thing), {giver: let_go(), taker: keep()})


def _end(world: World, name: str, side: str) -> tuple[float, float, float]:
    """The end of a stick that points to an arm, in the stick's frame."""
    ends = [(sign * END_M, 0.0, 0.0) for sign in (-1.0, 1.0)]
    return max(ends, key=lambda end: SIGN[side] * place_of(world, name, end)[1])
