"""scripts/gpu_check.py as it is called: parts that fail, crash or hang stop no other, and a second call goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xtok import Tokenizer

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
pytestmark = pytest.mark.skipif(not SCRIPTS.is_dir(), reason="an installed xtok")


def call(out: Path, *options: object, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *python, str(SCRIPTS / "gpu_check.py"), "--smoke", "-o", str(out), *map(str, options)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)


def parts(out: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((out / "results.json").read_text())["parts"]
    return found


def check_step(step: dict[str, Any]) -> None:
    assert step["steps_per_second"] > 0 and step["tflop_per_step"] > 0
    assert 0 < step["share_waited_for_batches"] < 1
    assert step["precision"] == "bf16"


def test_a_second_call_goes_on_and_a_failing_part_stops_no_other(tmp_path: Path) -> None:
    out, only = tmp_path / "out", ("--only", "machine", "codes", "step_paper", "train")
    done = call(out, *only, "--features", tmp_path / "nowhere", "--steps-a-call", 2, "--pack")
    assert done.returncode == 0, done.stderr
    found = parts(out)
    assert {name: part["status"] for name, part in found.items()} == {
        "machine": "done",
        "codes": "done",
        "step_paper": "failed",
        "train": "partial",
    }
    assert "no feature store in" in found["step_paper"]["error"] and "Traceback" in found["step_paper"]["traceback"]
    codes = found["codes"]["result"]
    assert codes["all_equal"] is True
    for layout in ("arms26", "joints"):
        assert codes[layout]["digest_is_golden"] and codes[layout]["golden_codes_equal"] == {"32": True, "13": True}
        assert codes[layout]["codes"] > 100 and codes[layout]["codes_different_from_cpu"] == 0
    assert found["train"]["result"]["step"] == 2
    weights = Tokenizer.from_pretrained(out / "weights").digest
    assert found["train"]["result"]["weights"] == {
        "bytes": (out / "weights/model.safetensors").stat().st_size,
        "digest": weights,
    }

    # On another machine, from what the first one handed back.
    state, out = tmp_path / "state", tmp_path / "other"
    state.mkdir()
    for path in (tmp_path / "out").iterdir():
        if path.is_file():
            path.rename(state / path.name)
    done = call(out, *only, "--state", state)
    assert done.returncode == 0, done.stderr
    assert "codes: done in an earlier call" in done.stdout
    again = parts(out)
    assert again["codes"] == found["codes"]
    check_step(again["step_paper"]["result"])
    trained = again["train"]["result"]
    assert again["train"]["status"] == "done" and (trained["from_step"], trained["step"]) == (2, 4)
    assert trained["released"]["released_l1_validation"].keys() == {"8", "16"}
    assert Tokenizer.from_pretrained(out / "weights").digest == trained["weights"]["digest"] != weights


@pytest.mark.slow
def test_all_parts(tmp_path: Path) -> None:
    done = call(tmp_path, "--minutes", 20)
    assert done.returncode == 0, done.stderr
    found = parts(tmp_path)
    assert {part["status"] for part in found.values()} == {"done"}, found
    assert list(found) == ["machine", "codes", "throughput", "matmul", "step_small", "step_paper", "train"]
    rates = found["throughput"]["result"]["frames_per_second"]["cpu"]
    assert all(rate > 0 for what in ("encode", "decode") for rate in rates[what].values())
    check_step(found["step_small"]["result"])
    assert 0 < found["step_small"]["result"]["share_of_matmul_peak"] < 1


def test_what_is_missing_is_told_with_how_to_carry_it(tmp_path: Path) -> None:
    done = call(tmp_path / "out", python=("-S",))  # a Python without any packages
    assert done.returncode == 2
    for name in ("torch", "accelerate", "safetensors", "jaxtyping", "pyarrow", "pip download --no-deps"):
        assert name in done.stderr
    assert "Traceback" not in done.stderr


def _killed(options: object, before: object, tell: Callable[..., None]) -> None:
    tell("partial", {"so": "far"})
    os.kill(os.getpid(), signal.SIGKILL)


def _hanging(options: object, before: object, tell: Callable[..., None]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(100)


@pytest.mark.parametrize(("part", "said"), [(_killed, "ended with exit code -9"), (_hanging, "stopped after")])
def test_a_part_that_crashes_or_hangs_is_told(
    part: Callable[..., None], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    import gpu_check

    monkeypatch.setattr(gpu_check, "GRACE_S", 0.2)
    options = gpu_check.Options(True, (), None, None, None, tmp_path, tmp_path, time.monotonic() + 60)
    results = gpu_check.Results(tmp_path / "results.json", options)
    gpu_check.run_part(part, "codes", 0.5, options, results)
    found = parts(tmp_path)["codes"]
    assert found["status"] == "failed" and said in found["error"]
    assert found.get("result") == ({"so": "far"} if part is _killed else None)
