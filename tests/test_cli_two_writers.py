"""Two `xtok` processes with one output: the second is refused at once, names the first, and spoils nothing."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import cli_kit
from xtok.cli.main import EXIT_USER_ERROR, main
from xtok.lock import lock_path

LONG = pytest.mark.slow
SMALL = [cli_kit.XTOK[0], cli_kit.TINY]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders of one name with other motion."""
    root = tmp_path_factory.mktemp("sets")
    return tuple(cli_kit.joints(root / who / "set", seed, episodes=10) for seed, who in enumerate("ab"))  # type: ignore


@pytest.fixture(scope="module")
def codes(sets: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("codes") / "c.parquet"
    assert main(["encode", str(sets[0]), "-o", str(out), "--horizon", "8", "--stride", "1"]) == 0
    return out


Command = Callable[[Path, Path, Path], list[object]]
COMMANDS: dict[str, tuple[Command, bool]] = {
    # name: command line for (a set, codes of one, where to write), and whether it writes a folder
    "encode": (lambda data, codes, out: ["encode", data, "-o", out, "--horizon", "8", "--stride", "1"], False),
    "decode": (lambda data, codes, out: ["decode", codes, "-o", out], False),
    "stats": (lambda data, codes, out: ["stats", data, "-o", out], False),
    "pack": (lambda data, codes, out: ["pack", data, "-o", out], True),
    "adapt": (lambda data, codes, out: ["adapt", data, "--books", "shared", "-o", out], True),
    "train": (lambda data, codes, out: ["train", "small_joints", "--data", data, "-o", out], True),
    "eval": (lambda data, codes, out: ["eval", "--data", data, "--json", out, "--baselines", "bins"], False),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_second_is_refused_at_once_and_the_first_goes_on(
    name: str, sets: tuple[Path, Path], codes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, is_folder = COMMANDS[name]
    out = tmp_path / "out"
    first = cli_kit.start(command(sets[0], codes, out), SMALL)
    lock = lock_path(out, is_folder)
    # Not stopped before it wrote who it is: the one instant in which nobody can tell.
    cli_kit.wait_until(lambda: lock.exists() and b"}" in lock.read_bytes(), first)
    os.kill(first.pid, signal.SIGSTOP)  # it stays in the middle of its work, however fast it is
    try:
        for data in sets:
            assert main([str(each) for each in command(data, codes, out)]) == EXIT_USER_ERROR
            said = capsys.readouterr().err
            assert f"is being written by process {first.pid} on " in said
            assert "since" in said and name in said and "choose another place" in said
    finally:
        os.kill(first.pid, signal.SIGCONT)
        first.kill()
        first.communicate()


@pytest.mark.slow
def test_of_two_that_begin_together_one_ends_well(sets: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "c.parquet"
    arguments = [["encode", data, "-o", out, "--horizon", "8", "--stride", "2"] for data in sets]
    processes = [cli_kit.start(each, SMALL) for each in arguments]
    said = [process.communicate() for process in processes]
    status = [process.returncode for process in processes]
    assert sorted(status) in ([0, EXIT_USER_ERROR], [0, 0]), said  # or one was done before the other began
    last = sets[status.index(0)] if status.count(0) == 1 else None
    assert [path.name for path in tmp_path.iterdir()] == ["c.parquet"]
    if last is not None:
        straight = tmp_path / "straight.parquet"
        assert main(["encode", str(last), "-o", str(straight), "--horizon", "8", "--stride", "2"]) == 0
        assert pq.read_table(out)["codes"].equals(pq.read_table(straight)["codes"])


@pytest.mark.parametrize(
    "name", ["encode", pytest.param("decode", marks=LONG), "pack", pytest.param("adapt", marks=LONG)]
)
def test_after_kill_9_the_next_one_takes_over_and_says_so(
    name: str, sets: tuple[Path, Path], codes: Path, tmp_path: Path
) -> None:
    command, is_folder = COMMANDS[name]
    out = tmp_path / "out"
    arguments = command(sets[0], codes, out)
    first = cli_kit.start(arguments, SMALL)
    cli_kit.wait_until(lambda: has_record(lock_path(out, is_folder)), first)
    first.kill()
    first.communicate()
    (tmp_path / f".out.{first.pid}.tmp").write_text("a draft that the kill left")
    status, said = cli_kit.run(arguments, SMALL)
    assert status == 0, said
    assert f"taking over from process {first.pid}" in said
    assert "killed before it had finished" in said
    assert [path.name for path in tmp_path.iterdir() if not is_folder] == ([] if is_folder else ["out"])
    assert not list(tmp_path.rglob("*.lock"))


def has_record(lock: Path) -> bool:
    return lock.exists() and lock.stat().st_size > 0


def test_several_inspections_into_one_folder_are_no_quarrel(sets: tuple[Path, Path], tmp_path: Path) -> None:
    other = cli_kit.joints(tmp_path / "other", 2)
    both: list[subprocess.Popen[str]] = [
        cli_kit.start(["inspect", data, "-o", tmp_path / "pages"]) for data in (sets[0], other)
    ]
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert {path.stem for path in (tmp_path / "pages").iterdir()} == {"set", "other"}
