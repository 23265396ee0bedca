"""Corrupted code streams: how much is touched, what decodes, what is repaired, and that errors grow.

# B chunks, T frames
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import codec_kit
import evaluate_kit as kit
from xtok.actions.layout import ARMS26
from xtok.baselines.bins import BinTokenizer
from xtok.baselines.fast import FastTokenizer
from xtok.evaluate import Budget, corruption, evaluate_dataset, render, to_json
from xtok.evaluate.coded import Coded
from xtok.evaluate.corruption import KINDS, Corrupted

RATES = (0.0, 0.1, 0.4)


def points(tokenizer: object, chunks: object, statistics: object) -> dict[str, list[Corrupted]]:
    ((name, found),) = corruption.run(Coded(tokenizer, chunks), statistics, 0, RATES)  # type: ignore[arg-type]
    assert name == "corruption"
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_rate_is_the_share_that_is_touched(kind: str) -> None:
    rng, tokens = np.random.default_rng(0), np.arange(40)
    for rate in (0.0, 0.1, 0.37):
        changed = [KINDS[kind](tokens, rate, 64, rng) for _ in range(300)]
        assert all(0 <= out.min() and out.max() < 64 for out in changed)
        if kind == "flip":
            share = np.mean([(out != tokens).mean() for out in changed])
        elif kind in ("drop", "truncate"):
            share = np.mean([1 - len(out) / 40 for out in changed])
        else:
            assert all(sorted(out) == tokens.tolist() for out in changed)
            share = np.mean([(out != tokens).mean() for out in changed]) / (1.5 if rate else 1)
        assert share == pytest.approx(rate, abs=0.01 if kind != "swap" else 0.12)
    assert (KINDS["truncate"](tokens, 0.5, 64, rng) == tokens[:20]).all()


def test_ours_is_repaired_where_it_can_be_and_errs_more_with_every_rate() -> None:
    tokenizer, chunks = codec_kit.tokenizer(), codec_kit.chunks(18, 24)
    found = points(tokenizer, chunks, tokenizer.statistics)
    assert list(found) == ["flip", "drop", "swap", "truncate", "flip q0", "flip q1", "flip q2", "flip q3"]
    for kind, curve in found.items():
        assert [point.rate for point in curve] == list(RATES)
        assert {point.decoded + point.repaired + point.failed for point in curve} == {len(chunks)}
        assert (curve[0].decoded, curve[0].l1) == (len(chunks), found["flip"][0].l1)
        assert curve[0].l1 < curve[1].l1 and curve[0].position_mm is not None and curve[0].joint is None
        if kind.startswith(("flip", "swap")):
            assert {point.decoded for point in curve} == {len(chunks)}  # any codes are motion
        else:
            assert curve[1].decoded < len(chunks) and curve[1].repaired > 0
    assert found["flip q0"][2].l1 > found["flip q3"][2].l1  # coarse to fine


def test_baselines_fail_where_they_must() -> None:
    statistics, chunks = kit.statistics(ARMS26), kit.chunks(ARMS26, 16)
    for tokenizer in (FastTokenizer(statistics, 10.0).fit([chunks]), BinTokenizer(statistics)):
        found = points(tokenizer, chunks, statistics)
        assert list(found) == list(KINDS)
        assert all(point.repaired == 0 for curve in found.values() for point in curve)
        assert found["drop"][2].failed > 0.9 * len(chunks) and found["truncate"][2].failed == len(chunks)
    assert {point.failed for point in found["flip"]} == {0}  # bins: any ids of the right number


def test_the_same_seed_gives_the_same_curve() -> None:
    statistics, chunks = kit.statistics(ARMS26), kit.chunks(ARMS26, 16)
    tokenizer = kit.StepTokenizer(statistics)
    assert points(tokenizer, chunks, statistics) == points(tokenizer, chunks, statistics)


def test_the_report_draws_it_where_it_was_asked_for() -> None:
    statistics = kit.statistics(ARMS26)
    evaluation = evaluate_dataset(
        kit.dataset(ARMS26, [60] * 5),
        {"step": kit.StepTokenizer(statistics)},
        statistics,
        weights={"step": None},
        horizons=(16,),
        baselines=["bins"],
        budget=Budget(evaluated=12, fitted=20),
        corrupt=True,
    )
    found = json.loads(to_json(evaluation.result))["corruption"]
    assert (found["horizon"], found["chunks"]) == (16, evaluation.result["chunks"]["16"])
    assert list(found["tokenizers"]) == ["step", "bins"]
    assert [point["rate"] for point in found["tokenizers"]["bins"]["drop"]] == list(corruption.RATES)
    html = render(evaluation)
    assert "Corrupted codes" in html and html.count("error by rate") == 5  # four kinds, and the levels of one tokenizer
    assert "fails from: " in html and "bins 2\N{NO-BREAK SPACE}%" in html and "most decode" in html
    without = replace(evaluation, result=evaluation.result | {"corruption": None})
    assert "Corrupted codes" not in render(without)
