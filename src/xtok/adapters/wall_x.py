"""wall-x's `ActionTokenizerMixin`, whose public registry lacks an X-Tokenizer. Nothing of wall-x is imported.

# B samples, T frames, D channels after cropping, L ids, N ids of the language model

    class XtokMixin(xtok.adapters.wall_x.ActionCodes, ActionTokenizerMixin): ...      # and add it to their registry

wall-x crops each sample to its chunk and to the channels that its `dof_mask` keeps, so what comes in is [T, D] with D
up to the 26 of `dof_config`, normalised by their normalizer: channels in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from xtok.actions.entrance import array_of, integers_of, whole_of
from xtok.actions.types import Codes
from xtok.codec.channels import CHANNELS_MAX, ChannelCodec
from xtok.codec.tokens.vocabulary import CodeVocabulary

TOKEN = "<|action_token_{}|>"  # wall-x's own names: it puts number 0 first and takes ids above it for actions


class ActionCodes:
    """The methods of `ActionTokenizerMixin`, with the meaning that their FAST implementation gives them.

    Numbers 0 .. 4 V - 1: code c of level q is q V + c.
    """

    _tokenizer_type = "xtok"

    def __init__(self) -> None:
        super().__init__()
        self._tokenizer: ChannelCodec | None = None
        self._mapper: dict[int, int] | None = None
        self.action_normalizer: Any = None
        self._tokenizer_type = "xtok"

    @property
    def tokenizer_type(self) -> str:
        return self._tokenizer_type

    @property
    def tokenizer(self) -> ChannelCodec:
        """The codec.

        Raises:
            RuntimeError: before `load_tokenizer`.
        """
        if self._tokenizer is None:
            raise RuntimeError("no tokenizer is loaded; call load_tokenizer(config, normalizer) first")
        return self._tokenizer

    @property
    def action_mapper(self) -> dict[int, int] | None:
        return self._mapper

    def load_tokenizer(self, config: Mapping[str, Any], normalizer: Any, device: str = "cpu") -> ChannelCodec:
        """config["action_tokenizer_path"]: a folder or hub id of a channel codec; absent: the shipped weights."""
        self._tokenizer = ChannelCodec.load(config.get("action_tokenizer_path"))
        self.action_normalizer, self._mapper = normalizer, None
        return self._tokenizer

    def get_val_tokenizer(self, config: Mapping[str, Any]) -> ChannelCodec:
        return self.tokenizer

    def get_special_tokens(self) -> tuple[list[str], None]:
        return [TOKEN.format(number) for number in range(self.vocab_size)], None

    def get_all_special_tokens(self) -> tuple[list[str], None]:
        return self.get_special_tokens()  # number 0 is the first already

    def get_action_token_list(self, processor: Any) -> list[int]:
        """Id of each number in the language model's vocabulary."""
        return [int(processor.tokenizer.convert_tokens_to_ids(token)) for token in self.get_special_tokens()[0]]

    def build_action_mapper(self, processor: Any) -> dict[int, int]:
        """Id -> number.

        Raises:
            ValueError: tokens that the language model does not know.
        """
        if self._mapper is None:
            ids = self.get_action_token_list(processor)
            if len(set(ids)) != len(ids):
                raise ValueError("the processor does not know the action tokens; add get_special_tokens() to it first")
            self._mapper = {token_id: number for number, token_id in enumerate(ids)}
        return self._mapper

    def encode_to_tokens(
        self,
        actions: Sequence[Float[Tensor, "T D"]] | Float[Tensor, "B T D"],
        obs_state: Tensor | None = None,
        dof_mask: Tensor | None = None,
        robot_type_ids: list[int] | None = None,
        is_train: bool = True,
    ) -> list[list[str]]:
        """Token strings of each sample.

        Raises:
            ValueError: as `ChannelCodec.encode`.
        """
        try:
            samples = list(actions)
        except (TypeError, RuntimeError, NotImplementedError):
            raise ValueError(f"actions are a {type(actions).__name__}; expected one [T, D] for each sample") from None
        out = []
        for action in samples:
            grid = self.tokenizer.encode(array_of(action, "actions", "[T, D] in [-1, 1]", 2)[None])[0]
            numbers = grid + np.arange(self.tokenizer.levels) * self.tokenizer.codebook_size
            out.append([TOKEN.format(number) for number in numbers.ravel()])
        return out

    def decode_action(
        self,
        output_ids: Int[Tensor, "1 L"],
        action_mapper: Mapping[int, int],
        action_horizon: int,
        action_dim: int,
        device: torch.device | str,
        proprioception: Tensor | None = None,
        dof_mask: Tensor | None = None,
        robot_type_id: int | None = None,
        state: Tensor | None = None,
    ) -> tuple[Float[np.ndarray, "T D"] | None, bool]:
        """Actions and True; None and False for codes that cannot be, never zeros.

        Raises:
            ValueError: ids that are no integers [1, L], or a horizon or width that no codes have.
        """
        ids = integers_of(output_ids, "output_ids", "[1, L]", 2)
        codec = self.tokenizer
        action_horizon = whole_of(action_horizon, "action_horizon", 1, codec.horizon_max)
        action_dim = whole_of(action_dim, "action_dim", 1, CHANNELS_MAX)
        numbers = [action_mapper[token_id] for token_id in ids[0].tolist() if token_id in action_mapper]
        try:
            codes: Codes = CodeVocabulary(0, codec.levels, codec.codebook_size).codes([numbers])
            return codec.decode(codes.tokens, action_horizon, action_dim)[0], True
        except ValueError:
            return None, False

    def compute_accuracy(
        self,
        logits: Float[Tensor, "B L N"],
        labels: Int[Tensor, "B L"],
        action_mapper: Mapping[int, int],
        action_token_id_set: Mapping[str, Sequence[int]],
    ) -> dict[str, Tensor]:
        """Share of action tokens that are foretold, over all and by level; nothing where there are none."""
        ids = list(action_mapper) or list(action_token_id_set.get("action_token_list", []))
        if not ids:
            return {}
        number = torch.full((max(int(labels.max()), max(ids)) + 1,), -1, device=labels.device)
        number[torch.tensor(ids, device=labels.device)] = torch.arange(len(ids), device=labels.device)
        wanted, found = labels[:, 1:], logits[:, :-1].argmax(dim=-1)
        level = torch.where(wanted >= 0, number[wanted.clamp_min(0)], -1).div(
            self.tokenizer.codebook_size, rounding_mode="floor"
        )
        right = (wanted == found).double()
        out = {"action_accuracy": (right * (level >= 0)).sum() / (level >= 0).sum().clamp_min(1)}
        for q, key in enumerate(self.get_accuracy_keys()[1:]):
            out[key] = (right * (level == q)).sum() / (level == q).sum().clamp_min(1)
        return out

    def get_accuracy_keys(self) -> list[str]:
        return ["action_accuracy", *(f"action_accuracy_q{q}" for q in range(self.tokenizer.levels))]

    @property
    def vocab_size(self) -> int:
        codec = self._tokenizer
        return 0 if codec is None else codec.levels * codec.codebook_size

    @property
    def uses_dof_mask_for_unnorm(self) -> bool:
        return True  # decoded actions have the cropped channels

    @property
    def needs_action_crop(self) -> bool:
        return True

    def init_inference(self, robot_type: str | None = None) -> None:
        """Nothing to prepare."""
