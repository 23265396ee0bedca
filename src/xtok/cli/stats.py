"""Fit the normalisation of each robot in a data set on its train episodes, and print the range of every channel."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from xtok.cli.common import add_dataset_arguments, open_data, train_statistics

if TYPE_CHECKING:
    from xtok.actions.layout import Layout
    from xtok.actions.statistics import Statistics


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
        print("\n".join(table(statistics, dataset.layout, dataset.joint_unit(robot))))
        if args.out is not None:
            path = args.out if len(fitted) == 1 else args.out.with_suffix(f".{robot}{args.out.suffix}")
            path.parent.mkdir(parents=True, exist_ok=True)
            statistics.save(path)
            print(f"saved {path}")


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
            lines.append(f"  {name:<20} {low:>10.4f} {high:>10.4f}  {unit}")
    return lines
