"""The dictionary as one page to read: a card a code, searched and sorted in place, nothing fetched.

# P = 5 points of a place, t single paths
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from markupsafe import Markup, escape

from xtok.actions.types import FRAMES_PER_SLOT
from xtok.evaluate.charts import number
from xtok.evaluate.dictionary import Association, Dictionary, Entry
from xtok.evaluate.pages import environment

PANEL, GAP, GRIP = 92.0, 8.0, 40.0
DOUBT = 10  # uses: so many count half
SURE = 0.4  # a sub-task with so much of a code's use is what the code means
STILL_MM, TURN_DEG, GRIP_MOVES = 1.5, 3.0, 0.08  # less than this is not said
SUGGESTED = 14  # words offered as buttons
ARM_STYLES = 16  # of the style sheet
_MINUS = "\N{MINUS SIGN}"
# Axis and sign -> how it is said. Base frames of arms have z upwards; which way x and y point is each set's own.
_WAYS = (("x +", f"x {_MINUS}"), ("y +", f"y {_MINUS}"), ("up ", "down "))


@dataclass(frozen=True)
class Strip:
    """Frames before, within and after a place side by side, as one JPEG, and what they show."""

    jpeg: bytes
    caption: str

    @property
    def source(self) -> str:
        return "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode("ascii")


@dataclass(frozen=True)
class Card:
    """One entry with all that the page says and draws of it. keys: what it can be sorted by. search: words, each with
    how strongly the code goes with it, for the page's script."""

    entry: Entry
    headline: str
    motion: str
    detail: str
    drawing: Markup
    strips: tuple[Strip, ...]
    keys: dict[str, float]
    search: str


class About(TypedDict):
    """What a page is of. lines: name -> text, where it all comes from."""

    title: str
    lines: dict[str, str]


def render(dictionary: Dictionary, strips: Mapping[int, Sequence[Strip]], about: About) -> str:
    """One HTML document. strips: code -> its examples. about: `title`, `lines` (name -> text, where it all comes from).

    The same arguments give the same bytes.
    """
    reach_mm = _reach(dictionary.entries)
    cards = [
        _card(entry, tuple(strips.get(entry.code, ())), reach_mm, dictionary.frames) for entry in dictionary.entries
    ]
    return (
        environment()
        .get_template("dictionary.html.j2")
        .render(
            dictionary=dictionary,
            cards=cards,
            about=about,
            reach_mm=reach_mm,
            suggested=_suggested(dictionary.entries),
            arm_style={arm: f"arm{i % ARM_STYLES}" for i, arm in enumerate(dictionary.arms)},
            evenness=float(
                np.average([e.evenness for e in dictionary.entries], weights=[e.count for e in dictionary.entries])
            ),
        )
    )


def describe(entry: Entry) -> str:
    """What the hand does in the place, in a line: the larger axes of its way, its turn, the gripper."""
    parts = []
    if entry.path_P3 is not None:
        moved = entry.path_P3[-1]
        large = [i for i in np.argsort(-np.abs(moved)) if abs(moved[i]) >= max(STILL_MM, 0.4 * np.abs(moved).max())]
        said = [f"{_WAYS[i][int(moved[i] < 0)]}{abs(moved[i]):.0f}" for i in large]
        parts.append(", ".join(said) + " mm" if said else "hand at rest")
    elif moving := [track for track in entry.tracks if track.unit == "deg" and abs(track.mean_P[-1]) >= 1]:
        parts += [f"{track.name} {_signed(track.mean_P[-1])}\N{DEGREE SIGN}" for track in moving]
    elif any(track.unit == "deg" for track in entry.tracks):
        parts.append("joints at rest")
    if entry.turn_deg_3 is not None and (angle := float(np.linalg.norm(entry.turn_deg_3))) >= TURN_DEG:
        axis = int(np.abs(entry.turn_deg_3).argmax())
        parts.append(f"turns {_signed(np.sign(entry.turn_deg_3[axis]) * angle)}\N{DEGREE SIGN} about {'xyz'[axis]}")
    if entry.opening is not None:
        change = entry.opening[1] - entry.opening[0]
        if abs(change) >= GRIP_MOVES:
            parts.append("gripper closes" if change < 0 else "gripper opens")
        else:
            parts.append(f"gripper at {100 * np.mean(entry.opening):.0f} % open")
    return " · ".join(parts)


