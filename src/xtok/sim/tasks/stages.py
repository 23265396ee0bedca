"""Stages that several tasks share."""

from __future__ import annotations

import numpy as np

from xtok.sim.language import subtask
from xtok.sim.tasks.base import Stage
from xtok.sim.world import World

NEAR_M = 0.045  # of the grip site to the thing that is reached for
OFF_TABLE_M = 0.012
LIFTED_M = 0.04


def reached(name: str, thing: str) -> Stage:
    def done(world: World) -> bool:
        return bool(np.linalg.norm(world.hand().position_m - world.position(name)) < NEAR_M) or world.held(name)

    return Stage(subtask("reach", thing), done)


def grasped(name: str, thing: str) -> Stage:
    return Stage(subtask("grasp", thing), lambda world: world.held(name))


def lifted(name: str, thing: str) -> Stage:
    return Stage(subtask("lift", thing), lambda world: world.height(name) > LIFTED_M and world.held(name))


def at_rest(world: World, name: str) -> bool:
    """Let go of, and lying still."""
    return not world.touched(name) and world.speed(name) < 0.05
