"""The second rival, `fast-pooled`: FAST with one vocabulary from other robots, as a tokenizer that is not refitted.

Each robot is normalised by its own ranges, the evaluated one by its own too; merges and symbols come from the other
robots' train chunks alone. It is not the published FAST+ tokenizer. Where a choice had to be made, it favours the
rival: the form is the one that is best for the evaluated robot, and the alphabet covers every motion within its
ranges.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from xtok.actions.statistics import Statistics
from xtok.baselines.common import rest_of
from xtok.baselines.fast import Cosines, FastTokenizer, cosines, finest_scale
from xtok.data.chunks import iter_chunks
from xtok.data.episode import Episode
from xtok.evaluate.coded import Coded
from xtok.evaluate.compare import FAST_POOLED
from xtok.evaluate.progress import Tell, silent
from xtok.evaluate.result import PooledFitJson, PoolMemberJson
from xtok.evaluate.rivals import FastFit, Rates, sweep_over
from xtok.evaluate.strides import stride_within
from xtok.evaluate.sweep import Sweep


@dataclass(frozen=True)
class PoolMember:
    """One robot of one set: its train episodes, and its own statistics."""

    dataset: str
    episodes: Sequence[Episode]
    statistics: Statistics

    @property
    def robot(self) -> str:
        return self.statistics.embodiment


def check_pool(pool: Sequence[PoolMember], robots: Sequence[str], layout: str) -> None:
    """Refuse a pool that holds what is evaluated, or that is of another layout.

    Raises:
        ValueError: a robot of the evaluated data, another layout.
    """
    for member in pool:
        if member.robot in robots:
            raise ValueError(
                f"the pool holds {member.robot!r} ({member.dataset}), which is evaluated: give sets of other robots"
            )
        if member.statistics.layout != layout:
            raise ValueError(f"{member.dataset} is pooled as {member.statistics.layout!r}, the data are {layout!r}")


def fit_pooled(
    pool: Sequence[PoolMember],
    fast: FastFit,
    subject: Coded,
    statistics: Mapping[str, Statistics],
    max_chunks: int,
    tell: Tell = silent,
) -> tuple[Coded | None, PooledFitJson]:
    """FAST with the vocabulary of `pool` at the scales and in the form of `fast`; None where no member is long enough.

    Of each member at most its even share of `max_chunks`.
    """
    horizon = subject.chunks.context.horizon
    share = max(1, max_chunks // max(1, len(pool)))
    parts: list[Cosines] = []
    told: list[PoolMemberJson] = []
    for number, member in enumerate(pool):
        usable = [episode for episode in member.episodes if len(episode) > horizon]
        if not usable:
            continue
        tell(f"pooling {member.robot}", 0.2 * number / len(pool))
        chunks = list(iter_chunks(usable, horizon, stride_within(usable, horizon, share)))
        parts.append(cosines({member.robot: member.statistics}, chunks, fast.form))
        told.append({"dataset": member.dataset, "robot": member.robot, "chunks": sum(len(batch) for batch in chunks)})
    if not parts:
        return None, {"members": [], "reason": f"no train episode of the pool is longer than {horizon} frames"}
    pooled = reduce(add, parts)
    finest = finest_scale(pooled)
    # Values in [-1, 1] over T frames have no coefficient beyond the root of T; seen from rest they reach further.
    context = subject.chunks.context
    rests = [np.abs(rest_of(context.layout, statistics[name], fast.form)).max() for name in set(context.embodiment)]
    reach = (1 + float(max(rests))) * math.sqrt(horizon)

    def fit(scale: float) -> FastTokenizer:
        tokenizer = FastTokenizer(statistics, scale, form=fast.form, name=FAST_POOLED)
        return tokenizer.fit_cosines(pooled, reach)

    scales = sorted({min(scale, finest) for scale in fast.sweep.by_scale})
    coded = sweep_over(FAST_POOLED, fit, scales, subject, Rates.of(subject), finest, tell.within(0.2, 1.0))
    sweep = coded.tokenizer
    assert isinstance(sweep, Sweep)
    return coded, {
        "members": told,
        "scales": list(sweep.by_scale),
        "headline_scale": sweep.headline_scale,
        "form": fast.how["form"],
        "saturated": sum(tokenizer.saturated for tokenizer in sweep.by_scale.values()),
        "reason": None,
    }
