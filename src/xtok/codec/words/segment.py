"""A segment of 1 to 4 slots: predicted from the decoded past and the word, what is left coded level by level.

# N rows (chunks, or paths of an encoder), L slots, K channels, X = 4 L K values of a segment (frame-major), F features,
# H histories (0, 1, 2 or more slots decoded before), G books (of a chunk's first segment, of all others), A activity
# bins, C dimensions of a code, V codes

Everything is relative to the last decoded frame, so one predictor serves every place in a chunk and every chunk length.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from xtok.actions.types import FRAMES_PER_SLOT
from xtok.codec.words.nearest import Book

PAST = 8  # decoded frames that a prediction looks at, besides the last
HISTORIES = 3
BINS = 8
_JITTER = 1e-8


@dataclass(frozen=True)
class Past:
    """What a decoder knows before a segment. frames_NPK: the last 9 decoded frames, oldest first (the anchor, 0, where
    there are fewer). base_NK: the last frame before the block. float64."""

    frames_NPK: Float[Tensor, "N 9 K"]
    base_NK: Float[Tensor, "N K"]

    @staticmethod
    def none(rows: int, channels: int) -> Past:
        """Before a chunk."""
        frames_NPK = torch.zeros(rows, PAST + 1, channels, dtype=torch.float64)
        return Past(frames_NPK, frames_NPK[:, 0])

    @property
    def last_N1K(self) -> Float[Tensor, "N 1 K"]:
        return self.frames_NPK[:, -1:]

    def take(self, rows: Int[Tensor, " n"]) -> Past:
        return Past(self.frames_NPK[rows], self.base_NK[rows])

    def at_block(self) -> Past:
        """The same, where a block begins."""
        return Past(self.frames_NPK, self.frames_NPK[:, -1])

    def then(self, segment_NFK: Float[Tensor, "N f K"]) -> Past:
        """Behind a decoded segment."""
        return Past(torch.cat([self.frames_NPK, segment_NFK], dim=1)[:, -(PAST + 1) :], self.base_NK)


def features(past: Past, path_NFK: Float[Tensor, "N 17 K"], slot: int, length: int) -> Float[Tensor, "N F"]:
    """What predicts a segment of `length` slots from the block's slot `slot` on.

    path_NFK: the word's 16 frames, and 0 before them. The past relative to the last frame; that frame; how far it is
    from where the word says; the word over the segment; 1.
    """
    start = slot * FRAMES_PER_SLOT
    end = start + length * FRAMES_PER_SLOT
    last = past.last_N1K
    here_N1K = path_NFK[:, start : start + 1]
    parts = [
        past.frames_NPK[:, :-1] - last,
        last,
        last - past.base_NK[:, None] - here_N1K,
        path_NFK[:, start + 1 : end + 1] - here_N1K,
    ]
    flat = torch.cat(parts, dim=1).flatten(1)
    return torch.cat([flat, flat.new_ones(len(flat), 1)], dim=1)


def history_of(slot: int) -> int:
    """Which predictor serves the chunk's slot `slot`."""
    return min(slot, HISTORIES - 1)


def group_of(slot: int) -> int:
    """Which books serve a segment that begins at the chunk's slot `slot`."""
    return min(slot, 1)


