"""How much motion words may cost: what an encoder is told, and what no decoder has to know."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from xtok.codec.words.encode import BEAM, PATHS
from xtok.codec.words.grammar import BLOCK_SLOTS, DEPTH

RATE = 0.1
RATES = (4.0, 1.5, 0.6, 0.25, RATE, 0.04, 0.015, 0.005)  # points of a curve, cheapest first
_MOST = 1024


@dataclass(frozen=True)
class CodingSettings:
    """rate: the error that one token has to save, in half ranges, summed over frames and channels. residuals: in its
    place, so many residual tokens for every 16 frames, so that all chunks of one length cost the same. paths, beam:
    what the search keeps; more err less and take longer.

    Raises:
        ValueError: values out of bounds.
    """

    rate: float = RATE
    residuals: int | None = None
    paths: int = PATHS
    beam: int = BEAM

    def __post_init__(self) -> None:
        if isinstance(self.rate, bool) or not isinstance(self.rate, (int, float)) or not 0 <= self.rate < math.inf:
            raise ValueError(f"rate is {self.rate!r}; expected 0 or more: the error that one token has to save")
        most = DEPTH * BLOCK_SLOTS
        if self.residuals is not None and (type(self.residuals) is not int or not 0 <= self.residuals <= most):
            raise ValueError(
                f"residuals is {self.residuals!r}; expected 0 to {most} tokens for every 16 frames, or None"
            )
        for name in ("paths", "beam"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= _MOST:
                raise ValueError(f"{name} is {value!r}; expected a whole number from 1 to {_MOST}")

    def to_dict(self) -> dict[str, float | int | None]:
        """JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> CodingSettings:
        """Inverse of `to_dict`.

        Raises:
            ValueError: other fields, or values out of bounds.
        """
        expected = {field.name for field in fields(cls)}
        if not isinstance(content, dict) or content.keys() != expected:
            raise ValueError(f"the coding of motion words has the fields {sorted(expected)}")
        return cls(**content)
