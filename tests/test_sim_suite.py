"""The table of the suite is written a cell at a time, and what it says of a cell is what was measured."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("gymnasium", reason="the simulation needs its extra: pip install 'xtok[sim]'")
pytest.importorskip("mujoco", reason="the simulation needs its extra: pip install 'xtok[sim]'")

SCRIPT = Path(__file__).parents[1] / "scripts/sim_suite.py"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("sim_suite", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "TARGET", tmp_path / "suite.json")
    return module


def episode(seed: int, failure: str | None = None) -> dict:
    return {"seed": seed, "success": failure is None, "steps": 10 * (seed + 1), "failure": failure or ""}


DONE = {seed: episode(seed, "it fell" if seed == 2 else None) for seed in range(4)}


def test_a_cell_joins_the_suite_and_leaves_the_others(script: ModuleType) -> None:
    order = [("Lift", "Panda"), ("Lift", "Kinova3"), ("Share", "Panda_UR5e")]
    script.merge_suite(order[2], DONE, order)
    script.merge_suite(order[0], {0: episode(0)}, order)
    script.merge_suite(order[2], {**DONE, 4: episode(4)}, order)
    rows = json.loads(script.TARGET.read_text())["cells"]
    assert [(row["task"], row["arm"]) for row in rows] == [order[0], order[2]]
    assert rows[1] == {
        "task": "Share",
        "arm": "Panda_UR5e",
        "dual": True,
        "held_out": False,
        "expert_success": 0.8,
        "episodes": 5,
        "seeds": [0, 1, 3, 4],
    }


def test_a_report_keeps_both_levels_and_says_why_experts_failed(script: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    script.merge_report(path, "hard", ("Share", "Panda_UR5e"), DONE)
    script.merge_report(path, "easy", ("Lift", "Panda"), {0: episode(0)})
    report = json.loads(path.read_text())
    assert list(report) == ["easy", "hard"] and report["easy"]["Lift-Panda"]["successes"] == 1
    row = report["hard"]["Share-Panda_UR5e"]
    assert (row["episodes"], row["successes"], row["steps"]) == (4, 3, 25.0)
    assert row["failures"] == {"it fell": 1} and row["seeds_failed"] == [2]
    assert row["success"]["low"] < 0.75 < row["success"]["high"]


def test_a_line_cut_short_is_measured_again(script: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "cell.jsonl"
    path.write_text(json.dumps(episode(0)) + "\n" + json.dumps(episode(1))[:9])
    assert list(script.episodes_of(path)) == [0]
