"""A whole data set through `evaluate_dataset`: the JSON has no holes, the report is one file that fetches nothing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

import evaluate_kit as kit
from xtok.actions.layout import ARMS26, JOINTS, Layout
from xtok.actions.statistics_fit import fit_statistics
from xtok.actions.types import Actions, Codes, Context
from xtok.baselines.bins import BinTokenizer
from xtok.data.open import open_dataset
from xtok.data.splits import select
from xtok.evaluate import Budget, Evaluation, evaluate, evaluate_dataset, render, to_json, write_report
from xtok.evaluate.charts import Axis
from xtok.evaluate.formatting import format_figure, format_percent
from xtok.evaluate.run import ENTRY_KEYS

SMALL = Budget(evaluated=24, fitted=60)


def evaluated(layout: Layout) -> Evaluation:
    statistics = kit.statistics(layout)
    return evaluate_dataset(
        kit.dataset(layout, [90] * 9 + [30]),
        {"step": kit.StepTokenizer(statistics)},
        statistics,
        weights={"step": None},
        horizons=(8, 32),
        budget=SMALL,
    )


@pytest.fixture(scope="module")
def arms() -> Evaluation:
    return evaluated(ARMS26)


def test_every_entry_answers_every_question(arms: Evaluation) -> None:
    result = json.loads(to_json(arms.result))
    assert list(result["horizons"]) == ["8", "32"]
    for entries in result["horizons"].values():
        assert list(entries) == ["step", "fast", "bins"]
        for entry in entries.values():
            assert tuple(entry) == ENTRY_KEYS
            assert entry["joint"] is None and entry["position_mm"] > 0
            assert set(entry["wer"]) == {"0.002", "0.004", "0.006", "0.008"}
            assert (entry["l1_vs_fast_at_equal_bits"] is None) == (entry["l1_vs_fast_reason"] is not None)
        assert entries["fast"]["q0_flip"] is None and len(entries["step"]["usage"]) == 3
        assert entries["fast"]["l1_vs_fast_at_equal_bits"] == pytest.approx(1.0)
        for entry in entries.values():
            assert entry["at_equal_bits"]["fast"]["l1"] == entry["l1_vs_fast_at_equal_bits"]
            assert [point["slots"] for point in entry["curve"]] == [1, 2, 3, 4]
            assert entry["entropy_bits_mean"] > 0
        assert all(point["over"]["fast"]["l1"] == pytest.approx(1.0) for point in entries["fast"]["curve"])
        step = [point["over"]["fast"] for point in entries["step"]["curve"]]
        assert all((row["l1"] is None) == (row["reason"] is not None) for row in step)
        assert [row["l1"] is None for row in step] == [False, False, False, True]  # it has three levels
        assert entries["bins"]["bits_mean"] == pytest.approx(8 * entries["bins"]["tokens_mean"])


def test_the_result_says_where_it_comes_from(arms: Evaluation) -> None:
    result = arms.result
    assert (result["dataset"], result["split"], result["episodes"]) == ("waves", "heldout", 2)
    assert result["episodes_used"] == {"8": 2, "32": 1}  # episodes 4 and 9; the latter has 30 frames
    assert max(result["chunks"].values()) <= SMALL.evaluated
    assert result["chunks"]["32"] == len(range(1, 90 - 32 + 1, result["chunk_stride"]["32"]))
    assert result["statistics"] == {"Franka": kit.statistics(ARMS26)["Franka"].digest}
    assert result["weights"] == {"step": None, "fast": None, "bins": None}
    assert result["versions"]["torch"] == torch.__version__
    assert result["fast_fit"]["8"]["chunks"] <= SMALL.fitted


@pytest.mark.parametrize("layout", [ARMS26, JOINTS], ids=lambda layout: layout.name)
def test_the_report_is_one_file_that_fetches_nothing(layout: Layout, tmp_path: Path) -> None:
    evaluation = evaluated(layout)
    write_report(evaluation, tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert html == render(evaluation)  # the same bytes for the same evaluation
    assert not re.search(r"https?:|<script|<link|@import|url\(|\bsrc=", html)
    drawings = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    assert len(drawings) > 8
    for drawing in drawings:
        ElementTree.fromstring(drawing)
        assert not re.search(r"\bnan\b|\binf\b", drawing)
    assert len(html) < 1_000_000


def test_names_from_outside_are_escaped(arms: Evaluation) -> None:
    evaluation = replace(arms, result=arms.result | {"dataset": "<script>alert(1)</script>"})
    assert "<script>" not in render(evaluation)


def test_only_finite_figures_are_written() -> None:
    statistics = kit.statistics(ARMS26)

    class Diverged(kit.StepTokenizer):
        def decode(self, codes: Codes, context: Context) -> Actions:
            actions = super().decode(codes, context)
            return replace(actions, delta_BTD=actions.delta_BTD * float("nan"))

    with pytest.raises(ValueError, match=r"step\.\w+ is nan"):
        evaluate({"step": Diverged(statistics)}, kit.chunks(ARMS26, 8), statistics, seed=0)
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"l1": float("inf")})


def test_what_cannot_be_evaluated_is_refused() -> None:
    statistics, waves = kit.statistics(ARMS26), kit.dataset(ARMS26, [30] * 5)
    tokenizer = kit.StepTokenizer(statistics)
    with pytest.raises(ValueError, match="no tokenizer"):
        evaluate_dataset(waves, {}, statistics, {})
    with pytest.raises(ValueError, match=r"\['fast'\] are tokenizers and baselines at once"):
        evaluate_dataset(waves, {"fast": tokenizer}, statistics, {"fast": None})
    with pytest.raises(ValueError, match=r"weights are given for \[\], tokenizers are \['step'\]"):
        evaluate_dataset(waves, {"step": tokenizer}, statistics, {})
    with pytest.raises(ValueError, match=r"unknown baselines \['fsq'\]"):
        evaluate_dataset(waves, {"step": tokenizer}, statistics, {"step": None}, baselines=["fsq"], horizons=[8])
    with pytest.warns(UserWarning, match="longer than 64"), pytest.raises(ValueError, match="use shorter horizons"):
        evaluate_dataset(waves, {"step": tokenizer}, statistics, {"step": None}, baselines=[], horizons=[64])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\N{EN DASH}"),
        (0, "0"),
        (0.0052345, "0.00523"),
        (1.2345, "1.23"),
        (352.0, "352"),
        (2048, "2,048"),
        (0.9999, "1.00"),
        (1e-9, "< 0.000001"),
    ],
)
def test_figures_have_three_digits(value: float | None, text: str) -> None:
    assert format_figure(value) == text


def test_shares_are_per_cent() -> None:
    texts = [format_percent(share) for share in (None, 0.0, 0.0312, 0.5, 1.445)]
    assert [text.replace("\N{NO-BREAK SPACE}", " ") for text in texts] == [
        "\N{EN DASH}",
        "0 %",
        "3.1 %",
        "50 %",
        "144 %",
    ]


def test_axes_put_round_ticks_inside() -> None:
    assert Axis(0.0, 1.0, 0.0, 100.0).ticks(5) == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert Axis(0.003, 0.03, 0.0, 100.0, log=True).ticks() == pytest.approx([0.005, 0.01, 0.02])
    assert Axis(0.01, 1.0, 0.0, 100.0, log=True)(np.array([0.1])) == pytest.approx([50.0])


@pytest.mark.realdata
def test_real_joints_are_compared_with_fast_at_equal_bits(shared_data: Path) -> None:
    robot = open_dataset(shared_data / "dobot-cr5-banana", layout="joints")
    train = [episode.absolute_ND for episode in select(robot, "train")]
    statistics = {"cr5": fit_statistics(robot.layout, "cr5", robot.control_hz, robot[0].mask_D, train)}
    tokenizer = BinTokenizer(statistics, bins=2)
    evaluation = evaluate_dataset(
        robot, {"bins2": tokenizer}, statistics, {"bins2": None}, (8,), budget=Budget(200, 600)
    )
    entries = evaluation.result["horizons"]["8"]
    assert evaluation.result["joint_unit"] == "rad" and evaluation.result["episodes"] == 16
    assert entries["bins2"]["bits_mean"] == 8 * 7  # frames; six joints and a gripper; one bit
    assert entries["bins2"]["l1_vs_fast_at_equal_bits"] > 10  # two bins say hardly anything
    curve = [(point["bits"], point["l1"]) for point in entries["fast"]["rate_distortion"]]
    assert curve == sorted(curve) and [l1 for _, l1 in curve] == sorted((l1 for _, l1 in curve), reverse=True)
    assert entries["fast"]["decode_failures"] == 0 and entries["fast"]["swap_failure_rate"] > 0.3
    assert "<svg" in render(evaluation)
