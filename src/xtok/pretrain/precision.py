"""Half the bytes on disk: values that float16 holds exactly."""

from __future__ import annotations

from dataclasses import replace

import torch

from xtok.codec.base import Codec
from xtok.codec.gaussian import GaussianCodec


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
