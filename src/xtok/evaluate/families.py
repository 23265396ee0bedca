"""Do arms that do the same thing lie together? Cosines between arms, and a picture of the space.

# N chunks, E dimensions, A arms, C any number of dimensions
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xtok.evaluate.alignment import unit
from xtok.evaluate.semantics_result import FamiliesJson


@dataclass(frozen=True)
class Families:
    """matrix[a][b]: mean cosine of a chunk of arm a with one of arm b, of different episodes; None where there is no
    such pair. within, between: means of its diagonal and of the rest."""

    arms: list[str]
    matrix: list[list[float | None]]
    within: float | None
    between: float | None

    def to_dict(self) -> FamiliesJson:
        return {"arms": self.arms, "matrix": self.matrix, "within": self.within, "between": self.between}


def arm_families(x_NE: np.ndarray, arm_N: np.ndarray, episode_N: np.ndarray) -> Families:
    """Mean cosines between arms over all pairs of chunks of different episodes, centred on the mean of the set."""
    x = unit(x_NE - x_NE.mean(axis=0))
    arms, index_N = np.unique(arm_N, return_inverse=True)
    _, episode_index_N = np.unique(episode_N, return_inverse=True)
    count_A = np.bincount(index_N).astype(np.float64)
    sum_AE = np.stack([x[index_N == a].sum(axis=0) for a in range(len(arms))])
    matrix: list[list[float | None]] = []
    for a in range(len(arms)):
        row: list[float | None] = []
        for b in range(len(arms)):
            total, pairs = float(sum_AE[a] @ sum_AE[b]), count_A[a] * count_A[b]
            if a == b:  # pairs within one episode are neighbours in time
                for episode in np.unique(episode_index_N[index_N == a]):
                    mine = x[episode_index_N == episode]
                    own = mine.sum(axis=0)
                    total, pairs = total - float(own @ own), pairs - len(mine) ** 2
            row.append(float(total / pairs) if pairs else None)
        matrix.append(row)
    within = [matrix[a][a] for a in range(len(arms))]
    between = [matrix[a][b] for a in range(len(arms)) for b in range(len(arms)) if a != b]
    return Families(list(map(str, arms)), matrix, _mean(within), _mean(between))


def principal_plane(x_NC: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """[N, 2] coordinates on the two principal axes, and each axis' share of the variance; signs are fixed, so that the
    same points give the same picture.

    Raises:
        ValueError: fewer than three points.
    """
    if len(x_NC) < 3:
        raise ValueError(f"{len(x_NC)} points span no plane; give three or more")
    centred = x_NC.astype(np.float64) - x_NC.mean(axis=0)
    left_NK, size_K, axes_KC = np.linalg.svd(centred, full_matrices=False)
    if len(size_K) < 2:
        left_NK, size_K = np.pad(left_NK, ((0, 0), (0, 1))), np.pad(size_K, (0, 1))
        axes_KC = np.pad(axes_KC, ((0, 1), (0, 0)))
    sign_2 = [np.sign(axis[np.abs(axis).argmax()]) or 1.0 for axis in axes_KC[:2]]
    shares = size_K[:2] ** 2 / max(float((size_K**2).sum()), 1e-300)
    return left_NK[:, :2] * size_K[:2] * sign_2, (float(shares[0]), float(shares[1]))


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
