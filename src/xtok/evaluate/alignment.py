"""Do slots of motion lie where the teacher's features of the same moment lie? docs/method.md#published-results.

# N chunks, M slots, E dimensions of the common space
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xtok.evaluate.cluster import Mean, clustered_mean
from xtok.evaluate.semantics_result import AlignmentJson


@dataclass(frozen=True)
class Alignment:
    """Centred cosines. diagonal: slot i with the feature of its own moment, mean over slots, with its interval over
    episodes. mid_peak: the largest of the middle half of the slots. off_diagonal: slot i with the features of the same
    chunk's other moments; contrast: diagonal minus off-diagonal. None for chunks of one slot. teacher_contrast: that of
    the teacher's moments with themselves: what a perfect motion side would have.

    shuffled: the diagonal with the features of other chunks (0 where nothing is known). floor: the diagonal if every
    chunk's features are predicted by their mean at that slot. matrix: row i is motion slot i, column j teacher slot j.
    """

    diagonal: Mean
    mid_peak: float
    off_diagonal: float | None
    contrast: float | None
    teacher_contrast: float | None
    shuffled: float
    floor: float
    chunks: int
    matrix: list[list[float]]

    def to_dict(self) -> AlignmentJson:
        return {
            "diagonal": self.diagonal.to_dict(),
            "mid_peak": self.mid_peak,
            "off_diagonal": self.off_diagonal,
            "contrast": self.contrast,
            "teacher_contrast": self.teacher_contrast,
            "shuffled": self.shuffled,
            "floor": self.floor,
            "chunks": self.chunks,
            "matrix": self.matrix,
        }


def align(action_NME: np.ndarray, teacher_NME: np.ndarray, episode_N: np.ndarray, seed: int = 0) -> Alignment:
    """Slot-by-slot cosines over a set of chunks, both sides centred on their mean over the set.

    Centring matters: features of one teacher share a large common part, so that raw cosines are high for any two.

    Raises:
        ValueError: shapes that differ, or fewer than two chunks.
    """
    if action_NME.shape != teacher_NME.shape or action_NME.ndim != 3:
        raise ValueError(f"action is {action_NME.shape}, teacher {teacher_NME.shape}; expected the same [N, M, E]")
    N, M, _ = action_NME.shape
    if N < 2:
        raise ValueError(f"there are {N} chunks; alignment is centred over a set, give two or more")
    action, teacher = centred(action_NME), centred(teacher_NME)
    matrix_MM = np.einsum("nie,nje->ij", action, teacher) / N
    diagonal_NM = np.einsum("nie,nie->ni", action, teacher)
    others = np.random.default_rng(seed).permutation(N)
    other_N = np.empty(N, dtype=int)
    other_N[others] = np.roll(others, 1)  # one cycle through all chunks: none meets itself
    middle = matrix_MM.diagonal()[M // 4 : max(M // 4 + 1, M - M // 4)]
    apart_MM = ~np.eye(M, dtype=bool)
    off = None if M == 1 else float(matrix_MM[apart_MM].mean())
    own_MM = np.einsum("nie,nje->ij", teacher, teacher) / N
    return Alignment(
        diagonal=clustered_mean(diagonal_NM.mean(axis=1), episode_N, seed),
        mid_peak=float(middle.max()),
        off_diagonal=off,
        contrast=None if off is None else float(diagonal_NM.mean()) - off,
        teacher_contrast=None if off is None else float(own_MM.diagonal().mean() - own_MM[apart_MM].mean()),
        shuffled=float(np.einsum("nie,nie->ni", action, teacher[other_N]).mean()),
        floor=float(_cosine_to_mean(teacher)),
        chunks=N,
        matrix=matrix_MM.tolist(),
    )


def centred(x_NME: np.ndarray) -> np.ndarray:
    """Unit vectors again, after the mean of the whole set has gone; float64. Vectors equal to the mean become zero."""
    x = x_NME.astype(np.float64)
    x = x - x.reshape(-1, x.shape[-1]).mean(axis=0)
    return unit(x)


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of length one; a row of (nearly) no length becomes zero, so that its cosine with anything is 0."""
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return np.divide(x, length, out=np.zeros_like(x), where=length > 1e-12)


def pooled(x_NME: np.ndarray) -> np.ndarray:
    """One unit vector a chunk: the mean of its slots. [N, E]"""
    return unit(x_NME.astype(np.float64).mean(axis=1))


def _cosine_to_mean(x_NME: np.ndarray) -> float:
    """Mean cosine of each vector with the mean of the *other* chunks' vectors at its slot."""
    N = len(x_NME)
    others = (x_NME.sum(axis=0, keepdims=True) - x_NME) / (N - 1)
    return float(np.einsum("nie,nie->ni", unit(others), x_NME).mean())
