"""torchrl's `ActionTokenizerBase`: [..., T, D] -> [..., slots, levels], or [..., L] of motion words, and back.

# B chunks, T frames, D channels, M slots, Q levels, L tokens of a chunk of motion words
For `ActionTokenizerTransform(tokenizer, in_key=("vla_action", "chunk"))` on a replay buffer or an environment.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

try:
    from torchrl.data.vla import ActionTokenizerBase
except ImportError as error:
    raise ImportError("this adapter needs torchrl: pip install 'xtok[torchrl]'") from error

from xtok.actions.embodiments import NONE
from xtok.actions.entrance import floats_of, integers_of, whole_of
from xtok.actions.types import HORIZON_MAX, Codes, Context
from xtok.codec import Tokenizer
from xtok.codec.channels import CHANNELS_MAX, ChannelCodec
from xtok.codec.load import AnyTokenizer
from xtok.codec.tokens.channel_ids import AnyChannels
from xtok.codec.words import WordTokenizer
from xtok.codec.words.channels import WordChannels


class ChunkTokenizer(ActionTokenizerBase):
    """A tokenizer at one chunk length, which tokens alone do not tell.

    codec: a `Tokenizer` or `WordTokenizer` takes deltas to the step before the chunk, in the units of its layout (D =
    26 or 64), as `robot_type`; a `ChannelCodec` or `WordChannels` takes D channels of unknown meaning in [-1, 1] (say
    `action_dim`). A tensor has one length, so motion words are in their fixed form here, `codec.with_fixed(6)`.

    Raises:
        ValueError: a channel codec without an action_dim, motion words of free length, a robot that a `WordTokenizer`
            does not know, or lengths that are no whole numbers in range.
    """

    def __init__(
        self,
        codec: AnyTokenizer | AnyChannels,
        *,
        horizon: int,
        action_dim: int | None = None,
        robot_type: str = NONE,
    ) -> None:
        super().__init__()
        width = codec.channels if isinstance(codec, ChannelCodec | WordChannels) else codec.layout.width
        if isinstance(codec, WordTokenizer | WordChannels) and codec.coding.residuals is None:
            raise ValueError(
                "motion words have as many tokens as a chunk needs, and a tensor has one length: give "
                "codec.with_fixed(6), which spends a word and 6 residuals on every 16 frames"
            )
        if action_dim is None and width is None:
            raise ValueError("say action_dim=D: this channel codec was fitted on none")
        self.codec, self.robot_type = codec, robot_type
        self.horizon = whole_of(horizon, "horizon (T, frames)", 1, HORIZON_MAX)
        self.action_dim = whole_of(width if action_dim is None else action_dim, "action_dim", 1, width or CHANNELS_MAX)
        if width is not None and self.action_dim != width:
            raise ValueError(f"action_dim is {self.action_dim}; this codec takes {width} channels")
        if isinstance(codec, WordTokenizer) and robot_type not in codec.statistics:
            raise codec.codec.unknown_robot(robot_type)

    @property
    def vocab_size(self) -> int:
        codec = self.codec
        return codec.vocab_size if isinstance(codec, WordTokenizer | WordChannels) else codec.codebook_size

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
        codec = self.codec
        if isinstance(codec, Tokenizer):
            grid = codec.encode_delta(flat, self.robot_type)
        elif isinstance(codec, ChannelCodec):
            grid = torch.from_numpy(codec.encode(flat.cpu().numpy()))
        elif isinstance(codec, WordChannels):
            grid = torch.from_numpy(np.stack(codec.encode(flat.cpu().numpy())))
        else:
            grid = torch.from_numpy(np.stack(codec.encode_delta(flat.cpu(), self._context(codec, len(flat))).tokens))
        return grid.to(actions.device).view(*actions.shape[:-2], *grid.shape[1:])

    def _context(self, codec: WordTokenizer, count: int) -> Context:
        statistics = codec.statistics[self.robot_type]
        mask_D = torch.from_numpy(statistics.mask_D.copy())
        hz_B = torch.full((count,), statistics.control_hz)
        return Context(codec.layout, None, mask_D.expand(count, -1), hz_B, (self.robot_type,) * count, self.horizon)

    def decode(self, tokens: Int[Tensor, "*B M Q"]) -> Float[Tensor, "*B T D"]:
        """Actions, float32.

        Raises:
            ValueError: ids outside the book or no integers, or another number of slots or levels.
        """
        if isinstance(self.codec, WordTokenizer | WordChannels):
            return self._decode_words(self.codec, integers_of(tokens, "tokens", "[..., L]"))
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

    def _decode_words(self, codec: WordTokenizer | WordChannels, tokens: Tensor) -> Float[Tensor, "*B T D"]:
        if not tokens.ndim or tokens.numel() == 0:
            raise ValueError(f"tokens have shape {tuple(tokens.shape)}; expected [..., L]")
        flat = tokens.reshape(-1, tokens.shape[-1]).cpu().numpy()
        if isinstance(codec, WordChannels):
            out = torch.from_numpy(codec.decode(flat, self.horizon, self.action_dim))
        else:
            out = codec.decode(Codes(tuple(flat), codec.vocab_size), self._context(codec, len(flat))).delta_BTD
        return out.to(tokens.device).view(*tokens.shape[:-1], self.horizon, self.action_dim)
