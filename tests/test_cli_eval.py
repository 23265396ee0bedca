"""`xtok eval` as it is used: its bar, its tables, how it knows a robot, and the FAST that a replay goes through."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import evaluate_kit as kit
from xtok import Tokenizer
from xtok.actions.layout import ARMS26
from xtok.benchmark.replay import _baselines
from xtok.benchmark.tokenizer import robots_known_by
from xtok.cli.main import main
from xtok.cli.progress import progress_bar
from xtok.cli.table import table
from xtok.data import iter_chunks, open_dataset, sample_path, select
from xtok.evaluate import Budget, Evaluation, evaluate_dataset, render
from xtok.evaluate.comparison import remedy


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_stands_before_anything_slow_and_tells_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Terminal()
    monkeypatch.setattr("sys.stderr", shown)
    with progress_bar("eval") as tell:
        assert "eval: starting" in shown.getvalue()
        tell.within(0.5, 1.0, "T 8: ")("fitting fast", 0.5)
        tell("an earlier share", 0.1)  # never back
    parts = re.findall(r"eval: (.*?)  +(\d+) %", shown.getvalue())
    assert ("T 8: fitting fast", "75") in parts or ("an earlier share", "75") in parts


def test_without_a_terminal_there_are_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("xtok.cli.progress.LINE_EVERY_S", 0.0)
    with progress_bar("eval") as tell:
        tell("fitting fast", 0.25)
    assert capsys.readouterr().err.splitlines() == ["xtok: starting", "xtok: 25 %, fitting fast"]


def test_the_command_prints_both_tables_and_writes_what_they_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "eval.json"
    argv = ["eval", "--data", str(sample_path()), "--baselines", "fast", "--horizons", "8", "--chunks", "24"]
    assert main([*argv, "--json", str(path)]) == 0
    told, result = capsys.readouterr(), json.loads(path.read_text())
    assert "starting" in told.err.splitlines()[0]
    lines = told.out.splitlines()
    assert lines[:-1] == table(result)
    xtok = result["horizons"]["8"]["xtok"]
    headings = lines[1].split()
    assert headings[:5] == ["T", "tokenizer", "tokens", "bits", "entropy"]
    row = dict(zip(headings, lines[2].split(), strict=True))
    assert row["mm/fast"] == f"{xtok['at_equal_bits']['fast']['position_mm']:.2f}"
    assert row["entropy"] == f"{xtok['entropy_bits_mean']:.0f}"
    form = {"tangent-rest": "as rotation vectors, 0 at rest", "tangent": "as rotation vectors"}[
        result["fast_fit"]["8"]["form"]
    ]
    (curve,) = [line for line in lines if f"fast ({form})" in line]
    ratios = [point["over"]["fast"]["l1"] for point in xtok["curve"]]
    assert "l1 " + " ".join(f"{'-' if r is None else f'{r:.2f}':>5}" for r in ratios) in curve
    assert result["robots_known_by"] is None  # trained on the panda


def test_a_pool_of_the_robot_itself_is_an_error_with_a_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--data", str(sample_path()), "--pool", str(sample_path())]) == 2
    error = capsys.readouterr().err
    assert "no train episode of another robot than panda" in error and "give folders of other robots" in error


def with_known(known: dict[str, str] | None) -> Evaluation:
    statistics = kit.statistics(ARMS26)
    return evaluate_dataset(
        kit.dataset(ARMS26, [60] * 5),
        {"step": kit.StepTokenizer(statistics)},
        statistics,
        {"step": None},
        (8,),
        baselines=(),
        budget=Budget(8, 8, 8),
        robots_known_by=known,
    )


def test_the_report_names_the_remedy_where_there_is_one() -> None:
    evaluation = with_known({"Franka": "ranges"})
    for how, words in (("ranges", "known by its ranges alone"), ("measured", "known by closed forms")):
        html = render(replace(evaluation, result=evaluation.result | {"robots_known_by": {"Franka": how}}))
        assert "xtok adapt DATA -o mine" in html and words in html
    for fine in ({"Franka": "trained"}, {"Franka": "adapted"}, None):
        result: dict[str, Any] = evaluation.result | {"robots_known_by": fine}
        assert remedy(result) is None and "xtok adapt" not in render(replace(evaluation, result=result))
    with pytest.raises(ValueError, match=r"known by \['heart'\]; expected some of \['trained'"):
        with_known({"Franka": "heart"})


def test_a_robot_known_by_its_ranges_is_told() -> None:
    tokenizer = Tokenizer.from_pretrained("arms26")
    assert robots_known_by(tokenizer, ["panda"]) is None
    statistics = replace(kit.statistics(ARMS26)["Franka"], embodiment="Franka")
    assert robots_known_by(tokenizer.with_ranges(statistics), ["panda", "Franka"]) == {"Franka": "ranges"}


def test_replays_go_through_the_best_form_of_fast() -> None:
    tokenizer, sample = Tokenizer.from_pretrained("arms26"), open_dataset(sample_path())
    (chunks,) = iter_chunks(select(sample, "heldout"), 16, 16, batch_size=1 << 20)
    train = [sample[0], sample[1]]
    found = _baselines(tokenizer, tokenizer.encode_rates(chunks), ("fast",), train, chunks)
    coders, about = found.coders, found.to_json()
    assert list(coders) == [f"fast~{level}" for level in (1, 2, 3, 4)]
    means = about["fast"]["chosen_on_train"]["mean_l1_at_equal_bits"]
    assert about["fast"]["form"] == min(means, key=means.get)
    bits = [about[name]["bits_on_held_out_chunks"] for name in coders]
    assert bits == sorted(bits)
    assert {about[name]["form"] for name in coders} == {about["fast"]["form"]}
    assert [about[name]["scale"] for name in coders] == sorted(about[name]["scale"] for name in coders)
