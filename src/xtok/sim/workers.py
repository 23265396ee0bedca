"""Work on several processes, and files that are there whole or not at all.

Jobs are independent and their results do not depend on who ran them, so the number of workers changes nothing but time.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from xtok.sim.env import SimEnv
    from xtok.sim.variation import Level, Split

Job = TypeVar("Job")
Result = TypeVar("Result")
EVAL_SEED = 100_000  # evaluation seeds start here; training seeds lie below

_held: tuple[tuple[object, ...], SimEnv] | None = None  # the last environment of this process


@dataclass(frozen=True)
class EpisodeSpec:
    """All that decides an episode."""

    task: str
    arm: str
    level: Level
    split: Split
    seed: int

    @property
    def cell(self) -> tuple[str, str, Level]:
        return self.task, self.arm, self.level

    @property
    def name(self) -> str:
        return f"{self.task}-{self.arm}-{self.level}-{self.split}-{self.seed:06d}"


def environment(spec: EpisodeSpec, views: bool, image_size: int = 96) -> SimEnv:
    """The environment of a cell, not yet reset. A process keeps its last one, since building it takes seconds."""
    global _held
    from xtok.sim.env import SimEnv

    key = (*spec.cell, views, image_size)
    if _held is None or _held[0] != key:
        close_environment()
        _held = key, SimEnv(spec.task, spec.arm, spec.level, views=views, image_size=image_size)
    return _held[1]


def close_environment() -> None:
    """Free the environment that this process keeps."""
    global _held
    if _held is not None:
        _held[1].close()
        _held = None


def run_jobs(function: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> Iterator[tuple[Job, Result]]:
    """`function` of every job, as they are done. With one worker in this process, in order; else in new processes, so
    function and jobs must be importable and picklable. Put jobs of one cell together.

    Raises:
        ValueError: workers under 1, or a worker process that died. Errors of `function` come through as they are.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; expected 1 or more")
    if min(workers, len(jobs)) <= 1:
        for job in jobs:
            yield job, function(job)
        return
    executor = ProcessPoolExecutor(min(workers, len(jobs)), get_context("spawn"), initializer=_start_worker)
    try:
        with _one_thread_each():  # processes start with the first job
            pending = {executor.submit(function, job): job for job in jobs}
        for future in as_completed(pending):
            yield pending[future], future.result()
    except BrokenProcessPool as error:
        raise ValueError(
            "a worker process died (killed, or out of memory); give the same command again, with fewer --workers"
        ) from error
    finally:  # episodes in flight are finished and kept
        executor.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which tells us
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
