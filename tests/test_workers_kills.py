"""`kill -9` at random moments, of a worker or of who gave the command, again and again: the bytes are those of a run
that nobody disturbed. Processes of this machine, a Ray cluster of the command's own, and two nodes of a given one.

The kills that docs/scale.md speaks of: `pytest -m slow -s tests/test_workers_kills.py`.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import cli_kit
from folders import CAMERA, STATE, write_v30, write_video
from pack_kit import contents
from teacher_kit import save_tiny
from workers_kit import descendants, is_alive

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="looks processes up in /proc"),
]
TINY = (sys.executable, cli_kit.TINY)
WORKER = ("spawn_main", "ray::_RayWorker")
KILLS = 6
NOT_BEGUN = "Ray did not begin"  # its processes have thirty seconds, which a very busy machine may not give them
MINUTES = 900.0  # of a run on a machine that has much else to do


def encode(root: Path) -> list[object]:
    """Of a robot that has to be measured first."""
    return ["encode", cli_kit.joints(root / "set", 0, episodes=16, frames=800), "--horizon", "8", "--stride", "1"]


def pack(root: Path) -> list[object]:
    return ["pack", cli_kit.joints(root / "set", 0, episodes=200, frames=400)]


def features(root: Path) -> list[object]:
    lengths = [150] * 16
    data = write_v30(root / "set", [{STATE: np.zeros((length, 3), np.float32)} for length in lengths])
    write_video(data / f"videos/{CAMERA}/chunk-000/file-000.mp4", count=sum(lengths))
    return ["features", data, "--teacher", save_tiny("smolvlm", root / "teacher"), "--batch-size", "8"]


COMMANDS = {"encode": encode, "pack": pack, "features": features}


def bytes_of(out: Path) -> dict[str, bytes]:
    return contents(out) if out.is_dir() else {out.name: out.read_bytes()}


def units(out: Path) -> int:
    """Parts or shards that are there."""
    parts = out.with_name(f"{out.name}.parts")
    return len([*parts.glob("part-*"), *out.rglob("[0-9][0-9][0-9][0-9][0-9]")])


def remove(out: Path) -> None:
    for path in (out, out.with_name(f"{out.name}.parts")):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def undisturbed(command: list[object], out: Path) -> None:
    said = NOT_BEGUN
    while NOT_BEGUN in said:
        process = cli_kit.start([*command, "-o", out], TINY)
        said = "".join(process.communicate(timeout=MINUTES))
    assert process.returncode == 0, said


def workers_below(pid: int) -> list[int]:
    return [each for each, line in descendants(pid).items() if any(name in line for name in WORKER)]


def wait_while(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while process.poll() is None and true():
        time.sleep(0.002)


def disturbed(command: list[object], how: list[str], root: Path, kills: int, host: Callable[[], int | None]) -> None:
    """Give the command again and again, each time with a kill, and see what it wrote whenever it ended.

    host: the process below which workers are, where that is not the command's own.
    """
    out, straight = root / "out" / "it", root / "straight" / "it"
    undisturbed(command, straight)
    expected = bytes_of(straight)
    rng, killed, ended = random.Random(0), Counter[str](), 0
    while sum(killed.values()) < kills:
        process = cli_kit.start([*command, "-o", out, *how], TINY)
        who = ("worker", "launcher")[sum(killed.values()) % 2]
        if rng.random() < 0.7:  # in the middle of the work, else at any moment
            before = units(out)
            wait_while(lambda: units(out) <= before, process)  # noqa: B023
        elif who == "worker":
            wait_while(lambda: not workers_below(host() or process.pid), process)  # noqa: B023
        time.sleep(rng.uniform(0, 1))
        workers = workers_below(host() or process.pid)
        if process.poll() is None and (workers or who == "launcher"):
            os.kill(process.pid if who == "launcher" else rng.choice(workers), signal.SIGKILL)
            killed[who] += 1
            print(f"{command[0]} {how}: killed a {who} with {units(out)} units done", flush=True)
        said = "".join(process.communicate(timeout=MINUTES))
        if process.returncode == 0:
            assert bytes_of(out) == expected
            ended += 1
            remove(out)
        elif who == "worker" and NOT_BEGUN not in said:
            assert "--ray" not in how, said
            assert process.returncode == 2 and "same command again" in said, said
        until = time.monotonic() + MINUTES
        while any(map(is_alive, workers)):
            assert time.monotonic() < until, "workers that nobody asked for anything work on"
            time.sleep(0.05)
    undisturbed([*command, *how], out)
    assert bytes_of(out) == expected
    print(f"{command[0]} {how}: {dict(killed)}, {ended + 1} runs ended, all as undisturbed", flush=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_processes(name: str, tmp_path: Path) -> None:
    disturbed(COMMANDS[name](tmp_path), ["--workers", "2"], tmp_path, KILLS, lambda: None)


@pytest.mark.parametrize("name", COMMANDS)
def test_ray(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    disturbed(COMMANDS[name](tmp_path), ["--ray", "2"], tmp_path, KILLS // 2, lambda: None)


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A Ray cluster of two nodes of one core, where RAY_ADDRESS says; commands are not its parents."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", cli_kit.environment()["PYTHONPATH"])
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    for attempt in range(5):
        cluster = Cluster()
        try:
            cluster.add_node(num_cpus=1, include_dashboard=False)
            cluster.add_node(num_cpus=1)
            break
        except Exception:  # what Ray raises where its processes take over 30 s to begin
            cluster.shutdown()
            if attempt == 4:
                raise
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster
    cluster.shutdown()


def test_a_cluster_of_two_nodes(two_nodes: object, tmp_path: Path) -> None:
    disturbed(encode(tmp_path), ["--ray", "2"], tmp_path, KILLS, os.getpid)


def test_a_node_is_lost(two_nodes: object, tmp_path: Path) -> None:
    """What was given to its workers goes to the other node."""
    command = encode(tmp_path)
    undisturbed(command, tmp_path / "straight")
    process = cli_kit.start([*command, "-o", "out", "--ray", "2"], TINY, cwd=tmp_path)  # its nodes began elsewhere
    cli_kit.wait_until(lambda: units(tmp_path / "out"), process, MINUTES)
    node = next(iter(two_nodes.worker_nodes))  # type: ignore[attr-defined]
    two_nodes.remove_node(node, allow_graceful=False)  # type: ignore[attr-defined]
    _, said = process.communicate(timeout=MINUTES)
    assert process.returncode == 0, said
    assert (tmp_path / "out").read_bytes() == (tmp_path / "straight").read_bytes()
