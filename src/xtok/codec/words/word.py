"""The word of a block: 16 frames of motion relative to the frame before them, chosen on the likely motion.

What chooses words and what they stand for is a seam: anything that meets `Words` can stand in the place of
`NearestWords`, and residuals code what it leaves open.

# B batch, T frames, N blocks, n frames of a block that the chunk has, K channels of the robot, V words, C dimensions
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from xtok.actions.types import FRAMES_PER_SLOT
from xtok.codec.gaussian.basis import compand, expand, fixed_sign
from xtok.codec.words.grammar import BLOCK_SLOTS
from xtok.codec.words.nearest import Book
from xtok.codec.words.smoother import Smoother, fit_smoother

BLOCK_FRAMES = BLOCK_SLOTS * FRAMES_PER_SLOT
SPREAD_MIN = 1e-5
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
class WordSpace:
    """How one robot's motion is compared with words. projections: by the frames that a block has (the last one of a
    chunk may have fewer than 16). spread_C: rms of whole blocks along each companded direction."""

    smoother: Smoother
    projections: Mapping[int, Projection]
    spread_C: Float[Tensor, " C"]

    @property
    def whole(self) -> Projection:
        """Of 16 frames."""
        return self.projections[BLOCK_FRAMES]

    def motions(self, motion_BTK: Float[Tensor, "B T K"]) -> list[Float[Tensor, "B n K"]]:
        """The likely motion of each block, relative to the frame before it."""
        return block_motions(self.smoother.smooth(motion_BTK))

    def whitened(self, block_NFK: Float[Tensor, "N F K"]) -> Float[Tensor, "N C"]:
        """Whole blocks along the companded directions, each over its spread."""
        return self.whole(block_NFK.flatten(1)) / self.spread_C.to(block_NFK)

    def unwhitened(self, code_VC: Float[Tensor, "V C"]) -> Float[Tensor, "V F K"]:
        """Inverse of `whitened` (its projection on the directions)."""
        code_VC = code_VC.double()[:, : len(self.spread_C)] * self.spread_C.double()
        flat = expand(code_VC, BEND) * self.whole.usual @ self.whole.direction_XC.double().T
        return flat.unflatten(1, (BLOCK_FRAMES, -1)).float()


def moved_by_noise(
    space: WordSpace,
    windows_NSK: Float[Tensor, "N S K"],
    coordinates: Callable[[Float[Tensor, "n F K"]], Float[Tensor, "n C"]],
    generator: torch.Generator,
) -> float:
    """How far the sensors' noise moves the likely motion of a block, rms, in some coordinates."""
    noise = torch.randn(windows_NSK.shape, generator=generator) * space.smoother.noise_K
    clean, noisy = (coordinates(torch.cat(space.motions(x))) for x in (windows_NSK, windows_NSK + noise))
    return float((clean - noisy).square().sum(dim=1).mean().sqrt())


def fit_word_space(
    windows_NSK: Float[Tensor, "N S K"], scale_K: Float[Tensor, " K"], rank: int, dim: int, noise: float
) -> WordSpace:
    """From windows of whole blocks in normalised units. scale_K: physical units of one normalised unit.

    Raises:
        ValueError: as `fit_smoother`.
    """
    smoother = fit_smoother(windows_NSK, scale_K, rank, noise)
    blocks_NFK = torch.cat(block_motions(smoother.smooth(windows_NSK)))
    frames = range(FRAMES_PER_SLOT, BLOCK_FRAMES + 1, FRAMES_PER_SLOT)
    projections = {n: fit_projection(blocks_NFK[:, :n].flatten(1), dim) for n in frames}
    along_NC = projections[BLOCK_FRAMES](blocks_NFK.flatten(1))
    spread_C = along_NC.square().mean(dim=0).sqrt().clamp_min(SPREAD_MIN)
    return WordSpace(smoother, projections, spread_C.float())


@dataclass(frozen=True, eq=False)
class NearestWords:
    """The entry of a book that is nearest to the likely motion, whatever else was coded.

    book_VFK: 16 frames each, normalised units of this robot.
    """

    space: WordSpace
    book_VFK: Float[Tensor, "V F K"]
    _search: dict[int, Book] = field(default_factory=dict, repr=False)

    @property
    def size(self) -> int:
        return len(self.book_VFK)

    def encode(self, motion_BTK: Float[Tensor, "B T K"]) -> Int[Tensor, "B N"]:
        return torch.stack([self.nearest(part) for part in self.space.motions(motion_BTK)], dim=1)

    def trajectories(self, words_BN: Int[Tensor, "B N"]) -> Float[Tensor, "B N F K"]:
        return self.book_VFK[words_BN].double()

    def nearest(self, part_BnK: Float[Tensor, "B n K"]) -> Int[Tensor, " B"]:
        """The word of a block's likely motion: n = 4, 8, 12 or 16 frames relative to the frame before it, float64."""
        n = part_BnK.shape[1]
        projection = self.space.projections[n]
        if n not in self._search:
            self._search[n] = Book(projection(self.book_VFK[:, :n].double().flatten(1)))
        return self._search[n].least(projection(part_BnK.flatten(1)), 1)[:, 0]


def block_motions(likely_BEK: Float[Tensor, "B E K"]) -> list[Float[Tensor, "B n K"]]:
    """Each block's frames relative to the frame before it (the anchor, 0, before the first)."""
    framed = torch.nn.functional.pad(likely_BEK, (0, 0, 1, 0))
    E = likely_BEK.shape[1]
    return [
        framed[:, 1 + start : 1 + min(start + BLOCK_FRAMES, E)] - framed[:, start : start + 1]
        for start in range(0, E, BLOCK_FRAMES)
    ]
