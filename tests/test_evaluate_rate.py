"""Bits, rate-distortion, and the comparison with FAST at equal bits."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import evaluate_kit as kit
from xtok.actions.layout import ARMS26, JOINTS
from xtok.actions.types import Codes, concatenate
from xtok.baselines.fast import FastTokenizer
from xtok.data import iter_chunks
from xtok.evaluate import rate
from xtok.evaluate.fit import spread_within, stride_within
from xtok.evaluate.rate import RatePoint, bits_mean, l1_ratio_at_equal_bits
from xtok.evaluate.sweep import STEP_MAX, sweep_around

SWEEP = [RatePoint(300.0, 0.002), RatePoint(100.0, 0.02)]


def test_bits_are_tokens_times_log2_of_the_vocabulary() -> None:
    codes = Codes((np.arange(3), np.arange(5)), vocab_size=2048)
    assert bits_mean(codes) == pytest.approx(4 * 11)


def test_prefixes_cost_more_and_err_less() -> None:
    chunks, statistics = kit.chunks(JOINTS, horizon=16), kit.statistics(JOINTS)
    answers = dict(rate.run(kit.StepTokenizer(statistics), chunks, statistics))
    points = answers["rate_distortion"]
    assert isinstance(points, list)
    assert [point.bits for point in points] == [16.0, 32.0, 48.0]  # 4 slots of 1, 2, 3 digits of 4 bits
    assert answers["bits_mean"] == 48.0 and answers["tokens_mean"] == 12.0
    assert points[0].l1 > points[1].l1 > points[2].l1


def test_log_l1_is_interpolated_linearly_in_bits() -> None:
    assert l1_ratio_at_equal_bits(200.0, 0.003, SWEEP).ratio == pytest.approx(0.003 / math.sqrt(0.002 * 0.02))
    assert l1_ratio_at_equal_bits(100.0, 0.02, SWEEP).ratio == pytest.approx(1.0)


@given(st.floats(100.0, 300.0), st.floats(1e-6, 1.0))
def test_the_ratio_lies_between_those_at_the_neighbours(bits: float, l1: float) -> None:
    ratio = l1_ratio_at_equal_bits(bits, l1, SWEEP).ratio
    assert ratio is not None and l1 / 0.02 * (1 - 1e-9) <= ratio <= l1 / 0.002 * (1 + 1e-9)


@pytest.mark.parametrize("bits", [99.0, 301.0])
def test_nothing_is_extrapolated(bits: float) -> None:
    equal = l1_ratio_at_equal_bits(bits, 0.01, SWEEP)
    assert equal.ratio is None
    assert equal.reason is not None and "outside FAST's sweep (100.0 to 300.0 bits)" in equal.reason


def test_without_fast_there_is_a_reason() -> None:
    assert l1_ratio_at_equal_bits(100.0, 0.01, []) == rate.EqualBits(None, "FAST was not evaluated")


def test_the_sweep_encloses_the_bits_in_small_steps_and_leads_with_the_nearest() -> None:
    train, statistics = kit.chunks(ARMS26, horizon=16, episodes=3), kit.statistics(ARMS26)
    fits: list[float] = []

    def fit(scale: float) -> FastTokenizer:
        fits.append(scale)
        return FastTokenizer(statistics, scale).fit([train])

    sweep = sweep_around("fast", fit, train, bits=(60.0, 176.0), bits_headline=120.0)
    bits = [bits_mean(point.encode(train)) for point in sweep.rate_points()]
    scales = sorted(fits)
    assert len(fits) == len(set(fits)) <= 16
    assert min(bits) <= 60.0 and max(bits) >= 176.0
    inside = [s for s, b in zip(scales, bits, strict=True) if 60.0 <= b <= 176.0]
    assert all(right / left <= STEP_MAX * 1.001 for left, right in pairwise(inside))
    assert abs(math.log(bits_mean(sweep.encode(train)) / 120.0)) == min(abs(math.log(b / 120.0)) for b in bits)


def test_the_stride_is_the_smallest_that_stays_within_the_budget() -> None:
    episodes = [kit.episode(ARMS26, frames, 0) for frames in (100, 57)]
    assert stride_within(episodes, 8, max_chunks=1000) == 1
    stride = stride_within(episodes, 8, max_chunks=40)

    def count(stride: int) -> int:
        return sum(len(range(1, frames - 8 + 1, stride)) for frames in (100, 57))

    assert count(stride) <= 40 < count(stride - 1)
    assert spread_within(episodes, 8, max_chunks=40) == (stride, False)


def test_many_short_episodes_show_more_than_their_beginnings() -> None:
    episodes = [kit.episode(ARMS26, 20, seed) for seed in range(10)]  # 12 chunks each
    stride, runs_on = spread_within(episodes, 8, max_chunks=7)
    assert (stride, runs_on) == (18, True)
    chunks = concatenate(list(iter_chunks(episodes, 8, stride, runs_on=runs_on)))
    assert len(chunks) == 7
