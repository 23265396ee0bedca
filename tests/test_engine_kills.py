"""`kill -9` at random moments of a training: of one process, of a rank, of torchrun. It goes on, and ends bit for bit
as an undisturbed run; nothing trains on without its launcher.

The twenty kills that docs/scale.md speaks of: `pytest -m slow -s tests/test_engine_kills.py`. KILLS in the environment
takes another number, SEED other moments.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import ranks_kit as kit

KILLS, SEED = int(os.environ.get("KILLS", 20)), int(os.environ.get("SEED", 0))
GONE_S = 60.0  # for the ranks, once their launcher is gone


def start(out: Path, processes: int) -> subprocess.Popen[bytes]:
    """`tiny`, dropout included, 50 steps: begun, or gone on with if it had begun."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    resume = ["--resume"] if (out / "run.json").is_file() else []
    command = [sys.executable, *(launcher if processes > 1 else []), kit.__file__, "kills", str(out), *resume]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path), "XTOK_SLOW": "0.02"}
    with _log(out).open("ab") as log:
        return subprocess.Popen(command, env=environment, start_new_session=True, stdout=log, stderr=log)


def _log(out: Path) -> Path:
    return out.with_name(f"{out.name}.log")


def finish(out: Path, processes: int) -> None:
    with start(out, processes) as run:
        assert run.wait(kit.TIMEOUT_S) == 0, _log(out).read_text(errors="replace")[-4000:]


def killed(out: Path, processes: int, who: str, moment: Callable[[], bool]) -> bool:
    """Start a run and kill one of its processes when `moment` says so. Whether that was before its end; then nothing of
    the run is left. who: "process" or "launcher", what is started here; "first" or "last" of its ranks."""
    with start(out, processes) as run:
        launcher, ranks = psutil.Process(run.pid), []
        while run.poll() is None and not (moment() and (ranks or processes == 1)):
            ranks = launcher.children()
            time.sleep(0.005)
        if run.poll() is not None:
            return False
        ranks.sort(key=lambda each: each.pid)
        {"process": launcher, "launcher": launcher, "first": [*ranks, launcher][0], "last": [launcher, *ranks][-1]}[
            who
        ].kill()
        run.wait(GONE_S)
        _, left = psutil.wait_procs(ranks, GONE_S)
        for each in left:
            each.kill()
        assert not left, f"{len(left)} processes train on without their launcher"
    return True


@pytest.mark.slow
def test_killed_at_random_and_gone_on_with_it_ends_as_undisturbed(tmp_path: Path) -> None:
    rng, straight, took_s = random.Random(SEED), {}, {}
    for processes in (1, 2):
        began = time.monotonic()
        finish(tmp_path / f"straight-{processes}", processes)
        took_s[processes] = time.monotonic() - began
        straight[processes] = kit.result(tmp_path / f"straight-{processes}")
    done, ended = dict.fromkeys(("process", "launcher", "first", "last"), 0), 0
    runs = 0
    while sum(done.values()) < KILLS:
        who = min(done, key=lambda each: (done[each], rng.random()))
        processes, out = 1 if who == "process" else 2, tmp_path / f"run-{runs}"
        runs += 1
        for _ in range(rng.choice((1, 1, 2))):  # and perhaps be killed again
            until = time.monotonic() + rng.uniform(0.2, 1.0) * took_s[processes]
            if sum(done.values()) == KILLS or not killed(out, processes, who, lambda u=until: time.monotonic() > u):
                break
            done[who] += 1
            newest = sorted((out / "checkpoints").glob("[0-9]*")) if (out / "checkpoints").is_dir() else []
            where = f"after checkpoint {int(newest[-1].name)}" if newest else "before the first checkpoint"
            print(f"kill {sum(done.values())}: {who}, {where}", flush=True)
        finish(out, processes)  # also one that had come to its end: that changes nothing
        assert kit.result(out) == straight[processes], f"{who}, {out}"
        ended += 1
    print(f"{KILLS} kills ({done}), {ended} runs ended, all bit for bit as undisturbed")


def test_a_torchrun_that_is_killed_at_once_leaves_nothing_that_waits_for_it(tmp_path: Path) -> None:
    assert killed(tmp_path / "run", 2, "launcher", lambda: True)
    assert not (tmp_path / "run").exists()


def test_a_killed_torchrun_leaves_nothing_that_trains_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    logged = out / "metrics.jsonl"
    assert killed(out, 2, "launcher", lambda: logged.is_file() and b'"step": 2' in logged.read_bytes())
    steps = [json.loads(line)["step"] for line in logged.read_text().splitlines()]
    assert steps[-1] < kit.STEPS
    (checkpoint,) = (path.name for path in (out / "checkpoints").glob("[0-9]*"))
    assert int(checkpoint) == steps[-1], "told to stop, they leave a checkpoint of their last step"
