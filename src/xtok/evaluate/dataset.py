"""A data set through tokenizers and baselines at several horizons: everything that `xtok eval` prints and draws."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from xtok import provenance
from xtok.actions.statistics import Statistics, normalise_batch, saturation
from xtok.actions.types import ActionTokenizer, ChunkBatch, concatenate
from xtok.data.chunks import iter_chunks
from xtok.data.episode import EpisodeDataset
from xtok.data.splits import Split, select
from xtok.evaluate import corruption
from xtok.evaluate.batches import target_delta
from xtok.evaluate.coded import Coded
from xtok.evaluate.compare import FAST_POOLED
from xtok.evaluate.fit import BASELINES, check_baselines, fit_baselines
from xtok.evaluate.illustrate import Illustration, illustrate
from xtok.evaluate.pool import PoolMember, check_pool
from xtok.evaluate.progress import Tell, silent
from xtok.evaluate.result import ByHorizon, EvaluationResult
from xtok.evaluate.robustness import SIGMAS
from xtok.evaluate.run import evaluate
from xtok.evaluate.strides import spread_chunks, spread_within

HORIZONS = (8, 16, 32, 64)
ILLUSTRATED_HORIZON = 32  # the report draws the longest horizon up to this one
KNOWN_BY = ("trained", "adapted", "measured", "ranges")  # how a tokenizer knows a robot, best first
FITTING = 0.6  # share of a horizon's time that fitting takes, about


@dataclass(frozen=True)
class Budget:
    """Chunks a horizon, at most: evaluated ones, those that FAST's vocabulary is fitted on, and train chunks whose
    tokens give an entropy coder its frequencies.

    The stride between chunk starts is the smallest that stays within it, and is told in the result. Where episodes are
    shorter than it, it runs on from one into the next.
    """

    evaluated: int = 512
    fitted: int = 8000
    counted: int = 1024


@dataclass(frozen=True)
class Evaluation:
    """`result` is the JSON; `illustration` is what the report draws besides."""

    result: EvaluationResult
    illustration: Illustration


def evaluate_dataset(
    dataset: EpisodeDataset,
    tokenizers: Mapping[str, ActionTokenizer],
    statistics: Mapping[str, Statistics],
    weights: Mapping[str, str | None],
    horizons: Sequence[int] = HORIZONS,
    split: Split = "heldout",
    baselines: Sequence[str] = BASELINES,
    budget: Budget = Budget(),
    seed: int = 0,
    tell: Tell = silent,
    corrupt: bool = False,
    pool: Sequence[PoolMember] = (),
    robots_known_by: Mapping[str, str] | None = None,
) -> Evaluation:
    """Evaluate `tokenizers` (the report is about the first) beside baselines on one split of a data set.

    Args:
        statistics: by embodiment; the same normalised units for every tokenizer.
        weights: tokenizer name -> hash of its weights, or None where it has none.
        baselines: "fast" is refitted at each horizon on train episodes, over scales that enclose the first tokenizer's
            rates, in the best of its forms; "bins" needs no fit. Other tokenizers, a plain RVQ for one, come in
            through `tokenizers`.
        tell: told what is being done, and how far it is.
        corrupt: also the corruption curve, at the horizon that the report draws.
        pool: other robots, on whose train episodes a second FAST is fitted, "fast-pooled".
        robots_known_by: robot -> how the first tokenizer knows it, one of KNOWN_BY.

    Raises:
        ValueError: no tokenizer, weights of other names, an unknown or doubly named baseline, a pool that holds a
            robot of the data, or no episode long enough for any horizon.
    """
    if not tokenizers:
        raise ValueError("no tokenizer to evaluate")
    baselines = tuple(baselines)
    check_baselines(baselines, pool)
    check_pool(pool, dataset.embodiments, dataset.layout.name)
    if unknown := set((robots_known_by or {}).values()) - set(KNOWN_BY):
        raise ValueError(f"robots are known by {sorted(unknown)}; expected some of {list(KNOWN_BY)}")
    fitted_names = (*baselines, *([FAST_POOLED] if pool else []))
    if both := set(tokenizers) & set(fitted_names):
        raise ValueError(f"{sorted(both)} are tokenizers and baselines at once; rename the tokenizers")
    if weights.keys() != tokenizers.keys():
        raise ValueError(
            f"weights are given for {sorted(weights)}, tokenizers are {sorted(tokenizers)}; name each once"
        )
    episodes = select(dataset, split)
    train = list(select(dataset, "train"))
    subject_name = next(iter(tokenizers))
    by_horizon: ByHorizon = {
        "episodes_used": {},
        "chunks": {},
        "chunk_stride": {},
        "stride_runs_on": {},
        "fast_fit": {},
        "fast_pooled_fit": {},
        "saturation": {},
        "horizons": {},
    }
    illustration = None
    total = sum(horizons)
    for number, horizon in enumerate(sorted(horizons)):
        done = sum(sorted(horizons)[:number])
        part = tell.within(0.98 * done / total, 0.98 * (done + horizon) / total, f"T {horizon}: ")
        key = str(horizon)
        usable = [episode for episode in episodes if len(episode) > horizon]
        by_horizon["episodes_used"][key] = len(usable)
        if not usable:
            warnings.warn(f"no {split} episode of {dataset.name} is longer than {horizon} frames", stacklevel=2)
            continue
        part("cutting chunks", 0.0)
        stride, runs_on = spread_within(usable, horizon, budget.evaluated)
        chunks = concatenate(list(iter_chunks(usable, horizon, stride, runs_on=runs_on)))
        by_horizon["chunk_stride"][key], by_horizon["chunks"][key] = stride, len(chunks)
        by_horizon["stride_runs_on"][key] = runs_on
        by_horizon["saturation"][key] = saturated_channels(chunks, statistics)

        counted = spread_chunks(train, horizon, budget.counted)
        contestants = {name: Coded(tokenizer, chunks, counted) for name, tokenizer in tokenizers.items()}
        part(f"coding {len(chunks)} chunks with {subject_name}", 0.02)
        fitted = fit_baselines(
            baselines,
            train,
            contestants[subject_name],
            statistics,
            budget.fitted,
            pool,
            part.within(0.05, FITTING),
        )
        by_horizon["fast_fit"][key], by_horizon["fast_pooled_fit"][key] = fitted.fast, fitted.pooled
        contestants |= fitted.coded
        by_horizon["horizons"][key] = evaluate(contestants, chunks, statistics, seed, tell=part.within(FITTING, 1.0))
        if illustration is None or horizon <= ILLUSTRATED_HORIZON:
            illustration = illustrate(contestants, usable[0], seed)
            drawn = contestants
    if illustration is None:
        raise ValueError(
            f"no {split} episode of {dataset.name} is longer than {min(horizons)} frames; use shorter horizons"
        )
    corruption_curve = None
    if corrupt:
        tell(f"T {illustration.horizon}: corrupting the codes of {', '.join(drawn)}", 0.98)
        corruption_curve = corruption.curves(drawn, statistics, seed)
    result: EvaluationResult = {
        "dataset": dataset.name,
        "layout": dataset.layout.name,
        "embodiments": list(dataset.embodiments),
        "joint_unit": joint_unit(dataset),
        "split": split,
        "episodes": len(episodes),
        "subject": subject_name,
        "weights": {**weights, **dict.fromkeys(fitted_names)},
        "vocab_sizes": {name: each.vocab_size for name, each in tokenizers.items()},
        "robots_known_by": None if robots_known_by is None else dict(robots_known_by),
        "statistics": {name: statistics[name].digest for name in dataset.embodiments},
        "sigmas": list(SIGMAS),
        "seed": seed,
        "threads": torch.get_num_threads(),
        "versions": provenance.versions(),
        "git_revision": provenance.git_revision(),
        "command": provenance.command(),
        **by_horizon,
        "corruption": corruption_curve,
    }
    return Evaluation(result, illustration)


def saturated_channels(chunks: ChunkBatch, statistics: Mapping[str, Statistics]) -> dict[str, float]:
    """Channel name -> share of target values outside [-1, 1], where there are any."""
    normalised_BTD = normalise_batch(statistics, chunks.context, target_delta(chunks))
    names = chunks.context.layout.channel_names
    return {names[i]: share for i, share in saturation(normalised_BTD, chunks.context.mask_BD).items()}


def joint_unit(dataset: EpisodeDataset) -> str | None:
    """What `joint` errors are in: "rad", "native", "mixed", or None in a layout without joints."""
    if not dataset.layout.of_kind("joint"):
        return None
    units = {dataset.joint_unit(name) for name in dataset.embodiments}
    return units.pop() if len(units) == 1 else "mixed"
