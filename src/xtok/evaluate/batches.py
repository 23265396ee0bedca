"""Whole sets of chunks through a tokenizer, a batch at a time.

# B batch (here: all chunks of a set), T frames, D channels
"""

from __future__ import annotations

import torch
from torch import Tensor

from xtok.actions.delta import to_delta
from xtok.actions.types import Actions, ActionTokenizer, ChunkBatch, Codes, Context

BATCH_SIZE = 256


def encode(tokenizer: ActionTokenizer, chunks: ChunkBatch, batch_size: int = BATCH_SIZE) -> Codes:
    """Codes of every chunk, in order; at most `batch_size` chunks are in flight."""
    parts = [tokenizer.encode(chunks[slice(i, i + batch_size)]) for i in range(0, len(chunks), batch_size)]
    grids = [part.grid_BMQ for part in parts if part.grid_BMQ is not None]
    tokens = tuple(sequence for part in parts for sequence in part.tokens)
    return Codes(tokens, parts[0].vocab_size, torch.cat(grids) if grids else None)


def decode(tokenizer: ActionTokenizer, codes: Codes, context: Context, batch_size: int = BATCH_SIZE) -> Actions:
    """Motion of every code sequence, in order."""
    rows = [slice(i, i + batch_size) for i in range(0, len(codes), batch_size)]
    parts = [tokenizer.decode(codes[row], context[row]) for row in rows]
    absolutes = [part.absolute_BTD for part in parts if part.absolute_BTD is not None]
    return Actions(
        delta_BTD=torch.cat([part.delta_BTD for part in parts]),
        absolute_BTD=torch.cat(absolutes) if absolutes else None,
        failed_B=torch.cat([part.failed_B for part in parts]),
    )


def reconstruct(tokenizer: ActionTokenizer, chunks: ChunkBatch, batch_size: int = BATCH_SIZE) -> Actions:
    """Encode and decode. The decoder sees the codes and the context, never the target."""
    return decode(tokenizer, encode(tokenizer, chunks, batch_size), chunks.context, batch_size)


def target_delta(chunks: ChunkBatch) -> Tensor:
    """The targets relative to their anchors, [B, T, D], physical units.

    Raises:
        ValueError: if the chunks carry no anchor.
    """
    context = chunks.context
    if context.anchor_BD is None:
        raise ValueError(
            "cannot evaluate chunks without an anchor (the state one step before each chunk); pass anchor_BD"
        )
    return to_delta(context.layout, chunks.target_BTD, context.anchor_BD, context.mask_BD)
