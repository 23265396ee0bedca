"""One writer at a time, with real processes: the second is refused and told who writes, a dead one's lock is taken."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import cli_kit
from xtok.lock import FOLDER_LOCK, entries, lock_path, write_lock

HOLD = """
import sys, time
from pathlib import Path
from xtok.lock import write_lock
with write_lock(Path(sys.argv[1]), sys.argv[2] == "folder"):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(out: Path, kind: str = "file") -> subprocess.Popen[str]:
    process = cli_kit.start([out, kind], (sys.executable, "-c", HOLD))
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_second_writer_is_told_who_the_first_is(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "deep" / "out"
    first = hold(out, kind)
    try:
        with pytest.raises(ValueError) as refused, write_lock(out, kind == "folder"):
            pass
        said = str(refused.value)
        for part in (str(out), f"process {first.pid}", socket.gethostname(), "since 2", "-c", "wait for it"):
            assert part in said
    finally:
        end(first)


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_lock_of_a_dead_process_is_taken_over_and_told(tmp_path: Path, kind: str, ending: signal.Signals) -> None:
    out, said = tmp_path / "out", []
    first = hold(out, kind)
    first.send_signal(ending)
    first.communicate()
    with write_lock(out, kind == "folder", said.append):
        pass
    if ending == signal.SIGINT:  # it went as it should and left nothing
        assert said == []
    else:
        assert len(said) == 1 and f"taking over from process {first.pid}" in said[0]
    assert [path.name for path in tmp_path.iterdir()] == (["out"] if kind == "folder" and said else [])


@pytest.mark.parametrize("other", ["./out", "link/out", "alias", "sub/../out"])
def test_one_output_by_several_names_has_one_lock(tmp_path: Path, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "out").touch()
    (tmp_path / "alias").symlink_to(tmp_path / "out")
    refused = pytest.raises(ValueError, match="being written")
    with write_lock(tmp_path / "out", False), refused, write_lock(Path(other), False):
        pass


def test_a_folder_is_locked_in_itself_so_that_links_and_mounts_share_it(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with write_lock(tmp_path / "real", True):
        with pytest.raises(ValueError, match="being written"), write_lock(tmp_path / "link", True):
            pass
        assert entries(tmp_path / "real") == []
        assert [path.name for path in (tmp_path / "real").iterdir()] == [FOLDER_LOCK]
    assert list((tmp_path / "real").iterdir()) == []


def test_other_outputs_are_free(tmp_path: Path) -> None:
    with write_lock(tmp_path / "a", False), write_lock(tmp_path / "b", False), write_lock(tmp_path / "c", True):
        pass
    assert list(tmp_path.iterdir()) == []


def test_folders_made_for_nothing_go_again_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with write_lock(tmp_path / "mine" / "new" / "out", True):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]
    with write_lock(tmp_path / "mine" / "new" / "out", False) as _:
        (tmp_path / "mine" / "new" / "out").touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["mine", "new", "out"]


@pytest.mark.parametrize("record", [b"", b"{", b"[]", b'{"pid": 1}', b"\xff\xfe"])
def test_a_damaged_record_is_no_obstacle(tmp_path: Path, record: bytes) -> None:
    lock_path(tmp_path / "out", False).write_bytes(record)
    with write_lock(tmp_path / "out", False):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_outlives_its_parent_still_holds(tmp_path: Path) -> None:
    """A process that forks workers, as data loaders do, and is killed."""
    out = tmp_path / "out"
    fork = "import os; child = os.fork(); child and print(child, flush=True); time.sleep(60)"
    forking = HOLD.replace("time.sleep(60)", fork)
    parent = cli_kit.start([out, "file"], (sys.executable, "-c", forking))
    assert parent.stdout is not None
    assert parent.stdout.readline() == "held\n"
    child = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    try:
        with pytest.raises(ValueError, match="a process that it started still runs"), write_lock(out, False):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        end(parent)


def test_never_are_two_inside(tmp_path: Path) -> None:
    """Six processes want it, over and over."""
    race = """
import sys, time
from pathlib import Path
from xtok.lock import write_lock
out, inside = Path(sys.argv[1]), Path(sys.argv[2])
won, until = 0, time.monotonic() + 2
while time.monotonic() < until:
    try:
        with write_lock(out, False):
            inside.touch(exist_ok=False)
            inside.unlink()
            won += 1
    except ValueError:
        pass
print(won)
"""
    many = [cli_kit.start([tmp_path / "out", tmp_path / "in"], (sys.executable, "-c", race)) for _ in range(6)]
    ended = [process.communicate() for process in many]
    assert [process.returncode for process in many] == [0] * 6, ended
    assert sum(int(out) for out, _ in ended) > 10
