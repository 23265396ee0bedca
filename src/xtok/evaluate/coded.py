"""A tokenizer and what it makes of a set of chunks, worked out once, when a question first asks for it.

# B chunks, L rates of a tokenizer (prefixes of levels, scales)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from xtok.actions.statistics import Statistics
from xtok.actions.types import Actions, ActionTokenizer, ChunkBatch, Codes
from xtok.evaluate.batches import HasSharedEncoding, decode, encode, encode_rates, rate_points
from xtok.evaluate.errors import Errors, measure


@dataclass
class Coded:
    """`chunks` through `tokenizer`. train: chunks of train episodes, for what is fitted on their tokens.

    known_rates: codes of `chunks` at each rate, where fitting has made them already.
    """

    tokenizer: ActionTokenizer
    chunks: ChunkBatch
    train: ChunkBatch | None = None
    known_rates: list[Codes] | None = None

    @cached_property
    def points(self) -> list[ActionTokenizer]:
        """The tokenizer at each of its rates; itself alone where it has one."""
        return rate_points(self.tokenizer)

    @property
    def own_rate(self) -> int | None:
        """Which of `points` codes as the tokenizer itself does; None: not known, so it is asked apart."""
        if isinstance(self.tokenizer, HasSharedEncoding):
            return self.tokenizer.own_rate
        return 0 if self.points == [self.tokenizer] else None

    @cached_property
    def rate_codes(self) -> list[Codes]:
        return encode_rates(self.tokenizer, self.chunks) if self.known_rates is None else self.known_rates

    @cached_property
    def codes(self) -> Codes:
        return encode(self.tokenizer, self.chunks) if self.own_rate is None else self.rate_codes[self.own_rate]

    @cached_property
    def actions(self) -> Actions:
        return decode(self.tokenizer, self.codes, self.chunks.context)

    @cached_property
    def train_rate_codes(self) -> list[Codes] | None:
        """At each rate, of the train chunks; None without them."""
        return None if self.train is None else encode_rates(self.tokenizer, self.train)

    @cached_property
    def train_codes(self) -> Codes | None:
        if self.train is None or self.train_rate_codes is None:
            return None
        return encode(self.tokenizer, self.train) if self.own_rate is None else self.train_rate_codes[self.own_rate]

    def errors(self, statistics: Mapping[str, Statistics]) -> list[Errors]:
        """At each rate."""
        out = []
        for number, (point, codes) in enumerate(zip(self.points, self.rate_codes, strict=True)):
            own = number == self.own_rate
            actions = self.actions if own else decode(point, codes, self.chunks.context)
            out.append(measure(self.chunks, actions, statistics))
        return out
