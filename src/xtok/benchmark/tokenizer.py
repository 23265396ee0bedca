"""A tokenizer measured on a data set beside others: baselines are fitted, semantics are measured where wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from xtok.codec.load import AnyTokenizer
from xtok.data import EpisodeDataset, select
from xtok.data.splits import Split
from xtok.evaluate.dataset import Budget, Evaluation, evaluate_dataset
from xtok.evaluate.pool import PoolMember
from xtok.evaluate.progress import Tell
from xtok.pretrain import fit_rvq

RVQ = "rvq"  # our own codec without masked modelling; the other baselines are known to xtok.evaluate


@dataclass(frozen=True)
class SemanticsRequest:
    """What semantic measures are wanted: on at most `chunks` held-out chunks; alignment too where `features` (a
    teacher's store) and `heads` (the run that trained heads on them) are given, both or neither."""

    chunks: int
    features: Path | None = None
    heads: str | None = None


def names_subtasks(dataset: EpisodeDataset) -> bool:
    """Whether the episodes of a set say which sub-task is done when (the first one speaks for all)."""
    return bool(dataset[0].subtasks)


def measure_tokenizer(
    dataset: EpisodeDataset,
    tokenizer: AnyTokenizer,
    horizons: Sequence[int],
    split: Split,
    baselines: Sequence[str],
    budget: Budget,
    tell: Tell,
    compare: Mapping[str, AnyTokenizer] | None = None,
    semantics: SemanticsRequest | None = None,
    corrupt: bool = False,
    pool: Sequence[PoolMember] = (),
) -> Evaluation:
    """All figures of a tokenizer on a data set, semantic measures included where they are wanted.

    Args:
        dataset: train episodes fit the baselines, those of `split` are coded.
        horizons: T, frames a chunk.
        baselines: some of "fast", "bins", "rvq".
        tell: shows what is being done and which share of it.
        compare: further tokenizers by name.
        pool: train episodes of other robots, for `fast-pooled`.

    Raises:
        ValueError: as `evaluate_dataset` and `measure_semantics`.
    """
    tokenizers: dict[str, AnyTokenizer] = {tokenizer.name: tokenizer, **(compare or {})}
    if RVQ in baselines:
        tell(f"placing the books of {RVQ} on the train episodes of {dataset.name}", 0.0)
        tokenizers[RVQ] = fit_rvq(dataset.layout, select(dataset, "train"))
    evaluation = evaluate_dataset(
        dataset,
        tokenizers,
        tokenizer.statistics,
        {name: each.digest for name, each in tokenizers.items()},
        horizons=horizons,
        split=split,
        baselines=[name for name in baselines if name != RVQ],
        budget=budget,
        tell=tell.within(0.05 if RVQ in baselines else 0.0, 1.0 if semantics is None else 0.7),
        corrupt=corrupt,
        pool=pool,
        robots_known_by=robots_known_by(tokenizer, dataset.embodiments),
    )
    if semantics is None:
        return evaluation
    from xtok.benchmark.semantics import horizon_of, measure_semantics  # heads and a store of features: seconds

    evaluated = [int(T) for T in evaluation.result["horizons"]]
    horizon = horizon_of(dataset, evaluated, evaluation.illustration.horizon)
    tell("what the codes mean", 0.7)
    found = measure_semantics(
        dataset,
        tokenizers,
        evaluation.result["fast_fit"][str(horizon)],
        horizon,
        semantics.features,
        semantics.heads,
        test_chunks=semantics.chunks,
    )
    return evaluation if found is None else replace(evaluation, result={**evaluation.result, "semantics": found})


def robots_known_by(tokenizer: AnyTokenizer, robots: Sequence[str]) -> dict[str, str] | None:
    """Robot -> how the tokenizer knows it, where it has not learned it: "measured" on train episodes, or "ranges"."""
    known: dict[str, str] = {
        robot: how for robot in robots if (how := tokenizer.known_by.get(robot)) in ("measured", "ranges")
    }
    return known or None
