"""The rate at which chunks cost so many tokens on average.

# B chunks
"""

from __future__ import annotations

import math
from collections.abc import Callable

RATE_MIN, RATE_MAX = 1e-4, 100.0
TRIES = 14


def rate_for(tokens_at: Callable[[float], float], tokens: float, tolerance: float = 0.01) -> float:
    """The rate between RATE_MIN and RATE_MAX whose mean tokens come nearest, by halving its logarithm.

    tokens_at: mean tokens at a rate; it falls as the rate rises. tolerance: relative; nearer is not looked for.

    Raises:
        ValueError: no rate costs so little, or so much.
    """
    most, least = tokens_at(RATE_MIN), tokens_at(RATE_MAX)
    if not least * (1 - tolerance) <= tokens <= most * (1 + tolerance):
        raise ValueError(f"{tokens:g} tokens a chunk; these chunks cost {least:.2f} at least and {most:.2f} at most")
    low, high = math.log(RATE_MIN), math.log(RATE_MAX)
    best, off = RATE_MIN, abs(most - tokens)
    if abs(least - tokens) < off:
        best, off = RATE_MAX, abs(least - tokens)
    for _ in range(TRIES):
        if off <= tolerance * tokens:
            break
        middle = (low + high) / 2
        found = tokens_at(math.exp(middle))
        if abs(found - tokens) < off:
            best, off = math.exp(middle), abs(found - tokens)
        low, high = (middle, high) if found > tokens else (low, middle)
    return best
