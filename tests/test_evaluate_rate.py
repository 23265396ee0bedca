"""Bits, rate-distortion, and the comparison with FAST at equal bits."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import interp1d

import evaluate_kit as kit
from xtok.actions.layout import ARMS26, JOINTS, Layout
from xtok.actions.types import Codes, concatenate
from xtok.data import iter_chunks
from xtok.evaluate import rate
from xtok.evaluate.coded import Coded
from xtok.evaluate.compare import Figures, Rival, at, curve, l1_ratio_at_equal_bits, ratios
from xtok.evaluate.rate import RatePoint, bits_mean
from xtok.evaluate.rivals import Rates, fit_fast
from xtok.evaluate.strides import spread_within, stride_within
from xtok.evaluate.sweep import STEP_MAX, Price, enclose, grid

SWEEP = [RatePoint(300.0, 0.002), RatePoint(100.0, 0.02)]


def test_bits_are_tokens_times_log2_of_the_vocabulary() -> None:
    codes = Codes((np.arange(3), np.arange(5)), vocab_size=2048)
    assert bits_mean(codes) == pytest.approx(4 * 11)


def test_prefixes_cost_more_and_err_less() -> None:
    chunks, statistics = kit.chunks(JOINTS, horizon=16), kit.statistics(JOINTS)
    answers = dict(rate.run(Coded(kit.StepTokenizer(statistics), chunks), statistics))
    points = answers["rate_distortion"]
    assert isinstance(points, list)
    assert [point.bits for point in points] == [16.0, 32.0, 48.0]  # 4 slots of 1, 2, 3 digits of 4 bits
    assert answers["bits_mean"] == 48.0 and answers["tokens_mean"] == 12.0
    assert points[0].l1 > points[1].l1 > points[2].l1


def test_log_l1_is_interpolated_linearly_in_bits() -> None:
    assert l1_ratio_at_equal_bits(200.0, 0.003, SWEEP).l1 == pytest.approx(0.003 / math.sqrt(0.002 * 0.02))
    assert l1_ratio_at_equal_bits(100.0, 0.02, SWEEP).l1 == pytest.approx(1.0)


@given(st.floats(100.0, 300.0), st.floats(1e-6, 1.0))
def test_the_ratio_lies_between_those_at_the_neighbours(bits: float, l1: float) -> None:
    ratio = l1_ratio_at_equal_bits(bits, l1, SWEEP).l1
    assert ratio is not None and l1 / 0.02 * (1 - 1e-9) <= ratio <= l1 / 0.002 * (1 + 1e-9)


@pytest.mark.parametrize("bits", [99.0, 301.0])
def test_nothing_is_extrapolated(bits: float) -> None:
    equal = l1_ratio_at_equal_bits(bits, 0.01, SWEEP)
    assert equal.l1 is None
    assert equal.reason == f"{bits} bits lie outside fast's sweep (100.0 to 300.0)"


def test_without_fast_there_is_a_reason() -> None:
    assert l1_ratio_at_equal_bits(100.0, 0.01, []) == Figures(reason="FAST was not evaluated")


CURVED = [
    RatePoint(bits=60.0, l1=0.04, tokens=6.0, position_mm=8.0, rotation_deg=4.0),
    RatePoint(bits=220.0, l1=0.01, tokens=20.0, position_mm=1.0, rotation_deg=2.0),
    RatePoint(bits=440.0, l1=0.002, tokens=40.0, position_mm=0.5, rotation_deg=0.0),
]


@pytest.mark.parametrize("tokens", [6.0, 8.0, 13.7, 20.0, 29.0, 40.0])
def test_every_figure_is_interpolated_by_its_own_logarithm(tokens: float) -> None:
    """Against scipy's interpolation of the logarithms."""
    found = at(Rival("fast", CURVED), "tokens", tokens)
    for figure in ("l1", "position_mm"):
        line = interp1d([p.tokens for p in CURVED], [math.log(getattr(p, figure)) for p in CURVED])
        assert getattr(found, figure) == pytest.approx(math.exp(line(tokens)))
    assert found.rotation_deg is None  # one of its points is zero and has no logarithm
    assert found.joint is None and found.reason is None


def test_the_curve_stands_at_m_to_4m_tokens_and_tells_where_it_cannot() -> None:
    own = [RatePoint(11.0 * t, e, float(t), position_mm=100 * e) for t, e in ((8, 0.03), (16, 0.02), (24, 0.01))]
    rivals = [Rival("fast", CURVED), Rival("fast-pooled", CURVED[1:], ("even at scale 1 it spends no less", None))]
    points = curve("xtok", own, horizon=32, rivals=rivals)
    assert [(p.slots, p.tokens) for p in points] == [(1, 8), (2, 16), (3, 24), (4, 32)]
    for p, point in zip(own, points, strict=False):
        assert p.tokens is not None
        assert point.own.l1 == pytest.approx(p.l1)  # at its own rates it is itself
        fast = at(rivals[0], "tokens", p.tokens)
        assert fast.l1 is not None and point.over["fast"].l1 == pytest.approx(p.l1 / fast.l1)
    pooled = [point.over["fast-pooled"] for point in points]
    assert pooled[0].l1 is None
    assert pooled[0].reason == (
        "8.0 tokens lie outside fast-pooled's sweep (20.0 to 40.0): even at scale 1 it spends no less"
    )
    assert pooled[2].l1 is not None
    last = points[3]  # three levels have no 4M tokens
    assert last.own.l1 is None and last.over["fast"].l1 is None and last.rivals["fast"].l1 is not None
    assert last.over["fast"].reason == "32.0 tokens lie outside xtok's sweep (8.0 to 24.0)"


