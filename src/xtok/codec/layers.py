"""Transformer blocks of encoder and decoder. docs/method.md#encoder-quantizer-decoder.

# B batch, L queries, S keys, H hidden
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

ROPE_BASE = 1e4  # docs/method.md#encoder-quantizer-decoder


def rotate(x: Float[Tensor, "B n L c"], time_L: Float[Tensor, "*B L"]) -> Float[Tensor, "B n L c"]:
    """Rotary embedding by time in frames, so that a slot and its four frames stand side by side. Times of all rows, or
    of each.

    Angles have float32 or more: in bfloat16 those of late frames are off by up to .13 rad.
    """
    half, exact = x.shape[-1] // 2, torch.promote_types(x.dtype, torch.float32)
    frequency = ROPE_BASE ** (-torch.arange(half, device=x.device, dtype=exact) / half)
    angle = time_L.to(exact)[..., None] * frequency
    angle = angle if time_L.ndim == 1 else angle[:, None]
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half : 2 * half]
    return torch.cat([a * cos - b * sin, a * sin + b * cos, x[..., 2 * half :]], dim=-1)


class Attention(nn.Module):
    """Multi-head attention with RoPE on time; `context` defaults to the queries themselves."""

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        if hidden % (2 * heads):
            raise ValueError(f"hidden {hidden} must be a multiple of 2 x heads ({2 * heads})")
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(hidden, hidden)
        self.key_value = nn.Linear(hidden, 2 * hidden)
        self.out = nn.Linear(hidden, hidden)

    def forward(
        self, x_BLH: Tensor, time_L: Tensor, context_BSH: Tensor, time_S: Tensor, valid_BS: Tensor | None = None
    ) -> Tensor:
        B, L, H = x_BLH.shape
        query = self.query(x_BLH).view(B, L, self.heads, -1).transpose(1, 2)
        key, value = (
            part.view(B, -1, self.heads, H // self.heads).transpose(1, 2)
            for part in self.key_value(context_BSH).chunk(2, -1)
        )
        dropout = self.dropout if self.training else 0.0
        mask = None if valid_BS is None else valid_BS[:, None, None]
        mixed = F.scaled_dot_product_attention(rotate(query, time_L), rotate(key, time_S), value, mask, dropout)
        return self.out(mixed.transpose(1, 2).reshape(B, L, H))


class Block(nn.Module):
    """Pre-norm attention and feed-forward. The residual branches may start at zero, so that the block is identity."""

    def __init__(
        self, hidden: int, heads: int, dropout: float, cross: bool = False, start_at_zero: bool = False
    ) -> None:
        super().__init__()
        self.norm, self.feed_norm = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.context_norm = nn.LayerNorm(hidden) if cross else None
        self.attention = Attention(hidden, heads, dropout)
        last = nn.Linear(4 * hidden, hidden)
        self.feed = nn.Sequential(nn.Linear(hidden, 4 * hidden), nn.GELU(), last)
        self.drop = nn.Dropout(dropout)
        if start_at_zero:
            for layer in (self.attention.out, last):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(
        self,
        x_BLH: Tensor,
        time_L: Tensor,
        context_BSH: Tensor | None = None,
        time_S: Tensor | None = None,
        valid_BS: Tensor | None = None,
    ) -> Float[Tensor, "B L H"]:
        """valid_BS: what of the context may be looked at; None: all of it."""
        normed = self.norm(x_BLH)
        if self.context_norm is None:
            context, time_S = normed, time_L
        else:
            assert context_BSH is not None and time_S is not None
            context = self.context_norm(context_BSH)
        x_BLH = x_BLH + self.drop(self.attention(normed, time_L, context, time_S, valid_BS))
        return x_BLH + self.drop(self.feed(self.feed_norm(x_BLH)))


def idle(out: nn.Linear) -> bool:
    """Whether a network's last layer still stands where it starts, at exactly zero: then there is no need to run it."""
    return not torch.is_grad_enabled() and not out.weight.any() and not out.bias.any()


def bounded(x: Tensor, length: float) -> Tensor:
    """Vectors (the last dimension) brought within a ball of radius `length`, smoothly; short ones are only scaled."""
    return x * (length / (1 + x.square().sum(dim=-1, keepdim=True)).sqrt())


def straight_through(h_BMC: Float[Tensor, "B M C"], code_NC: Float[Tensor, "N C"]) -> Float[Tensor, "B M C"]:
    """The code's value, with the gradient of h."""
    return h_BMC + (code_NC.view_as(h_BMC).to(h_BMC.dtype) - h_BMC).detach()
