"""Crews: whoever does a unit, what is written is the same; a worker that dies is told, and nobody works on alone."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

import cli_kit
from folders import CAMERA, STATE, write_v30, write_video
from pack_kit import SMALL, contents, recording
from teacher_kit import save_tiny
from workers_kit import DIES, FAILS, SLEEPS, Recorded, descendants, is_alive, workers_seen
from xtok.cli.main import EXIT_INTERRUPTED, EXIT_USER_ERROR, main
from xtok.workers import Workers, _in_order, crew

linux = pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="looks processes up in /proc")


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)


def test_units_come_back_in_order_and_a_copy_serves_many(tmp_path: Path) -> None:
    with crew(Recorded(tmp_path), Workers(2)) as run:
        found = [*run(range(20)), *run(range(20, 30))]
    assert [unit for unit, *_ in found] == list(range(30))
    pids = {pid for _, pid, *_ in found}
    assert os.getpid() not in pids and 1 <= len(pids) <= 2
    assert sum(max(done for _, by, done, _ in found if by == pid) for pid in pids) == 30
    assert {threads for *_, threads in found} == {"1"}
    assert not any(map(is_alive, pids))


def test_one_worker_is_this_process(tmp_path: Path) -> None:
    with crew(Recorded(tmp_path), Workers()) as run:
        assert [(unit, pid) for unit, pid, *_ in run("ab")] == [("a", os.getpid()), ("b", os.getpid())]


@linux
def test_a_worker_that_dies_is_told_and_stops_the_others(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"worker process died .*give the same command again.*fewer --workers"),
        crew(Recorded(tmp_path), Workers(2)) as run,
    ):
        list(run([SLEEPS, "a", DIES]))
    assert not any(map(is_alive, workers_seen(tmp_path)))


@linux
def test_a_worker_may_die_before_it_has_read_its_work(tmp_path: Path) -> None:
    """More than a pipe holds; who gives the work must not wait for a reader that is gone."""
    work = Recorded(tmp_path, [bytes(1 << 20)])

    def kill_the_first() -> None:
        until(lambda: any("spawn_main" in line for line in descendants(os.getpid()).values()))
        for pid, line in descendants(os.getpid()).items():
            if "spawn_main" in line:
                os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    with pytest.raises(ValueError, match="worker process died"), crew(work, Workers(2)) as run:
        list(run([SLEEPS, SLEEPS]))
    killer.join()


def test_long_results_come_whole_and_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    units = [bytes([number]) * (1 << 18) for number in range(5)]
    (tmp_path / "seen").mkdir()
    with crew(Recorded(tmp_path / "seen"), Workers(2)) as run:
        assert [unit for unit, *_ in run(units)] == units
    assert [path.name for path in tmp_path.iterdir()] == ["seen"]


@linux
def test_errors_come_through_and_stop_the_others(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="fails: nothing there"), crew(Recorded(tmp_path), Workers(2)) as run:
        list(run([FAILS, SLEEPS]))
    with pytest.raises(KeyboardInterrupt), crew(Recorded(tmp_path), Workers(2)) as run:
        for _ in run(["a", SLEEPS, SLEEPS]):
            raise KeyboardInterrupt
    assert not any(map(is_alive, workers_seen(tmp_path)))


@linux
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_who_began_them(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, by: signal.Signals
) -> None:
    temporary = tmp_path_factory.mktemp("temporary")
    script = (
        f"from workers_kit import *\nfrom xtok.workers import *\n"
        f"with crew(Recorded(Path({str(tmp_path)!r})), Workers(2)) as run:\n    list(run([SLEEPS, SLEEPS]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**cli_kit.environment(), "TMPDIR": str(temporary)},
        start_new_session=True,
        stderr=subprocess.PIPE,
    )
    until(lambda: len(workers_seen(tmp_path)) == 2 or process.poll() is not None)
    if by == signal.SIGINT:
        os.killpg(process.pid, by)  # as a terminal does: to all of them
    else:
        process.send_signal(by)
    _, said = process.communicate(timeout=60)
    until(lambda: not any(map(is_alive, workers_seen(tmp_path))))
    assert not list(temporary.glob("xtok-*"))
    assert said.count(b"KeyboardInterrupt") == (by == signal.SIGINT), said.decode()


def whole(folder: Path) -> dict[str, bytes]:
    """All but what was killed half-way, which a command removes when it is given again."""
    return {name: content for name, content in contents(folder).items() if not name.endswith(".tmp")}


@linux
@pytest.mark.parametrize("kills", [pytest.param(4, id="4"), pytest.param(100, id="100", marks=pytest.mark.slow)])
def test_kills_at_any_moment_change_no_byte(tmp_path: Path, kills: int) -> None:
    """Of a worker or of what it works for; in small, so that there can be many (test_workers_kills: the commands)."""
    rng, program = random.Random(0), (sys.executable, str(cli_kit.HERE / "workers_kit.py"))
    killed, rounds, out = Counter[str](), 0, tmp_path / "units"
    began = time.monotonic()
    assert cli_kit.run([out, 60], program)[0] == 0
    took_s, expected = time.monotonic() - began, whole(out)
    assert len(expected) == 60
    while sum(killed.values()) < kills:
        process = cli_kit.start([out, 60], program)
        time.sleep(rng.uniform(0, took_s))
        who = ("worker", "launcher")[sum(killed.values()) % 2]
        workers = [pid for pid, line in descendants(process.pid).items() if "spawn_main" in line]
        if process.poll() is None and (workers or who == "launcher"):
            os.kill(process.pid if who == "launcher" else rng.choice(workers), signal.SIGKILL)
            killed[who] += 1
        process.communicate(timeout=300)
        until(lambda: not any(map(is_alive, workers)))  # noqa: B023
        if process.returncode == 0:
            rounds += 1
            assert whole(out) == expected
            shutil.rmtree(out)
    assert cli_kit.run([out, 60], program)[0] == 0
    assert whole(out) == expected
    print(f"{dict(killed)}, {rounds + 1} rounds ended")


def test_there_is_at_least_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = cli_kit.joints(tmp_path / "set", seed=0, episodes=1)
    for wrong, said in ((["--workers", "0"], "workers is 0; expected 1"), (["--ray", "-1"], "--ray is -1; expected 1")):
        for command in ("encode", "pack", "features"):
            assert main([command, str(data), "-o", str(tmp_path / "out"), *wrong]) == EXIT_USER_ERROR
            assert said in capsys.readouterr().err


def test_results_that_come_early_wait() -> None:
    order = np.random.default_rng(0).permutation(50).tolist()
    assert list(_in_order((number, str(number)) for number in order)) == [str(number) for number in range(50)]


def test_encode_gives_the_same_bytes(tmp_path: Path) -> None:
    """Of a robot that the tokenizer lacks: measured once, by who gives the command."""
    data = cli_kit.joints(tmp_path / "set", seed=0, episodes=6)
    for out, how in (("one", []), ("two", ["--workers", "2"])):
        with patch("xtok.cli.encode.EPISODES_PER_PART", 1):
            assert main(["encode", str(data), "-o", str(tmp_path / out), "--horizon", "8", *how]) == 0
    assert (tmp_path / "two").read_bytes() == (tmp_path / "one").read_bytes()
    assert not (tmp_path / "two.parts").exists()


def test_pack_gives_the_same_bytes(tmp_path: Path) -> None:
    data = recording(tmp_path / "panda")
    for out, how in (("one", []), ("two", ["--workers", "2"])):
        with SMALL:
            assert main(["pack", str(data), "-o", str(tmp_path / out), *how]) == 0
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def films(root: Path) -> Path:
    """Three episodes with a camera."""
    lengths = (11, 20, 29)
    folder = write_v30(root, [{STATE: np.zeros((length, 3), np.float32)} for length in lengths])
    write_video(folder / f"videos/{CAMERA}/chunk-000/file-000.mp4", count=sum(lengths))
    return folder


def test_features_give_the_same_bytes(tmp_path: Path) -> None:
    data, teacher = films(tmp_path / "set"), save_tiny("smolvlm", tmp_path / "teacher")
    command = ["features", str(data), "--teacher", str(teacher), "--batch-size", "8"]
    for out, how in (("one", []), ("two", ["--workers", "2"])):
        with patch("xtok.semantics.extract.EPISODES_PER_SHARD", 1):
            assert main([*command, "-o", str(tmp_path / out), *how]) == 0
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


@linux
def test_the_command_tells_a_worker_that_was_killed(tmp_path: Path) -> None:
    data = cli_kit.joints(tmp_path / "set", seed=0, episodes=6, frames=2000)
    command = ["encode", data, "-o", tmp_path / "c", "--horizon", "8", "--stride", "1"]
    process = cli_kit.start([*command, "--workers", "2"], (sys.executable, cli_kit.TINY))
    cli_kit.wait_until(lambda: list((tmp_path / "c.parts").glob("part-*")), process)
    workers = [pid for pid, line in descendants(process.pid).items() if "spawn_main" in line]
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == EXIT_USER_ERROR
    assert "xtok: error: a worker process died" in said and "same command again" in said and "Traceback" not in said
    assert not is_alive(workers[1])
    code, said = cli_kit.run(command, (sys.executable, cli_kit.TINY))
    assert code == 0, said


@linux
def test_ctrl_c_stops_a_command_with_workers_in_one_line(tmp_path: Path) -> None:
    data = cli_kit.joints(tmp_path / "set", seed=0, episodes=6, frames=2000)
    command = ["encode", data, "-o", tmp_path / "c", "--horizon", "8", "--stride", "1", "--workers", "2"]
    process = cli_kit.start(command, (sys.executable, cli_kit.TINY), start_new_session=True)
    cli_kit.wait_until(lambda: list((tmp_path / "c.parts").glob("part-*")), process)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == EXIT_INTERRUPTED
    assert "interrupted. Give the same command again" in said and "Traceback" not in said


def test_a_ray_cluster_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both kinds of end, in one cluster's life each, since a cluster takes seconds to begin."""
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("PYTHONPATH", cli_kit.environment()["PYTHONPATH"])  # for the workers of the cluster
    with (
        pytest.raises(FileNotFoundError, match=r"^fails: nothing there$"),
        crew(Recorded(tmp_path), Workers(2, ray=True)) as run,
    ):
        found = list(run(range(20)))
        assert [unit for unit, *_ in found] == list(range(20))
        assert {threads for *_, threads in found} == {"1"}
        pids = {pid for _, pid, *_ in found}
        assert os.getpid() not in pids and len(pids) == 2
        os.kill(min(pids), signal.SIGKILL)  # Ray begins another, and gives it the units of the one that died
        assert [unit for unit, *_ in run(range(20))] == list(range(20))
        list(run([FAILS, SLEEPS]))
    until(lambda: not any(map(is_alive, workers_seen(tmp_path))))


def test_no_cluster_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    with pytest.raises(ValueError, match="RAY_ADDRESS=nonsense"), crew(Recorded(tmp_path), Workers(2, ray=True)):
        raise AssertionError("there is none")
