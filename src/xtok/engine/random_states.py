"""Torch's random numbers, which a run has for dropout alone: each process has its own.

In a checkpoint `cpu` and `cuda` are the first process's, `cpu.1` the second's and so on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from xtok.engine.processes import gathered

if TYPE_CHECKING:
    from accelerate import Accelerator

_SPREAD = 0x9E3779B97F4A7C15  # odd, so that seed, process and step mix into another seed each


def seed_rank(seed: int, rank: int, step: int = 0) -> None:
    """Numbers of its own for a process that is not the first; the first has those of a run of one."""
    if rank:
        torch.manual_seed((seed + 1) * _SPREAD + rank * 0x1F123BB5 + step & (1 << 63) - 1)


def pack_random(accelerator: Accelerator) -> dict[str, Tensor]:
    """States in every process. All processes come here."""
    states: dict[str, Tensor] = {}
    own = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        own["cuda"] = torch.cuda.get_rng_state()
    for name, state in own.items():
        for rank, each in enumerate(gathered(state, accelerator)):
            states[f"{name}.{rank}" if rank else name] = each
    return states


def unpack_random(states: Mapping[str, Tensor], accelerator: Accelerator, seed: int, step: int) -> None:
    """Inverse of `pack_random`, in place. In a run that moved to other devices or another number of processes dropout
    is another.

    Raises:
        ValueError: a checkpoint of before batches hung on their step alone.
    """
    if "run" in states:
        raise ValueError(
            "this run was begun by an earlier version, which drew each batch from where the last one had left the "
            "random numbers; its batches would be others from here on. Begin it anew in another folder"
        )
    rank = accelerator.process_index
    suffix = f".{rank}" if rank else ""
    if f"cpu{suffix}" not in states:
        seed_rank(seed, rank, step)
        return
    torch.set_rng_state(states[f"cpu{suffix}"])
    if torch.cuda.is_available() and f"cuda{suffix}" in states:
        torch.cuda.set_rng_state(states[f"cuda{suffix}"])
