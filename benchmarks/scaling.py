"""What more processes or threads give one training: steps of the small perceiver, in turns, medians of ratios.

    python benchmarks/scaling.py                     # 1 process of 1 thread, 1 of 2, 2 of 1, on the packaged sample
    python benchmarks/scaling.py 1x1 4x1 --rounds 5  # PROCESSESxTHREADS; the first is what the others are compared with

The global batch is the same in all, so this is what a given run gains. Each turn is a run of its own, begun anew; the
first steps warm up. Beside steps a second (of the wall clock, which other programs of the machine slow) stand the CPU
seconds that a step takes in all processes together, which they slow less: the work that is done twice shows there.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

WARM, STEPS = 3, 12
Figures = dict[str, float]


def measure(data: Sequence[Path], steps: int) -> Figures | None:
    """One process's part of a run; what the first one found, None in the others."""
    import torch

    from xtok.actions.layout import get_layout
    from xtok.codec.storage import make_codec
    from xtok.pretrain.corpus import Corpus
    from xtok.pretrain.initialise import initialise
    from xtok.pretrain.loop import Trainer
    from xtok.recipes import small_perceiver_arms26

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    recipe = small_perceiver_arms26().varied(masking={"start": 0.0}, log_every=10_000, validate_every=0)
    corpus = Corpus.open(get_layout(recipe.codec.layout), data)
    codec = make_codec(recipe.codec)
    torch.manual_seed(recipe.seed)
    initialise(codec, corpus, vectors=4096, iterations=1, progress=False)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(recipe, corpus, codec, Path(folder))
        trainer.save = lambda: None  # type: ignore[method-assign]  # steps alone
        trainer.run(until=WARM)
        wall_s, cpu_s = time.perf_counter(), _cpu_s()
        trainer.run(until=WARM + steps)
        wall_s, cpu_s = time.perf_counter() - wall_s, _cpu_s() - cpu_s
        total = torch.tensor(cpu_s)
        if trainer.accelerator.num_processes > 1:
            torch.distributed.all_reduce(total)
    if not trainer.accelerator.is_main_process:
        return None
    return {"steps_per_second": steps / wall_s, "cpu_s_per_step": float(total) / steps}


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def launched(shape: str, data: Sequence[Path], steps: int) -> Figures:
    """`measure` in processes of its own."""
    processes, threads = map(int, shape.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "figures.json"
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, *(launcher if processes > 1 else []), __file__, "--measure", str(told)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        arguments = ["--steps", str(steps), "--data", *map(str, data)]
        done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{shape}: {done.stderr[-2000:]}")
        found: Figures = json.loads(told.read_text())
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", default=["1x1", "1x2", "2x1"], metavar="PROCESSESxTHREADS")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=STEPS, help=f"measured in each turn (default: {STEPS})")
    parser.add_argument("--data", type=Path, nargs="+", help="(default: the packaged sample)")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.data is None:
        from xtok.data import sample_path

        args.data = [sample_path()]
    if args.measure is not None:
        if (figures := measure(args.data, args.steps)) is not None:
            args.measure.write_text(json.dumps(figures))
        return
    found: dict[str, list[Figures]] = {shape: [] for shape in args.shapes}
    for number in range(args.rounds):
        for shape in args.shapes:
            found[shape].append(launched(shape, args.data, args.steps))
            print(f"round {number + 1}, {shape}: {found[shape][-1]}", file=sys.stderr, flush=True)
    first = found[args.shapes[0]]
    print(f"  {'processes x threads':<20} {'steps/s':>8} {'to ' + args.shapes[0]:>8} {'CPU s/step':>11} {'ratio':>6}")
    for shape, turns in found.items():
        columns = []
        for name in ("steps_per_second", "cpu_s_per_step"):
            ratios = [turn[name] / base[name] for turn, base in zip(turns, first, strict=True)]
            columns += [median(turn[name] for turn in turns), median(ratios)]
        print("  {:<20} {:>8.2f} {:>8.2f} {:>11.3f} {:>6.2f}".format(shape, *columns))


if __name__ == "__main__":
    main()
