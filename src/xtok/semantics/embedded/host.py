"""The transformer that thinks: a prefix seen from both sides, what goes on from it, and all keys and values kept.

# B rows, P places of the prefix, S of what goes on from it, H width, h heads, d width of a head
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from xtok.semantics.backbone import KeysValues, Prefix


class Block(nn.Module):
    """Pre-norm attention and perceptron."""

    def __init__(self, width: int, heads: int, wider: int, depth: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, wider * width), nn.Linear(wider * width, width)
        for layer in (self.out, self.down):
            nn.init.normal_(layer.weight, std=0.02 / depth**0.5)

    def forward(
        self, x_BSH: Float[Tensor, "B S H"], mask: Bool[Tensor, "B 1 #S P"], before: KeysValues | None = None
    ) -> tuple[Float[Tensor, "B S H"], KeysValues]:
        """mask: which of `before` and of itself each place sees. Also its own keys and values, after those before."""
        parts = self.qkv(self.norm_1(x_BSH)).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        if before is not None:
            k, v = torch.cat([before[0].to(k.dtype), k], 2), torch.cat([before[1].to(v.dtype), v], 2)
        # plain products: in training the fused kernel is three times slower on a CPU for so few places
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        seen = scores.masked_fill(~mask, -torch.inf).softmax(-1).to(v.dtype) @ v
        x = x_BSH + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.down(F.relu(self.up(self.norm_2(x))).square()), (k, v)


class Host(nn.Module):
    def __init__(self, width: int, layers: int, heads: int, wider: int = 4) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.blocks = nn.ModuleList(Block(width, heads, wider, layers) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def prefix(self, x_BPH: Float[Tensor, "B P H"], keep_BP: Bool[Tensor, "B P"]) -> Prefix:
        """Every place sees every place that is kept."""
        states, kept = [x_BPH], []
        for block in self.blocks:
            x, keys_values = block(states[-1], keep_BP[:, None, None])
            states.append(x)
            kept.append(keys_values)
        return Prefix((*states[:-1], self.norm(states[-1])), tuple(kept), keep_BP)

    def extend(
        self, prefix: Prefix, x_BSH: Float[Tensor, "B S H"], keep_BS: Bool[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B S H"], Prefix]:
        """Last states of what goes on, which sees the prefix and what comes before itself; and the prefix with it."""
        S = x_BSH.shape[1]
        causal = torch.ones(S, S, dtype=torch.bool, device=x_BSH.device).tril()
        mask = torch.cat([prefix.keep_BP[:, None].expand(-1, S, -1), causal & keep_BS[:, None]], 2)
        mask = mask | F.pad(torch.eye(S, dtype=torch.bool, device=mask.device), (len(prefix.keep_BP[0]), 0))
        x, states, kept = x_BSH, [x_BSH], []
        for block, before in zip(self.blocks, prefix.keys_values, strict=True):
            x, keys_values = block(x, mask[:, None], before)
            states.append(x)
            kept.append(keys_values)
        states[-1] = self.norm(x)
        joined = tuple(torch.cat([a.to(b.dtype), b], 1) for a, b in zip(prefix.states, states, strict=True))
        return states[-1], Prefix(joined, tuple(kept), torch.cat([prefix.keep_BP, keep_BS], 1))
