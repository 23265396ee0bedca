"""The word of a block: 16 frames of motion relative to the frame before them, chosen on the likely motion.

What chooses words and what they stand for is a seam: anything that meets `Words` can stand in the place of
`NearestWords`, and residuals code what it leaves open.

# B batch, T frames, N blocks, n frames of a block that the chunk has, K channels of the robot, V words, C dimensions
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from xtok.actions.types import FRAMES_PER_SLOT
from xtok.codec.gaussian.basis import compand, fixed_sign
from xtok.codec.words.grammar import BLOCK_SLOTS
from xtok.codec.words.nearest import Book
from xtok.codec.words.smoother import Smoother

BLOCK_FRAMES = BLOCK_SLOTS * FRAMES_PER_SLOT
BEND = 0.3  # of a robot's usual motion: up to there distances are about linear, beyond logarithmic


class Words(Protocol):
    """Motion to words, words to motion, of one robot."""

    @property
    def size(self) -> int:
        """V."""
        ...

    def encode(self, motion_BTK: Float[Tensor, "B T K"]) -> Int[Tensor, "B N"]:
        """The word of each block. motion_BTK: normalised, relative to the anchor."""
        ...

    def trajectories(self, words_BN: Int[Tensor, "B N"]) -> Float[Tensor, "B N 16 K"]:
        """The motion that words stand for, relative to the frame before their block, normalised, float64."""
        ...


@dataclass(frozen=True, eq=False)
class Projection:
    """Where distances between motions of n frames are taken: companded principal directions.

    direction_XC: of n K values, frame-major. usual: rms of such a motion, summed over its values.
    """

    direction_XC: Float[Tensor, "x C"]
    usual: float

    def __call__(self, x_NX: Float[Tensor, "N x"]) -> Float[Tensor, "N C"]:
        return compand(x_NX @ self.direction_XC.to(x_NX) / self.usual, BEND)


def fit_projection(x_NX: Float[Tensor, "N x"], dim: int) -> Projection:
    """The main directions of a sample of motions, at most `dim`."""
    second_XX = x_NX.double().T @ x_NX.double() / len(x_NX)
    variance, vectors = torch.linalg.eigh(second_XX)
    direction_XC = fixed_sign(vectors.flip(-1)[:, :dim])
    usual = float(variance.flip(-1)[:dim].sum().clamp_min(1e-12).sqrt())
    return Projection(direction_XC.float(), usual)


@dataclass(frozen=True, eq=False)
class NearestWords:
    """The entry of a book that is nearest to the likely motion, whatever else was coded.

    book_VFK: 16 frames each, normalised units of this robot. projections: by the frames that a block has (the last one
    of a chunk may have fewer than 16).
    """

    smoother: Smoother
    projections: Mapping[int, Projection]
    book_VFK: Float[Tensor, "V F K"]
    _search: dict[int, Book] = field(default_factory=dict, repr=False)

    @property
    def size(self) -> int:
        return len(self.book_VFK)

    def encode(self, motion_BTK: Float[Tensor, "B T K"]) -> Int[Tensor, "B N"]:
        return torch.stack([self._nearest(part) for part in block_motions(self.smoother.smooth(motion_BTK))], dim=1)

    def trajectories(self, words_BN: Int[Tensor, "B N"]) -> Float[Tensor, "B N F K"]:
        return self.book_VFK[words_BN].double()

    def _nearest(self, part_BnK: Float[Tensor, "B n K"]) -> Int[Tensor, " B"]:
        n = part_BnK.shape[1]
        if n not in self._search:
            self._search[n] = Book(self.projections[n](self.book_VFK[:, :n].double().flatten(1)))
        return self._search[n].least(self.projections[n](part_BnK.flatten(1)), 1)[:, 0]


def block_motions(likely_BEK: Float[Tensor, "B E K"]) -> list[Float[Tensor, "B n K"]]:
    """Each block's frames relative to the frame before it (the anchor, 0, before the first)."""
    framed = torch.nn.functional.pad(likely_BEK, (0, 0, 1, 0))
    E = likely_BEK.shape[1]
    return [
        framed[:, 1 + start : 1 + min(start + BLOCK_FRAMES, E)] - framed[:, start : start + 1]
        for start in range(0, E, BLOCK_FRAMES)
    ]
