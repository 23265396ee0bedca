"""What several commands share: arguments, a tokenizer that knows the robots of the data, files written whole."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xtok.messages import say as say
from xtok.workers import Workers

if TYPE_CHECKING:
    from xtok.codec.load import AnyTokenizer
    from xtok.data import EpisodeDataset
    from xtok.data.episode import ActionSource, LeftOut

SPLITS = ("train", "heldout", "all")


def add_dataset_arguments(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """DATA (or several) and how to read it."""
    parser.add_argument(
        "data",
        type=Path,
        nargs="+" if several else None,
        metavar="DATA",
        help="a folder in any format of docs/data.md, the id of a set on the Hugging Face hub, or a mapping file",
    )
    add_reading_arguments(parser)


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--layout",
        choices=("arms26", "joints"),
        help="how to read the actions (default: arms26 where the set can give poses, else joints)",
    )
    parser.add_argument("--embodiment", metavar="ROBOT", help="the robot's registry name (default: as the set says)")
    parser.add_argument(
        "--mapping", type=Path, metavar="M.yaml", help="which columns are which channels (`xtok inspect` writes one)"
    )
    add_skip_bad_argument(parser)


def add_skip_bad_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave out episodes that cannot be read (all are read first), and list them here and in what is written; "
        "the others keep their numbers and splits",
    )


def add_workers_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers",
        type=int,
        metavar="W",
        help="processes that draw batches ahead, for each process that trains; batches are the same for any number "
        "(default: 2 on a GPU, 0 on a CPU: it draws them itself)",
    )


def open_data(args: argparse.Namespace, action_source: ActionSource = "achieved") -> EpisodeDataset:
    """The data set of a command line that has DATA or --data (several are joined) and the arguments for reading it."""
    from xtok.data import join, open_dataset

    paths = args.data if isinstance(args.data, list) else [args.data]
    dataset = join(
        [
            open_dataset(
                path,
                layout=args.layout,
                embodiment=args.embodiment,
                mapping=args.mapping,
                skip_bad=args.skip_bad,
                action_source=action_source,
            )
            for path in paths
        ]
    )
    say_left_out(dataset.left_out, len(dataset))
    return dataset


def say_left_out(left_out: Sequence[LeftOut], kept: int) -> None:
    if left_out:
        lines = [f"  {each.why}" for each in left_out]
        say("\n".join([f"left out {len(left_out)} of {kept + len(left_out)} episodes:", *lines]))


def add_tokenizer_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tokenizer",
        metavar="X",
        help="a folder written by save_pretrained, a hub id, or shipped weights (default: those of the data's layout)",
    )


def add_statistics_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--statistics",
        type=Path,
        nargs="+",
        default=[],
        metavar="F.json",
        help="of `xtok stats -o` (default: the tokenizer's own; a robot that it lacks is measured on train episodes)",
    )
    parser.add_argument(
        "--ranges-only",
        action="store_true",
        help="code a robot that the tokenizer lacks by its ranges alone, which is worse; for comparison",
    )


def add_workers_arguments(parser: argparse.ArgumentParser) -> None:
    """How many share out the work; what is written is the same."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--workers", type=int, default=1, metavar="N", help="processes of this machine (default: 1)")
    group.add_argument(
        "--ray",
        type=int,
        metavar="N",
        help="N workers of a Ray cluster that shares the file system: of RAY_ADDRESS, or one started here for the "
        "command (pip install 'xtok[ray]')",
    )


def workers_of(args: argparse.Namespace) -> Workers:
    """What `add_workers_arguments` asked for.

    Raises:
        ValueError: fewer than one.
    """
    return Workers(args.workers) if args.ray is None else Workers(args.ray, ray=True)


def hidden_alias(group: argparse._ActionsContainer, old: str, dest: str, **options: Any) -> None:
    """An option's spelling of the version before: taken still, not shown in the help."""
    group.add_argument(old, dest=dest, default=argparse.SUPPRESS, help=argparse.SUPPRESS, **options)


def load_tokenizer(
    tokenizer: str | AnyTokenizer | None,
    dataset: EpisodeDataset,
    statistics: Sequence[Path] = (),
    ranges_only: bool = False,
) -> AnyTokenizer:
    """`xtok.tokenizer_for`, with its defaults: the shipped tokenizer, and every robot that it lacks measured."""
    from xtok.pretrain.measurement import tokenizer_for

    return tokenizer_for(dataset, tokenizer, statistics, ranges_only)