def _card(entry: Entry, strips: tuple[Strip, ...], reach_mm: float, frames: int) -> Card:
    motion = describe(entry)
    detail = []
    if entry.position_spread_mm is not None:
        detail.append(f"spread {entry.position_spread_mm:.1f} mm")
    if entry.arms_apart_mm is not None:
        detail.append(f"arms {entry.arms_apart_mm:.1f} mm apart")
    if entry.turn_spread_deg is not None:
        detail.append(f"{entry.turn_spread_deg:.1f}\N{DEGREE SIGN}")
    if entry.offset_mm_3 is not None and frames == FRAMES_PER_SLOT:  # a word is relative to the frame before it
        where = " ".join(f"{axis} {_signed(v)}" for axis, v in zip("xyz", entry.offset_mm_3, strict=True))
        detail.append(f"begins {where} mm from the chunk's start")
    if entry.segments is not None and entry.tokens is not None:
        told = ", ".join(f"{share:.0%} {segments or 'none'}" for segments, share in entry.segments)
        detail.append(f"{entry.tokens:.1f} tokens a block; residuals of so many frames: {told}")
    first = entry.subtasks[0] if entry.subtasks else None
    moved = np.zeros(3) if entry.path_P3 is None else entry.path_P3[-1]
    change = 0.0 if entry.opening is None else entry.opening[1] - entry.opening[0]
    weight = {a.text: _weight(a) for a in (*entry.tasks, *entry.subtasks, *entry.words)}
    search = "|".join(f"{text.lower()}={value:.3f}" for text, value in weight.items())
    return Card(
        entry=entry,
        headline=_headline(entry, motion),
        motion=motion,
        detail=", ".join(detail),
        drawing=_drawing(entry, motion, reach_mm),
        strips=strips,
        keys={
            "use": entry.count,
            "code": -entry.code,
            "sure": 0.0 if first is None else _weight(first),
            "up": moved[2],
            "down": -moved[2],
            "far": float(np.linalg.norm(moved)),
            "turn": 0.0 if entry.turn_deg_3 is None else float(np.linalg.norm(entry.turn_deg_3)),
            "close": -change,
            "open": change,
            "even": entry.evenness,
            "one": -entry.evenness,
        },
        search=search,
    )


def _weight(each: Association) -> float:
    """How strongly a code goes with a text: pmi times share, less for what was seen a few times only."""
    return each.pmi * each.of_code * each.count / (each.count + DOUBT)


def _headline(entry: Entry, motion: str) -> str:
    """The one sub-task that the code goes with; else the verbs of those that it does; else the motion."""
    if not entry.subtasks:
        return motion
    first = entry.subtasks[0]
    verbs = dict.fromkeys(each.text.split()[0] for each in entry.subtasks[:4])
    return first.text if first.of_code >= SURE else " / ".join(verbs)


