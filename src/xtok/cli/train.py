"""Train a codec by a recipe on one or several data sets. Stopped at any moment, --resume goes on bit for bit.

On several devices: torchrun --nproc-per-node N -m xtok.cli.main train ...
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xtok.cli.common import add_skip_bad_argument, add_workers_argument, say
from xtok.cli.outputs import Writes
from xtok.ranks import launched_rank

if TYPE_CHECKING:
    from xtok.pretrain.recipe import Recipe

TOUCHED = (
    *("start", "placing", "checkpoints", "failed", "trackers", "run.json", "metrics.jsonl"),
    *("model.safetensors", "config.json", "heads.safetensors"),
)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("train", help="a codec on your data", description=__doc__)
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="what to train; --list has all, a line on each")
    parser.add_argument("--list", action=ListRecipes, nargs=0, help="the recipes, and what each is for")
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
    parser.add_argument(
        "--start-from",
        metavar="X",
        help="weights of the same codec to go on from, with new data or for longer: a run's folder, a hub id, shipped "
        "ones; the optimiser begins anew",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="RUN_DIR", help="checkpoints and weights")
    add_skip_bad_argument(parser)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in RUN_DIR")
    parser.add_argument(
        "--track",
        action="append",
        default=[],
        metavar="NAME",
        help="also log to a tracker, by Accelerate's name of it: tensorboard, wandb, trackio, ...; may be repeated",
    )
    parser.add_argument(
        "--accumulate",
        type=int,
        default=1,
        metavar="N",
        help="take a process's share of each batch in N parts, for less memory (default: 1)",
    )
    add_workers_argument(parser)
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        default="auto",
        help="of the networks; auto: bf16 on a GPU, fp32 on a CPU, or what `accelerate launch` was told",
    )
    writes = Writes(folder="out", touches=TOUCHED, data=("data", "features"))
    parser.set_defaults(run=run, resume_hint=resume_hint, writes=writes)


class ListRecipes(argparse.Action):
    """Prints the recipes and ends, as --version does: no data are asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from xtok.recipes import described

        print("\n".join(described()))
        parser.exit()


def resume_hint(args: argparse.Namespace) -> str:
    """What to do after a stop, which depends on how far the run had come."""
    if (args.out / "run.json").is_file():
        return "Give the same command with --resume to go on from the last checkpoint."
    return (
        "That was before the first checkpoint, so there is no run to go on with: the same command begins anew, with "
        "the k-means that were done."
    )


def run(args: argparse.Namespace) -> None:
    from xtok.engine import Launch
    from xtok.pretrain import train
    from xtok.progress import shown

    recipe = chosen_recipe(args.recipe, args.data)
    say(f"reading {', '.join(map(str, args.data))}")
    features = None
    if args.features is not None:
        from xtok.semantics.store import FeatureStore

        features = FeatureStore.open(args.features)
    tokenizer = None
    if args.tokenizer is not None:
        from xtok.codec.load import load_tokenizer

        tokenizer = load_tokenizer(args.tokenizer)
    launch = Launch(args.accumulate, args.precision, tuple(args.track), workers=args.workers)
    first = launched_rank() == 0
    with shown(first):  # in a log too: it may take hours
        weights = train(
            recipe,
            args.data,
            args.out,
            args.resume,
            features,
            tokenizer,
            args.skip_bad,
            launch,
            start_from=args.start_from,
        )
    if first:
        print(f"{weights}: use it with --tokenizer {weights}, or xtok.load_tokenizer({str(weights)!r})")


def chosen_recipe(name: str | None, data: Sequence[Path]) -> Recipe:
    """The recipe asked for, if every set can be read in its layout.

    Raises:
        ValueError: no or an unknown recipe, or one of another layout than a set can give; the message names one.
    """
    from xtok.recipes import DEFAULTS, described, get_recipe

    if name is None:
        layouts = [layout for layout in DEFAULTS if all(why_not(path, layout) is None for path in data)]
        fitting = "\n".join(described([DEFAULTS[layout] for layout in layouts or DEFAULTS]))
        raise ValueError(f"which recipe? For these data:\n{fitting}\n`xtok train --list` shows all")
    recipe = get_recipe(name)
    layout = recipe.codec.layout
    if recipe.trainable == "heads":  # it takes the layout of the tokenizer
        return recipe
    for path in data:
        error = why_not(path, layout)
        others = [] if error is None else [each for each in DEFAULTS if each != layout and why_not(path, each) is None]
        if others:
            can = "\n".join(described([DEFAULTS[each] for each in others]))
            raise ValueError(
                f"recipe {name!r} is for layout {layout!r}; {path} cannot be read so, but in {others[0]!r} it can; "
                f"take\n{can}\nor make its {layout} readable: {error}"
            ) from error
    return recipe


def why_not(path: Path, layout: str) -> ValueError | None:
    """Why a set cannot be read in a layout, or None where it can."""
    from xtok.data import open_dataset
    from xtok.data.packed.sources import members

    try:
        for each in members(path, layout):
            open_dataset(each, layout=layout)
    except ValueError as error:
        return error
    return None
