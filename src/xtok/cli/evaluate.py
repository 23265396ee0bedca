"""Measure a tokenizer on a data set, beside baselines: errors in millimetres and degrees, bits, robustness, speed."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xtok.cli.common import (
    SPLITS,
    add_reading_arguments,
    add_statistics_argument,
    add_tokenizer_argument,
    load_tokenizer,
    open_data,
    say,
)
from xtok.whole import file_whole

if TYPE_CHECKING:
    from xtok.codec import Tokenizer
    from xtok.data import EpisodeDataset
    from xtok.data.splits import Split
    from xtok.evaluate.dataset import Budget

RVQ = "rvq"  # our own codec without masked modelling; the other baselines are known to xtok.evaluate


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
        "--beside",
        type=named,
        nargs="+",
        default=[],
        metavar="NAME=X",
        help="further tokenizers; `no-heads` is held against the claim that heads cost no reconstruction",
    )
    meaning = parser.add_argument_group("meaning", "probes and alignment; docs/semantics.md")
    meaning.add_argument(
        "--meaning", choices=("auto", "yes", "no"), default="auto", help="auto: where sub-tasks are named (default)"
    )
    meaning.add_argument("--features", type=Path, metavar="STORE", help="a teacher's features, from `xtok features`")
    meaning.add_argument(
        "--heads", metavar="RUN", help="the run that trained heads on them: a folder, a hub id, or shipped weights"
    )
    meaning.add_argument(
        "--meaning-chunks",
        type=int,
        default=6000,
        metavar="N",
        help="at most so many held-out chunks (default: 6000); retrieval wants a hundred candidates a task and arm",
    )
    parser.add_argument("--corruption", action="store_true", help="also errors under growing corruption of the codes")
    parser.add_argument("--json", type=Path, metavar="F.json", help="write all figures")
    parser.add_argument(
        "--report", type=Path, metavar="F.html", help="write a report to look at, one self-contained file"
    )
    parser.set_defaults(run=run, resume_hint="Nothing was written; give the same command again.")


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
    from xtok.evaluate.dataset import Budget

    for option, value in (("--chunks", args.chunks), ("--meaning-chunks", args.meaning_chunks)):
        if value < 1:
            raise ValueError(f"{option} is {value}; expected 1 or more")
    dataset = open_data(args)
    tokenizer = load_tokenizer(args.tokenizer, dataset, args.statistics)
    beside = {name: load_tokenizer(value, dataset, args.statistics) for name, value in args.beside}
    asked = args.meaning == "yes" or args.features is not None or args.heads is not None
    wanted = asked or (args.meaning == "auto" and _named(dataset))
    meaning = Meaning(args.meaning_chunks, args.features, args.heads) if wanted else None
    measure(
        dataset,
        tokenizer,
        args.horizons,
        args.split,
        args.baselines,
        args.json,
        args.report,
        Budget(evaluated=args.chunks),
        beside=beside,
        meaning=meaning if args.split == "heldout" else None,
        corrupt=args.corruption,
    )


@dataclass(frozen=True)
class Meaning:
    """Measures of meaning are wanted, on so many held-out chunks; with a teacher's features and the run that trained
    heads, those too."""

    chunks: int
    features: Path | None = None
    heads: str | None = None


def _named(dataset: EpisodeDataset) -> bool:
    return bool(dataset[0].subtasks)


def measure(
    dataset: EpisodeDataset,
    tokenizer: Tokenizer,
    horizons: Sequence[int],
    split: Split,
    baselines: Sequence[str],
    json_path: Path | None,
    report_path: Path | None,
    budget: Budget | None = None,
    beside: Mapping[str, Tokenizer] | None = None,
    meaning: Meaning | None = None,
    corrupt: bool = False,
) -> None:
    """Evaluate, print the table, write the files that were asked for."""
    from xtok.evaluate.dataset import Budget, evaluate_dataset
    from xtok.evaluate.report import render
    from xtok.evaluate.run import to_json

    tokenizers = {tokenizer.name: tokenizer, **(beside or {})}
    if RVQ in baselines:
        from xtok.data import select
        from xtok.pretrain import fit_rvq

        say(f"placing the books of {RVQ} on the train episodes of {dataset.name}")
        tokenizers[RVQ] = fit_rvq(dataset.layout, select(dataset, "train"))
    evaluation = evaluate_dataset(
        dataset,
        tokenizers,
        tokenizer.statistics,
        {name: each.digest for name, each in tokenizers.items()},
        horizons=horizons,
        split=split,
        baselines=[name for name in baselines if name != RVQ],
        budget=budget or Budget(),
        progress=say,
        corrupt=corrupt,
    )
    if meaning is not None:
        from xtok.cli.meaning import horizon_of, measure_meaning

        evaluated = [int(T) for T in evaluation.result["horizons"]]
        horizon = horizon_of(dataset, evaluated, evaluation.illustration.horizon)
        fit = evaluation.result["fast_fit"][str(horizon)]
        found = measure_meaning(
            dataset,
            tokenizers,
            None if fit is None else fit["headline_scale"],
            horizon,
            meaning.features,
            meaning.heads,
            test_chunks=meaning.chunks,
        )
        evaluation = replace(evaluation, result=evaluation.result | ({"semantics": found} if found else {}))
    if dataset.left_out:
        told = {"left_out": [each.to_dict() for each in dataset.left_out]}
        evaluation = replace(evaluation, result=evaluation.result | told)
    print("\n".join(table(evaluation.result)))
    if meaning is not None:
        print("\n".join(judgements(evaluation.result)))
    for path, text in ((json_path, lambda: to_json(evaluation.result)), (report_path, lambda: render(evaluation))):
        if path is not None:
            with file_whole(path) as temporary:
                temporary.write_text(text(), encoding="utf-8")
            print(f"wrote {path}")


COLUMNS: tuple[tuple[str, str, str], ...] = (
    # heading, key of an entry, format
    ("tokens", "tokens_mean", "{:.1f}"),
    ("bits", "bits_mean", "{:.0f}"),
    ("l1", "l1", "{:.5f}"),
    ("mm", "position_mm", "{:.2f}"),
    ("deg", "rotation_deg", "{:.2f}"),
    ("joint", "joint", "{:.4f}"),
    ("failed", "decode_failures", "{:d}"),
    ("l1/fast", "l1_vs_fast_at_equal_bits", "{:.2f}"),
)


def table(result: Mapping[str, Any]) -> list[str]:
    """Lines for the terminal: each tokenizer at each horizon; a dash where a question has no answer."""
    robots = ", ".join(result["embodiments"])
    lines = [f"{result['dataset']} ({robots}), {result['split']} episodes, layout {result['layout']}"]
    used = [
        column
        for column in COLUMNS
        if any(entry[column[1]] is not None for entries in result["horizons"].values() for entry in entries.values())
    ]
    lines.append(f"  {'T':>3} {'tokenizer':<12}" + "".join(f"{heading:>9}" for heading, _, _ in used))
    for horizon, entries in result["horizons"].items():
        for name, entry in entries.items():
            cells = ["-" if entry[key] is None else form.format(entry[key]) for _, key, form in used]
            lines.append(f"  {horizon:>3} {name:<12}" + "".join(f"{cell:>9}" for cell in cells))
    return lines


def judgements(result: Mapping[str, Any]) -> list[str]:
    """Lines for the terminal: each target, and whether it was met."""
    from xtok.evaluate.verdicts import verdicts

    words = {True: "met", False: "NOT MET", None: "unmeasured"}
    return [f"  {words[verdict.met]:<10} {verdict.claim}: {verdict.found}" for verdict in verdicts(result)]
