"""A small codec fitted to the packaged Panda sample and one synthetic two-armed robot, and chunks to try it on.

# B chunks, T frames, D channels
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cache
from unittest.mock import patch

import numpy as np
import torch
from torch import nn

import synthetic
from xtok import Tokenizer
from xtok.actions.layout import ARMS26
from xtok.actions.statistics import Statistics
from xtok.actions.types import ChunkBatch, concatenate
from xtok.codec.config import small
from xtok.codec.gaussian import GaussianCodec
from xtok.data import Episode, iter_chunks, open_dataset, sample_path, select
from xtok.pretrain.corpus import Corpus
from xtok.pretrain.initialise import initialise

PANDA, TWO_ARMS, UNSEEN = "panda", synthetic.TWO_ARMS, "none:unseen"
CODES = 256
ALL_HORIZONS = range(8, 65)


@cache
def episodes(split: str) -> Sequence[Episode]:
    """Of the packaged sample; one of its six episodes is held out."""
    return select(open_dataset(sample_path()), split)


@cache
def chunks(horizon: int = 18, stride: int = 16, split: str = "heldout") -> ChunkBatch:
    """Panda chunks: at most 256."""
    return next(iter_chunks(episodes(split), horizon, stride, short="skip"))


@cache
def two_arm_chunks(horizon: int = 18, stride: int = 16) -> ChunkBatch:
    pair = [e for e in synthetic.episodes(ARMS26, count=1) if e.embodiment == TWO_ARMS]
    return next(iter_chunks(pair, horizon, stride))


def renamed(batch: ChunkBatch, embodiment: str, *, anchored: bool = True) -> ChunkBatch:
    """The same motion as if another robot (or nobody in particular) had made it."""
    context = replace(batch.context, embodiment=(embodiment,) * len(batch))
    return ChunkBatch(batch.target_BTD, context if anchored else replace(context, anchor_BD=None))


def mixed(horizon: int = 18) -> ChunkBatch:
    """Three robots in one batch, rows in no order: one arm, two arms, "none"."""
    parts = [chunks(horizon)[:4], two_arm_chunks(horizon)[:3], renamed(chunks(horizon)[4:6], "none")]
    together = concatenate(parts)
    return concatenate([together[row : row + 1] for row in (5, 0, 7, 3, 8, 1, 4, 6, 2)])


def unseen_statistics(name: str = UNSEEN) -> Statistics:
    """Ranges of a robot that the tokenizer was not fitted on."""
    return replace(tokenizer().statistics[PANDA], embodiment=name)


@cache
def tokenizer() -> Tokenizer:
    """Shared by all tests: change a `fresh_codec()` instead.

    Its semantic encoder is random, so that it takes part in what is tested.
    """
    codec = deepcopy(quiet_codec())
    torch.manual_seed(1)
    assert codec.semantic_encoder is not None
    for block in codec.semantic_encoder.blocks:
        for layer in (block.attention.out, block.feed[2]):
            nn.init.normal_(layer.weight, std=0.02)
    nn.init.normal_(codec.semantic_encoder.out.weight, std=0.1)
    return Tokenizer(codec, name="kit")


@cache
def quiet_codec() -> GaussianCodec:
    """Priors and books fitted, the network still zero."""
    torch.manual_seed(0)
    codec = GaussianCodec(replace(small(), hidden=64, codebook_size=CODES, prior_rank=64, semantic_dims=4))
    two_arms = [e for e in synthetic.episodes(ARMS26, count=3) if e.embodiment == TWO_ARMS]
    corpus = Corpus(ARMS26, [*episodes("train"), *two_arms])
    with patch("xtok.pretrain.initialise.WINDOWS", 512), patch("xtok.pretrain.initialise.CALIBRATION", 2000):
        initialise(codec, corpus, vectors=8000, iterations=3, progress=False)
    return codec


def fresh_codec() -> GaussianCodec:
    """A copy that a test may spoil."""
    codec = deepcopy(tokenizer().codec)
    assert isinstance(codec, GaussianCodec)
    return codec


def bare_codec(layout: str = "arms26") -> GaussianCodec:
    """Networks only: no robot, no generic prior, empty books."""
    return GaussianCodec(replace(small(layout), hidden=32, codebook_size=16, prior_rank=8))


def smooth_joints(horizon: int, count: int, seed: int, frames: int = 400) -> np.ndarray:
    """[count, horizon + 1, 64] absolute joints of "cr5" (six joints, one gripper); the first frame is the anchor."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(frames) / 20.0
    waves = sum(rng.normal(size=7) / k * np.sin(0.9 * k * time_s[:, None] + rng.uniform(0, 6, 7)) for k in (1, 2, 3))
    absolute = np.zeros((frames, 64), dtype=np.float32)
    absolute[:, :6], absolute[:, 60] = waves[:, :6], waves[:, 6] > 0
    starts = rng.integers(0, frames - horizon - 1, count)
    return np.stack([absolute[s : s + horizon + 1] for s in starts])
