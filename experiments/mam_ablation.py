"""Masked action modelling: none, codes, actions, both. Same start, data, steps and seed; JSON out.

python experiments/mam_ablation.py --start START --data DATA... --steps 80 -o mam.json

START: a folder with a tokenizer to begin at (`xtok train` writes RUN/start); made, priors and books placed and
networks at zero, where there is none. The JSON is written after each form; the same command goes on with those that
are missing. Figures are on the corpus's validation episodes (every fifth train episode of a robot), after the books
were refitted under the averaged networks.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from semantics_grid import make_start, read_or_begin
from xtok import Tokenizer
from xtok.actions.layout import get_layout
from xtok.actions.types import ChunkBatch
from xtok.engine.checkpoint import write_json
from xtok.evaluate import codebook
from xtok.evaluate.coded import Coded
from xtok.evaluate.robustness import add_noise, flip_per_level
from xtok.pretrain.corpus import Corpus
from xtok.pretrain.loop import Trainer
from xtok.pretrain.losses import masked_mean
from xtok.pretrain.recipe import Codebooks, MaskedForms
from xtok.recipes import small_perceiver_arms26

HORIZON, CHUNKS, SIGMA = 32, 512, 0.004
FORMS: tuple[MaskedForms, ...] = ("none", "codes", "actions", "both")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    base = small_perceiver_arms26().varied(
        steps=args.steps,
        data={"batch_size": 64},
        optimiser={"warmup_steps": 20, "average_decay": 0.95},
        codebooks=Codebooks(vectors=60_000, iterations=6),
        validate_every=10**9,
        checkpoint_every=10**9,
    )
    corpus = Corpus.open(get_layout(base.codec.layout), args.data, base.data.action_sources)
    if not (args.start / "config.json").exists():
        make_start(base, corpus, args.start)
    start = Tokenizer.from_pretrained(args.start)
    chunks = corpus.validate(HORIZON, CHUNKS)
    about = {"steps": args.steps, "horizon": HORIZON, "start": start.digest, "data_digest": corpus.digest}
    content = read_or_begin(args.out, about)
    results = content["runs"]
    results["start"] = measure(start, chunks)
    for form in FORMS:
        if form in results:
            continue
        recipe = base.varied(name=f"mam {form}", masking={"forms": form})
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(recipe, corpus, Tokenizer.from_pretrained(args.start).codec, Path(folder))
            trainer.run()
            trainer.finish()
            results[form] = measure(Tokenizer.from_pretrained(folder), chunks)
        write_json(args.out, content)


def measure(tokenizer: Tokenizer, chunks: ChunkBatch) -> dict[str, object]:
    """l1 in half ranges, use and perplexity of each level, flips of each level under noise."""
    codec = tokenizer.codec
    batch_context = codec.batch_context(chunks.context)
    motion = codec.motion(chunks, batch_context)
    codes, shaken = tokenizer.encode(chunks), tokenizer.encode(add_noise(chunks, SIGMA, seed=0))
    assert codes.grid_BMQ is not None
    error = codec.decode(codes.grid_BMQ, batch_context) - motion
    return {
        "l1": float(masked_mean(error.abs(), batch_context.conditions.mask_BK[:, None].expand_as(error))),
        **codebook.run(Coded(tokenizer, chunks)),
        "flips": flip_per_level(codes, shaken),
    }


if __name__ == "__main__":
    main()
