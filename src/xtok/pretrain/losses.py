"""L_rec term by term, and the weights of all losses. docs/method.md#losses.

# B batch, T frames, K tangent channels, D channels of the layout
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from math import pi

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from xtok import ranks
from xtok.actions.rotation import geodesic_rad, matrix_from_rotation6d
from xtok.actions.tangent import tangent_kinds
from xtok.codec.base import Codec
from xtok.codec.batch import BatchContext
from xtok.codec.output import CodecOutput

# docs/method.md#losses. One key a term; the engine refuses any other.
WEIGHTS: Mapping[str, float] = {
    "position": 1.0,
    "rotation": 0.2,
    "commitment": 0.25,
    "dct": 0.5,
    "velocity": 0.3,
    "mam_codes": 0.1,
    "mam_actions": 0.1,
    "align_global": 0.125,  # L_align counts .5, and is .25 global + .25 local
    "align_local": 0.125,
    "align_cosine": 0.125,  # ours, decision 0013: as much as either of the two
    "predict": 0.2,
    "words_global": 0.125,  # ours, decision 0009: as L_align, beside words alone
    "words_local": 0.125,
    "quiet": 1.0,  # ours: nothing is said where nothing is taught
}


def masked_mean(value: Tensor, mask: Bool[Tensor, "*B"]) -> Float[Tensor, ""]:
    """Mean over the True places (of all ranks); `mask` broadcasts. 0 where there are none."""
    mask = mask.expand_as(value)
    return torch.where(mask, value, 0.0).sum() / ranks.divisor(mask.sum())


def motion_l1(
    a_BTK: Float[Tensor, "B T K"], b_BTK: Float[Tensor, "B T K"], mask_BK: Bool[Tensor, "B K"]
) -> Float[Tensor, ""]:
    """Mean absolute difference of valid values, normalised tangent units."""
    return masked_mean((a_BTK - b_BTK).float().abs(), mask_BK[:, None])


def reconstruction_losses(
    codec: Codec, output: CodecOutput, motion_BTK: Float[Tensor, "B T K"], batch_context: BatchContext
) -> dict[str, Tensor]:
    """L_rec: always the same five keys. All normalised but `rotation`, which is rad; a layout without any has 0."""
    mask_BK = batch_context.conditions.mask_BK
    straight_K = torch.tensor([kind != "rotation6d" for kind in tangent_kinds(codec.layout)], device=mask_BK.device)
    error = (output.motion_BTK - motion_BTK).float()  # taken in the codec's float64, then float32 for the loss
    step = error[:, 1:] - error[:, :-1]
    return {
        "position": masked_mean(error.abs(), (mask_BK & straight_K)[:, None]),
        "rotation": _rotation(codec, output.motion_BTK, motion_BTK, batch_context),
        "commitment": output.commitment.float(),
        "dct": masked_mean((dct_matrix(batch_context.horizon).to(error) @ error).abs(), mask_BK[:, None]),
        "velocity": masked_mean(step.abs(), mask_BK[:, None]),
    }


@cache
def dct_matrix(n: int) -> Float[Tensor, "n n"]:
    """Orthonormal DCT-II: row k holds the samples of the k-th cosine."""
    k = torch.arange(n, dtype=torch.float64)
    matrix = torch.cos(pi * (2 * k + 1) * k[:, None] / (2 * n)) * (2 / n) ** 0.5
    matrix[0] /= 2**0.5
    return matrix


def _rotation(codec: Codec, decoded_BTK: Tensor, motion_BTK: Tensor, batch_context: BatchContext) -> Float[Tensor, ""]:
    """Mean angle in rad between decoded and true delta rotations, in physical space."""
    R = len(codec.layout.of_kind("rotation6d"))
    six_D = torch.tensor([kind == "rotation6d" for kind in codec.layout.channel_kinds])
    three_K = torch.tensor([kind == "rotation6d" for kind in tangent_kinds(codec.layout)])
    valid_BR = batch_context.conditions.mask_BK[:, three_K].unflatten(-1, (R, 3))[..., 0]
    decoded, true = (
        matrix_from_rotation6d(codec.delta(value.float(), batch_context)[..., six_D].unflatten(-1, (R, 6)))
        for value in (decoded_BTK, motion_BTK)
    )
    return masked_mean(geodesic_rad(decoded, true), valid_BR[:, None])
