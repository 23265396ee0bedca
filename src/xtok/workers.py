"""Independent units of work over processes: of this machine (`--workers`), or of a Ray cluster. Any room may use it.

A unit is written whole or not at all, and whoever writes it, when and how often, writes the same: so neither the number
of workers nor a kill changes a byte. Who does which is left to concurrent.futures and to Ray.
"""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

from xtok.messages import say

Work = Callable[[Any], Any]  # does one unit
Run = Callable[[Iterable[Any]], Iterator[Any]]  # units -> what each gave, in their order
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
RAY_STORE_BYTES = 128 << 20  # units and results are small; Ray would take a third of the memory
# Of a unit whose worker died, each time on one begun anew. Where a node is lost, Ray tries once a second until it knows
# (8 times in our test); a unit that kills every worker, for want of memory, is given up after so many.
RAY_RETRIES = 60
DIED = "a worker process died (killed, or out of memory); give the same command again: what is done is kept"


@dataclass(frozen=True)
class Workers:
    """count: how many. ray: of a Ray cluster that sees the same file system: the one that RAY_ADDRESS names, or one
    that is started here and ends with the command.

    Raises:
        ValueError: count under 1.
    """

    count: int = 1
    ray: bool = False

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"{'--ray' if self.ray else 'workers'} is {self.count}; expected 1 or more")

    @property
    def is_here(self) -> bool:
        """This process alone does it all."""
        return self.count == 1 and not self.ray


@contextmanager
def crew(work: Work, workers: Workers, gpus: bool = False) -> Iterator[Run]:
    """Workers for units of `work`, which end with the block, however it ends.

    Each worker gets a copy of `work` once (it must be importable and can be pickled), so what a copy opens for its
    first unit it has for the others. Several processes import the calling module, which wants `if __name__ ==
    "__main__"`, and take one thread each. gpus: of Ray, one a worker where the cluster has as many.

    Raises:
        ValueError: a worker process died; of Ray, the same unit killed several. Errors of `work` come as they are, and
            what the other workers are at is given up.
        ImportError: Ray is missing.
    """
    if workers.is_here:
        yield lambda units: map(work, units)
        return
    start = _on_ray(work, workers.count, gpus) if workers.ray else _processes(work, workers.count)
    with start as run:
        yield run


# -- processes of this machine ----------------------------------------------------------------------------------------

# A pipe holds 64 KiB. Whoever writes more waits for the other end, forever if that is killed by then, since both ends
# are open here. So work, and results over PIPE_BYTES, go through files.
PIPE_BYTES = 4096
WORK = "work"
_work: Work | None = None  # in a worker: its copy
_folder = Path()  # in a worker: for what is too long for a pipe


@contextmanager
def _processes(work: Work, count: int) -> Iterator[Run]:
    context = get_context("spawn")
    stopped, stop = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="xtok-", ignore_cleanup_errors=True) as name:
        (Path(name) / WORK).write_bytes(pickle.dumps(work))
        executor = ProcessPoolExecutor(count, context, _begin_process, (Path(name), stopped))

        def run(units: Iterable[Any]) -> Iterator[Any]:
            with _one_thread_each(), _without_interrupts():  # processes begin with their first unit
                return map(_received, executor.map(_do, units))

        try:
            yield run
        except BrokenProcessPool as error:
            raise ValueError(f"{DIED}; with fewer --workers if it was the memory") from error
        finally:
            # Nobody reads it, so that all see it and end. Also where all is done: asked by the executor one after
            # another, the second one would wait forever for a first one that is killed just then.
            stop.send_bytes(b"stop")
            executor.shutdown(cancel_futures=True)
            stop.close()
            stopped.close()


def _begin_process(folder: Path, stopped: connection.Connection) -> None:
    global _work, _folder
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which tells us
    parent = parent_process()
    assert parent is not None, "a worker has one"
    sentinel = parent.sentinel

    def end_with_parent() -> None:
        connection.wait([sentinel, stopped])
        shutil.rmtree(folder, ignore_errors=True)  # of a parent that was killed
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    _folder = folder
    try:
        packed = (folder / WORK).read_bytes()
    except FileNotFoundError:  # another worker has seen that the parent is gone
        os._exit(1)
    _work = _unpacked(packed)


