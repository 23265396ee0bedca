"""Measure a tokenizer on a data set, beside baselines: errors in millimetres and degrees, bits, robustness, speed."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from xtok.atomic import atomic_file
from xtok.cli.common import (
    SPLITS,
    add_reading_arguments,
    add_statistics_argument,
    add_tokenizer_argument,
    hidden_alias,
    load_tokenizer,
    open_data,
)
from xtok.cli.outputs import Writes
from xtok.cli.progress import progress_bar
from xtok.cli.table import judgements, table

if TYPE_CHECKING:
    from xtok.evaluate.dataset import Evaluation


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("eval", help="measure a tokenizer beside baselines", description=__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        nargs="+",
        metavar="DATA",
        help="a data set folder, or several to look at as one",
    )
    add_reading_arguments(parser)
    add_tokenizer_argument(parser)
    add_statistics_argument(parser)
    parser.add_argument("--split", choices=SPLITS, default="heldout", help="heldout = every fifth episode (default)")
    parser.add_argument("--horizons", type=integers, default="8,16,32,64", metavar="T,T", help="default: 8,16,32,64")
    parser.add_argument(
        "--chunks",
        type=int,
        default=512,
        metavar="N",
        help="at most so many chunks a horizon, evenly over the episodes (default: 512); fewer are faster",
    )
    parser.add_argument(
        "--baselines", type=names, default="fast,bins,rvq", metavar="A,B", help="default: fast,bins,rvq"
    )
    parser.add_argument(
        "--pool",
        type=Path,
        nargs="+",
        default=[],
        metavar="DATA",
        help="sets of other robots: on them alone a second FAST is fitted, `fast-pooled`",
    )
    parser.add_argument(
        "--compare",
        type=named,
        nargs="+",
        default=[],
        metavar="NAME=X",
        help="further tokenizers; `no-heads` is held against the claim that heads cost no reconstruction",
    )
    hidden_alias(parser, "--beside", "compare", type=named, nargs="+")
    semantics = parser.add_argument_group("semantics", "probes and alignment; docs/semantics.md")
    semantics.add_argument(
        "--semantics", choices=("auto", "yes", "no"), default="auto", help="auto: where sub-tasks are named (default)"
    )
    semantics.add_argument("--features", type=Path, metavar="STORE", help="a teacher's features, from `xtok features`")
    semantics.add_argument(
        "--heads", metavar="RUN", help="the run that trained heads on them: a folder, a hub id, or shipped weights"
    )
    semantics.add_argument(
        "--semantics-chunks",
        type=int,
        default=6000,
        metavar="N",
        help="at most so many held-out chunks (default: 6000); retrieval wants a hundred candidates a task and arm",
    )
    hidden_alias(semantics, "--meaning", "semantics", choices=("auto", "yes", "no"))
    hidden_alias(semantics, "--meaning-chunks", "semantics_chunks", type=int)
    parser.add_argument("--corruption", action="store_true", help="also errors under growing corruption of the codes")
    parser.add_argument("--json", type=Path, metavar="F.json", help="write all figures")
    parser.add_argument(
        "--report", type=Path, metavar="F.html", help="write a report to look at, one self-contained file"
    )
    writes = Writes(
        shipped=True,
        files=("json", "report"),
        data=("data", "pool", "mapping", "statistics", "features"),
        tokenizers=("tokenizer", "compare", "heads"),
    )
    parser.set_defaults(run=run, resume_hint="Nothing was written; give the same command again.", writes=writes)


def integers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def names(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def named(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=TOKENIZER")
    return name, value


def run(args: argparse.Namespace) -> None:
    for option, value in (("--chunks", args.chunks), ("--semantics-chunks", args.semantics_chunks)):
        if value < 1:
            raise ValueError(f"{option} is {value}; expected 1 or more")
    with progress_bar("eval") as tell:
        from xtok.benchmark.pool import open_pool
        from xtok.benchmark.tokenizer import SemanticsRequest, measure_tokenizer, names_subtasks
        from xtok.evaluate.dataset import Budget

        tell(f"reading {' '.join(map(str, args.data))}", 0.0)
        dataset = open_data(args)
        tell("loading the tokenizer", 0.01)
        tokenizer = load_tokenizer(args.tokenizer, dataset, args.statistics, args.ranges_only)
        compare = {
            name: load_tokenizer(value, dataset, args.statistics, args.ranges_only) for name, value in args.compare
        }
        pool = open_pool(args.pool, dataset, tell.within(0.02, 0.04)) if args.pool else []
        asked = args.semantics == "yes" or args.features is not None or args.heads is not None
        wanted = asked or (args.semantics == "auto" and names_subtasks(dataset))
        semantics = SemanticsRequest(args.semantics_chunks, args.features, args.heads) if wanted else None
        evaluation = measure_tokenizer(
            dataset,
            tokenizer,
            args.horizons,
            args.split,
            args.baselines,
            Budget(evaluated=args.chunks),
            compare=compare,
            semantics=semantics if args.split == "heldout" else None,
            corrupt=args.corruption,
            pool=pool,
            tell=tell.within(0.04, 1.0),
        )
    if dataset.left_out:
        left_out = [each.to_dict() for each in dataset.left_out]
        evaluation = replace(evaluation, result={**evaluation.result, "left_out": left_out})
    write(evaluation, args.json, args.report)


def write(evaluation: Evaluation, json_path: Path | None, report_path: Path | None) -> None:
    """Print the tables, and write the files that were asked for."""
    from xtok.evaluate.report import render
    from xtok.evaluate.run import to_json

    print("\n".join(table(evaluation.result)))
    if "semantics" in evaluation.result:
        print("\n".join(judgements(evaluation.result)))
    for path, text in ((json_path, lambda: to_json(evaluation.result)), (report_path, lambda: render(evaluation))):
        if path is not None:
            with atomic_file(path) as temporary:
                temporary.write_text(text(), encoding="utf-8")
            print(f"wrote {path}")
