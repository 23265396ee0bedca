"""Perceiver encoder: frames in, one latent a slot out. docs/method.md#encoder-quantizer-decoder.

# B batch, T frames, M slots, K tangent channels, D layout channels, H hidden
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from xtok.actions.embodiments import NONE_SLOT, SLOTS
from xtok.actions.types import FRAMES_PER_SLOT, HORIZON_MAX, slots
from xtok.codec.layers import Block

_BEFORE = -1.0  # the state o is the step before the chunk


@dataclass(frozen=True)
class Conditions:
    """What both networks may know of a chunk. state_BD: the anchor, zeros where it is withheld.

    slot_B: row of the embodiment table (NONE_SLOT = unknown). Every combination must work
    (docs/method.md#encoder-quantizer-decoder).
    """

    state_BD: Float[Tensor, "B D"]
    mask_BK: Bool[Tensor, "B K"]
    slot_B: Int[Tensor, " B"]
    control_hz_B: Float[Tensor, " B"]

    def to(self, dtype: torch.dtype) -> Conditions:
        return Conditions(self.state_BD.to(dtype), self.mask_BK, self.slot_B, self.control_hz_B.to(dtype))

    def without_state(self) -> Conditions:
        return Conditions(torch.zeros_like(self.state_BD), self.mask_BK, self.slot_B, self.control_hz_B)

    def without_embodiment(self) -> Conditions:
        return Conditions(self.state_BD, self.mask_BK, torch.full_like(self.slot_B, NONE_SLOT), self.control_hz_B)


class ConditionTokens(nn.Module):
    """State, embodiment, rate and channel mask as two context tokens at the step before the chunk.

    Where the embodiment enters is unspecified: as a token beside the state, decision 0004.
    """

    def __init__(self, state_dim: int, mask_dim: int, hidden: int) -> None:
        super().__init__()
        self.state = nn.Linear(state_dim, hidden)
        self.embodiment = nn.Embedding(SLOTS, hidden)
        self.rate_and_mask = nn.Linear(1 + mask_dim, hidden)
        nn.init.normal_(self.embodiment.weight, std=0.02)

    def forward(self, conditions: Conditions) -> Float[Tensor, "B 2 H"]:
        # Sign-log: states are metres or native units of +-100; the network should see either.
        state = torch.sign(conditions.state_BD) * torch.log1p(conditions.state_BD.abs())
        rate = torch.log(conditions.control_hz_B / 20.0)[:, None]
        rate_mask = torch.cat([rate, conditions.mask_BK.to(rate.dtype)], dim=1)
        robot = self.embodiment(conditions.slot_B) + self.rate_and_mask(rate_mask.to(state.dtype))
        return torch.stack([self.state(state), robot], dim=1)


class Encoder(nn.Module):
    """Learned latent queries, one a slot, look at frames and conditions, then at each other.

    Output [B, M, out_dim]; zero at the start when `start_at_zero`, so that what is learned is added to nothing.
    linear_path: the frames of a slot also reach it by a matrix, `local`; what is learned is added to that.
    """

    def __init__(
        self,
        channels: int,
        state_dim: int,
        hidden: int,
        heads: int,
        layers: int,
        dropout: float,
        out_dim: int,
        start_at_zero: bool = False,
        linear_path: bool = False,
    ) -> None:
        super().__init__()
        self.local = nn.Linear(FRAMES_PER_SLOT * channels, out_dim, bias=False) if linear_path else None
        self.frame = nn.Linear(2 * channels, hidden)
        self.hidden_frame = nn.Parameter(0.02 * torch.randn(hidden))  # stands for a masked frame (masked modelling)
        self.conditions = ConditionTokens(state_dim, channels, hidden)
        self.queries = nn.Parameter(0.02 * torch.randn(slots(HORIZON_MAX), hidden))
        self.read = Block(hidden, heads, dropout, cross=True)
        self.blocks = nn.ModuleList(Block(hidden, heads, dropout, start_at_zero=start_at_zero) for _ in range(layers))
        self.out_norm = nn.LayerNorm(hidden)
        self.out = nn.Linear(hidden, out_dim)
        if start_at_zero or linear_path:
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def forward(
        self,
        x_BTK: Float[Tensor, "B T K"],
        conditions: Conditions,
        hidden_BTK: Bool[Tensor, "B T K"] | None = None,
    ) -> Float[Tensor, "B M C"]:
        """x_BTK: normalised tangent deltas. hidden_BTK: True where masked modelling hides a value."""
        B, T, K = x_BTK.shape
        M = slots(T)
        known = conditions.mask_BK[:, None].expand(B, T, K)
        if hidden_BTK is not None:
            known = known & ~hidden_BTK
        known = known.to(x_BTK.dtype)
        frames = self.frame(torch.cat([x_BTK * known, known], dim=-1))
        if hidden_BTK is not None:
            frames = frames + hidden_BTK.any(-1, keepdim=True).to(frames.dtype) * self.hidden_frame
        context = torch.cat([self.conditions(conditions), frames], dim=1)
        time_T = torch.arange(T, device=x_BTK.device, dtype=x_BTK.dtype)
        time_S = torch.cat([time_T.new_full((2,), _BEFORE), time_T])
        time_M = slot_times(M, x_BTK)
        h = self.queries[:M].expand(B, -1, -1)
        h = self.read(h, time_M, context, time_S)
        for block in self.blocks:
            h = block(h, time_M)
        found = self.out(self.out_norm(h))
        return found if self.local is None else found + self.local(by_slot(x_BTK * known))


def by_slot(x_BTK: Float[Tensor, "B T K"]) -> Float[Tensor, "B M 4K"]:
    """The four frames of each slot side by side; a last slot that is not full holds its last frame."""
    T, M = x_BTK.shape[1], slots(x_BTK.shape[1])
    frame = torch.arange(M * FRAMES_PER_SLOT, device=x_BTK.device).clamp_max(T - 1)
    return x_BTK[:, frame].unflatten(1, (M, FRAMES_PER_SLOT)).flatten(2)


def by_frame(x_BMY: Float[Tensor, "B M 4K"], horizon: int) -> Float[Tensor, "B T K"]:
    """Inverse of `by_slot`."""
    return x_BMY.unflatten(2, (FRAMES_PER_SLOT, -1)).flatten(1, 2)[:, :horizon]


def slot_times(M: int, like: Tensor) -> Float[Tensor, " M"]:
    """Middle of each slot in frames."""
    return torch.arange(M, device=like.device, dtype=like.dtype) * FRAMES_PER_SLOT + (FRAMES_PER_SLOT - 1) / 2
