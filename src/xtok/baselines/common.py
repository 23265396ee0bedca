"""What the baselines share: chunks in normalised units, and back to motion. The same normalisation as the codec's.

# B chunks, T frames, D channels of the layout, C valid channels
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from xtok.actions.delta import from_delta, to_delta
from xtok.actions.statistics import Statistics, denormalise_batch, normalise_batch
from xtok.actions.types import Actions, ChunkBatch, Context
from xtok.actions.validate import check_actions


def normalised_chunks(statistics: Mapping[str, Statistics], chunks: ChunkBatch) -> np.ndarray:
    """Deltas of the chunks in normalised units, [B, T, D] float64 (so that rounding does not depend on the batch).

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
    delta_BTD = to_delta(context.layout, chunks.target_BTD, context.anchor_BD, context.mask_BD)
    return normalise_batch(statistics, context, delta_BTD).double().cpu().numpy()


def to_actions(
    statistics: Mapping[str, Statistics], context: Context, normalised_BTD: np.ndarray, failed_B: np.ndarray
) -> Actions:
    """Motion of decoded values; rows that failed hold zeros everywhere and say so."""
    device = context.mask_BD.device
    failed = torch.from_numpy(failed_B).to(device)
    normalised = torch.from_numpy(normalised_BTD).to(device)
    delta_BTD = denormalise_batch(statistics, context, normalised).masked_fill(failed[:, None, None], 0.0)
    absolute_BTD = None
    if context.anchor_BD is not None:
        absolute_BTD = from_delta(context.layout, delta_BTD, context.anchor_BD, context.mask_BD)
        absolute_BTD = absolute_BTD.masked_fill(failed[:, None, None], 0.0)
    return Actions(delta_BTD, absolute_BTD, failed)


def valid_values(values_BTD: np.ndarray, context: Context) -> list[np.ndarray]:
    """Values of the valid channels of each chunk, flat: all channels of the first frame (or frequency) first."""
    mask_BD = context.mask_BD.cpu().numpy()
    return [values_TD[:, mask_D].reshape(-1) for values_TD, mask_D in zip(values_BTD, mask_BD, strict=True)]


def place_values(flat: Sequence[np.ndarray | None], context: Context) -> tuple[np.ndarray, np.ndarray]:
    """Inverse of `valid_values`: ([B, T, D] with 0 where nothing is placed, and [B] True where a row does not fit).

    A row does not fit where it is None or is not T times C long.

    Raises:
        ValueError: another number of rows than of chunks.
    """
    mask_BD = context.mask_BD.cpu().numpy()
    B, D = mask_BD.shape
    if len(flat) != B:
        raise ValueError(f"{len(flat)} token sequences for {B} chunks; expected one each")
    values_BTD, failed_B = np.zeros((B, context.horizon, D)), np.zeros(B, dtype=bool)
    for row, (values, mask_D) in enumerate(zip(flat, mask_BD, strict=True)):
        if values is None or values.size != context.horizon * mask_D.sum():
            failed_B[row] = True
        else:
            values_BTD[row][:, mask_D] = values.reshape(context.horizon, -1)
    return values_BTD, failed_B
