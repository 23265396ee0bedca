"""Train a codec by a recipe on one or several data sets. Stopped at any moment, --resume goes on bit for bit."""

from __future__ import annotations

import argparse
from pathlib import Path

from xtok.cli.common import add_skip_bad_argument


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("train", help="a codec on your data", description=__doc__)
    parser.add_argument("recipe", metavar="RECIPE", help="a name from xtok.recipes; an unknown one lists them")
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, metavar="DATA", help="data set folders or mapping files"
    )
    parser.add_argument(
        "--features",
        type=Path,
        metavar="STORE",
        help="a teacher's features of the data (`xtok features`), for a recipe that aligns codes with them",
    )
    parser.add_argument(
        "--tokenizer",
        metavar="X",
        help="a folder, a hub id or shipped weights, for a recipe of heads alone (`heads`): its codes stay as they are",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="RUN_DIR", help="checkpoints and weights")
    add_skip_bad_argument(parser)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in RUN_DIR")
    parser.set_defaults(run=run, resume_hint="Give the same command with --resume to go on from the last checkpoint.")


def run(args: argparse.Namespace) -> None:
    from xtok.pretrain import train
    from xtok.recipes import get_recipe

    features = None
    if args.features is not None:
        from xtok.semantics.store import FeatureStore

        features = FeatureStore.open(args.features)
    tokenizer = None
    if args.tokenizer is not None:
        from xtok.codec import Tokenizer

        tokenizer = Tokenizer.from_pretrained(args.tokenizer)
    weights = train(get_recipe(args.recipe), args.data, args.out, args.resume, features, tokenizer, args.skip_bad)
    print(f"{weights}: use it with --tokenizer {weights}, or xtok.Tokenizer.from_pretrained({str(weights)!r})")
