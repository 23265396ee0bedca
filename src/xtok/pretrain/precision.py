"""Half the bytes where they do no harm: in networks, never in the search among codes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from xtok.codec.base import Codec
from xtok.codec.gaussian import GaussianCodec


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


@torch.no_grad()
def round_to_half(codec: Codec) -> None:
    """Round networks, books and motion factors to values that float16 holds exactly, so that the file has half the
    bytes. In place; arithmetic stays in float32, so codes are what they are before and after a save.
    """
    for tensor in codec.state_dict().values():
        if tensor.dtype == torch.float32:
            tensor.copy_(tensor.half().float())
    if isinstance(codec, GaussianCodec):
        for prior in list(codec.robots.values()):
            codec.add_robot(replace(prior, factor_SKR=prior.factor_SKR.half().float()))
    for quantizer in codec.quantizers:
        quantizer.restart_from_books()
    codec.forget_bases()
