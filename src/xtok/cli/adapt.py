"""Add the robots of data sets to a tokenizer: statistics, motion prior and books. Minutes, no training.

Codes of the robots that it knew stay as they are. The result is a tokenizer folder, for --tokenizer.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from xtok.cli.common import add_dataset_arguments, add_tokenizer_argument, open_data, say
from xtok.cli.outputs import Writes

if TYPE_CHECKING:
    from xtok.codec.load import AnyTokenizer
    from xtok.data.episode import ActionSource


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("adapt", help="add a robot to a tokenizer from its data", description=__doc__)
    add_dataset_arguments(parser, several=True)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="TOKENIZER", help="folder to write")
    add_tokenizer_argument(parser)
    parser.add_argument(
        "--books",
        choices=("own", "shared"),
        default="own",
        help="own places books on the robot's motion (default; of poses only details'); shared: closed forms, seconds",
    )
    parser.add_argument(
        "--action-source",
        choices=("achieved", "commanded", "both"),
        default="achieved",
        help="of recordings that have both: the measured motion (default), the goals, or both",
    )
    writes = Writes(shipped=True, folder="out", touches=("model.safetensors", "config.json"))
    parser.set_defaults(run=run, resume_hint="Nothing was written; give the same command again.", writes=writes)


def run(args: argparse.Namespace) -> None:
    from xtok.codec.load import load_tokenizer
    from xtok.codec.words import WordTokenizer
    from xtok.data import select
    from xtok.pretrain import adapt, adapt_words, measure

    sources: tuple[ActionSource, ...] = ("achieved", "commanded")
    if args.action_source != "both":
        sources = (args.action_source,)
    datasets = [open_data(args, source) for source in sources]
    dataset = datasets[0]
    tokenizer = load_tokenizer(args.tokenizer or dataset.layout.name)
    episodes = [episode for each in datasets for episode in select(each, "train")]
    say(f"measuring {', '.join(dataset.embodiments)} on {len(episodes)} train episodes of {dataset.name}")
    own = args.books == "own"
    if isinstance(tokenizer, WordTokenizer):
        adapted: AnyTokenizer = adapt_words(tokenizer, episodes, args.books, progress=True)
    else:
        adapted = adapt(tokenizer, episodes, progress=True) if own else measure(tokenizer, episodes)
    adapted.save_pretrained(args.out)
    print(f"{args.out}: tokenizer {adapted.digest} with {', '.join(sorted(adapted.statistics))}")
