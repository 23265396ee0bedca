"""A codec that is used and no longer changed: exact encoding, decoding that is never silent, a seal on the weights.

# B chunks, T frames, M = ceil(T / 4) slots, Q levels, D channels of the layout
"""

from __future__ import annotations

from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from xtok.actions.delta import from_delta
from xtok.actions.entrance import whole_of
from xtok.actions.layout import Layout
from xtok.actions.statistics import Statistics
from xtok.actions.steady import exact
from xtok.actions.types import FRAMES_PER_SLOT, Actions, ChunkBatch, Codes, Context, slots
from xtok.actions.validate import check_actions
from xtok.codec.base import Codec, Networks
from xtok.codec.batch import BatchContext
from xtok.codec.checked import check_anchor, check_context, chunks_of, context_of
from xtok.codec.precision import Seal
from xtok.codec.sequence import Checked, OnInvalid, check_sequences


class ExactCoder:
    """All that decides a code runs in float64, so a chunk has the same codes alone or in a batch, padded or not.

    codec: may be moved or wrapped by a host, not written to.
    """

    def __init__(self, codec: Codec) -> None:
        self.codec = codec.eval()
        self._seal = Seal()
        self._seal.look(codec)

    @property
    def layout(self) -> Layout:
        return self.codec.layout

    @property
    def statistics(self) -> dict[str, Statistics]:
        return self.codec.statistics

    @property
    def levels(self) -> int:
        return self.codec.config.levels

    @property
    def vocab_size(self) -> int:
        return self.codec.config.codebook_size

    @property
    def device(self) -> torch.device:
        """Of the codec.

        Raises:
            ValueError: something wrote to its weights since they were first used.
        """
        if self._seal.look(self.codec):
            self.__dict__.pop("networks", None)
        return self.codec.device

    @cached_property
    def networks(self) -> Networks:
        """In float64: float32 would round differently by batch and thread."""
        return self.codec.exact_networks()

    def batch_context(self, context: Context) -> BatchContext:
        """`Codec.batch_context` of a context that was looked at: a bad one would give wrong codes in silence.

        Raises:
            ValueError: rate, length, mask or anchor are no such thing, or the robot is unknown.
        """
        check_context(context)
        batch = self.codec.batch_context(context)
        if context.anchor_BD is not None:
            try:
                check_actions(self.layout, context.anchor_BD, context.mask_BD)
            except ValueError as error:
                raise ValueError(f"anchor (the state one step before): {error}") from error
        return batch

    @exact
    def encode(self, chunks: ChunkBatch) -> Int[Tensor, "B M Q"]:
        """Codes of absolute chunks.

        Raises:
            ValueError: as `Tokenizer.encode`.
        """
        chunks = chunks_of(chunks, self.device)
        context = chunks.context
        check_anchor(context)
        batch = self.batch_context(context)
        check_actions(self.layout, chunks.target_BTD, context.mask_BD[:, None])
        return self.codec.encode(self.codec.motion(chunks, batch), batch, self.networks)

    @exact
    def encode_delta(self, delta_BTD: Float[Tensor, "B T D"], context: Context) -> Int[Tensor, "B M Q"]:
        """Codes of physical deltas; the context needs no anchor.

        Raises:
            ValueError: as `Tokenizer.encode`.
        """
        batch = self.batch_context(context)
        check_actions(self.layout, delta_BTD, context.mask_BD[:, None])
        safe_BTD = torch.where(context.mask_BD[:, None], delta_BTD, 0.0).double()
        return self.codec.encode(self.codec.motion_of_delta(safe_BTD, batch), batch, self.networks)

    @exact
    def decode(
        self, codes: Codes, context: Context, levels: int | None = None, on_invalid: OnInvalid = "raise"
    ) -> Actions:
        """Motion from the first `levels` levels.

        Raises:
            ValueError: as `Tokenizer.decode`.
        """
        context = context_of(context, self.device)
        batch = self.batch_context(context)
        written = self.levels if codes.grid_BMQ is None else codes.grid_BMQ.shape[-1]
        levels = self._check_levels(levels, written)
        if len(codes) != len(context):
            raise ValueError(f"there are {len(codes)} code sequences and {len(context)} chunks in the context")
        checked = check_sequences(codes.tokens, slots(context.horizon), written, self.vocab_size, on_invalid)
        return self._actions(checked, context, batch, levels)

    def _actions(self, checked: Checked, context: Context, batch: BatchContext, levels: int) -> Actions:
        grid, present_BM = (part.to(self.codec.device) for part in (checked.codes_BMQ, checked.present_BM))
        known = None if present_BM.all() else present_BM
        motion = self.codec.decode(grid[..., :levels], batch, known, self.networks).double()
        delta_BTD = torch.where(context.mask_BD[:, None], self.codec.delta(motion, batch), 0.0)
        absolute_BTD = None
        if context.anchor_BD is not None:
            absolute_BTD = from_delta(self.layout, delta_BTD, context.anchor_BD.double(), context.mask_BD).float()
        complete_BT = present_BM.repeat_interleave(FRAMES_PER_SLOT, dim=1)[:, : context.horizon]
        return Actions(delta_BTD.float(), absolute_BTD, torch.zeros(len(context), dtype=torch.bool), complete_BT)

    def _check_levels(self, levels: int | None, written: int) -> int:
        if not 1 <= written <= self.levels:
            raise ValueError(f"codes have {written} levels; this tokenizer has {self.levels}")
        if levels is None:
            return written
        levels = whole_of(levels, "levels")
        if levels not in range(1, written + 1):
            raise ValueError(f"levels is {levels}; these codes have levels 1 to {written}")
        return levels
