"""No command writes onto what it reads, by whatever name; what cannot be written is told before the work begins."""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import cli_kit
from xtok.cli.main import EXIT_USER_ERROR, build_parser, main
from xtok.cli.outputs import Writes
from xtok.data import sample_path

SAMPLE = str(sample_path())


def leaves(parser: argparse.ArgumentParser, name: str = "xtok") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command, those of groups too."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield name, parser
    for action in below:
        for each, child in action.choices.items():
            yield from leaves(child, f"{name} {each}")


def test_every_command_says_what_it_writes_and_names_arguments_that_it_has() -> None:
    found = dict(leaves(build_parser()))
    assert len(found) > 15
    for name, parser in found.items():
        has = {action.dest for action in parser._actions}
        assert "writes" in parser._defaults, name
        writes = parser._defaults["writes"]
        if isinstance(writes, Writes):
            assert {*writes.files, *([writes.folder] if writes.folder else [])} <= has, name
            assert {"out", "json", "report"} & has <= {*writes.files, writes.folder}, name


@pytest.fixture(scope="module")
def codes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("codes") / "c.parquet"
    assert main(["encode", SAMPLE, "-o", str(path), "--horizon", "64"]) == 0
    return path


@pytest.fixture
def place(tmp_path: Path, codes: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """set: data. c.parquet: codes. tok: a tokenizer. m.yaml: a mapping of the data. Links to all of them."""
    monkeypatch.chdir(tmp_path)
    cli_kit.joints(tmp_path / "set", seed=0, episodes=3)
    (tmp_path / "c.parquet").write_bytes(codes.read_bytes())
    (tmp_path / "tok").mkdir()
    for name in ("model.safetensors", "config.json"):
        (tmp_path / "tok" / name).write_bytes((Path("/") / name).name.encode())  # never opened: refused before
    (tmp_path / "m.yaml").write_text(
        "data: set\nlayout: joints\nembodiment: none:mine\njoints: {from: observation.state, unit: rad}\n"
    )
    (tmp_path / "st.json").write_text("{}")
    (tmp_path / "store/shards").mkdir(parents=True)
    (tmp_path / "store/manifest.json").write_text("{}")
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "soft.parquet").symlink_to("c.parquet")
    os.link(tmp_path / "c.parquet", tmp_path / "hard.parquet")
    os.link(tmp_path / EPISODE, tmp_path / "twin.parquet")
    (tmp_path / "soft_set").symlink_to("set")
    return tmp_path


EPISODE = "set/data/chunk-000/episode_000001.parquet"
TRAIN = ["train", "tiny", "--data"]
REFUSED = [
    # decode: one file by all its names
    *(["decode", "c.parquet", "-o", out] for out in ("c.parquet", "./c.parquet", "sub/../c.parquet", "link/c.parquet")),
    *(["decode", "c.parquet", "-o", out] for out in ("soft.parquet", "hard.parquet")),
    ["decode", "soft.parquet", "-o", "c.parquet"],
    ["decode", "c.parquet", "-o", "tok/model.safetensors", "--tokenizer", "tok"],
    # encode: a file of the data, in the data, or what else is read
    ["encode", "set", "-o", EPISODE],
    ["encode", "set", "-o", "set/meta/info.json"],
    ["encode", "set", "-o", "set/codes.parquet"],
    ["encode", "set", "-o", "link/set/new/codes.parquet"],
    ["encode", "soft_set", "-o", "set/codes.parquet"],
    ["encode", "set", "-o", "twin.parquet"],
    ["encode", "m.yaml", "-o", "m.yaml"],
    ["encode", "m.yaml", "-o", "set/codes.parquet"],
    ["encode", "set", "--mapping", "m.yaml", "-o", "link/m.yaml"],
    ["encode", "set", "--statistics", "st.json", "-o", "st.json"],
    ["encode", "set", "--tokenizer", "tok", "-o", "tok/config.json"],
    # the rest
    ["stats", "set", "-o", "set/meta/info.json"],
    ["stats", "m.yaml", "-o", "m.yaml"],
    ["eval", "--data", "set", "--json", EPISODE],
    ["eval", "--data", "set", "--report", "set/report.html"],
    ["eval", "--data", "set", "--statistics", "st.json", "--json", "st.json"],
    ["eval", "--data", "set", "--compare", "a=tok", "--json", "tok/config.json"],
    ["eval", "--data", "set", "--beside", "a=tok", "--json", "tok/config.json"],  # its old spelling
    ["eval", "--data", "set", "--json", "a.json", "--report", "./a.json"],
    ["dictionary", "set", "-o", "set/page.html"],
    ["pack", "set", "-o", "set"],
    ["pack", "set", "-o", "set/corpus"],
    ["pack", "soft_set", "-o", "link/set/corpus"],
    ["pack", "set", "-o", "."],
    ["pack", "m.yaml", "-o", "set/corpus"],
    ["features", "set", "-o", "set/store"],
    ["adapt", "set", "--tokenizer", "tok", "-o", "tok"],
    ["adapt", "set", "--tokenizer", "tok", "-o", "link/tok"],
    ["adapt", "set", "-o", "set"],
    [*TRAIN, "set", "-o", "set"],
    [*TRAIN, "set", "-o", "set/run"],
    ["train", "heads", "--tokenizer", "tok", "--data", "set", "-o", "tok"],
    ["train", "small_arms26_semantic", "--data", "set", "--features", "store", "-o", "store"],
    ["train", "small_arms26_semantic", "--data", "set", "--features", "store", "-o", "store/shards/run"],
    ["eval", "--data", "set", "--features", "store", "--heads", "tok", "--json", "store/manifest.json"],
    ["sim", "eval", "--policy", "expert", "--data", "set", "--json", "set/e.json"],
    ["teacher", "eval", "set", "--json", "set/e.json"],
]


