"""What several commands share: arguments, a tokenizer that knows the robots of the data, files written whole."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xtok.actions.statistics import Statistics
    from xtok.codec import Tokenizer
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


def open_data(args: argparse.Namespace, action_source: ActionSource = "achieved") -> EpisodeDataset:
    """The data set of a command line that has DATA or --data (several are joined) and the arguments for reading it."""
    from xtok.data import join, open_dataset

    paths = args.data if isinstance(args.data, list) else [args.data]
    how: dict[str, Any] = {"layout": args.layout, "embodiment": args.embodiment, "mapping": args.mapping}
    how["skip_bad"] = args.skip_bad
    dataset = join([open_dataset(path, **how, action_source=action_source) for path in paths])
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
        help="of `xtok stats -o` (default: those of the tokenizer, or of the train episodes for a robot it lacks)",
    )


def say(message: str) -> None:
    """A remark to the person at the terminal; results alone go to stdout."""
    print(f"xtok: {message}", file=sys.stderr)


def train_statistics(dataset: EpisodeDataset, robots: Sequence[str]) -> dict[str, Statistics]:
    """Statistics of each robot over its train episodes (position mod 5 != 4), for chunks of up to 64 frames."""
    from xtok.data.splits import select
    from xtok.pretrain.corpus import fit_statistics_of

    out = {}
    episodes = select(dataset, "train")
    for robot in robots:
        mine = [episode for episode in episodes if episode.embodiment == robot]
        if not mine:
            raise ValueError(f"{dataset.name} has no train episode of {robot!r}, so no statistics can be fitted for it")
        out[robot] = fit_statistics_of(dataset.layout, mine)
    return out


def load_tokenizer(name: str | None, dataset: EpisodeDataset, statistics_paths: Sequence[Path] = ()) -> Tokenizer:
    """The tokenizer called `name` (None: the shipped one of the set's layout), with statistics for every robot there.

    Raises:
        ValueError: if the tokenizer is of another layout than the data, or a statistics file cannot serve.
    """
    from xtok.actions.statistics import Statistics
    from xtok.codec import Tokenizer

    tokenizer = Tokenizer.from_pretrained(name or dataset.layout.name)
    if tokenizer.layout.digest != dataset.layout.digest:
        raise ValueError(
            f"tokenizer {tokenizer.name!r} is of layout {tokenizer.layout.name!r}, {dataset.name} was read as "
            f"{dataset.layout.name!r}; give --layout {tokenizer.layout.name}, or another --tokenizer"
        )
    for path in statistics_paths:
        statistics = Statistics.load(path)
        if statistics.embodiment not in dataset.embodiments:
            raise ValueError(
                f"{path} is of {statistics.embodiment!r}, {dataset.name} holds {list(dataset.embodiments)}"
            )
        tokenizer = tokenizer.with_statistics(statistics)
    unknown = [robot for robot in dataset.embodiments if robot not in tokenizer.statistics]
    fitted = train_statistics(dataset, unknown) if unknown else {}
    for robot, statistics in fitted.items():
        say(
            f"the tokenizer does not know {robot!r}; using ranges from the train episodes of {dataset.name} "
            "(`xtok adapt` measures the robot itself, which codes it better)"
        )
        tokenizer = tokenizer.with_statistics(statistics)
    return tokenizer
