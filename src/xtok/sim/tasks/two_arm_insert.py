"""TwoArmInsert: the named peg, held by one arm, into the paddle that the other arm holds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xtok.sim.geometry import Pose
from xtok.sim.language import subtask
from xtok.sim.moves import CLOSED, OPEN, Move, Style, Together, carried, grasp_pose, nearest_turn, yaw_of
from xtok.sim.props import POST_M, Placement, Prop, paddle, peg
from xtok.sim.tasks.base import Goal, Scene, Stage, Task, pick_colours
from xtok.sim.tasks.pairs import HALF, OTHER, SIGN, grip, handle_pose, raised, reach, side_of
from xtok.sim.tasks.stages import fell
from xtok.sim.world import World, turned

PEGS = ("one", "two")
HANDLE = (0.0, POST_M, 0.036)  # where a hand holds the paddle, in its frame
MEET_M = 0.09  # height of the paddle over the table when the peg comes
LIFTED_M, PEG_LIFTED_M = 0.05, 0.04
DEEP_M = 0.012  # the peg's foot is so near the floor of the hole when it is in


class TwoArmInsert(Task):
    """Two pegs before one arm, a paddle with a hole before the other; both are lifted, and the named peg goes in."""

    name = "TwoArmInsert"
    max_steps = 260
    arms = 2

    def props(self) -> tuple[Prop, ...]:
        return (*(peg(name) for name in PEGS), paddle("paddle"))

    def scene(self, rng: np.random.Generator) -> Scene:
        sign = 1.0 if rng.random() < 0.5 else -1.0  # whose side the paddle is on; its handle points to that arm
        lies = 0.0 if sign > 0 else np.pi
        order = [PEGS[i] for i in rng.permutation(2)]
        placements = {
            name: Placement(
                x_sign * float(rng.uniform(0.06, 0.10)),
                -sign * float(rng.uniform(0.10, 0.16)),
                float(rng.uniform(-0.4, 0.4)),
            )
            for name, x_sign in zip(order, (1.0, -1.0), strict=True)
        }
        placements["paddle"] = Placement(
            float(rng.uniform(-0.06, 0.06)), sign * float(rng.uniform(0.03, 0.07)), lies + float(rng.uniform(-0.3, 0.3))
        )
        colours = dict(zip((*PEGS, "paddle"), pick_colours(rng, 3), strict=True))
        goals = tuple(Goal({"peg": colours[name], "colour": colours["paddle"]}, (name,)) for name in PEGS)
        return Scene(placements, colours, goals)

    def stages(self, goal: Goal) -> tuple[Stage, ...]:
        (name,) = goal.targets
        thing, where = f"{goal.words['peg']} peg", f"{goal.words['colour']} paddle"

        def both_up(world: World) -> bool:
            up = world.height("paddle") > LIFTED_M and world.height(name) > PEG_LIFTED_M
            return up and world.held("paddle") and world.held(name)

        def put_in(world: World) -> bool:
            free = not world.touched(name) and world.speed(name) < 0.05
            return free and inserted(world, name) and world.held("paddle") and world.height("paddle") > LIFTED_M

        return (
            Stage(subtask("grasp", f"{thing} and the {where}"), lambda w: w.held(name) and w.held("paddle")),
            Stage(subtask("lift", f"{thing} and the {where}"), both_up),
            Stage(subtask("insert", thing, where), put_in),
        )

    def failed(self, world: World, goal: Goal) -> str | None:
        wrong = [name for name in PEGS if name not in goal.targets and world.height(name) > 0.03]
        return "the wrong peg was lifted" if wrong else fell(world, (*PEGS, "paddle"))

    def moves(self, world: World, goal: Goal, style: Style) -> Iterator[Together]:
        (name,) = goal.targets
        thing, where = f"{goal.words['peg']} peg", f"{goal.words['colour']} paddle"
        holder = side_of(world.position("paddle")[1])
        hold, act = world.of(holder), world.of(OTHER[holder])
        foot = world.props[name].foot_m

        def take_paddle() -> Iterator[Move]:
            grasp = handle_pose(hold, "paddle", HANDLE, HALF / 2, style)
            yield from reach(hold, grasp, style)
            yield from grip(hold, "paddle", grasp)

        def lift_paddle() -> Iterator[Move]:
            at = np.array([0.3 * style.bulge_m, 0.0, world.table_top_m + MEET_M + world.props["paddle"].foot_m])
            yield Move("", raised(hold, MEET_M), CLOSED, speed=style.speed)
            lies = 0.0 if SIGN[holder] > 0 else np.pi
            yield Move("", _held_at(hold, at, lies), CLOSED, speed=style.speed, precise=True)

        def take_peg() -> Iterator[Move]:
            grasp = grasp_pose(act, name, style)
            yield from reach(act, grasp, style)
            yield from grip(act, name, grasp)

        def lift_peg() -> Iterator[Move]:
            yield Move("", raised(act, MEET_M + 0.05), CLOSED, speed=style.speed)

        both = f"{thing} and the {where}"
        yield Together(subtask("grasp", both), {holder: take_paddle(), OTHER[holder]: take_peg()})
        yield Together(subtask("lift", both), {holder: lift_paddle(), OTHER[holder]: lift_peg()})

        def above(gap_m: float) -> Pose:
            hole = world.pose("paddle")
            at = hole.position_m + np.array([0.0, 0.0, world.props["paddle"].foot_m + foot + gap_m])
            return carried(act, name, at, yaw_of(hole.rotation))

        def put() -> Iterator[Move]:
            over = max(float(act.hand().position_m[2]), float(above(0.02).position_m[2]) + 0.02)
            yield Move("", above(0.016), CLOSED, over_m=over, speed=style.speed, precise=True, hold=1 + style.pause)
            yield Move("", above(0.010), CLOSED, speed=style.speed, precise=True)  # from the peg as it hangs now
            down = Pose(act.hand().position_m - np.array([0.0, 0.0, 0.034]), act.hand().rotation)
            yield Move("", down, CLOSED, speed=0.5 * style.speed)
            yield Move("", down, OPEN, hold=5)
            yield Move("", raised(act, 0.09), OPEN, speed=style.speed)

        yield Together(subtask("insert", thing, where), {OTHER[holder]: put()})


def inserted(world: World, name: str) -> bool:
    """Whether a peg stands in the paddle's hole, its foot near the floor."""
    offset = world.pose("paddle").inverse().compose(world.pose(name)).position_m
    foot = offset[2] - world.props[name].foot_m + world.props["paddle"].foot_m
    return bool(np.abs(offset[:2]).max() < 0.018) and foot < DEEP_M


def _held_at(world: World, at_m: np.ndarray, lies_rad: float) -> Pose:
    """Pose of the hand that has the paddle's hole at `at_m`, its handle towards the arm."""
    hand, thing = world.hand(), world.pose("paddle")
    turn = nearest_turn(lies_rad - yaw_of(thing.rotation), 2 * np.pi)
    offset = turned(np.eye(3), turn) @ (thing.position_m - hand.position_m)
    return Pose(at_m - offset, turned(world.down, yaw_of(hand.rotation @ world.down.T) + turn))
