"""Absolute actions to deltas from an anchor and back, and deltas to the tangent space and back. docs/method.md#actions.

The anchor is the state one step before the chunk. Positions: p - p_anchor, in the base frame. Rotations:
R_anchor^T R, so the delta is seen in the frame of the anchor's own hand. Joints: subtracted. Gripper, velocity,
lift, head: as they are. The paper leaves the frame and the side open; both conventions are ours.

# B batch, T frames, D channels of the layout, K channels of the tangent space (3 a rotation instead of 6)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from xtok.actions.layout import Delta, Layout
from xtok.actions.rotation import (
    matrix_from_rotation6d,
    matrix_from_rotvec,
    rotation6d_from_matrix,
    rotvec_from_matrix,
)


def to_delta(
    layout: Layout,
    absolute_BTD: Float[Tensor, "B T D"],
    anchor_BD: Float[Tensor, "B D"],
    mask_BD: Bool[Tensor, "B D"],
) -> Float[Tensor, "B T D"]:
    """Actions relative to their anchor, in the units of the layout; masked channels are 0.

    Raises:
        ValueError: shapes that do not fit the layout or each other.
    """
    return _by_group(layout, absolute_BTD, anchor_BD, mask_BD, _TAKE)


def from_delta(
    layout: Layout,
    delta_BTD: Float[Tensor, "B T D"],
    anchor_BD: Float[Tensor, "B D"],
    mask_BD: Bool[Tensor, "B D"],
) -> Float[Tensor, "B T D"]:
    """Inverse of `to_delta`; rotations come back orthonormal, masked channels 0.

    Raises:
        ValueError: shapes that do not fit the layout or each other.
    """
    return _by_group(layout, delta_BTD, anchor_BD, mask_BD, _UNDO)


def to_tangent(layout: Layout, delta_BTD: Float[Tensor, "*B D"]) -> Float[Tensor, "*B K"]:
    """Each 6D rotation as its rotation vector (3, rad), other channels as they are. A masked rotation (zeros) gives 0.

    Raises:
        ValueError: a width that is not the layout's.
    """
    _check_width(delta_BTD, layout.width, "delta", layout)
    parts = delta_BTD.split([group.size for group in layout.groups], dim=-1)
    return torch.cat(
        [
            rotvec_from_matrix(matrix_from_rotation6d(part)) if group.kind == "rotation6d" else part
            for group, part in zip(layout.groups, parts, strict=True)
        ],
        dim=-1,
    )


def from_tangent(layout: Layout, tangent_BTK: Float[Tensor, "*B K"]) -> Float[Tensor, "*B D"]:
    """Inverse of `to_tangent`. It knows no mask: the zeros of a masked rotation come back as the identity.

    Raises:
        ValueError: a width that is not `tangent_width(layout)`.
    """
    _check_width(tangent_BTK, tangent_width(layout), "tangent", layout)
    parts = tangent_BTK.split(_tangent_sizes(layout), dim=-1)
    return torch.cat(
        [
            rotation6d_from_matrix(matrix_from_rotvec(part)) if group.kind == "rotation6d" else part
            for group, part in zip(layout.groups, parts, strict=True)
        ],
        dim=-1,
    )


def tangent_width(layout: Layout) -> int:
    """K, the channels of the tangent space."""
    return sum(_tangent_sizes(layout))


def tangent_mask(layout: Layout, mask_BD: Bool[Tensor, "*B D"]) -> Bool[Tensor, "*B K"]:
    """Which tangent channels are valid.

    Raises:
        ValueError: a wrong width, or a rotation of which only some channels are valid.
    """
    _check_width(mask_BD, layout.width, "mask", layout)
    parts = []
    for group, size in zip(layout.groups, _tangent_sizes(layout), strict=True):
        part = mask_BD[..., layout.slices[group.name]]
        if group.kind == "rotation6d" and not torch.equal(part.all(dim=-1), part.any(dim=-1)):
            raise ValueError(
                f"mask of {group.name!r} is True for some of its six channels; a rotation is whole or absent"
            )
        parts.append(part[..., :size])
    return torch.cat(parts, dim=-1)


def tangent_channel_names(layout: Layout) -> tuple[str, ...]:
    """Names of the K channels; a rotation's are `<group>.rx`, `.ry`, `.rz`."""
    names: list[str] = []
    for group in layout.groups:
        if group.kind == "rotation6d":
            names += [f"{group.name}.r{axis}" for axis in "xyz"]
        else:
            names += layout.channel_names[layout.slices[group.name]]
    return tuple(names)


def _take_rotation(absolute: Tensor, anchor: Tensor) -> Tensor:
    relative = matrix_from_rotation6d(anchor).transpose(-1, -2) @ matrix_from_rotation6d(absolute)
    return rotation6d_from_matrix(relative)


def _undo_rotation(delta: Tensor, anchor: Tensor) -> Tensor:
    return rotation6d_from_matrix(matrix_from_rotation6d(anchor) @ matrix_from_rotation6d(delta))


def _keep(value: Tensor, anchor: Tensor) -> Tensor:
    return value


_Step = Callable[[Tensor, Tensor], Tensor]
_TAKE: dict[Delta, _Step] = {"subtract": torch.sub, "compose": _take_rotation, "none": _keep}
_UNDO: dict[Delta, _Step] = {"subtract": torch.add, "compose": _undo_rotation, "none": _keep}


def _by_group(
    layout: Layout, value_BTD: Tensor, anchor_BD: Tensor, mask_BD: Tensor, steps: dict[Delta, _Step]
) -> Tensor:
    _check_width(value_BTD, layout.width, "actions", layout)
    B = len(value_BTD)
    for name, tensor in (("anchor", anchor_BD), ("mask", mask_BD)):
        if tensor.shape != (B, layout.width):
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected [{B}, {layout.width}], one row a chunk")
    parts = [
        steps[group.delta](value_BTD[..., channels], anchor_BD[:, None, channels])
        for group in layout.groups
        for channels in (layout.slices[group.name],)
    ]
    return torch.where(mask_BD[:, None], torch.cat(parts, dim=-1), 0.0)  # where, not a product: masked may be NaN


def _check_width(tensor: Tensor, width: int, what: str, layout: Layout) -> None:
    if tensor.shape[-1] != width:
        raise ValueError(f"{what} has {tensor.shape[-1]} channels; layout {layout.name!r} expects {width}")


def _tangent_sizes(layout: Layout) -> list[int]:
    return [3 if group.kind == "rotation6d" else group.size for group in layout.groups]
