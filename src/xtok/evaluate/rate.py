"""What a chunk costs in tokens and bits, and what error each price buys.

# B chunks
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from xtok.actions.statistics import Statistics
from xtok.actions.types import Codes
from xtok.evaluate.coded import Coded
from xtok.evaluate.entropy import entropy_bits_mean
from xtok.evaluate.result import RatePointJson


@dataclass(frozen=True)
class RatePoint:
    """A mean price a chunk (tokens; bits = tokens x log2 of the vocabulary; bits behind a unigram entropy coder), and
    the mean errors that it buys, as `xtok.evaluate.errors.Errors` has them; None where there is none."""

    bits: float
    l1: float
    tokens: float | None = None
    entropy_bits: float | None = None
    position_mm: float | None = None
    rotation_deg: float | None = None
    joint: float | None = None

    def to_dict(self) -> RatePointJson:
        return {
            "bits": self.bits,
            "l1": self.l1,
            "tokens": self.tokens,
            "entropy_bits": self.entropy_bits,
            "position_mm": self.position_mm,
            "rotation_deg": self.rotation_deg,
            "joint": self.joint,
        }


class RateFigures(TypedDict):
    """entropy_bits_mean: None without train chunks. rate_distortion: by rising bits."""

    tokens_mean: float
    bits_mean: float
    entropy_bits_mean: float | None
    rate_distortion: list[RatePoint]


def run(coded: Coded, statistics: Mapping[str, Statistics]) -> RateFigures:
    """Prices of the tokenizer itself, and price and errors at each of its rates."""
    train = coded.train_codes
    return {
        "tokens_mean": tokens_mean(coded.codes),
        "bits_mean": bits_mean(coded.codes),
        "entropy_bits_mean": None if train is None else entropy_bits_mean(train, coded.codes),
        "rate_distortion": rate_distortion(coded, statistics),
    }


def tokens_mean(codes: Codes) -> float:
    return float(np.mean([len(sequence) for sequence in codes.tokens]))


def bits_mean(codes: Codes) -> float:
    """Mean tokens a chunk times log2 of the vocabulary: the price without an entropy coder, as a VLA pays it."""
    return tokens_mean(codes) * math.log2(codes.vocab_size)


def rate_distortion(coded: Coded, statistics: Mapping[str, Statistics]) -> list[RatePoint]:
    train: Sequence[Codes | None] = coded.train_rate_codes or [None] * len(coded.rate_codes)
    points = [
        RatePoint(
            bits=bits_mean(codes),
            l1=errors.l1,
            tokens=tokens_mean(codes),
            entropy_bits=None if seen is None else entropy_bits_mean(seen, codes),
            position_mm=errors.position_mm,
            rotation_deg=errors.rotation_deg,
            joint=errors.joint,
        )
        for codes, seen, errors in zip(coded.rate_codes, train, coded.errors(statistics), strict=True)
    ]
    return sorted(points, key=lambda point: point.bits)
