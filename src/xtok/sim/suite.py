"""The table of the suite: which cells there are, how well their expert does, which seeds are good.

suite.json is measured by scripts/sim_suite.py: Easy, split "train", seeds from 0.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files

from xtok.sim import arms
from xtok.sim.tasks.names import HELD_OUT_TASKS

SUPPORTED = 0.95  # a cell belongs to the suite from this expert success on Easy


@dataclass(frozen=True)
class Cell:
    """One (task, arm) whose expert was measured. dual: two arms. held_out: no tokenizer is trained on it.

    expert_success: share of `episodes` tried. seeds: those of split "train" on Easy that succeeded.
    """

    task: str
    arm: str
    dual: bool
    held_out: bool
    expert_success: float
    episodes: int
    seeds: tuple[int, ...]


def is_held_out(task: str, arm: str) -> bool:
    """Whether a cell is kept from every tokenizer's training: two arms and two tasks are."""
    return arms.is_held_out(arm) or task in HELD_OUT_TASKS


def cells(dual: bool | None = None) -> list[Cell]:
    """Supported cells in a fixed order. dual: only those with two arms, or only those with one."""
    return [cell for cell in _measured() if cell.expert_success >= SUPPORTED and dual in (None, cell.dual)]


def get_cell(task: str, arm: str) -> Cell:
    """The supported cell of a task and an arm.

    Raises:
        ValueError: it is not supported; the message lists near names.
    """
    known = {f"{cell.task}-{cell.arm}": cell for cell in cells()}
    name = f"{task}-{arm}"
    if name in known:
        return known[name]
    unsupported = {f"{cell.task}-{cell.arm}": cell for cell in _measured()}
    if name in unsupported:
        rate = unsupported[name].expert_success
        raise ValueError(f"cell {name} is not supported: its expert succeeds {rate:.0%}, below {SUPPORTED:.0%}")
    close = get_close_matches(name, known, n=4, cutoff=0.3) or sorted(known)[:8]
    raise ValueError(f"unknown cell {name!r}; did you mean one of {close}? `xtok sim list` shows all")


@cache
def _measured() -> tuple[Cell, ...]:
    rows = json.loads((files("xtok.sim") / "suite.json").read_text(encoding="utf-8"))["cells"]
    return tuple(Cell(**{**row, "seeds": tuple(row["seeds"])}) for row in rows)
