"""What an episode is made of: independent random streams from its name, and how Easy and Hard scenes look.

An episode is (task, arm, level, split, seed) and nothing else: not the process, not the episodes before it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from xtok.sim.render import EYES, aim
from xtok.sim.world import World

Level = Literal["easy", "hard"]
Split = Literal["train", "eval"]
LEVELS: tuple[Level, ...] = ("easy", "hard")
SPLITS: tuple[Split, ...] = ("train", "eval")


@dataclass(frozen=True)
class Streams:
    """One generator for each kind of choice, so that a change to one leaves the others as they were."""

    layout: np.random.Generator
    goal: np.random.Generator
    words: np.random.Generator
    style: np.random.Generator
    robot: np.random.Generator
    look: np.random.Generator


def streams(task: str, arm: str, level: str, split: str, seed: int) -> Streams:
    """The random streams of an episode."""
    name = hashlib.sha256(f"xtok.sim 1 {task} {arm} {level} {split}".encode()).digest()
    sequence = np.random.SeedSequence([int.from_bytes(name[:8], "little"), seed])
    return Streams(*(np.random.default_rng(child) for child in sequence.spawn(len(Streams.__dataclass_fields__))))


def dress(world: World, level: Level, split: Split, rng: np.random.Generator) -> None:
    """Give a restored world its cameras, lights and surfaces, and on Hard its table height."""
    model = world.model
    model.vis.headlight.specular[:] = 0.0  # no glare on what the wrist camera looks at
    model.vis.headlight.ambient[:] = 0.35
    model.vis.headlight.diffuse[:] = 0.35
    for view, (eye, target) in EYES.items():
        aim(model, view, np.array(eye), np.array(target))
