"""Turn a data set into a parquet file of codes, one row a chunk. Killed at any moment, it goes on where it was.

Episodes are encoded in groups; each group is a part file in `FILE.parts/`, written whole or not at all. When all parts
are there they are joined into FILE and the folder is removed, so FILE has the same bytes however often it was stopped.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import xtok
from xtok.atomic import atomic_file, atomic_write
from xtok.cli.codefile import Header, open_parquet, pyarrow_parquet, schema
from xtok.cli.common import (
    SPLITS,
    add_dataset_arguments,
    add_statistics_argument,
    add_tokenizer_argument,
    load_tokenizer,
    open_data,
    say,
)
from xtok.cli.outputs import Writes
from xtok.progress import track

if TYPE_CHECKING:
    import numpy as np

    from xtok.actions.statistics import StatisticsJson
    from xtok.actions.types import ChunkBatch
    from xtok.codec import Tokenizer
    from xtok.codec.gaussian.robot_statistics import RobotStatisticsJson
    from xtok.data import Episode, EpisodeDataset

EPISODES_PER_PART = 16
REPORT_KEY = b"xtok.encode_report"


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
    writes = Writes(shipped=True, files=("out",), beside=(".parts",))
    hint = "Give the same command again: it goes on after the last whole part."
    parser.set_defaults(run=run, resume_hint=hint, writes=writes)


def run(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from xtok.data.splits import empty_split, split_positions

    dataset = open_data(args)
    tokenizer = load_tokenizer(args.tokenizer, dataset, args.statistics, args.ranges_only)
    header = Header(
        tokenizer=tokenizer.digest,
        layout=dataset.layout.name,
        layout_digest=dataset.layout.digest,
        vocab_size=tokenizer.vocab_size,
        levels=tokenizer.levels,
        horizon=args.horizon,
        stride=args.horizon if args.stride is None else args.stride,
        split=args.split,
        dataset=dataset.name,
        statistics={robot: robot_fields(tokenizer, robot) for robot in sorted(dataset.embodiments)},
        left_out=tuple(each.to_dict() for each in dataset.left_out),
        joint_units=native_joints(dataset),
    )
    positions = split_positions(dataset, args.split)
    if not positions:
        raise ValueError(empty_split(dataset, args.split))
    folder = open_parts(args.out, settings_of(args, header))
    groups = [positions[i : i + EPISODES_PER_PART] for i in range(0, len(positions), EPISODES_PER_PART)]
    parts = [folder / f"part-{number:05d}.parquet" for number in range(len(groups))]
    with tqdm(total=len(positions), unit="episode", desc="encode", disable=None) as bar:
        for part, group in zip(parts, groups, strict=True):
            if not part.exists():
                write_part(part, header, [dataset[position] for position in group], tokenizer, args.on_saturation)
            elif args.on_saturation == "raise":
                refuse_saturated(part)  # written by a run that was to report
            bar.update(len(group))
    report = join(parts, args.out, header)
    shutil.rmtree(folder)
    print_report(report, dataset, header, args.out)


def robot_fields(tokenizer: Tokenizer, robot: str) -> StatisticsJson | RobotStatisticsJson:
    """What a decoder has to know of a robot: as it was measured, or the ranges of one that the tokenizer knows."""
    measured = tokenizer.measured.get(robot)
    return (tokenizer.statistics[robot] if measured is None else measured).to_dict()


def native_joints(dataset: EpisodeDataset) -> dict[str, str]:
    """Robots of a set whose joints are in no radians, with the unit that they are in."""
    if not dataset.layout.of_kind("joint"):
        return {}
    units = {robot: dataset.joint_unit(robot) for robot in dataset.embodiments}
    return {robot: unit for robot, unit in units.items() if unit != "rad"}


class ReportJson(TypedDict):
    """A `Report` in the metadata of a part."""

    episodes: int
    too_short: int
    frames: int
    frames_coded: int
    chunks: int
    values: dict[str, int]
    outside: dict[str, int]


class CodeRow(TypedDict):
    """A row of a code file. codes: [M * Q], anchor, mask: [D]."""

    dataset: str
    episode_index: int
    frame_start: int
    horizon: int
    embodiment: str
    control_hz: float
    codes: np.ndarray
    anchor: list[float]
    mask: np.ndarray


@dataclass
class Report:
    """What encoding has seen. values, outside: valid values a channel, and those beyond the statistics' range."""

    episodes: int = 0
    too_short: int = 0
    frames: int = 0
    frames_coded: int = 0
    chunks: int = 0
    values: Counter[str] = field(default_factory=Counter)
    outside: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Report) -> Report:
        return Report(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    @classmethod
    def from_dict(cls, content: ReportJson) -> Report:
        return cls(
            episodes=content["episodes"],
            too_short=content["too_short"],
            frames=content["frames"],
            frames_coded=content["frames_coded"],
            chunks=content["chunks"],
            values=Counter(content["values"]),
            outside=Counter(content["outside"]),
        )


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
    record = folder / "settings.json"
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


def refuse_saturated(part: Path) -> None:
    """Raises ValueError for a part that has values outside the range of the statistics."""
    with open_parquet(part) as file:
        report = Report.from_dict(json.loads(file.schema_arrow.metadata[REPORT_KEY]))
    if report.outside:
        raise ValueError(
            f"{', '.join(sorted(report.outside))}: values beyond the statistics, in {part}; "
            "--on-saturation report tells how many, and goes on"
        )


def write_part(
    path: Path, header: Header, episodes: Sequence[Episode], tokenizer: Tokenizer, on_saturation: str
) -> None:
    """Encode some episodes into one part file; their report is kept in its metadata."""
    import pyarrow as pa

    rows: list[CodeRow] = []
    report = Report()
    for episode in track(episodes, path.stem, "episode", delay_s=0.5):
        report.episodes += 1
        report.frames += len(episode)
        chunks_before = report.chunks
        for start, chunks in chunks_of(episode, header.horizon, header.stride):
            seen = saturation_report(chunks, tokenizer)
            if seen.outside and on_saturation == "raise":
                raise ValueError(
                    f"{episode.dataset}, episode {episode.index}: {', '.join(sorted(seen.outside))}: values beyond "
                    f"the statistics of {episode.embodiment!r}; --on-saturation report tells how many, and goes on"
                )
            report += seen
            rows += rows_of(chunks, tokenizer, episode, start, header.stride)
        if report.chunks == chunks_before:
            report.too_short += 1
        else:
            overlap_free = min(header.stride, header.horizon)
            report.frames_coded += (report.chunks - chunks_before - 1) * overlap_free + header.horizon
    metadata = {**header.to_metadata(), REPORT_KEY: json.dumps(vars(report), sort_keys=True).encode()}
    table = pa.Table.from_pylist(rows, schema=schema(header)).replace_schema_metadata(metadata)
    with atomic_file(path) as temporary:
        pyarrow_parquet().write_table(table, temporary)


def chunks_of(episode: Episode, horizon: int, stride: int) -> Iterator[tuple[int, ChunkBatch]]:
    """Batches of an episode's chunks, each with the frame at which its first chunk starts; none if it is too short."""
    from xtok.data.chunks import iter_chunks

    if len(episode) <= horizon:
        return
    start = 1  # frame 0 is the first anchor
    for chunks in iter_chunks([episode], horizon, stride):
        yield start, chunks
        start += stride * len(chunks)


def rows_of(chunks: ChunkBatch, tokenizer: Tokenizer, episode: Episode, start: int, stride: int) -> Iterator[CodeRow]:
    """The rows of a code file, one a chunk of a batch."""
    context = chunks.context
    assert context.anchor_BD is not None
    for i, (codes, anchor) in enumerate(zip(tokenizer.encode(chunks).tokens, context.anchor_BD.tolist(), strict=True)):
        yield {
            "dataset": episode.dataset,
            "episode_index": episode.index,
            "frame_start": start + i * stride,
            "horizon": context.horizon,
            "embodiment": episode.embodiment,
            "control_hz": episode.control_hz,
            "codes": codes,
            "anchor": anchor,
            "mask": episode.mask_D,
        }


def saturation_report(chunks: ChunkBatch, tokenizer: Tokenizer) -> Report:
    """How many values of a batch of one episode lie outside the range of its robot's statistics."""
    context = chunks.context
    frames = len(chunks) * context.horizon
    names = context.layout.channel_names
    return Report(
        chunks=len(chunks),
        values=Counter({names[channel]: frames for channel in context.mask_BD[0].nonzero().flatten().tolist()}),
        outside=Counter({name: round(share * frames) for name, share in tokenizer.saturation(chunks).items()}),
    )


def join(parts: Sequence[Path], out: Path, header: Header) -> Report:
    """All parts in order into one file, written whole or not at all."""
    total = Report()
    with atomic_file(out) as temporary, pyarrow_parquet().ParquetWriter(temporary, schema(header)) as writer:
        for part in parts:
            with open_parquet(part) as file:
                total += Report.from_dict(json.loads(file.schema_arrow.metadata[REPORT_KEY]))
                writer.write_table(file.read().replace_schema_metadata(header.to_metadata()))
    return total


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
