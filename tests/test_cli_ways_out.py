"""Errors name the way out, not a list of all that there is; stops say honestly what is left of the work."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from pathlib import Path

import pytest
import torch

import cli_kit
import synthetic
from xtok.cli.main import EXIT_INTERRUPTED, EXIT_USER_ERROR, main
from xtok.codec.gaussian import GaussianCodec
from xtok.codec.quantizer import ResidualQuantizer
from xtok.data import open_dataset, sample_path, select
from xtok.engine.graceful_stop import stop_request
from xtok.pretrain.corpus import Corpus
from xtok.pretrain.initialise import initialise
from xtok.progress import is_shown, phase, shown, track
from xtok.recipes import RECIPES, described, get_recipe

SAMPLE = str(sample_path())


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Joints of a robot that nobody knows, three episodes: nothing is held out."""
    return str(cli_kit.joints(tmp_path_factory.mktemp("few") / "few", 0, episodes=3))


@pytest.mark.parametrize(
    "arguments",
    [
        ["encode", "FEW", "--split", "heldout", "-o", "OUT/c.parquet"],
        ["eval", "--data", "FEW", "--baselines", "bins", "--horizons", "8"],
        ["dictionary", "FEW", "--split", "heldout", "-o", "OUT/d.html"],
    ],
    ids=lambda each: each[0],
)
def test_an_empty_split_says_split_all(
    arguments: list[str], few: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [each.replace("FEW", few).replace("OUT", str(tmp_path)) for each in arguments]
    assert main(given) == EXIT_USER_ERROR
    said = capsys.readouterr().err
    assert "--split all" in said and "every fifth episode" in said, said
    assert list(tmp_path.iterdir()) == []
    if arguments[0] == "encode":
        assert main([*given[:2], "--split", "all", *given[4:]]) == 0


@pytest.mark.parametrize("count", [1, 4, 5])
def test_a_split_in_python_says_the_same(count: int, tmp_path: Path) -> None:
    dataset = open_dataset(cli_kit.joints(tmp_path / "set", 0, episodes=count))
    if count == 5:
        assert len(select(dataset, "heldout")) == 1
        return
    with pytest.raises(ValueError, match=rf"\({count} episodes\) is empty; use 'all'"):
        select(dataset, "heldout")


@pytest.mark.parametrize(
    ("name", "first"),
    [("small_joint", "small_joints"), ("Tiny", "tiny"), ("arms26", "small_arms26"), ("smalljoints", "small_joints")],
)
def test_an_unknown_recipe_has_close_ones_first_then_a_line_on_each(name: str, first: str) -> None:
    with pytest.raises(ValueError) as told:
        get_recipe(name)
    lines = str(told.value).splitlines()
    assert f"did you mean '{first}'" in lines[0] and "xtok train --list" in lines[0]
    assert lines[1].split()[0] == first
    assert sorted(line.split()[0] for line in lines[1:]) == sorted(RECIPES)


def test_an_unknown_recipe_without_a_like_has_the_list_alone() -> None:
    with pytest.raises(ValueError) as told:
        get_recipe("zzz")
    assert "did you mean" not in str(told.value) and len(str(told.value).splitlines()) == 1 + len(RECIPES)


def test_train_lists_recipes_and_needs_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "--list"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == described() and [line.split()[0] for line in lines] == list(RECIPES)
    for line in lines:
        name, layout, *words = line.split()
        assert layout in ("arms26", "joints", "any") and len(words) > 3, line
        assert layout in (RECIPES[name]().codec.layout, "any")


@pytest.mark.parametrize(
    ("data", "recipe", "named"),
    [
        ("FEW", None, "small_joints"),
        (SAMPLE, None, "small_arms26"),
        ("FEW", "small_arms26", "small_joints"),
        ("FEW", "tiny", "small_joints"),
        ("FEW", "paper_arms26", "small_joints"),
    ],
)
def test_train_names_a_recipe_that_fits_the_data(
    data: str, recipe: str | None, named: str, few: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["train", *([recipe] if recipe else []), "--data", data.replace("FEW", few), "-o", str(tmp_path / "run")]
    assert main(given) == EXIT_USER_ERROR
    said = capsys.readouterr().err
    assert re.search(rf"^  {named} +(arms26|joints) ", said, re.MULTILINE), said
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_robot_does_not_list_all(few: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", few, "--embodiment", "qqqqqq"]) == EXIT_USER_ERROR
    said = capsys.readouterr().err
    assert len(said) < 600, said


# -- stops --------------------------------------------------------------------------------------------------------


def stopped(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(where, stop)


def test_a_stop_before_the_first_checkpoint_does_not_say_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["train", "tiny", "--data", SAMPLE, "-o", str(tmp_path / "run")]
    with pytest.MonkeyPatch.context() as patch:
        stopped(patch, "xtok.pretrain.loop.initialise")
        assert main(given) == EXIT_INTERRUPTED
    said = capsys.readouterr().err
    assert "the same command begins anew" in said and "--resume" not in said
    assert main([*given, "--resume"]) == EXIT_USER_ERROR
    assert "start without --resume" in capsys.readouterr().err
    with pytest.MonkeyPatch.context() as patch:
        stopped(patch, "xtok.pretrain.loop.Trainer.train_step")
        assert main(given) == EXIT_INTERRUPTED  # what was said holds: the same command begins anew
    assert "with --resume" in capsys.readouterr().err
    assert main([*given, "--resume"]) == 0


def show_in_order(said: str, first: str, *others: str) -> None:
    places = {phase: said.find(phase) for phase in (first, *others)}
    assert -1 not in places.values() and places[first] == min(places.values()), places


def test_phases_show_from_the_first_one_on(tmp_path: Path) -> None:
    """Every phase has a bar, also where stderr is a log."""
    status, said = cli_kit.run(["train", "tiny", "--data", SAMPLE, "-o", tmp_path / "run"])
    assert status == 0, said
    show_in_order(said, "chunks as q0's space has them", "k-means of ", "tiny:   0%")


def test_phases_of_closed_forms_show_too(capsys: pytest.CaptureFixture[str]) -> None:
    codec = GaussianCodec(synthetic.TINY)
    initialise(codec, Corpus.open(codec.layout, [sample_path()]), vectors=2000, iterations=2, progress=True)
    phases = ("chunks as q0's space has them", "k-means of ", "calibration of each robot", "what q0 leaves open")
    show_in_order(capsys.readouterr().err, "motion priors", *phases)


def test_phases_are_quiet_unless_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(range(3), "counting")) == [0, 1, 2]
    quantizer = ResidualQuantizer(dim=3, codebook_size=4, levels=2)
    vectors = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    quantizer.initialise(vectors, iterations=3)
    books = quantizer.books_QVC.clone()
    assert capsys.readouterr().err == ""
    with shown():
        assert is_shown() is True
        quantizer.initialise(vectors, iterations=3)
        with shown(False):
            assert list(track(range(3), "hidden")) == [0, 1, 2]
    assert is_shown() is False
    assert torch.equal(quantizer.books_QVC, books)
    said = capsys.readouterr().err
    assert "k-means of 40 vectors" in said and "/6" in said
    assert "hidden" not in said


def test_a_phase_moves_as_the_work_does() -> None:
    with shown(), phase("work", total=5) as bar:
        assert bar.n == 0
        bar.update(2)
        assert bar.n == 2 and bar.total == 5


def test_the_second_stop_is_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    with stop_request() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop
        assert "stopping after this step" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            signal.sigtimedwait([], 1)  # somewhere for it to land


COMMANDS = [
    ["stats", "DATA", "-o", "OUT"],
    ["encode", "DATA", "-o", "OUT", "--horizon", "8", "--stride", "1"],
    ["adapt", "DATA", "-o", "OUT"],
    ["pack", "DATA", "-o", "OUT"],
    ["eval", "--data", "DATA", "--json", "OUT", "--baselines", "bins"],
    ["dictionary", "DATA", "-o", "OUT"],
    ["inspect", "DATA", "-o", "OUT"],
    ["train", "small_joints", "--data", "DATA", "-o", "OUT"],
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda each: each[0])
def test_ctrl_c_stops_every_command_soon_and_cleanly(
    arguments: list[str], tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """As soon as it reads an episode: one line on how to go on, status 130, no lock and no draft."""
    data = cli_kit.joints(tmp_path_factory.mktemp("ctrl-c") / "set", 0, episodes=10)
    program = (
        "import os, signal, sys\n"
        "from xtok.data.episode import Episode\n"
        "check, made = Episode.__post_init__, []\n"
        "def checked(self):\n"
        "    made.append(self)\n"
        "    if len(made) == 3:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    check(self)\n"
        "Episode.__post_init__ = checked\n"
        "from xtok.cli.main import main\n"
        "sys.exit(main())\n"
    )
    given = [each.replace("DATA", str(data)).replace("OUT", str(tmp_path / "out")) for each in arguments]
    status, said = cli_kit.run(given, [sys.executable, "-c", program])
    assert status == EXIT_INTERRUPTED, said
    assert "Traceback" not in said
    assert len(re.findall(r"xtok: interrupted\. \S+", said)) == 1, said
    assert not list(tmp_path.rglob("*.lock")) and not list(tmp_path.rglob("*.tmp"))
    assert not (tmp_path / "out").is_file()


def test_every_command_says_how_to_go_on() -> None:
    from test_cli_outputs import leaves
    from xtok.cli.main import build_parser

    for name, parser in leaves(build_parser()):
        hint = parser._defaults["resume_hint"]
        if callable(hint):
            hint = hint(argparse.Namespace(out=Path("nowhere")))
        assert hint or name == "xtok sim list", name
