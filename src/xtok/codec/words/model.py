"""Motion words of one robot: grammar, words, segment coders; ids to motion. The encoder is in encode.py.

# B chunks, T frames, M slots, N blocks, K channels
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from xtok.actions.steady import exact
from xtok.actions.types import HORIZON_MAX, HORIZON_MIN, slots
from xtok.codec.words.grammar import BLOCK_SLOTS, LENGTHS, Grammar
from xtok.codec.words.segment import Past, SegmentCoder
from xtok.codec.words.sequences import Sequences
from xtok.codec.words.word import Words

TAILS = range(1, BLOCK_SLOTS + 1)  # slots of a segment or a tail


@dataclass(frozen=True, eq=False)
class WordModel:
    """coders: by length, 1 to 4 slots. Motion is normalised, relative to the anchor, over the robot's K channels."""

    grammar: Grammar
    words: Words
    coders: Mapping[int, SegmentCoder]

    def __post_init__(self) -> None:
        if sorted(self.coders) != list(TAILS):
            raise ValueError(f"segment coders of lengths {sorted(self.coders)}; expected 1, 2, 3 and 4 slots")
        if self.words.size != self.grammar.words:
            raise ValueError(f"a book of {self.words.size} words; the grammar has {self.grammar.words}")
        for length in LENGTHS:
            for books in self.coders[length].books or ((),):
                sizes = [len(book) for book in books]
                expected = [size for (other, _), size in self.grammar.residuals if other == length]
                if sizes != expected:
                    raise ValueError(f"residual books of length {length} have {sizes} codes; the grammar {expected}")

    @property
    def channels(self) -> int:
        """K."""
        return self.coders[1].channels

    @exact
    def decode(self, ids_B: Sequence[Sequence[int] | np.ndarray], horizon: int) -> Float[Tensor, "B T K"]:
        """The motion of sequences of ids, float64.

        Raises:
            ValueError: a sequence that does not follow the grammar (its row and token are named), or a horizon outside
                8 to 64 frames.
        """
        check_horizon(horizon)
        return self.decode_sequences(Sequences.of_ids(self.grammar, ids_B, horizon), horizon)

    @exact
    def decode_sequences(self, sequences: Sequences, horizon: int) -> Float[Tensor, "B T K"]:
        """The same from arrays."""
        B, M = len(sequences), slots(horizon)
        path_BNFK = paths(self.words, sequences.words_BN)
        out_BEK = torch.zeros(B, M * 4, self.channels, dtype=torch.float64)
        frames = Past.none(B, self.channels).frames_NPK
        whole_BEK = torch.cat([frames, out_BEK], dim=1)  # frame t of the chunk at 9 + t
        first = frames.shape[1]
        for slot in range(M):
            block, in_block = divmod(slot, BLOCK_SLOTS)
            at = first + slot * 4
            start = first + block * BLOCK_SLOTS * 4
            for length in TAILS:
                rows = (sequences.length_BM[:, slot] == length).nonzero()[:, 0]
                if len(rows):
                    past = Past(whole_BEK[rows, at - first : at], whole_BEK[rows, start - 1])
                    codes_NQ = sequences.codes_BMQ[rows, slot]
                    done = self.coders[length].decode(past, path_BNFK[rows, block], codes_NQ, slot, in_block)
                    whole_BEK[rows, at : at + length * 4] = done
        return whole_BEK[:, first : first + horizon]


def paths(words: Words, words_BN: Tensor) -> Float[Tensor, "B N 17 K"]:
    """Each block's word as a path that begins at 0, the frame before it."""
    return torch.nn.functional.pad(words.trajectories(words_BN), (0, 0, 1, 0))


def check_horizon(horizon: int) -> None:
    """Raises ValueError where T is outside 8 to 64."""
    if not HORIZON_MIN <= horizon <= HORIZON_MAX:
        raise ValueError(f"horizon is {horizon} frames; expected {HORIZON_MIN} to {HORIZON_MAX}")
