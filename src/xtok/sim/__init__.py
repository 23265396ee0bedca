"""Tabletop scenes, tasks, arms and scripted experts on robosuite and MuJoCo: episodes to record, policies to test.

`import xtok.sim` registers the environments with gymnasium: `gymnasium.make("xtok/Stack-UR5e-v0")`, or in one line
`gymnasium.make("xtok.sim:xtok/Stack-UR5e-v0")`. Two arms: `xtok/Handover-Panda_UR5e-v0`.
It needs the extra `sim`; robosuite loads with the first environment.
"""

from __future__ import annotations

from xtok.sim.arms import ARMS, PAIRS
from xtok.sim.runtime import gymnasium
from xtok.sim.tasks.names import PAIR_TASKS, SINGLE_TASKS, TASK_NAMES

__all__ = ["ARMS", "PAIRS", "TASK_NAMES", "env_id"]


def env_id(task: str, arm: str) -> str:
    """The gymnasium id of a cell: xtok/Stack-UR5e-v0, xtok/Handover-Panda_UR5e-v0."""
    return f"xtok/{task}-{arm}-v0"


def _register() -> None:
    cells = [(task, arm) for task in SINGLE_TASKS for arm in ARMS]
    cells += [(task, pair) for task in PAIR_TASKS for pair in PAIRS]
    for task, arm in cells:
        if env_id(task, arm) not in gymnasium.registry:
            gymnasium.register(
                env_id(task, arm),
                entry_point="xtok.sim.env:SimEnv",
                kwargs={"task": task, "arm": arm},
                # it passes (tests/test_sim_env.py); at every make it would warn that poses have no bounds
                disable_env_checker=True,
            )


_register()
