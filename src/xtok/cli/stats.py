"""Measure each robot of a data set on its train episodes: the range of every channel, and how it moves.

The file serves every command that takes --statistics, for the tokenizer that it was measured for.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xtok.atomic import atomic_file, atomic_write
from xtok.cli.common import add_dataset_arguments, add_tokenizer_argument, open_data
from xtok.cli.outputs import Writes

if TYPE_CHECKING:
    from xtok.actions.layout import Layout
    from xtok.actions.statistics import Statistics
    from xtok.data.episode import LeftOut


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("stats", help="ranges of every channel, by robot", description=__doc__)
    add_dataset_arguments(parser)
    add_tokenizer_argument(parser)
    parser.add_argument(
        "-o", "--out", type=Path, metavar="F.json", help="save them (several robots: F.ROBOT.json, one file a robot)"
    )
    writes = Writes(files=("out",), shipped=True)
    parser.set_defaults(run=run, resume_hint="Nothing was written; give the same command again.", writes=writes)


def run(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from xtok.actions.statistics import Statistics
    from xtok.codec import Tokenizer
    from xtok.data.splits import train_episodes
    from xtok.pretrain.measurement import measure_robots

    dataset = open_data(args)
    tokenizer = Tokenizer.from_pretrained(args.tokenizer or dataset.layout.name)
    for robot in tqdm(dataset.embodiments, unit="robot", desc="measure", disable=None):
        (found,) = measure_robots(tokenizer, train_episodes(dataset, robot))
        ranges = found if isinstance(found, Statistics) else found.statistics  # a perceiver needs no more
        print("\n".join(table(ranges, dataset.layout, dataset.joint_unit(robot))))
        if args.out is not None:
            alone = len(dataset.embodiments) == 1
            path = args.out if alone else args.out.with_suffix(f".{robot}{args.out.suffix}")
            with atomic_file(path) as draft:
                found.save(draft)
            if dataset.left_out:
                note_left_out(path, dataset.left_out)
            what = "ranges"
            if not isinstance(found, Statistics):
                what += f" and motion prior ({found.windows:g} windows of 64 frames)"
            print(f"saved {path}: {what}, {found.digest}")


def note_left_out(path: Path, left_out: Sequence[LeftOut]) -> None:
    """Add to saved statistics which episodes they are not of, and why."""
    content = json.loads(path.read_text(encoding="utf-8"))
    content["left_out"] = [each.to_dict() for each in left_out]
    atomic_write(path, json.dumps(content, indent=1) + "\n")


def table(statistics: Statistics, layout: Layout, joint_unit: str) -> list[str]:
    """Lines for one robot: low and high (0.1 % and 99.9 % quantiles of the deltas) of each valid channel."""
    both = zip(layout.channel_kinds, layout.channel_units, strict=True)
    units = [joint_unit if kind == "joint" else unit for kind, unit in both]
    lines = [
        f"{statistics.embodiment}: {statistics.count} deltas over up to {statistics.horizon_max} frames at "
        f"{statistics.control_hz:g} Hz, layout {layout.name}, statistics {statistics.digest}",
        f"  {'channel':<20} {'low':>10} {'high':>10}  unit",
    ]
    columns = (layout.channel_names, statistics.mask_D, statistics.low_D, statistics.high_D, units)
    for name, valid, low, high, unit in zip(*columns, strict=True):
        if valid:
            constant = "" if low < high else "  never moved: not coded"
            lines.append(f"  {name:<20} {low:>10.4f} {high:>10.4f}  {unit}{constant}")
    return lines
