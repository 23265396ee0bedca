"""How fast, on this machine: codec beside FAST, our quantizer beside vector-quantize-pytorch, training, import.

    make bench        # or: python benchmarks/bench.py -o out/bench.json

What is compared runs in one process, in turns, so that a busy machine slows both. Figures are medians over the turns;
"to xtok" is the median of the turns' ratios to ours, above 1 where ours is faster.

# N latents, C their width
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import torch
from vector_quantize_pytorch import ResidualVQ

import xtok
from xtok.actions.layout import get_layout
from xtok.actions.types import concatenate
from xtok.baselines.fast import FastTokenizer
from xtok.codec.quantizer import ResidualQuantizer
from xtok.data import iter_chunks, open_dataset, sample_path, select
from xtok.pretrain.corpus import Corpus
from xtok.pretrain.loop import begin_run
from xtok.recipes import small_perceiver_arms26

HORIZON = 32
FAST_SCALE = 14.0
LATENTS, WIDTH, CODES, LEVELS, DECAY = 4096, 32, 2048, 4, 0.8
TURNS = 15

Timing = dict[str, dict[str, float]]


def in_turns(contestants: Mapping[str, Callable[[], object]], items: int = 1, turns: int = TURNS) -> Timing:
    """Milliseconds an item of each contestant, items a second, and the ratio to the first; one more turn warms up."""
    took: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(turns + 1):
        for name, call in contestants.items():
            start = time.perf_counter()
            call()
            if turn > 0:
                took[name].append(1000 * (time.perf_counter() - start) / items)
    first = next(iter(took.values()))
    return {
        name: {
            "ms": median(mine),
            "per_second": 1000 / median(mine),
            "ratio": median(m / f for m, f in zip(mine, first, strict=True)),
        }
        for name, mine in took.items()
    }


def bench_codec() -> dict[str, Timing]:
    """Encode and decode a chunk at T 32, shipped weights and FAST, one chunk at a time and 256 at once."""
    dataset = open_dataset(sample_path())
    tokenizer = xtok.Tokenizer.from_pretrained(dataset.layout.name)
    train = list(iter_chunks(select(dataset, "train"), HORIZON, stride=8))
    fast = FastTokenizer(tokenizer.statistics, FAST_SCALE).fit(train)
    chunks = concatenate(train)
    out: dict[str, Timing] = {}
    for size in (1, 256):
        batch = chunks[slice(0, size)]
        ours, theirs = tokenizer.encode(batch), fast.encode(batch)
        encoders = {"xtok": lambda b=batch: tokenizer.encode(b), "fast": lambda b=batch: fast.encode(b)}
        decoders = {
            "xtok": lambda b=batch, c=ours: tokenizer.decode(c, b.context),
            "fast": lambda b=batch, c=theirs: fast.decode(c, b.context),
        }
        out[f"encode, a chunk, batch {size}"] = in_turns(encoders, size)
        out[f"decode, a chunk, batch {size}"] = in_turns(decoders, size)
    return out


def bench_quantizer() -> dict[str, Timing]:
    """One pass of 4,096 latents through 4 books of 2,048 codes: training (with the EMA update) and evaluation."""
    torch.manual_seed(0)
    x_NC = torch.randn(LATENTS, WIDTH)
    ours = ResidualQuantizer(WIDTH, CODES, LEVELS, decay=DECAY)
    ours.initialise(x_NC, iterations=1)
    theirs = ResidualVQ(dim=WIDTH, num_quantizers=LEVELS, codebook_size=CODES, decay=DECAY)
    out: dict[str, Timing] = {}
    for mode in ("train", "eval"):
        for module in (ours, theirs):
            module.train(mode == "train")
        with torch.no_grad():
            calls = {"xtok": lambda: ours(x_NC), "vector-quantize-pytorch": lambda: theirs(x_NC[None])}
            out[f"quantize {LATENTS} latents, {mode}"] = in_turns(calls)
    return out


def bench_import() -> dict[str, Timing]:
    """A fresh interpreter that imports xtok, xtok with the codec, and torch alone."""
    statements = {
        "import xtok": "import xtok",
        "from xtok import Tokenizer": "from xtok import Tokenizer",
        "import torch": "import torch",
        "nothing": "pass",
    }
    calls = {
        name: lambda s=statement: subprocess.run([sys.executable, "-c", s], check=True)
        for name, statement in statements.items()
    }
    return {"interpreter with": in_turns(calls, turns=5)}


def bench_training() -> dict[str, Timing]:
    """Steps of the small perceiver, on the sample's train episodes; masked modelling is on from the first."""
    recipe = small_perceiver_arms26().varied(masking={"start": 0.0}, codebooks={"vectors": 5_000, "iterations": 1})
    corpus = Corpus.open(get_layout(recipe.codec.layout), [sample_path()])
    with tempfile.TemporaryDirectory() as folder:
        trainer = begin_run(recipe, corpus, Path(folder) / "run")
        trainer.codec.train()
        return {f"training step, batch {recipe.data.batch_size}": in_turns({"xtok": trainer.train_step})}


def table(results: Mapping[str, Timing]) -> list[str]:
    lines = [f"  {'':<34} {'':<26} {'ms':>10} {'a second':>10} {'to xtok':>8}"]
    for question, timing in results.items():
        for name, figures in timing.items():
            ms, per_second, ratio = figures["ms"], figures["per_second"], figures["ratio"]
            lines.append(f"  {question:<34} {name:<26} {ms:>10.3f} {per_second:>10.1f} {ratio:>8.2f}")
            question = ""
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=Path("out/bench.json"), metavar="F.json")
    args = parser.parse_args()
    results: dict[str, Timing] = {}
    for bench in (bench_quantizer, bench_codec, bench_training, bench_import):
        results |= bench()
    print("\n".join(table(results)))
    machine = {
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "xtok": xtok.__version__,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"machine": machine, "turns": TURNS, "results": results}, indent=2) + "\n")
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
