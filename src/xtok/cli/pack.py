"""Pack data sets into one memory-mapped corpus, motion and words only. Killed at any moment, it goes on where it was.

CORPUS, or CORPUS/NAME for one of its sets, then stands in place of a folder in every command. The bytes are the same
whatever --workers or --ray and however often it was stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from xtok.cli.common import add_skip_bad_argument, add_workers_arguments, say, workers_of
from xtok.cli.outputs import Writes

if TYPE_CHECKING:
    from xtok.data.packed.sources import OpenedSource


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("pack", help="data sets into one memory-mapped corpus", description=__doc__)
    parser.add_argument(
        "data", type=Path, nargs="+", metavar="DATA", help="folders, hub ids, mapping files or packed corpora"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="CORPUS")
    parser.add_argument(
        "--layout",
        choices=("arms26", "joints", "both"),
        help="how to read the actions (default: arms26 where a set can give poses, else joints; both: all it can give)",
    )
    parser.add_argument("--embodiment", metavar="ROBOT", help="the robot's registry name (default: as each set says)")
    parser.add_argument("--mapping", type=Path, metavar="M.yaml", help="which columns are which channels, of all DATA")
    parser.add_argument(
        "--action-source",
        choices=("achieved", "commanded", "both"),
        default="both",
        help="of recordings that have both: the measured motion, the goals, or both (default)",
    )
    add_skip_bad_argument(parser)
    add_workers_arguments(parser)
    parser.add_argument(
        "--no-statistics", action="store_true", help="do not gather ranges of every robot now; training will"
    )
    writes = Writes(folder="out")
    parser.set_defaults(run=run, resume_hint="Give the same command again: whole shards are kept.", writes=writes)


def run(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from xtok.data.packed.pack import pack

    bars: dict[str, tqdm] = {}

    def progress(what: str, done: int, total: int) -> None:
        if what not in bars:
            for bar in bars.values():
                bar.close()
            bars[what] = tqdm(total=total, initial=done, desc=what, unit="shard", disable=None)
        bars[what].update(done - bars[what].n)

    pack(
        args.data,
        args.out,
        workers=workers_of(args),
        progress=progress,
        layout=args.layout,
        embodiment=args.embodiment,
        mapping=args.mapping,
        action_source=args.action_source,
        statistics=not args.no_statistics,
        skip_bad=args.skip_bad,
    )
    for bar in bars.values():
        bar.close()
    print("\n".join(lines(args.out)))


def lines(corpus: Path) -> Iterator[str]:
    """What a corpus, or one of its sources, holds."""
    from xtok.data.packed.format import MANIFEST, Manifest
    from xtok.data.packed.sources import open_sources

    sources = open_sources(corpus)
    units = [unit for source in sources for unit in source.about.units]
    size, frames = sum(unit.bytes for unit in units), sum(unit.frames for unit in units)
    name = f"digest {sources[0].about.digest}" if len(sources) == 1 else f"{len(sources)} data sets"
    if (corpus / MANIFEST).is_file():
        manifest = Manifest.load(corpus)
        name = f"{len(sources)} data sets, {len(manifest.statistics)} statistics, digest {manifest.digest}"
    yield f"{corpus}: {frames} frames, {size / 1e6:.1f} MB, {name}"
    for source in sources:
        yield from source_lines(source)


def source_lines(source: OpenedSource) -> Iterator[str]:
    about = source.about
    kept = [f"task {task} held out" for task in about.held_out_tasks] + ["held out"] * about.held_out_robot
    yield (
        f"  {source.root.name}: {', '.join(about.embodiments)}, {about.control_hz:g} Hz"
        f"{''.join(f', {each}' for each in kept)}; from {about.origin}, licence {about.licence or 'unknown'}"
    )
    for each in about.left_out:
        yield f"    left out: {each.why}"
    for unit in about.units:
        channels = len({channel for kind in unit.kinds for channel in kind.channels})
        yield (
            f"    {unit.layout} {unit.action_source:<9} {unit.episodes:>7} episodes {unit.frames:>9} frames "
            f"{channels:>3} channels {unit.bytes / 1e6:>8.1f} MB in {len(unit.shard_frames)} shards"
        )


def inspect(corpus: Path) -> None:
    """Print what it holds, and read all of it once.

    Raises:
        ValueError: a file that is not as it was packed.
    """
    from xtok.data.packed.sources import open_sources

    print("\n".join(lines(corpus)))
    for source in open_sources(corpus):
        for unit in source.units():
            say(f"reading {unit.folder}")
            unit.check()
    print("every file is as it was packed")
