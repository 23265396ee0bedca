"""FAST on a robot's own principal directions of whole chunks, in place of the cosine transform: a rival for research.

A Karhunen-Loève transform over time and channels at once, fitted on train chunks of one length: rounding and byte pairs
see the direction of largest variance first and still ones last. Directions turn cosine coefficients, which loses
nothing: `FastTokenizer.fit_cosines(klt.turn(cosines))`, and `klt.back(tokenizer.decode_cosines(codes))`.

# X coefficients of a chunk: T frames times C channels
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from xtok.baselines.fast import Cosines

# Of the covariance between coefficients, the share that is not believed: few chunks know no more directions than they
# are, and held-out ones move along the rest as well, which then lies about as cosines do. More of it costs G1, T 8, and
# SO-101, T 32, up to 9 % in l1 at .05; this much costs neither anything (validation episodes).
SHRINK = 1e-3


@dataclass(frozen=True, eq=False)
class Klt:
    """direction_XX: orthonormal columns in the space of cosine coefficients, the largest train variance first."""

    direction_XX: Float[np.ndarray, "X X"]

    def turn(self, given: Cosines) -> Cosines:
        """Coefficients along the directions.

        Raises:
            ValueError: chunks of another length or other channels than fitted.
        """
        return replace(given, flat=tuple(_stacked(given.flat, len(self.direction_XX)) @ self.direction_XX))

    def back(self, flat: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Inverse of `turn`: cosine coefficients of each chunk.

        Raises:
            ValueError: chunks of another length or other channels than fitted.
        """
        return list(_stacked(flat, len(self.direction_XX)) @ self.direction_XX.T)


def fit_klt(train: Cosines, shrink: float = SHRINK) -> Klt:
    """Directions of train chunks of one robot. About zero, not about their mean: a robot at rest stays at zero.

    Raises:
        ValueError: no chunks, or chunks of several channel sets.
    """
    if not train.flat:
        raise ValueError("a KLT needs train chunks")
    values_NX = _stacked(train.flat, len(train.flat[0]))
    second_XX = values_NX.T @ values_NX / len(values_NX)
    second_XX = (1 - shrink) * second_XX + shrink * np.diag(np.diag(second_XX))
    _, direction_XX = np.linalg.eigh(second_XX)
    return Klt(direction_XX[:, ::-1].copy())


def _stacked(flat: Sequence[np.ndarray], size: int) -> Float[np.ndarray, "N X"]:
    if wrong := {len(values) for values in flat} - {size}:
        raise ValueError(
            f"chunks have {sorted(wrong)} coefficients, these directions {size}; fit them anew for each length and for "
            "each set of channels"
        )
    return np.stack(flat)
