"""Chunks and their context as people build them by hand, made exact and looked at before they are coded.

# B chunks, T frames, D channels of the layout
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from xtok.actions.entrance import floats_of, mask_of, whole_of
from xtok.actions.layout import Layout
from xtok.actions.types import HORIZON_MAX, HORIZON_MIN, ChunkBatch, Context


def chunks_of(chunks: Any, device: torch.device) -> ChunkBatch:
    """The same chunks with exact tensors on one device.

    Raises:
        ValueError: no ChunkBatch, or a field of another type, dtype or shape than its legend says.
    """
    if not isinstance(chunks, ChunkBatch):
        raise ValueError(f"chunks is a {type(chunks).__name__}; expected a ChunkBatch, as xtok.data.iter_chunks makes")
    context = context_of(chunks.context, device)
    target_BTD = floats_of(chunks.target_BTD, "actions", f"[B, T, {context.layout.width}]", 3).to(device)
    return ChunkBatch(target_BTD, context)


def context_of(context: Any, device: torch.device) -> Context:
    """The same context with exact tensors on one device.

    Raises:
        ValueError: no Context, or a field of another type, dtype or shape than its legend says.
    """
    if not isinstance(context, Context):
        raise ValueError(f"the context is a {type(context).__name__}; expected a Context: chunks.context")
    if not isinstance(context.layout, Layout):
        raise ValueError(f"layout is {context.layout!r}; expected a Layout: xtok.get_layout('arms26')")
    names = context.embodiment
    if not isinstance(names, (tuple, list)) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"embodiment is {names!r}; expected one robot's name a chunk, as ('panda',) * B")
    B, D = len(names), context.layout.width
    anchor_BD = context.anchor_BD
    if anchor_BD is not None:
        anchor_BD = floats_of(anchor_BD, "anchor (the state one step before)", f"[{B}, {D}]").to(device)
    mask_BD = mask_of(context.mask_BD, "mask_BD", f"[{B}, {D}]").to(device)
    rate_B = floats_of(context.control_hz_B, "control_hz_B", f"[{B}], a rate in Hz for each chunk").to(device)
    for name, found, shape in (
        ("anchor (the state one step before)", anchor_BD, (B, D)),
        ("mask_BD", mask_BD, (B, D)),
        ("control_hz_B", rate_B, (B,)),
    ):
        if found is not None and found.shape != shape:
            raise ValueError(f"{name} has shape {tuple(found.shape)}; expected {list(shape)} for {B} chunks")
    horizon = whole_of(context.horizon, "horizon (T, frames)")
    return replace(
        context, anchor_BD=anchor_BD, mask_BD=mask_BD, control_hz_B=rate_B, embodiment=tuple(names), horizon=horizon
    )


def check_anchor(context: Context) -> None:
    if context.anchor_BD is None:
        raise ValueError("chunks of absolute actions need an anchor (the state one step before); encode deltas instead")


def check_context(context: Context) -> None:
    """Raises ValueError on a length, rate or mask for which there are no codes."""
    if context.horizon not in range(HORIZON_MIN, HORIZON_MAX + 1):
        raise ValueError(
            f"chunks have {context.horizon} frames; expected {HORIZON_MIN} to {HORIZON_MAX}. "
            "Cut longer motion into several chunks"
        )
    if len(context) == 0:
        raise ValueError("there are no chunks in the batch; expected one or more")
    if bad := [rate for rate in context.control_hz_B.tolist() if not 0 < rate < float("inf")]:
        raise ValueError(f"control_hz is {bad[0]}; expected a rate above zero, in Hz")
    if empty := (~context.mask_BD.any(dim=1)).nonzero().flatten().tolist():
        raise ValueError(f"chunk {empty[0]} has no valid channel; expected a mask with one or more")
