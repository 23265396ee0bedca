"""How the embedded teacher's connector is trained: lengths of the two parts, sizes of a step, rates."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import numpy as np

from xtok.semantics.embedded.connector import ConnectorConfig


@dataclass(frozen=True)
class TeacherRecipe:
    """looking, speaking: steps of each part. pictures: B. questions: asked of each while looking. spoken: rows that
    the language model goes on from in a step of speaking, a sixth of them captions. film_share: of the pictures.
    """

    connector: ConnectorConfig = field(default_factory=ConnectorConfig)
    looking: int = 600
    speaking: int = 150
    pictures: int = 32
    speaking_pictures: int = 16
    questions: int = 4
    spoken: int = 20
    film_share: float = 0.3
    learning_rate: float = 1.5e-3
    speaking_rate: float = 5e-4
    mouth_rate: float = 6e-3
    weight_decay: float = 0.05
    warmup: int = 50
    speaking_warmup: int = 10
    seed: int = 0

    @property
    def steps(self) -> int:
        return self.looking + self.speaking

    def rate_at(self, step: int, mouth: bool) -> float:
        """Cosine in each part, after a linear start. mouth: of the layer that makes tokens; nothing teaches it before
        the language model does, and then it wants steps as large as soft prompts do.
        """
        if step < self.looking:
            top, at, length, warmup = self.learning_rate, step, self.looking, self.warmup
        else:
            top = self.mouth_rate if mouth else self.speaking_rate
            at, length, warmup = step - self.looking, self.speaking, self.speaking_warmup
        return top * min(1, (at + 1) / warmup) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * at / length)))

    def to_dict(self) -> dict[str, object]:
        return asdict(self)
