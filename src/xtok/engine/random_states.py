"""Random numbers of a run: each process has its own for dropout, all share those that batches are drawn with.

In a checkpoint `run` is the shared one, `cpu` and `cuda` are the first process's, `cpu.1` the second's and so on.
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


def pack_random(generator: torch.Generator, accelerator: Accelerator) -> dict[str, Tensor]:
    """States of the run's own generator and of torch's in every process (dropout). All processes come here."""
    states = {"run": generator.get_state()}
    own = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        own["cuda"] = torch.cuda.get_rng_state()
    for name, state in own.items():
        for rank, each in enumerate(gathered(state, accelerator)):
            states[f"{name}.{rank}" if rank else name] = each
    return states


def unpack_random(
    generator: torch.Generator, states: Mapping[str, Tensor], accelerator: Accelerator, seed: int, step: int
) -> None:
    """Inverse of `pack_random`, in place. A run that moved to other devices or another number of processes goes on with
    the same batches; its dropout is another."""
    generator.set_state(states["run"])
    rank = accelerator.process_index
    suffix = f".{rank}" if rank else ""
    if f"cpu{suffix}" not in states:
        seed_rank(seed, rank, step)
        return
    torch.set_rng_state(states[f"cpu{suffix}"])
    if torch.cuda.is_available() and f"cuda{suffix}" in states:
        torch.cuda.set_rng_state(states[f"cuda{suffix}"])
