"""Put what the teacher saw in place of what the encoder felt: does the decoded hand still go the right way?

# N chunks, T frames, C channels that say where (positions of hands, or joints), relative to the anchor
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from xtok.evaluate.cluster import Mean, clustered_mean
from xtok.evaluate.semantics_result import DirectionJson

FLOOR = "mean trajectory"
STILL = 0.005  # a chunk whose channels leave the anchor by less (root mean square; m or rad) has no direction


@dataclass(frozen=True)
class Direction:
    """Mean direction cosine of each way of decoding, by name; the floor is a task's mean trajectory."""

    cosines: dict[str, Mean]
    chunks: int
    still: int

    def to_dict(self) -> DirectionJson:
        cosines = {way: mean.to_dict() for way, mean in self.cosines.items()}
        return {"cosines": cosines, "chunks": self.chunks, "still": self.still}


def direction_cosine(decoded_NTC: np.ndarray, true_NTC: np.ndarray) -> np.ndarray:
    """[N] cosine between the whole paths away from the anchor; 0 for a decoded path that stays, NaN for a true one."""
    a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (decoded_NTC, true_NTC))
    size = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine_N = np.divide((a * b).sum(axis=1), size, out=np.zeros(len(a)), where=size > 1e-12)
    moves_N = np.sqrt((true_NTC.astype(np.float64) ** 2).sum(axis=-1).mean(axis=1)) >= STILL
    return np.where(moves_N, cosine_N, np.nan)


def mean_trajectories(true_NTC: np.ndarray, task_N: np.ndarray) -> dict[str, np.ndarray]:
    """Task -> [T, C] mean path of these (train) chunks; "" is that of all."""
    return {
        "": true_NTC.mean(axis=0),
        **{str(task): true_NTC[task_N == task].mean(axis=0) for task in np.unique(task_N)},
    }


def substitute(
    true_NTC: np.ndarray,
    decoded: Mapping[str, np.ndarray],
    means: Mapping[str, np.ndarray],
    task_N: np.ndarray,
    episode_N: np.ndarray,
    seed: int = 0,
) -> dict[str, Direction]:
    """Task -> direction cosines, for each decoded [N, T, C] and for the floor: `means` of the task, or of all tasks for
    one without. Still chunks are left out and counted; a task of nothing else has no entry.

    Raises:
        ValueError: decoded arrays of another shape.
    """
    if wrong := {name: x.shape for name, x in decoded.items() if x.shape != true_NTC.shape}:
        raise ValueError(f"decoded arrays are {wrong}; the true one is {true_NTC.shape}")
    floor_NTC = np.stack([means.get(str(task), means[""]) for task in task_N])
    cosines = {name: direction_cosine(x, true_NTC) for name, x in {**decoded, FLOOR: floor_NTC}.items()}
    moving_N = ~np.isnan(next(iter(cosines.values())))
    out = {}
    for task in np.unique(task_N):
        of_task = task_N == task
        use = of_task & moving_N
        if use.any():
            found = {name: clustered_mean(cosine[use], episode_N[use], seed) for name, cosine in cosines.items()}
            out[str(task)] = Direction(found, int(use.sum()), int((of_task & ~moving_N).sum()))
    return out
