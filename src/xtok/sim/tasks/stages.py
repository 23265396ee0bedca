"""Stages and conditions that several tasks share."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from xtok.sim.language import subtask
from xtok.sim.tasks.base import Stage
from xtok.sim.world import World

NEAR_M = 0.045  # of the grip site to the thing that is reached for
LIFTED_M = 0.04
FELL_M = -0.05


def reached(name: str, thing: str, near_m: float = NEAR_M) -> Stage:
    def done(world: World) -> bool:
        return bool(np.linalg.norm(world.hand().position_m - world.position(name)) < near_m) or world.held(name)

    return Stage(subtask("reach", thing), done)


def grasped(name: str, thing: str) -> Stage:
    return Stage(subtask("grasp", thing), lambda world: world.held(name))


def lifted(name: str, thing: str, by_m: float = LIFTED_M) -> Stage:
    return Stage(subtask("lift", thing), lambda world: world.height(name) > by_m and world.held(name))


def at_rest(world: World, name: str) -> bool:
    """Let go of, and lying still."""
    return not world.touched(name) and world.speed(name) < 0.05


def inside(world: World, name: str, container: str) -> bool:
    """Whether a thing's middle is within the walls of a tray, and low enough to lie in it."""
    offset = world.pose(container).inverse().compose(world.pose(name)).position_m
    half = world.props[container].inner_m
    low = bool(offset[2] < world.props[name].foot_m + world.props[container].height_m)
    return bool(np.abs(offset[:2]).max() < half) and low and not world.held(name)


def fell(world: World, names: Iterable[str]) -> str | None:
    """The failure that a thing is no longer on the table, or None."""
    gone = [name for name in names if world.height(name) < FELL_M]
    return "a thing fell off the table" if gone else None
