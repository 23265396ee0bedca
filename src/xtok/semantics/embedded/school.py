"""Scenes that the embedded teacher learns from, in memory: pictures, label maps, things, and what can be asked.

# N pictures, S side of a picture
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xtok.data.digests import digest_of
from xtok.semantics.embedded.eyes import SIDE
from xtok.semantics.embedded.lessons import Asked, SeenScene, Thing
from xtok.semantics.embedded.model import VIEW_NUMBER


@dataclass
class School:
    """pictures uint8 [N, S, S, 3], labels uint8 [N, S, S]. kinds, colours: words that things have, from what was added,
    for the parts of training that look at cells; number 0 is nothing, and no colour."""

    things: list[tuple[Thing, ...]] = field(default_factory=list)
    asked: list[tuple[Asked, ...]] = field(default_factory=list)
    views: list[int] = field(default_factory=list)
    episodes: list[str] = field(default_factory=list)
    _pictures: list[np.ndarray] = field(default_factory=list)
    _labels: list[np.ndarray] = field(default_factory=list)

    def add(self, scenes: Iterable[SeenScene], progress: Callable[[int], Any] = lambda _: None) -> None:
        """Raises ValueError for pictures of another size than the eyes have."""
        for scene in scenes:
            if scene.picture.shape != (SIDE, SIDE, 3):
                raise ValueError(
                    f"a picture is {list(scene.picture.shape)}; training wants {SIDE} x {SIDE}: "
                    f"`xtok teacher scenes --image-size {SIDE}`"
                )
            self._pictures.append(scene.picture[None])
            self._labels.append(scene.labels[None])
            self.things.append(scene.things)
            self.asked.append(scene.asked)
            self.views.append(VIEW_NUMBER[scene.view])
            self.episodes.append(scene.episode)
            progress(1)

    def __len__(self) -> int:
        return len(self.things)

    def arrays(self) -> tuple[Tensor, Tensor]:
        """Of all pictures: uint8 [N, S, S, 3] and [N, S, S].

        Raises:
            ValueError: there are none.
        """
        if not self._pictures:
            raise ValueError("nothing to learn from; give folders of `xtok teacher scenes`")
        if len(self._pictures) > 1:
            self._pictures, self._labels = [np.concatenate(self._pictures)], [np.concatenate(self._labels)]
        return torch.from_numpy(self._pictures[0]), torch.from_numpy(self._labels[0])

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(sorted({thing.kind for things in self.things for thing in things}))

    @property
    def colours(self) -> tuple[str, ...]:
        return tuple(sorted({thing.colour for things in self.things for thing in things if thing.colour}))

    def answers(self) -> Counter[tuple[str, str]]:
        """How often each kind of question has each answer; those that point count by kind alone."""
        return Counter(answer_key(row) for rows in self.asked for row in rows)

    @property
    def digest(self) -> str:
        pictures, _ = self.arrays()
        means = pictures[:: 1 + len(pictures) // 256].float().mean((1, 2, 3))
        rows = [[(row.text, row.answer) for row in rows] for rows in self.asked]
        return digest_of(rows=rows, brightness=[round(value, 3) for value in means.tolist()])


def answer_key(row: Asked) -> tuple[str, str]:
    return row.kind, "" if row.kind in ("point", "target", "caption", "doing") else row.answer
