"""Whole sets of chunks through a tokenizer, a batch at a time; at all of its rates from one pass where it can.

# B batch (here: all chunks of a set), T frames, D channels
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from xtok.actions.delta import to_delta
from xtok.actions.types import Actions, ActionTokenizer, ChunkBatch, Codes, Context
from xtok.progress import track

BATCH_SIZE = 256


@runtime_checkable
class HasRatePoints(Protocol):
    """A tokenizer that comes at several rates: the codec by its prefixes of levels, FAST by its scales."""

    def rate_points(self) -> list[ActionTokenizer]: ...


@runtime_checkable
class HasSharedEncoding(Protocol):
    """One whose rates share most of the work of encoding. own_rate: which of them codes as the tokenizer itself
    does."""

    @property
    def own_rate(self) -> int: ...

    def encode_rates(self, chunks: ChunkBatch) -> list[Codes]: ...


@runtime_checkable
class HasFirstCodes(Protocol):
    """A tokenizer without a grid, of which every slot has a first code all the same: motion words."""

    def first_codes(self, codes: Codes, horizon: int) -> Int[np.ndarray, "B M 1"]: ...


def rate_points(tokenizer: ActionTokenizer) -> list[ActionTokenizer]:
    """The tokenizer at each of its rates; itself alone where it has one."""
    return list(tokenizer.rate_points()) if isinstance(tokenizer, HasRatePoints) else [tokenizer]


def encode(tokenizer: ActionTokenizer, chunks: ChunkBatch, batch_size: int = BATCH_SIZE) -> Codes:
    """Codes of every chunk, in order; at most `batch_size` chunks are in flight."""
    return _joined([tokenizer.encode(part) for part in track(_parts(chunks, batch_size), "coding", delay_s=0.5)])


def encode_rates(tokenizer: ActionTokenizer, chunks: ChunkBatch, batch_size: int = BATCH_SIZE) -> list[Codes]:
    """`encode` at each of `rate_points`, in their order."""
    if not isinstance(tokenizer, HasSharedEncoding):
        return [encode(point, chunks, batch_size) for point in rate_points(tokenizer)]
    parts = [tokenizer.encode_rates(part) for part in _parts(chunks, batch_size)]
    return [_joined(of_rate) for of_rate in zip(*parts, strict=True)]


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


def _parts(chunks: ChunkBatch, batch_size: int) -> list[ChunkBatch]:
    return [chunks[slice(i, i + batch_size)] for i in range(0, len(chunks), batch_size)]


def _joined(parts: Sequence[Codes]) -> Codes:
    grids = [part.grid_BMQ for part in parts if part.grid_BMQ is not None]
    tokens = tuple(sequence for part in parts for sequence in part.tokens)
    return Codes(tokens, parts[0].vocab_size, torch.cat(grids) if grids else None)
