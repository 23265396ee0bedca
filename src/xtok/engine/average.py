"""Running average of network weights: what is released is steadier than any one step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of the parameters of a module that learn; buffers (the books) are not its business,
    and what does not learn keeps every bit (an average of -0 is 0).

    The first steps are averaged over what there is, so that the start does not stay in the average.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.decay = module, decay
        self.tensors = {name: p.detach().clone() for name, p in self._learning()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After optimiser step number `step`, from 0."""
        keep = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in self._learning():
            self.tensors[name].lerp_(parameter, 1 - keep)

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])

    @torch.no_grad()
    def copy_to_module(self) -> None:
        for name, parameter in self._learning():
            parameter.copy_(self.tensors[name])

    def _learning(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, p) for name, p in self.module.named_parameters() if p.requires_grad)
