"""Bars for the phases of long work. Any room may use it: phases lie deep inside, whoever calls decides if they show."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Shown = bool | None  # None: on a terminal, not in a log
_SHOWN: ContextVar[Shown] = ContextVar("shown", default=False)


@contextmanager
def shown(on: Shown = True) -> Iterator[None]:
    """Within, phases show on stderr, or do not; without it, they do not."""
    before = _SHOWN.set(on)
    try:
        yield
    finally:
        _SHOWN.reset(before)


def is_shown() -> Shown:
    """What `shown` said."""
    return _SHOWN.get()


def phase(what: str, total: float | None = None, unit: str = "round", leave: bool = False, delay_s: float = 0) -> tqdm:
    """A bar of one phase, to be moved by `update`. leave: it stays on the screen. delay_s: shorter ones do not show."""
    seconds = 0.1 if sys.stderr.isatty() else 5.0  # between two lines of a log
    disable = {True: False, False: True, None: None}[_SHOWN.get()]
    return tqdm(desc=what, total=total, unit=unit, leave=leave, mininterval=seconds, delay=delay_s, disable=disable)


def track(
    items: Iterable[Item], what: str, unit: str = "batch", leave: bool = False, delay_s: float = 0
) -> Iterator[Item]:
    """The items, with a bar that moves as they are taken."""
    total = len(items) if isinstance(items, Sized) else None
    with phase(what, total, unit, leave, delay_s) as bar:
        for item in items:
            yield item
            bar.update()
