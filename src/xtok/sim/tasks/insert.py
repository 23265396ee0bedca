"""Insert: the peg into the named one of two sockets."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xtok.sim.geometry import Pose
from xtok.sim.language import subtask
from xtok.sim.moves import CLOSED, Move, Style, carried, pick, release, yaw_of
from xtok.sim.props import Prop, peg, socket
from xtok.sim.tasks.base import Goal, Scene, Stage, Task, pick_colours, scatter
from xtok.sim.tasks.stages import at_rest, fell, grasped, lifted, reached
from xtok.sim.world import World

SOCKETS = ("first", "second")
CLEARANCE_M = 0.006  # on each side of the peg


class Insert(Task):
    """A square peg, two sockets of different colours, 6 mm of play a side. Held out: no tokenizer trains on it."""

    name = "Insert"
    max_steps = 220

    def props(self) -> tuple[Prop, ...]:
        return (peg("peg"), *(socket(name, CLEARANCE_M) for name in SOCKETS))

    def scene(self, rng: np.random.Generator) -> Scene:
        radii = {"first": 0.065, "second": 0.065, "peg": 0.023}
        placements = scatter(rng, radii, (-0.09, 0.11), (-0.19, 0.19), 0.4, gap_m=0.04)
        colours = dict(zip((*SOCKETS, "peg"), pick_colours(rng, 3), strict=True))
        goals = tuple(Goal({"colour": colours[name], "peg": colours["peg"]}, (name,)) for name in SOCKETS)
        return Scene(placements, colours, goals)

    def stages(self, goal: Goal) -> tuple[Stage, ...]:
        (name,) = goal.targets
        thing, where = f"{goal.words['peg']} peg", f"{goal.words['colour']} socket"
        return (
            reached("peg", thing, 0.05),
            grasped("peg", thing),
            lifted("peg", thing),
            Stage(subtask("insert", thing, where), lambda world: inserted(world, name) and at_rest(world, "peg")),
        )

    def failed(self, world: World, goal: Goal) -> str | None:
        if any(inserted(world, name) for name in SOCKETS if name not in goal.targets):
            return "the peg is in the wrong socket"
        return fell(world, ("peg",))

    def moves(self, world: World, goal: Goal, style: Style) -> Iterator[Move]:
        (name,) = goal.targets
        thing, where = f"{goal.words['peg']} peg", f"{goal.words['colour']} socket"
        line = subtask("insert", thing, where)
        yield from pick(world, style, "peg", thing)
        hole = world.pose(name)
        foot = world.props["peg"].foot_m
        above = carried(world, "peg", hole.position_m + np.array([0, 0, foot + 0.052]), yaw_of(hole.rotation))
        over = max(float(world.hand().position_m[2]), float(above.position_m[2]) + 0.02)
        yield Move(
            line,
            above,
            CLOSED,
            over_m=over,
            speed=style.speed,
            bulge_m=style.bulge_m,
            precise=True,
            hold=1 + style.pause,
        )
        # once more from the peg as it hangs now
        above = carried(world, "peg", hole.position_m + np.array([0, 0, foot + 0.050]), yaw_of(hole.rotation))
        yield Move(line, above, CLOSED, speed=style.speed, precise=True)
        down = Pose(above.position_m - np.array([0, 0, 0.043]), above.rotation)
        yield Move(line, down, CLOSED, speed=0.5 * style.speed)
        yield from release(world, style, down, line)


def inserted(world: World, name: str) -> bool:
    """Whether the peg stands in a socket's hole, its foot near the bottom."""
    offset = world.pose(name).inverse().compose(world.pose("peg")).position_m
    return bool(np.abs(offset[:2]).max() < 0.016) and world.height("peg") < 0.012 and world.upright("peg") > 0.97
