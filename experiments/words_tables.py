"""Markdown tables of what words_curve.py or words_left_out.py found.

    python experiments/words_tables.py words-curve.json [MORE.json...] [--json curves.json]

Errors at M, 2M, 3M and 4M mean tokens (M = T / 4): means over seeds, half of what lies between the best and the worst
seed, and in brackets the ratio to the best rival of vocabulary 2,048; then the ratio to each rival. Under 1 is better.
A dash: outside a sweep, or one seed is.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xtok.actions.types import slots
from xtok.codec.words.encode import PATHS
from xtok.evaluate.compare import CURVE, Figure, Rival, at
from xtok.evaluate.rate import RatePoint

HEADINGS: dict[Figure, str] = {"l1": "l1", "position_mm": "mm", "rotation_deg": "degrees", "joint": "joints (rad)"}
FAIR = "@2048"  # rivals of this vocabulary, fitted on the robot itself, are those that a ratio in brackets is to
OTHERS = "pooled"
Cells = list[float | None]  # at M, 2M, 3M, 4M


def curve_of(sweeps: Mapping[str, Sequence[RatePoint]], horizon: int, figure: Figure) -> Cells:
    """The least error of several sweeps at M to 4M tokens, each read off between its points; None outside all."""
    cells: Cells = []
    for times in CURVE:
        found = [at(Rival(name, points), "tokens", times * slots(horizon)) for name, points in sweeps.items() if points]
        cells.append(min((error for each in found if (error := getattr(each, figure)) is not None), default=None))
    return cells


def words_of(entry: Mapping[str, Any], horizon: str, figure: Figure) -> list[Cells]:
    """Seed by seed."""
    found = [seed["horizons"][horizon]["words"] for seed in entry["seeds"].values() if horizon in seed["horizons"]]
    return [curve_of({"words": _points(points)}, int(horizon), figure) for points in found]


def rivals_of(entry: Mapping[str, Any], horizon: str, figure: Figure) -> dict[str, Cells]:
    """Rival@vocabulary -> its errors; those that the robot has."""
    return {
        key: curve_of({form: _points(points) for form, points in sweeps.items()}, int(horizon), figure)
        for key, sweeps in entry["rivals"].get(horizon, {}).items()
        if sweeps
    }


def best_of(curves: Sequence[Cells]) -> Cells:
    return [min((each[i] for each in curves if each[i] is not None), default=None) for i in range(len(CURVE))]  # type: ignore[type-var]


def over(mean: Cells, rival: Cells) -> Cells:
    return [None if ours is None or not his else ours / his for ours, his in zip(mean, rival, strict=True)]


def mean_of(seeds: Sequence[Cells]) -> tuple[Cells, Cells]:
    """Means over seeds, and half their range; None where any seed has none."""
    means: Cells = []
    spreads: Cells = []
    for i in range(len(CURVE)):
        column = [cells[i] for cells in seeds]
        known = [error for error in column if error is not None]
        whole = bool(known) and len(known) == len(column)
        means.append(float(np.mean(known)) if whole else None)
        spreads.append((max(known) - min(known)) / 2 if whole else None)
    return means, spreads


# -- markdown ----------------------------------------------------------------------------------------------------------


def tables(results: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Lines: for each figure the errors and the ratios; then steadiness and time."""
    for figure, heading in HEADINGS.items():
        rows = [
            (name, T, *mean_of(words_of(entry, T, figure)), rivals_of(entry, T, figure))
            for name, entry in results.items()
            for T in sorted(entry["chunks"], key=int)
        ]
        rows = [row for row in rows if any(cell is not None for cell in row[2])]
        if not rows:
            continue
        yield f"\n### {heading}\n"
        yield from _table(["set", "T", "M", "2M", "3M", "4M"], (_errors(*row) for row in rows))
        keys = list(dict.fromkeys(key for *_, rivals in rows for key in rivals))
        if keys:
            yield f"\n{heading}: words over each rival at M / 2M / 3M / 4M tokens\n"
            yield from _table(["set", "T", *keys], (_ratios(*row, keys) for row in rows))
    yield "\n### Steadiness and time\n"
    heads = ["set", "T", "rate", "tokens", "words changed at .004", "at .008", "residuals changed at .004", "at .008"]
    yield from _table(heads, _steady(results))
    yield ""
    heads = [
        "set",
        "channels",
        "train frames",
        "fit, CPU s",
        f"encode, ms a chunk ({PATHS} paths, T 32)",
        "decode, ms a chunk",
    ]
    yield from _table(heads, _times(results))


