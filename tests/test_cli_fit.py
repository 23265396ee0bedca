"""`xtok fit` and what uses its folder: encode, decode, adapt, eval; stopped and gone on with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import cli_kit
from words_kit import QUICK
from xtok import WordTokenizer, load_tokenizer
from xtok.cli.main import EXIT_INTERRUPTED, EXIT_USER_ERROR, main
from xtok.codec.words import FitSettings, files
from xtok.pretrain import words

FIT = ["fit", "one", "-o", "made", "--layout", "joints", "--vocabulary", "2048"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two sets of two robots, and small settings."""

    def quick(seed: int = 0) -> FitSettings:
        return replace(QUICK, seed=seed, windows=300, word_iterations=3, iterations=(3, 2))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("xtok.codec.words.FitSettings", quick)
    for function in (words.adapt_words, words.robot_from):
        given = [quick() if isinstance(each, FitSettings) else each for each in function.__defaults__ or ()]
        monkeypatch.setattr(function, "__defaults__", tuple(given))
    for seed, name in enumerate(("one", "other")):
        cli_kit.joints(tmp_path / name, seed)
    return tmp_path


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def test_stopped_anywhere_it_goes_on_and_ends_as_if_it_had_not(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*FIT, "-o", "straight"]) == 0
    real, left = files.save, [0]

    def stopping(*args: object) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        real(*args)  # type: ignore[arg-type]

    for steps in (0, 1, 1):
        left[0] = steps
        monkeypatch.setattr(files, "save", stopping)
        assert main(FIT) == EXIT_INTERRUPTED
        monkeypatch.setattr(files, "save", real)
        assert "goes on after the last whole step" in capsys.readouterr().err
        assert not (place / "made" / "config.json").exists()
    assert main([*FIT, "--seed", "1"]) == EXIT_USER_ERROR
    assert "other settings" in capsys.readouterr().err
    assert main(FIT) == 0
    assert files_of(place / "made") == files_of(place / "straight")
    assert not (place / "made.parts").exists()


def test_codes_are_written_and_read_and_another_robot_is_kept_first(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(FIT) == 0
    assert main(["encode", "one", "--layout", "joints", "--tokenizer", "made", "-o", "c.parquet"]) == 0
    assert main(["decode", "c.parquet", "--tokenizer", "made", "-o", "a.parquet"]) == 0
    lengths = {len(ids) for ids in pq.read_table("c.parquet")["codes"].to_pylist()}
    assert len(lengths) > 1  # ragged
    rows = pq.read_table("a.parquet").to_pylist()
    assert np.isfinite([row["action"] for row in rows]).all() and all(row["complete"] for row in rows)
    capsys.readouterr()
    assert main(["decode", "c.parquet", "-o", "b.parquet"]) == EXIT_USER_ERROR
    assert "was written with tokenizer" in capsys.readouterr().err
    assert main(["decode", "c.parquet", "--tokenizer", "made", "--levels", "1", "-o", "b.parquet"]) == EXIT_USER_ERROR
    assert "no levels" in capsys.readouterr().err


@pytest.mark.parametrize("books", ["own", "shared"])
def test_adapt_adds_a_robot_and_leaves_the_others(place: Path, books: str, capsys: pytest.CaptureFixture[str]) -> None:
    mapping = "layout: joints\njoints: {from: observation.state, unit: rad}\nembodiment: cr5\ncontrol_hz: 10\n"
    (place / "m.yaml").write_text(mapping)
    assert main(FIT) == 0
    capsys.readouterr()
    read = ["other", "--mapping", "m.yaml"]
    assert main(["encode", *read, "--tokenizer", "made", "-o", "c.parquet"]) == EXIT_USER_ERROR
    assert "xtok adapt other --tokenizer made" in capsys.readouterr().err
    assert main(["adapt", *read, "--tokenizer", "made", "--books", books, "-o", "more"]) == 0
    before, after = load_tokenizer("made"), load_tokenizer("more")
    assert isinstance(before, WordTokenizer) and isinstance(after, WordTokenizer)
    assert after.known_by == {**before.known_by, "cr5": "own" if books == "own" else "measured"}
    assert main(["encode", *read, "--tokenizer", "more", "-o", "c.parquet"]) == 0


def test_eval_measures_it_beside_fast(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(FIT) == 0
    asked = ["--layout", "joints", "--horizons", "8", "--chunks", "8", "--baselines", "fast", "--json", "e.json"]
    assert main(["eval", "--data", "one", "--tokenizer", "made", *asked, "--report", "e.html", "--corruption"]) == 0
    assert "words at M, 2M, 3M, 4M tokens" in capsys.readouterr().out
    assert (place / "e.html").stat().st_size > 10_000
    noise = json.loads((place / "e.json").read_text())["horizons"]["8"]["words"]
    assert 0 <= noise["q0_flip"]["0.002"] <= noise["q0_flip"]["0.008"] <= 1 and noise["flip_per_level"] is None


def test_the_dictionary_shows_words_of_sixteen_frames(place: Path) -> None:
    assert main(FIT) == 0
    page = ["dictionary", "one", "--layout", "joints", "--tokenizer", "made", "-o", "d.html", "--horizon"]
    assert main([*page, "8"]) == 0
    assert main([*page, "40"]) == 0
    text = (place / "d.html").read_text()
    assert "blocks of 16 frames" in text and "the dictionary of motion words" in text


def test_what_cannot_be_is_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FIT[:-1], "100"]) == EXIT_USER_ERROR
    assert "2048 to 32768" in capsys.readouterr().err
    assert main([*FIT, "--own", "panda"]) == EXIT_USER_ERROR
    assert "no episodes of ['panda']" in capsys.readouterr().err
