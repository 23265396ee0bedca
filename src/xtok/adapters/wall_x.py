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
from xtok.codec.channels import CHANNELS_MAX, ChannelCodec
from xtok.codec.tokens.channel_ids import AnyChannels, chunk_to_ids, ids_to_chunk, vocabulary_of
from xtok.codec.words.channels import open_channels

TOKEN = "<|action_token_{}|>"  # wall-x's own names: it puts number 0 first and takes ids above it for actions


class ActionCodes:
    """The methods of `ActionTokenizerMixin`, with the meaning that their FAST implementation gives them.

    Numbers 0 .. 4 V - 1: code c of level q is q V + c. Of motion words: their own ids.
    """

    _tokenizer_type = "xtok"

    def __init__(self) -> None:
        super().__init__()
        self._tokenizer: AnyChannels | None = None
        self._mapper: dict[int, int] | None = None
        self.action_normalizer: Any = None
        self._tokenizer_type = "xtok"

    @property
    def tokenizer_type(self) -> str:
        return self._tokenizer_type

    @property
    def tokenizer(self) -> AnyChannels:
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

    def load_tokenizer(self, config: Mapping[str, Any], normalizer: Any, device: str = "cpu") -> AnyChannels:
        """config["action_tokenizer_path"]: a folder or hub id of a channel codec or of motion words of channels;
        absent: the shipped weights."""
        self._tokenizer = open_channels(config.get("action_tokenizer_path"))
        self.action_normalizer, self._mapper = normalizer, None
        return self._tokenizer

    def get_val_tokenizer(self, config: Mapping[str, Any]) -> AnyChannels:
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
            ValueError: as the codec's `encode`.
        """
        try:
            samples = list(actions)
        except (TypeError, RuntimeError, NotImplementedError):
            raise ValueError(f"actions are a {type(actions).__name__}; expected one [T, D] for each sample") from None
        out = []
        for action in samples:
            chunk = array_of(action, "actions", "[T, D] in [-1, 1]", 2)[None]
            (numbers,) = chunk_to_ids(self.tokenizer, vocabulary_of(self.tokenizer, 0), chunk)
            out.append([TOKEN.format(number) for number in numbers])
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
            return ids_to_chunk(codec, vocabulary_of(codec, 0), [numbers], action_horizon, action_dim)[0], True
        except ValueError:
            return None, False

    def compute_accuracy(
        self,
        logits: Float[Tensor, "B L N"],
        labels: Int[Tensor, "B L"],
        action_mapper: Mapping[int, int],
        action_token_id_set: Mapping[str, Sequence[int]],
    ) -> dict[str, Tensor]:
        """Share of action tokens that are foretold, over all and by level (of motion words: first frames, words,
        residuals); nothing where there are none."""
        ids = list(action_mapper) or list(action_token_id_set.get("action_token_list", []))
        if not ids:
            return {}
        number = torch.full((max(int(labels.max()), max(ids)) + 1,), -1, device=labels.device)
        number[torch.tensor(ids, device=labels.device)] = torch.arange(len(ids), device=labels.device)
        wanted, found = labels[:, 1:], logits[:, :-1].argmax(dim=-1)
        code = torch.where(wanted >= 0, number[wanted.clamp_min(0)], -1)
        right = (wanted == found).double()
        out = {"action_accuracy": (right * (code >= 0)).sum() / (code >= 0).sum().clamp_min(1)}
        for key, (low, high) in self._kinds().items():
            mine = (code >= low) & (code < high)
            out[f"action_accuracy_{key}"] = (right * mine).sum() / mine.sum().clamp_min(1)
        return out

    def get_accuracy_keys(self) -> list[str]:
        return ["action_accuracy", *(f"action_accuracy_{key}" for key in self._kinds())]

    def _kinds(self) -> dict[str, tuple[int, int]]:
        """Half-open ranges of numbers that accuracies are told of."""
        codec = self.tokenizer
        if isinstance(codec, ChannelCodec):
            V = codec.codebook_size
            return {f"q{q}": (q * V, (q + 1) * V) for q in range(codec.levels)}
        first, words = codec.grammar.offset, codec.grammar.motion.words
        return {
            "first_frame": (0, first),
            "word": (first, first + words),
            "residual": (first + words, codec.grammar.total),
        }

    @property
    def vocab_size(self) -> int:
        codec = self._tokenizer
        return 0 if codec is None else vocabulary_of(codec, 0).size

    @property
    def uses_dof_mask_for_unnorm(self) -> bool:
        return True  # decoded actions have the cropped channels

    @property
    def needs_action_crop(self) -> bool:
        return True

    def init_inference(self, robot_type: str | None = None) -> None:
        """Nothing to prepare."""
