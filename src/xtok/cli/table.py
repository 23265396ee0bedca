"""What `xtok eval` prints: each tokenizer at each length, and the curve from M to 4M tokens against FAST."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from xtok.evaluate.compare import Figure
    from xtok.evaluate.result import Entry, EvaluationResult

Number = Literal[
    "tokens_mean", "bits_mean", "entropy_bits_mean", "l1", "position_mm", "rotation_deg", "joint", "decode_failures"
]
COLUMNS: tuple[tuple[str, Number, str], ...] = (
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
RATIOS: tuple[tuple[str, Figure], ...] = (
    # heading, figure
    ("l1", "l1"),
    ("mm", "position_mm"),
    ("deg", "rotation_deg"),
    ("joint", "joint"),
)
SHORT = {"fast": "fast", "fast-pooled": "pooled"}  # of a rival, in a heading


def table(result: EvaluationResult) -> list[str]:
    """Lines for the terminal; a dash where a question has no answer."""
    return [*_entries(result), *_curve(result), *_prices(result), *_books(result)]


def judgements(result: EvaluationResult) -> list[str]:
    """Lines for the terminal: each target, and whether it was met."""
    from xtok.evaluate.verdicts import verdicts

    words = {True: "met", False: "NOT MET", None: "unmeasured"}
    return [f"  {words[verdict.met]:<10} {verdict.claim}: {verdict.found}" for verdict in verdicts(result)]


def _entries(result: EvaluationResult) -> Iterator[str]:
    robots = ", ".join(result["embodiments"])
    yield f"{result['dataset']} ({robots}), {result['split']} episodes, layout {result['layout']}"
    every = [entry for entries in result["horizons"].values() for entry in entries.values()]
    used = [column for column in COLUMNS if any(entry[column[1]] is not None for entry in every)]
    from xtok.evaluate.comparison import rivals_of

    over = [
        (f"{heading}/{SHORT[rival]}", rival, figure)
        for rival in rivals_of(result)
        for heading, figure in RATIOS
        if any(_over(entry, rival, figure) is not None for entry in every)
    ]
    headings = [heading for heading, _, _ in used] + [heading for heading, _, _ in over]
    widths = [max(9, len(heading) + 2) for heading in headings]
    yield f"  {'T':>3} {'tokenizer':<12}" + "".join(f"{h:>{w}}" for h, w in zip(headings, widths, strict=True))
    for horizon, entries in result["horizons"].items():
        for name, entry in entries.items():
            cells = ["-" if entry[key] is None else form.format(entry[key]) for _, key, form in used]
            cells += [_ratio(_over(entry, rival, figure)) for _, rival, figure in over]
            row = "".join(f"{cell:>{w}}" for cell, w in zip(cells, widths, strict=True))
            yield f"  {horizon:>3} {name:<12}{row}"


def _over(entry: Entry, rival: str, figure: Figure) -> float | None:
    """The error over a rival's at equal bits."""
    row = entry["at_equal_bits"].get(rival)
    return None if row is None else row[figure]


def _curve(result: EvaluationResult) -> Iterator[str]:
    """The subject over each rival at the same number of tokens."""
    from xtok.evaluate.comparison import curve_reasons, curves, rivals_of

    subject, rivals = result["subject"], rivals_of(result)
    if not rivals:
        return
    yield f"  {subject} at M, 2M, 3M, 4M tokens (M = T / 4) over a rival at as many tokens; under 1 is better"
    for horizon, rows in curves(result, rivals):
        for row in rows:
            cells = [
                f"{heading} " + " ".join(f"{_ratio(point[figure]):>5}" for point in row.points)
                for heading, figure in RATIOS
                if any(point[figure] is not None for point in row.points)
            ]
            named = row.rival if row.form is None else f"{row.rival} ({row.form})"
            yield f"  {horizon:>3} {named:<36}" + "   ".join(cells)
    yield from (f"      - : {reason}" for reason in curve_reasons(result, rivals))


def _prices(result: EvaluationResult) -> Iterator[str]:
    """What M to 4M tokens are in bits of entropy."""
    from xtok.evaluate.comparison import prices

    for number, (horizon, row) in enumerate(prices(result)):
        if not number:
            yield "  bits a chunk at M, 2M, 3M, 4M tokens: by the size of the vocabulary; behind unigram entropy coding"
        fixed, entropy = (
            " ".join("    -" if bits is None else f"{bits:>5.0f}" for bits in each)
            for each in (row.bits, row.entropy_bits)
        )
        yield f"  {horizon:>3} {row.name:<36}{fixed}   {entropy}"


def _books(result: EvaluationResult) -> Iterator[str]:
    """Use of the subject's books of motion words."""
    from xtok.evaluate.comparison import book_words

    for horizon, entries in result["horizons"].items():
        if books := entries[result["subject"]]["books"]:
            yield f"  T {horizon}: use of the books, perplexity, tokens a chunk"
            for book in books:
                tokens = book["tokens"] / result["chunks"][horizon]
                yield f"      {book_words(book):<36}{book['usage']:>6.1%} {book['perplexity']:>8.0f} {tokens:>8.2f}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
