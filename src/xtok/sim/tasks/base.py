"""What a task is: props, a random scene, goals that words choose between, stages, and how an expert moves.

The goal of an episode is drawn independently of its scene from goals that the scene treats alike, so a picture cannot
tell which one is meant; only the instruction does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from xtok.sim.props import COLOURS, Placement, Prop

if TYPE_CHECKING:
    from xtok.sim.moves import Move, Style, Together
    from xtok.sim.world import World

FREE_GAP_M = 0.012  # least distance between neighbours on the table


@dataclass(frozen=True)
class Goal:
    """What the words of an instruction choose. words: fields of the language templates. targets: names of props."""

    words: Mapping[str, str]
    targets: tuple[str, ...]


@dataclass(frozen=True)
class Scene:
    """What an episode starts from. colours: prop -> colour word. goals: all that could be asked of this scene."""

    placements: Mapping[str, Placement]
    colours: Mapping[str, str]
    goals: tuple[Goal, ...]


@dataclass(frozen=True)
class Stage:
    """A sub-task: its line, and whether the world has it behind it."""

    text: str
    done: Callable[[World], bool]


class Task(ABC):
    """One kind of task. Stateless: an episode's state lives in the world, its choices in Scene and Goal.

    max_steps: of an episode, at 20 Hz. arms: how many it takes.
    """

    name: ClassVar[str]
    arms: ClassVar[int] = 1
    max_steps: ClassVar[int]

    @abstractmethod
    def props(self) -> tuple[Prop, ...]:
        """Everything that the compiled scene holds."""

    @abstractmethod
    def scene(self, rng: np.random.Generator) -> Scene:
        """A random layout with all goals that it allows."""

    @abstractmethod
    def stages(self, goal: Goal) -> tuple[Stage, ...]:
        """Sub-tasks in their order; the episode has succeeded when all are done."""

    @abstractmethod
    def failed(self, world: World, goal: Goal) -> str | None:
        """What went wrong beyond repair (the wrong thing was placed, pressed, turned), or None."""

    @abstractmethod
    def moves(self, world: World, goal: Goal, style: Style) -> Iterator[Move] | Iterator[Together]:
        """The expert's way through the task: moves, or with two arms what both do in each stage. Each is made when the
        last one has ended, from the world as it is.
        """


def scatter(
    rng: np.random.Generator,
    radii_m: Mapping[str, float],
    x_m: tuple[float, float],
    y_m: tuple[float, float],
    yaw_rad: float = 0.0,
    taken: Mapping[str, tuple[float, float, float]] | None = None,
    gap_m: float = FREE_GAP_M,
) -> dict[str, Placement]:
    """Random places without overlap. radii_m: prop -> radius. taken: (x, y, radius) of what stands already.

    Raises:
        RuntimeError: no room; the ranges of the task are too small for its props.
    """
    for _ in range(200):
        spots = list((taken or {}).values())
        placements: dict[str, Placement] = {}
        for name, radius in radii_m.items():
            for _ in range(60):
                x, y = float(rng.uniform(*x_m)), float(rng.uniform(*y_m))
                if all(np.hypot(x - a, y - b) > radius + r + gap_m for a, b, r in spots):
                    spots.append((x, y, radius))
                    placements[name] = Placement(x, y, float(rng.uniform(-yaw_rad, yaw_rad)))
                    break
            else:
                break
        if len(placements) == len(radii_m):
            return placements
    raise RuntimeError(f"no room for {sorted(radii_m)} in x {x_m}, y {y_m}")


def pick_colours(rng: np.random.Generator, count: int) -> list[str]:
    """Different colour words; white is for trays that nobody names by colour."""
    words = [word for word in COLOURS if word != "white"]
    return [words[i] for i in rng.permutation(len(words))[:count]]


def shuffled_colours(rng: np.random.Generator, names: tuple[str, ...]) -> dict[str, str]:
    """A different colour for every prop."""
    return dict(zip(names, pick_colours(rng, len(names)), strict=True))
