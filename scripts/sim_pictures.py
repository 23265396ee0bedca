"""Every task of the suite in pictures: python scripts/sim_pictures.py [tasks] [long] [pairs]

docs/pictures/sim-tasks.jpg: rows are the first eight tasks; columns are the five arms on Easy in the middle of the
expert's work, then one of them on Hard in its three views. sim-long.jpg, sim-pairs.jpg: rows are episodes of the long
tasks and of the tasks for two arms; columns are the scene at the start, twice on the way and at the end, then two other
views on the way.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from xtok.sim.arms import ARMS, PAIRS
from xtok.sim.env import SimEnv
from xtok.sim.tasks.names import CORPUS_SINGLE_TASKS, PAIR_TASKS, SINGLE_TASKS

SIZE = 144  # px
FOLDER = Path(__file__).parents[1] / "docs/pictures"
MOMENTS = (0.0, 0.35, 0.7, 1.0)  # of the scene view
LONG_TASKS = SINGLE_TASKS[len(CORPUS_SINGLE_TASKS) :]


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


def strip(task: str, arm: str, level: str, seed: int) -> np.ndarray:
    """One episode, uint8 [S, columns * S, 3]. It is lived twice: once to know how long it takes."""
    env = SimEnv(task, arm, level=level, views=False, image_size=SIZE)  # type: ignore[arg-type]
    env.reset(seed=seed)
    expert, goals, over = env.expert(), [], False
    while not over:
        goals.append(expert.goal())
        *_, terminated, truncated, _ = env.step(goals[-1][None])
        over = terminated or truncated or expert.done
    at = {round(moment * len(goals)): moment for moment in MOMENTS}
    env.reset(seed=seed)
    shown, beside = [], []
    for step in range(len(goals) + 1):
        if step in at:
            views = env.render_views()
            shown.append(views["scene"])
            if at[step] == MOMENTS[2]:
                beside = [picture for view, picture in views.items() if view != "scene"][:2]
        if step < len(goals):
            env.step(goals[step][None])
    env.close()
    return np.concatenate([*shown, *beside], axis=1)


def tasks_sheet() -> np.ndarray:
    rows = []
    for index, task in enumerate(CORPUS_SINGLE_TASKS):
        row = [midway(task, arm, "easy", seed=index)["scene"] for arm in ARMS]
        hard = midway(task, list(ARMS)[index % len(ARMS)], "hard", seed=index)
        rows.append(np.concatenate([*row, hard["scene"], hard["front"], hard["wrist"]], axis=1))
    return np.concatenate(rows)


def long_sheet() -> np.ndarray:
    """Every long task on Easy and on Hard, each with another arm."""
    arms = list(ARMS)
    rows = [(task, arms[(2 * i + hard) % 5], hard) for i, task in enumerate(LONG_TASKS) for hard in (0, 1)]
    return np.concatenate([strip(task, arm, ("easy", "hard")[hard], seed=1) for task, arm, hard in rows])


def pairs_sheet() -> np.ndarray:
    """Every task for two arms on Easy, each with another pair, and some on Hard."""
    pairs = list(PAIRS)
    rows = [(task, pairs[i % len(pairs)], "easy") for i, task in enumerate(PAIR_TASKS)]
    rows += [(PAIR_TASKS[1], pairs[3], "hard"), (PAIR_TASKS[3], pairs[1], "hard")]
    return np.concatenate([strip(*row, seed=1) for row in rows])


SHEETS = {"tasks": tasks_sheet, "long": long_sheet, "pairs": pairs_sheet}


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or SHEETS:
        target = FOLDER / f"sim-{name}.jpg"
        Image.fromarray(SHEETS[name]()).save(target, quality=85)
        print(f"wrote {target}, {target.stat().st_size // 1024} KiB", flush=True)


if __name__ == "__main__":
    main()
