"""How far is the decoded motion from the real one: normalised l1, millimetres, degrees, gripper, joints.

# B chunks, T frames, D channels, J rotations of a layout
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from xtok.actions.layout import Group, Kind, Layout
from xtok.actions.rotation import geodesic_rad, matrix_from_rotation6d
from xtok.actions.statistics import Statistics, normalise_batch
from xtok.actions.types import Actions, ChunkBatch
from xtok.evaluate.batches import target_delta


@dataclass(frozen=True)
class Errors:
    """Means over all valid values of a set of chunks; None where the robot has no such channel.

    l1: normalised units, against unclipped targets. position_mm: Euclidean, an arm. rotation_deg: geodesic, an arm.
    gripper and joint: absolute, in the unit of the channel (joint: rad, or native units where the robot gives none).
    """

    l1: float
    position_mm: float | None
    rotation_deg: float | None
    gripper: float | None
    joint: float | None


def measure(chunks: ChunkBatch, actions: Actions, statistics: Mapping[str, Statistics]) -> Errors:
    """Errors of decoded actions against the targets they came from."""
    layout, mask_BD = chunks.context.layout, chunks.context.mask_BD
    want_BTD, got_BTD = target_delta(chunks), motion(layout, actions)
    off_BTD = (got_BTD - want_BTD).abs()
    got_normal_BTD, want_normal_BTD = (
        normalise_batch(statistics, chunks.context, delta_BTD) for delta_BTD in (got_BTD, want_BTD)
    )
    l1 = _masked_mean((got_normal_BTD - want_normal_BTD).abs(), mask_BD)
    if l1 is None:
        raise ValueError("no valid channel: the mask of every chunk is empty")

    def mean_of_kind(kind: Kind) -> float | None:
        channels = torch.tensor([k == kind for k in layout.channel_kinds])
        return _masked_mean(off_BTD[..., channels], mask_BD[:, channels])

    return Errors(
        l1=l1,
        position_mm=_position_mm(layout, got_BTD - want_BTD, mask_BD),
        rotation_deg=_rotation_deg(layout, got_BTD, want_BTD, mask_BD),
        gripper=mean_of_kind("gripper"),
        joint=mean_of_kind("joint"),
    )


def motion(layout: Layout, actions: Actions) -> Tensor:
    """Decoded deltas [B, T, D], with rows that failed replaced by no motion at all (rotations: identity)."""
    still_D = torch.zeros(layout.width, dtype=actions.delta_BTD.dtype)
    for _, channels in layout.of_kind("rotation6d"):
        still_D[channels] = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    return torch.where(actions.failed_B[:, None, None], still_D, actions.delta_BTD)


def _masked_mean(value_BTD: Tensor, mask_BD: Tensor) -> float | None:
    """Mean over valid values only: the sum is divided by their number, not by the size of the array."""
    count = int(mask_BD.sum()) * value_BTD.shape[1]
    return None if count == 0 else float((value_BTD * mask_BD[:, None]).double().sum() / count)


def _position_mm(layout: Layout, off_BTD: Tensor, mask_BD: Tensor) -> float | None:
    groups = layout.of_kind("position")
    if not groups:
        return None
    distance_m_BTJ = torch.stack([off_BTD[..., channels].norm(dim=-1) for _, channels in groups], dim=-1)
    mean_m = _masked_mean(distance_m_BTJ, _group_mask(groups, mask_BD))
    return None if mean_m is None else 1000.0 * mean_m


def _rotation_deg(layout: Layout, got_BTD: Tensor, want_BTD: Tensor, mask_BD: Tensor) -> float | None:
    groups = layout.of_kind("rotation6d")
    if not groups or not _group_mask(groups, mask_BD).any():
        return None
    mask_BJ = _group_mask(groups, mask_BD)
    angle_rad_BTJ = torch.zeros(*got_BTD.shape[:2], len(groups), dtype=got_BTD.dtype)
    for j, (_, channels) in enumerate(groups):
        rows = mask_BJ[:, j]  # a masked rotation is six zeros, which is no rotation
        angle_rad_BTJ[rows, :, j] = geodesic_rad(
            matrix_from_rotation6d(got_BTD[rows][..., channels]), matrix_from_rotation6d(want_BTD[rows][..., channels])
        )
    mean_rad = _masked_mean(angle_rad_BTJ, mask_BJ)
    return None if mean_rad is None else float(torch.rad2deg(torch.tensor(mean_rad, dtype=torch.float64)))


def _group_mask(groups: list[tuple[Group, slice]], mask_BD: Tensor) -> Tensor:
    return torch.stack([mask_BD[:, channels].all(dim=-1) for _, channels in groups], dim=-1)
