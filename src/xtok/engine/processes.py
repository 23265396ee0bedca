"""The processes of a run, as torchrun or `accelerate launch` started them; one alone without either."""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist

from xtok.engine.settings import Launch
from xtok.engine.trackers import FOLDER, check_trackers

if TYPE_CHECKING:
    from accelerate import Accelerator

Found = TypeVar("Found")
# For the first process, which places codebooks alone. One that died is found by its launcher at once.
WAIT = timedelta(hours=12)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def accelerator_for(launch: Launch, out: Path | None = None, cpu_only: bool = False) -> Accelerator:
    """Join the other processes, on a GPU each where there is one.

    DDP looks for parameters without a gradient, since losses come and go during a run, and leaves buffers alone: they
    are codebooks, which start alike (`from_first`) and follow the vectors of all processes. autocast is off around the
    whole: `low_precision` has it.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
    from accelerate.state import AcceleratorState
    from accelerate.utils import AutocastKwargs, GradientAccumulationPlugin, ProjectConfiguration

    check_trackers(launch.trackers)
    end_with_launcher()
    cpu = cpu_only or not torch.cuda.is_available()
    precision = {"auto": os.environ.get("ACCELERATE_MIXED_PRECISION", "no" if cpu else "bf16"), "fp32": "no"}.get(
        launch.precision, launch.precision
    )
    if precision not in ("no", "bf16"):
        raise ValueError(f"mixed precision {precision!r} is not for codebooks; expected no (fp32) or bf16")
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != precision:
        AcceleratorState._reset_state()  # of an earlier run in this process; the process group stays
    before = _joined()
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision=precision,
        # The engine divides and joins by itself: Accelerate's count is one for all engines of a process.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        log_with=list(launch.trackers) or None,
        project_config=ProjectConfiguration(logging_dir=None if out is None else str(out / FOLDER)),
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False),
            AutocastKwargs(enabled=False),
            InitProcessGroupKwargs(timeout=WAIT),
        ],
    )
    if _joined() and not before:
        atexit.register(_leave)
    return accelerator


def _leave() -> None:
    """Before Python ends: a thread of the group that is still at work then aborts a process that had done all."""
    if _joined():
        dist.destroy_process_group()


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def end_with_launcher() -> None:
    """Be told to stop (SIGTERM: a checkpoint, then the end) when torchrun is killed, which else leaves its processes
    training on with nobody to watch them. Linux alone has this.

    Raises:
        ConnectionError: it is gone already. Without this look, joining the others would wait for it for hours.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or _joined():
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        try:
            socket.create_connection(address, timeout=60).close()
        except OSError as error:
            raise ConnectionError(
                f"torchrun, which started this process, is gone or cannot be reached at {address[0]}:{address[1]} "
                f"({error}); start all processes again"
            ) from error


def first_does(do: Callable[[], Found], accelerator: Accelerator) -> Found | None:
    """Let the first process do something that the others wait for; its result, None in the others.

    Raises:
        Exception: what it raised there, in every process.
    """
    found: Found | None = None
    error: Exception | None = None
    if accelerator.is_main_process:
        try:
            found = do()
        except Exception as raised:
            error = raised
    if accelerator.num_processes > 1:
        told: list[Any] = [error]
        dist.broadcast_object_list(told, src=0)
        error = told[0]
    if error is not None:
        raise error
    return found


def from_first(tensors: Iterable[torch.Tensor], accelerator: Accelerator) -> None:
    """Every process gets the first one's values, in place."""
    if accelerator.num_processes > 1:
        for tensor in tensors:
            dist.broadcast(tensor.detach(), src=0)


def any_of(flag: bool, accelerator: Accelerator) -> bool:
    """Whether it is so in any process; the same answer in all."""
    if accelerator.num_processes == 1:
        return flag
    told = torch.tensor(int(flag), device=accelerator.device)
    dist.all_reduce(told, op=dist.ReduceOp.MAX)
    return bool(told)


def mean_of(values: torch.Tensor, accelerator: Accelerator) -> torch.Tensor:
    """Mean over processes."""
    if accelerator.num_processes == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / accelerator.num_processes


def gathered(tensor: torch.Tensor, accelerator: Accelerator) -> list[torch.Tensor]:
    """A small CPU tensor of every process, in order."""
    if accelerator.num_processes == 1:
        return [tensor]
    parts: list[Any] = [None] * accelerator.num_processes
    dist.all_gather_object(parts, tensor)
    return parts
