"""Baselines on the same footing: fitted at one T on train episodes, normalised with the same statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xtok.actions.statistics import Statistics
from xtok.baselines.bins import BinTokenizer
from xtok.data.episode import Episode
from xtok.evaluate.coded import Coded
from xtok.evaluate.compare import FAST, FAST_POOLED
from xtok.evaluate.pool import PoolMember, fit_pooled
from xtok.evaluate.progress import Tell, silent
from xtok.evaluate.result import FastFitJson, PooledFitJson
from xtok.evaluate.rivals import fit_fast

BINS = "bins"
BASELINES = (FAST, BINS)


@dataclass(frozen=True)
class Fitted:
    """coded: by name, the evaluated chunks through each baseline. fast, pooled: how they were fitted; None without."""

    coded: dict[str, Coded]
    fast: FastFitJson | None
    pooled: PooledFitJson | None


def check_baselines(names: Sequence[str], pool: Sequence[PoolMember] = ()) -> None:
    """Raises ValueError on an unknown baseline, or on a pool without the FAST whose scales and form it takes."""
    if unknown := set(names) - set(BASELINES):
        raise ValueError(f"unknown baselines {sorted(unknown)}; expected some of {list(BASELINES)}")
    if pool and FAST not in names:
        raise ValueError(f"{FAST_POOLED} takes its scales and form from {FAST}; add {FAST} to the baselines")


def fit_baselines(
    names: Sequence[str],
    train_episodes: Sequence[Episode],
    subject: Coded,
    statistics: Mapping[str, Statistics],
    max_chunks: int,
    pool: Sequence[PoolMember] = (),
    tell: Tell = silent,
) -> Fitted:
    """Baselines beside `subject`, whose chunks they code.

    FAST comes as a sweep of scales around the rates of the subject, in the best of its forms, with the scale
    nearest to the subject's own bits in front; `fast-pooled` likewise where there is a pool. The evaluated chunks
    only say which scales are of interest; vocabularies are fitted on at most `max_chunks` chunks of train episodes.

    Raises:
        ValueError: as `check_baselines`, or (fast) no train episode longer than T.
    """
    check_baselines(names, pool)
    coded: dict[str, Coded] = {}
    fast = pooled = None
    if FAST in names:
        fit = fit_fast(train_episodes, subject, statistics, max_chunks, tell.within(0.0, 0.55 if pool else 1.0))
        coded[FAST], fast = fit.coded, fit.how
        if pool:
            found, pooled = fit_pooled(pool, fit, subject, statistics, max_chunks, tell.within(0.55, 1.0))
            if found is not None:
                coded[FAST_POOLED] = found
    if BINS in names:
        coded[BINS] = Coded(BinTokenizer(statistics), subject.chunks, subject.train)
    return Fitted(coded, fast, pooled)
