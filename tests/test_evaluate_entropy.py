"""Bits behind an entropy coder: against scipy's entropies, and what never occurred in training."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy

import evaluate_kit as kit
from xtok.actions.layout import JOINTS
from xtok.actions.types import Codes
from xtok.evaluate import rate
from xtok.evaluate.coded import Coded
from xtok.evaluate.entropy import SMOOTHING, entropy_bits_mean


def sequences(seed: int, V: int, chunks: int, skew: float) -> Codes:
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.full(V, skew))
    return Codes(tuple(rng.choice(V, rng.integers(3, 9), p=share) for _ in range(chunks)), V)


@pytest.mark.parametrize(("V", "skew"), [(16, 0.2), (64, 1.0), (300, 0.05)])
def test_it_is_the_cross_entropy_of_the_tokens(V: int, skew: float) -> None:
    """Entropy plus divergence, by scipy, times the tokens of a chunk."""
    train, test = sequences(1, V, 400, skew), sequences(2, V, 50, skew)
    seen = np.bincount(np.concatenate(train.tokens), minlength=V) + SMOOTHING
    paid = np.bincount(np.concatenate(test.tokens), minlength=V)
    a_token = entropy(paid, base=2) + entropy(paid, seen, base=2)
    tokens = sum(map(len, test.tokens)) / 50
    assert entropy_bits_mean(train, test) == pytest.approx(a_token * tokens)


def test_even_tokens_cost_their_bits_and_a_constant_nothing() -> None:
    even = Codes(tuple(np.arange(64) for _ in range(200)), 64)
    assert entropy_bits_mean(even, even) == pytest.approx(64 * 6)
    constant = Codes(tuple(np.full(8, 3) for _ in range(5000)), 64)
    assert entropy_bits_mean(constant, constant) < 0.02
    unseen = Codes((np.array([5]),), 64)
    assert entropy_bits_mean(constant, unseen) == pytest.approx(math.log2((40_000 + 64 * SMOOTHING) / SMOOTHING))


def test_levels_are_vocabularies_of_their_own() -> None:
    """The place in the sequence tells the level, so two constant levels cost nothing though their ids differ."""
    grid = torch.tensor([1, 2]).expand(4000, 2, 2)
    apart = Codes.from_grid(grid, 64)
    mixed = Codes(apart.tokens, 64)
    assert entropy_bits_mean(apart, apart) < 0.1
    assert entropy_bits_mean(mixed, mixed) == pytest.approx(4.0, rel=0.01)


def test_every_rate_has_its_own_and_none_without_train_chunks() -> None:
    statistics, chunks = kit.statistics(JOINTS), kit.chunks(JOINTS, horizon=16)
    train = kit.chunks(JOINTS, horizon=16, episodes=3, stride=1)
    answers = dict(rate.run(Coded(kit.StepTokenizer(statistics), chunks, train), statistics))
    points = answers["rate_distortion"]
    assert isinstance(points, list)
    for levels, point in enumerate(points, 1):
        step = kit.StepTokenizer(statistics, levels)
        assert point.entropy_bits == pytest.approx(entropy_bits_mean(step.encode(train), step.encode(chunks)))
    assert answers["entropy_bits_mean"] == points[-1].entropy_bits
    bare = dict(rate.run(Coded(kit.StepTokenizer(statistics), chunks), statistics))
    assert bare["entropy_bits_mean"] is None
