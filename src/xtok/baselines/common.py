"""What the baselines share: chunks in normalised units, in one of two forms, and back to motion.

# B chunks, T frames, D channels of the layout, X channels of a form (D, or K tangent channels), C valid channels

The normalisation is the codec's. A rotation has two forms: the six numbers of its "columns", or the three of its
rotation vector ("tangent", which our own codec codes too). A layout without rotations has one form only. Whatever the
form, decoded rotations are made proper ones before anything is measured on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from xtok.actions.delta import from_delta, tangent_mask, to_delta
from xtok.actions.layout import Layout
from xtok.actions.rotation import MIN_COLUMN, MIN_SINE, matrix_from_rotation6d, rotation6d_from_matrix
from xtok.actions.statistics import Statistics, denormalise_batch, normalise_batch
from xtok.actions.tangent import denormalise_tangent, normalise_tangent
from xtok.actions.types import Actions, ChunkBatch, Context
from xtok.actions.validate import check_actions

Form = Literal["columns", "tangent"]


def forms_of(layout: Layout) -> tuple[Form, ...]:
    """The forms in which a layout's motion can be coded: both where it has rotations, else one."""
    return get_args(Form) if layout.of_kind("rotation6d") else ("tangent",)


def normalised_chunks(statistics: Mapping[str, Statistics], chunks: ChunkBatch, form: Form = "columns") -> np.ndarray:
    """Deltas of the chunks in normalised units, [B, T, X] float64 (so that rounding does not depend on the batch).

    Raises:
        ValueError: no anchor, NaN, inf or a degenerate rotation, or statistics that do not fit.
    """
    context = chunks.context
    if context.anchor_BD is None:
        raise ValueError(
            "cannot encode chunks without an anchor (the state one step before each chunk); pass anchor_BD"
        )
    check_actions(context.layout, context.anchor_BD, context.mask_BD)
    check_actions(context.layout, chunks.target_BTD, context.mask_BD[:, None])
    delta_BTD = to_delta(context.layout, chunks.target_BTD.double(), context.anchor_BD.double(), context.mask_BD)
    if form == "tangent":
        return normalise_tangent(statistics, context, delta_BTD).cpu().numpy()
    return normalise_batch(statistics, context, delta_BTD).double().cpu().numpy()


def to_actions(
    statistics: Mapping[str, Statistics],
    context: Context,
    normalised_BTX: np.ndarray,
    failed_B: np.ndarray,
    form: Form = "columns",
) -> Actions:
    """Motion of decoded values, rotations proper; rows that failed hold zeros everywhere and say so."""
    device = context.mask_BD.device
    failed = torch.from_numpy(failed_B).to(device)
    normalised = torch.from_numpy(normalised_BTX).to(device)
    if form == "tangent":
        delta_BTD = denormalise_tangent(statistics, context, normalised)
    else:
        delta_BTD = proper_rotations(context, denormalise_batch(statistics, context, normalised))
    delta_BTD = delta_BTD.masked_fill(failed[:, None, None], 0.0)
    absolute_BTD = None
    if context.anchor_BD is not None:
        absolute_BTD = from_delta(context.layout, delta_BTD, context.anchor_BD, context.mask_BD)
        absolute_BTD = absolute_BTD.masked_fill(failed[:, None, None], 0.0)
    return Actions(delta_BTD, absolute_BTD, failed)


def proper_rotations(context: Context, delta_BTD: Tensor) -> Tensor:
    """Every valid 6D rotation orthonormalised; columns that span no plane become no rotation. Other channels as
    given."""
    out_BTD = delta_BTD.clone()
    for _, channels in context.layout.of_kind("rotation6d"):
        rows = context.mask_BD[:, channels].all(dim=-1)
        columns = delta_BTD[rows][..., channels].double()
        first, second = columns[..., :3], columns[..., 3:]
        sine = torch.linalg.cross(first, second).norm(dim=-1)
        length = first.norm(dim=-1) * second.norm(dim=-1)
        spans = (first.norm(dim=-1) > MIN_COLUMN) & (second.norm(dim=-1) > MIN_COLUMN) & (sine > MIN_SINE * length)
        still = columns.new_tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
        proper = rotation6d_from_matrix(matrix_from_rotation6d(torch.where(spans[..., None], columns, still)))
        out_BTD[rows, :, channels] = proper.to(out_BTD.dtype)
    return out_BTD


def valid_values(values_BTX: np.ndarray, context: Context, form: Form = "columns") -> list[np.ndarray]:
    """Values of the valid channels of each chunk, flat: all channels of the first frame (or frequency) first."""
    mask_BX = _mask(context, form)
    return [values_TX[:, mask_X].reshape(-1) for values_TX, mask_X in zip(values_BTX, mask_BX, strict=True)]


def place_values(
    flat: Sequence[np.ndarray | None], context: Context, form: Form = "columns"
) -> tuple[np.ndarray, np.ndarray]:
    """Inverse of `valid_values`: ([B, T, X] with 0 where nothing is placed, and [B] True where a row does not fit).

    A row does not fit where it is None or is not T times C long.

    Raises:
        ValueError: another number of rows than of chunks.
    """
    mask_BX = _mask(context, form)
    B, X = mask_BX.shape
    if len(flat) != B:
        raise ValueError(f"{len(flat)} token sequences for {B} chunks; expected one each")
    values_BTX, failed_B = np.zeros((B, context.horizon, X)), np.zeros(B, dtype=bool)
    for row, (values, mask_X) in enumerate(zip(flat, mask_BX, strict=True)):
        if values is None or values.size != context.horizon * mask_X.sum():
            failed_B[row] = True
        else:
            values_BTX[row][:, mask_X] = values.reshape(context.horizon, -1)
    return values_BTX, failed_B


def _mask(context: Context, form: Form) -> np.ndarray:
    """Valid channels of each chunk in a form, [B, X]."""
    mask_BD = context.mask_BD.cpu()
    return (tangent_mask(context.layout, mask_BD) if form == "tangent" else mask_BD).numpy()
