"""Do batches keep up with training? Batches a second by number of workers, beside steps of the small perceiver.

    xtok pack DATA... -o corpus
    python benchmarks/loader.py --packed corpus --folders DATA... -o docs/results/loader.json

One thread each. What is compared runs in turns, so that a busy machine slows both; rates are medians over the turns,
ratios medians of the turns' ratios. A batch is what the recipe's step takes: 128 chunks of 8 to 64 frames with their
deltas and all that is random, as `Batches` hands it on; workers are started before the clock. `waited` is what
metrics.jsonl says of short runs.

Packed corpora are read as training reads them: robots of less than 256 MB into memory, others in place; "in place"
reads all of them so. Memory of a worker while it works, from /proc/PID/smaps_rollup: rss with all that it shares, uss
what it alone has.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch

from xtok import provenance
from xtok.actions.layout import get_layout
from xtok.atomic import atomic_write
from xtok.engine import Launch
from xtok.engine.batches import Batches
from xtok.pretrain.corpus import Corpus
from xtok.pretrain.loop import Trainer, begin_run
from xtok.pretrain.recipe import Recipe
from xtok.recipes import small_perceiver_arms26

WORKERS = (0, 1, 2)
BATCHES, STEPS, RUN_STEPS = 60, 3, 8
IN_PLACE = "packed, in place"
LONG = 1_000_000  # steps: more than are asked for


def recipe() -> Recipe:
    """Masked modelling from the first step on, quick codebooks: a step in the middle of a run."""
    return small_perceiver_arms26().varied(
        masking={"start": 0.0},
        codebooks={"vectors": 5_000, "iterations": 1},
        log_every=RUN_STEPS,
        validate_every=0,
        checkpoint_every=LONG,
    )


def opened(paths: Sequence[Path]) -> Corpus:
    data = recipe().data
    return Corpus.open(get_layout("arms26"), paths, data.action_sources)


@contextmanager
def loaders(trainer: Trainer, first: int) -> Iterator[dict[int, Batches[Any]]]:
    """One for each number of workers."""
    found = {W: Batches(trainer.task.batches, range(first, LONG), (0,), 1, W, pin=False) for W in WORKERS}
    try:
        yield found
    finally:
        for each in found.values():
            each.close()


def per_second(loader: Batches[Any], count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        next(loader)
    return count / (time.perf_counter() - began)


def steps_per_second(trainer: Trainer, count: int) -> float:
    """Without the drawing of their batches."""
    parts = [trainer.task.batches.part(step, 0, 1) for step in range(count)]
    given = iter(parts)
    with patch.object(trainer, "_next_parts", lambda: (next(given),)):
        began = time.perf_counter()
        for _ in range(count):
            trainer.train_step()
        return count / (time.perf_counter() - began)


def memory_mb(pid: int) -> dict[str, float]:
    """Of a process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kb = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return {"rss": kb["Rss"] / 1e3, "uss": (kb["Private_Clean"] + kb["Private_Dirty"]) / 1e3}


def workers_of(trainer: Trainer) -> list[dict[str, float]]:
    """Memory of two workers after two hundred batches, and of this process, last."""
    loader = Batches(trainer.task.batches, range(LONG), (0,), 1, 2, pin=False)
    try:
        per_second(loader, 200)
        pids = [child.pid for child in multiprocessing.active_children() if child.pid is not None]
        return [memory_mb(pid) for pid in (*pids, os.getpid())]
    finally:
        loader.close()


def waited(trainer: Trainer, work: Path, workers: int) -> dict[str, float]:
    """The `time` of a short run, after its first steps."""
    out = work / f"run-{workers}"
    corpus, codec = trainer.corpus, trainer.codec
    out.mkdir(parents=True)
    run = Trainer(recipe(), corpus, codec, out, launch=Launch(workers=workers))
    run.run(until=2 * RUN_STEPS)
    shutil.rmtree(out / "checkpoints")
    return json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])["time"]


def measure(
    name: str, paths: Sequence[Path], work: Path, turns: int, begun: Trainer | None = None
) -> tuple[dict[str, Any], Trainer]:
    """begun: a run whose codec is taken over, in place of placing codebooks again."""
    with patch("xtok.pretrain.motion.IN_MEMORY_BYTES", 0 if name == IN_PLACE else 1 << 28):
        corpus = opened(paths)
    out = work / name.replace(" ", "-")
    if begun is None:
        trainer = begin_run(recipe(), corpus, out)
    else:
        out.mkdir()
        trainer = Trainer(recipe(), corpus, begun.codec, out)
    trainer.task.train()
    steps_per_second(trainer, 2)
    rates: dict[str, list[float]] = {}
    with loaders(trainer, 0) as found:
        for loader in found.values():
            per_second(loader, 20)
        for _ in range(turns):
            for W, loader in found.items():
                rates.setdefault(f"workers {W}", []).append(per_second(loader, BATCHES))
            rates.setdefault("steps", []).append(steps_per_second(trainer, STEPS))
    of_steps = rates.pop("steps")
    entry = {
        "frames": sum(source.frames for source in corpus.train),
        "motion": sorted({type(source.motion).__name__ for source in corpus.train}),
        "training_steps_per_second": median(of_steps),
        "batches_per_second": {W: median(mine) for W, mine in rates.items()},
        "times_the_training": {
            W: median(mine / step for mine, step in zip(each, of_steps, strict=True)) for W, each in rates.items()
        },
        "waited": {f"workers {W}": waited(trainer, out, W) for W in (0, 1)},
        "memory_mb": dict(zip(("worker 1", "worker 2", "training"), workers_of(trainer), strict=True)),
    }
    print(f"{name}: {json.dumps(entry)}", file=sys.stderr)
    return entry, trainer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packed", type=Path, required=True, metavar="CORPUS")
    parser.add_argument("--folders", type=Path, nargs="+", required=True, metavar="DATA", help="what it was packed of")
    parser.add_argument("-o", "--out", type=Path, metavar="F.json")
    parser.add_argument("--turns", type=int, default=5, metavar="N", help="(default: 5)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        results, trainer = {}, None
        for name, paths in (("packed", [args.packed]), (IN_PLACE, [args.packed]), ("folders", args.folders)):
            results[name], trainer = measure(name, paths, work, args.turns, trainer)
    result = {
        "recipe": "small_perceiver_arms26",
        "batch": recipe().data.batch_size,
        "turns": args.turns,
        "results": results,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread each",
        "load_average": os.getloadavg(),
        "versions": provenance.versions(),
        "git_revision": provenance.git_revision(),
        "command": provenance.command(),
    }
    text = json.dumps(result, indent=2) + "\n"
    print(text, end="")
    if args.out is not None:
        atomic_write(args.out, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