def _unpacked(work: bytes) -> Work:
    warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}")  # as the command itself does
    return pickle.loads(work)


def _do(unit: Any) -> bytes | Path:
    assert _work is not None
    packed = pickle.dumps(_work(unit))
    if len(packed) <= PIPE_BYTES:
        return packed
    with tempfile.NamedTemporaryFile(dir=_folder, delete=False) as file:
        file.write(packed)
    return Path(file.name)


def _received(sent: bytes | Path) -> Any:
    if isinstance(sent, bytes):
        return pickle.loads(sent)
    packed = sent.read_bytes()
    sent.unlink()
    return pickle.loads(packed)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """For processes that begin within."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Ctrl-C waits; processes that begin within never see it, not even before they can say so."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# -- workers of a Ray cluster -----------------------------------------------------------------------------------------


class _RayWorker:
    def __init__(self, folder: str) -> None:
        os.chdir(folder)  # what paths are relative to where the command was given
        self.work: Work | None = None

    def do(self, work: bytes, number: int, unit: Any) -> tuple[int, Any]:
        if self.work is None:  # not at its beginning: one that Ray begins anew would not find it
            self.work = _unpacked(work)
        return number, self.work(unit)


@contextmanager
def _on_ray(work: Work, count: int, gpus: bool) -> Iterator[Run]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        from ray.exceptions import RayError, RayTaskError
        from ray.util import ActorPool
    except ImportError as error:
        raise ImportError("--ray needs Ray: pip install 'xtok[ray]'") from error
    is_ours = not ray.is_initialized()
    if is_ours:
        _connect(ray, count)
    actors: list[Any] = []
    try:
        # Without a GPU it needs a CPU to begin and none to go on: a node that is left takes the workers of a lost one.
        gpu: dict[str, Any] = {"num_gpus": 1} if gpus and ray.cluster_resources().get("GPU", 0) >= count else {}
        worker = ray.remote(
            **gpu,
            max_restarts=-1,
            max_task_retries=RAY_RETRIES,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": ONE_THREAD},
        )(_RayWorker)
        sent = ray.put(pickle.dumps(work))
        actors += [worker.remote(str(Path.cwd())) for _ in range(count)]
        pool: Any = ActorPool(actors)

        def run(units: Iterable[Any]) -> Iterator[Any]:
            return _in_order(pool.map_unordered(lambda actor, each: actor.do.remote(sent, *each), enumerate(units)))

        yield run
    except RayTaskError as error:  # what the unit raised, without the worker's traceback
        raise error.cause from None
    except RayError as error:
        raise ValueError(f"{DIED}. Ray says: {error}") from error
    finally:
        if is_ours:
            ray.shutdown()  # and all that works for it
        else:
            for actor in actors:
                ray.kill(actor)


def _connect(ray: Any, count: int) -> None:
    """To the cluster of RAY_ADDRESS, or to one of this machine that ends with this process."""
    quiet = {"logging_level": "error"}
    if address := os.environ.get("RAY_ADDRESS"):
        try:
            ray.init(address, **quiet)
        except (ConnectionError, ValueError) as error:
            raise ValueError(
                f"no Ray cluster answers at RAY_ADDRESS={address} ({error}); start it (`ray start --head`), or unset "
                "RAY_ADDRESS for one on this machine"
            ) from error
        return
    try:
        ray.init("local", num_cpus=count, object_store_memory=RAY_STORE_BYTES, include_dashboard=False, **quiet)
    except Exception as error:  # that is what Ray raises where its processes take over 30 s to begin
        ray.shutdown()
        raise ValueError(f"Ray did not begin on this machine: {error} Try again, or take --workers") from error


def _in_order(numbered: Iterable[tuple[int, Any]]) -> Iterator[Any]:
    """Results as their numbers go, 0 first."""
    early: dict[int, Any] = {}
    due = 0
    for number, result in numbered:
        early[number] = result
        while due in early:
            yield early.pop(due)
            due += 1
