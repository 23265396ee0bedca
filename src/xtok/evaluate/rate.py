"""What a chunk costs in tokens and bits, and what error each price buys.

# B chunks
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from xtok.actions.statistics import Statistics
from xtok.actions.types import ActionTokenizer, ChunkBatch, Codes
from xtok.evaluate.batches import decode, encode
from xtok.evaluate.reconstruction import measure

FAST = "fast"  # the name of the tokenizer that every other one is held against at equal bits


@runtime_checkable
class HasRatePoints(Protocol):
    """A tokenizer that comes at several rates: the codec by its prefixes of levels, FAST by its scales."""

    def rate_points(self) -> list[ActionTokenizer]: ...


@dataclass(frozen=True)
class RatePoint:
    """Mean bits a chunk, and the normalised l1 that they buy."""

    bits: float
    l1: float


@dataclass(frozen=True)
class EqualBits:
    """An l1 over FAST's at the same bits, so under 1 is better than FAST; or None, and the reason why there is none."""

    ratio: float | None
    reason: str | None


def run(
    tokenizer: ActionTokenizer, chunks: ChunkBatch, statistics: Mapping[str, Statistics]
) -> Iterator[tuple[str, float | list[RatePoint]]]:
    """`tokens_mean`, `bits_mean` and `rate_distortion` (by rising bits)."""
    codes = encode(tokenizer, chunks)
    yield "tokens_mean", tokens_mean(codes)
    yield "bits_mean", bits_mean(codes)
    yield "rate_distortion", rate_distortion(tokenizer, chunks, statistics)


def tokens_mean(codes: Codes) -> float:
    return float(np.mean([len(sequence) for sequence in codes.tokens]))


def bits_mean(codes: Codes) -> float:
    """Mean tokens a chunk times log2 of the vocabulary: the price without an entropy coder, as a VLA pays it."""
    return tokens_mean(codes) * math.log2(codes.vocab_size)


def rate_points(tokenizer: ActionTokenizer) -> list[ActionTokenizer]:
    """The tokenizer at each of its rates; itself alone where it has one."""
    return tokenizer.rate_points() if isinstance(tokenizer, HasRatePoints) else [tokenizer]


def rate_distortion(
    tokenizer: ActionTokenizer, chunks: ChunkBatch, statistics: Mapping[str, Statistics]
) -> list[RatePoint]:
    points = []
    for point in rate_points(tokenizer):
        codes = encode(point, chunks)
        errors = measure(chunks, decode(point, codes, chunks.context), statistics)
        points.append(RatePoint(bits_mean(codes), errors.l1))
    return sorted(points, key=lambda point: point.bits)


def l1_ratio_at_equal_bits(bits: float, l1: float, fast_points: Sequence[RatePoint]) -> EqualBits:
    """`l1` over FAST's at the same bits: log l1, interpolated linearly in bits inside FAST's sweep, never outside."""
    if not fast_points:
        return EqualBits(None, "FAST was not evaluated")
    points = sorted(fast_points, key=lambda point: point.bits)
    low, high = points[0].bits, points[-1].bits
    if not low <= bits <= high:
        return EqualBits(None, f"{bits:.1f} bits lie outside FAST's sweep ({low:.1f} to {high:.1f} bits)")
    if min(l1, *(point.l1 for point in points)) <= 0.0:
        return EqualBits(None, "an l1 of zero has no logarithm")
    fast_log_l1 = np.interp(bits, [point.bits for point in points], [math.log(point.l1) for point in points])
    return EqualBits(l1 / math.exp(fast_log_l1), None)
