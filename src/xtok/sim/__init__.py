"""Tabletop scenes, tasks, arms and scripted experts on robosuite and MuJoCo: episodes to record, policies to test.

`import xtok.sim` registers the environments with gymnasium: `gymnasium.make("xtok/Stack-UR5e-v0")`, or in one line
`gymnasium.make("xtok.sim:xtok/Stack-UR5e-v0")`. It needs the extra `sim`; robosuite is loaded with the first environment.
"""

from __future__ import annotations

import os

# Read by mujoco when it is first imported: headless rendering unless the user chose otherwise.
os.environ.setdefault("MUJOCO_GL", "egl")

try:
    import gymnasium
except ImportError as error:
    raise ImportError(f"xtok.sim needs its extra: pip install 'xtok[sim]' ({error})") from error

from xtok.sim.arms import ARMS
from xtok.sim.tasks.names import TASK_NAMES

PREFIX = "xtok"


def env_id(task: str, arm: str) -> str:
    """The gymnasium id of a cell: xtok/Stack-UR5e-v0."""
    return f"{PREFIX}/{task}-{arm}-v0"


def _register() -> None:
    for task in TASK_NAMES:
        for arm in ARMS:
            if env_id(task, arm) not in gymnasium.registry:
                gymnasium.register(
                    env_id(task, arm),
                    entry_point="xtok.sim.env:SimEnv",
                    kwargs={"task": task, "arm": arm},
                    # the contract's own episode: it counts its steps and terminates by itself
                    order_enforce=True,
                    disable_env_checker=True,
                )


_register()
