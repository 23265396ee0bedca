"""How the embedded teacher is trained: its two parts, rates, weights of losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType

import numpy as np

from xtok.semantics.embedded.network import NetworkConfig

LOOKING = MappingProxyType({"kind": 0.5, "colour": 0.5, "centre": 1.0, "offset": 0.2, "held": 0.5, "named": 0.7})
ANSWERING = MappingProxyType({"named": 0.3, "point": 0.5, "said": 1.0})


@dataclass(frozen=True)
class Part:
    """steps, pictures of each, questions asked of a picture, and the largest learning rate: it starts linearly and
    falls as a cosine, in each part anew.
    """

    steps: int
    pictures: int
    questions: int
    learning_rate: float

    def rate_at(self, step: int, warmup: int) -> float:
        """step: of this part."""
        fall = 0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * step / self.steps))
        return float(self.learning_rate * min(1.0, (step + 1) / warmup) * fall)


@dataclass(frozen=True)
class TeacherRecipe:
    """looking: eyes and words alone learn. answering: the host learns to answer, words too; eyes stay as they are, so
    many questions of a picture cost little. absent: share of pictures of which something is asked that is not there.
    long_every: one step in so many has captions and what comes now, and nothing else. average_decay: of the running
    average of the weights, which is what is kept. watched: one episode in so many is not learned from; it is asked
    about every `watch_every` steps. log_every: steps between lines of losses.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    looking: Part = Part(4000, 16, 4, 2e-3)
    answering: Part = Part(8000, 8, 8, 1e-3)
    absent: float = 0.15
    long_every: int = 8
    weight_decay: float = 0.03
    warmup: int = 100
    average_decay: float = 0.998
    watched: int = 18
    watch_every: int = 500
    log_every: int = 20
    seed: int = 0

    @property
    def steps(self) -> int:
        return self.looking.steps + self.answering.steps

    def part_at(self, step: int) -> Part:
        return self.answering if step >= self.looking.steps else self.looking

    def rate_at(self, step: int) -> float:
        answering = step >= self.looking.steps
        return self.part_at(step).rate_at(step - answering * self.looking.steps, self.warmup)

    def weights_at(self, step: int) -> Mapping[str, float]:
        return ANSWERING if step >= self.looking.steps else LOOKING

    def to_dict(self) -> dict[str, object]:
        return asdict(self)
