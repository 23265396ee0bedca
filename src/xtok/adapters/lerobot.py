"""A LeRobot processor step: `transition["action"]` to code ids in its complementary data. For lerobot 0.4.4.

# B samples, T frames, D channels, L ids
LeRobot's own `ActionTokenizerProcessorStep` is bound to PaliGemma's vocabulary and FAST's ids; this one appends.
Importing this file registers the step as "xtok_action_codes", which is how a saved pipeline finds it again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

try:
    from lerobot.processor import ProcessorStep, ProcessorStepRegistry
    from lerobot.processor.core import TransitionKey
    from lerobot.utils.constants import ACTION_TOKEN_MASK, ACTION_TOKENS
except ImportError as error:
    raise ImportError("this adapter needs lerobot 0.4.4, in a venv of its own: see `make test-lerobot`") from error

from xtok.actions.entrance import floats_of, integers_of
from xtok.codec.tokens.channel_ids import (
    AnyChannels,
    ChannelVocabulary,
    chunk_to_ids,
    ids_to_chunk,
    padded,
    vocabulary_of,
)
from xtok.codec.words.channels import open_channels


@ProcessorStepRegistry.register("xtok_action_codes")
@dataclass
class ActionCodesStep(ProcessorStep):
    """Adds `action.tokens` [B, L] and `action.token_mask` [B, L]; the action stays, for a flow head beside.

    codec_path: folder or hub id of a `ChannelCodec` or of motion words of channels; None: the shipped weights. offset:
    size of the text vocabulary. Motion words differ in length: behind its end a row has id 0, which is text, and False
    in the mask. Put it after the normalizer: actions are channels in [-1, 1] (quantile or min-max mode). [T, D] counts
    as B = 1.
    """

    codec_path: str | None = None
    offset: int = 0
    marker: bool = False
    codec: AnyChannels = field(init=False, repr=False)
    vocabulary: ChannelVocabulary = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.codec = open_channels(self.codec_path)
        self.vocabulary = vocabulary_of(self.codec, self.offset, self.marker)

    def __call__(self, transition: dict[Any, Any]) -> dict[Any, Any]:
        """The transition with ids. Without an action, as at inference, it passes as it is.

        Raises:
            ValueError: what the codec refuses: more than 26 channels or 64 frames, NaN, values that are not normalised.
        """
        self._current_transition = transition = transition.copy()
        given = transition.get(TransitionKey.ACTION)
        if given is None:
            return transition
        action = floats_of(given, "action", "[T, D] or [B, T, D] in [-1, 1]")
        ids = chunk_to_ids(self.codec, self.vocabulary, action[None] if action.ndim == 2 else action)
        tokens_BL, mask_BL = padded(ids, self.vocabulary)
        data = dict(transition.get(TransitionKey.COMPLEMENTARY_DATA) or {})
        data[ACTION_TOKENS], data[ACTION_TOKEN_MASK] = tokens_BL.to(action.device), mask_BL.to(action.device)
        transition[TransitionKey.COMPLEMENTARY_DATA] = data
        return transition

    def decode(self, ids_BL: Int[Tensor, "B L"], horizon: int, channels: int) -> Float[Tensor, "B T D"]:
        """Actions of generated ids, for a policy's post-processing.

        Raises:
            ValueError: codes that cannot be.
        """
        ids_BL = integers_of(ids_BL, "ids", "[B, L]", 2)
        rows: list[list[int]] = ids_BL.tolist()
        decoded: np.ndarray = ids_to_chunk(self.codec, self.vocabulary, rows, horizon, channels)
        return torch.from_numpy(decoded).to(ids_BL.device)

    def get_config(self) -> dict[str, Any]:
        return {"codec_path": self.codec_path, "offset": self.offset, "marker": self.marker}

    def transform_features(self, features: Any) -> Any:
        return features
