"""`kill -9` at random moments: `xtok pack` and `xtok encode` go on and end with the bytes of an undisturbed run.

The twenty kills each that docs/data.md speaks of: `pytest -m slow -s tests/test_pack_kills.py`.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import pytest

import synthetic
import xtok
import xtok.data.packed.pack
from pack_kit import SMALL, contents, recording
from xtok.cli.main import main

KILLS = [pytest.param(3, id="3"), pytest.param(20, id="20", marks=pytest.mark.slow)]


def run(arguments: Sequence[str], kill_after_s: float | None = None) -> bool:
    """One run of the command in a process of its own; whether it was killed before it ended well."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            with (
                SMALL,
                patch("xtok.cli.encode.EPISODES_PER_PART", 1),
                patch("xtok.data.packed.statistics.KEEP_EVERY", 2),
            ):
                code = main(arguments)
        finally:
            os._exit(code)
    until = time.monotonic() + (1e9 if kill_after_s is None else kill_after_s)
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0
            return False
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def check(arguments: Sequence[str], out: Path, kills: int) -> None:
    """arguments write below `out`. Killed `kills` times in all, in fresh folders and in those that kills left."""
    began = time.monotonic()
    run(arguments)
    took_s = time.monotonic() - began
    straight = contents(out)
    assert straight
    shutil.rmtree(out)
    rng, left, ended, found = random.Random(0), kills, 0, 0
    while left:
        began = time.monotonic()
        if run(arguments, rng.uniform(0.0, took_s)):
            left -= 1
            print(f"{arguments[0]}: killed, {left} to go", flush=True)
            found += bool(out.exists() and contents(out))
            if rng.random() < 0.5:
                continue  # and perhaps be killed again
            run(arguments)
        else:
            took_s = min(took_s, time.monotonic() - began)  # no kill beyond the end of a run, whatever else is running
        assert contents(out) == straight
        ended += 1
        shutil.rmtree(out)
    run(arguments)
    assert contents(out) == straight
    print(f"{arguments[0]}: {kills} kills, {found} after it had written, {ended + 1} runs ended, all as undisturbed")


@pytest.mark.parametrize("kills", KILLS)
def test_pack(tmp_path: Path, kills: int) -> None:
    data = recording(tmp_path / "panda", frames=(14, 9, 12))
    check(["pack", str(data), "-o", str(tmp_path / "out" / "corpus")], tmp_path / "out", kills)


@pytest.mark.parametrize("kills", KILLS)
def test_encode(tmp_path: Path, kills: int) -> None:
    data = recording(tmp_path / "panda", synthetic.ONE_ARM)  # a robot that the tokenizer knows: no ranges to fit first
    xtok.Tokenizer(synthetic.fitted_codec()).save_pretrained(tmp_path / "tokenizer")
    xtok.Tokenizer.from_pretrained(tmp_path / "tokenizer")  # imports seconds' worth of torch, once for all children
    arguments = ["encode", str(data), "--tokenizer", str(tmp_path / "tokenizer"), "--horizon", "8", "--stride", "1"]
    check([*arguments, "-o", str(tmp_path / "out" / "codes.parquet")], tmp_path / "out", kills)
