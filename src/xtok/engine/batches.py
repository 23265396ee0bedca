"""The batches of a run in the order of its steps, drawn where they are used or in worker processes ahead of it.

Which batch a step has hangs on nothing but the task's source and the number of the step. Workers are those of torch's
DataLoader; what is added here is how they meet signals and how their end is told.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from xtok.engine.parcel import Parcel, parcel

Batch = TypeVar("Batch")
Drawn = TypeVar("Drawn", covariant=True)
AHEAD = 2  # batches that each worker holds ready
_STOPS = (signal.SIGINT, signal.SIGTERM)


class BatchSource(Protocol[Drawn]):
    """What batches are made of. It goes to worker processes: tensors of the CPU, mapped files, nothing of a GPU; and it
    can be pickled, for systems that do not fork."""

    def part(self, step: int, index: int, count: int) -> Drawn:
        """One of `count` equal parts of the global batch of a step, in order; the batch itself is part 0 of 1. With all
        that is random in it (but dropout), and the same whenever and wherever it is asked for."""
        ...


class Batches(Generic[Batch]):
    """This process's parts of the batches of `steps`, one step after another, until `close`.

    parts: their numbers, of `count`. workers: processes that draw them; 0: it is done here. pin: into page-locked
    memory, which a GPU reads while the CPU goes on. waited_s: how long the last batch was waited for.

    Raises:
        Exception: what went wrong in the source, by `next`. ChildProcessError: a worker has died.
    """

    def __init__(
        self, source: BatchSource[Batch], steps: range, parts: Sequence[int], count: int, workers: int, pin: bool
    ) -> None:
        self.waited_s = 0.0
        # Steps are the sampler's numbers, which DataLoader gives out in turn and puts back into their order.
        loader: DataLoader[Any] = DataLoader(
            _Parts(source, tuple(parts), count),
            batch_size=None,
            sampler=steps,
            num_workers=workers,
            prefetch_factor=AHEAD if workers else None,
            pin_memory=pin,
            collate_fn=_as_it_is,
            worker_init_fn=_init_worker,
            generator=torch.Generator(),  # its own: torch's has the dropout of the run
        )
        with _signals_later() if workers else nullcontext():
            self._iterator: Iterator[Parcel | _Failure] | None = iter(loader)

    def __next__(self) -> tuple[Batch, ...]:
        began = time.perf_counter()
        assert self._iterator is not None, "closed"
        try:
            with told_of_workers():
                item = next(self._iterator)
        except (ConnectionError, EOFError, FileNotFoundError) as error:  # in the middle of sending
            raise _died(error) from error
        if isinstance(item, _Failure):
            raise item.error from _InWorker(item.trace)
        parts: tuple[Batch, ...] = item.opened()
        self.waited_s = time.perf_counter() - began
        return parts

    def close(self) -> None:
        """End the workers."""
        iterator, self._iterator = self._iterator, None
        end = getattr(iterator, "_shutdown_workers", None)  # what its __del__ does, but now
        if end is not None:
            end()


@contextmanager
def told_of_workers() -> Iterator[None]:
    """DataLoader tells of a dead worker from a signal handler, wherever its process happens to be.

    Raises:
        ChildProcessError: in its place.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise _died(error) from error


def _died(error: Exception) -> ChildProcessError:
    return ChildProcessError(
        f"a process that draws batches has died ({str(error).strip()}): killed from outside, or for want of memory. "
        "The last checkpoint is whole: go on from it (--resume), with fewer workers if memory was short (--workers 0 "
        "draws in the training process)"
    )


@dataclass(frozen=True)
class _Failure:
    """Why there are no parts of a step."""

    error: Exception
    trace: str


class _Parts(Dataset[Parcel | _Failure]):
    """Step -> the parts of it."""

    def __init__(self, source: BatchSource[Any], parts: tuple[int, ...], count: int) -> None:
        self._source, self._parts, self._count = source, parts, count

    def __getitem__(self, step: int) -> Parcel | _Failure:
        try:
            return parcel(tuple(self._source.part(step, part, self._count) for part in self._parts))
        except Exception as error:
            return _Failure(_sendable(error), traceback.format_exc())


class _InWorker(Exception):
    """Where an error was raised, as text: its frames stay in the other process."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def _sendable(error: Exception) -> Exception:
    """One that cannot be pickled would never arrive."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _as_it_is(item: Any) -> Any:
    return item


# -- signals ----------------------------------------------------------------------------------------------------------


@contextmanager
def _signals_later() -> Iterator[None]:
    """Requests to stop reach this process after the block, and those that it starts in it never: see `_init_worker`."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # started by the first worker's queues, it would let signals in again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _init_worker(worker: int) -> None:
    """A stop is the training process's to answer: it needs the batches of the step that it is in. A worker ends when it
    is told to, and within seconds when its parent is gone (torch looks for it)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGTERM})
        threading.Thread(target=_heed_parent, daemon=True).start()


def _heed_parent() -> None:
    """SIGTERM ends a worker only if the training process sends it, not when a scheduler sends it to all processes."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
