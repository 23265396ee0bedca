"""Small SVG drawings for the report: crisp at any size, a few kilobytes each, the same bytes for the same numbers.

Text and strokes take their colours from the page's CSS classes; coordinates are SVG user units, y downwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

WIDTH = 300.0
LEFT, RIGHT, TOP, BOTTOM = 48.0, 8.0, 8.0, 34.0


@dataclass(frozen=True)
class Series:
    """One line: `style` is a CSS class of the page, `dots` marks its points and names them on hover."""

    name: str
    x: np.ndarray
    y: np.ndarray
    style: str
    dots: bool = False


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` onto pixels from `start` to `stop`, evenly or by their logarithm."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: np.ndarray) -> np.ndarray:
        low, high, value = (np.log(v) if self.log else np.asarray(v, dtype=float) for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.stop - self.start)

    def at(self, value: float) -> float:
        return float(self(np.array(value)))

    def ticks(self, count: int = 4) -> list[float]:
        """Round values inside the axis: about `count`, or 1-2-5 of each decade on a logarithmic one."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            marks = [m * 10.0**d for d in decades for m in (1, 2, 5)]
        else:
            step = _round_step((self.high - self.low) / count)
            marks = [
                k * step for k in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)
            ]
        return [mark for mark in marks if self.low * (1 - 1e-9) <= mark <= self.high * (1 + 1e-9) or mark == 0.0]


def line_chart(
    series: Sequence[Series],
    x_label: str,
    y_label: str = "",
    height: float = 200.0,
    y_log: bool = False,
    y_from_zero: bool = False,
    y_span_min: float = 0.0,
    verticals: np.ndarray | None = None,
    description: str = "",
) -> Markup:
    """Lines over common axes; `verticals` are x values marked with hairlines. Units belong into the labels."""
    xs, ys = np.concatenate([s.x for s in series]), np.concatenate([s.y for s in series])
    x_axis = Axis(*axis_span(xs), LEFT, WIDTH - RIGHT)
    y_axis = Axis(*_padded(ys, y_log, y_from_zero, y_span_min), height - BOTTOM, TOP, y_log)
    body = _frame(x_axis, y_axis, height, x_label, y_label)
    for x in [] if verticals is None else verticals:
        body.append(f'<path class="mark" d="M{number(x_axis.at(x))} {number(TOP)}V{number(height - BOTTOM)}"/>')
    for one in series:
        body.append(_polyline(x_axis(one.x), y_axis(one.y), one.style))
        if one.dots:
            for px, py, x, y in zip(x_axis(one.x), y_axis(one.y), one.x, one.y, strict=True):
                hover = f"{one.name}: {x:.4g} {x_label}, {y:.3g} {y_label}"
                body.append(_dot(px, py, one.style, hover))
    return svg(body, height, description)


def path_chart(
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    height: float = 352.0,
    span_min: float = 0.0,
    description: str = "",
) -> Markup:
    """Lines in a plane where both axes have the same scale."""
    (x_low, x_high), (y_low, y_high) = (
        axis_span(np.concatenate(v), span_min) for v in ([s.x for s in series], [s.y for s in series])
    )
    wide, high = WIDTH - LEFT - RIGHT, height - TOP - BOTTOM
    per_pixel = 1.08 * max((x_high - x_low) / wide, (y_high - y_low) / high)
    x_mid, y_mid = (x_low + x_high) / 2, (y_low + y_high) / 2
    x_axis = Axis(x_mid - per_pixel * wide / 2, x_mid + per_pixel * wide / 2, LEFT, WIDTH - RIGHT)
    y_axis = Axis(y_mid - per_pixel * high / 2, y_mid + per_pixel * high / 2, height - BOTTOM, TOP)
    body = _frame(x_axis, y_axis, height, x_label, y_label)
    body += [_polyline(x_axis(one.x), y_axis(one.y), one.style) for one in series]
    body.append(_dot(x_axis(series[0].x[:1])[0], y_axis(series[0].y[:1])[0], "start", "start"))
    return svg(body, height, description)


def rank_chart(
    counts: Sequence[tuple[str, np.ndarray]], styles: Sequence[str], height: float = 150.0, description: str = ""
) -> Markup:
    """How often each code occurs, most frequent first, square-root scale: the first as an area, others as lines."""
    ranked = [np.sqrt(np.sort(each)[::-1]) for _, each in counts]
    x_axis = Axis(0.0, float(max(len(each) for each in ranked)), LEFT, WIDTH - RIGHT)
    y_axis = Axis(0.0, 1.05 * float(max(each[0] for each in ranked)), height - BOTTOM, TOP)
    body = []
    tick_counts = [tick for tick in (1, 10, 100, 1_000, 10_000) if math.sqrt(tick) <= y_axis.high]
    for tick in tick_counts:
        y = y_axis.at(math.sqrt(tick))
        body += [
            f'<path class="grid" d="M{LEFT} {number(y)}H{WIDTH - RIGHT}"/>',
            text(LEFT - 6, y, f"{tick}\N{MULTIPLICATION SIGN}", "tick end"),
        ]
    for rank in x_axis.ticks():
        body.append(text(x_axis.at(rank), height - BOTTOM + 11, f"{rank:,.0f}", "tick middle"))
    body.append(text((LEFT + WIDTH - RIGHT) / 2, height - 3, "codes, most frequent first", "label middle"))
    for i, (each, style) in enumerate(zip(ranked, styles, strict=True)):
        pick = np.unique(np.linspace(0, len(each) - 1, 160).round().astype(int))
        xs, ys = x_axis(pick.astype(float)), y_axis(each[pick])
        if i == 0:
            corners = (
                f"M{number(xs[0])} {number(y_axis.start)}L{_points(xs, ys)}L{number(xs[-1])} {number(y_axis.start)}Z"
            )
            body.append(f'<path class="area {style}" d="{corners}"/>')
        body.append(_polyline(xs, ys, style))
    return svg(body, height, description)


