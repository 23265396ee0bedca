"""What encoder and decoder both know of a batch, beside the codes.

# B batch, b rows of one robot, k valid tangent channels of a robot
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from xtok.codec.basis import ChunkBasis
from xtok.codec.encoder import Conditions
from xtok.codec.prior import MotionPrior


@dataclass(frozen=True)
class Robot:
    """Rows of a batch that share one prior."""

    name: str
    rows: Int[Tensor, " b"]
    prior: MotionPrior
    basis: ChunkBasis
    channels: Int[Tensor, " k"]  # its valid tangent channels


@dataclass(frozen=True)
class Setting:
    """What encoder and decoder both know: conditions, robots, length. Never the motion."""

    horizon: int
    given: Conditions
    robots: tuple[Robot, ...]
    names: tuple[str, ...]  # of the robot of each row
