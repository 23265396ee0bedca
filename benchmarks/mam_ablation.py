"""Masked action modelling: none, codes, actions, both. Same start, data, steps and seed; JSON out.

python benchmarks/mam_ablation.py --start RUN/start --data DATA... --steps 80 -o mam.json

RUN/start is the folder that `xtok train` writes before its first step. Figures are on the corpus's validation episodes
(every fifth train episode of a robot), after the books were refitted under the averaged networks.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

from xtok import Tokenizer
from xtok.actions.types import ChunkBatch
from xtok.evaluate import codebook
from xtok.evaluate.robustness import add_noise, flip_per_level
from xtok.pretrain.corpus import Corpus
from xtok.pretrain.loop import Trainer
from xtok.pretrain.losses import masked_mean
from xtok.recipes import small_arms26_mam

HORIZON, CHUNKS, SIGMA = 32, 512, 0.004


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    corpus = Corpus.open(Tokenizer.from_pretrained(args.start).layout, args.data)
    chunks = corpus.validate(HORIZON, CHUNKS)
    results = {"start": measure(Tokenizer.from_pretrained(args.start), chunks)}
    for form in ("none", "codes", "actions", "both"):
        recipe = replace(small_arms26_mam(form), steps=args.steps, batch_size=64, warmup_steps=20, book_vectors=60_000)
        recipe = replace(recipe, validate_every=10**9, checkpoint_every=10**9, average_decay=0.95, book_iterations=6)
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(recipe, corpus, Tokenizer.from_pretrained(args.start).codec, Path(folder))
            trainer.run()
            trainer.finish()
            results[form] = measure(Tokenizer.from_pretrained(folder), chunks)
        args.out.write_text(json.dumps({"steps": args.steps, "horizon": HORIZON, "results": results}, indent=1) + "\n")


def measure(tokenizer: Tokenizer, chunks: ChunkBatch) -> dict[str, object]:
    """l1 in half ranges, use and perplexity of each level, flips of each level under noise."""
    codec = tokenizer.codec
    setting = codec.setting(chunks.context)
    motion = codec.motion(chunks, setting)
    codes, shaken = tokenizer.encode(chunks), tokenizer.encode(add_noise(chunks, SIGMA, seed=0))
    assert codes.grid_BMQ is not None
    error = codec.decode(codes.grid_BMQ, setting) - motion
    return {
        "l1": float(masked_mean(error.abs(), setting.given.mask_BK[:, None].expand_as(error))),
        **dict(codebook.run(tokenizer, chunks)),
        "flips": flip_per_level(codes, shaken),
    }


if __name__ == "__main__":
    main()
