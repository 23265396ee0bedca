"""Which codebook size? The codec placed by closed forms and k-means at several V; l1 on validation episodes, JSON out.

python experiments/codebook_size.py --layout arms26 --data DATA... -o docs/results/codebook-size.json

Validation episodes are every fifth train episode of a robot: no held-out episode is looked at. Bits are given
beside, since a larger book costs more of them.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path

import torch

from xtok.actions.layout import LAYOUTS, get_layout
from xtok.actions.types import slots
from xtok.codec import Tokenizer, small
from xtok.codec.gaussian import GaussianCodec
from xtok.pretrain.corpus import Corpus
from xtok.pretrain.initialise import initialise
from xtok.pretrain.losses import motion_l1

HORIZONS, CHUNKS = (8, 16, 32, 64), 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layout", choices=sorted(LAYOUTS), default="arms26")
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--sizes", default="1024,2048,4096")
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--iterations", type=int, default=8)
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    corpus = Corpus.open(get_layout(args.layout), args.data)
    results: dict[str, dict[str, dict[str, float]]] = {}
    for size in map(int, args.sizes.split(",")):
        codec = GaussianCodec(replace(small(args.layout), codebook_size=size))
        initialise(codec, corpus, 0, args.vectors, args.iterations)
        results[str(size)] = {str(T): measure(codec, corpus, T) for T in HORIZONS}
        print(size, results[str(size)], flush=True)
        about = {"layout": args.layout, "vectors": args.vectors, "iterations": args.iterations, "split": "validation"}
        content = {**about, "data_digest": corpus.digest, "results": results}
        args.out.write_text(json.dumps(content, indent=1) + "\n")


@torch.no_grad()
def measure(codec: GaussianCodec, corpus: Corpus, horizon: int) -> dict[str, float]:
    """l1 in half ranges over all robots' validation chunks, and bits a chunk."""
    tokenizer = Tokenizer(codec)
    chunks = corpus.validate(horizon, CHUNKS)
    batch_context = codec.batch_context(chunks.context)
    motion = codec.motion(chunks, batch_context)
    decoded = codec.decode(codec.encode(motion, batch_context), batch_context)
    bits = slots(horizon) * tokenizer.levels * math.log2(tokenizer.codebook_size)
    return {"bits": bits, "l1": float(motion_l1(decoded, motion, batch_context.conditions.mask_BK))}


if __name__ == "__main__":
    main()
