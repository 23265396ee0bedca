"""Books placed on a corpus: which robots share them, and which have their own."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import pytest
import torch

import synthetic
from synthetic import ONE_ARM, TWO_ARMS
from xtok.codec.gaussian import GaussianCodec
from xtok.pretrain.initialise import initialise, refit_codebooks, validation_l1
from xtok.recipes import tiny


def placed(own: tuple[str, ...]) -> GaussianCodec:
    codec = GaussianCodec(synthetic.TINY)
    with synthetic.small_samples(), patch("xtok.pretrain.initialise.OWN_VECTORS", 2000):
        initialise(codec, synthetic.corpus(), vectors=2000, iterations=3, progress=False, own=own)
    return codec


def test_a_robot_with_details_of_its_own_leaves_the_shared_ones_to_the_others() -> None:
    codec = placed((ONE_ARM,))
    assert list(codec.residual.per_robot) == [ONE_ARM]
    assert not codec.coarse.per_robot  # q0 is one language for all
    one = synthetic.corpus().of(ONE_ARM)
    alone = sum(validation_l1(codec, one))
    del codec.residual.per_robot[ONE_ARM]
    codec.add_robot(replace(codec.robots[ONE_ARM], slotwise=None))
    assert sum(validation_l1(codec, one)) > alone  # books placed on two arms fit one arm worse than its own

    codec.residual.add(ONE_ARM)
    with synthetic.small_samples():
        refit_codebooks(codec, synthetic.corpus(), 0, 2000, 3, progress=False)
    assert not codec.residual.per_robot  # books placed anew leave none of before


def test_the_rest_of_a_corpus_weighs_by_its_frames() -> None:
    corpus = synthetic.corpus()
    rest = corpus.without((ONE_ARM,))
    assert set(rest.statistics) == {TWO_ARMS}
    assert {source.weight for source in rest.train} == {1.0}
    drawn = rest.sample(16, 32, torch.Generator().manual_seed(0))
    assert set(drawn.context.embodiment) == {TWO_ARMS}
    assert set(corpus.statistics) == {ONE_ARM, TWO_ARMS}
    with pytest.raises(ValueError, match="not in the corpus"):
        corpus.without(("sim_panda",))
    with pytest.raises(ValueError, match="is left"):
        corpus.without((ONE_ARM, TWO_ARMS))


def test_a_recipe_whose_robots_share_nothing_wants_no_own_details() -> None:
    codec = replace(synthetic.TINY, layout="joints", per_robot=True, coarse_space="principal")
    with pytest.raises(ValueError, match=r"codebooks\.own"):
        tiny().varied(steps=0, codec=codec, codebooks={"own": ("cr5",)})