def _table(heads: Sequence[str], rows: Iterator[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def _errors(name: str, horizon: str, mean: Cells, spread: Cells, rivals: dict[str, Cells]) -> list[str]:
    fair = [cells for key, cells in rivals.items() if key.endswith(FAIR) and not key.startswith(OTHERS)]
    found = []
    for error, off, ratio in zip(mean, spread, over(mean, best_of(fair)), strict=True):
        cell = "-" if error is None else f"{error:.4g}" + (f" ± {off:.2g}" if off else "")
        found.append(cell if ratio is None else f"{cell} ({ratio:.2f})")
    return [name, horizon, *found]


def _ratios(
    name: str, horizon: str, mean: Cells, spread: Cells, rivals: dict[str, Cells], keys: Sequence[str]
) -> list[str]:
    cells = [over(mean, rivals[key]) if key in rivals else None for key in keys]
    return [name, horizon, *("" if each is None else " ".join(_two(ratio) for ratio in each) for each in cells)]


def _two(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _steady(results: Mapping[str, Mapping[str, Any]]) -> Iterator[list[str]]:
    for name, entry in results.items():
        for T in sorted(entry["chunks"], key=int):
            seeds = [seed["horizons"][T]["steadiness"] for seed in entry["seeds"].values() if T in seed["horizons"]]
            for same in zip(*seeds, strict=True):
                shares = [
                    f"{np.nanmean([one[sigma][what] for one in same]):.3f}"
                    for what in ("words", "residuals")
                    for sigma in ("0.004", "0.008")
                ]
                yield [name, T, f"{same[0]['rate']:g}", f"{np.mean([one['tokens'] for one in same]):.1f}", *shares]


def _times(results: Mapping[str, Mapping[str, Any]]) -> Iterator[list[str]]:
    for name, entry in results.items():
        seeds = [seed for seed in entry["seeds"].values() if "speed" in seed]
        if seeds:
            fits = np.mean([seed["fit_cpu_s"] for seed in seeds])
            encode = np.mean([seed["speed"]["encode_ms"][str(PATHS)]["ms"] for seed in seeds])
            decode = np.mean([seed["speed"]["decode_ms"] for seed in seeds])
            about = [str(seeds[0]["channels"]), str(seeds[0]["train_frames"])]
            yield [name, *about, f"{fits:.0f}", f"{encode:.2f}", f"{decode:.3f}"]


def curves(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Set -> T -> figure -> errors at M, 2M, 3M and 4M tokens of words, seed by seed, and of each rival; and words that
    noise changes, seed by seed."""
    out: dict[str, Any] = {}
    for name, entry in results.items():
        for T in sorted(entry["chunks"], key=int):
            place = out.setdefault(name, {"books_of": entry["others"]} if "others" in entry else {})
            place[T] = {"chunks": entry["chunks"][T], "steadiness": _brief_steadiness(entry, T)}
            for figure in HEADINGS:
                words = words_of(entry, T, figure)
                if any(cell is not None for cells in words for cell in cells):
                    found = {"words": words, **rivals_of(entry, T, figure)}
                    place[T][figure] = {key: _rounded(cells) for key, cells in found.items()}
    return out


def _brief_steadiness(entry: Mapping[str, Any], horizon: str) -> list[dict[str, Any]]:
    """Of each seed, at the first rate."""
    found = [seed["horizons"][horizon]["steadiness"][0] for seed in entry["seeds"].values()]
    return [
        {
            key: _rounded({name: share for name, share in at.items() if name != "compared"} if type(at) is dict else at)
            for key, at in each.items()
        }
        for each in found
    ]


def _rounded(value: Any) -> Any:
    """To four digits, all the way down."""
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _points(points: Sequence[Mapping[str, Any]]) -> list[RatePoint]:
    return [RatePoint(**point) for point in points]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("found", type=Path, nargs="+")
    parser.add_argument("--json", type=Path, help="what the tables are of, and nothing more")
    args = parser.parse_args()
    results: dict[str, Any] = {}
    for path in args.found:
        results |= json.loads(path.read_text())["results"]
    print("\n".join(tables(results)))
    if args.json:
        args.json.write_text(json.dumps(curves(results), separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
