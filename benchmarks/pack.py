"""Packed corpora of growing size: what opening, indexing, sampling and memory cost. They should not grow.

    python benchmarks/pack.py -o docs/results/pack.json

Synthetic episodes of one arm (10 channels, 100 to 400 frames, seeded) are written by `xtok pack`'s own shard writer,
size after size, into a folder that is removed afterwards. Each size is then looked at by a process of its own: time to
open, bytes of the index, samples a second (32 frames, batches of 256), and how much the process has grown. Private
memory is what it holds; mapped files are pages of the shards that the kernel may take back at any time. Cold: the
kernel's cache was emptied of the files first (posix_fadvise). The largest size needs 2 GB of disk and some minutes.

# N frames, D channels, T frames of a chunk
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xtok import provenance
from xtok.actions.layout import ARMS26
from xtok.atomic import atomic_write
from xtok.data.episode import Episode
from xtok.data.packed.format import FORMAT, PackedSource
from xtok.data.packed.pack import finish, index_source, write_episodes
from xtok.data.packed.plan import Plan, Reading, Settings, Task, UnitSettings
from xtok.data.packed.sample import PackedCorpus

SIZES = "100000,1000000,10000000,40000000"
HORIZON, BATCH, BATCHES = 32, 256, 200
EPISODES_PER_SHARD = 256
DRAWN_SHARDS = 4  # distinct ones, written over and over
ROBOT = "panda"


def episodes(count: int, rng: np.random.Generator) -> list[Episode]:
    """Wandering positions, one rotation, an open gripper: values do not matter here."""
    mask_D = np.zeros(ARMS26.width, dtype=bool)
    mask_D[10:20] = True
    lengths = rng.integers(100, 401, size=count)
    step_N3 = rng.standard_normal((int(lengths.sum()), 3), dtype=np.float32) * np.float32(0.01)
    out, start = [], 0
    for number, length in enumerate(lengths):
        absolute_ND = np.zeros((length, ARMS26.width), dtype=np.float32)
        absolute_ND[:, 10:13] = step_N3[start : start + length]
        absolute_ND[:, [13, 17, 19]] = 1.0
        times_N = np.arange(length) / 20.0
        out.append(Episode(absolute_ND, ARMS26, mask_D, ROBOT, 20.0, "move", "synthetic", number, times_N))
        start += length
    return out


def build(root: Path, frames: int, seed: int) -> float:
    """A corpus of about that many frames; seconds it took."""
    began = time.perf_counter()
    rng = np.random.default_rng(seed)
    shards = max(1, round(frames / 250 / EPISODES_PER_SHARD))
    reading = Reading("synthetic", "arms26", None, None, "achieved")
    unit = root / "synthetic" / "arms26-achieved"
    tasks = tuple(Task(unit, n, reading, EPISODES_PER_SHARD, frozenset(), False) for n in range(shards))
    drawn = [episodes(EPISODES_PER_SHARD, rng) for _ in range(min(shards, DRAWN_SHARDS))]
    for task in tasks:
        places = [task.shard * EPISODES_PER_SHARD + i for i in range(EPISODES_PER_SHARD)]
        write_episodes(task.folder, drawn[task.shard % DRAWN_SHARDS], places, frozenset(), ranges=False)
    source = PackedSource("synthetic", (ROBOT,), 20.0, False, (), {}, ())
    unit_settings: UnitSettings = {
        **reading.to_dict(),
        "folder": "synthetic",
        "episodes": shards * EPISODES_PER_SHARD,
        "per_shard": EPISODES_PER_SHARD,
    }
    settings: Settings = {"format": FORMAT, "sources": [], "units": [unit_settings], "statistics": False}
    work = Plan(root, settings, (source,), ("synthetic",), (tasks,))
    finish(work, [index_source(work, 0)], {})
    return time.perf_counter() - began


def memory_bytes() -> dict[str, int]:
    """Of this process: private pages, and pages of mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith("Rss")}
    return {"private": found["RssAnon"], "mapped": found["RssFile"]}


def look(root: Path, cold: bool) -> dict[str, Any]:
    """Open and sample, in a process that did nothing else."""
    torch.set_num_threads(1)
    if cold:
        for path in root.rglob("*"):
            if path.is_file():
                descriptor = os.open(path, os.O_RDONLY)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)
    before = memory_bytes()
    began = time.perf_counter()
    corpus = PackedCorpus.open(root)
    opened_s = time.perf_counter() - began
    stream = corpus.batches(HORIZON, BATCH, seed=1)
    next(stream)
    first_s = time.perf_counter() - began
    cpu_s, began = time.process_time(), time.perf_counter()
    for _ in range(BATCHES):
        next(stream)
    took_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_s
    after = memory_bytes()
    return {
        "frames": corpus.frames,
        "episodes": corpus.episodes,
        "shards": sum(len(unit.about.shard_frames) for unit in corpus.units),
        "bytes": sum(unit.about.bytes for unit in corpus.units),
        "open_ms": 1e3 * opened_s,
        "first_batch_ms": 1e3 * first_s,
        "index_bytes": corpus.index_bytes,
        "index_bytes_per_episode": corpus.index_bytes / corpus.episodes,
        "samples_per_second": BATCHES * BATCH / took_s,
        "samples_per_cpu_second": BATCHES * BATCH / cpu_s,
        "private_memory_grown_mb": (after["private"] - before["private"]) / 1e6,
        "mapped_memory_grown_mb": (after["mapped"] - before["mapped"]) / 1e6,
    }


def measured(root: Path, cold: bool) -> dict[str, Any]:
    arguments = [sys.executable, __file__, "--look", str(root), *(["--cold"] if cold else [])]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def curve(sizes: list[int], work: Path, seed: int) -> Iterator[dict[str, Any]]:
    for size in sizes:
        root = work / f"pack-{size}"
        shutil.rmtree(root, ignore_errors=True)
        try:
            built_s = build(root, size, seed)
            cold = measured(root, cold=True)
            warm = measured(root, cold=False)
            entry = {**warm, "packed_frames_per_second": warm["frames"] / built_s}
            entry["cold"] = {key: cold[key] for key in ("open_ms", "first_batch_ms", "samples_per_second")}
            print(
                f"{entry['frames']:>10} frames {entry['bytes'] / 1e6:>7.0f} MB: open {entry['open_ms']:.1f} ms, index "
                f"{entry['index_bytes'] / 1e6:.2f} MB, {entry['samples_per_second']:.0f} samples/s, private "
                f"+{entry['private_memory_grown_mb']:.0f} MB, mapped +{entry['mapped_memory_grown_mb']:.0f} MB",
                file=sys.stderr,
            )
            yield entry
        finally:
            shutil.rmtree(root, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=SIZES, metavar="N,N", help=f"frames, about (default: {SIZES})")
    parser.add_argument("--work", type=Path, default=Path("out/bench-pack"), metavar="DIR", help="removed afterwards")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path, metavar="F.json")
    parser.add_argument("--look", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--cold", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.look is not None:
        print(json.dumps(look(args.look, args.cold)))
        return 0
    result = {
        "horizon": HORIZON,
        "batch": BATCH,
        "batches": BATCHES,
        "seed": args.seed,
        "curve": list(curve([int(size) for size in args.sizes.split(",")], args.work, args.seed)),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one used",
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
