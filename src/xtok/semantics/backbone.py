"""What a policy and a teacher ask of a vision-language model, whichever it is: the embedded one, or one of Hugging
Face.

    inputs = backbone.prepare(observations)        # no gradient: can be made ahead, and kept
    read = backbone.read(inputs)                   # prefix of images, instruction and state
    read.prefix.states, read.prefix.keys_values    # hidden states and K/V of every layer
    states, longer = backbone.extend(read, tokens) # causal; the prefix never sees it
    backbone.answer(observations)                  # words, a place, and how sure

# B rows, P places of the prefix, S of what is appended, H width, h heads, d width of a head
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

KeysValues = tuple[Float[Tensor, "B h P d"], Float[Tensor, "B h P d"]]
POINT_WORDS = ("where is", "where are", "point to", "find the", "look at")  # questions that a place answers


@dataclass(frozen=True)
class Observation:
    """pictures: by view, uint8 RGB [h, w, 3], in the order in which they are read. words: instruction or question.
    state: arms26 [26], zeros where a channel is missing, or None.
    """

    pictures: Mapping[str, UInt8[np.ndarray, "h w 3"]]
    words: str
    state: Float[np.ndarray, " 26"] | None = None


@dataclass(frozen=True)
class Prefix:
    """What was read. states: hidden states, before the first layer and after each; the last is normed. keys_values: of
    each layer, with their positions in them. keep: False at padding. What is appended goes to copies: a prefix never
    changes. next_position: of what comes after it, [B] (backbones without positions of their own: None).
    """

    states: tuple[Float[Tensor, "B P H"], ...]
    keys_values: tuple[KeysValues, ...]
    keep_BP: Bool[Tensor, "B P"]
    next_position: Any = None

    def __len__(self) -> int:
        return len(self.keep_BP)

    def detached(self) -> Prefix:
        """No gradient passes: what insulates a backbone from an expert that reads it."""
        kv = tuple((keys.detach(), values.detach()) for keys, values in self.keys_values)
        return Prefix(tuple(state.detach() for state in self.states), kv, self.keep_BP, self.next_position)


@dataclass(frozen=True)
class Read:
    """prefix, and what else a backbone remembers of its inputs to point in them (`extra`, its own)."""

    prefix: Prefix
    extra: Any = field(default=None, repr=False)


@dataclass(frozen=True)
class Answer:
    """text: what is said. sure: how likely the model finds it, 0 to 1. point: x, y in pixels of the first picture, or
    None where the model does not point; point_sure: how likely the thing is there and not nowhere.
    """

    text: str
    sure: float
    point: tuple[float, float] | None = None
    point_sure: float = 0.0


class Backbone(Protocol):
    """name: as given to `load_backbone`. width: H. layers, heads, head_width: of `keys_values`. module: what can be
    trained of it; parameters that shall not be have no gradient.
    """

    name: str
    width: int
    layers: int
    heads: int
    head_width: int

    @property
    def module(self) -> nn.Module: ...

    def prepare(self, observations: Sequence[Observation]) -> Any:
        """Inputs of a batch, nothing that learns: what can be kept and read again."""
        ...

    def read(self, inputs: Any) -> Read:
        """The prefix. Gradients flow."""
        ...

    def extend(
        self, read: Read, embeddings_BSH: Float[Tensor, "B S H"], keep_BS: Bool[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B S H"], Read]:
        """Last states of what is appended, which sees the prefix and what comes before itself; and both as one."""
        ...

    def answer(self, observations: Sequence[Observation], tokens_max: int = 12) -> list[Answer]:
        """Greedy words and, where the model can, a place."""
        ...
