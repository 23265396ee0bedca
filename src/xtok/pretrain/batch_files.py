"""Drawn chunks as tensors and JSON, and back: a batch that a run failed on can be looked at and run again."""

from __future__ import annotations

from typing import Any

from xtok.actions.layout import get_layout
from xtok.actions.types import ChunkBatch, Context
from xtok.data.origins import Origins, WordsTable
from xtok.data.sampler import Drawn
from xtok.engine import Kept


def keep_drawn(drawn: Drawn) -> Kept:
    """Chunks and origins; `about` has a line on each chunk."""
    context, origins = drawn.chunks.context, drawn.origins
    assert context.anchor_BD is not None
    tensors = {
        "target_BTD": drawn.chunks.target_BTD,
        "anchor_BD": context.anchor_BD,
        "mask_BD": context.mask_BD,
        "control_hz_B": context.control_hz_B,
        "anchor_B": origins.anchor_B,
        "rate_B": origins.rate_B,
        "last_B": origins.last_B,
        "reversed_B": origins.reversed_B,
    }
    words = WordsTable.of(origins.words)
    tensors |= {f"words/{name}": getattr(words, name) for name in ("cut_S", "key_S", "until_E")}
    chunks = [
        {"embodiment": robot, "dataset": dataset, "episode": index, "frame": int(frame)}
        for robot, (dataset, index), frame in zip(context.embodiment, origins.episode_B, origins.anchor_B, strict=True)
    ]
    return Kept(tensors, {"layout": context.layout.name, "horizon": context.horizon, "chunks": chunks})


def restore_drawn(kept: Kept) -> Drawn:
    """Inverse of `keep_drawn`."""
    t = kept.tensors
    about: dict[str, Any] = dict(kept.about)
    chunks = about["chunks"]
    context = Context(
        get_layout(about["layout"]),
        t["anchor_BD"],
        t["mask_BD"],
        t["control_hz_B"],
        tuple(chunk["embodiment"] for chunk in chunks),
        about["horizon"],
    )
    origins = Origins(
        tuple((chunk["dataset"], chunk["episode"]) for chunk in chunks),
        t["anchor_B"],
        t["rate_B"],
        t["last_B"],
        t["reversed_B"],
        WordsTable(*(t[f"words/{name}"] for name in ("cut_S", "key_S", "until_E"))),
    )
    return Drawn(ChunkBatch(t["target_BTD"], context), origins)
