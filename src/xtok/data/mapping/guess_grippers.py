"""Which columns open and close a hand, and what is known of their ends.

Where a hand rests says nothing about which end is open, so it decides nothing: only a name does.

# N frames of an episode
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xtok.data.features import Column
from xtok.data.mapping.column_names import Name
from xtok.data.mapping.evidence import fingers
from xtok.data.mapping.guess_types import Doubt, Looked
from xtok.data.mapping.text import Opening, gripper_line, pick

_SCALES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 100.0), (0.0, 255.0))  # in use everywhere
_STILL = 1e-6
GRIPPER_ENDS = "which end is open"


@dataclass(frozen=True)
class Hand:
    """A gripper found. opening: a reading to use, None where there is none. sure: whether its direction is known."""

    opening: Opening | None
    sure: bool
    reasons: tuple[str, ...]
    doubts: tuple[Doubt, ...]


def guess_gripper(looked: Looked, columns: Sequence[Column], place: str) -> Hand:
    """One hand's gripper of one column or more. place: where its line stands in the mapping, for its doubts."""
    columns, reasons, doubts = _fingers(looked, tuple(columns), place)
    label = " and ".join(looked.called(column) for column in columns)
    episodes = [each.mean(axis=1) for each in looked.values(columns)]
    low, high = min(float(e.min()) for e in episodes), max(float(e.max()) for e in episodes)
    if high - low < _STILL:
        text = (
            f"{label} never moves (it stays at {low:.4g}), so nothing tells its ends: give closed and open in its "
            "line, or leave the gripper out"
        )
        line = f"gripper: {{from: {pick(columns)}, closed: ?, open: ?}}"
        return Hand(None, False, reasons, (*doubts, Doubt(place, text, (line,))))
    wider = _wider([looked.name(column) for column in columns])
    ends, known = _ends(low, high, wider)
    if wider is not None:
        closed, opened = ends if wider else ends[::-1]
        how = "the ends of its scale" if known else "the ends that were seen"
        larger = "open" if wider else "closed"
        why = f"{label}: its name says that larger is {larger}; {how} are {ends[0]:.4g} and {ends[1]:.4g}"
        return Hand(Opening(columns, closed, opened), not doubts, (*reasons, why), doubts)
    upward = Opening(columns, *ends)
    turned = Opening(columns, upward.open, upward.closed)
    moved = [e for e in episodes if np.ptp(e) > 0.3 * (high - low)]
    begins_low = sum(float(e[0]) < low + 0.3 * (high - low) for e in moved)
    text = (
        f"which end of {label} is open? Its name does not say, and where a hand rests does not tell ({begins_low} of "
        f"{len(moved)} demonstrations that move it begin at the low end; values {low:.4g} to {high:.4g})"
    )
    return Hand(
        upward,
        False,
        reasons,
        (*doubts, Doubt(place, text, (gripper_line(turned),), alike=GRIPPER_ENDS, subject=label)),
    )


def _wider(names: Sequence[Name]) -> bool | None:
    said = {name.wider for name in names}
    return said.pop() if len(said) == 1 else None


def _ends(low: float, high: float, wider: bool | None) -> tuple[tuple[float, float], bool]:
    """A scale in common use that the values fill, else what was seen; a width is 0 where it is closed."""
    for start, end in _SCALES:
        slack = 0.1 * (end - start)
        if abs(low - start) < slack and abs(high - end) < slack:
            return (start, end), True
    if wider and 0 <= low < 0.5 * high:
        return (0.0, high), False
    return (low, high), False


def _fingers(
    looked: Looked, columns: tuple[Column, ...], place: str
) -> tuple[tuple[Column, ...], tuple[str, ...], tuple[Doubt, ...]]:
    """The columns whose mean is the opening: of mirrored fingers one, of equal ones all; anything else is asked."""
    if len(columns) == 1:
        return columns, (), ()
    label = " and ".join(looked.called(column) for column in columns)
    if len(columns) == 2:
        one, two = ([each[:, 0] for each in looked.values([column])] for column in columns)
        relation = fingers(one, two)
        if relation == "equal":
            return columns, (f"{label} move alike: their mean is the opening",), ()
        if relation == "mirrored":
            return columns[:1], (f"{label} mirror each other, so one of them is the opening",), ()
    readings = tuple(f"gripper: {{from: {pick(some)}, closed: ?, open: ?}}" for some in (columns[1:2], columns))
    text = f"which of {label}, or their mean, is the opening? They are columns of one gripper and move apart"
    return columns[:1], (), (Doubt(place, text, readings),)
