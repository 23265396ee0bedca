"""Turn: a lever to the named side."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xtok.sim.geometry import Pose
from xtok.sim.language import subtask
from xtok.sim.moves import CLOSED, Move, Style
from xtok.sim.props import Placement, Prop, lever
from xtok.sim.tasks.base import Goal, Scene, Stage, Task, pick_colours
from xtok.sim.tasks.stages import reached
from xtok.sim.world import World, turned

TURNED_RAD, WRONG_RAD = 0.70, 0.30
ALONG_M = 0.080  # where on the lever's arm the fingers push, from its axis
BESIDE_M = 0.050
SIDES = {"left": 1.0, "right": -1.0}  # as the arm sees it: its left is +y


class Turn(Task):
    """A lever that starts in the middle, its tip away from the robot; only the words know which way it should go."""

    name = "Turn"
    max_steps = 140

    def props(self) -> tuple[Prop, ...]:
        return (lever("lever"),)

    def scene(self, rng: np.random.Generator) -> Scene:
        at = Placement(
            float(rng.uniform(-0.10, 0.02)), float(rng.uniform(-0.12, 0.12)), float(rng.uniform(-0.35, 0.35))
        )
        (colour,) = pick_colours(rng, 1)
        goals = tuple(Goal({"colour": colour, "side": side}, ("lever",)) for side in SIDES)
        return Scene({"lever": at}, {"lever": colour}, goals)

    def stages(self, goal: Goal) -> tuple[Stage, ...]:
        sign = SIDES[goal.words["side"]]
        thing = f"{goal.words['colour']} lever"
        return (
            reached("lever", thing, 0.16),
            Stage(
                subtask("turn", thing, goal.words["side"]),
                lambda world: sign * world.joint("lever") > TURNED_RAD and not world.touched("lever"),
            ),
        )

    def failed(self, world: World, goal: Goal) -> str | None:
        wrong = SIDES[goal.words["side"]] * world.joint("lever") < -WRONG_RAD
        return "the lever was turned to the wrong side" if wrong else None

    def moves(self, world: World, goal: Goal, style: Style) -> Iterator[Move]:
        side = goal.words["side"]
        sign = SIDES[side]
        thing = f"{goal.words['colour']} lever"
        foot = world.pose("lever")
        along = ALONG_M + style.grasp_m

        def beside(angle_rad: float, distance_m: float) -> Pose:
            """Closed fingers at the lever's height, `distance_m` behind an arm at `angle_rad`, seen as it turns."""
            arm = turned(foot.rotation, angle_rad)
            at = foot.position_m + arm @ np.array([along, -sign * distance_m, 0.040 + style.deeper_m])
            return Pose(at, turned(world.down, 0.6 * angle_rad + 0.2 * style.yaw_rad))

        over = world.table_top_m + style.hover_m
        yield Move(
            subtask("reach", thing), beside(0.0, BESIDE_M), CLOSED, over_m=over, speed=style.speed,
            bulge_m=style.bulge_m, precise=True, hold=style.pause,
        )  # fmt: skip
        for angle in (0.25, 0.55, 0.85, 1.1):
            yield Move(
                subtask("turn", thing, side), beside(sign * angle, 0.014), CLOSED, speed=0.7 * style.speed,
                until=lambda w: sign * w.joint("lever") > TURNED_RAD + 0.12,
            )  # fmt: skip
        away = world.hand()
        yield Move(subtask("turn", thing, side), Pose(away.position_m + np.array([0, 0, 0.1]), away.rotation), CLOSED)
