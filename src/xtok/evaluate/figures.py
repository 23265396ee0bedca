"""The report's drawings: what is plotted against what, from the `xtok eval` result and its illustration.

# N frames drawn, L rates (levels of the codec), S sigmas, Q levels
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from markupsafe import Markup

from xtok.evaluate import charts
from xtok.evaluate.charts import Cell, Change, Series
from xtok.evaluate.codebook import perplexity, usage
from xtok.evaluate.compare import FAST, FAST_POOLED
from xtok.evaluate.fit import BINS
from xtok.evaluate.formatting import format_figure, format_percent
from xtok.evaluate.illustrate import Curve, HandPath, Illustration, TokenStrip, Trajectory
from xtok.evaluate.result import Entry, EvaluationResult, RatePointJson
from xtok.evaluate.robustness import changed_tokens

DrawnPrice = Literal["bits", "tokens"]
Drawn = Literal["l1", "position_mm", "joint"]
STRIP_TOKENS_MAX = 128  # longer sequences are not drawn as strips
# Least height of a chart of a channel, so that a hand at rest looks at rest.
SPAN_MIN = {"mm": 20.0, "deg": 5.0, "rad": 0.1, "0 to 1": 0.2, "native": 0.0, "m/s": 0.02, "m": 0.02}


@dataclass(frozen=True)
class Figure:
    """A drawing with what is said above it."""

    title: str
    note: str
    svg: Markup
    tall: bool = False  # takes two rows


@dataclass(frozen=True)
class Strip:
    """One tokenizer's codes of a chunk: clean, then under each noise."""

    tokenizer: str
    reading: str
    rows: tuple[Figure, ...]


def noise_unit(result: EvaluationResult) -> str:
    """What a thousandth of sigma is called: noise is in the unit of each channel."""
    if result["joint_unit"] is None:
        return "mm and mrad"
    return "mrad" if result["joint_unit"] == "rad" else "thousandths of a unit"


def _lines(
    entries: Mapping[str, Entry], price: DrawnPrice, error: Drawn, colours: Mapping[str, str]
) -> tuple[list[Series], float]:
    """A line a tokenizer, its errors over its prices; and the dearest price of those that are drawn."""
    most = max(_paid(entry["rate_distortion"][-1], price) for name, entry in entries.items() if name != BINS)
    lines = []
    for name, entry in entries.items():
        points = [point for point in entry["rate_distortion"] if point[error]]
        if not points or (name == BINS and _paid(points[0], price) > 2 * most):
            continue  # so far to the right that the others would shrink to a line
        paid = np.array([_paid(point, price) for point in points])
        errors = np.array([point[error] for point in points])
        lines.append(Series(name, paid, errors, colours[name], dots=True))
    return lines, most


def _paid(point: RatePointJson, price: DrawnPrice) -> float:
    value = point[price]
    assert value is not None, "every rate that was evaluated has its bits and tokens"
    return value


def styles(result: EvaluationResult) -> dict[str, str]:
    """Tokenizer -> CSS class of its colour: ours, FAST and bins have their own, others take turns."""
    names = list(result["weights"])
    fixed = {result["subject"]: "ours", FAST: "fast", FAST_POOLED: "pooled", BINS: "bins"}
    others = [name for name in names if name not in fixed]
    return {name: fixed[name] if name in fixed else f"other{others.index(name) % 2}" for name in names}


def motion(drawn: Illustration) -> Iterator[Figure]:
    """Each hand's path and its channels over time, the hand that moves most first; then all other channels."""
    trajectory = drawn.trajectory
    for path in sorted(trajectory.paths, key=lambda path: -np.ptp(path.original_N3, axis=0).sum()):
        yield _path(path)
        yield from (_curve(trajectory, curve) for curve in trajectory.curves if curve.name.startswith(path.arm))
    arms = tuple(path.arm for path in trajectory.paths)
    yield from (_curve(trajectory, curve) for curve in trajectory.curves if not curve.name.startswith(arms))


