"""Press: of three buttons, the named one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xtok.sim.geometry import Pose
from xtok.sim.language import subtask
from xtok.sim.moves import CLOSED, Move, Style
from xtok.sim.props import Prop, button
from xtok.sim.tasks.base import Goal, Scene, Stage, Task, pick_colours, scatter
from xtok.sim.tasks.stages import reached
from xtok.sim.world import World, turned

BUTTONS = ("left", "middle", "right")
PRESSED_M = -0.008  # a button counts from here; it ends at -0.014
TOP_M = 0.042


class Press(Task):
    """Three buttons that differ in colour; a second one pressed is a failure."""

    name = "Press"
    max_steps = 120

    def props(self) -> tuple[Prop, ...]:
        return tuple(button(name) for name in BUTTONS)

    def scene(self, rng: np.random.Generator) -> Scene:
        placements = scatter(rng, dict.fromkeys(BUTTONS, 0.042), (-0.10, 0.12), (-0.20, 0.20), gap_m=0.04)
        colours = dict(zip(BUTTONS, pick_colours(rng, 3), strict=True))
        return Scene(placements, colours, tuple(Goal({"colour": colours[name]}, (name,)) for name in BUTTONS))

    def stages(self, goal: Goal) -> tuple[Stage, ...]:
        (name,) = goal.targets
        thing = f"{goal.words['colour']} button"
        return (
            reached(name, thing, 0.10),
            Stage(subtask("press", thing), lambda world: world.joint(name) < PRESSED_M),
        )

    def failed(self, world: World, goal: Goal) -> str | None:
        wrong = [name for name in BUTTONS if name not in goal.targets and world.joint(name) < PRESSED_M]
        return "the wrong button was pressed" if wrong else None

    def moves(self, world: World, goal: Goal, style: Style) -> Iterator[Move]:
        (name,) = goal.targets
        yield from press(world, style, name, f"{goal.words['colour']} button")


def press(world: World, style: Style, name: str, thing: str, reach_text: str | None = None) -> Iterator[Move]:
    """Close the fingers, come from above, push down and leave. reach_text: line of the way there, if another."""
    rotation = turned(world.down, style.yaw_rad)
    top = world.position(name) + np.array([style.grasp_m, -style.grasp_m, TOP_M + world.arm.tip_m])
    above = Pose(top + np.array([0.0, 0.0, 0.035]), rotation)
    over = max(world.table_top_m + style.hover_m + 0.03, float(above.position_m[2]) + 0.02)
    down = Pose(top - np.array([0.0, 0.0, 0.020]), rotation)
    yield Move(
        reach_text or subtask("reach", thing), above, CLOSED, over_m=over, speed=style.speed, bulge_m=style.bulge_m,
        hold=style.pause,
    )  # fmt: skip
    yield Move(
        subtask("press", thing), down, CLOSED, speed=0.5 * style.speed, hold=2,
        until=lambda w: w.joint(name) < PRESSED_M - 0.003,
    )  # fmt: skip
    yield Move(subtask("press", thing), above, CLOSED, speed=style.speed)
