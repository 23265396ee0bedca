"""Given a motion, is its own moment found among others, and given a moment, its motion?

# N chunks, E dimensions of the common space, K candidates of a query
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xtok.evaluate.cluster import Mean, clustered_mean
from xtok.evaluate.semantics_result import RetrievalJson

WITHIN, AMONG_ALL = 100, 1000  # candidates, the right one included
QUERIES_MAX = 2000


@dataclass(frozen=True)
class Retrieval:
    """r1, r5: share of queries whose own partner is first, or among the first five; the interval is over episodes.
    chance_r1: one over the number of candidates, averaged. Equal scores share their ranks, so a constant score is at
    chance. candidates: mean number, the right one included."""

    r1: Mean
    r5: float
    median_rank: float
    chance_r1: float
    chance_r5: float
    times_chance: float
    candidates: float
    queries: int

    def to_dict(self) -> RetrievalJson:
        return {
            "r1": self.r1.to_dict(),
            "r5": self.r5,
            "median_rank": self.median_rank,
            "chance_r1": self.chance_r1,
            "chance_r5": self.chance_r5,
            "times_chance": self.times_chance,
            "candidates": self.candidates,
            "queries": self.queries,
        }


def retrieve(
    query_NE: np.ndarray,
    gallery_NE: np.ndarray,
    episode_N: np.ndarray,
    group_N: np.ndarray | None = None,
    candidates: int = WITHIN,
    seed: int = 0,
) -> Retrieval | None:
    """Rank each query's own gallery row among itself and up to `candidates` - 1 rows of other episodes.

    Args:
        query_NE, gallery_NE: unit vectors; row n of both belongs to chunk n.
        group_N: candidates come from the query's own group (task and arm); None: from everywhere.
        candidates: drawn anew for each query; fewer where there are not so many, and chance counts those.

    Returns:
        None where no query has a candidate of another episode.

    Raises:
        ValueError: arrays of different lengths.
    """
    N = len(query_NE)
    group_N = np.zeros(N, dtype=int) if group_N is None else np.unique(group_N, return_inverse=True)[1]
    if not N == len(gallery_NE) == len(episode_N) == len(group_N):
        raise ValueError(f"{N} queries, {len(gallery_NE)} gallery rows, {len(episode_N)} episodes; expected as many")
    _, episode_N = np.unique(episode_N, return_inverse=True)
    rng = np.random.default_rng(seed)
    queries = rng.permutation(N)[:QUERIES_MAX]
    rows = {group: np.flatnonzero(group_N == group) for group in np.unique(group_N)}
    above, level, size, used = [], [], [], []
    for n in np.sort(queries):
        pool = rows[group_N[n]]
        pool = pool[episode_N[pool] != episode_N[n]]
        if not len(pool):
            continue
        others = rng.choice(pool, candidates - 1, replace=False) if len(pool) >= candidates else pool
        scores = gallery_NE[others] @ query_NE[n]
        own = float(gallery_NE[n] @ query_NE[n])
        same = np.isclose(scores, own, rtol=0, atol=1e-9)
        above.append(int(((scores > own) & ~same).sum()))
        level.append(int(same.sum()))
        size.append(1 + len(others))
        used.append(n)
    if not used:
        return None
    above_n, level_n, size_n = (np.array(values, dtype=np.float64) for values in (above, level, size))

    def within(k: int) -> np.ndarray:
        return np.clip((k - above_n) / (level_n + 1), 0, 1)  # ties: the share of their orders that put it there

    chance_1, chance_5 = float((1 / size_n).mean()), float(np.minimum(1, 5 / size_n).mean())
    r1 = clustered_mean(within(1), episode_N[used], seed)
    return Retrieval(
        r1=r1,
        r5=float(within(5).mean()),
        median_rank=float(np.median(1 + above_n + level_n / 2)),
        chance_r1=chance_1,
        chance_r5=chance_5,
        times_chance=r1.value / chance_1,
        candidates=float(size_n.mean()),
        queries=len(used),
    )
