"""How the embedded teacher is trained: lengths of the two parts, sizes of a step, rates, weights of losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType

import numpy as np

from xtok.semantics.embedded.network import NetworkConfig

LOOKING = MappingProxyType({"kind": 0.5, "colour": 0.5, "centre": 1.0, "offset": 0.2, "held": 0.5, "named": 0.7})
ANSWERING = MappingProxyType({"point": 1.0, "said": 1.0})


@dataclass(frozen=True)
class TeacherRecipe:
    """looking: steps in which eyes and words alone learn, which are cheap. answering: steps of everything. pictures: B.
    questions: asked of each. absent: share of pictures of which something is asked that is not there. long_every: one step in so many has captions and what comes now, and nothing else. average_decay: of
    the running average of the weights, which is what is kept. watched: one episode in so many is not learned from; it is
    asked about every `watch_every` steps. log_every: steps between lines of losses.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    looking: int = 800
    answering: int = 6000
    pictures: int = 16
    questions: int = 4
    absent: float = 0.15
    long_every: int = 8
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.03
    warmup: int = 100
    average_decay: float = 0.998
    watched: int = 18
    watch_every: int = 400
    log_every: int = 20
    seed: int = 0

    @property
    def steps(self) -> int:
        return self.looking + self.answering

    def rate_at(self, step: int) -> float:
        """Cosine over the whole run, after a linear start."""
        start = min(1.0, (step + 1) / self.warmup)
        return float(self.learning_rate * start * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * step / self.steps))))

    def weights_at(self, step: int) -> Mapping[str, float]:
        return {**LOOKING, **(ANSWERING if step >= self.looking else {})}

    def to_dict(self) -> dict[str, object]:
        return asdict(self)
