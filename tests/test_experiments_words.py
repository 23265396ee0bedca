"""experiments/words_curve.py: rivals decode what they code, each has its own, and a stopped run goes on."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import evaluate_kit as kit
from xtok.actions.layout import ARMS26, JOINTS, Layout
from xtok.baselines.klt import fit_klt
from xtok.evaluate.rate import RatePoint
from xtok.pretrain.corpus import Corpus

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
LAYOUTS = pytest.mark.parametrize("layout", [ARMS26, JOINTS], ids=lambda layout: layout.name)
T = 8


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    curve = importlib.import_module("words_curve")
    yield SimpleNamespace(
        curve=curve, rivals=importlib.import_module("words_rivals"), tables=importlib.import_module("words_tables")
    )
    for name in ("words_curve", "words_rivals", "words_tables"):
        sys.modules.pop(name)


def robot(script: Any, layout: Layout, name: str | None = None) -> Any:
    episodes = [kit.episode(layout, 90, seed) for seed in range(5)]
    name = name or episodes[0].embodiment
    episodes = [replace(episode, embodiment=name) for episode in episodes]
    corpus = Corpus(layout, episodes[:4], validation=False)
    return script.curve.Robot(name, corpus.statistics[name], corpus, episodes[:4], episodes[4:])


@LAYOUTS
def test_coefficients_of_every_rival_stand_for_the_motion_itself(script: Any, layout: Layout) -> None:
    """Words are judged on `Robot.motion`: unrounded, each rival's way there and back must be that."""
    one = robot(script, layout)
    chunks = one.chunks(T, 12)
    for form in {form for forms in script.rivals.FORMS.values() for form in forms}:
        coder = script.rivals.Coder(one, form)
        given = coder.coefficients(chunks)
        assert torch.allclose(coder.motion(given.flat, chunks.context), one.motion(chunks), atol=1e-5)
        turned = script.rivals.Coder(one, form, fit_klt(given))
        values = turned.coefficients(chunks).flat
        assert not np.allclose(values, given.flat)
        assert torch.allclose(turned.motion(values, chunks.context), one.motion(chunks), atol=1e-5)
        decoded = one.actions(one.motion(chunks), chunks.context).absolute_BTD
        assert torch.allclose(decoded, chunks.target_BTD, atol=1e-5)


def test_a_sweep_encloses_the_prices_and_finer_scales_err_less(script: Any) -> None:
    one = robot(script, JOINTS)
    (given,) = script.rivals.train_chunks(one, T, 200)
    coder = script.rivals.Coder(one, "tangent-rest")
    points = script.rivals.sweep(coder, coder.coefficients(given), one.chunks(T, 20), 300)
    tokens, errors = zip(*sorted((point.tokens, point.l1) for point in points), strict=True)
    assert tokens[0] <= 2 and tokens[-1] >= 8 and errors[-1] < 0.5 * errors[0]
    assert all(point.bits <= point.tokens * np.log2(300) + 1e-9 for point in points)
    assert min(point.joint for point in points) > 0 and points[0].position_mm is None


