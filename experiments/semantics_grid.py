"""The full 2^3 grid of heads, MAM x Align x Pred, three seeds: same start, data, batches and steps.

docs/method.md#published-results.

python experiments/semantics_grid.py --data DATA... --features STORE --start START -o grid.json

START: a folder with a tokenizer to begin at, measured too; made (priors and books, networks at zero) where there is
none. The JSON is written after each of the 24 runs, whole; the same command goes on with those that are missing (a run
that was cut short begins anew). Figures are on held-out episodes (--split validation: every fifth train episode of a
robot) of the data, or of --measure-on alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from semantics_measure import measure, open_trial, summary
from xtok import Tokenizer, provenance
from xtok.actions.layout import get_layout
from xtok.codec.storage import make_codec
from xtok.engine.checkpoint import write_json
from xtok.pretrain.corpus import Corpus
from xtok.pretrain.initialise import initialise, refit_codebooks
from xtok.pretrain.loop import Trainer
from xtok.pretrain.recipe import Recipe
from xtok.recipes import get_recipe
from xtok.semantics.align import load_heads
from xtok.semantics.store import FeatureStore

HEADS = ("mam", "align", "predict")


@dataclass(frozen=True)
class Cell:
    """One run of the grid."""

    mam: bool
    align: bool
    predict: bool
    seed: int

    @property
    def name(self) -> str:
        on = [head for head in HEADS if getattr(self, head)]
        return f"{'+'.join(on) or 'none'} seed {self.seed}"

    def recipe(self, base: Recipe, steps: int) -> Recipe:
        nothing = not (self.mam or self.align or self.predict)
        if nothing and base.trainable == "extra":  # no loss would reach what learns
            steps, base = 0, replace(base, trainable="all", steps=0)
        return base.varied(
            name=self.name,
            masking={"forms": "codes" if self.mam else "none"},
            alignment={"align": self.align, "predict": self.predict},
            seed=self.seed,
            steps=steps,
            validate_every=10**9,
            checkpoint_every=10**9,
        )


def cells(seeds: list[int]) -> Iterator[Cell]:
    """Seed by seed, so that a grid that was stopped has whole ones."""
    for seed, mam, align, predict in product(seeds, (False, True), (False, True), (False, True)):
        yield Cell(mam, align, predict, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--measure-on", type=Path, nargs="+", metavar="DATA", help="those whose sub-tasks are named")
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument("--recipe", default="small_arms26_grid")
    parser.add_argument("--steps", type=int, help="of each run (default: the recipe's)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--split", choices=("validation", "heldout"), default="heldout")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the weights and heads of each run here")
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()

    base, features = get_recipe(args.recipe), FeatureStore.open(args.features)
    steps = base.steps if args.steps is None else args.steps
    corpus = Corpus.open(get_layout(base.codec.layout), args.data, base.data.action_sources)
    if not (args.start / "config.json").exists():
        make_start(base, corpus, args.start)
    trial = open_trial(corpus, args.measure_on or args.data, args.split)
    about = {
        "recipe": json.loads(json.dumps(replace(base, steps=steps).to_dict())),
        "start": Tokenizer.from_pretrained(args.start).digest,
        "data_digest": corpus.digest,
        "features_digest": features.digest,
        "split": args.split,
        "measured_on": [path.name for path in args.measure_on or args.data],
    }
    content = read_or_begin(args.out, about)
    if "start" not in content:
        content["start"] = measure(Tokenizer.from_pretrained(args.start), None, trial, None)
        write_json(args.out, content)
        print(f"start: {summary(content['start'])}", flush=True)
    for cell in cells(args.seeds):
        if cell.name in content["runs"]:
            continue
        started = time.process_time()
        folder = args.keep / cell.name.replace(" ", "-") if args.keep else None
        figures = run(cell.recipe(base, steps), corpus, args.start, features, trial, folder)
        content["runs"][cell.name] = {"cpu_s": round(time.process_time() - started), **figures}
        write_json(args.out, content)
        print(f"{cell.name}: {summary(figures)}", flush=True)


def run(
    recipe: Recipe, corpus: Corpus, start: Path, features: FeatureStore, trial: Any, folder: Path | None = None
) -> dict[str, Any]:
    """Train one cell from the shared start and measure it; of one without heads the books are placed anew, no more."""
    with tempfile.TemporaryDirectory() as scratch:
        out = folder or Path(scratch)
        out.mkdir(parents=True, exist_ok=True)
        codec = Tokenizer.from_pretrained(start).codec
        if not recipe.steps:
            refit_codebooks(codec, corpus, recipe.seed, recipe.codebooks.vectors, recipe.codebooks.iterations)
            figures = measure(Tokenizer(codec), None, trial, None, recipe.seed)
            return {"losses": {}, **figures}
        trainer = Trainer(recipe, corpus, codec, out, features)
        (out / "metrics.jsonl").unlink(missing_ok=True)
        trainer.run()
        trainer.finish()
        heads = load_heads(out) if recipe.alignment.align else None
        losses = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        last: dict[str, Any] = next((line for line in reversed(losses) if "total" in line), {})
        figures = measure(
            Tokenizer.from_pretrained(out), heads, trial, features if recipe.alignment.align else None, recipe.seed
        )
    return {"losses": {k: v for k, v in last.items() if isinstance(v, float)}, **figures}


def make_start(recipe: Recipe, corpus: Corpus, folder: Path) -> None:
    """Priors and books in closed form and by k-means, networks at zero: where every run begins."""
    torch.manual_seed(0)
    codec = make_codec(recipe.codec)
    initialise(codec, corpus, 0, recipe.codebooks.vectors, recipe.codebooks.iterations)
    Tokenizer(codec).save_pretrained(folder)


def read_or_begin(path: Path, about: dict[str, Any]) -> dict[str, Any]:
    """The JSON of a grid that was stopped, or a new one.

    Raises:
        ValueError: it is of another recipe, start, data, features or split.
    """
    if not path.exists():
        return {"about": {**about, "versions": provenance.versions(), "command": provenance.command()}, "runs": {}}
    content = json.loads(path.read_text(encoding="utf-8"))
    if different := [key for key, value in about.items() if content["about"].get(key) != value]:
        raise ValueError(f"{path} is a grid of another {' and '.join(different)}; give -o another file")
    return content


if __name__ == "__main__":
    main()
