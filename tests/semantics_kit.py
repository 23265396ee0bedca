"""A teacher's features without a teacher: one direction for each place in an episode, in the interface of the store.

# B chunks, M slots, V views, W width
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any
from unittest.mock import patch

import numpy as np

import synthetic
from xtok.actions.layout import get_layout
from xtok.codec.config import GaussianConfig
from xtok.data import Episode
from xtok.data.episode import Segment
from xtok.pretrain import loop
from xtok.pretrain.corpus import Corpus
from xtok.pretrain.recipe import Recipe
from xtok.recipes import tiny

WIDTH, VIEWS = 12, ("face", "wrist")
FRAMES = 120


@dataclass(frozen=True)
class Shown:
    views: np.ndarray
    view_mask: np.ndarray
    text: np.ndarray


class FakeStore:
    """Features of some episodes: a slow wave of the frame number, the second view absent in odd episodes."""

    def __init__(self, keys: set[tuple[str, int]], digest: str = "fake") -> None:
        self.width, self.views, self.digest, self.keys = WIDTH, VIEWS, digest, keys

    def __contains__(self, key: object) -> bool:
        return key in self.keys

    def lookup(self, dataset: str, index: int, frames: Any, side: str = "nearest") -> Shown:
        frames = np.asarray(frames, dtype=np.float64)
        assert frames.min() >= 0
        assert frames.max() <= FRAMES - 1, "beyond the episode"
        at = (np.ceil if side == "after" else np.round)(frames)
        phase = np.arange(1, WIDTH + 1) * 0.3
        picture = np.sin(at[..., None] * phase / 10 + index)
        mask = np.ones((*frames.shape, 2), dtype=bool)
        mask[..., 1] = index % 2 == 0
        views = np.stack([picture, picture**2], axis=-2) * mask[..., None]
        text = np.cos(np.where(frames < FRAMES / 2, 1.0, 2.0)[..., None] * phase)
        return Shown(views.astype(np.float32), mask, text.astype(np.float32))


def episodes() -> list[Episode]:
    """The synthetic corpus, one index an episode, each of two sub-tasks."""
    return [
        replace(
            episode,
            dataset="fake",
            index=number,
            subtasks=(Segment(0, FRAMES // 2, "reach for it"), Segment(FRAMES // 2, FRAMES, "lift it")),
        )
        for number, episode in enumerate(synthetic.episodes(get_layout("arms26")))
    ]


def corpus() -> Corpus:
    return Corpus(get_layout("arms26"), episodes())


def store(digest: str = "fake") -> FakeStore:
    """Of all but the last episode of each robot."""
    return FakeStore({("fake", number) for number in range(12) if number not in (5, 11)}, digest)


def recipe(**changes: Any) -> Recipe:
    """`tiny` with a Gaussian codec whose semantic dimensions learn to align and predict.

    changes: fields of the recipe or of its parts, whose names differ.
    """
    base = {"align": True, "predict": True, "ramp": 0.0, "head_dim": 8, "head_hidden": 16, "forms": "none"}
    changes = {"trainable": "extra", "codec": synthetic.TINY, "name": "tiny_semantic", **base, **changes}
    parts: dict[str, dict[str, Any]] = {}
    for part in ("data", "optimiser", "masking", "alignment", "codebooks"):
        names = [field.name for field in fields(getattr(tiny(), part))]
        parts[part] = {name: changes.pop(name) for name in names if name in changes}
    return tiny().varied(**changes, **parts)


def config(**changes: Any) -> GaussianConfig:
    return replace(synthetic.TINY, **changes)


@contextmanager
def quick_training() -> Iterator[None]:
    """Priors and maps of heads from small samples; every path opens the synthetic corpus."""
    with (
        synthetic.small_samples(),
        patch.object(loop.Corpus, "open", classmethod(lambda cls, layout, paths, *_: corpus())),
        patch("xtok.pretrain.semantic.SCALE_CHUNKS", 32),
        patch("xtok.pretrain.semantic.SUBSTITUTE_BATCHES", 10),
    ):
        yield