@pytest.mark.parametrize("arguments", REFUSED, ids=" ".join)
def test_an_output_that_is_an_input_is_refused(
    arguments: list[str], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = digests(place)
    assert main(arguments) == EXIT_USER_ERROR
    said = capsys.readouterr().err
    assert "which is being read" in said or "give each its own" in said, said
    assert digests(place) == before


def digests(root: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("inside", ["start", "checkpoints/00000002"])
def test_train_refuses_the_parts_of_its_own_run(inside: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "run" / inside).parent.mkdir(parents=True)
    (place / "tok").rename(place / "run" / inside)
    before = digests(place)
    given = ["train", "heads", "--tokenizer", f"run/{inside}", "--data", "set", "-o", "run"]
    assert main(given) == EXIT_USER_ERROR
    assert "would replace" in capsys.readouterr().err
    assert digests(place) == before


def test_what_harms_no_input_is_allowed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A new file beside data, a figure in a tokenizer's folder, the same file twice over."""
    assert main(["stats", "set", "-o", "set.json"]) == 0
    assert main(["stats", "set", "-o", "set.json"]) == 0
    assert main(["decode", "c.parquet", "-o", "sub/a.parquet"]) == 0
    assert main(["decode", "c.parquet", "-o", "tok/a.parquet"]) == 0
    assert not [path for path in place.rglob(".*") if path.is_file()]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["encode", SAMPLE, "-o", "folder"], "is a folder; give a file, such as folder/out.parquet"),
        (["decode", "c.parquet", "-o", "folder"], "is a folder"),
        (["stats", SAMPLE, "-o", "folder"], "is a folder"),
        (["eval", "--data", SAMPLE, "--json", "folder"], "is a folder"),
        (["eval", "--data", SAMPLE, "--report", "folder/"], "is a folder"),
        (["dictionary", SAMPLE, "-o", "folder"], "is a folder"),
        (["pack", SAMPLE, "-o", "file"], "is a file; it must name a folder"),
        (["adapt", SAMPLE, "-o", "file"], "is a file; it must name a folder"),
        (["train", "tiny", "--data", SAMPLE, "-o", "file"], "is a file; it must name a folder"),
        (["inspect", SAMPLE, "-o", "file"], "is a file; it must name a folder"),
        (["demo", "-o", "file"], "is a file; it must name a folder"),
        (["encode", SAMPLE, "-o", "file/c.parquet"], "is a file where a folder is needed"),
        (["pack", SAMPLE, "-o", "file/deep/er"], "is a file where a folder is needed"),
        (["encode", SAMPLE, "-o", "/dev/null"], "a device or the like"),
        (["stats", SAMPLE, "-o", "/dev/stdout"], "a device or the like"),
        (["encode", SAMPLE, "-o", "x" * 300], "name is too long"),
        (["pack", SAMPLE, "-o", "x" * 300], "name is too long"),
    ],
)
def test_what_cannot_be_written_is_told_at_once(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    codes: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("xtok.cli.common.open_data", None)  # no data are looked at
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "c.parquet").write_bytes(codes.read_bytes())
    assert main(arguments) == EXIT_USER_ERROR
    assert said in (told := capsys.readouterr().err), told
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.parquet", "file", "folder"]


def test_a_link_is_written_through(tmp_path: Path) -> None:
    """As a shell's > does; the link stays one."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "st.json").symlink_to(tmp_path / "disk" / "far.json")
    for _ in range(2):
        assert main(["stats", SAMPLE, "-o", str(tmp_path / "st.json")]) == 0
    assert (tmp_path / "st.json").is_symlink()
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["far.json"]


def test_missing_parents_are_made(tmp_path: Path) -> None:
    assert main(["stats", SAMPLE, "-o", str(tmp_path / "a/b/st.json")]) == 0
    assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["st.json"]


def test_parents_made_for_a_run_that_failed_go_again(tmp_path: Path) -> None:
    assert main(["stats", str(tmp_path / "no-such-set"), "-o", str(tmp_path / "a/b/st.json")]) == EXIT_USER_ERROR
    assert main(["pack", str(tmp_path / "no-such-set"), "-o", str(tmp_path / "a/corpus")]) == EXIT_USER_ERROR
    assert list(tmp_path.iterdir()) == []
