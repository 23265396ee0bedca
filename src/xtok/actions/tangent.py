"""Chunks in the tangent space and in normalised units: rotation vectors over half their range, other channels as ever.

# B chunks, T frames, D channels of the layout, K tangent channels (3 a rotation instead of 6)
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from xtok.actions.delta import from_tangent, tangent_mask, to_tangent
from xtok.actions.layout import Layout
from xtok.actions.statistics import Statistics, denormalise_batch
from xtok.actions.types import Context


def tangent_kinds(layout: Layout) -> tuple[str, ...]:
    """Kind of each tangent channel: a rotation has 3."""
    return tuple(group.kind for group in layout.groups for _ in range(3 if group.kind == "rotation6d" else group.size))


def tangent_scale(layout: Layout, statistics: Statistics) -> Float[Tensor, " K"]:
    """Half the range of every tangent channel, so that an error of 1 there is about 1 in normalised l1.

    Rotations: near the identity the 6D channels are linear in the rotation vector (c1 = [1, z, -y], c2 = [-z, 1, x]).
    """
    half_D = torch.from_numpy(statistics.half_D.copy())
    parts = []
    for group in layout.groups:
        half = half_D[layout.slices[group.name]]
        parts.append(half[[5, 2, 1]] if group.kind == "rotation6d" else half)
    return torch.cat(parts)


def tangent_centre(layout: Layout, statistics: Statistics) -> Float[Tensor, " K"]:
    """The middle of the range of every tangent channel; of a rotation, no rotation: a hand at rest stays at 0."""
    centre_D = torch.from_numpy((statistics.high_D + statistics.low_D) / 2)
    parts = [
        centre_D.new_zeros(3) if group.kind == "rotation6d" else centre_D[layout.slices[group.name]]
        for group in layout.groups
    ]
    return torch.cat(parts)


def normalise_tangent(
    statistics: Mapping[str, Statistics], context: Context, delta_BTD: Float[Tensor, "B T D"]
) -> Float[Tensor, "B T K"]:
    """Physical deltas to normalised tangent channels, float64, never clipped; masked ones are 0.

    Raises:
        ValueError: a robot without statistics, or statistics that do not fit layout, rate, horizon or channels.
    """
    centre_BK, half_BK = _affine(statistics, context)
    tangent_BTK = to_tangent(context.layout, delta_BTD.double())
    valid_BK = tangent_mask(context.layout, context.mask_BD)
    return torch.where(valid_BK[:, None], (tangent_BTK - centre_BK[:, None]) / half_BK[:, None], 0.0)


def denormalise_tangent(
    statistics: Mapping[str, Statistics], context: Context, normalised_BTK: Float[Tensor, "B T K"]
) -> Float[Tensor, "B T D"]:
    """Inverse of `normalise_tangent`: physical deltas, float32; rotations are proper ones, masked channels 0.

    Raises:
        ValueError: as `normalise_tangent`.
    """
    centre_BK, half_BK = _affine(statistics, context)
    tangent_BTK = normalised_BTK.double() * half_BK[:, None] + centre_BK[:, None]
    return torch.where(context.mask_BD[:, None], from_tangent(context.layout, tangent_BTK).float(), 0.0)


def _affine(statistics: Mapping[str, Statistics], context: Context) -> tuple[Tensor, Tensor]:
    """Centre and half range of each chunk's robot, [B, K] each."""
    layout, mask_BD = context.layout, context.mask_BD
    denormalise_batch(statistics, context, torch.zeros(len(context), 1, layout.width, device=mask_BD.device))  # checks
    of_robot = {
        name: torch.stack((tangent_centre(layout, statistics[name]), tangent_scale(layout, statistics[name])))
        for name in set(context.embodiment)
    }
    both_B2K = torch.stack([of_robot[name] for name in context.embodiment]).to(mask_BD.device)
    return both_B2K[:, 0], both_B2K[:, 1]
