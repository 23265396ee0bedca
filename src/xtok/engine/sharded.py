"""Tensors that FSDP2 has spread over processes: whole for a file, spread again from one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from xtok.engine.task import Parts


def whole(parts: Parts) -> dict[str, dict[str, Tensor]]:
    """Every tensor as one process would have it. All processes come here."""
    return {part: {name: _whole(tensor) for name, tensor in tensors.items()} for part, tensors in parts.items()}


def placed_like(here: Parts, parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """Whole tensors, spread as those of the same name in `here`."""
    return {
        part: {name: _placed(here.get(part, {}).get(name), tensor) for name, tensor in tensors.items()}
        for part, tensors in parts.items()
    }


def _whole(tensor: Any) -> Tensor:
    full: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full


def _placed(like: Any, tensor: Tensor) -> Tensor:
    if not hasattr(like, "full_tensor"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    spread: Tensor = distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)
    return spread
