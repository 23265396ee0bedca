"""The comparison with FAST as it is read: at equal bits and at equal tokens, in which form, and what would help.

From the result of `xtok eval` alone; the table at the terminal and the report draw on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xtok.actions.layout import get_layout
from xtok.evaluate.compare import FAST, FIGURES, RIVALS, Figure, Figures
from xtok.evaluate.result import BookUseJson, Entry, EvaluationResult, FiguresJson

# By whether the layout has rotations.
FORM_WORDS: dict[bool, dict[str, str]] = {
    True: {
        "columns": "as 6D columns",
        "tangent": "as rotation vectors",
        "columns-rest": "as 6D columns, 0 at rest",
        "tangent-rest": "as rotation vectors, 0 at rest",
    },
    False: {"tangent": "0 in the middle", "tangent-rest": "0 at rest"},
}
FIGURE_WORDS: dict[Figure, str] = {"l1": "l1", "position_mm": "mm", "rotation_deg": "deg", "joint": "joint error"}
KNOWN_WORDS = {
    "measured": "known by closed forms, without books of its own",
    "ranges": "known by its ranges alone",
}
FOUND_WORDS = {
    "measured": "It is coded by closed forms measured on its train episodes, with the codes of other robots.",
    "ranges": "It is coded by the range of each channel and by how other robots move on average.",
}


@dataclass(frozen=True)
class CurveRow:
    """The subject over one rival at one length. tokens: at M .. 4M. points: ratios by figure, and a reason. form: of
    FAST."""

    rival: str
    form: str | None
    tokens: list[int]
    points: list[FiguresJson]


@dataclass(frozen=True)
class PriceRow:
    """What M to 4M tokens of one tokenizer are in bits a chunk: by the size of its vocabulary, and behind a unigram
    entropy coder; None where it has no such rate."""

    name: str
    tokens: list[int]
    bits: list[float | None]
    entropy_bits: list[float | None]


@dataclass(frozen=True)
class Remedy:
    """Robots that `xtok adapt` would code better: how the tokenizer knows them now, in words."""

    robots: list[str]
    known: str
    found: str


def rivals_of(result: EvaluationResult) -> list[str]:
    """Those that others are held against, at any length."""
    entries = [entry for each in result["horizons"].values() for entry in each.values()]
    return [rival for rival in RIVALS if any(rival in entry["at_equal_bits"] for entry in entries)]


def compared(result: EvaluationResult) -> list[tuple[str, str]]:
    """Figures that the robot has, and what they are called."""
    entries = [entry for each in result["horizons"].values() for entry in each.values()]
    return [(key, FIGURE_WORDS[key]) for key in FIGURES if any(entry[key] is not None for entry in entries)]


def beside_fast(entry: Entry) -> FiguresJson:
    """Ratios at equal bits, None where there are none."""
    return entry["at_equal_bits"].get(FAST, Figures().to_dict())


def form_words(result: EvaluationResult) -> dict[str, str]:
    """FAST's forms in words, as they differ in this layout."""
    return FORM_WORDS[bool(get_layout(result["layout"]).of_kind("rotation6d"))]


def form_at(result: EvaluationResult, horizon: str) -> str | None:
    """How FAST codes motion at a length, in words; None without FAST, or where an older result had no choice."""
    fit = result["fast_fit"].get(horizon)
    return None if fit is None or fit["form"] is None else form_words(result)[fit["form"]]


def forms_in_words(result: EvaluationResult) -> str | None:
    """Over all lengths: "as rotation vectors", or which where."""
    forms = {horizon: form for horizon in result["horizons"] if (form := form_at(result, horizon)) is not None}
    if len(set(forms.values())) <= 1:
        return next(iter(forms.values()), None)
    return ", ".join(f"{form} at T {horizon}" for horizon, form in forms.items())


def pooled_robots(result: EvaluationResult) -> list[str]:
    fits = [fit for fit in result["fast_pooled_fit"].values() if fit is not None]
    return sorted({member["robot"] for fit in fits for member in fit["members"]})


def curves(result: EvaluationResult, rivals: Sequence[str]) -> list[tuple[str, list[CurveRow]]]:
    """Length by length, rival by rival; lengths without a rival are left out."""
    out = []
    for horizon, entries in result["horizons"].items():
        points = entries[result["subject"]]["curve"]
        rows = [
            CurveRow(
                rival,
                form_at(result, horizon),
                [point["tokens"] for point in points],
                [point["over"][rival] for point in points],
            )
            for rival in rivals
            if all(rival in point["over"] for point in points)
        ]
        if rows:
            out.append((horizon, rows))
    return out


def prices(result: EvaluationResult) -> list[tuple[str, PriceRow]]:
    """Length by length, the subject and its rivals; nothing without train episodes, which entropy is fitted on."""
    out = []
    for horizon, entries in result["horizons"].items():
        points = entries[result["subject"]]["curve"]
        for name in points[0]["entropy_bits"]:
            entropy = [point["entropy_bits"][name] for point in points]
            each = entries[name]["bits_mean"] / entries[name]["tokens_mean"]
            bits = [
                None if known is None else point["tokens"] * each for known, point in zip(entropy, points, strict=True)
            ]
            if any(known is not None for known in entropy):
                out.append((horizon, PriceRow(name, [point["tokens"] for point in points], bits, entropy)))
    return out


def book_words(book: BookUseJson) -> str:
    """What a book of motion words is of."""
    return f"residuals of {book['frames']} frames, level {book['level']}" if book["level"] else "words of 16 frames"


def curve_reasons(result: EvaluationResult, rivals: Sequence[str]) -> list[str]:
    """Why a place of the curve is empty."""
    return [
        f"T {horizon}, over {row.rival}: {point['reason']}"
        for horizon, rows in curves(result, rivals)
        for row in rows
        for point in row.points
        if point["reason"] is not None
    ]


def remedy(result: EvaluationResult) -> Remedy | None:
    """Where `xtok adapt` is what helps: robots that the tokenizer knows by less than books of their own."""
    known = result["robots_known_by"] or {}
    for how, words in KNOWN_WORDS.items():
        if robots := [robot for robot, by in known.items() if by == how]:
            return Remedy(robots, words, FOUND_WORDS[how])
    return None
