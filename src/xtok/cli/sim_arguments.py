"""Arguments that the commands of `xtok sim` share: which tasks, arms and levels, how many processes, a bar."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xtok.sim.variation import Level

ALL = "all"
LEVELS: dict[str, tuple[Level, ...]] = {"easy": ("easy",), "hard": ("hard",), "both": ("easy", "hard")}


def add_cell_arguments(parser: argparse.ArgumentParser, level: str = "easy") -> None:
    parser.add_argument("--tasks", type=names, default=[ALL], metavar="A,B", help="default: all")
    parser.add_argument("--arms", type=names, default=[ALL], metavar="A,B", help="default: all")
    parser.add_argument("--level", choices=tuple(LEVELS), default=level, help=f"default: {level}")


def add_worker_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes (default: 2)")


def names(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def chosen_cells(tasks: list[str], arms: list[str]) -> tuple[tuple[str, str], ...]:
    """(task, arm or pair) of the suite, in its order by arm. Naming a combination that is not there is an error."""
    from xtok.sim.suite import cells, get_cell

    if ALL not in tasks and ALL not in arms:
        return tuple((get_cell(task, arm).task, arm) for arm in arms for task in tasks)
    found = [
        (cell.task, cell.arm)
        for cell in cells()
        if (ALL in tasks or cell.task in tasks) and (ALL in arms or cell.arm in arms)
    ]
    for asked, place, what in ((tasks, 0, "task"), (arms, 1, "arm")):
        if missing := [name for name in asked if name != ALL and name not in {cell[place] for cell in found}]:
            known = sorted({(cell.task, cell.arm)[place] for cell in cells()})
            raise ValueError(f"no supported cell has {what} {missing[0]!r}; expected some of {known}")
    return tuple(sorted(found, key=lambda cell: cell[1]))


@contextmanager
def progress_bar(total: int, unit: str, what: str) -> Iterator[Callable[[int], Any]]:
    """A bar on stderr, and the function that moves it."""
    from tqdm import tqdm

    with tqdm(total=total, unit=unit, desc=what, disable=None, smoothing=0.05) as bar:
        yield bar.update
