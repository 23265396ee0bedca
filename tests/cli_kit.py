"""The `xtok` command in processes of its own, on small data of joints, for tests of stops, locks and full disks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import folders

XTOK = (sys.executable, "-m", "xtok.cli.main")
HERE = Path(__file__).parent
TINY = str(HERE / "tiny_xtok.py")


def joints(root: Path, seed: int, episodes: int = 8, frames: int = 90, width: int = 4, scale: float = 1) -> Path:
    """A LeRobot v2.1 folder of smooth joint motion, another for every seed."""
    rng = np.random.default_rng(seed)
    times = np.arange(frames)[:, None] / 20
    every = []
    for _ in range(episodes):
        low, high = rng.uniform(0, 6, width), rng.uniform(0.3, 1, width)
        motion = (scale * high * np.sin(2 * np.pi * rng.uniform(0.2, 0.6, width) * times + low)).astype(np.float32)
        every.append({"observation.state": motion, "action": motion})
    return folders.write_v21(root, every)


def environment() -> dict[str, str]:
    """Of a child: this xtok, one thread."""
    path = os.pathsep.join([str(HERE), str(HERE.parent / "src"), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def start(arguments: Sequence[object], program: Sequence[str] = XTOK, **how: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        **how,  # type: ignore[call-overload]
    )


def run(arguments: Sequence[object], program: Sequence[str] = XTOK, **how: object) -> tuple[int, str]:
    """Exit status, and what was said on both streams."""
    process = start(arguments, program, **how)
    out, err = process.communicate(timeout=120)
    return process.returncode, out + err


def wait_until(true: Callable[[], object], process: subprocess.Popen[str], seconds: float = 60) -> None:
    """Until something is true, which must be while the process runs."""
    until = time.monotonic() + seconds
    while not true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.005)
