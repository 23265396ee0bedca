"""What a training pass of the codec gives.

# B batch, T frames, M slots, Q levels, K tangent channels, X = 4 K values of a slot, C code dimension
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class CodecOutput:
    """motion_BTK: decoded, normalised tangent. h_BMC: latents before quantisation, gradient to the encoder.
    coarse_BMC: q0's codes with straight-through gradient. z_BMX: z~, of which the decoder does not see the extra
    dimensions, its last. commitment: SRQ loss."""

    motion_BTK: Float[Tensor, "B T K"]
    h_BMC: Float[Tensor, "B M C"]
    coarse_BMC: Float[Tensor, "B M C"]
    z_BMX: Float[Tensor, "B M X"]
    codes_BMQ: Int[Tensor, "B M Q"]
    commitment: Float[Tensor, ""]

    @property
    def horizon(self) -> int:
        """T."""
        return self.motion_BTK.shape[1]
