"""What a frozen teacher sees in the films of data sets, into a feature store. Stopped at any moment, it goes on.

The bytes are the same whatever --workers or --ray, on machines of one kind, and however often it was stopped.
Every fourth frame and the last one; views and words apart, float16. docs/features.md has the store's format and sizes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from xtok.cli.common import add_workers_arguments, workers_of
from xtok.cli.outputs import Writes
from xtok.workers import Workers, crew

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from xtok.semantics.extract import Done, Shard, ShardWriter, Work
    from xtok.semantics.teacher import Teacher


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("features", help="teacher features of a data set", description=__doc__)
    parser.add_argument(
        "data", type=Path, nargs="+", metavar="DATA", help="data set folders with films, or mapping files"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="STORE")
    add_teacher_arguments(parser)
    parser.add_argument(
        "--views",
        type=lambda text: text.split(","),
        metavar="A,B,C",
        help="cameras, up to three (default: all); A|B: camera A, or B in data sets that have no A",
    )
    parser.add_argument(
        "--prompt",
        metavar="P",
        help="with {instruction} and {subtask} (default: 'Task: {instruction}. Now: {subtask}.')",
    )
    parser.add_argument("--layout", choices=("arms26", "joints"), help="how to read the actions, which are not used")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="pictures at once (default: 64)")
    add_workers_arguments(parser)
    parser.set_defaults(
        run=run, resume_hint="Give the same command again: whole shards are kept.", writes=Writes(folder="out")
    )


def add_teacher_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--teacher",
        default="embedded",
        metavar="T",
        help="embedded (needs no hub), a preset (qwen2.5-vl, qwen3-vl, smolvlm, paligemma), or any Hugging Face "
        "image-text model by id or folder (default: embedded)",
    )
    parser.add_argument("--layer", type=int, metavar="L", help="hidden layer, from the end if negative (default: -3)")


def run(args: argparse.Namespace) -> None:
    import time

    from xtok.semantics.extract import ShardWriter, finish, is_done, plan
    from xtok.semantics.load import load_teacher
    from xtok.semantics.teacher import TEMPLATE

    if args.batch_size < 1:
        raise ValueError(f"--batch-size is {args.batch_size}; expected 1 or more")
    workers = workers_of(args)
    teacher = load_teacher(args.teacher, args.layer)
    template = TEMPLATE if args.prompt is None else args.prompt
    work, shards = plan(args.data, teacher, args.out, template, args.views, args.layout, args.batch_size)
    missing = [shard for shard in shards if not is_done(work, shard)]
    began_s = time.perf_counter()
    if workers.is_here:
        pictures = sum(done.pictures for done in local(work, shards, missing, teacher))
    else:
        writer = ShardWriter(work, args.teacher, args.layer, teacher.digest)
        del teacher  # each worker has its own
        pictures = sum(done.pictures for done in shared_out(writer, shards, missing, workers))
    took_s = time.perf_counter() - began_s
    store = finish(work, shards)
    counts = store.manifest
    print(
        f"{args.out}: {len(store)} episodes, {counts['samples']} samples of {counts['frames']} frames, "
        f"{counts['pictures']} pictures, {len(store.prompts)} prompts, {counts['bytes'] / 1e6:.1f} MB, "
        f"digest {store.digest}"
    )
    if pictures:
        print(f"  {pictures / took_s:.1f} pictures a second, films read included")


def local(work: Work, shards: Sequence[Shard], missing: Sequence[Shard], teacher: Teacher) -> Iterator[Done]:
    """One shard after another in this process, with a bar over episodes that shows pictures a second."""
    from tqdm import tqdm

    from xtok.semantics.extract import write_shard

    total = sum(len(shard.episodes) for shard in shards)
    left = sum(len(shard.episodes) for shard in missing)
    opened: dict = {}
    with tqdm(total=total, initial=total - left, unit="episode", desc="features", disable=None) as bar:
        seen, seconds = 0, 0.0

        def progress(batch: Done) -> None:
            nonlocal seen, seconds
            seen, seconds = seen + batch.pictures, seconds + batch.seconds
            bar.set_postfix_str(f"{seen} pictures, teacher {seen / max(seconds, 1e-9):.0f}/s")

        for shard in missing:
            yield write_shard(work, shard, teacher, progress, opened)
            bar.update(len(shard.episodes))


def shared_out(
    writer: ShardWriter, shards: Sequence[Shard], missing: Sequence[Shard], workers: Workers
) -> Iterator[Done]:
    """Shards by several workers, with a bar over the episodes of all that shows pictures so far."""
    from tqdm import tqdm

    if not missing:
        return
    total, left = (sum(len(shard.episodes) for shard in each) for each in (shards, missing))
    with (
        tqdm(total=total, initial=total - left, unit="episode", desc="features", disable=None) as bar,
        crew(writer, workers, gpus=True) as run_all,
    ):
        seen = 0
        for shard, done in zip(missing, run_all(missing), strict=True):
            seen += done.pictures
            bar.set_postfix_str(f"{seen} pictures")
            bar.update(len(shard.episodes))
            yield done
