"""What is trained of the embedded teacher: from maps of the eyes and words as the language model reads them to tokens
that it can go on from, and to a place in the picture. All else is frozen.

Neck: the eyes' maps into one grid of 16 x 16 cells, and keys for pointing at 64 x 64.
Mixer: latent queries and words look at each other and at the grid (as in InstructBLIP). Without words its tokens are
a description of the picture; with a question they are what the question needs to know.

# N pictures, B rows, K tokens, L words, G 256 cells, E width of grid or mixer, P width of pointing keys, W 576
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from xtok.semantics.embedded.eyes import CHANNELS, Sight
from xtok.semantics.embedded.language import EMBEDDING_RMS, WIDTH

CELLS, POINTS = 16, 64  # a side
COLOURS = 12  # of the four pixels of a cell at 32 x 32


@dataclass(frozen=True)
class ConnectorConfig:
    """tokens: K, given to the language model for a picture. read_layer: of the language model, where words are read."""

    language_width: int = WIDTH
    tokens: int = 4
    grid_width: int = 96
    fine_width: int = 48
    width: int = 128
    layers: int = 3
    heads: int = 4
    point_width: int = 32
    read_layer: int = 12
    dropout: float = 0.05

    def to_dict(self) -> dict[str, int | float]:
        return asdict(self)


@dataclass(frozen=True)
class Looked:
    """tokens: embeddings for the language model. gist: their state before that. query: what to point at."""

    tokens_BKW: Float[Tensor, "B K W"]
    gist_BE: Float[Tensor, "B E"]
    query_BP: Float[Tensor, "B P"]


class Neck(nn.Module):
    def __init__(self, config: ConnectorConfig) -> None:
        super().__init__()
        E, F_, P = config.grid_width, config.fine_width, config.point_width
        self.enter = nn.Conv2d(CHANNELS["middle"] + CHANNELS["coarse"] + COLOURS + 2, E, 1)
        self.blocks = nn.ModuleList(_Residual(E) for _ in range(2))
        self.place = nn.Parameter(0.02 * torch.randn(CELLS * CELLS, E))
        self.up = nn.Conv2d(E, 4 * F_, 1)
        self.fine = nn.Conv2d(F_ + CHANNELS["fine"] + COLOURS, F_, 1)
        self.fine_block = _Residual(F_)
        self.keys = nn.Conv2d(F_, 4 * P, 1)

    def forward(self, sight: Sight) -> Float[Tensor, "B G E"]:
        dtype = self.enter.weight.dtype
        axis = torch.linspace(-1, 1, CELLS, device=sight.colour.device)
        place = torch.stack(torch.meshgrid(axis, axis, indexing="ij")).expand(len(sight), -1, -1, -1)
        coarse = F.interpolate(sight.coarse.to(dtype), scale_factor=2)
        colour = F.avg_pool2d(_colours(sight), 2)
        x = self.enter(torch.cat([sight.middle.to(dtype), coarse, colour, place], 1))
        for block in self.blocks:
            x = block(x)
        return x.flatten(2).transpose(1, 2) + self.place

    def point_keys(self, sight: Sight, grid_BGE: Float[Tensor, "B G E"]) -> Float[Tensor, "B P 64 64"]:
        """Four keys for each cell of 32 x 32, so that nothing is computed at 64 x 64."""
        x = self.up(grid_BGE.transpose(1, 2).unflatten(2, (CELLS, CELLS)))
        x = torch.cat([F.pixel_shuffle(x, 2), sight.fine.to(x.dtype), _colours(sight).to(x.dtype)], 1)
        return F.pixel_shuffle(self.keys(self.fine_block(F.gelu(self.fine(x)))), 2)


class Mixer(nn.Module):
    def __init__(self, config: ConnectorConfig) -> None:
        super().__init__()
        E = config.width
        self.latents = nn.Parameter(0.5 * torch.randn(config.tokens + 1, E))  # the last one points
        self.words = nn.Sequential(nn.LayerNorm(config.language_width), nn.Linear(config.language_width, E))
        self.word = nn.Parameter(0.02 * torch.randn(E))  # marks a word
        sizes = (config.heads, config.dropout)
        self.own = nn.ModuleList(_Attention(E, E, 1, *sizes) for _ in range(config.layers))
        self.look = nn.ModuleList(_Attention(E, config.grid_width, 2, *sizes) for _ in range(config.layers))
        self.norm = nn.LayerNorm(E)
        self.out = nn.Linear(E, config.language_width)
        self.query = nn.Linear(E, config.point_width)

    def forward(
        self,
        grid_NGE: Tensor,
        words_BLW: Tensor | None,
        keep_BL: Bool[Tensor, "B L"] | None,
        picture_B: Int[Tensor, " B"] | None,
    ) -> Looked:
        B = len(grid_NGE) if picture_B is None else len(picture_B)
        x = self.latents.expand(B, -1, -1)
        T = x.shape[1]
        mask = None
        if words_BLW is not None and keep_BL is not None:
            x = torch.cat([x, self.words(words_BLW.to(self.latents.dtype)) + self.word], 1)
            mask = F.pad(keep_BL, (T, 0), value=True)[:, None, None]
        for own, look in zip(self.own, self.look, strict=True):
            x = own(x, x, mask)
            x = look(x, grid_NGE, rows=picture_B)
        x = self.norm(x[:, :T])
        tokens = self.out(x[:, :-1])
        tokens = EMBEDDING_RMS * F.rms_norm(tokens, tokens.shape[-1:])
        return Looked(tokens, x[:, :-1].mean(1), self.query(x[:, -1]))


class Connector(nn.Module):
    """The trained part. float32, small."""

    def __init__(self, config: ConnectorConfig) -> None:
        super().__init__()
        self.config = config
        self.neck = Neck(config)
        self.mixer = Mixer(config)

    def look(
        self,
        grid_NGE: Float[Tensor, "N G E"],
        words_BLW: Float[Tensor, "B L W"] | None = None,
        keep_BL: Bool[Tensor, "B L"] | None = None,
        picture_B: Int[Tensor, " B"] | None = None,
    ) -> Looked:
        """words: states of the language model at `read_layer` (None: no words). picture_B: of which picture each row is
        (None: its own), so that a picture with several questions is prepared once.
        """
        return self.mixer(grid_NGE, words_BLW, keep_BL, picture_B)


def point_logits(keys_BPYX: Float[Tensor, "B P 64 64"], query_BP: Float[Tensor, "B P"]) -> Float[Tensor, "B 64 64"]:
    return torch.einsum("bpyx,bp->byx", keys_BPYX.float(), query_BP.float()) / query_BP.shape[-1] ** 0.5


def pointed(logits_BYX: Float[Tensor, "B 64 64"]) -> Float[Tensor, "B 2"]:
    """x, y in [0, 1]: the centre of the likeliest cell, moved by the weights of its neighbours."""
    B = len(logits_BYX)
    best_B = logits_BYX.flatten(1).argmax(1)
    y_B, x_B = best_B // POINTS, best_B % POINTS
    axis = torch.arange(POINTS, device=logits_BYX.device)
    near_BYX = ((axis - y_B[:, None]).abs() <= 1)[:, :, None] & ((axis - x_B[:, None]).abs() <= 1)[:, None]
    weight = torch.where(near_BYX, logits_BYX, -torch.inf).flatten(1).softmax(1).view(B, POINTS, POINTS)
    centre = (axis + 0.5) / POINTS
    return torch.stack([(weight.sum(1) * centre).sum(1), (weight.sum(2) * centre).sum(1)], 1)


def _colours(sight: Sight) -> Float[Tensor, "B 12 32 32"]:
    return F.pixel_unshuffle(sight.colour.float() / 127.5 - 1, 2)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.near = nn.Conv2d(width, width, 3, padding=1)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.out(F.gelu(self.near(self.norm(x))))


class _Attention(nn.Module):
    """x looks at y, then thinks; pre-norm."""

    def __init__(self, width: int, seen_width: int, wider: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm_x, self.norm_y, self.norm = nn.LayerNorm(width), nn.LayerNorm(seen_width), nn.LayerNorm(width)
        self.q, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.kv = nn.Linear(seen_width, 2 * width)
        self.think = nn.Sequential(nn.Linear(width, wider * width), nn.GELU(), nn.Linear(wider * width, width))

    def forward(self, x: Tensor, y: Tensor, mask: Tensor | None = None, rows: Tensor | None = None) -> Tensor:
        q = self.q(self.norm_x(x)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        kv = self.kv(self.norm_y(y))
        kv = kv if rows is None else kv[rows]
        k, v = (z.unflatten(-1, (self.heads, -1)).transpose(1, 2) for z in kv.chunk(2, -1))
        scores = (
            q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        )  # few queries: plain products beat the fused kernel on CPU
        scores = scores if mask is None else scores.masked_fill(~mask, -torch.inf)
        seen = scores.softmax(-1).to(v.dtype) @ v
        x = x + F.dropout(self.out(seen.transpose(1, 2).flatten(2)), self.dropout, self.training)
        return x + F.dropout(self.think(self.norm(x)), self.dropout, self.training)