def _curve(trajectory: Trajectory, curve: Curve) -> Figure:
    frames = curve.decoded_LN.shape[1]
    time_s = (1 + np.arange(frames)) / trajectory.control_hz
    series = _decoded([time_s] * len(curve.decoded_LN), curve.decoded_LN)
    mean_error = float(np.abs(curve.decoded_LN[-1]).mean())
    if curve.original_N is not None:
        series.insert(0, Series("original", time_s, curve.original_N, "original"))
        mean_error = float(np.abs(curve.decoded_LN[-1] - curve.original_N).mean())
    svg = charts.line_chart(
        series,
        "time, s",
        height=150,
        y_from_zero=curve.original_N is None,
        y_span_min=SPAN_MIN.get(curve.unit, 0.0),
        verticals=np.arange(0, frames, trajectory.horizon) / trajectory.control_hz,
        description=f"{curve.name} over time",
    )
    return Figure(f"{curve.name}, {curve.unit}", f"mean error {format_figure(mean_error)}", svg)


def _path(path: HandPath) -> Figure:
    i, j = sorted(np.argsort(np.ptp(path.original_N3, axis=0), kind="stable")[-2:])  # the plane it moves in most
    series = [Series("original", path.original_N3[:, i], path.original_N3[:, j], "original")]
    series += _decoded(path.decoded_LN3[..., i], path.decoded_LN3[..., j])
    svg = charts.path_chart(
        series,
        f"{'xyz'[i]}, mm",
        f"{'xyz'[j]}, mm",
        span_min=SPAN_MIN["mm"],
        description=f"path of the {path.arm} hand",
    )
    return Figure(f"{path.arm} hand, path in mm", f"{'xyz'[i]} and {'xyz'[j]}, from the dot", svg, tall=True)


def _decoded(x_LN: Sequence[np.ndarray] | np.ndarray, y_LN: np.ndarray) -> list[Series]:
    """A line each rate, coarsest first; the page can show one at a time, by its `level` class."""
    return [
        Series(f"{level} of {len(y_LN)}", x, y, f"level level{level} {rate_tone(level, len(y_LN))}")
        for level, (x, y) in enumerate(zip(x_LN, y_LN, strict=True), 1)
    ]


def rate_tone(level: int, levels: int) -> str:
    """CSS class of a rate's colour: the finest is darkest."""
    return "finest" if level == levels else f"coarse{min(level, 3)}"


def rate_distortion(result: EvaluationResult, colours: Mapping[str, str]) -> Iterator[Figure]:
    for horizon, entries in result["horizons"].items():
        lines, _ = _lines(entries, "bits", "l1", colours)
        svg = charts.line_chart(
            lines,
            "bits a chunk",
            "l1, normalised",
            height=220,
            y_log=True,
            description=f"rate-distortion at T {horizon}",
        )
        ratio = entries[result["subject"]]["l1_vs_fast_at_equal_bits"]
        note = "" if ratio is None else f"{format_figure(ratio)} \N{MULTIPLICATION SIGN} FAST at equal bits"
        yield Figure(f"T {horizon} frames", note, svg)


def by_tokens(result: EvaluationResult, colours: Mapping[str, str]) -> Iterator[Figure]:
    """Error in millimetres (or joint units) over tokens: what the ratios at M to 4M tokens are taken from."""
    units: dict[Drawn, str] = {"position_mm": "position, mm", "joint": f"joints, {result['joint_unit']}"}
    for horizon, entries in result["horizons"].items():
        error = next((key for key in units if entries[result["subject"]][key] is not None), None)
        if error is None:
            continue
        lines, _ = _lines(entries, "tokens", error, colours)
        marks = np.array([point["tokens"] for point in entries[result["subject"]]["curve"]])
        svg = charts.line_chart(
            lines,
            "tokens a chunk",
            units[error],
            height=220,
            y_log=True,
            verticals=marks,
            description=f"error by tokens at T {horizon}",
        )
        yield Figure(f"T {horizon} frames", "M to 4M tokens are marked", svg)