@dataclass(frozen=True, eq=False)
class Level:
    """A residual book. spread_V: how large what each code leaves open usually is; the next level's codes are in units
    of it, so that a small residual is refined at its own size."""

    codes_VC: Float[Tensor, "V C"]
    spread_V: Float[Tensor, " V"]
    _search: list[Book] = field(default_factory=list, repr=False)

    def __len__(self) -> int:
        return len(self.codes_VC)

    @property
    def book(self) -> Book:
        """To search it, float64."""
        if not self._search:
            self._search.append(Book(self.codes_VC))
        return self._search[0]

    def spread_of(self, code_N: Int[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        return self.spread_V[code_N].double()


@dataclass(frozen=True, eq=False)
class SegmentCoder:
    """One length. books: by group and level; length 3 has none, since only tails are so long."""

    length: int
    weight_HFX: Float[Tensor, "H F x"]
    edge_HA: Float[Tensor, "H a"]
    size_HA: Float[Tensor, "H A"]
    direction_GXC: Float[Tensor, "G x C"]
    books: tuple[tuple[Level, ...], ...]
    _double: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @property
    def channels(self) -> int:
        return self.weight_HFX.shape[2] // (self.length * FRAMES_PER_SLOT)

    @property
    def levels(self) -> int:
        return len(self.books[0]) if self.books else 0

    def predict(self, features_NF: Float[Tensor, "N F"], slot: int) -> tuple[Tensor, Float[Tensor, "N 1"]]:
        """The segment to expect [N, X], and how large what is left will be."""
        history = history_of(slot)
        predicted_NX = features_NF @ self._of("weight_HFX")[history]
        edge_A, size_A = self._of("edge_HA")[history], self._of("size_HA")[history]
        active_N = activity(predicted_NX, features_NF, self.channels)
        return predicted_NX, size_A[torch.bucketize(active_N, edge_A)][:, None]

    def analyse(self, left_NX: Float[Tensor, "N x"], slot: int) -> Float[Tensor, "N C"]:
        """What is left (over its size) in coordinates of the books."""
        return left_NX @ self._of("direction_GXC")[group_of(slot)]

    def synthesise(self, code_NC: Float[Tensor, "*N C"], slot: int) -> Float[Tensor, "*N x"]:
        """Inverse of `analyse` on its directions."""
        return code_NC @ self._of("direction_GXC")[group_of(slot)].T

    def level(self, slot: int, level: int) -> Level:
        """The book of a level, from 0."""
        return self.books[group_of(slot)][level]

    def look_up(self, codes_NQ: Int[Tensor, "N Q"], slot: int) -> Float[Tensor, "N C"]:
        """Sum of the codes of all levels; -1 stands for none."""
        total = torch.zeros(len(codes_NQ), self.direction_GXC.shape[2], dtype=torch.float64)
        unit_N = torch.ones(len(codes_NQ), dtype=torch.float64)
        for number, code_N in enumerate(codes_NQ.unbind(dim=1)):
            rows = (code_N >= 0).nonzero()[:, 0]
            if not len(rows):
                continue
            level, code_n, unit_n = self.level(slot, min(number, self.levels - 1)), code_N[rows], unit_N[rows]
            total[rows] += level.book.codes_VC[code_n] * unit_n[:, None]
            unit_N[rows] = unit_n * level.spread_of(code_n)
        return total

    def decode(
        self, past: Past, path_NFK: Float[Tensor, "N 17 K"], codes_NQ: Int[Tensor, "N Q"], slot: int, in_block: int
    ) -> Float[Tensor, "N f K"]:
        """The frames of a segment at the chunk's slot `slot`, the block's slot `in_block`. codes_NQ: -1 where a level
        was not written."""
        features_NF = features(past, path_NFK, in_block, self.length)
        value_NX, size_N1 = self.predict(features_NF, slot)
        if self.books:
            value_NX = value_NX + self.synthesise(self.look_up(codes_NQ, slot), slot) * size_N1
        return past.last_N1K + value_NX.unflatten(1, (-1, self.channels))

    def _of(self, name: str) -> Tensor:
        if name not in self._double:
            self._double[name] = getattr(self, name).double()
        return self._double[name]


def activity(predicted_NX: Tensor, features_NF: Tensor, channels: int) -> Float[Tensor, " N"]:
    """Log of how much the robot moves: as predicted, and over the decoded past."""
    past_NP = features_NF[:, : PAST * channels]
    return (predicted_NX.square().mean(dim=1) + past_NP.square().mean(dim=1) + _JITTER).sqrt().log()
