"""Half the bytes where they do no harm: in networks, never in the search among codes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def bfloat16_networks(networks: Sequence[nn.Module], device_type: str) -> Iterator[None]:
    """bfloat16 inside the networks only: around a whole forward it would take the distances to the books as well."""
    for network in networks:
        network.forward = torch.autocast(device_type, dtype=torch.bfloat16)(network.forward)
    try:
        yield
    finally:
        for network in networks:
            del network.forward  # the class's own is back
