"""Physical deltas to the units of each row's robot and back: half ranges, in the tangent space.

# B chunks, T frames, D channels of the layout, K tangent channels
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from xtok.actions.delta import from_tangent, to_tangent
from xtok.actions.layout import Layout
from xtok.codec.setting import Robot


def to_units(layout: Layout, delta_BTD: Float[Tensor, "B T D"], robots: Sequence[Robot]) -> Float[Tensor, "B T K"]:
    """Half ranges of the channels that move; 0 elsewhere."""
    tangent = to_tangent(layout, delta_BTD)
    out = torch.zeros_like(tangent)
    for robot in robots:
        out[robot.rows] = tangent[robot.rows] * _spread(1 / robot.prior.scale_K, robot, out)
    return out


def from_units(layout: Layout, motion_BTK: Float[Tensor, "B T K"], robots: Sequence[Robot]) -> Float[Tensor, "B T D"]:
    """Inverse of `to_units`, with the values of constant channels."""
    tangent = torch.zeros_like(motion_BTK)
    for robot in robots:
        tangent[robot.rows] = motion_BTK[robot.rows] * _spread(robot.prior.scale_K, robot, motion_BTK)
    delta = from_tangent(layout, tangent)
    frames = torch.arange(delta.shape[1], device=delta.device)[:, None]
    for robot in robots:
        statistics = robot.prior.statistics
        if (constant := np.flatnonzero(statistics.constant_D)).size:
            value = torch.from_numpy(statistics.low_D[constant]).to(delta)
            delta[robot.rows[:, None, None], frames, torch.from_numpy(constant).to(delta.device)] = value
    return delta


def _spread(scale_K: Tensor, robot: Robot, like: Tensor) -> Tensor:
    """Values of a robot's channels at their places, 0 elsewhere."""
    out = like.new_zeros(like.shape[-1])
    out[robot.channels] = scale_K.to(out)
    return out
