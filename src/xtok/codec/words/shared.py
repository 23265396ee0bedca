"""One book of words for several robots: in physical space for poses, in whitened directions for joints.

# V words, F = 16 frames, K channels of a robot, D channels of the layout's tangent space, C directions, n blocks

A pose means the same on every arm, so its words are metres and radians at the layout's places, and a robot leaves out
the channels that it lacks. A joint does not, so its words are coordinates along each robot's own main directions, each
over its spread: the same id, another motion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from xtok.actions.layout import Layout
from xtok.actions.steady import exact
from xtok.actions.tangent import tangent_kinds
from xtok.codec.gaussian.basis import compand, expand
from xtok.codec.gaussian.prior import COARSE_UNIT
from xtok.codec.words.fit import DEFAULT, SHAKEN, FitSettings, blocks_of_windows, word_space
from xtok.codec.words.kmeans import kmeans
from xtok.codec.words.word import BEND, BLOCK_FRAMES, NearestWords, WordSpace, moved_by_noise


@dataclass(frozen=True, eq=False)
class Member:
    """One robot. valid_D: its K channels among those of the layout's tangent space. scale_K: physical units of one
    normalised unit. windows_NSK: train motion, normalised."""

    valid_D: Bool[Tensor, " D"]
    scale_K: Float[Tensor, " K"]
    windows_NSK: Float[Tensor, "N S K"]

    def __post_init__(self) -> None:
        K = int(self.valid_D.sum())
        if self.scale_K.shape != (K,) or self.windows_NSK.shape[2:] != (K,):
            shapes = f"scale {list(self.scale_K.shape)}, windows {list(self.windows_NSK.shape)}"
            raise ValueError(f"a member has {K} channels but {shapes}; expected [K] and [N, 64, K]")


def shared_book(
    layout: Layout, members: Sequence[Member], size: int, settings: FitSettings = DEFAULT
) -> Float[Tensor, "V F D"] | Float[Tensor, "V C"]:
    """`whitened_book` where a layout's channels are joints, else `physical_book`.

    Raises:
        ValueError: as these.
    """
    if layout.of_kind("joint"):
        return whitened_book(members, size, settings)
    return physical_book(layout, members, size, settings)


@exact
def physical_book(
    layout: Layout, members: Sequence[Member], size: int, settings: FitSettings = DEFAULT
) -> Float[Tensor, "V F D"]:
    """Words in metres, radians and the units of other channels, placed on all members alike. A channel that no member
    has is 0.

    Raises:
        ValueError: no members, or members of another layout.
    """
    if not members:
        raise ValueError("a shared book of words needs one robot or more")
    unit_D = torch.tensor([COARSE_UNIT.get(kind, 1.0) for kind in tangent_kinds(layout)])
    if any(member.valid_D.shape != unit_D.shape for member in members):
        raise ValueError(f"members have other channels than layout {layout.name!r}, which has {len(unit_D)}")
    generator = torch.Generator().manual_seed(settings.seed)
    values, valid, moved = [], [], []
    for member in members:
        space = word_space(member.windows_NSK, member.scale_K, settings)
        blocks_nFK = _blocks(member, space, len(members), settings, generator)
        values.append(_physical(member, unit_D, blocks_nFK))
        valid.append(member.valid_D.repeat(BLOCK_FRAMES).expand(len(blocks_nFK), -1))
        coordinates = partial(_physical, member, unit_D)
        moved.append(moved_by_noise(space, member.windows_NSK[:SHAKEN], coordinates, generator))
    code_VX = _placed(values, valid, moved, size, settings, generator)
    known_D = torch.stack([member.valid_D for member in members]).any(dim=0)
    return expand(code_VX, BEND).unflatten(1, (BLOCK_FRAMES, -1)) * unit_D * known_D


def with_physical_book(
    space: WordSpace, book_VFD: Float[Tensor, "V F D"], valid_D: Bool[Tensor, " D"], scale_K: Float[Tensor, " K"]
) -> NearestWords:
    """A robot's words from a shared physical book; what it lacks is left out."""
    return NearestWords(space, (book_VFD[..., valid_D] / scale_K).float())


@exact
def whitened_book(members: Sequence[Member], size: int, settings: FitSettings = DEFAULT) -> Float[Tensor, "V C"]:
    """Words as coordinates along each robot's own directions, placed on all members alike.

    Raises:
        ValueError: no members.
    """
    if not members:
        raise ValueError("a shared book of words needs one robot or more")
    generator = torch.Generator().manual_seed(settings.seed)
    spaces = [word_space(member.windows_NSK, member.scale_K, settings) for member in members]
    width = max(len(space.spread_C) for space in spaces)
    spread_RC = torch.stack([_wide(space.spread_C, width) for space in spaces])
    weight_C = spread_RC.sum(dim=0) / (spread_RC > 0).sum(dim=0)  # a direction counts for as much as it usually holds
    values, valid, moved = [], [], []
    for member, space, spread_C in zip(members, spaces, spread_RC, strict=True):

        def coordinates(blocks_nFK: Tensor, space: WordSpace = space) -> Tensor:
            return _wide(space.whitened(blocks_nFK).float(), width) * weight_C

        values.append(coordinates(_blocks(member, space, len(members), settings, generator)))
        valid.append((spread_C > 0).expand(len(values[-1]), -1))
        moved.append(moved_by_noise(space, member.windows_NSK[:SHAKEN], coordinates, generator))
    return _placed(values, valid, moved, size, settings, generator) / weight_C


def with_whitened_book(space: WordSpace, book_VC: Float[Tensor, "V C"]) -> NearestWords:
    """A robot's words from a shared whitened book."""
    return NearestWords(space, space.unwhitened(book_VC))


def _blocks(
    member: Member, space: WordSpace, members: int, settings: FitSettings, generator: torch.Generator
) -> Float[Tensor, "n F K"]:
    """A member's share of the motions that a book is placed on."""
    return blocks_of_windows(space, member.windows_NSK, settings.word_sample // members, generator)


def _physical(member: Member, unit_D: Tensor, blocks_nFK: Tensor) -> Float[Tensor, "n X"]:
    """Companded physical motion at the layout's places; 0 where the robot lacks a channel."""
    physical_nFD = torch.zeros(len(blocks_nFK), BLOCK_FRAMES, len(unit_D))
    physical_nFD[..., member.valid_D] = (blocks_nFK * member.scale_K).float()
    return compand(physical_nFD / unit_D, BEND).flatten(1)


def _placed(
    values: list[Tensor],
    valid: list[Tensor],
    moved: list[float],
    size: int,
    settings: FitSettings,
    generator: torch.Generator,
) -> Float[Tensor, "V C"]:
    """moved: how far noise moves each member's motions; words keep a multiple of its rms apart."""
    apart = settings.apart * (sum(each**2 for each in moved) / len(moved)) ** 0.5
    return kmeans(torch.cat(values), size, settings.word_iterations, generator, torch.cat(valid), apart)


def _wide(x_NC: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(x_NC, (0, width - x_NC.shape[-1]))
