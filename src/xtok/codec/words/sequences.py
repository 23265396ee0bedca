"""Sequences of a batch of chunks as arrays, for the encoder and the decoder; ids are made of them and read into them.

# B chunks, M slots, N blocks, Q = 8 codes of a segment
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from xtok.actions.types import slots
from xtok.codec.words.grammar import BLOCK_SLOTS, DEPTH, LENGTHS, LEVELS, Block, Grammar, Segment, blocks_of, is_whole


@dataclass(frozen=True)
class Sequences:
    """words_BN. length_BM: slots of the segment that begins at a slot, tails included; 0 where none begins.
    codes_BMQ: its residual codes, -1 where there is none."""

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
        B, M, Q = self.codes_BMQ.shape
        first_LQ = np.zeros((BLOCK_SLOTS + 1, Q), dtype=np.int64)
        for length in LENGTHS:
            first_LQ[length] = [grammar.range_of(length, min(depth, LEVELS))[0] for depth in range(1, Q + 1)]
        codes_BMQ = self.codes_BMQ.numpy()
        ids_BMX = np.full((B, M, 1 + Q), -1, dtype=np.int64)
        ids_BMX[:, ::BLOCK_SLOTS, 0] = self.words_BN.numpy()
        ids_BMX[:, :, 1:] = np.where(codes_BMQ >= 0, first_LQ[self.length_BM.numpy()] + codes_BMQ, -1)
        return [ids_MX[ids_MX >= 0] for ids_MX in ids_BMX]

    @staticmethod
    def of_blocks(blocks_B: Sequence[Sequence[Block]], horizon: int) -> Sequences:
        """Inverse of `blocks`; every chunk has `horizon` frames."""
        M = slots(horizon)
        words_BN = torch.zeros(len(blocks_B), blocks_of(M), dtype=torch.long)
        length_BM = torch.zeros(len(blocks_B), M, dtype=torch.long)
        codes_BMQ = torch.full((len(blocks_B), M, DEPTH), -1)
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
    def of_ids(grammar: Grammar, ids_B: Sequence[Sequence[int] | np.ndarray], horizon: int) -> Sequences:
        """Sequences of ids; the automaton of the grammar, run over all rows at once.

        Raises:
            ValueError: one that does not parse; the message names its row.
        """
        reader = _Reader(grammar, len(ids_B), horizon)
        plain_B = [_whole(ids) for ids in ids_B]
        tokens_B = np.array([len(ids) for ids in plain_B], dtype=np.int64)
        ids_BX = np.zeros((len(plain_B), tokens_B.max(initial=0)), dtype=np.int64)
        ids_BX[np.arange(ids_BX.shape[1]) < tokens_B[:, None]] = np.concatenate([*plain_B, np.zeros(0, dtype=np.int64)])
        for place, read_B in enumerate(ids_BX.T):
            rows = np.flatnonzero(tokens_B > place)
            reader.read(rows, read_B[rows])
        if reader.wrong_B.any() or not reader.complete_B.all():
            row = int(np.flatnonzero(reader.wrong_B | ~reader.complete_B)[0])
            try:
                grammar.parse(list(ids_B[row]), horizon)
            except ValueError as error:
                raise ValueError(f"row {row}: {error}") from error
            raise AssertionError(f"row {row} parses, yet was refused")
        return reader.sequences()


class _Reader:
    """`State` and what was read, of every row."""

    def __init__(self, grammar: Grammar, rows: int, horizon: int) -> None:
        self.M = slots(horizon)
        self.length_V = np.zeros(grammar.total, dtype=np.int64)
        self.level_V, self.code_V = np.zeros_like(self.length_V), np.zeros_like(self.length_V)
        for key in ((0, 0), *grammar.size_of):
            low, high = grammar.range_of(*key)
            (self.length_V[low:high], self.level_V[low:high]), self.code_V[low:high] = key, np.arange(high - low)
        self.block_B = np.full(rows, -1)
        self.filled_B, self.now_B, self.depth_B = (np.zeros(rows, dtype=np.int64) for _ in range(3))
        self.wrong_B = np.zeros(rows, dtype=bool)
        self.words_BN = np.zeros((rows, blocks_of(self.M)), dtype=np.int64)
        self.length_BM = np.zeros((rows, self.M), dtype=np.int64)
        self.codes_BMQ = np.full((rows, self.M, DEPTH), -1)

    @property
    def complete_B(self) -> np.ndarray:
        return self.block_B == self.words_BN.shape[1] - 1

    def read(self, rows: np.ndarray, ids: np.ndarray) -> None:
        """One more token of some rows."""
        unknown = (ids < 0) | (ids >= len(self.code_V))
        ids = np.where(unknown, 0, ids)
        length, level, code = self.length_V[ids], self.level_V[ids], self.code_V[ids]
        block, filled = self.block_B[rows], self.filled_B[rows]
        room = np.minimum(BLOCK_SLOTS, self.M - block * BLOCK_SLOTS) - filled
        depth = self.depth_B[rows] + 1
        goes_on = (depth > 1) & (depth <= DEPTH)
        deeper = (length == self.now_B[rows]) & (level == np.minimum(depth, LEVELS)) & goes_on
        fits = np.where(level == 1, length <= room, deeper) & (block >= 0)
        good = np.where(level == 0, ~self.complete_B[rows], fits) & ~unknown
        self.wrong_B[rows] |= ~good
        rows, length, level, code, depth = (each[good] for each in (rows, length, level, code, depth))
        word, first = level == 0, level == 1
        self.block_B[rows[word]] += 1
        self.words_BN[rows[word], self.block_B[rows[word]]] = code[word]
        self.filled_B[rows[word]] = 0
        self.filled_B[rows[first]] += length[first]
        self.now_B[rows] = length
        self.depth_B[rows] = np.where(level > 1, depth, level)
        rows, length, code = (each[~word] for each in (rows, length, code))
        at = self.block_B[rows] * BLOCK_SLOTS + self.filled_B[rows] - length
        self.length_BM[rows, at] = length
        self.codes_BMQ[rows, at, self.depth_B[rows] - 1] = code

    def sequences(self) -> Sequences:
        """What was read, with the tails behind it."""
        covered_BM = np.zeros((len(self.block_B), self.M + BLOCK_SLOTS), dtype=np.int64)
        for length in (1, 2, 4):
            rows, at = np.nonzero(self.length_BM == length)
            for slot in range(length):
                covered_BM[rows, at + slot] = 1
        for start in range(0, self.M, BLOCK_SLOTS):
            room = min(BLOCK_SLOTS, self.M - start)
            filled = covered_BM[:, start : start + room].sum(axis=1)
            rows = np.flatnonzero(filled < room)
            self.length_BM[rows, start + filled[rows]] = room - filled[rows]
        return Sequences(*map(torch.from_numpy, (self.words_BN, self.length_BM, self.codes_BMQ)))


def _whole(ids: Sequence[int] | np.ndarray) -> np.ndarray:
    """As integers; -1, which is no id, in place of what is no whole number."""
    if isinstance(ids, np.ndarray) and ids.ndim == 1 and ids.dtype.kind == "i":
        return ids.astype(np.int64)
    return np.array([int(token) if is_whole(token) and 0 <= token < 2**31 else -1 for token in ids], dtype=np.int64)


def _segments(length_m: Sequence[int], codes_mQ: Sequence[Sequence[int]]) -> tuple[Segment, ...]:
    found = []
    for length, codes in zip(length_m, codes_mQ, strict=True):
        written = tuple(code for code in codes if code >= 0)
        if length and written:
            found.append(Segment(length, written))
    return tuple(found)
