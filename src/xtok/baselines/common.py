"""What the baselines share: chunks in normalised units, in one of several forms, and back to motion.

# B chunks, T frames, D channels of the layout, X channels of a form (D, or K tangent channels), C valid channels

The normalisation is the codec's. A form says two things. A rotation is the six numbers of its "columns", or the three
of its rotation vector ("tangent", which our own codec codes too). And a value is 0 in the middle of its range, or,
"-rest", where the robot stays where it is, so that still channels code as zeros. Whatever the form, decoded rotations
are made proper ones before anything is measured on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from xtok.actions.delta import from_delta, tangent_mask, to_delta
from xtok.actions.layout import Layout
from xtok.actions.rotation import MIN_COLUMN, MIN_SINE, matrix_from_rotation6d, rotation6d_from_matrix
from xtok.actions.statistics import Statistics, denormalise_batch, normalise_batch
from xtok.actions.tangent import denormalise_tangent, normalise_tangent
from xtok.actions.types import Actions, ChunkBatch, Context
from xtok.actions.validate import check_actions

_NO_ROTATION = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # as columns

Form = Literal["columns", "tangent", "columns-rest", "tangent-rest"]


def forms_of(layout: Layout) -> tuple[Form, ...]:
    """The forms in which a layout's motion can be coded: without rotations, columns and tangent are the same."""
    return get_args(Form) if layout.of_kind("rotation6d") else ("tangent", "tangent-rest")


def is_tangent(form: Form) -> bool:
    return form in ("tangent", "tangent-rest")


def is_at_rest(form: Form) -> bool:
    return form in ("columns-rest", "tangent-rest")


def rest_of(layout: Layout, statistics: Statistics, form: Form) -> Float[np.ndarray, " X"]:
    """What a form calls 0, in centred normalised units, so in [-1, 1]: 0 for centred forms, else no motion.

    Where a range does not hold no motion (a gripper, which is no delta and perhaps never quite shut), its nearest end.
    """
    rest_D = np.zeros(layout.width)
    for _, channels in layout.of_kind("rotation6d"):
        rest_D[channels] = _NO_ROTATION
    zero_D = np.clip(rest_D, statistics.low_D, statistics.high_D) - (statistics.low_D + statistics.high_D) / 2
    zero_D = zero_D / statistics.half_D if is_at_rest(form) else np.zeros(layout.width)
    if not is_tangent(form):
        return zero_D
    parts = [  # a rotation vector is centred on no rotation in either form
        np.zeros(3) if group.kind == "rotation6d" else zero_D[layout.slices[group.name]] for group in layout.groups
    ]
    return np.concatenate(parts)


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
    normalise = normalise_tangent if is_tangent(form) else normalise_batch
    normalised_BTX = normalise(statistics, context, delta_BTD).double().cpu().numpy()
    return normalised_BTX - _rest_B1X(statistics, context, form)


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
    normalised = torch.from_numpy(normalised_BTX + _rest_B1X(statistics, context, form)).to(device)
    if is_tangent(form):
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
        still = columns.new_tensor(_NO_ROTATION)
        proper = rotation6d_from_matrix(matrix_from_rotation6d(torch.where(spans[..., None], columns, still)))
        out_BTD[rows, :, channels] = proper.to(out_BTD.dtype)
    return out_BTD


def of_moving(statistics: Mapping[str, Statistics], context: Context) -> Context:
    """The same context with the channels alone that ever move: a constant needs no code, it decodes to its value. A
    robot that never moves keeps all.

    Raises:
        ValueError: a robot without statistics.
    """
    _check_known(statistics, context)
    moving_B = [torch.from_numpy(statistics[name].moving_D.copy()) for name in context.embodiment]
    moving_BD = torch.stack(moving_B).to(context.mask_BD.device) if moving_B else context.mask_BD
    mask_BD = context.mask_BD & moving_BD
    return replace(context, mask_BD=torch.where(mask_BD.any(dim=1, keepdim=True), mask_BD, context.mask_BD))


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
    return (tangent_mask(context.layout, mask_BD) if is_tangent(form) else mask_BD).numpy()


def _rest_B1X(statistics: Mapping[str, Statistics], context: Context, form: Form) -> Float[np.ndarray, "B 1 X"]:
    """`rest_of` each chunk's robot; 0 in masked channels."""
    mask_BX = _mask(context, form)
    _check_known(statistics, context)
    of_robot = {name: rest_of(context.layout, statistics[name], form) for name in set(context.embodiment)}
    rest_BX = np.array([of_robot[name] for name in context.embodiment]).reshape(mask_BX.shape)
    return np.where(mask_BX, rest_BX, 0.0)[:, None]


def _check_known(statistics: Mapping[str, Statistics], context: Context) -> None:
    if missing := set(context.embodiment) - statistics.keys():
        raise ValueError(
            f"no statistics for embodiment {', '.join(map(repr, sorted(missing)))}; there are {sorted(statistics)}; "
            "fit them: `xtok stats`"
        )