def test_a_rate_that_errs_more_than_a_cheaper_one_is_not_taken() -> None:
    bent = [*CURVED, RatePoint(bits=250.0, l1=0.5, tokens=22.0, position_mm=9.0)]
    for tokens in (20.0, 22.0):
        assert at(Rival("fast", bent), "tokens", tokens).l1 == pytest.approx(0.01)
    assert at(Rival("fast", bent), "tokens", 22.0, best=False).l1 == pytest.approx(0.5)  # our own are told as they are
    own = curve("xtok", bent, horizon=88, rivals=[])[0]
    assert own.tokens == 22 and own.own.l1 == pytest.approx(0.5)


def test_a_rival_over_itself_is_one() -> None:
    own = at(Rival("fast", CURVED), "bits", 300.0)
    assert ratios(own, own).l1 == 1.0 and ratios(own, own).position_mm == 1.0


def spending(power: float, least: float = 1.0, most: float = math.inf) -> tuple[dict[float, Price], Any]:
    """A price that grows with a power of the scale, between two ends."""
    spent: dict[float, Price] = {}

    def spend(scale: float) -> Price:
        tokens = min(max(20.0 * scale**power, least), most)
        spent[scale] = Price(10.5 * tokens, tokens)  # fewer bits a token than ours: a small vocabulary
        return spent[scale]

    return spent, spend


@pytest.mark.parametrize("power", [0.2, 0.5, 1.0, 1.5])
def test_scales_enclose_bits_and_tokens_in_small_steps(power: float) -> None:
    low, high = Price(88.0, 8.0), Price(352.0, 32.0)
    spent, spend = spending(power)
    enclose(spend, low, high)
    assert min(p.tokens for p in spent.values()) <= 8.0 and max(p.bits for p in spent.values()) >= 352.0
    scales = grid(spent, low, high)
    prices = [spend(scale) for scale in scales]
    assert prices[0].tokens <= 8.0 * 1.01 and prices[0].tokens > 4.0  # reaches down, and no further than need be
    assert prices[-1].bits >= 352.0 * 0.99 and prices[-1].bits < 700.0
    assert all(right / left <= STEP_MAX * 1.001 for left, right in pairwise(scales))


@pytest.mark.parametrize(("least", "most"), [(12.0, math.inf), (1.0, 20.0), (12.0, 20.0)])
def test_a_set_that_cannot_spend_so_little_or_so_much_ends_the_search(least: float, most: float) -> None:
    spent, spend = spending(0.5, least, most)
    enclose(spend, Price(88.0, 8.0), Price(352.0, 32.0), scale_max=900.0)
    assert 1 < len(spent) < 30 and max(spent) <= 900.0
    assert max(grid(spent, Price(88.0, 8.0), Price(352.0, 32.0), 900.0)) <= 900.0


@pytest.mark.parametrize("layout", [ARMS26, JOINTS], ids=lambda layout: layout.name)
def test_the_sweep_reaches_from_m_to_4m_tokens_and_leads_with_the_nearest(layout: Layout) -> None:
    statistics = kit.statistics(layout)
    chunks, train = kit.chunks(layout, horizon=16), [kit.episode(layout, 120, seed) for seed in range(2, 8)]
    subject = Coded(kit.StepTokenizer(statistics), chunks)
    found = fit_fast(train, subject, statistics, max_chunks=200)
    spent = [Price.of(codes) for codes in found.coded.rate_codes]
    rates = Rates.of(subject)
    assert min(price.tokens for price in spent) <= 4 and max(price.tokens for price in spent) >= 16
    assert min(price.bits for price in spent) <= rates.low.bits
    assert max(price.bits for price in spent) >= rates.high.bits
    scales = list(found.sweep.by_scale)
    assert scales == sorted(scales) == found.how["scales"]
    assert all(right / left <= STEP_MAX * 1.001 for left, right in pairwise(scales))
    off = [abs(math.log(price.bits / rates.own_bits)) for price in spent]
    assert found.sweep.own_rate == off.index(min(off))
    again = found.sweep.encode_rates(chunks)  # the codes that fitting made are those of the sweep
    for known, codes in zip(found.coded.rate_codes, again, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(known.tokens, codes.tokens, strict=True))
    headline = found.sweep.encode(chunks)
    assert all(np.array_equal(a, b) for a, b in zip(headline.tokens, found.coded.codes.tokens, strict=True))


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
