"""A small corpus of smooth synthetic motion and a small codec fitted to it, for the tests of codec and pretraining."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import cache
from unittest.mock import patch

import numpy as np
import torch

from evaluate_kit import episode
from xtok.actions.layout import ARMS26, Layout, get_layout
from xtok.codec.base import Codec
from xtok.codec.config import CodecConfig, GaussianConfig
from xtok.codec.storage import make_codec
from xtok.data.episode import Episode
from xtok.pretrain.corpus import Corpus
from xtok.pretrain.initialise import initialise
from xtok.recipes import tiny

ONE_ARM, TWO_ARMS, JOINT_ROBOT = "panda", "baxter", "cr5"


def episodes(layout: Layout, count: int = 6, frames: int = 120) -> list[Episode]:
    """arms26: `count` episodes of a robot with the right arm alone and as many of one with both; joints: one robot."""
    if layout != ARMS26:
        return [replace(episode(layout, frames, index), embodiment=JOINT_ROBOT) for index in range(count)]
    single = [replace(episode(layout, frames, index), embodiment=ONE_ARM) for index in range(count)]
    return single + [_with_left_arm(episode(layout, frames, index + 100)) for index in range(count)]


@cache
def corpus(layout_name: str = "arms26") -> Corpus:
    layout = get_layout(layout_name)
    return Corpus(layout, episodes(layout))


TINY = GaussianConfig(
    hidden=16, heads=2, encoder_layers=1, codebook_size=32, code_dim=8, prior_rank=16, semantic_dims=4
)
LINEAR = replace(tiny().codec, linear_path=True)  # both ways from motion to codes


def fitted_codec(kind: str = "gaussian", layout_name: str = "arms26") -> Codec:
    """A codec of its own, with codebooks (and priors) but untrained networks."""
    config: CodecConfig = TINY if kind == "gaussian" else LINEAR
    return deepcopy(_fitted(replace(config, layout=layout_name)))


@cache
def _fitted(config: CodecConfig) -> Codec:
    torch.manual_seed(0)
    codec = make_codec(config)
    with small_samples():
        initialise(codec, corpus(config.layout), vectors=2000, iterations=3, progress=False)
    return codec


@contextmanager
def small_samples() -> Iterator[None]:
    """Priors and their calibration from fewer chunks than in earnest, for speed."""
    with (
        patch("xtok.pretrain.initialise.WINDOWS", 512),
        patch("xtok.pretrain.initialise.CALIBRATION", 2000),
    ):
        yield


def _with_left_arm(right: Episode) -> Episode:
    absolute_ND, mask_D = right.absolute_ND.copy(), right.mask_D.copy()
    for part in ("position", "rotation", "gripper"):
        left, source = (right.layout.slices[f"{side}_{part}"] for side in ("left", "right"))
        absolute_ND[:, left] = np.roll(right.absolute_ND[:, source], 7, axis=0)
        mask_D[left] = True
    return replace(right, absolute_ND=absolute_ND, mask_D=mask_D, embodiment=TWO_ARMS)
