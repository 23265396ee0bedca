"""What is to be learned: batches, losses, and what is kept. The engine knows nothing else of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Generic

import torch
from torch import Tensor, nn

from xtok.engine.batches import Batch, BatchSource

Parts = Mapping[str, Mapping[str, Tensor]]  # name of a file in a checkpoint -> its tensors


@dataclass(frozen=True)
class Kept:
    """A batch as files: tensors, and JSON that says of what it is."""

    tensors: Mapping[str, Tensor]
    about: Mapping[str, object]


@dataclass(frozen=True)
class Figures:
    """More to log than losses: JSON for metrics.jsonl, and a short text by name for the bar."""

    logged: Mapping[str, object] = field(default_factory=dict)
    shown: Mapping[str, str] = field(default_factory=dict)


class Task(ABC, Generic[Batch]):
    """One training run's own part. Every process of a run has the same task, made from the same seed.

    name: on the bar. module: all that learns, with its buffers. optimizer: over its parameters. batches: what it learns
    from. batch_size: of the global batch. data_order: in words, for run.json. low_precision: modules of which the
    arithmetic may be bfloat16. config: JSON, for trackers. cpu_only: it does not run on a GPU. shard_units: parts of
    the module that FSDP2 gathers one at a time, such as the layers of a large model; none: what is learned is small
    enough for every device.
    """

    name: str
    module: nn.Module
    optimizer: torch.optim.Optimizer
    batch_size: int
    data_order: str
    batches: BatchSource[Batch]
    low_precision: Sequence[nn.Module] = ()
    config: Mapping[str, object] = MappingProxyType({})
    cpu_only: bool = False
    shard_units: Sequence[nn.Module] = ()

    # -- a step ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Scalars whose mean over processes is the loss of the whole: see `xtok.ranks.divisor`. The same keys in every
        process, whatever its part holds. Gradients flow; the module is in training mode."""

    @abstractmethod
    def weights(self, step: int) -> Mapping[str, float]:
        """Of every loss of a step."""

    @abstractmethod
    def rates(self, step: int) -> Sequence[float]:
        """Learning rate of each group of the optimiser."""

    def train(self) -> None:
        """Into training mode."""
        self.module.train()

    def stepped(self, step: int) -> None:
        """After the optimiser's step number `step`, from 0."""

    # -- what is told ---------------------------------------------------------------------------------------------

    def figures(self, step: int) -> Figures:
        """Beside the losses since the last call. In every process."""
        return Figures()

    def validate(self) -> Figures:
        """In the first process alone."""
        return Figures()

    # -- what is kept ---------------------------------------------------------------------------------------------

    @abstractmethod
    def state(self) -> Parts:
        """All that goes on, but for the optimiser and random numbers, which join the part "training"."""

    @abstractmethod
    def load(self, parts: Parts) -> None:
        """Inverse of `state`, in place."""

    @abstractmethod
    def finish(self) -> Sequence[Figures]:
        """After the last step, in the first process alone: write what the run was for. What to log of it."""

    @abstractmethod
    def keep(self, batch: Batch) -> Kept:
        """A batch as files, for `restore`."""

    @abstractmethod
    def restore(self, kept: Kept) -> Batch:
        """Inverse of `keep`."""
