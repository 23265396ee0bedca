"""Turn a parquet file of codes back into absolute actions, one row a frame.

A file says with which tokenizer and statistics it was written; it is decoded with those or not at all.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from xtok.atomic import atomic_file
from xtok.cli.codefile import Header, codes_of, open_parquet, pyarrow_parquet
from xtok.cli.common import add_tokenizer_argument, say
from xtok.cli.outputs import Writes

if TYPE_CHECKING:
    import pyarrow as pa

    from xtok.actions.layout import Layout
    from xtok.actions.types import Actions, Codes, Context
    from xtok.codec.load import AnyTokenizer
    from xtok.codec.sequence import OnInvalid

ROWS_PER_BATCH = 256


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("decode", help="a parquet file of codes into actions", description=__doc__)
    parser.add_argument("codes", type=Path, metavar="codes.parquet", help="a file written by `xtok encode`")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="actions.parquet")
    add_tokenizer_argument(parser)
    parser.add_argument("--levels", type=int, metavar="K", help="use the first K levels of each slot (default: all)")
    parser.add_argument(
        "--on-invalid",
        choices=("raise", "repair"),
        default="raise",
        help="codes that cannot be: stop (default), or decode the complete slots and say what was dropped",
    )
    writes = Writes(shipped=True, files=("out",), data=("codes",))
    parser.set_defaults(run=run, resume_hint="Nothing was written; give the same command again.", writes=writes)


def run(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    with open_parquet(args.codes) as file:
        header = Header.of(file, args.codes)
        tokenizer = tokenizer_of(header, args.tokenizer, args.codes)
        layout = tokenizer.layout
        rows = file.metadata.num_rows
        with (
            atomic_file(args.out) as temporary,
            pyarrow_parquet().ParquetWriter(temporary, schema(layout, header)) as writer,
            tqdm(total=rows, unit="chunk", desc="decode", disable=None) as bar,
        ):
            for batch in file.iter_batches(ROWS_PER_BATCH):
                actions = decode(batch, header, tokenizer, args.levels, args.on_invalid, args.codes, bar.n)
                writer.write_batch(frames(batch, actions, schema(layout, header)))
                bar.update(len(batch))
    print(f"{args.out}: {rows * header.horizon} frames of {rows} chunks")
    if header.stride < header.horizon:
        say(f"chunks overlap (stride {header.stride}): a frame has a row for every chunk that holds it")


def tokenizer_of(header: Header, name: str | None, path: Path) -> AnyTokenizer:
    """The tokenizer that wrote a file, with the statistics kept in the file.

    Raises:
        ValueError: if `name` (None: the shipped one of the file's layout) is another tokenizer.
    """
    from xtok.codec import Tokenizer
    from xtok.codec.gaussian.robot_statistics import RobotStatistics, statistics_from_dict
    from xtok.codec.load import load_tokenizer

    tokenizer, before = load_tokenizer(name or header.layout), False  # before: as an older format was
    if isinstance(tokenizer, Tokenizer) and tokenizer.layout.digest == header.layout_digest:
        for fields in header.statistics.values():
            robot = statistics_from_dict(fields)
            if not isinstance(robot, RobotStatistics):
                tokenizer = tokenizer.with_ranges(robot)
            elif tokenizer.stands_on(robot.measured_for):
                before |= robot.measured_for != tokenizer.foundation
                tokenizer = tokenizer.with_statistics(robot)
    if not before and not tokenizer.answers_to(header.tokenizer):
        raise ValueError(
            f"{path} was written with tokenizer {header.tokenizer}, {name or header.layout!r} is {tokenizer.digest}; "
            "codes mean nothing to another tokenizer: name the one that wrote them with --tokenizer"
        )
    return tokenizer


def decode(
    batch: pa.RecordBatch,
    header: Header,
    tokenizer: AnyTokenizer,
    levels: int | None,
    on_invalid: OnInvalid,
    path: Path,
    first_row: int,
) -> Actions:
    """Motion of some rows, the first of them row `first_row` of the file.

    Raises:
        ValueError: codes that cannot be (see `Tokenizer.decode`).
    """
    from xtok.actions.types import Actions
    from xtok.codec import Tokenizer

    codes, context = inputs(batch, header, tokenizer.layout, path, first_row, on_invalid == "raise")
    where = f"{path}, row {first_row} on"
    with warnings.catch_warnings(record=True) as repairs:
        warnings.simplefilter("always")
        try:
            if isinstance(tokenizer, Tokenizer):
                actions = tokenizer.decode(codes, context, levels, on_invalid)
            elif levels is not None:
                raise ValueError("--levels is for codes of slots and levels; motion words have no levels to leave out")
            else:
                actions = tokenizer.decode(codes, context, on_invalid)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    for repair in repairs:
        say(f"{where}: {repair.message}")
    assert isinstance(actions, Actions)
    return actions


def inputs(
    batch: pa.RecordBatch, header: Header, layout: Layout, path: Path, first_row: int, check: bool
) -> tuple[Codes, Context]:
    """What the decoder takes, from rows of a code file.

    Raises:
        ValueError: as `codes_of`.
    """
    import torch

    from xtok.actions.types import Context

    names = ("anchor", "mask", "control_hz", "embodiment")
    columns = {name: batch.column(name).to_pylist() for name in names}
    context = Context(
        layout=layout,
        anchor_BD=torch.tensor(columns["anchor"], dtype=torch.float32),
        mask_BD=torch.tensor(columns["mask"], dtype=torch.bool),
        control_hz_B=torch.tensor(columns["control_hz"], dtype=torch.float32),
        embodiment=tuple(columns["embodiment"]),
        horizon=header.horizon,
    )
    try:
        return codes_of(batch, header, first_row, check), context
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


class _Units(TypedDict, total=False):
    joint_units: dict[str, str]


class ChannelsJson(_Units):
    """The metadata of an action file. units: of each channel. joint_units: by robot, where they are not all rad."""

    layout: str
    channels: list[str]
    units: list[str]


def schema(layout: Layout, header: Header) -> pa.Schema:
    """Columns of an action file; its metadata names channels and units, those of the joints by robot where they differ.

    mask: the channels that the robot has. complete: False where --on-invalid repair had to continue the motion.
    """
    import pyarrow as pa

    channels: ChannelsJson = {
        "layout": layout.name,
        "channels": list(layout.channel_names),
        "units": units_of(layout, header),
    }
    if header.joint_units:
        channels["joint_units"] = {robot: header.joint_units.get(robot, "rad") for robot in sorted(header.statistics)}
    return pa.schema(
        [
            ("dataset", pa.string()),
            ("episode_index", pa.int64()),
            ("frame_start", pa.int64()),
            ("frame_index", pa.int64()),
            ("embodiment", pa.string()),
            ("action", pa.list_(pa.float32())),
            ("mask", pa.list_(pa.bool_())),
            ("complete", pa.bool_()),
        ],
        metadata={b"xtok.actions": json.dumps(channels, sort_keys=True).encode()},
    )


def units_of(layout: Layout, header: Header) -> list[str]:
    """The unit of each channel: of joints what the mapping of the data said, "mixed" where robots differ."""
    found = {header.joint_units.get(robot, "rad") for robot in header.statistics}
    joint = found.pop() if len(found) == 1 else "mixed"
    both = zip(layout.channel_kinds, layout.channel_units, strict=True)
    return [joint if kind == "joint" else unit for kind, unit in both]


def frames(batch: pa.RecordBatch, actions: Actions, columns: pa.Schema) -> pa.RecordBatch:
    """Decoded chunks as rows of an action file, one a frame."""
    import pyarrow as pa

    assert actions.absolute_BTD is not None, "every row of a code file has an anchor"
    assert actions.complete_BT is not None, "the codec says of each frame whether its codes were whole"
    rows = []
    decoded = (batch.to_pylist(), actions.absolute_BTD.tolist(), actions.complete_BT.tolist())
    for chunk, absolute_TD, complete_T in zip(*decoded, strict=True):
        shared = {name: chunk[name] for name in ("dataset", "episode_index", "frame_start", "embodiment", "mask")}
        for k, (action, complete) in enumerate(zip(absolute_TD, complete_T, strict=True)):
            rows.append({**shared, "frame_index": chunk["frame_start"] + k, "action": action, "complete": complete})
    return pa.RecordBatch.from_pylist(rows, schema=columns)
