"""What `xtok inspect` found, as a page to look at: traps, the mapping with its open questions, channels, the motion.

# N frames of an episode, D channels, P points drawn
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from xtok.actions.layout import JOINTS
from xtok.data.episode import Episode
from xtok.evaluate.charts import Series, line_chart, path_chart
from xtok.evaluate.pages import environment

if TYPE_CHECKING:
    from markupsafe import Markup

STYLES = ("ours", "fast", "other0", "other1", "bins")
POINTS_MAX = 300  # of one line
LINES = len(STYLES)  # of one drawing
NAMES_SHOWN = 9  # columns of the set named for one group of channels
HEIGHT = 200.0  # of every drawing, so that they stand in rows


@dataclass(frozen=True)
class InspectPage:
    """about, facts: what the set is. mark: an element that says which data the page is of. sources: group of the layout
    -> the set's names of its columns. looked_at: episodes, of which the first `drawn` are drawn.
    """

    name: str
    mark: str
    about: str
    facts: tuple[tuple[str, str], ...]
    traps: tuple[tuple[str, str], ...]
    questions: tuple[str, ...]
    notes: tuple[str, ...]
    reasons: tuple[str, ...]
    mapping: str
    sources: Mapping[str, tuple[str, ...]]
    looked_at: tuple[Episode, ...] = field(repr=False)
    drawn: int = 3


@dataclass(frozen=True)
class ChannelRow:
    """One line of the table of channels. low, high: over the episodes looked at. span: lines that `source` is for, 0
    where a line before says it.
    """

    channel: str
    source: str
    span: int
    unit: str
    low: float
    high: float


@dataclass(frozen=True)
class Drawing:
    """A chart with its heading and the names of its lines. row: it begins one."""

    title: str
    note: str
    svg: Markup
    names: tuple[str, ...]
    row: bool = False


def render_trajectories(page: InspectPage) -> str:
    """One HTML document: styles and drawings inline, nothing fetched. The same episodes give the same bytes."""
    from markupsafe import Markup

    shown = page.looked_at[: page.drawn]
    return (
        environment()
        .get_template("trajectories.html.j2")
        .render(
            page=page,
            mark=Markup(page.mark),
            channels=list(channel_rows(page)),
            episodes=[(episode, list(drawings(episode, page.sources))) for episode in shown],
            styles=STYLES,
        )
    )


def channel_rows(page: InspectPage) -> Iterator[ChannelRow]:
    """Every channel that some episode has, with where it comes from."""
    if not page.looked_at:
        return
    layout = page.looked_at[0].layout
    unit_of = _joint_unit(page.looked_at[0])
    for group in layout.groups:
        where = layout.slices[group.name]
        for channel in range(where.start, where.stop):
            values = [e.absolute_ND[:, channel] for e in page.looked_at if e.mask_D[channel]]
            if not values:
                continue
            low, high = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
            names = page.sources.get(group.name, ())
            single = group.kind in ("joint", "gripper", "position") and channel - where.start < len(names)
            single = single and (len(names) <= group.size if group.size > 3 else len(names) == group.size)
            first = channel == where.start
            unit = {"joint": unit_of, "gripper": "0 closed .. 1 open"}.get(group.kind, group.unit)
            source = names[channel - where.start] if single else _listed(names)
            span = 1 if single else group.size if first else 0
            yield ChannelRow(layout.channel_names[channel], source, span, unit, low, high)


def _listed(names: Sequence[str]) -> str:
    """All columns that a group is made of together."""
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def _joint_unit(episode: Episode) -> str:
    unit = episode.joint_unit or episode.robot.joint_unit
    return "native, as in the set" if unit == "native" else unit


def drawings(episode: Episode, sources: Mapping[str, tuple[str, ...]]) -> Iterator[Drawing]:
    """Path, position, rotation and gripper of each arm, or joints five at a time under the set's own names."""
    if episode.layout.name == JOINTS.name:
        yield from _lines(episode, "joint", "joints", _joint_unit(episode), sources.get("joint"))
        yield from _lines(episode, "gripper", "grippers", "0 closed .. 1 open", sources.get("gripper"))
        return
    for side in ("left", "right"):
        if episode.mask_D[episode.layout.slices[f"{side}_position"]].all():
            yield from _arm(episode, side, sources.get(f"{side}_position", ()))
    for group, unit in (("base_velocity", "m/s"), ("lift_height", "m"), ("head", "rad")):
        yield from _lines(episode, group, group.replace("_", " "), unit, sources.get(group))


def _arm(episode: Episode, side: str, names: Sequence[str]) -> Iterator[Drawing]:
    axes = names if len(names) == 3 else ("x", "y", "z")
    keep = _kept(len(episode))
    x_m, y_m, z_m = episode.absolute_ND[keep, episode.layout.slices[f"{side}_position"]].astype(float).T
    for title, a, b, labels in (("from above", x_m, y_m, "x and y"), ("from the side", x_m, z_m, "x and z")):
        line = [Series(f"{side} hand", a, b, "ours")]
        svg = path_chart(
            line, f"{labels[0]}, m", f"{labels[-1]}, m", HEIGHT, span_min=0.01, description=f"{side} hand {title}"
        )
        yield Drawing(f"{side} hand, {title}", "dot: start", svg, (), row=title == "from above")
    yield from _lines(episode, f"{side}_position", f"{side} position", "m", axes)
    yield from _lines(episode, f"{side}_rotation", f"{side} rotation, first axis", "1", ("x", "y", "z"))
    yield from _lines(episode, f"{side}_gripper", f"{side} gripper", "0 closed .. 1 open")


def _lines(
    episode: Episode, group: str, title: str, unit: str, names: Sequence[str] | None = None
) -> Iterator[Drawing]:
    """The valid channels of a group over time, a few to a drawing. names: of the first channels, the rest left out."""
    channels = np.arange(episode.layout.width)[episode.layout.slices[group]]
    channels = channels[episode.mask_D[channels]][: len(names) if names else None]
    keep = _kept(len(episode))
    time_s = keep / episode.control_hz
    for start in range(0, len(channels), LINES):
        few = channels[start : start + LINES]
        end = start + len(few)
        called = tuple(names[start:end] if names else (episode.layout.channel_names[channel] for channel in few))
        series = [
            Series(name, time_s, episode.absolute_ND[keep, channel].astype(float), style)
            for name, channel, style in zip(called, few, STYLES, strict=False)
        ]
        span = 1.0 if "gripper" in group else 1e-3
        which = f" {start} to {end - 1}" if len(channels) > LINES and len(few) > 1 else ""
        svg = line_chart(series, "s", unit, HEIGHT, y_span_min=span, description=f"{title} over time")
        yield Drawing(f"{title}{which}", unit, svg, called)


def _kept(length: int) -> np.ndarray:
    return np.unique(np.linspace(0, length - 1, min(length, POINTS_MAX)).round().astype(int))
