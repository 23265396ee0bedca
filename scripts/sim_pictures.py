"""Every task on every arm in one picture, in the middle of the expert's work: python scripts/sim_pictures.py

Rows are tasks; columns are the five arms on Easy, then one of them on Hard in its three views. Writes
docs/pictures/sim-tasks.jpg.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from xtok.sim.arms import ARMS
from xtok.sim.env import SimEnv
from xtok.sim.tasks.names import TASK_NAMES

SIZE = 144  # px
TARGET = Path(__file__).parents[1] / "docs/pictures/sim-tasks.jpg"


def midway(task: str, arm: str, level: str, seed: int) -> dict[str, np.ndarray]:
    """The views of an episode when about half of its stages are done."""
    env = SimEnv(task, arm, level=level, views=False, image_size=SIZE)  # type: ignore[arg-type]
    env.reset(seed=seed)
    expert = env.expert()
    half = len(env.subtasks) / 2
    over = False
    while not over:
        *_, terminated, truncated, info = env.step(expert.goal()[None])
        over = terminated or truncated or expert.done or info["stage"] >= half
    for _ in range(6):  # the arm on its way to the next stage
        if not (terminated or truncated):
            *_, terminated, truncated, _ = env.step(expert.goal()[None])
    views = env.render_views()
    env.close()
    return views


def main() -> None:
    rows = []
    for index, task in enumerate(TASK_NAMES):
        row = [midway(task, arm, "easy", seed=index)["scene"] for arm in ARMS]
        hard = midway(task, list(ARMS)[index % len(ARMS)], "hard", seed=index)
        rows.append(np.concatenate([*row, hard["scene"], hard["front"], hard["wrist"]], axis=1))
        print(task, flush=True)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(TARGET, quality=85)
    print(f"wrote {TARGET}, {TARGET.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
