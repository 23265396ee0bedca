"""How does the error grow when more and more of a code stream is wrong? Flips, drops, swaps, cut ends; level by level.

# B chunks, M slots, Q levels
A rate is the share of a chunk's tokens that are touched, whatever a tokenizer's sequences are made of. The paper names
a corruption curve among what nobody has published.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from xtok.actions.statistics import Statistics
from xtok.actions.types import Actions, ActionTokenizer, ChunkBatch, Codes, Context
from xtok.evaluate.coded import Coded
from xtok.evaluate.errors import measure
from xtok.evaluate.result import CorruptedJson, CorruptionJson

RATES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
CHUNKS_MAX = 128  # of the set, evenly: sequences that do not decode are tried one by one

Corrupt = Callable[[np.ndarray, float, int, np.random.Generator], np.ndarray]


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
    """`corruption`: kind -> a point for every rate. Kinds: those of KINDS, and "flip q0" .. where there are levels."""
    rows = some(coded.chunks)
    tokenizer, chunks, clean = coded.tokenizer, coded.chunks.take(rows), coded.codes.take(rows)
    kinds = dict(KINDS)
    if clean.grid_BMQ is not None:
        Q = clean.grid_BMQ.shape[-1]
        kinds |= {f"flip q{q}": _flip_level(q, Q) for q in range(Q)}
    yield (
        "corruption",
        {
            kind: [_point(tokenizer, chunks, statistics, clean, corrupt, rate, seed) for rate in rates]
            for kind, corrupt in kinds.items()
        },
    )


def curves(contestants: Mapping[str, Coded], statistics: Mapping[str, Statistics], seed: int) -> CorruptionJson:
    """Of several tokenizers on the same chunks, as JSON: name -> kind -> points, with T and the number of chunks."""
    found = {name: dict(run(coded, statistics, seed)) for name, coded in contestants.items()}
    chunks = next(iter(contestants.values())).chunks
    return {
        "horizon": chunks.context.horizon,
        "chunks": len(some(chunks)),
        "tokenizers": {
            name: {kind: [point.to_dict() for point in points] for kind, points in each["corruption"].items()}
            for name, each in found.items()
        },
    }


def some(chunks: ChunkBatch) -> Int[Tensor, " n"]:
    """Rows of at most CHUNKS_MAX of them, evenly over the set."""
    return torch.linspace(0, len(chunks) - 1, min(CHUNKS_MAX, len(chunks))).round().long()


# -- ways to be wrong -------------------------------------------------------------------------------------------------


def flip(tokens: np.ndarray, rate: float, vocab_size: int, rng: np.random.Generator) -> np.ndarray:
    """Tokens become other tokens of the vocabulary."""
    return np.where(_touched(tokens, rate, rng), _others(tokens, vocab_size, rng), tokens)


def drop(tokens: np.ndarray, rate: float, vocab_size: int, rng: np.random.Generator) -> np.ndarray:
    """Tokens are missing, those after them move up."""
    return tokens[~_touched(tokens, rate, rng)]


def swap(tokens: np.ndarray, rate: float, vocab_size: int, rng: np.random.Generator) -> np.ndarray:
    """Tokens change places with their right neighbours; the last one with the one before."""
    out = tokens.copy()
    if len(out) > 1:
        for at in np.flatnonzero(_touched(tokens, rate, rng)):
            left = min(at, len(out) - 2)
            out[left], out[left + 1] = out[left + 1], out[left]
    return out


def truncate(tokens: np.ndarray, rate: float, vocab_size: int, rng: np.random.Generator) -> np.ndarray:
    """The end is missing."""
    return tokens[: len(tokens) - _count(tokens, rate, rng)]


def _flip_level(level: int, levels: int) -> Corrupt:
    def flip_level(tokens: np.ndarray, rate: float, vocab_size: int, rng: np.random.Generator) -> np.ndarray:
        """That share of the codes of one level."""
        out = tokens.copy()
        out[level::levels] = flip(tokens[level::levels], rate, vocab_size, rng)
        return out

    return flip_level


KINDS: dict[str, Corrupt] = {"flip": flip, "drop": drop, "swap": swap, "truncate": truncate}


def _count(tokens: np.ndarray, rate: float, rng: np.random.Generator) -> int:
    """The share as a number of tokens, rounded by chance, so that short sequences meet the rate on average."""
    return int(rate * len(tokens) + rng.random()) if rate > 0 else 0


def _touched(tokens: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    touched = np.zeros(len(tokens), dtype=bool)
    touched[rng.permutation(len(tokens))[: _count(tokens, rate, rng)]] = True
    return touched


def _others(tokens: np.ndarray, vocab_size: int, rng: np.random.Generator) -> np.ndarray:
    return (tokens + rng.integers(1, vocab_size, len(tokens))) % vocab_size


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
    except ValueError:  # one that cannot be spoils the batch: one by one, then
        pass
    repairs = "on_invalid" in inspect.signature(tokenizer.decode).parameters
    rows, repaired = [], 0
    for b, sequence in enumerate(tokens):
        one, here = _codes([sequence], clean), context[b : b + 1]
        try:
            rows.append(tokenizer.decode(one, here))
            continue
        except ValueError:
            found = _repaired(tokenizer, one, here) if repairs else None
        if found is None:
            still_BTD = torch.zeros(1, context.horizon, context.layout.width)
            found = Actions(still_BTD, None, torch.ones(1, dtype=torch.bool))
        else:
            repaired += 1
        rows.append(found)
    return (
        Actions(torch.cat([row.delta_BTD for row in rows]), None, torch.cat([row.failed_B for row in rows])),
        repaired,
    )


def _repaired(tokenizer: ActionTokenizer, codes: Codes, context: Context) -> Actions | None:
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
