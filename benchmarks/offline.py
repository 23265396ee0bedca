"""Frames a second of `xtok encode`, `xtok pack` and `xtok features` by workers, and bytes a frame of what they write.

    python benchmarks/offline.py --data FOLDER --films FOLDER -o docs/results/offline.json

Whole commands, as a user gives them, on copies of a folder without its films (encode reads the corpus that pack made of
them) and on a folder with films; in turns, so that a busy machine slows all alike. Figures are medians over the turns,
"ratio" is the median of the turns' ratios of frames a second to one worker. "start" is what the same command takes for
the six demonstrations that ship: imports, processes or cluster begun, tokenizer opened; items a CPU second are without
it. Every run must write the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from xtok import provenance
from xtok.atomic import atomic_write
from xtok.data import open_dataset, sample_path
from xtok.data.packed.format import Manifest
from xtok.semantics.store import FeatureStore

HOWS = {"1 worker": [], "2 workers": ["--workers", "2"], "2 of Ray": ["--ray", "2"]}
NOT_BEGUN = "Ray did not begin"  # its processes have thirty seconds, which a very busy machine may not give them
Seconds = dict[str, list[tuple[float, float]]]  # how -> of each turn: on the clock, of processors


def copies(folder: Path, count: int, root: Path) -> list[Path]:
    """The same motion under several names, without films."""
    made = [root / f"{folder.name}-{number}" for number in range(count)]
    for each in made:
        shutil.copytree(folder, each, ignore=shutil.ignore_patterns("*.mp4"))
    return made


def written(out: Path) -> str:
    """A digest of all bytes that a command wrote."""
    digest = hashlib.sha256()
    for path in [out] if out.is_file() else sorted(path for path in out.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(out)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def in_turns(command: Sequence[object], out: Path, turns: int) -> Seconds:
    """Seconds of a command that writes `out`, which the last run leaves."""
    took: Seconds = {how: [] for how in HOWS}
    digests = set()
    for turn in range(turns):
        for how, options in HOWS.items():
            line = [sys.executable, "-m", "xtok.cli.main", *map(str, command), "-o", str(out), *options]
            error = NOT_BEGUN
            while NOT_BEGUN in error:
                shutil.rmtree(out) if out.is_dir() else out.unlink(missing_ok=True)
                began, used = time.perf_counter(), processor_s()
                done = subprocess.run(line, capture_output=True, text=True)
                error = done.stderr
            assert done.returncode == 0, error
            took[how].append((time.perf_counter() - began, processor_s() - used))
            digests.add(written(out))
            clock_s, cpu_s = took[how][-1]
            print(f"{command[0]}, turn {turn + 1}, {how}: {clock_s:.1f} s, {cpu_s:.1f} of CPUs", file=sys.stderr)
    assert len(digests) == 1, f"{command[0]} wrote other bytes"
    return took


def processor_s() -> float:
    """Of all that this process began and that has ended. Workers of Ray are nobody's children, so they do not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def rates(seconds: Seconds, items: Mapping[str, int], start: Seconds | None = None) -> dict[str, Any]:
    """By how: median seconds, items a second, ratio to one worker; after the start too, where that was measured."""
    first = [clock_s for clock_s, _ in seconds["1 worker"]]
    found: dict[str, Any] = {}
    for how, both in seconds.items():
        clock, cpu = map(list, zip(*both, strict=True))
        entry: dict[str, Any] = {"seconds": clock, "median_s": median(clock)}
        entry |= {f"{name}_per_second": count / median(clock) for name, count in items.items()}
        entry["ratio"] = median(one / each for one, each in zip(first, clock, strict=True))
        started = [(0.0, 0.0)] if start is None else start[how]
        start_s, start_cpu_s = (median(times) for times in zip(*started, strict=True))
        if start is not None:
            entry["start_s"] = start_s
        if "Ray" not in how:
            entry |= {"cpu_s": median(cpu), "start_cpu_s": start_cpu_s}
            left_s = median(cpu) - start_cpu_s
            entry |= {f"{name}_per_cpu_second": count / left_s for name, count in items.items()}
        found[how] = entry
    return found


def measure(data: Path, count: int, films: Path, work: Path, turns: int) -> Iterator[tuple[str, dict[str, Any]]]:
    sets, sample = copies(data, count, work / "sets"), sample_path()
    corpus, codes = work / "corpus", work / "codes.parquet"
    packed = in_turns(["pack", *sets], corpus, turns)
    start = in_turns(["pack", sample], work / "small", turns)
    manifest = Manifest.load(corpus)
    yield (
        "pack",
        rates(packed, {"frames": manifest.frames}, start) | {"bytes_per_frame": manifest.bytes / manifest.frames},
    )
    frames = sum(len(episode) for episode in open_dataset(corpus))
    start = in_turns(["encode", sample], codes, turns)
    encoded = in_turns(["encode", corpus], codes, turns)
    yield "encode", rates(encoded, {"frames": frames}, start) | {"bytes_per_frame": codes.stat().st_size / frames}
    seen = in_turns(["features", films], work / "store", turns)
    about = FeatureStore.open(work / "store").manifest
    counts = {"frames": about["frames"], "pictures": about["pictures"]}
    yield "features", rates(seen, counts) | {"bytes_per_frame": about["bytes"] / about["frames"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of motion")
    parser.add_argument("--copies", type=int, default=4, metavar="N", help="of it (default: 4)")
    parser.add_argument("--films", type=Path, required=True, help="a folder with films, for the embedded teacher")
    parser.add_argument("--turns", type=int, default=3, metavar="N", help="default: 3")
    parser.add_argument(
        "--work", type=Path, default=Path("out/bench-offline"), metavar="DIR", help="removed afterwards"
    )
    parser.add_argument("-o", "--out", type=Path, metavar="F.json")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of one worker too
    shutil.rmtree(args.work, ignore_errors=True)
    load = [os.getloadavg()[0]]
    results = dict(measure(args.data, args.copies, args.films, args.work, args.turns))
    shutil.rmtree(args.work)
    load.append(os.getloadavg()[0])
    result = {
        "results": results,
        "turns": args.turns,
        "load_before_and_after": load,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
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
