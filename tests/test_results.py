"""scripts/trim_results.py keeps docs/results small, and free of the machine that measured."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = sorted((ROOT / "docs/results").glob("*.json"))
MOST = 1_000_000  # bytes in all


@pytest.fixture(scope="module")
def trim() -> ModuleType:
    spec = importlib.util.spec_from_file_location("trim_results", ROOT / "scripts/trim_results.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_results_are_small_and_trimmed(trim: ModuleType) -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in RESULTS}
    assert sum(map(len, texts.values())) < MOST
    untrimmed = [name for name, text in texts.items() if trim.dumped(trim.trimmed(json.loads(text))) != text]
    assert untrimmed == [], "run scripts/trim_results.py"


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        ("xtok eval --data /home/me/sets/cr5 -o out/x.json", "xtok eval --data cr5 -o out/x.json"),
        ("grid.py --features ../store-s --data ~/sets/panda", "grid.py --features store-s --data panda"),
        ("xtok eval --data corpus-s/panda docs/results/x.json", "xtok eval --data corpus-s/panda docs/results/x.json"),
        ("motion / moment, l1/fast, https://arxiv.org/abs/1", "motion / moment, l1/fast, https://arxiv.org/abs/1"),
    ],
)
def test_paths_of_a_machine_keep_their_last_part(trim: ModuleType, command: str, kept: str) -> None:
    content = {"command": command}
    assert trim.trimmed(content) == {"command": kept}
    assert list(trim.machine_paths(content)) == ([] if command == kept else [command])


def test_what_is_drawn_goes_and_what_is_told_stays(trim: ModuleType) -> None:
    gone: Counter[str] = Counter()
    content = {
        "command": "xtok eval",
        "versions": {"torch": "2.13.0"},
        "horizons": {"8": {"xtok": {"l1": 0.123456789, "usage": [1, 2]}, "fast": {"l1": 2.0, "curve": [{"over": 1}]}}},
        "semantics": {"plane": {"motion": [[0.1, 0.2]]}},
        "policies": {"raw": {"cells": {"Lift-Panda": {"successes": 3, "episodes": 4, "steps": 80.5}}}},
    }
    assert trim.trimmed(content, gone) == {
        "command": "xtok eval",
        "versions": {"torch": "2.13.0"},
        "horizons": {"8": {"xtok": {"l1": 0.12346, "usage": [1, 2]}, "fast": {"l1": 2.0}}},
        "semantics": {},
        "policies": {"raw": {"cells": {"Lift-Panda": "3/4"}}},
    }
    assert sum(gone.values()) == 3
    text = trim.dumped({"a": list(range(100)), "b": {"c": {"d": 1.5}}, "e": []})
    assert json.loads(text) == {"a": list(range(100)), "b": {"c": {"d": 1.5}}, "e": []}
    assert max(map(len, text.splitlines())) <= trim.WIDTH
