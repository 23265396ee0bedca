"""The tasks of the suite, one file each."""

from __future__ import annotations

from difflib import get_close_matches

from xtok.sim.tasks.names import TASK_NAMES


def get_task(name: str):
    from xtok.sim.tasks.lift import Lift
    from xtok.sim.tasks.stack import Stack

    tasks = {task.name: task for task in (Lift, Stack)}
    if name in tasks:
        return tasks[name]()
    close = get_close_matches(name, TASK_NAMES, n=1, cutoff=0.4)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"unknown task {name!r}{hint} Expected one of {list(TASK_NAMES)}")
