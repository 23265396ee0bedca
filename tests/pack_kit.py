"""Small recordings to pack, and looking at what came of it."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import numpy as np

import synthetic
from xtok.actions.layout import ARMS26
from xtok.data import Segment
from xtok.data.writers.lerobot import EpisodeRecord, write_folder

CHANNELS = [ARMS26.channel_names[i] for i in range(10, 20)]  # the right arm
EPISODES, FRAMES = 11, (70, 30, 90)
SMALL = patch.multiple("xtok.data.packed.plan", PER_SHARD_MIN=1, PER_SHARD_MAX=3)


def recording(
    root: Path,
    robot: str = "sim_panda",
    shift_m: float = 0.0,
    robot_held_out: bool = False,
    frames: tuple[int, ...] = FRAMES,
) -> Path:
    """Episodes of several lengths, Lift and Insert (held out) in turn; commands are the state, 1 cm off."""
    records = []
    every = synthetic.episodes(ARMS26, EPISODES, max(frames))
    for i in range(EPISODES):
        N = frames[i % len(frames)]
        absolute_ND = every[i].absolute_ND[:N, 10:20].astype(np.float32)
        absolute_ND[:, 0] += np.float32(shift_m)
        goals_ND = absolute_ND.copy()
        goals_ND[:, 0] += 0.01
        segments = (Segment(0, N // 2, "reach"), Segment(N // 2, N, f"grasp it, the {i}th"))
        arrays = {"observation.state": absolute_ND, "action": goals_ND}
        records.append(EpisodeRecord(arrays, f"do {i}", segments, {}, {"env_task": ("Lift", "Insert")[i % 2]}))
    names = dict.fromkeys(("observation.state", "action"), CHANNELS)
    marks = {
        "action_source": {"observation.state": "achieved", "action": "commanded"},
        "held_out": {"robot": robot_held_out, "tasks": ["Insert"]},
    }
    write_folder(root, records, robot_type=robot, fps=20.0, names=names, **marks)
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