def noise(result: EvaluationResult, drawn: Illustration, colours: Mapping[str, str]) -> Iterator[Figure]:
    """Token error of all tokenizers, and which levels flip for those that have levels."""
    entries = result["horizons"][str(drawn.horizon)]
    sigmas, label = 1000 * np.array(result["sigmas"]), f"noise, sigma in {noise_unit(result)}"
    errors = [
        Series(name, sigmas, 100 * np.array(list(entry["wer"].values())), colours[name], dots=True)
        for name, entry in entries.items()
    ]
    svg = charts.line_chart(errors, label, "%", y_from_zero=True, description="tokens that change under noise")
    yield Figure("Tokens that change", "edits / clean length", svg)
    yield _swaps(result, drawn, colours)
    for name, entry in entries.items():
        if entry["flip_per_level"] is None:
            continue
        flips_SQ = 100 * np.array(list(entry["flip_per_level"].values()))
        levels = [
            Series(f"q{q}", sigmas, flips_S, f"depth depth{q}", dots=True) for q, flips_S in enumerate(flips_SQ.T)
        ]
        svg = charts.line_chart(levels, label, "%", y_from_zero=True, description=f"flips of {name} by level")
        yield Figure(f"Codes of {name} that change, by level", "share of slots", svg)


def _swaps(result: EvaluationResult, drawn: Illustration, colours: Mapping[str, str]) -> Figure:
    """What one wrong token does to the error."""
    entries = result["horizons"][str(drawn.horizon)]
    changes = [
        Change(
            name,
            entry["l1"],
            entry["swap_l1"],
            _decoding(entry["swap_failure_rate"], entry["swap_repaired_rate"]),
            colours[name],
        )
        for name, entry in entries.items()
    ]
    svg = charts.change_chart(changes, "l1, normalised: without, and with one wrong token", 200, "one wrong token")
    return Figure("One wrong token", "of each chunk", svg)


def _decoding(failing: float, repaired: float) -> str:
    failing_told = f"{format_percent(failing)} no longer decode"
    return f"{failing_told}, {format_percent(repaired)} repaired" if repaired else failing_told


def strips(result: EvaluationResult, drawn: Illustration) -> Iterator[Strip]:
    """One chunk's codes, for tokenizers whose sequences are short enough to look at."""
    for strip in drawn.strips:
        if len(strip.clean.tokens[0]) <= STRIP_TOKENS_MAX:
            yield _strip(strip, noise_unit(result))


def _strip(strip: TokenStrip, noise_unit: str) -> Strip:
    clean = strip.clean.tokens[0]
    rows = [Figure("clean", f"{len(clean)} codes", _cells(strip, clean, np.zeros(len(clean), dtype=bool)))]
    for sigma, codes in strip.noisy.items():
        noisy = codes.tokens[0]
        changed = (noisy != clean) if strip.levels else changed_tokens(clean, noisy)
        note = f"{int(changed.sum())} of {len(noisy)} codes changed"
        rows.append(Figure(f"sigma {1000 * sigma:g} {noise_unit}", note, _cells(strip, noisy, changed)))
    reading = "rows: levels, q0 on top; columns: slots of 4 frames" if strip.levels else "one sequence, left to right"
    return Strip(strip.tokenizer, reading, tuple(rows))


def _cells(strip: TokenStrip, tokens: np.ndarray, changed: np.ndarray) -> Markup:
    cells = [Cell(int(code), bool(flag)) for code, flag in zip(tokens, changed, strict=True)]
    description = f"codes of {strip.tokenizer}"
    if strip.levels:  # position-major: the codes of a slot lie next to each other
        rows = [cells[level :: strip.levels] for level in range(strip.levels)]
        return charts.token_grid(rows, max(8, len(rows[0])), numbered=True, description=description)
    rows = [cells[i : i + 20] for i in range(0, len(cells), 20)]
    return charts.token_grid(rows, 20, numbered=False, description=description)


def code_use(result: EvaluationResult, drawn: Illustration, colours: Mapping[str, str]) -> Iterator[Figure]:
    subject = result["subject"]
    if subject not in drawn.counts:
        return
    names = [subject, *(name for name in drawn.counts if name != subject)]
    for q in range(len(drawn.counts[subject])):
        shown = [(name, drawn.counts[name][q]) for name in names if q < len(drawn.counts[name])]
        svg = charts.rank_chart(shown, [colours[name] for name, _ in shown], description=f"code use of level q{q}")
        notes = [f"{name} {format_percent(usage(c))} used, perplexity {perplexity(c):,.0f}" for name, c in shown]
        yield Figure(f"q{q} of {len(shown[0][1]):,} codes", "; ".join(notes), svg)