@dataclass(frozen=True)
class Change:
    """A value before and after, with a remark."""

    name: str
    before: float
    after: float
    remark: str
    style: str


def change_chart(changes: Sequence[Change], x_label: str, height: float, description: str = "") -> Markup:
    """A row each: an open dot before, a full one after, on a logarithmic axis."""
    values = np.array([value for change in changes for value in (change.before, change.after)])
    x_axis = Axis(*_padded(values, True, False, 0.0), 8.0, WIDTH - RIGHT, log=True)
    bottom, body = height - BOTTOM, []
    for tick in x_axis.ticks()[::2]:
        body.append(f'<path class="grid" d="M{number(x_axis.at(tick))} {number(TOP)}V{number(bottom)}"/>')
        body.append(text(x_axis.at(tick), bottom + 11, _tick(tick), "tick middle"))
    body.append(text(WIDTH / 2, height - 3, x_label, "label middle"))
    for row, change in enumerate(changes):
        y = TOP + (row + 0.68) * (bottom - TOP) / len(changes)
        before, after = x_axis.at(change.before), x_axis.at(change.after)
        body.append(text(8.0, y - 15, f"{change.name}: {change.remark}", "label"))
        body.append(_polyline(np.array([before, after]), np.array([y, y]), change.style))
        body.append(_dot(before, y, change.style, f"before {change.before:.3g}"))
        body.append(_dot(after, y, f"full {change.style}", f"after {change.after:.3g}"))
    return svg(body, height, description)


@dataclass(frozen=True)
class Cell:
    """A code in a token strip."""

    code: int
    changed: bool


def token_grid(rows: Sequence[Sequence[Cell]], columns: int, numbered: bool, description: str) -> Markup:
    """Codes as coloured cells, changed ones outlined; `columns` of them fill the width. Their number shows on hover."""
    wide, tall = (WIDTH - 2) / columns, 17.0 if numbered else 12.0
    cells = []
    for r, row in enumerate(rows):
        for c, cell in enumerate(row):
            x, y, changed = 1 + c * wide, 1 + r * tall, " changed" if cell.changed else ""
            box = f'x="{number(x + 1)}" y="{number(y + 1)}" width="{number(wide - 2)}" height="{number(tall - 2)}"'
            cells.append(f'<rect class="cell k{cell.code % 8}{changed}" {box}><title>{cell.code}</title></rect>')
            if numbered:
                style = f"code{' small' if columns > 8 else ''} middle{changed}"
                cells.append(text(x + wide / 2, y + tall / 2, str(cell.code), style))
    return svg(cells, tall * len(rows) + 2, description)


def svg(body: Sequence[str], height: float, description: str) -> Markup:
    head = f'<svg viewBox="0 0 {number(WIDTH)} {number(height)}" role="img" aria-label="{escape(description)}">'
    return Markup(head + "".join(body) + "</svg>")  # every text went through escape


def _frame(x_axis: Axis, y_axis: Axis, height: float, x_label: str, y_label: str) -> list[str]:
    bottom = height - BOTTOM
    body = []
    for tick in y_axis.ticks(4):
        y = y_axis.at(tick)
        body += [
            f'<path class="grid" d="M{LEFT} {number(y)}H{WIDTH - RIGHT}"/>',
            text(LEFT - 6, y, _tick(tick), "tick end"),
        ]
    for tick in x_axis.ticks(5):
        body.append(text(x_axis.at(tick), bottom + 11, _tick(tick), "tick middle"))
    body.append(text((LEFT + WIDTH - RIGHT) / 2, height - 3, x_label, "label middle"))
    if y_label:
        place = f"translate(9 {number((TOP + bottom) / 2)}) rotate(-90)"
        body.append(f'<text class="label middle" transform="{place}">{escape(y_label)}</text>')
    return body


def _dot(x: float, y: float, style: str, hover: str) -> str:
    return f'<circle class="{style}" cx="{number(x)}" cy="{number(y)}" r="3"><title>{escape(hover)}</title></circle>'


def _polyline(xs: np.ndarray, ys: np.ndarray, style: str) -> str:
    return f'<path class="line {style}" d="M{_points(xs, ys)}"/>'


def _points(xs: np.ndarray, ys: np.ndarray) -> str:
    return "L".join(f"{number(x)} {number(y)}" for x, y in zip(xs, ys, strict=True))


def text(x: float, y: float, text: str, style: str) -> str:
    return f'<text class="{style}" x="{number(x)}" y="{number(y)}">{escape(text)}</text>'


def axis_span(values: np.ndarray, at_least: float = 0.0) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    widen = max(0.0, (at_least or 1.0 if high == low else at_least) - (high - low)) / 2
    return low - widen, high + widen


def _padded(values: np.ndarray, log: bool, from_zero: bool, span_min: float) -> tuple[float, float]:
    if log:
        return float(values.min()) / 1.25, float(values.max()) * 1.25
    low, high = axis_span(values, span_min)
    pad = 0.06 * (high - low)
    return (0.0 if from_zero else low - pad), high + pad


def _round_step(rough: float) -> float:
    decade = 10.0 ** math.floor(math.log10(rough))
    return next(m * decade for m in (1, 2, 2.5, 5, 10) if m * decade >= rough * (1 - 1e-9))


def _tick(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{round(value, 10):.4g}"


def number(value: float) -> str:
    """A coordinate: at most one decimal, so that files stay small and equal."""
    return f"{round(float(value), 1) + 0.0:.1f}".removesuffix(".0")
