"""A data set through tokenizers and baselines at several horizons: everything that `xtok eval` prints and draws."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from xtok import provenance
from xtok.actions.statistics import Statistics, normalise_batch, saturation
from xtok.actions.types import ActionTokenizer, ChunkBatch, concatenate
from xtok.data.chunks import iter_chunks
from xtok.data.episode import EpisodeDataset
from xtok.data.splits import Split, select
from xtok.evaluate import corruption
from xtok.evaluate.batches import target_delta
from xtok.evaluate.fit import BASELINES, fit_baselines, spread_within
from xtok.evaluate.illustrate import Illustration, illustrate
from xtok.evaluate.robustness import SIGMAS
from xtok.evaluate.run import evaluate

HORIZONS = (8, 16, 32, 64)
ILLUSTRATED_HORIZON = 32  # the report draws the longest horizon up to this one


@dataclass(frozen=True)
class Budget:
    """Chunks a horizon, at most: evaluated ones, and those that FAST's vocabulary is fitted on.

    The stride between chunk starts is the smallest that stays within it, and is told in the result. Where episodes are
    shorter than it, it runs on from one into the next.
    """

    evaluated: int = 512
    fitted: int = 8000


@dataclass(frozen=True)
class Evaluation:
    """`result` is the JSON; `illustration` is what the report draws besides."""

    result: dict[str, Any]
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
    progress: Callable[[str], None] = lambda _: None,
    corrupt: bool = False,
) -> Evaluation:
    """Evaluate `tokenizers` (the report is about the first) beside baselines on one split of a data set.

    Args:
        statistics: by embodiment; the same normalised units for every tokenizer.
        weights: tokenizer name -> hash of its weights, or None where it has none.
        baselines: "fast" is refitted at each horizon on train episodes, over scales that enclose the first tokenizer's
            bits; "bins" needs no fit. Other tokenizers, a plain RVQ for one, come in through `tokenizers`.
        progress: told what is being done.
        corrupt: also the corruption curve, at the horizon that the report draws.

    Raises:
        ValueError: no tokenizer, weights of other names, an unknown or doubly named baseline, or no episode long enough
            for any horizon.
    """
    if not tokenizers:
        raise ValueError("no tokenizer to evaluate")
    if both := set(tokenizers) & set(baselines):
        raise ValueError(f"{sorted(both)} are tokenizers and baselines at once; rename the tokenizers")
    if weights.keys() != tokenizers.keys():
        raise ValueError(
            f"weights are given for {sorted(weights)}, tokenizers are {sorted(tokenizers)}; name each once"
        )
    episodes = select(dataset, split)
    train = select(dataset, "train") if baselines else []
    subject_name, subject = next(iter(tokenizers.items()))
    by_horizon: dict[str, dict[str, Any]] = {
        key: {}
        for key in (
            "episodes_used",
            "chunks",
            "chunk_stride",
            "stride_runs_on",
            "fast_fit",
            "saturation",
            "horizons",
        )
    }
    illustration = None
    for horizon in sorted(horizons):
        key = str(horizon)
        usable = [episode for episode in episodes if len(episode) > horizon]
        by_horizon["episodes_used"][key] = len(usable)
        if not usable:
            warnings.warn(f"no {split} episode of {dataset.name} is longer than {horizon} frames", stacklevel=2)
            continue
        stride, runs_on = spread_within(usable, horizon, budget.evaluated)
        chunks = concatenate(list(iter_chunks(usable, horizon, stride, runs_on=runs_on)))
        by_horizon["chunk_stride"][key], by_horizon["chunks"][key] = stride, len(chunks)
        by_horizon["stride_runs_on"][key] = runs_on
        by_horizon["saturation"][key] = saturated_channels(chunks, statistics)

        progress(f"T {horizon}: fitting {', '.join(baselines) or 'nothing'}")
        fitted, fast_fit = fit_baselines(baselines, train, chunks, subject, statistics, budget.fitted)
        by_horizon["fast_fit"][key] = fast_fit
        contestants = {**tokenizers, **fitted}
        progress(f"T {horizon}: {len(chunks)} chunks through {', '.join(contestants)}")
        by_horizon["horizons"][key] = evaluate(contestants, chunks, statistics, seed)
        if illustration is None or horizon <= ILLUSTRATED_HORIZON:
            illustration = illustrate(contestants, usable[0], chunks, seed)
            drawn = contestants, chunks
    if illustration is None:
        raise ValueError(
            f"no {split} episode of {dataset.name} is longer than {min(horizons)} frames; use shorter horizons"
        )
    corruption_curve = None
    if corrupt:
        progress(f"T {illustration.horizon}: corrupting the codes of {', '.join(drawn[0])}")
        corruption_curve = corruption.curves(*drawn, statistics, seed)
    result = {
        "dataset": dataset.name,
        "layout": dataset.layout.name,
        "embodiments": list(dataset.embodiments),
        "joint_unit": joint_unit(dataset),
        "split": split,
        "episodes": len(episodes),
        "subject": subject_name,
        "weights": {**weights, **dict.fromkeys(baselines)},
        "vocab_sizes": {name: each.vocab_size for name, each in tokenizers.items()},
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
