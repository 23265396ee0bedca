"""Make a tokenizer of motion words from data sets: books that robots share, then every robot. No gradient.

Killed at any moment, the same command goes on after the last whole step: book of words, residual books, each robot.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import xtok
from xtok.cli.common import add_skip_bad_argument, say, say_left_out
from xtok.cli.encode import open_parts, remove_parts
from xtok.cli.outputs import Writes

if TYPE_CHECKING:
    from xtok.codec.words import WordCodec
    from xtok.data.episode import ActionSource


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("fit", help="a tokenizer of motion words from data", description=__doc__)
    parser.add_argument("data", type=Path, nargs="+", metavar="DATA", help="data set folders, packed corpora")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="TOKENIZER", help="folder to write")
    parser.add_argument(
        "--layout",
        choices=("arms26", "joints"),
        help="how to read the actions (default: arms26 where all sets can give poses, else joints)",
    )
    parser.add_argument(
        "--vocabulary",
        type=int,
        default=32_768,
        metavar="V",
        help="ids in all, 2048 to 32768 (default); fewer are cheaper for a language model and err more",
    )
    parser.add_argument(
        "--own",
        nargs="+",
        default=[],
        metavar="ROBOT",
        help="robots that get residual books of their own (default: none, all are measured for the shared ones)",
    )
    parser.add_argument(
        "--action-source",
        choices=("achieved", "commanded", "both"),
        default="achieved",
        help="of recordings that have both: the measured motion (default), the goals, or both",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the windows and of k-means (default: 0)")
    add_skip_bad_argument(parser)
    hint = "Give the same command again: it goes on after the last whole step."
    touched = ("model.safetensors", "config.json")
    writes = Writes(folder="out", touches=touched, data=("data",), tokenizers=())
    parser.set_defaults(run=run, resume_hint=hint, writes=writes)


def run(args: argparse.Namespace) -> None:
    from xtok.actions.layout import get_layout
    from xtok.codec.words import CodingSettings, FitSettings, Grammar, WordCodec, files
    from xtok.pretrain.corpus import Corpus
    from xtok.pretrain.words import fit_codec

    grammar = Grammar.of_total(args.vocabulary)
    layout = get_layout(args.layout or common_layout(args.data))
    sources: tuple[ActionSource, ...] = ("achieved", "commanded")
    if args.action_source != "both":
        sources = (args.action_source,)
    say(f"reading {', '.join(map(str, args.data))}")
    corpus = Corpus.open(layout, args.data, sources, skip_bad=args.skip_bad, validation=False)
    say_left_out(corpus.left_out, sum(len(source.recorded_E) for source in corpus.train))
    settings = FitSettings(seed=args.seed)
    folder = open_parts(
        args.out,
        {
            "data": corpus.digest,
            "statistics": {name: each.digest for name, each in corpus.statistics.items()},
            "vocabulary": args.vocabulary,
            "own": sorted(args.own),
            "settings": asdict(settings),
            "xtok": xtok.__version__,
        },
    )
    draft = folder / "tokenizer"

    def keep(codec: WordCodec) -> None:
        files.save(codec, CodingSettings(), draft)

    started = draft.is_dir() and (draft / "config.json").exists()
    codec = files.load(draft)[0] if started else WordCodec(layout, grammar, None)
    codec = fit_codec(codec, corpus, args.own, settings, progress=True, keep=keep)
    files.save(codec, CodingSettings(), args.out)
    remove_parts(folder)
    size = sum(path.stat().st_size for path in args.out.iterdir()) / 1e6
    print(f"{args.out}: motion words {codec.digest}, {grammar.total} ids, {size:.1f} MB, of {', '.join(codec.robots)}")


def common_layout(paths: Sequence[Path]) -> str:
    """Poses where every set can give them, else joints."""
    from xtok.cli.train import why_not

    return "arms26" if all(why_not(path, "arms26") is None for path in paths) else "joints"
