"""How much of the time of a run's steps goes by while they wait for their batches."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypedDict


class TimeJson(TypedDict):
    """Of the steps since the last line. waited: share of their time until their batches were there. step_s: mean
    seconds of a step, that share included; neither has validation or checkpoints in it."""

    waited: float
    step_s: float


class Stall:
    """Sums since the last time that it told."""

    def __init__(self) -> None:
        self._steps, self._step_s, self._waited_s = 0, 0.0, 0.0

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around a step, the waiting included."""
        began = time.perf_counter()
        yield
        self._step_s += time.perf_counter() - began
        self._steps += 1

    def waited(self, seconds: float) -> None:
        self._waited_s += seconds

    def told(self) -> TimeJson:
        """For metrics.jsonl; begins anew. `step` was there once at least."""
        found = TimeJson(waited=round(self._waited_s / self._step_s, 4), step_s=round(self._step_s / self._steps, 6))
        self._steps, self._step_s, self._waited_s = 0, 0.0, 0.0
        return found