def _drawing(entry: Entry, motion: str, reach_mm: float) -> Markup:
    """Paths from the side and from above at one scale for all codes, and the gripper's opening; or joints over time."""
    body, width = [], 0.0
    if entry.path_P3 is not None and entry.threads_tP3 is not None:
        for name, i, j in (("side", 0, 2), ("above", 0, 1)):
            body.append(_panel(width, f"{name}: x {'yz'[j - 1]}"))
            for path_P3, style in [*((path, "thread") for path in entry.threads_tP3), (entry.path_P3, "mean")]:
                xs = width + PANEL / 2 * (1 + np.clip(path_P3[:, i] / reach_mm, -1, 1))
                ys = PANEL / 2 * (1 - np.clip(path_P3[:, j] / reach_mm, -1, 1))
                body.append(f'<path class="{style}" d="M{_points(xs, ys)}"/>')
            body.append(f'<circle class="begin" cx="{number(width + PANEL / 2)}" cy="{number(PANEL / 2)}" r="2"/>')
            body.append(f'<circle class="end" cx="{number(xs[-1])}" cy="{number(ys[-1])}" r="3.2"/>')
            width += PANEL + GAP
    elif joints := [track for track in entry.tracks if track.unit == "deg"]:
        body.append(_panel(width, "joints, deg", 2 * PANEL))
        most = max(5.0, *(float((np.abs(t.mean_P) + t.spread_P).max()) for t in joints))
        for k, track in enumerate(joints):
            body.append(_band(track.mean_P, track.spread_P, width, 2 * PANEL, most, f"joint{k}", track.name))
        width += 2 * PANEL + GAP
    if grip := next((track for track in entry.tracks if track.name == "gripper"), None):
        body.append(_panel(width, "gripper", GRIP))
        body.append(_band(2 * grip.mean_P - 1, 2 * grip.spread_P, width, GRIP, 1.0, "grip", "gripper"))
        width += GRIP + GAP
    size = f"{number(max(width - GAP, 1))} {number(PANEL + 13)}"
    label = escape(f"Mean motion of code {entry.code}: {motion}")
    return Markup(f'<svg viewBox="0 0 {size}" role="img" aria-label="{label}">{"".join(body)}</svg>')


def _panel(left: float, name: str, width: float = PANEL) -> str:
    x, middle = number(left), number(left + width / 2)
    cross = f"M{x} {number(PANEL / 2)}h{number(width)}"
    if width == PANEL:
        cross += f"M{middle} 0v{number(PANEL)}"
    return (
        f'<rect class="panel" x="{x}" y="0" width="{number(width)}" height="{number(PANEL)}" rx="5"/>'
        f'<path class="cross" d="{cross}"/><text x="{middle}" y="{number(PANEL + 10)}">{escape(name)}</text>'
    )


def _band(
    mean_P: np.ndarray, spread_P: np.ndarray, left: float, width: float, most: float, style: str, name: str
) -> str:
    """A mean line in its band of one standard deviation; -most at the bottom, most on top."""
    xs = left + np.linspace(3, width - 3, len(mean_P))

    def height(values: np.ndarray) -> np.ndarray:
        return 4 + (PANEL - 8) * (1 - np.clip(values / most, -1, 1)) / 2

    around = np.concatenate([height(mean_P + spread_P), height(mean_P - spread_P)[::-1]])
    edge = _points(np.concatenate([xs, xs[::-1]]), around)
    return (
        f'<path class="band {style}" d="M{edge}Z"/><path class="mean {style}" d="M{_points(xs, height(mean_P))}">'
        f"<title>{escape(name)}</title></path>"
    )


def _points(xs: np.ndarray, ys: np.ndarray) -> str:
    return "L".join(f"{number(x)} {number(y)}" for x, y in zip(xs, ys, strict=True))


def _reach(entries: Sequence[Entry]) -> float:
    """Half the width of a panel in mm: a round number that holds the way of nine tenths of all uses."""
    far = [(float(np.abs(e.path_P3).max()), e.count) for e in entries if e.path_P3 is not None]
    if not far:
        return 1.0
    length, count = np.array(sorted(far)).T
    reached = length[np.searchsorted(np.cumsum(count), 0.9 * count.sum()).clip(max=len(length) - 1)]
    return next(
        (step for step in (5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 100.0, 200.0, 400.0) if step >= reached), 1000.0
    )


def _suggested(entries: Sequence[Entry]) -> list[str]:
    """Words that say most about the codes in use, each word's share of pmi summed over uses."""
    worth: Counter[str] = Counter()
    for entry in entries:
        worth.update({a.text: a.pmi * a.count for a in entry.words})
    return [word for word, _ in worth.most_common(SUGGESTED)]


def _signed(value: float) -> str:
    text = f"{abs(value):.0f}"
    return text if text == "0" else f"{'+' if value > 0 else _MINUS}{text}"
