"""Which frames the slots of a chunk look at, and what the teacher saw there. docs/method.md#teacher.

# B chunks, M slots, V views, W width of the teacher
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xtok.actions.types import FRAMES_PER_SLOT, slots
from xtok.data.origins import EpisodeKey, Origins


class Features(Protocol):
    """views [..., V, W], zero where view_mask [..., V] is False; text [..., W]. Arrays or tensors, float32."""

    views: Any
    view_mask: Any
    text: Any


class FrameFeatures(Protocol):
    """What the heads need of `xtok.semantics.store.FeatureStore`."""

    width: int
    views: tuple[str, ...]
    digest: str

    def __contains__(self, key: object) -> bool: ...
    def lookup(self, dataset: str, index: int, frames: Any, side: Any = ...) -> Any: ...


@dataclass(frozen=True)
class SlotFrames:
    """Frames of the episode, fractions too. at_BM: middle of each slot. after_B: right after the chunk; valid_*: there
    is such a frame."""

    at_BM: Float[Tensor, "B M"]
    valid_BM: Bool[Tensor, "B M"]
    after_B: Float[Tensor, " B"]
    valid_after_B: Bool[Tensor, " B"]


def slot_frames(origins: Origins, horizon: int) -> SlotFrames:
    """Slot i holds target steps 4i .. 4i + 3 and looks at step 4i + 1.5, at most the chunk's last.

    A chunk that was played backwards looks at nothing: a film backwards is another sub-task.
    """
    middle_M = torch.arange(slots(horizon)) * FRAMES_PER_SLOT + (FRAMES_PER_SLOT - 1) / 2
    step_M = middle_M.clamp(max=horizon - 1) + 1  # the anchor is step 0
    anchor_B, last_B = origins.anchor_B.double(), origins.last_B.double()
    at_BM = anchor_B[:, None] + origins.rate_B.double()[:, None] * step_M
    after_B = anchor_B + origins.rate_B.double() * (horizon + 1)
    forward_B = ~origins.reversed_B
    tiny = 1e-6  # rates are float32: a chunk that ends on the last frame is within
    return SlotFrames(
        torch.minimum(at_BM, last_B[:, None]),
        (at_BM <= last_B[:, None] + tiny) & forward_B[:, None],
        torch.minimum(after_B, last_B),
        (after_B <= last_B + tiny) & forward_B,
    )


@dataclass(frozen=True)
class TeacherFeatures:
    """Teacher features of a batch. valid: the features are there. words: equal numbers, equal words (sub-tasks)."""

    views_BMVW: Float[Tensor, "B M V W"]
    view_mask_BMV: Bool[Tensor, "B M V"]
    text_BMW: Float[Tensor, "B M W"]
    valid_BM: Bool[Tensor, "B M"]
    words_BM: Int[Tensor, "B M"]

    def to(self, device: torch.device) -> TeacherFeatures:
        return TeacherFeatures(*(tensor.to(device, non_blocking=True) for tensor in vars(self).values()))


@dataclass(frozen=True)
class CoTemporal:
    """slots: what was seen beside each slot. after: right after the chunk, M = 1."""

    slots: TeacherFeatures
    after: TeacherFeatures

    def to(self, device: torch.device) -> CoTemporal:
        return CoTemporal(self.slots.to(device), self.after.to(device))


def gather_features(store: FrameFeatures, origins: Origins, horizon: int) -> CoTemporal:
    """Features beside every slot and after every chunk; zeros, and not valid, where the store has none."""
    frames = slot_frames(origins, horizon)
    beside = _gather(store, origins, frames.at_BM, frames.valid_BM, "nearest")
    # The first sample after the frame: one before it would lie within the chunk.
    return CoTemporal(beside, _gather(store, origins, frames.after_B[:, None], frames.valid_after_B[:, None], "after"))


def present(store: FrameFeatures, keys: Iterable[EpisodeKey]) -> frozenset[EpisodeKey]:
    """Those that the store has features of."""
    return frozenset(key for key in keys if key in store)


def _gather(store: FrameFeatures, origins: Origins, frames_BM: Tensor, valid_BM: Tensor, side: str) -> TeacherFeatures:
    B, M = frames_BM.shape
    V, W = len(store.views), store.width
    views, mask, text = np.zeros((B, M, V, W), np.float32), np.zeros((B, M, V), bool), np.zeros((B, M, W), np.float32)
    known_B = torch.tensor([key in store for key in origins.episode_B], dtype=torch.bool)
    valid_BM = valid_BM & known_B[:, None]
    for row, (dataset, index) in enumerate(origins.episode_B):
        if valid_BM[row].any():
            found = store.lookup(dataset, index, frames_BM[row].numpy(), side=side)
            views[row], mask[row], text[row] = found.views, found.view_mask, found.text
    shown = valid_BM.numpy()
    views, mask, text = views * shown[..., None, None], mask & shown[..., None], text * shown[..., None]
    return TeacherFeatures(
        torch.from_numpy(views),
        torch.from_numpy(mask),
        torch.from_numpy(text),
        valid_BM,
        origins.words_at(frames_BM),
    )
