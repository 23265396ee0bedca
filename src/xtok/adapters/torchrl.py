"""torchrl's `ActionTokenizerBase`: [..., T, D] -> [..., slots, levels] and back.

# T frames, D channels, M slots, Q levels
For `ActionTokenizerTransform(tokenizer, in_key=("vla_action", "chunk"))` on a replay buffer or an environment.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

try:
    from torchrl.data.vla import ActionTokenizerBase
except ImportError as error:
    raise ImportError("this adapter needs torchrl: pip install 'xtok[torchrl]'") from error

from xtok.actions.embodiments import NONE
from xtok.actions.entrance import floats_of, integers_of, whole_of
from xtok.actions.types import HORIZON_MAX
from xtok.codec import Tokenizer
from xtok.codec.channels import ChannelCodec


class ChunkTokenizer(ActionTokenizerBase):
    """A tokenizer at one chunk length, which tokens alone do not tell.

    codec: a `Tokenizer` takes deltas to the step before the chunk, in the units of its layout (D = 26 or 64), as
    `robot_type`; a `ChannelCodec` takes D channels of unknown meaning in [-1, 1] (say `action_dim`).

    Raises:
        ValueError: a channel codec without an action_dim, or lengths that are no whole numbers in range.
    """

    def __init__(
        self,
        codec: Tokenizer | ChannelCodec,
        *,
        horizon: int,
        action_dim: int | None = None,
        robot_type: str = NONE,
    ) -> None:
        super().__init__()
        width = codec.layout.width if isinstance(codec, Tokenizer) else codec.channels
        if action_dim is None and width is None:
            raise ValueError("say action_dim=D: this channel codec was fitted on none")
        self.codec, self.robot_type = codec, robot_type
        self.horizon = whole_of(horizon, "horizon (T, frames)", 1, HORIZON_MAX)
        self.action_dim = whole_of(width if action_dim is None else action_dim, "action_dim", 1)
        if width is not None and self.action_dim != width:
            raise ValueError(f"action_dim is {self.action_dim}; this codec takes {width} channels")

    @property
    def vocab_size(self) -> int:
        return self.codec.codebook_size

    def encode(self, actions: Float[Tensor, "*B T D"]) -> Int[Tensor, "*B M Q"]:
        """Codes.

        Raises:
            ValueError: another T or D, no numbers, or what the codec refuses.
        """
        actions = floats_of(actions, "actions", f"[..., {self.horizon}, {self.action_dim}]")
        if actions.ndim < 2 or actions.shape[-2:] != (self.horizon, self.action_dim):
            raise ValueError(
                f"actions have shape {tuple(actions.shape)}; expected [..., {self.horizon}, {self.action_dim}]"
            )
        flat = actions.reshape(-1, self.horizon, self.action_dim)
        if isinstance(self.codec, Tokenizer):
            grid = self.codec.encode_delta(flat, self.robot_type)
        else:
            grid = torch.from_numpy(self.codec.encode(flat.cpu().numpy()))
        return grid.to(actions.device).view(*actions.shape[:-2], *grid.shape[1:])

    def decode(self, tokens: Int[Tensor, "*B M Q"]) -> Float[Tensor, "*B T D"]:
        """Actions, float32.

        Raises:
            ValueError: ids outside the book or no integers, or another number of slots or levels.
        """
        tokens = integers_of(tokens, "tokens", "[..., slots, levels]")
        if tokens.ndim < 2 or tokens.numel() == 0:
            raise ValueError(f"tokens have shape {tuple(tokens.shape)}; expected [..., slots, levels]")
        flat = tokens.reshape(-1, *tokens.shape[-2:]).cpu()
        if isinstance(self.codec, Tokenizer):
            out = self.codec.decode_delta(flat, self.horizon, robot_type=self.robot_type)
        else:
            if tokens.shape[-1] != self.codec.levels:
                raise ValueError(f"tokens have {tokens.shape[-1]} levels; expected {self.codec.levels}")
            decoded = self.codec.decode(flat.flatten(1).numpy(), self.horizon, self.action_dim)
            out = torch.from_numpy(decoded)
        return out.to(tokens.device).view(*tokens.shape[:-2], self.horizon, self.action_dim)
