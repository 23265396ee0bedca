"""The smallest task that has everything: a transformer that learns to give numbers back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from xtok import ranks
from xtok.engine import Kept, Parts, Task
from xtok.engine.task import Figures

WIDTH, LENGTH = 16, 6


@dataclass(frozen=True)
class RandomNumbers:
    """Another batch for each step."""

    batch_size: int

    def part(self, step: int, index: int, count: int) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        return torch.randn(self.batch_size, LENGTH, WIDTH, generator=generator).chunk(count)[index]


class HostTask(Task[Tensor]):
    name, batch_size, data_order = "host", 8, "random numbers"

    def __init__(self, out: Path) -> None:
        torch.manual_seed(0)
        layers = [nn.TransformerEncoderLayer(WIDTH, 2, 32, dropout=0.0, batch_first=True) for _ in range(2)]
        self.out, self.module = out, nn.Sequential(*layers, nn.Linear(WIDTH, WIDTH))
        self.shard_units = layers
        self.optimizer = torch.optim.AdamW(self.module.parameters(), lr=1e-2)
        self.batches = RandomNumbers(self.batch_size)

    def losses(self, batch: Tensor, step: int) -> dict[str, Tensor]:
        error = (self.module(batch) - batch).square()
        return {"error": error.sum() / ranks.divisor(torch.tensor(error.numel()))}

    def weights(self, step: int) -> Mapping[str, float]:
        return {"error": 1.0}

    def rates(self, step: int) -> list[float]:
        return [1e-2]

    def figures(self, step: int) -> Figures:
        """How many of the values this process holds."""
        held = [p.to_local() if isinstance(p, DTensor) else p for p in self.module.parameters()]
        return Figures({"held": sum(p.numel() for p in held)})

    def state(self) -> Parts:
        return {"model": self.module.state_dict()}

    def load(self, parts: Parts) -> None:
        self.module.load_state_dict(parts["model"])

    def finish(self) -> list[Figures]:
        return []

    def keep(self, batch: Tensor) -> Kept:
        return Kept({"batch": batch}, {})

    def restore(self, kept: Kept) -> Tensor:
        return kept.tensors["batch"]
