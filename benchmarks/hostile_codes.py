"""What any codes at all decode to: random ones, and real ones that were corrupted; and FAST under one wrong token.

    python benchmarks/hostile_codes.py -o out/hostile_codes.json
    python benchmarks/hostile_codes.py --tokenizer arms26-words --random 20000 --corrupted 5000 -o out/words.json

Random sequences hold ids of the book in any order (of motion words: in any order that their grammar allows), at lengths
8 to 64: each must be finite motion with true rotations. Corrupted ones are codes of the packaged sample that were cut,
lengthened, or given ids outside the book: each must be finite motion under on_invalid="repair", with a warning, or the
typed error. Everything else is counted as `other`. One million random and 100,000 corrupted sequences of slots take
some ten minutes on two cores; motion words are drawn one by one, which takes longer.

# B sequences, M slots, Q levels
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from xtok import Tokenizer, WordTokenizer, load_tokenizer
from xtok.actions.rotation import matrix_from_rotation6d
from xtok.actions.types import Actions, ChunkBatch, Codes, Context, concatenate, slots
from xtok.baselines.fast import FastTokenizer
from xtok.codec.load import AnyTokenizer
from xtok.codec.words import Grammar
from xtok.data import iter_chunks, open_dataset, sample_path, select
from xtok.data.splits import Split
from xtok.evaluate.coded import Coded
from xtok.evaluate.swap import SwapFigures
from xtok.evaluate.swap import run as swap
from xtok.evaluate.word_faults import parses

HORIZONS = (8, 13, 18, 32, 47, 64)
BATCH = 512
FAST_SCALE, FAST_HORIZON = 14.0, 32


def sample_chunks(horizon: int, split: Split) -> ChunkBatch:
    return concatenate(list(iter_chunks(select(open_dataset(sample_path()), split), horizon, stride=4)))


def contexts(horizon: int, count: int) -> Context:
    """`count` contexts of the held-out sample, over and over."""
    chunks = sample_chunks(horizon, "heldout")
    return concatenate([chunks] * -(-count // len(chunks)))[:count].context


def judge(actions: Actions, context: Context) -> Counter[str]:
    """Finite motion whose rotations are rotations, or not."""
    motion_BTD = actions.absolute_BTD
    assert motion_BTD is not None
    good_B = torch.isfinite(motion_BTD).all(dim=(1, 2)) & torch.isfinite(actions.delta_BTD).all(dim=(1, 2))
    for _, channels in context.layout.of_kind("rotation6d"):
        columns = motion_BTD[..., channels].unflatten(-1, (2, 3))
        off = (columns @ columns.mT - torch.eye(2)).abs().amax(dim=(1, 2, 3))
        turn = torch.linalg.det(matrix_from_rotation6d(motion_BTD[..., channels]).double())
        real_B = (off < 1e-3) & ((turn - 1).abs() < 1e-3).all(dim=1)
        good_B &= real_B | ~context.mask_BD[:, channels].all(dim=1)
    return Counter(finite=int(good_B.sum()), other=int((~good_B).sum()))


def drawn(tokenizer: AnyTokenizer, horizon: int, count: int, generator: np.random.Generator) -> Codes:
    """`count` sequences that may be, of even draws."""
    if isinstance(tokenizer, Tokenizer):
        shape = (count, slots(horizon), tokenizer.levels)
        return Codes.from_grid(
            torch.from_numpy(generator.integers(tokenizer.codebook_size, size=shape)), tokenizer.vocab_size
        )
    return Codes(tuple(walk(tokenizer.grammar, horizon, generator) for _ in range(count)), tokenizer.vocab_size)


def walk(grammar: Grammar, horizon: int, generator: np.random.Generator) -> np.ndarray:
    """Any sequence that the grammar allows: each next book, then each next id, drawn evenly; an end in ten."""
    state, ids = grammar.start(horizon), list[int]()
    while True:
        allowed = grammar.allowed(state)
        if not allowed.ranges or (allowed.end and generator.random() < 0.1):
            return np.array(ids, dtype=np.int64)
        low, high = allowed.ranges[int(generator.random() * len(allowed.ranges))]
        ids.append(low + int(generator.random() * (high - low)))
        state = grammar.step(state, ids[-1], len(ids) - 1)


def random_codes(tokenizer: AnyTokenizer, count: int, seed: int) -> Counter[str]:
    """`count` sequences, one length a batch."""
    generator, found = np.random.default_rng(seed), Counter[str]()
    context = {horizon: contexts(horizon, BATCH) for horizon in HORIZONS}
    for batch in progress(range(0, count, BATCH), "random"):
        size = min(BATCH, count - batch)
        horizon = HORIZONS[batch // BATCH % len(HORIZONS)]
        codes, here = drawn(tokenizer, horizon, size, generator), context[horizon][:size]
        try:
            found += judge(tokenizer.decode(codes, here), here)
        except Exception as error:
            found["other"] += size
            print(f"random, seed {seed}, batch {batch}: {error!r}", file=sys.stderr)
    return found


def corrupted_codes(tokenizer: AnyTokenizer, count: int, seed: int) -> Counter[str]:
    """`count` corrupted sequences, one by one: each has its own error. Half are to be refused, half repaired."""
    torch.set_num_threads(1)  # one sequence at a time: nothing to share out
    rng, found = np.random.default_rng(seed), Counter[str]()
    clean = {}
    for horizon in HORIZONS:
        chunks = sample_chunks(horizon, "heldout")
        clean[horizon] = tokenizer.encode(chunks).tokens, chunks.context
    for i in progress(range(count), "corrupted"):
        tokens, context = clean[HORIZONS[i % len(HORIZONS)]]
        row = int(rng.integers(len(tokens)))
        sequence = corrupt(tokens[row], tokenizer.vocab_size, rng)
        found += try_one(tokenizer, sequence, context[row : row + 1], repair=i % 2 == 1)
    return found


def corrupt(sequence: np.ndarray, vocab_size: int, rng: np.random.Generator) -> np.ndarray:
    """One fault, or several: an id outside the book, a lost, doubled or moved part, or ids that are no integers."""
    out = sequence.copy()
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(max(1, len(out))))
        kind = rng.integers(6)
        if kind == 0 and len(out):
            out[place] = rng.choice([-1, vocab_size, vocab_size + 7, -(2**63), 2**63 - 1])
        elif kind == 1:
            out = out[:place]
        elif kind == 2:
            out = np.concatenate([out, rng.integers(vocab_size, size=rng.integers(1, 9))])
        elif kind == 3:
            out = np.delete(out, slice(place, place + int(rng.integers(1, 5))))
        elif kind == 4:
            out = np.insert(out, place, rng.integers(vocab_size, size=rng.integers(1, 5)))
        elif len(out):
            out = np.roll(out, int(rng.integers(1, len(out) + 1)))
            out[place] = rng.integers(vocab_size)
    return out.astype(np.float64) if rng.random() < 0.02 else out


def may_be(tokenizer: AnyTokenizer, sequence: np.ndarray, horizon: int) -> bool:
    """Whether it is a chunk."""
    if sequence.dtype.kind != "i":
        return False
    if isinstance(tokenizer, WordTokenizer):
        return parses(tokenizer.grammar, sequence, horizon)
    whole = slots(horizon) * tokenizer.levels
    return len(sequence) == whole and bool(((0 <= sequence) & (sequence < tokenizer.vocab_size)).all())


def try_one(tokenizer: AnyTokenizer, sequence: np.ndarray, context: Context, repair: bool) -> Counter[str]:
    valid = may_be(tokenizer, sequence, context.horizon)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            codes = Codes((sequence,), tokenizer.vocab_size)
            actions = tokenizer.decode(codes, context, on_invalid="repair" if repair else "raise")
    except ValueError:
        return Counter(other=1) if valid else Counter(typed_error=1)
    except Exception as error:
        print(f"{sequence.tolist()}, T {context.horizon}, repair {repair}: {error!r}", file=sys.stderr)
        return Counter(other=1)
    if not valid and not (repair and caught):
        print(f"{sequence.tolist()}, T {context.horizon}, repair {repair}: decoded in silence", file=sys.stderr)
        return Counter(other=1)
    judged = judge(actions, context)
    return judged if valid or not judged["finite"] else Counter(repaired=1)


def one_wrong_token(tokenizer: AnyTokenizer, seed: int) -> dict[str, SwapFigures]:
    """One random token of each held-out sample chunk becomes another: ours beside FAST, fitted on train episodes with
    0 at rest, at a scale of about as many bits."""
    train = list(iter_chunks(select(open_dataset(sample_path()), "train"), FAST_HORIZON))
    fast = FastTokenizer(tokenizer.statistics, FAST_SCALE, form="tangent-rest").fit(train)
    chunks = sample_chunks(FAST_HORIZON, "heldout")
    return {
        name: swap(Coded(t, chunks), tokenizer.statistics, seed) for name, t in (("xtok", tokenizer), ("fast", fast))
    }


def progress(steps: range, name: str) -> Iterator[int]:
    start, marks = time.monotonic(), {int(len(steps) * part / 10) for part in range(1, 10)}
    for done, step in enumerate(steps):
        if done in marks:
            print(f"{name}: {done} of {len(steps)}, {time.monotonic() - start:.0f} s", file=sys.stderr)
        yield step


def counted(found: Counter[str]) -> dict[str, int]:
    return {
        "sequences": found.total(),
        **{name: found[name] for name in ("finite", "repaired", "typed_error", "other")},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tokenizer", metavar="PATH", help="a folder or hub id; the shipped arms26 weights if left out"
    )
    parser.add_argument("--random", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--corrupted", type=int, default=100_000, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path, metavar="F.json")
    args = parser.parse_args()
    tokenizer = load_tokenizer(args.tokenizer)
    result = {
        "tokenizer": tokenizer.digest,
        "seed": args.seed,
        "random": counted(random_codes(tokenizer, args.random, args.seed)),
        "corrupted": counted(corrupted_codes(tokenizer, args.corrupted, args.seed)),
        "one_wrong_token": one_wrong_token(tokenizer, args.seed),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text + "\n")
    return 1 if result["random"]["other"] or result["corrupted"]["other"] else 0


if __name__ == "__main__":
    sys.exit(main())
