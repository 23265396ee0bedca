"""experiments/semantics_grid.py: all 24 runs, each written when done, and a stopped grid goes on with the rest."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import semantics_kit as kit

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The module with training and measuring replaced by a record of what was asked for; the fifth run is cut short."""
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    module = importlib.import_module("semantics_grid")
    asked: list[Any] = []

    def run(recipe: Any, *_: Any) -> dict[str, Any]:
        asked.append(recipe)
        if len(asked) == 5:
            raise KeyboardInterrupt
        return {"l1": {"32": 0.01}}

    corpus = SimpleNamespace(digest="d", validation=[], layout=kit.corpus().layout)
    monkeypatch.setattr(module, "run", run)
    monkeypatch.setattr(module, "measure", lambda *_: {"l1": {"32": 0.02}})
    monkeypatch.setattr(module, "summary", lambda figures: "")
    monkeypatch.setattr(module, "open_trial", lambda *_: None)
    monkeypatch.setattr(module, "make_start", lambda *_: None)
    monkeypatch.setattr(module.Corpus, "open", lambda *_: corpus)
    monkeypatch.setattr(module.FeatureStore, "open", lambda _: SimpleNamespace(digest="f"))
    monkeypatch.setattr(module.Tokenizer, "from_pretrained", lambda _: SimpleNamespace(digest="s"))
    module.asked = asked
    yield module
    sys.modules.pop("semantics_grid")
    sys.modules.pop("semantics_measure")


def command(out: Path, *more: str) -> list[str]:
    given = {"--data": "d", "--features": "f", "--start": "s", "-o": str(out)}
    return ["semantics_grid.py", *[word for pair in given.items() for word in pair], *more]


def test_a_stopped_grid_goes_on_and_covers_all(grid: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "grid.json"
    monkeypatch.setattr(sys, "argv", command(out))
    with pytest.raises(KeyboardInterrupt):
        grid.main()
    assert len(json.loads(out.read_text())["runs"]) == 4
    grid.main()
    content = json.loads(out.read_text())
    assert content["start"] == {"l1": {"32": 0.02}}
    runs = content["runs"]
    assert len(grid.asked) == 25  # the one that was cut short is begun anew
    assert {(r.masking.forms, r.alignment.align, r.alignment.predict, r.seed) for r in grid.asked} == {
        (mam, align, predict, seed)
        for mam in ("none", "codes")
        for align in (False, True)
        for predict in (False, True)
        for seed in (0, 1, 2)
    }
    assert len(runs) == 24
    assert runs["mam+align+predict seed 2"]["l1"] == {"32": 0.01}
    assert len({(r.data.batch_size, r.optimiser.learning_rate, r.codec) for r in grid.asked}) == 1
    # Without a head there is nothing to learn, and the books are placed anew.
    assert {(r.masking.forms != "none" or r.alignment.wanted, r.steps) for r in grid.asked} == {(True, 400), (False, 0)}
    grid.main()
    assert len(grid.asked) == 25


def test_a_grid_of_another_length_is_not_mixed_in(grid: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "grid.json"
    monkeypatch.setattr(sys, "argv", command(out, "--seeds", "0", "--steps", "10"))
    with pytest.raises(KeyboardInterrupt):
        grid.main()
    monkeypatch.setattr(sys, "argv", command(out, "--seeds", "0", "--steps", "20"))
    with pytest.raises(ValueError, match="another recipe"):
        grid.main()
