"""A tokenizer at fewer levels: a coarser point of its rate-distortion curve."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from xtok.actions.types import Actions, ChunkBatch, Codes, Context

if TYPE_CHECKING:
    from xtok.codec.tokenizer import Tokenizer


@dataclass(frozen=True)
class Prefix:
    """A tokenizer that keeps the first `levels` levels only; fewer bits, coarser motion."""

    tokenizer: Tokenizer
    levels: int

    @property
    def name(self) -> str:
        return f"{self.tokenizer.name}[:{self.levels}]"

    @property
    def vocab_size(self) -> int:
        return self.tokenizer.vocab_size

    def encode(self, chunks: ChunkBatch) -> Codes:
        grid = self.tokenizer.encode(chunks).grid_BMQ
        assert grid is not None
        return Codes.from_grid(grid[..., : self.levels], self.vocab_size)

    def decode(self, codes: Codes, context: Context) -> Actions:
        grid = codes.grid_BMQ
        if grid is None:
            grid = torch.stack([torch.as_tensor(t) for t in codes.tokens]).unflatten(1, (-1, self.levels))
        return self.tokenizer.decode(replace(codes, grid_BMQ=grid), context)
