"""FSDP2: a task's parameters spread over processes, whole in a checkpoint, spread again from one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from xtok.engine import checkpoint
from xtok.engine.task import Batch, Parts, Task


def shard(task: Task[Batch], root: nn.Module) -> None:
    """Spread the parameters below `root`, the task's losses, in place; the optimiser of the task gets the new ones.

    Raises:
        ValueError: the task has no `shard_units`.
    """
    from torch.distributed.fsdp import fully_shard

    if not task.shard_units:
        raise ValueError(f"{task.name} is small enough for every device, and cannot be sharded")
    names = {id(parameter): name for name, parameter in root.named_parameters()}
    for unit in (*task.shard_units, root):
        fully_shard(unit)
    spread = dict(root.named_parameters())
    for group in task.optimizer.param_groups:
        group["params"] = [spread[names[id(parameter)]] for parameter in group["params"]]


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """`checkpoint.unpack_optimizer` for parameters that may be spread: moments are spread as their parameter is."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    placed = {}
    for name, tensor in tensors.items():
        parameter = parameters[int(name.split(".", 1)[0])]
        placed[name] = _placed(parameter, tensor) if tensor.shape == parameter.shape else tensor
    checkpoint.unpack_optimizer(optimizer, placed)


def whole(parts: Parts) -> dict[str, dict[str, Tensor]]:
    """Every tensor as one process would have it. All processes come here."""
    return {part: {name: whole_tensor(tensor) for name, tensor in tensors.items()} for part, tensors in parts.items()}


def placed_like(here: Parts, parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """Whole tensors, spread as those of the same name in `here`."""
    return {
        part: {name: _placed(here.get(part, {}).get(name), tensor) for name, tensor in tensors.items()}
        for part, tensors in parts.items()
    }


def whole_tensor(tensor: Any) -> Tensor:
    """As one process would have it."""
    full: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full


def _placed(like: Any, tensor: Tensor) -> Tensor:
    if not hasattr(like, "full_tensor"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    spread: Tensor = distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)
    return spread
