"""What an episode is made of: independent random streams from its name, and how Easy and Hard scenes look.

An episode is (task, arm, level, split, seed) and nothing else: not the process, not the episodes before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from xtok.sim.props import Part, Placement, Prop
from xtok.sim.render import EYES, PAIR_EYES, aim
from xtok.sim.tasks.base import scatter
from xtok.sim.world import World

Level = Literal["easy", "hard"]
Split = Literal["train", "eval"]
LEVELS: tuple[Level, ...] = ("easy", "hard")
SPLITS: tuple[Split, ...] = ("train", "eval")

# Table tops of Hard, files of robosuite. None has a colour that instructions name.
SURFACES: dict[Split, tuple[str, ...]] = {
    "train": ("light-wood", "dark-wood", "gray-felt", "gray-plaster", "wood-varnished-panels", "clay"),
    "eval": ("gray-woodgrain", "wood-tiles", "steel-scratched"),
}
WALLS: dict[Split, tuple[float, float]] = {"train": (0.45, 1.0), "eval": (0.25, 0.8)}  # range of each colour channel
TABLE_MOVES_M = 0.03
EYE_MOVES_M, TARGET_MOVES_M = 0.05, 0.02
TABLE_TINT = (0.56, 0.53, 0.50)  # on Easy; the bare ceramic outshines what lies on it
CLEAR_M = 0.06  # between a distractor and anything of the task: room for open fingers
MUTED = ((0.45, 0.30, 0.18), (0.30, 0.32, 0.20), (0.12, 0.12, 0.13), (0.60, 0.52, 0.44), (0.42, 0.45, 0.50))


def _clutter(name: str, kind: str, parts: tuple[Part, ...], radius_m: float, foot_m: float) -> Prop:
    return Prop(name, kind, parts, True, 2 * foot_m, radius_m, foot_m=foot_m)


DISTRACTORS = (
    _clutter("disc", "disc", (Part("cylinder", (0.045, 0.006)),), 0.045, 0.006),
    _clutter("brick", "brick", (Part("box", (0.045, 0.025, 0.015)),), 0.052, 0.015),
    _clutter("puck", "puck", (Part("cylinder", (0.028, 0.014)),), 0.028, 0.014),
    _clutter(
        "corner",
        "corner",
        (Part("box", (0.035, 0.012, 0.014)), Part("box", (0.012, 0.024, 0.014), at=(-0.023, 0.036, 0))),
        0.075,
        0.014,
    ),
)


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


def scene_props(level: Level, props: tuple[Prop, ...]) -> tuple[Prop, ...]:
    """What the compiled scene of a level holds: on Hard, distractors as well."""
    return (*props, *DISTRACTORS) if level == "hard" else props


def surfaces(level: Level) -> tuple[str, ...]:
    """Textures that the compiled scene of a level holds."""
    return SURFACES["train"] + SURFACES["eval"] if level == "hard" else ()


def clutter(
    level: Level, task_props: Mapping[str, Prop], placements: Mapping[str, Placement], rng: np.random.Generator
) -> dict[str, Placement]:
    """On Hard, two to four distractors beside what the task has on the table."""
    if level == "easy":
        return {}
    chosen = [DISTRACTORS[i] for i in rng.permutation(len(DISTRACTORS))[: int(rng.integers(2, len(DISTRACTORS) + 1))]]
    taken = {name: (place.x_m, place.y_m, _reach(task_props[name])) for name, place in placements.items()}
    radii = {prop.name: prop.radius_m for prop in chosen}
    return scatter(rng, radii, (-0.10, 0.30), (-0.42, 0.42), float(np.pi), taken, CLEAR_M)


def dress(world: World, level: Level, split: Split, rng: np.random.Generator) -> None:
    """Give a restored world its cameras, lights and surfaces, and on Hard its table height."""
    model = world.model
    head = model.vis.headlight
    head.specular[:] = 0.0  # no glare on what the wrist camera looks at
    head.ambient[:] = 0.35
    head.diffuse[:] = 0.35
    world.turn_wrist_cameras()
    hard = level == "hard"
    for view, (eye, target) in (PAIR_EYES if world.side is None else EYES).items():
        shift, turn = (rng.uniform(-EYE_MOVES_M, EYE_MOVES_M, 3), rng.uniform(-TARGET_MOVES_M, TARGET_MOVES_M, 3))
        aim(model, view, np.array(eye) + hard * shift, np.array(target) + hard * turn)
    if not hard:
        model.mat_rgba[model.material("table_ceramic").id][:3] = TABLE_TINT
        return
    world.raise_table(float(rng.uniform(-TABLE_MOVES_M, TABLE_MOVES_M)))
    names = SURFACES[split]
    material = model.material(f"surface-{names[int(rng.integers(len(names)))]}").id
    model.geom_matid[model.geom("table_visual").id] = material
    model.mat_rgba[material][:3] = rng.uniform(0.55, 1.0) * rng.uniform(0.85, 1.0, 3)
    for name in ("walls_mat", "floorplane"):
        model.mat_rgba[model.material(name).id][:3] = rng.uniform(*WALLS[split], 3)
    head.ambient[:] = rng.uniform(0.2, 0.45) * rng.uniform(0.9, 1.1, 3)
    head.diffuse[:] = rng.uniform(0.2, 0.45)
    model.light_pos[0] = np.array([1.0, 1.0, 1.5]) + rng.uniform(-0.6, 0.6, 3)
    model.light_dir[0] = np.array([rng.uniform(-0.7, 0.3), rng.uniform(-0.6, 0.6), -1.0])
    model.light_diffuse[0] = rng.uniform(0.4, 0.8) * rng.uniform(0.85, 1.0, 3)
    for prop in DISTRACTORS:
        world.paint_rgb(prop.name, MUTED[int(rng.integers(len(MUTED)))])


def _reach(prop: Prop) -> float:
    """How far a prop gets from its place: a lever sweeps its arm around."""
    return 0.12 if prop.kind == "lever" else prop.radius_m
