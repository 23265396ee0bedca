"""What `xtok eval` prints: each tokenizer at each length, and the curve from M to 4M tokens against FAST."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

COLUMNS: tuple[tuple[str, str, str], ...] = (
    # heading, key of an entry, format
    ("tokens", "tokens_mean", "{:.1f}"),
    ("bits", "bits_mean", "{:.0f}"),
    ("entropy", "entropy_bits_mean", "{:.0f}"),
    ("l1", "l1", "{:.5f}"),
    ("mm", "position_mm", "{:.2f}"),
    ("deg", "rotation_deg", "{:.2f}"),
    ("joint", "joint", "{:.4f}"),
    ("failed", "decode_failures", "{:d}"),
)
RATIOS: tuple[tuple[str, str], ...] = (
    # heading, figure
    ("l1", "l1"),
    ("mm", "position_mm"),
    ("deg", "rotation_deg"),
    ("joint", "joint"),
)
SHORT = {"fast": "fast", "fast-pooled": "pooled"}  # of a rival, in a heading


def table(result: Mapping[str, Any]) -> list[str]:
    """Lines for the terminal; a dash where a question has no answer."""
    return [*_entries(result), *_curve(result)]


def judgements(result: Mapping[str, Any]) -> list[str]:
    """Lines for the terminal: each target, and whether it was met."""
    from xtok.evaluate.verdicts import verdicts

    words = {True: "met", False: "NOT MET", None: "unmeasured"}
    return [f"  {words[verdict.met]:<10} {verdict.claim}: {verdict.found}" for verdict in verdicts(result)]


def rivals_of(result: Mapping[str, Any]) -> list[str]:
    """Those that others are held against, in any length."""
    found = {
        rival: None
        for entries in result["horizons"].values()
        for entry in entries.values()
        for rival in entry["at_equal_bits"]
    }
    return list(found)


def form_of(result: Mapping[str, Any], horizon: str) -> str | None:
    """How FAST codes rotations at a length, in words; None without rotations or without FAST."""
    fit = result["fast_fit"].get(horizon)
    if fit is None or fit["form"] is None:
        return None
    return {"tangent": "rotation vectors", "columns": "6D columns"}[fit["form"]]


def _entries(result: Mapping[str, Any]) -> Iterator[str]:
    robots = ", ".join(result["embodiments"])
    yield f"{result['dataset']} ({robots}), {result['split']} episodes, layout {result['layout']}"
    every = [entry for entries in result["horizons"].values() for entry in entries.values()]
    used = [column for column in COLUMNS if any(entry[column[1]] is not None for entry in every)]
    over = [
        (f"{heading}/{SHORT[rival]}", rival, figure)
        for rival in rivals_of(result)
        for heading, figure in RATIOS
        if any(entry["at_equal_bits"].get(rival, {}).get(figure) is not None for entry in every)
    ]
    headings = [heading for heading, _, _ in used] + [heading for heading, _, _ in over]
    widths = [max(9, len(heading) + 2) for heading in headings]
    yield f"  {'T':>3} {'tokenizer':<12}" + "".join(f"{h:>{w}}" for h, w in zip(headings, widths, strict=True))
    for horizon, entries in result["horizons"].items():
        for name, entry in entries.items():
            cells = ["-" if entry[key] is None else form.format(entry[key]) for _, key, form in used]
            cells += [_ratio(entry["at_equal_bits"].get(rival, {}).get(figure)) for _, rival, figure in over]
            row = "".join(f"{cell:>{w}}" for cell, w in zip(cells, widths, strict=True))
            yield f"  {horizon:>3} {name:<12}{row}"


def _curve(result: Mapping[str, Any]) -> Iterator[str]:
    """The subject over each rival at the same number of tokens."""
    subject, rivals = result["subject"], rivals_of(result)
    if not rivals:
        return
    yield f"  {subject} at M, 2M, 3M, 4M tokens (M = T / 4) over a rival at as many tokens; under 1 is better"
    reasons: dict[str, None] = {}
    for horizon, entries in result["horizons"].items():
        points = entries[subject]["curve"]
        for rival in rivals:
            rows = [point["over"].get(rival) for point in points]
            if any(row is None for row in rows):
                continue
            form = form_of(result, horizon)
            cells = [
                f"{heading} " + " ".join(f"{_ratio(row[figure]):>5}" for row in rows)
                for heading, figure in RATIOS
                if any(row[figure] is not None for row in rows)
            ]
            named = rival if form is None else f"{rival} ({form})"
            yield f"  {horizon:>3} {named:<32}" + "   ".join(cells)
            for point, row in zip(points, rows, strict=True):
                if row["reason"] is not None:
                    reasons[f"T {horizon}, {point['tokens']} tokens: {row['reason']}"] = None
    yield from (f"      {reason}" for reason in reasons)


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
