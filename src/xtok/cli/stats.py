"""Fit the normalisation of each robot in a data set on its train episodes, and print the range of every channel."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xtok.cli.common import add_dataset_arguments, open_data, train_statistics
from xtok.whole import write_whole

if TYPE_CHECKING:
    from xtok.actions.layout import Layout
    from xtok.actions.statistics import Statistics
    from xtok.data.episode import LeftOut


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("stats", help="ranges of every channel, by robot", description=__doc__)
    add_dataset_arguments(parser)
    parser.add_argument(
        "-o", "--out", type=Path, metavar="F.json", help="save them (several robots: F.ROBOT.json, one file a robot)"
    )
    parser.set_defaults(run=run, resume_hint="Nothing was written; give the same command again.")


def run(args: argparse.Namespace) -> None:
    dataset = open_data(args)
    fitted = train_statistics(dataset, dataset.embodiments)
    for robot, statistics in fitted.items():
        print("\n".join(table(statistics, dataset.layout)))
        if args.out is not None:
            path = args.out if len(fitted) == 1 else args.out.with_suffix(f".{robot}{args.out.suffix}")
            path.parent.mkdir(parents=True, exist_ok=True)
            statistics.save(path)
            if dataset.left_out:
                note_left_out(path, dataset.left_out)
            print(f"saved {path}")


def note_left_out(path: Path, left_out: Sequence[LeftOut]) -> None:
    """Add to saved statistics which episodes they are not of, and why."""
    content = json.loads(path.read_text(encoding="utf-8"))
    content["left_out"] = [each.to_dict() for each in left_out]
    write_whole(path, json.dumps(content, indent=1) + "\n")


def table(statistics: Statistics, layout: Layout) -> list[str]:
    """Lines for one robot: low and high (0.1 % and 99.9 % quantiles of the deltas) of each valid channel."""
    lines = [
        f"{statistics.embodiment}: {statistics.count} deltas over up to {statistics.horizon_max} frames at "
        f"{statistics.control_hz:g} Hz, layout {layout.name}, statistics {statistics.digest}",
        f"  {'channel':<20} {'low':>10} {'high':>10}  unit",
    ]
    columns = (layout.channel_names, statistics.mask_D, statistics.low_D, statistics.high_D, layout.channel_units)
    for name, valid, low, high, unit in zip(*columns, strict=True):
        if valid:
            lines.append(f"  {name:<20} {low:>10.4f} {high:>10.4f}  {unit}")
    return lines
