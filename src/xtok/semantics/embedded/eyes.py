"""A small convolutional network that sees what lies where: features on a grid of 32 x 32 cells, and where things are.

It has seen nothing but what it is trained on. Words do not reach it, so a picture is looked at once, whatever is asked.

# B pictures, S side as seen (128 pixels), G 32 cells a side, C channels of a cell, K things, h w pixels as given
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

SIDE, CELLS = 128, 32
THING_EVERY = 3  # cells: the likeliest centre within so many stands for a thing


@dataclass(frozen=True)
class EyesConfig:
    """widths: channels at strides 2, 4, 8 and 16. cells: C. things: K, the likeliest centres that become tokens."""

    widths: tuple[int, int, int, int] = (24, 48, 96, 128)
    blocks: tuple[int, int, int] = (2, 3, 2)  # at strides 4, 8 and 16
    cells: int = 64
    things: int = 12


@dataclass(frozen=True)
class Sight:
    """What the eyes give of pictures. cells: features. centre: logit that a thing's middle lies in a cell. offset: from
    the cell's middle to the thing's, in cells, x to the right and y down. Cached, it can be bfloat16.
    """

    cells: Float[Tensor, "B C G G"]
    centre: Float[Tensor, "B G G"]
    offset: Float[Tensor, "B 2 G G"]

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, rows: Any) -> Sight:
        return Sight(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @staticmethod
    def cat(parts: Sequence[Sight]) -> Sight:
        return Sight(**{f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Sight)})

    def to(self, *args: Any) -> Sight:
        """Device or dtype, as of a tensor."""
        return Sight(**{field.name: getattr(self, field.name).to(*args) for field in fields(self)})


@dataclass(frozen=True)
class Things:
    """The likeliest centres, likeliest first. place: x, y, -1 to 1 over the picture. score: logit. cell: its number."""

    features: Float[Tensor, "B K C"]
    place: Float[Tensor, "B K 2"]
    score: Float[Tensor, "B K"]
    cell: Tensor  # int [B, K]


class Eyes(nn.Module):
    place: Tensor

    def __init__(self, config: EyesConfig) -> None:
        super().__init__()
        two, four, eight, sixteen = config.widths
        self.config = config
        self.enter = nn.Conv2d(3 + 2, two, 5, stride=2, padding=2)
        self.to_four = nn.Conv2d(two, four, 2, stride=2)
        self.at_four = nn.Sequential(*(Residual(four) for _ in range(config.blocks[0])))
        self.to_eight = nn.Conv2d(four, eight, 2, stride=2)
        self.at_eight = nn.Sequential(*(Residual(eight) for _ in range(config.blocks[1])))
        self.to_sixteen = nn.Conv2d(eight, sixteen, 2, stride=2)
        self.at_sixteen = nn.Sequential(*(Residual(sixteen) for _ in range(config.blocks[2])))
        self.up_eight = nn.Conv2d(sixteen, eight, 1)
        self.join_eight = Residual(eight)
        self.up_four = nn.Conv2d(eight, config.cells, 1)
        self.from_four = nn.Conv2d(four, config.cells, 1)
        self.join_four = Residual(config.cells)
        self.out = nn.GroupNorm(1, config.cells)
        self.centre = nn.Conv2d(config.cells, 3, 1)
        assert self.centre.bias is not None
        nn.init.constant_(self.centre.bias[:1], -4.0)  # few cells hold a middle
        axis = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
        self.register_buffer("place", torch.stack(torch.meshgrid(axis, axis, indexing="xy")), persistent=False)

    def forward(self, pixels: UInt8[Tensor, "B 3 S S"]) -> Sight:
        x = pixels.float() / 127.5 - 1
        x = torch.cat([x, self.place.expand(len(x), -1, -1, -1)], 1).contiguous(memory_format=torch.channels_last)
        four = self.at_four(self.to_four(F.relu(self.enter(x))))
        eight = self.at_eight(self.to_eight(four))
        sixteen = self.at_sixteen(self.to_sixteen(eight))
        eight = self.join_eight(eight + F.interpolate(self.up_eight(sixteen), scale_factor=2))
        cells = self.join_four(self.from_four(four) + F.interpolate(self.up_four(eight), scale_factor=2))
        cells = self.out(cells)
        found = self.centre(cells).float()
        return Sight(cells, found[:, 0], found[:, 1:])


class Residual(nn.Module):
    """Adds nothing at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.near = nn.Conv2d(width, width, 3, padding=1)
        self.out = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        assert self.out.bias is not None
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.out(F.relu(self.near(self.norm(x))))


def things(sight: Sight, count: int) -> Things:
    """Cells whose centre is the likeliest of their neighbourhood; no gradient reaches which they are."""
    centre = sight.centre.float()
    best = F.max_pool2d(centre[:, None], THING_EVERY, stride=1, padding=THING_EVERY // 2)[:, 0]
    peaks = torch.where(centre == best, centre, centre - 20.0).flatten(1)
    score, cell = peaks.topk(count, dim=1)
    features = sight.cells.flatten(2).gather(2, cell[:, None].expand(-1, sight.cells.shape[1], -1)).transpose(1, 2)
    offset = sight.offset.flatten(2).gather(2, cell[:, None].expand(-1, 2, -1)).transpose(1, 2).float()
    middle = torch.stack([cell % CELLS, cell // CELLS], -1) + 0.5
    return Things(features, (middle + offset) / CELLS * 2 - 1, score, cell)


def square(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[Tensor, "3 S S"]:
    """A picture of any size, stretched."""
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    if pixels.shape[-2:] == (SIDE, SIDE):
        return pixels
    pixels = F.interpolate(pixels[None].float(), (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
    return pixels[0].round().clamp(0, 255).to(torch.uint8)
