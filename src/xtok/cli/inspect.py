"""Say what a data set holds: features, ranges, rate, language, views; propose a mapping, warn of traps, draw the
motion.

Writes DIR/NAME.yaml (the mapping, with the data it is for, so that every command takes it in place of the folder) and
DIR/NAME.html (traps, mapping, motion). A mapping that you have edited stays as it is: a new proposal is NAME.new.yaml.
What names and numbers do not decide stands in the mapping as a question, with the readings to choose from; no other
command uses it before that. --mapping M.yaml looks at the set through your own mapping instead.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from xtok.atomic import atomic_file
from xtok.cli import pack
from xtok.cli.common import say
from xtok.cli.inspect_files import files_for, mapping_text, page_mark
from xtok.cli.outputs import Writes

if TYPE_CHECKING:
    from xtok.data import Episode, EpisodeDataset
    from xtok.data.inspect.survey import Survey
    from xtok.evaluate.trajectories import InspectPage

EPISODES_DRAWN = 3
COLUMNS_SHOWN = 64
WIDTH = 110


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("inspect", help="what a data set holds, and a mapping for it", description=__doc__)
    parser.add_argument("data", type=Path, metavar="DATA", help="a folder, a hub id (owner/name) or a mapping file")
    parser.add_argument("--layout", choices=("arms26", "joints"), help="propose a mapping to this layout")
    parser.add_argument("--mapping", type=Path, metavar="M.yaml", help="look through this mapping, propose none")
    parser.add_argument("--episodes", type=int, default=20, metavar="N", help="episodes to look at (default: 20)")
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("out/inspect"), metavar="DIR", help="default: out/inspect"
    )
    parser.set_defaults(run=run, resume_hint="Give the same command again.", writes=writes)


def writes(args: argparse.Namespace) -> Writes | None:
    """The folder of pages and mappings. It may lie in the data, as `xtok inspect .` has it; a corpus gets no page."""
    from xtok.data.packed.format import is_packed

    if is_packed(args.data):
        return None
    page = f"{args.data.resolve().name}.html"
    return Writes(folder="out", touches=(), lock=page, tokenizers=(), within_data=True)


@dataclass(frozen=True)
class MappedSet:
    """A set through a mapping. text: the mapping, "" where none is needed. questions: what has to be decided in it,
    notes: what may be. own: it was given, not proposed. ends_asked: a question is which end of a gripper is open.
    """

    dataset: EpisodeDataset
    text: str
    reasons: tuple[str, ...]
    guessed: bool
    questions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    own: bool = False
    ends_asked: bool = False


def run(args: argparse.Namespace) -> None:
    from xtok.data.inspect.survey import survey
    from xtok.data.open import open_source
    from xtok.data.packed.format import is_packed

    if args.episodes < 1:
        raise ValueError(f"--episodes is {args.episodes}; expected 1 or more")
    if is_packed(args.data):
        pack.inspect(args.data)
        return
    looked = survey(open_source(args.data), args.episodes)
    print("\n".join(summary(looked)))
    try:
        seen: MappedSet | None = through_mapping(looked, args.data, args.layout, args.mapping)
        failure = ""
    except ValueError as error:
        if args.mapping is not None or args.data.suffix in (".yaml", ".yml"):
            raise
        seen, failure = None, str(error)
    warnings = [(trap.kind, trap.text) for trap in looked.traps]
    episodes: list[Episode] = []
    if seen is not None:
        episodes, broken = read_through(seen, looked)
        warnings += broken + mapped_traps(seen, episodes, looked)
    print("\n".join(warning_lines(warnings)))
    if seen is None:
        print("no mapping proposed")
        say(failure)
        return
    print("\n".join(mapping_lines(seen, episodes, looked)))
    write(args.out, args.data, looked, seen, episodes, warnings)


def through_mapping(looked: Survey, data: Path, layout: str | None, mapping: Path | None) -> MappedSet:
    """The set opened with the mapping given, or with the one proposed."""
    from xtok.data import open_dataset
    from xtok.data.mapping.file import read_mapping
    from xtok.data.mapping.guess_grippers import GRIPPER_ENDS
    from xtok.data.mapping.mapped import open_mapped
    from xtok.data.mapping.propose import propose
    from xtok.data.open import data_root

    if mapping is not None or data.suffix in (".yaml", ".yml"):
        path = mapping or data
        spec = read_mapping(path)
        dataset = open_dataset(data_root(data), layout=layout, mapping=replace(spec, undecided=()))
        text = path.read_text(encoding="utf-8")
        return MappedSet(dataset, text, (f"as {path} says",), False, spec.undecided, own=True)
    proposal = propose(looked, layout)
    if proposal.text is None:
        return MappedSet(open_dataset(data, layout=layout), "", proposal.reasons, False)
    dataset = open_mapped(looked.source, proposal.spec("the proposed mapping"), undecided=True)
    asked = any(doubt.alike == GRIPPER_ENDS for doubt in proposal.doubts)
    return MappedSet(
        dataset,
        proposal.text,
        proposal.reasons,
        proposal.guessed,
        proposal.questions,
        proposal.notes,
        ends_asked=asked,
    )


def read_through(seen: MappedSet, looked: Survey) -> tuple[list[Episode], list[tuple[str, str]]]:
    """The episodes looked at, in channels; those that the mapping cannot take are named.

    Raises:
        ValueError: it cannot take a single one.
    """
    episodes, broken = [], []
    for position in looked.positions:
        try:
            episodes.append(seen.dataset[position])
        except ValueError as error:
            broken.append(("broken episode", str(error)))
    if not episodes:
        raise ValueError(broken[0][1])
    return episodes, broken


def mapped_traps(seen: MappedSet, episodes: list[Episode], looked: Survey) -> list[tuple[str, str]]:
    """Traps that show only in channels: a gripper the wrong way round, hands that jump."""
    from xtok.data.inspect import traps
    from xtok.data.inspect.survey import is_action

    found = []
    layout = episodes[0].layout
    for group, where in layout.of_kind("gripper") if not seen.ends_asked else ():
        for channel in range(where.start, where.stop):
            openings = [e.absolute_ND[:, channel] for e in episodes if e.mask_D[channel]]
            if openings:
                name = group.name if group.size == 1 else layout.channel_names[channel]
                found += traps.gripper_inverted(name, openings)
    for group, where in layout.of_kind("position"):
        found += traps.jumps(
            group.name,
            [
                (e.index, e.absolute_ND[:, where], e.control_hz)
                for e in episodes
                if e.mask_D[where].all() and len(e) > 1
            ],
        )
    names = [name for name in looked.features if looked.features[name].width == 1 and "grip" in name.lower()]
    for action in (name for name in names if is_action(name)):
        for state in (name for name in names if not is_action(name) and name.split("/")[-1] == action.split("/")[-1]):
            import numpy as np

            a, s = (np.concatenate(looked.arrays(name))[:, 0] for name in (action, state))
            found += traps.grippers_disagree(action, state, a, s)
    return [(trap.kind, trap.text) for trap in found]


def summary(looked: Survey) -> Iterator[str]:
    """What there is, a line a fact."""
    from xtok.data.features import CHANNEL_VALID

    source, frames = looked.source, looked.frames
    few = "" if len(frames) == len(source) else f" ({len(frames)} looked at)"
    hz = f"{source.control_hz:g} Hz" if source.control_hz else "no rate stored"
    yield f"{source.name}: {source.format}, robot {source.robot_type!r}, {hz}"
    yield f"  episodes  {len(source)}{few}, {_span(min(frames), max(frames))} frames"
    worded = [text for text in looked.instructions if text]
    said = "; ".join(repr(text) for text in worded[:3]) + (f" and {len(worded) - 3} more" if len(worded) > 3 else "")
    yield f"  language  {said or 'none'}"
    views = [
        f"{name} {'unreadable' if view.size is None else f'{view.size[1]} x {view.size[0]}'}"
        + ("" if view.episodes == len(frames) else f" (in {view.episodes} of {len(frames)})")
        for name, view in looked.views.items()
    ]
    yield f"  views     {', '.join(views) or 'none'}"
    for feature in (each for name, each in looked.features.items() if name != CHANNEL_VALID):
        yield f"  {feature.name} [{feature.width}]"
        if feature.width > COLUMNS_SHOWN:
            yield f"    {feature.low_W.min():.4g} to {feature.high_W.max():.4g}"
            continue
        for i in range(feature.width):
            name = f"{i:>3} {feature.names[i]}" if feature.names else f"{i:>3}"
            still = "  still" if feature.still_W[i] else ""
            yield f"    {name:<28} {feature.low_W[i]:>10.4f} .. {feature.high_W[i]:<10.4f}{still}".rstrip()


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"


def warning_lines(warnings: list[tuple[str, str]]) -> Iterator[str]:
    if not warnings:
        yield "no traps found"
        return
    yield "traps"
    for kind, text in warnings:
        yield textwrap.fill(
            f"{kind}: {text}", WIDTH, initial_indent="  ! ", subsequent_indent="    ", break_long_words=False
        )


def mapping_lines(seen: MappedSet, episodes: list[Episode], looked: Survey) -> Iterator[str]:
    import numpy as np

    count = len(seen.questions)
    open_ones = f"{count} question{'s' if count > 1 else ''}"
    if count:
        yield f"not decided: {open_ones}; until they are answered in the mapping, no other command uses it"
        for number, question in enumerate(seen.questions, start=1):
            head = "" if seen.own else f"{number}. "
            yield textwrap.fill(
                head + question, WIDTH, initial_indent="  ? ", subsequent_indent="    ", break_long_words=False
            )
    yield "a guessed mapping; check it before you train" if seen.guessed else "mapping"
    for reason in seen.reasons:
        yield textwrap.fill(reason, WIDTH, initial_indent="  - ", subsequent_indent="    ", break_long_words=False)
    for line in seen.text.splitlines():
        yield f"    {line}"
    counts = sorted({int(np.sum(episode.mask_D)) for episode in episodes})
    frames = sum(map(len, episodes))
    yield (
        f"read through it: {len(episodes)} episodes, {frames} frames, layout {seen.dataset.layout.name}, "
        f"{' or '.join(map(str, counts))} channels, robot {', '.join(seen.dataset.embodiments)}, "
        f"{seen.dataset.control_hz:g} Hz"
    )


def write(
    out: Path,
    data: Path,
    looked: Survey,
    seen: MappedSet,
    episodes: list[Episode],
    warnings: list[tuple[str, str]],
) -> None:
    """The mapping file, unless one was given or none is needed, and the page."""
    told = reference(data)
    files = files_for(out, looked.source.name, told)
    if seen.text and not seen.own:
        with atomic_file(files.mapping) as temporary:
            temporary.write_text(mapping_text(seen.text, told), encoding="utf-8")
        if files.edited is not None:
            say(f"{files.edited} has been edited and stays as it is; to look through it: xtok inspect {files.edited}")
        count = len(seen.questions)
        first = f"answer the {'question' if count == 1 else f'{count} questions'} there, then " if count else ""
        print(f"wrote {files.mapping}: {first}give it to any command in place of the folder, or with --mapping")
    try:
        from xtok.evaluate.trajectories import render_trajectories
    except ImportError as error:
        say(f"no plots: {error}")
        return
    with atomic_file(files.page) as temporary:
        temporary.write_text(render_trajectories(page_of(looked, seen, episodes, warnings, told)), encoding="utf-8")
    print(f"wrote {files.page}: the motion of {min(len(episodes), EPISODES_DRAWN)} episodes, to look at in a browser")


def page_of(
    looked: Survey, seen: MappedSet, episodes: list[Episode], warnings: list[tuple[str, str]], data: str
) -> InspectPage:
    """What the page shows: the same as the terminal, and the motion."""
    from xtok.data.mapping.channel_sources import channel_sources
    from xtok.evaluate.trajectories import InspectPage

    facts = [line.strip() for line in list(summary(looked))[:4]]
    return InspectPage(
        name=looked.source.name,
        mark=page_mark(data),
        facts=tuple((fact.split(" ", 1)[0], fact.split(" ", 1)[1].strip()) for fact in facts[1:]),
        about=facts[0].partition(": ")[2],
        traps=tuple(warnings),
        questions=seen.questions,
        notes=seen.notes,
        reasons=seen.reasons,
        mapping=seen.text,
        sources=channel_sources(seen.dataset),
        looked_at=tuple(episodes),
        drawn=EPISODES_DRAWN,
    )


def reference(data: Path) -> str:
    """The folder as a mapping file names it: absolute, or the id of a hub's set; of a mapping, what it is for."""
    from xtok.data.open import data_root

    if data.suffix in (".yaml", ".yml"):
        return str(data_root(data))
    return str(data.resolve()) if data.exists() else str(data)
