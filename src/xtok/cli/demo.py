"""Real demonstrations into codes and back: the shipped weights on the sample that ships, beside FAST and plain bins."""

from __future__ import annotations

import argparse
from pathlib import Path

from xtok.cli.common import load_tokenizer
from xtok.cli.evaluate import write
from xtok.cli.outputs import Writes
from xtok.cli.progress import progress_bar

HORIZON = 32


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("demo", help="see it work in a minute", description=__doc__)
    parser.add_argument("-o", "--out", type=Path, default=Path("out/demo"), metavar="DIR", help="default: out/demo")
    writes = Writes(folder="out", touches=("report.json", "report.html"))
    parser.set_defaults(run=run, resume_hint="Nothing was written; give the same command again.", writes=writes)


def run(args: argparse.Namespace) -> None:
    report = args.out / "report.html"
    with progress_bar("demo") as tell:
        from xtok.benchmark.tokenizer import measure_tokenizer
        from xtok.data import open_dataset, sample_path
        from xtok.evaluate.dataset import Budget

        tell("reading the sample", 0.0)
        dataset = open_dataset(sample_path())
        tell("loading the tokenizer", 0.02)
        tokenizer = load_tokenizer(None, dataset)
        budget = Budget(evaluated=512, fitted=3000)
        evaluation = measure_tokenizer(
            dataset, tokenizer, [HORIZON], "heldout", ["fast", "bins"], budget, tell.within(0.05, 1.0)
        )
    write(evaluation, args.out / "report.json", report)
    print(f"open {report.resolve()} in a browser")
