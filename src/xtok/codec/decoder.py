"""Decoder: slot latents in, one motion a frame out. docs/method.md#encoder-quantizer-decoder.

# B batch, T frames, M slots, K tangent channels, H hidden
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xtok.actions.types import FRAMES_PER_SLOT, HORIZON_MAX
from xtok.codec.encoder import Conditions, ConditionTokens, by_frame, slot_times
from xtok.codec.layers import Block


class Decoder(nn.Module):
    """Learned position queries look at the slots and the conditions, then at each other.

    A level token tells how many levels were decoded, so that a prefix is a first-class input. Output [B, T, K] in
    normalised tangent units. linear_path: a slot also reaches its frames by a matrix, `local`.
    """

    def __init__(
        self,
        slot_dim: int,
        channels: int,
        state_dim: int,
        levels: int,
        hidden: int,
        heads: int,
        layers: int,
        dropout: float,
        linear_path: bool = False,
    ) -> None:
        super().__init__()
        self.local = nn.Linear(slot_dim, FRAMES_PER_SLOT * channels, bias=False) if linear_path else None
        self.slot = nn.Linear(slot_dim, hidden)
        self.level = nn.Embedding(levels, hidden)
        self.conditions = ConditionTokens(state_dim, channels, hidden)
        self.queries = nn.Parameter(0.02 * torch.randn(HORIZON_MAX, hidden))
        self.read = Block(hidden, heads, dropout, cross=True)
        self.blocks = nn.ModuleList(Block(hidden, heads, dropout) for _ in range(layers))
        self.out_norm = nn.LayerNorm(hidden)
        self.out = nn.Linear(hidden, channels)
        if linear_path:
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def forward(
        self, z_BMX: Float[Tensor, "B M X"], conditions: Conditions, horizon: int, levels: int
    ) -> Float[Tensor, "B T K"]:
        B, M, _ = z_BMX.shape
        slot_tokens = self.slot(z_BMX) + self.level.weight[levels - 1]
        context = torch.cat([self.conditions(conditions), slot_tokens], dim=1)
        time_T = torch.arange(horizon, device=z_BMX.device, dtype=z_BMX.dtype)
        time_S = torch.cat([time_T.new_full((2,), -1.0), slot_times(M, z_BMX)])
        y = self.read(self.queries[:horizon].expand(B, -1, -1), time_T, context, time_S)
        for block in self.blocks:
            y = block(y, time_T)
        found = self.out(self.out_norm(y))
        return found if self.local is None else found + by_frame(self.local(z_BMX), horizon)
