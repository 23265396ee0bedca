"""The things that travel between rooms: chunks of motion in, codes out, and the one tokenizer protocol.

B batch, T frames, D channels of the layout, M slots = ceil(T / 4), Q levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xtok.actions.entrance import integers_of, whole_of
from xtok.actions.layout import Layout

HORIZON_MIN, HORIZON_MAX = 8, 64  # docs/method.md#actions: T is drawn from [8, 64]
FRAMES_PER_SLOT = 4  # docs/method.md#actions: M = ceil(T / 4)


def slots(horizon: int) -> int:
    """M, the number of code slots of a chunk of `horizon` frames."""
    return -(-horizon // FRAMES_PER_SLOT)


@dataclass(frozen=True)
class Context:
    """All that a decoder may know of a chunk besides its codes: never the target.

    anchor_BD: absolute state one step before the chunk, or None where it is not known (then only deltas come back).
    mask_BD: True where the embodiment has the channel. embodiment: one registry name a chunk ("none" allowed).
    """

    layout: Layout
    anchor_BD: Float[Tensor, "B D"] | None
    mask_BD: Bool[Tensor, "B D"]
    control_hz_B: Float[Tensor, " B"]
    embodiment: tuple[str, ...]
    horizon: int  # T, frames

    def __len__(self) -> int:
        return len(self.embodiment)

    def __getitem__(self, index: slice) -> Context:
        anchor = None if self.anchor_BD is None else self.anchor_BD[index]
        return replace(
            self,
            anchor_BD=anchor,
            mask_BD=self.mask_BD[index],
            control_hz_B=self.control_hz_B[index],
            embodiment=self.embodiment[index],
        )

    def take(self, rows: Int[Tensor, " n"]) -> Context:
        """The chunks at these places, in this order."""
        anchor = None if self.anchor_BD is None else self.anchor_BD[rows]
        return replace(
            self,
            anchor_BD=anchor,
            mask_BD=self.mask_BD[rows],
            control_hz_B=self.control_hz_B[rows],
            embodiment=tuple(self.embodiment[row] for row in rows.tolist()),
        )


@dataclass(frozen=True)
class ChunkBatch:
    """Chunks of one length T. `target_BTD` holds absolute actions in the units of the layout; masked channels are 0."""

    target_BTD: Float[Tensor, "B T D"]
    context: Context

    def __post_init__(self) -> None:
        target: object = self.target_BTD
        plain = isinstance(target, (Tensor, np.ndarray)) and not getattr(target, "is_nested", False)
        shape = tuple(self.target_BTD.shape) if plain else ()
        if len(shape) != 3 or not isinstance(self.context, Context):
            raise ValueError(
                f"target_BTD is a {type(self.target_BTD).__name__} of shape {list(shape)}, context a "
                f"{type(self.context).__name__}; expected a tensor [B, T, D] and a Context"
            )
        B, T, D = shape
        if D != self.context.layout.width:
            raise ValueError(
                f"actions have {D} channels; layout {self.context.layout.name!r} has {self.context.layout.width}"
            )
        if whole_of(self.context.horizon, "horizon (T, frames)") != T or B != len(self.context):
            raise ValueError(f"target is [{B}, {T}], context says [{len(self.context)}, {self.context.horizon}]")

    def __len__(self) -> int:
        return len(self.context)

    def __getitem__(self, index: slice) -> ChunkBatch:
        return ChunkBatch(self.target_BTD[index], self.context[index])

    def take(self, rows: Int[Tensor, " n"]) -> ChunkBatch:
        """The chunks at these places, in this order."""
        return ChunkBatch(self.target_BTD[rows], self.context.take(rows))


@dataclass(frozen=True)
class Codes:
    """Token sequences of a batch of chunks, in the order in which a language model would emit them.

    tokens: one 1-D int64 array a chunk (lengths may differ: FAST). vocab_size: V, so a token costs log2(V) bits.
    grid_BMQ: the same codes by slot and level where the tokenizer has such a grid (time-major), else None.
    """

    tokens: tuple[np.ndarray, ...]
    vocab_size: int
    grid_BMQ: Int[Tensor, "B M Q"] | None = None

    @classmethod
    def from_grid(cls, grid_BMQ: Int[Tensor, "B M Q"], vocab_size: int) -> Codes:
        """Codes in position-major raster order: all Q levels of slot i before slot i + 1 (docs/method.md#actions)."""
        grid_BMQ = integers_of(grid_BMQ, "codes", "[B, M, Q]", 3)
        flat = grid_BMQ.flatten(1).cpu().numpy()
        return cls(tuple(flat), vocab_size, grid_BMQ)

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: slice) -> Codes:
        grid = None if self.grid_BMQ is None else self.grid_BMQ[index]
        return Codes(self.tokens[index], self.vocab_size, grid)

    def take(self, rows: Int[Tensor, " n"]) -> Codes:
        """Those of the chunks at these places, in this order."""
        grid = None if self.grid_BMQ is None else self.grid_BMQ[rows]
        return Codes(tuple(self.tokens[row] for row in rows.tolist()), self.vocab_size, grid)


@dataclass(frozen=True)
class Actions:
    """Decoded motion. delta_BTD: relative to the anchor, physical units (invalid channels 0).

    absolute_BTD: composed with the anchor, or None without one. failed_B: True where the codes could not be decoded
    and the row therefore holds no motion (never silently zero: callers must look; most tokenizers raise instead).
    complete_BT: True where a frame was decoded from whole codes, False where a repair continued the motion; None = all.
    """

    delta_BTD: Float[Tensor, "B T D"]
    absolute_BTD: Float[Tensor, "B T D"] | None
    failed_B: Bool[Tensor, " B"]
    complete_BT: Bool[Tensor, "B T"] | None = None


@runtime_checkable
class ActionTokenizer(Protocol):
    """The one door to every tokenizer: the codec and all baselines meet it, evaluations ask for nothing else."""

    @property
    def name(self) -> str: ...

    @property
    def vocab_size(self) -> int: ...

    def encode(self, chunks: ChunkBatch) -> Codes: ...

    def decode(self, codes: Codes, context: Context) -> Actions: ...


def concatenate(batches: Sequence[ChunkBatch]) -> ChunkBatch:
    """One batch from several of the same layout and length."""
    first = batches[0].context
    anchors = [batch.context.anchor_BD for batch in batches]
    anchor_BD = None if any(a is None for a in anchors) else torch.cat([a for a in anchors if a is not None])
    context = replace(
        first,
        anchor_BD=anchor_BD,
        mask_BD=torch.cat([batch.context.mask_BD for batch in batches]),
        control_hz_B=torch.cat([batch.context.control_hz_B for batch in batches]),
        embodiment=tuple(name for batch in batches for name in batch.context.embodiment),
    )
    return ChunkBatch(torch.cat([batch.target_BTD for batch in batches]), context)