def test_each_robot_has_the_rivals_that_it_can_have(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: dict[str, list[str]] = {}
    one, other, posed = robot(script, JOINTS), robot(script, JOINTS, "so101"), robot(script, ARMS26)
    real = script.rivals.train_chunks
    asked: list[str] = []
    monkeypatch.setattr(script.rivals, "train_chunks", lambda each, *rest: asked.append(each.name) or real(each, *rest))
    monkeypatch.setattr(script.rivals, "sweep", lambda coder, train, chunks, vocabulary, reach: (vocabulary, reach))

    def forms(subject: Any, rival: str, *pool: Any) -> dict[str, tuple[int, float]]:
        asked.clear()
        found = dict(script.rivals.rival_points(subject, subject.chunks(T, 10), rival, 512, pool))
        fitted[rival] = list(asked)
        return found

    assert forms(one, "columns") == {} and set(forms(posed, "columns")) == {"columns", "columns-rest"}
    assert forms(posed, "fast") == {"tangent": (512, 0.0), "tangent-rest": (512, 0.0)}
    assert set(forms(one, "klt")) == {"tangent-rest"} and fitted["klt"] == [one.name]
    # Neither itself nor poses for joints: the vocabulary of the others alone, with room for its own ranges.
    pooled = forms(one, "pooled", one, other, posed)
    assert fitted["pooled"] == ["so101", "so101"] and forms(one, "pooled", one, posed) == {}
    assert pooled["tangent"][1] == pytest.approx(T**0.5) and T**0.5 < pooled["tangent-rest"][1] <= 2 * T**0.5


def point(tokens: float, l1: float) -> dict[str, Any]:
    return asdict(RatePoint(11 * tokens, l1, tokens, joint=2 * l1))


def results() -> dict[str, Any]:
    def seed(l1: float, last: float = 9.0) -> dict[str, Any]:
        shares = {"words": 0.1, "residuals": 0.3, "compared": 9}
        steady = [{"rate": 0.1, "tokens": 5.0, "0.004": shares, "0.008": shares}]
        words = [point(2, l1), point(last, l1 / 4)]
        return {"horizons": {"8": {"words": words, "steadiness": steady}}}

    forms = {"tangent": [point(1, 0.04), point(8, 0.04)], "tangent-rest": [point(1, 0.05), point(8, 0.02)]}
    klt = {"tangent-rest": [point(2, 0.01), point(7, 0.01)]}
    rivals = {"fast@2048": forms, "columns@2048": {}, "klt@4096": klt, "pooled@2048": {"tangent": [point(2, 1e-3)]}}
    seeds = {"0": seed(0.02), "1": seed(0.03), "2": seed(0.025, 7.0)}
    return {"set/robot": {"chunks": {"8": 20}, "rivals": {"8": rivals}, "seeds": seeds}}


def test_tables_hold_means_spreads_and_ratios_and_a_dash_where_any_sweep_ends(script: Any) -> None:
    lines = list(script.tables.tables(results()))
    errors = next(line for line in lines if line.startswith("| set/robot"))
    cells = [cell.strip() for cell in errors.split("|")[1:-1]]
    # At M = 2 tokens: .02, .03, .025; FAST: .04 (both forms are there, the better counts). 4M = 8: one seed ends at 7.
    assert cells[:3] == ["set/robot", "8", "0.025 ± 0.005 (0.62)"] and cells[-1] == "-"
    ratios = next(line for line in lines if line.startswith("| set/robot") and "0.62 " in line and "(" not in line)
    found = [cell.split() for cell in ratios.split("|")[3:-1]]
    heads = next(line for line in lines if "klt@4096" in line)
    assert [head.strip() for head in heads.split("|")[3:-1]] == ["fast@2048", "klt@4096", "pooled@2048"]
    assert found[0][0] == "0.62" and found[1][0] == "2.50" and found[2] == ["25.00", "-", "-", "-"]
    assert any(line.startswith("\n### joints") for line in lines)
    assert not any("### mm" in line for line in lines)


def test_a_stopped_run_goes_on_with_what_is_missing(
    script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, asked = tmp_path / "found.json", []
    one = robot(script, JOINTS)
    words = {"words": [point(2, 0.1)], "steadiness": []}

    def run(robot: Any, args: Any, book: Any) -> dict[str, Any]:
        asked.append((args.seed, tuple(args.horizons)))
        return {"horizons": {str(T): words for T in args.horizons}}

    def rival_points(robot: Any, chunks: Any, name: str, vocabulary: int, pool: Any) -> Iterator[Any]:
        if len(asked) == 5:
            raise KeyboardInterrupt
        asked.append((name, vocabulary, chunks.context.horizon))
        yield "tangent", [RatePoint(22.0, 0.1, 2.0)]

    monkeypatch.setattr(script.curve, "run", run)
    monkeypatch.setattr(script.curve, "rival_points", rival_points)
    monkeypatch.setattr(script.curve, "robots_of", lambda folder, validation: [one])

    def main(*more: str) -> None:
        argv = ["words_curve.py", "set", "-o", str(out), "--total", "4096", "--horizons", "8", "--rivals", "fast,klt"]
        monkeypatch.setattr(sys, "argv", [*argv, *more])
        script.curve.main()

    with pytest.raises(KeyboardInterrupt):
        main("--seeds", "0,1")
    assert asked == [(0, (8,)), (1, (8,)), ("fast", 2048, 8), ("klt", 2048, 8), ("fast", 4096, 8)]
    asked.append("stopped")
    main("--seeds", "0,1")
    assert asked[6:] == [("klt", 4096, 8)]
    main("--seeds", "2", "--horizons", "8,16,200")  # no episode is longer than 200 frames
    assert asked[7:9] == [(2, (8, 16)), ("fast", 2048, 16)]
    (entry,) = json.loads(out.read_text())["results"].values()
    assert set(entry["seeds"]) == {"0", "1", "2"} and set(entry["chunks"]) == set(entry["rivals"]) == {"8", "16"}
    assert set(entry["rivals"]["8"]) == {"fast@2048", "klt@2048", "fast@4096", "klt@4096"}
    with pytest.raises(SystemExit):
        main("--windows", "99")
    assert "give another -o" in capsys.readouterr().err


def test_a_robot_left_out_has_none_of_its_arms_among_those_that_books_saw(script: Any) -> None:
    out = importlib.import_module("words_left_out")
    names = ("panda", "sim_panda", "sim_panda_ur5e", "sim_ur5e", "sim_z1", "g1_inspire")
    robots = [SimpleNamespace(name=name) for name in names]
    folds = out.folds_of(robots, 2)
    assert sorted(each.name for fold in folds for each in fold) == sorted(names)
    assert [each.name for each in out.others_of([robots[0]], robots)] == ["sim_ur5e", "sim_z1", "g1_inspire"]
    for fold in folds:
        arms = {arm for each in fold for arm in each.name.split("_")} - {"sim"}
        assert not any(arms & set(each.name.split("_")) for each in out.others_of(fold, robots))
    sys.modules.pop("words_left_out")
