"""The tasks of the suite, one file each."""

from __future__ import annotations

from difflib import get_close_matches

from xtok.sim.tasks.base import Goal, Scene, Stage, Task
from xtok.sim.tasks.names import HELD_OUT_TASKS, PAIR_TASKS, SINGLE_TASKS, TASK_NAMES

__all__ = [
    "HELD_OUT_TASKS",
    "PAIR_TASKS",
    "SINGLE_TASKS",
    "TASK_NAMES",
    "Goal",
    "Scene",
    "Stage",
    "Task",
    "get_task",
]


def get_task(name: str) -> Task:
    """The task called `name`.

    Raises:
        ValueError: no such task; the message lists all.
    """
    from xtok.sim.tasks.handover import Handover
    from xtok.sim.tasks.insert import Insert
    from xtok.sim.tasks.lift import Lift
    from xtok.sim.tasks.pick_place import PickPlace
    from xtok.sim.tasks.press import Press
    from xtok.sim.tasks.press_order import PressOrder
    from xtok.sim.tasks.serve import Serve
    from xtok.sim.tasks.share import Share
    from xtok.sim.tasks.sort import Sort
    from xtok.sim.tasks.stack import Stack
    from xtok.sim.tasks.tidy import Tidy
    from xtok.sim.tasks.tower import Tower
    from xtok.sim.tasks.transport import Transport
    from xtok.sim.tasks.turn import Turn
    from xtok.sim.tasks.two_arm_insert import TwoArmInsert
    from xtok.sim.tasks.two_arm_lift import TwoArmLift

    single: tuple[type[Task], ...] = (Lift, Stack, PickPlace, Press, Turn, Insert, Sort, Tidy, Tower, PressOrder, Serve)
    pairs: tuple[type[Task], ...] = (TwoArmLift, Handover, TwoArmInsert, Transport, Share)
    tasks = {task.name: task for task in (*single, *pairs)}
    if name in tasks:
        return tasks[name]()
    close = get_close_matches(name, TASK_NAMES, n=1, cutoff=0.4)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"unknown task {name!r}{hint} Expected one of {list(TASK_NAMES)}")
