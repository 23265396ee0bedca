"""How does the error grow when more and more of a code stream is wrong? Flips, drops, swaps, cut ends; level by level.

# B chunks, M slots, Q levels
A rate is the share of a chunk's tokens that are touched, whatever a tokenizer's sequences are made of; `one_token` asks
for a single one instead. The paper names a corruption curve among what nobody has published.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from xtok.actions.statistics import Statistics
from xtok.actions.types import Actions, ActionTokenizer, ChunkBatch, Codes, Context
from xtok.evaluate.coded import Coded
from xtok.evaluate.errors import measure
from xtok.evaluate.faults import KINDS, ONE_TOKEN, Corrupt, flip_level
from xtok.evaluate.result import CorruptedJson, CorruptionJson
from xtok.evaluate.word_faults import HasGrammar, parses, word_kinds

RATES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
CHUNKS_MAX = 128  # of the set, evenly: sequences that do not decode are tried one by one


@dataclass(frozen=True)
class Corrupted:
    """At one rate. decoded, repaired, failed: chunks that decode as they are, that decode under on_invalid="repair"
    alone, and that do not (the typed error, or a row that is marked as failed). The errors are over all chunks; one
    that failed counts as standing still. joint and position_mm: None where the robot has no such channel."""

    rate: float
    decoded: int
    repaired: int
    failed: int
    l1: float
    position_mm: float | None
    joint: float | None

    def to_dict(self) -> CorruptedJson:
        return {
            "rate": self.rate,
            "decoded": self.decoded,
            "repaired": self.repaired,
            "failed": self.failed,
            "l1": self.l1,
            "position_mm": self.position_mm,
            "joint": self.joint,
        }


def run(
    coded: Coded,
    statistics: Mapping[str, Statistics],
    seed: int,
    rates: Sequence[float] = RATES,
) -> Iterator[tuple[str, dict[str, list[Corrupted]]]]:
    """`corruption`: kind -> a point for every rate, of the kinds of `kinds_of`."""
    tokenizer, chunks, clean = _some_of(coded)
    yield (
        "corruption",
        {
            kind: [_point(tokenizer, chunks, statistics, clean, corrupt, rate, seed) for rate in rates]
            for kind, corrupt in kinds_of(tokenizer, clean, chunks.context.horizon).items()
        },
    )


def one_token(coded: Coded, statistics: Mapping[str, Statistics], seed: int) -> dict[str, Corrupted]:
    """Kind -> what it costs when exactly one token of each chunk is wrong, missing, or has changed places with its
    neighbour; "none" is the cost of no fault. A chunk without a token of the kind's level stays as it is.

    rate: mean share of a chunk's tokens that one is.
    """
    tokenizer, chunks, clean = _some_of(coded)
    share = float(np.mean([1 / max(1, len(sequence)) for sequence in clean.tokens]))
    kinds = kinds_of(tokenizer, clean, chunks.context.horizon)
    found = {
        kind: replace(_point(tokenizer, chunks, statistics, clean, corrupt, ONE_TOKEN, seed), rate=share)
        for kind, corrupt in kinds.items()
    }
    return {"none": _point(tokenizer, chunks, statistics, clean, KINDS["flip"], 0.0, seed), **found}


def kinds_of(tokenizer: ActionTokenizer, clean: Codes, horizon: int) -> dict[str, Corrupt]:
    """Those of KINDS; "flip q0" .. where there are levels; those of `word_faults` where there is a grammar."""
    kinds = dict(KINDS)
    if clean.grid_BMQ is not None:
        Q = clean.grid_BMQ.shape[-1]
        kinds |= {f"flip q{q}": flip_level(q, Q) for q in range(Q)}
    if isinstance(tokenizer, HasGrammar):
        kinds |= word_kinds(tokenizer.grammar, horizon)
    return kinds


def _some_of(coded: Coded) -> tuple[ActionTokenizer, ChunkBatch, Codes]:
    rows = some(coded.chunks)
    return coded.tokenizer, coded.chunks.take(rows), coded.codes.take(rows)


def curves(contestants: Mapping[str, Coded], statistics: Mapping[str, Statistics], seed: int) -> CorruptionJson:
    """Of several tokenizers on the same chunks, as JSON: name -> kind -> points, and what one token of each kind costs;
    with T and the number of chunks."""
    found = {name: dict(run(coded, statistics, seed)) for name, coded in contestants.items()}
    chunks = next(iter(contestants.values())).chunks
    return {
        "horizon": chunks.context.horizon,
        "chunks": len(some(chunks)),
        "tokenizers": {
            name: {kind: [point.to_dict() for point in points] for kind, points in each["corruption"].items()}
            for name, each in found.items()
        },
        "one_token": {
            name: {kind: point.to_dict() for kind, point in one_token(each, statistics, seed).items()}
            for name, each in contestants.items()
        },
    }


def some(chunks: ChunkBatch) -> Int[Tensor, " n"]:
    """Rows of at most CHUNKS_MAX of them, evenly over the set."""
    return torch.linspace(0, len(chunks) - 1, min(CHUNKS_MAX, len(chunks))).round().long()


# -- what comes of it -------------------------------------------------------------------------------------------------


def _point(
    tokenizer: ActionTokenizer,
    chunks: ChunkBatch,
    statistics: Mapping[str, Statistics],
    clean: Codes,
    corrupt: Corrupt,
    rate: float,
    seed: int,
) -> Corrupted:
    rng = np.random.default_rng(seed)
    tokens = tuple(corrupt(sequence, rate, clean.vocab_size, rng) for sequence in clean.tokens)
    actions, repaired = decode_or_not(tokenizer, tokens, clean, chunks.context)
    errors, failed = measure(chunks, actions, statistics), int(actions.failed_B.sum())
    return Corrupted(
        rate,
        len(tokens) - repaired - failed,
        repaired,
        failed,
        errors.l1,
        errors.position_mm,
        errors.joint,
    )


def decode_or_not(
    tokenizer: ActionTokenizer, tokens: Sequence[np.ndarray], clean: Codes, context: Context
) -> tuple[Actions, int]:
    """Motion of each sequence, rows without one marked as failed, and how many rows needed a repair."""
    try:
        return tokenizer.decode(_codes(tokens, clean), context), 0
    except ValueError:  # one that cannot be spoils the batch
        pass
    if not isinstance(tokenizer, HasGrammar):
        return _one_by_one(tokenizer, tokens, clean, context)
    parses_B = torch.tensor([parses(tokenizer.grammar, sequence, context.horizon) for sequence in tokens])
    good, bad = parses_B.nonzero()[:, 0], (~parses_B).nonzero()[:, 0]
    broken, here = [tokens[row] for row in bad.tolist()], context.take(bad)
    all_bad = _repaired(tokenizer, _codes(broken, clean), here)
    found, repaired = (all_bad, len(bad)) if all_bad else _one_by_one(tokenizer, broken, clean, here)
    if not len(good):
        return found, repaired
    whole = tokenizer.decode(_codes([tokens[row] for row in good.tolist()], clean), context.take(good))
    joined, order = _joined([whole, found]), torch.cat([good, bad]).argsort()
    return Actions(joined.delta_BTD[order], None, joined.failed_B[order]), repaired


def _one_by_one(
    tokenizer: ActionTokenizer, tokens: Sequence[np.ndarray], clean: Codes, context: Context
) -> tuple[Actions, int]:
    rows, repaired = [], 0
    for b, sequence in enumerate(tokens):
        one, here = _codes([sequence], clean), context[b : b + 1]
        try:
            rows.append(tokenizer.decode(one, here))
            continue
        except ValueError:
            row = _repaired(tokenizer, one, here)
        if row is None:
            still_BTD = torch.zeros(1, context.horizon, context.layout.width)
            row = Actions(still_BTD, None, torch.ones(1, dtype=torch.bool))
        else:
            repaired += 1
        rows.append(row)
    return _joined(rows), repaired


def _joined(parts: Sequence[Actions]) -> Actions:
    return Actions(torch.cat([part.delta_BTD for part in parts]), None, torch.cat([part.failed_B for part in parts]))


def _repaired(tokenizer: ActionTokenizer, codes: Codes, context: Context) -> Actions | None:
    """None for a tokenizer that repairs nothing, and for codes of which nothing can be kept."""
    if "on_invalid" not in inspect.signature(tokenizer.decode).parameters:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it dropped something is what is counted here
        try:
            return tokenizer.decode(codes, context, on_invalid="repair")  # type: ignore[call-arg]
        except ValueError:
            return None


def _codes(tokens: Sequence[np.ndarray], clean: Codes) -> Codes:
    """Sequences of equal, whole length keep their grid: some tokenizers decode nothing else."""
    if clean.grid_BMQ is not None and {len(sequence) for sequence in tokens} == {clean.grid_BMQ[0].numel()}:
        grid = torch.from_numpy(np.stack(tokens)).view(-1, *clean.grid_BMQ.shape[1:])
        return Codes.from_grid(grid, clean.vocab_size)
    return Codes(tuple(tokens), clean.vocab_size)
