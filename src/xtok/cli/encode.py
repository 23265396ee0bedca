"""Turn a data set into a parquet file of codes, one row a chunk. Killed at any moment, it goes on where it was.

Episodes are encoded in groups; each group is a part file in `FILE.parts/`, written whole or not at all. When all parts
are there they are joined into FILE and the folder is removed, so FILE has the same bytes however often it was stopped,
whatever --workers or --ray.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import xtok
from xtok.atomic import atomic_write
from xtok.cli.codefile import Header
from xtok.cli.common import (
    SPLITS,
    add_dataset_arguments,
    add_statistics_argument,
    add_tokenizer_argument,
    add_workers_arguments,
    load_tokenizer,
    open_data,
    say,
    workers_of,
)
from xtok.cli.encode_parts import Part, PartWriter, Report, join, refuse_saturated
from xtok.cli.outputs import Writes
from xtok.workers import Workers, crew

if TYPE_CHECKING:
    from xtok.actions.statistics import StatisticsJson
    from xtok.codec.gaussian.robot_statistics import RobotStatisticsJson
    from xtok.codec.load import AnyTokenizer
    from xtok.data import EpisodeDataset

EPISODES_PER_PART = 16
RECORD = "settings.json"  # in the folder of parts
TOKENIZER = "tokenizer"  # in the folder of parts: a copy for workers


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("encode", help="a data set into a parquet file of codes", description=__doc__)
    add_dataset_arguments(parser)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="codes.parquet")
    add_tokenizer_argument(parser)
    add_statistics_argument(parser)
    parser.add_argument("--horizon", type=int, default=32, metavar="T", help="frames a chunk, 8 to 64 (default: 32)")
    parser.add_argument("--stride", type=int, metavar="S", help="frames between chunk starts (default: T, no overlap)")
    parser.add_argument("--split", choices=SPLITS, default="all", help="heldout = every fifth episode (default: all)")
    parser.add_argument(
        "--on-saturation",
        choices=("report", "raise"),
        default="report",
        help="values outside the range of the statistics: report their share at the end (default), or stop",
    )
    add_workers_arguments(parser)
    writes = Writes(shipped=True, files=("out",), beside=(".parts",))
    hint = "Give the same command again: it goes on after the last whole part."
    parser.set_defaults(run=run, resume_hint=hint, writes=writes)


def run(args: argparse.Namespace) -> None:
    from xtok.codec.load import load_tokenizer as open_tokenizer
    from xtok.codec.words import WordTokenizer
    from xtok.data.splits import empty_split, split_positions

    workers = workers_of(args)
    dataset = open_data(args)
    name = args.tokenizer or dataset.layout.name
    opened = open_tokenizer(name)
    refuse_unkept(name, opened, dataset)
    tokenizer = load_tokenizer(opened, dataset, args.statistics, args.ranges_only)
    header = Header(
        tokenizer=tokenizer.digest,
        layout=dataset.layout.name,
        layout_digest=dataset.layout.digest,
        vocab_size=tokenizer.vocab_size,
        levels=0 if isinstance(tokenizer, WordTokenizer) else tokenizer.levels,
        horizon=args.horizon,
        stride=args.horizon if args.stride is None else args.stride,
        split=args.split,
        dataset=dataset.name,
        statistics={robot: robot_fields(tokenizer, robot) for robot in sorted(dataset.embodiments)},
        left_out=tuple(each.to_dict() for each in dataset.left_out),
        joint_units=native_joints(dataset),
        grammar=tokenizer.grammar if isinstance(tokenizer, WordTokenizer) else None,
    )
    positions = split_positions(dataset, args.split)
    if not positions:
        raise ValueError(empty_split(dataset, args.split))
    folder = open_parts(args.out, settings_of(args, header))
    groups = [positions[i : i + EPISODES_PER_PART] for i in range(0, len(positions), EPISODES_PER_PART)]
    parts = [Part(folder / f"part-{number:05d}.parquet", tuple(group)) for number, group in enumerate(groups)]
    if args.on_saturation == "raise":
        refuse_saturated([part.path for part in parts if part.path.exists()])  # written by a run that was to report
    own = tokenizer if workers.is_here else copy_for_workers(tokenizer, folder)
    write_parts(PartWriter(header, dataset, own, args.on_saturation), parts, workers)
    report = join([part.path for part in parts], args.out, header)
    remove_parts(folder)
    print_report(report, dataset, header, args.out)


def refuse_unkept(name: str, tokenizer: AnyTokenizer, dataset: EpisodeDataset) -> None:
    """Raises ValueError where motion words would have to be placed for a robot and kept nowhere: a code file has no
    room for books, so nobody could read it."""
    from xtok.codec.words import WordTokenizer

    if isinstance(tokenizer, WordTokenizer) and (unknown := set(dataset.embodiments) - set(tokenizer.statistics)):
        raise ValueError(
            f"{name} does not know {sorted(unknown)}, and codes can be read only with the books that wrote them: place "
            f"and keep them first, `xtok adapt {dataset.name} --tokenizer {name} -o TOKENIZER`, then encode with those"
        )


def copy_for_workers(tokenizer: AnyTokenizer, folder: Path) -> Path:
    """The tokenizer with all that was measured here, as files; measured once, so that no worker has another."""
    own = folder / TOKENIZER
    tokenizer.save_pretrained(own)
    return own


def write_parts(write: PartWriter, parts: Sequence[Part], workers: Workers) -> None:
    """Those that are missing, with a bar over the episodes of all."""
    from tqdm import tqdm

    missing = [part for part in parts if not part.path.exists()]
    if not missing:
        return
    total, left = (sum(len(part.positions) for part in each) for each in (parts, missing))
    with (
        tqdm(total=total, initial=total - left, unit="episode", desc="encode", disable=None) as bar,
        crew(write, workers) as run_all,
    ):
        for part, _ in zip(missing, run_all(missing), strict=True):
            bar.update(len(part.positions))


def robot_fields(tokenizer: AnyTokenizer, robot: str) -> StatisticsJson | RobotStatisticsJson:
    """What a decoder has to know of a robot: as it was measured, or the ranges of one that the tokenizer knows."""
    from xtok.codec import Tokenizer

    measured = tokenizer.measured.get(robot) if isinstance(tokenizer, Tokenizer) else None
    return (tokenizer.statistics[robot] if measured is None else measured).to_dict()


def native_joints(dataset: EpisodeDataset) -> dict[str, str]:
    """Robots of a set whose joints are in no radians, with the unit that they are in."""
    if not dataset.layout.of_kind("joint"):
        return {}
    units = {robot: dataset.joint_unit(robot) for robot in dataset.embodiments}
    return {robot: unit for robot, unit in units.items() if unit != "rad"}


def settings_of(args: argparse.Namespace, header: Header) -> dict[str, object]:
    """All that decides the rows: the header, how the data are read, and a digest of the data and of the mapping.

    The digest is of the contents: names, sizes and bytes of all files but films; of files over 1 MB the first and last
    64 KiB and the time of the last change. A folder of the same name is therefore not taken for this one.
    """
    from xtok.data.fingerprint import fingerprint

    data = fingerprint(args.data, args.mapping, times=True)
    return {
        **asdict(header),
        "contents of the data": data.contents,
        "mapping": data.rules,
        "embodiment": args.embodiment,
        "episodes a part": EPISODES_PER_PART,
        "xtok": xtok.__version__,
    }


def open_parts(out: Path, settings: Mapping[str, object]) -> Path:
    """The folder of part files beside `out`, made now or left by a run that was stopped.

    Raises:
        ValueError: if the folder belongs to a run with other settings, data, tokenizer or statistics; it says which.
    """
    from xtok.data.digests import differences

    folder = out.with_name(f"{out.name}.parts")
    record = folder / RECORD
    if not record.exists():
        if folder.exists() and any(folder.glob("part-*")):
            raise ValueError(f"{folder} holds parts of an unknown run; remove it to begin anew")
        atomic_write(record, json.dumps(settings, sort_keys=True))
        return folder
    try:
        before = json.loads(record.read_bytes())
    except ValueError as error:
        raise ValueError(f"{record} is damaged ({error}); remove {folder} to begin anew") from error
    if different := differences(before, settings):
        raise ValueError(
            f"{folder} holds parts of a run with other settings: {', '.join(different)}; "
            "give that run's command to finish it, or remove the folder to begin anew"
        )
    for draft in folder.glob(".*.tmp"):  # of runs that were killed
        draft.unlink()
    return folder


def remove_parts(folder: Path) -> None:
    """Remove a folder of parts, the record of its settings last: killed in between, it is still known whose it is."""
    for path in folder.iterdir():
        if path.name != RECORD:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(folder)


def print_report(report: Report, dataset: EpisodeDataset, header: Header, out: Path) -> None:
    print(f"{out}: {report.chunks} chunks of {header.horizon} frames from {report.episodes} episodes of {dataset.name}")
    if header.left_out:
        say(f"{len(header.left_out)} episodes could not be read and were left out; the file's header lists them")
    if report.too_short:
        say(f"{report.too_short} episodes have fewer than {header.horizon + 1} frames and gave no chunk")
    if uncoded := report.frames - report.frames_coded:
        say(
            f"{uncoded} of {report.frames} frames ({uncoded / report.frames:.1%}) are in no chunk: the first of each "
            "episode, tails shorter than a chunk, gaps between strides"
        )
    if report.outside:
        shares = {channel: count / report.values[channel] for channel, count in report.outside.most_common()}
        lines = (f"  {channel:<20} {share:8.3%}" for channel, share in shares.items())
        say("\n".join(["saturated, share of values outside the range of the statistics:", *lines]))
