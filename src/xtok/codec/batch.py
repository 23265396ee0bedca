"""What encoder and decoder both know of a batch, beside the codes: conditions, units, length. Never the motion.

# B batch, T frames, D channels of the layout, K tangent channels
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from xtok.actions.delta import from_tangent, tangent_mask, to_tangent
from xtok.actions.layout import Layout
from xtok.actions.statistics import Statistics
from xtok.actions.tangent import tangent_scale
from xtok.codec.encoder import Conditions


@dataclass(frozen=True)
class Units:
    """Half ranges of each row's robot. inverse_BK: 1 / scale_BK; both are 0 where a channel is absent or never moved.
    constant_BD: channels that never moved and are not coded, with the value that they have."""

    scale_BK: Float[Tensor, "B K"]
    inverse_BK: Float[Tensor, "B K"]
    constant_BD: Bool[Tensor, "B D"]
    value_BD: Float[Tensor, "B D"]

    def to_motion(self, layout: Layout, delta_BTD: Float[Tensor, "B T D"]) -> Float[Tensor, "B T K"]:
        """Physical deltas in half ranges, in the tangent space; 0 where nothing is coded."""
        tangent = to_tangent(layout, delta_BTD)
        return tangent * self.inverse_BK[:, None].to(tangent)

    def to_delta(self, layout: Layout, motion_BTK: Float[Tensor, "B T K"]) -> Float[Tensor, "B T D"]:
        """Inverse of `to_motion`, with the values of constant channels."""
        delta = from_tangent(layout, motion_BTK * self.scale_BK[:, None].to(motion_BTK))
        if not self.constant_BD.any():
            return delta
        return torch.where(self.constant_BD[:, None], self.value_BD[:, None].to(delta), delta)


@dataclass(frozen=True)
class BatchContext:
    """horizon: T. names: robot of each row."""

    horizon: int
    conditions: Conditions
    units: Units
    names: tuple[str, ...]


def units_of(
    layout: Layout, robots: Sequence[Statistics], robot_B: Tensor, device: torch.device
) -> tuple[Units, Bool[Tensor, "B K"]]:
    """Units of a batch of which row b is of robot robot_B[b]; and which tangent channels of each row move."""
    moving_RK = torch.stack([tangent_mask(layout, torch.from_numpy(each.moving_D.copy())) for each in robots])
    scale_RK = torch.stack([tangent_scale(layout, each) for each in robots])
    inverse_RK = torch.where(moving_RK, 1 / scale_RK, 0.0)
    constant_RD = torch.stack([torch.from_numpy(each.constant_D.copy()) for each in robots])
    value_RD = torch.stack([torch.from_numpy(each.low_D.copy()) for each in robots])
    at = robot_B.cpu()
    parts = (torch.where(moving_RK, scale_RK, 0.0), inverse_RK, constant_RD, value_RD)
    return Units(*(part[at].to(device) for part in parts)), moving_RK[at].to(device)
