"""The report's drawings of the corruption curve.

# R rates
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from xtok.evaluate import charts
from xtok.evaluate.charts import Series
from xtok.evaluate.figures import Figure
from xtok.evaluate.result import CorruptedJson, EvaluationResult
from xtok.evaluate.word_faults import ALLOWED

Drawn = Literal["position_mm", "joint"]
TITLES = {  # short: a note stands beside
    "flip": "Flipped",
    "drop": "Dropped",
    "swap": "Swapped",
    "truncate": "Cut off",
    ALLOWED: "Flipped under the mask",
    "drop word": "Words dropped",
    "drop residual": "Residuals dropped",
}
ONE_TOKEN_SHOWN = ("none", "flip", "drop", "swap")  # of all tokenizers; other kinds are of one of them


@dataclass(frozen=True)
class OneToken:
    """One tokenizer's row: error by kind, in `unit`, and which share of chunks was repaired or failed."""

    name: str
    errors: dict[str, float]
    repaired: dict[str, float]
    failed: dict[str, float]


def curves(result: EvaluationResult, colours: Mapping[str, str]) -> Iterator[Figure]:
    """A drawing each kind of fault that some tokenizer has; nothing without a curve."""
    found = result.get("corruption")
    if found is None:
        return
    key, label = _unit(result)
    for kind in TITLES:
        points = {name: each[kind] for name, each in found["tokenizers"].items() if kind in each}
        lines = [_line(name, _decoding(points[name], found["chunks"]), key, colours[name]) for name in points]
        if lines:
            yield _figure(TITLES[kind], _failures(points, found["chunks"]), lines, "% of tokens", label)


def levels(result: EvaluationResult) -> Iterator[Figure]:
    """A drawing each tokenizer that has levels."""
    found = result.get("corruption")
    if found is None:
        return
    key, label = _unit(result)
    for name, each in found["tokenizers"].items():
        kinds = [kind for kind in each if kind not in TITLES]
        if kinds:
            lines = [
                _line(kind.removeprefix("flip "), each[kind], key, f"depth depth{q}") for q, kind in enumerate(kinds)
            ]
            yield _figure(name, "", lines, "% of the level's codes", label)


def one_token(result: EvaluationResult) -> list[OneToken]:
    """What one wrong, missing or displaced token of each chunk costs; nothing without a curve."""
    found = result.get("corruption")
    if found is None:
        return []
    key, _ = _unit(result)
    rows = []
    for name, kinds in found["one_token"].items():
        errors = {kind: value if (value := each[key]) is not None else each["l1"] for kind, each in kinds.items()}
        repaired, failed = (
            {kind: each[what] / found["chunks"] for kind, each in kinds.items()} for what in ("repaired", "failed")
        )
        rows.append(OneToken(name, errors, repaired, failed))
    return rows


def unit(result: EvaluationResult) -> str:
    """Of errors of corrupted codes."""
    return _unit(result)[1]


def _unit(result: EvaluationResult) -> tuple[Drawn, str]:
    """What is drawn, and what it is called: millimetres where there are poses, else the joints' unit."""
    if result["joint_unit"] is None:
        return "position_mm", "mean error, mm"
    return "joint", f"mean error, {'rad' if result['joint_unit'] == 'rad' else 'native units'}"


def _line(name: str, points: list[CorruptedJson], key: Drawn, style: str) -> Series:
    rates = 100 * np.array([point["rate"] for point in points])
    values = [point[key] if point[key] is not None else point["l1"] for point in points]
    return Series(name, rates, np.array(values, dtype=float), style, dots=True)


def _figure(title: str, note: str, lines: list[Series], x_label: str, y_label: str) -> Figure:
    svg = charts.line_chart(lines, x_label, y_label, y_from_zero=True, description=f"error by rate: {title}")
    return Figure(title, note, svg)


def _decoding(points: list[CorruptedJson], chunks: int) -> list[CorruptedJson]:
    """Up to the last rate at which at least half of the chunks decode: beyond, the error is that of standing still."""
    kept = [point for point in points if 2 * point["failed"] <= chunks]
    return kept or points[:1]


def _failures(points: Mapping[str, list[CorruptedJson]], chunks: int) -> str:
    """Whose lines end, and from which rate on."""
    first = {name: [p["rate"] for p in each if 2 * p["failed"] > chunks] for name, each in points.items()}
    told = [f"{name} {100 * rates[0]:g}\N{NO-BREAK SPACE}%" for name, rates in first.items() if rates]
    return f"fails from: {', '.join(told)}" if told else "most decode"
