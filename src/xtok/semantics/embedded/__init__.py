"""The teacher that needs no hub: eyes and host of our own, and words of SmolLM2-135M's first layers from its wheel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from xtok.data.digests import digest_of
from xtok.semantics.embedded.language import converted
from xtok.semantics.embedded.model import CONFIG, WEIGHTS, EmbeddedVLM, file_digest, is_weights, shipped

__all__ = ["EmbeddedTeacher", "EmbeddedVLM", "is_weights", "shipped"]


class EmbeddedTeacher:
    """See `xtok.semantics.teacher.Teacher`. Its layers are the host's; words are the reader's, whatever the layer.

    Raises:
        ValueError: no weights in the folder, or no such layer.
        ImportError: a wheel is missing.
    """

    def __init__(self, folder: Path, layer: int, name: str = "embedded") -> None:
        self.name, self.layer = name, layer
        self.model = EmbeddedVLM.load(folder)
        states = self.model.layers + 1
        if not -states <= layer < states:
            raise ValueError(f"the embedded teacher has {states} hidden states; layer {layer} is none of them")
        self.width = self.model.width
        weights = {name: file_digest(folder / name) for name in (WEIGHTS, CONFIG)}
        self.digest = digest_of(weights=weights, language=converted().name, layer=layer)

    def see(self, pictures: Sequence[np.ndarray]) -> Float[np.ndarray, "N W"]:
        return self.model.picture_states(self.model.see(pictures), self.layer).mean(1).cpu().numpy()

    def read(self, prompts: Sequence[str]) -> Float[np.ndarray, "P W"]:
        return np.stack([states.mean(0).cpu().numpy() for states in self.model.text_states(prompts)])
