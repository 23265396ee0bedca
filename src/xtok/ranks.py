"""What the processes of one run ("ranks", one a device) have in common: sums, counts, choices. Any room may use it.

A process is alone unless it stands within `together`, which the training engine puts around the losses of a step. So
what one rank does by itself (validation, k-means, saving) waits for nobody, and code that is never trained need not
know that there are others. Alone, every function here gives back what it was given.

# R ranks, N rows of this rank, V codes
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a command that only parses its arguments must not wait for torch
    from torch import Tensor


@dataclass(frozen=True)
class _Step:
    """together: sums run over all ranks. ends: the optimiser steps after this batch, of which no more parts come."""

    together: bool = False
    ends: bool = True


_ALONE = _Step()
_STEP: ContextVar[_Step] = ContextVar("step", default=_ALONE)


@contextmanager
def together(ends: bool = True) -> Iterator[None]:
    """Within, sums run over all ranks, all of which must come here. ends: see `step_ends`."""
    before = _STEP.set(_Step(True, ends))
    try:
        yield
    finally:
        _STEP.reset(before)


@contextmanager
def alone() -> Iterator[None]:
    """Within, a process is by itself, wherever it stands."""
    before = _STEP.set(_Step(False, _STEP.get().ends))
    try:
        yield
    finally:
        _STEP.reset(before)


def step_ends() -> bool:
    """False while the gradient of a step is still being gathered from several batches, one after another."""
    return _STEP.get().ends


def world() -> int:
    """R within `together`, 1 alone."""
    if not _STEP.get().together:
        return 1
    import torch.distributed as dist

    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0; 0 alone."""
    if world() == 1:
        return 0
    import torch.distributed as dist

    return dist.get_rank()


def launched_rank() -> int:
    """Number of this process as torchrun or `accelerate launch` gave it, before any process group is there."""
    several = int(os.environ.get("WORLD_SIZE") or 1) > 1
    return int(os.environ.get("RANK") or 0) if several else 0


def summed(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Sums over ranks of tensors of one dtype, in one message; bitwise the same on every rank."""
    if world() == 1:
        return list(tensors)
    import torch
    import torch.distributed as dist

    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def divisor(count: Tensor) -> Tensor:
    """What a rank divides its sum by so that the mean over ranks (what DDP takes) is the mean over all counted values.

    count: of this rank, a whole number, also 0. Where no rank has any, the sum is 0 and the mean comes out as 0.
    """
    if world() == 1:
        return count.clamp_min(1)
    (total,) = summed([count])
    return total.clamp_min(1) / world()


@dataclass(frozen=True)
class Rows:
    """Where the rows of this rank lie among those of all ranks, which stand in the order of the ranks."""

    first: int
    count: int
    total: int


def rows(count: int, device: object = "cpu") -> Rows:
    """Of a rank that has `count` of them."""
    if world() == 1:
        return Rows(0, count, count)
    import torch

    each = torch.zeros(world(), dtype=torch.long, device=device)  # type: ignore[call-overload]
    each[rank()] = count
    (each,) = summed([each])
    counts = each.tolist()
    return Rows(sum(counts[: rank()]), count, sum(counts))


def from_first(tensor: Tensor) -> Tensor:
    """What the first rank gives, on every rank; all give the same shape and dtype."""
    if world() == 1:
        return tensor
    import torch.distributed as dist

    dist.broadcast(tensor, src=0)
    return tensor


def picked(x_NC: Tensor, chosen: Tensor, place: Rows) -> Tensor:
    """Rows of all ranks by their numbers among all, on every rank: [len(chosen), C]."""
    if world() == 1:
        return x_NC[chosen]
    at = chosen - place.first
    mine = (at >= 0) & (at < place.count)
    found = x_NC.new_zeros(len(chosen), *x_NC.shape[1:])
    found[mine] = x_NC[at[mine]]
    (found,) = summed([found])
    return found
