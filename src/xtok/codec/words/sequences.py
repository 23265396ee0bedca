"""Sequences of a batch of chunks as arrays, for the encoder and the decoder; ids are made of them and read into them.

# B chunks, M slots, N blocks, Q = 4 levels
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from xtok.actions.types import slots
from xtok.codec.words.grammar import BLOCK_SLOTS, LEVELS, Block, Grammar, Segment, blocks_of


@dataclass(frozen=True)
class Sequences:
    """words_BN. length_BM: slots of the segment that begins at a slot, tails included; 0 where none begins.
    codes_BMQ: its residual codes by level, -1 where there is none."""

    words_BN: Int[Tensor, "B N"]
    length_BM: Int[Tensor, "B M"]
    codes_BMQ: Int[Tensor, "B M Q"]

    def __len__(self) -> int:
        return len(self.words_BN)

    @property
    def tokens_B(self) -> Int[Tensor, " B"]:
        """Tokens of each chunk."""
        return self.words_BN.shape[1] + (self.codes_BMQ >= 0).sum(dim=(1, 2))

    def take(self, rows: Int[Tensor, " n"]) -> Sequences:
        return Sequences(self.words_BN[rows], self.length_BM[rows], self.codes_BMQ[rows])

    def blocks(self) -> list[tuple[Block, ...]]:
        """As `Grammar.parse` gives them."""
        return [
            tuple(
                Block(word, _segments(length_M[at : at + BLOCK_SLOTS], codes_MQ[at : at + BLOCK_SLOTS]))
                for word, at in zip(words_N, range(0, len(length_M), BLOCK_SLOTS), strict=True)
            )
            for words_N, length_M, codes_MQ in zip(
                self.words_BN.tolist(), self.length_BM.tolist(), self.codes_BMQ.tolist(), strict=True
            )
        ]

    def ids(self, grammar: Grammar) -> list[np.ndarray]:
        """One int64 array a chunk."""
        return [np.array(grammar.write(blocks), dtype=np.int64) for blocks in self.blocks()]

    @staticmethod
    def of_blocks(blocks_B: Sequence[Sequence[Block]], horizon: int) -> Sequences:
        """Inverse of `blocks`; every chunk has `horizon` frames."""
        M = slots(horizon)
        words_BN = torch.zeros(len(blocks_B), blocks_of(M), dtype=torch.long)
        length_BM = torch.zeros(len(blocks_B), M, dtype=torch.long)
        codes_BMQ = torch.full((len(blocks_B), M, LEVELS), -1)
        for b, blocks in enumerate(blocks_B):
            for n, block in enumerate(blocks):
                words_BN[b, n] = block.word
                at, end = n * BLOCK_SLOTS, min(M, (n + 1) * BLOCK_SLOTS)
                for segment in block.segments:
                    length_BM[b, at] = segment.length
                    codes_BMQ[b, at, : len(segment.codes)] = torch.tensor(segment.codes)
                    at += segment.length
                if at < end:
                    length_BM[b, at] = end - at
        return Sequences(words_BN, length_BM, codes_BMQ)

    @staticmethod
    def of_ids(grammar: Grammar, ids_B: Sequence[Sequence[int]], horizon: int) -> Sequences:
        """Sequences of ids.

        Raises:
            ValueError: one that does not parse; the message names its row.
        """
        parsed = []
        for row, ids in enumerate(ids_B):
            try:
                parsed.append(grammar.parse(ids, horizon))
            except ValueError as error:
                raise ValueError(f"row {row}: {error}") from error
        return Sequences.of_blocks(parsed, horizon)


def _segments(length_m: Sequence[int], codes_mQ: Sequence[Sequence[int]]) -> tuple[Segment, ...]:
    found = []
    for length, codes in zip(length_m, codes_mQ, strict=True):
        written = tuple(code for code in codes if code >= 0)
        if length and written:
            found.append(Segment(length, written))
    return tuple(found)
