"""Refuse motion that no tokenizer can mean anything by, before it is used. docs/method.md#actions.

# D channels of the layout
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from xtok.actions.layout import Layout
from xtok.actions.rotation import check_rotation6d


def check_actions(layout: Layout, absolute: Float[Tensor, "*B D"], mask: Bool[Tensor, "*#B D"]) -> None:
    """Look at the valid channels of absolute actions; masked ones may hold anything.

    Raises:
        ValueError: a wrong width, NaN or inf, or a degenerate 6D rotation; the message names the channel (or group)
            and the index of the first such row.
    """
    if absolute.shape[-1] != layout.width or mask.shape[-1] != layout.width:
        raise ValueError(
            f"actions have {absolute.shape[-1]} channels and the mask {mask.shape[-1]}; "
            f"layout {layout.name!r} expects {layout.width}"
        )
    bad = ~torch.isfinite(absolute) & mask
    if bad.any():
        *row, channel = bad.nonzero()[0].tolist()
        raise ValueError(
            f"channel {layout.channel_names[channel]!r} is {float(absolute[(*row, channel)])} at index {tuple(row)}; "
            "repair or drop the frame, or mask the channel if the robot lacks it"
        )
    identity = absolute.new_tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    for group, channels in layout.of_kind("rotation6d"):
        valid = mask[..., channels].all(dim=-1, keepdim=True)
        try:
            check_rotation6d(torch.where(valid, absolute[..., channels], identity))
        except ValueError as error:
            raise ValueError(f"{group.name!r}: {error}") from error
