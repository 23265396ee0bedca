"""`xtok sim` as a person uses it: what it prints, what it writes, and what it says when something is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("gymnasium", reason="the simulation needs its extra: pip install 'xtok[sim]'")

from sim_kit import IMAGE, PATCHES, ToyCell, toy_cell, toy_environment
from xtok.cli.main import EXIT_USER_ERROR, main
from xtok.data import open_dataset
from xtok.sim import corpus, questions, recorder, rollout, show, suite

CELLS = [ToyCell("Lift", "Panda"), ToyCell("Stack", "Panda"), ToyCell("Lift", "UR5e"), ToyCell("Insert", "Kinova3")]


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in PATCHES:
        monkeypatch.setattr(module, name, value)
    for module in (questions, show):
        monkeypatch.setattr(module, "environment", toy_environment)
    for module in (suite, corpus):
        monkeypatch.setattr(module, "cells", lambda dual=None: CELLS)
    for module in (suite, recorder, rollout):
        monkeypatch.setattr(module, "get_cell", toy_cell)


def test_list_is_a_table_and_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["sim", "list", "--json", "-"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [set(row) for row in rows] == 4 * [{"task", "arm", "dual", "held_out", "expert_success", "episodes"}]
    assert main(["sim", "list", "--json", str(tmp_path / "cells.json")]) == 0
    assert json.loads((tmp_path / "cells.json").read_text()) == rows
    assert "Stack         Panda" in capsys.readouterr().out


def test_record_by_task_and_arm(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["sim", "record", "--tasks", "Lift", "--arms", "all", "--episodes", "2", "-o", str(out), "--workers", "1"]
    assert main([*command, "--image-size", str(IMAGE)]) == 0
    said = capsys.readouterr().out
    assert f"{out}: 4 episodes" in said and "panda/" in said and "ur5e/" in said
    assert [len(open_dataset(out / arm)) for arm in ("panda", "ur5e")] == [2, 2]
    assert main([*command, "--image-size", "64"]) == EXIT_USER_ERROR
    assert "another request" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "Lifft"], "no supported cell has task 'Lifft'; expected some of ['Insert', 'Lift', 'Stack']"),
        (["--arms", "Sawyer"], "no supported cell has arm 'Sawyer'"),
        (["--episodes", "0"], "--episodes is 0; expected 1 or more"),
        (["--workers", "0"], "workers is 0; expected 1 or more"),
        (["--image-size", "33"], "give even sizes"),
    ],
)
def test_record_names_mistakes(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["sim", "record", "-o", str(tmp_path / "out"), "--workers", "1", *arguments]) == EXIT_USER_ERROR
    assert message in capsys.readouterr().err


def test_eval_writes_figures_and_episodes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "eval.json"
    command = ["sim", "eval", "--policy", "expert", "--tasks", "Lift,Stack", "--arms", "Panda", "--episodes", "5"]
    assert main([*command, "--json", str(path), "--workers", "1"]) == 0
    report = json.loads(path.read_text())
    assert report["policies"]["expert"]["all"]["success"]["value"] == 0.8
    assert len(report["episodes"]) == 10 and report["settings"]["split"] == "eval"
    assert "4/5" in capsys.readouterr().out
    assert not list(tmp_path.glob("*.jsonl"))


@pytest.mark.slow
def test_eval_replays_through_the_shipped_tokenizer(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    record = ["sim", "record", "--tasks", "Lift", "--arms", "Panda", "--episodes", "8", "--no-video", "--workers", "1"]
    assert main([*record, "-o", str(tmp_path / "data")]) == 0
    replay = ["sim", "eval", "--policy", "replay", "--tasks", "Lift", "--arms", "Panda", "--episodes", "1"]
    assert main([*replay, "--workers", "1"]) == EXIT_USER_ERROR
    assert "give --data DIR" in capsys.readouterr().err
    path = tmp_path / "replay.json"
    assert (
        main([*replay, "--workers", "1", "--data", str(tmp_path / "data"), "--horizon", "8", "--json", str(path)]) == 0
    )
    report = json.loads(path.read_text())
    names = {
        "expert",
        "raw",
        "bins-2",
        "bins-256",
        *(f"{n}{i}{e}" for i in range(1, 5) for n, e in (("fast~", ""), ("xtok[:", "]"))),
    }
    assert names - set(report["policies"]) <= {"bins-2"}  # how many bins have the bits of ours depends on T
    assert report["against_raw"]["bins-256"]["all"]["ratio"]["value"] == 1.0
    assert report["policies"]["xtok[:4]"]["all"]["bits_a_chunk"] == 88.0
    assert report["settings"]["tokenizers"]["Panda"]["robot"] == "sim_panda"


def test_an_unknown_policy_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "eval", "--policy", "exprt", "--workers", "1"]) == EXIT_USER_ERROR
    assert "unknown policy 'exprt'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["corpus-s", "corpus-single"])
def test_a_corpus_has_a_card_and_marks_what_is_held_out(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "corpus"
    command = ["sim", "corpus", name, "-o", str(out), "--episodes", "16", "--workers", "1"]
    assert main(command) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["name"] == name and manifest["episodes"] == 16
    assert manifest["held_out"] == {"arms": ["Kinova3"], "tasks": ["Insert"]}
    assert {source["licence"] for source in manifest["sources"]} == {"MIT", "Apache-2.0"}
    card = (out / "README.md").read_text()
    assert "16 demonstrations" in card and "Kinova3 (held out)" in card and "Insert (held out)" in card
    assert "arms **Kinova3** and tasks **Insert**. 12 episodes are of neither" in card
    info = {arm: json.loads((out / arm / "meta/info.json").read_text()) for arm in ("panda", "kinova3")}
    assert [info[arm]["held_out"]["robot"] for arm in ("panda", "kinova3")] == [False, True]
    assert info["panda"]["held_out"]["tasks"] == ["Insert"]
    before = (out / "manifest.json").read_bytes()
    assert main(command) == 0
    assert (out / "manifest.json").read_bytes() == before
    assert "16 episodes" in capsys.readouterr().out


def test_a_corpus_that_is_not_known_and_one_too_small(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["sim", "corpus", "corpus-z", "-o", str(tmp_path / "c")]) == EXIT_USER_ERROR
    assert "unknown corpus 'corpus-z'; did you mean 'corpus-s'?" in capsys.readouterr().err
    assert main(["sim", "corpus", "-o", str(tmp_path / "c"), "--episodes", "3"]) == EXIT_USER_ERROR
    assert "3 episodes are less than one for each of 4 cells on two levels" in capsys.readouterr().err


def test_questions_report_their_controls(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = ["sim", "questions", "-o", str(tmp_path / "out"), "--count", "30", "--workers", "1", "--split", "eval"]
    assert main([*command, "--image-size", "64"]) == 0
    assert "no picture" in capsys.readouterr().out


def test_show_draws_a_sheet_and_a_film(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["sim", "show", "-o", str(tmp_path / "out"), "--tasks", "Lift", "--image-size", "64"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["film.mp4", "sheet-01.jpg"]
    assert "sheet-01.jpg" in capsys.readouterr().out
