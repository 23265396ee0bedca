"""What came of the episodes of a run: success, progress and price by policy, and one policy against another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypedDict, TypeVar

import numpy as np

from xtok.sim.intervals import EstimateJson, bootstrap_mean, paired_ratio, wilson
from xtok.sim.rollout import RAW, Result

Figures = TypeVar("Figures")


class _EpisodeFigures(TypedDict):
    episodes: int
    successes: int
    success: EstimateJson
    progress: EstimateJson
    steps: float


class EpisodeFigures(_EpisodeFigures, total=False):
    """Of some episodes of one policy. steps: their mean. The last two only where codes were spent."""

    bits_a_chunk: float
    chunks_failed: int


class PairedFigures(TypedDict):
    """Against a reference on the same seeds. ratio: of successes. kept: share of the reference's successes that the
    policy kept. lost, gained: episodes."""

    ratio: EstimateJson
    kept: EstimateJson
    lost: int
    gained: int


class ByGroup(TypedDict, Generic[Figures]):
    """Of a policy in all, and by task, arm and cell ("TASK-ARM-LEVEL")."""

    all: Figures
    tasks: dict[str, Figures]
    arms: dict[str, Figures]
    cells: dict[str, Figures]


def summarise(results: Iterable[Result]) -> dict[str, ByGroup[EpisodeFigures]]:
    """Policy -> "all", and by task, arm and cell: success rate and progress with intervals, and bits a chunk."""
    return {policy: _by_group(_figures, mine) for policy, mine in _by_policy(results).items()}


def compare(results: Iterable[Result], reference: str = RAW) -> dict[str, ByGroup[PairedFigures]]:
    """Policy -> as above: successes over those of `reference` on the same seeds, with a paired interval; and of the
    seeds on which the reference succeeded, the share that the policy kept.
    """
    by_policy = _by_policy(results)
    successes = {row.episode: row.success for row in by_policy.pop(reference, [])}

    def figures(mine: Sequence[Result]) -> PairedFigures:
        ours = [row.success for row in mine]
        theirs = [successes[row.episode] for row in mine]
        kept = sum(a and b for a, b in zip(ours, theirs, strict=True))
        return {
            "ratio": paired_ratio(ours, theirs).rounded(),
            "kept": wilson(kept, sum(theirs)).rounded(),
            "lost": sum(theirs) - kept,
            "gained": sum(ours) - kept,
        }

    return {policy: _by_group(figures, mine) for policy, mine in by_policy.items()}


def _figures(rows: Sequence[Result]) -> EpisodeFigures:
    figures: EpisodeFigures = {
        "episodes": len(rows),
        "successes": sum(row.success for row in rows),
        "success": wilson(sum(row.success for row in rows), len(rows)).rounded(),
        "progress": bootstrap_mean([row.progress for row in rows]).rounded(),
        "steps": round(float(np.mean([row.steps for row in rows])), 2),
    }
    coded = [row for row in rows if row.bits is not None]
    if coded:
        chunks = sum(row.chunks or 0 for row in coded)
        figures["bits_a_chunk"] = round(sum(row.bits or 0.0 for row in coded) / chunks, 2)
        figures["chunks_failed"] = sum(row.chunks_failed or 0 for row in coded)
    return figures


def _by_policy(results: Iterable[Result]) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    for result in sorted(results, key=_order):
        found.setdefault(result.policy, []).append(result)
    return found


def _by_group(figures: Callable[[Sequence[Result]], Figures], rows: Sequence[Result]) -> ByGroup[Figures]:
    def each(key: Callable[[Result], str]) -> dict[str, Figures]:
        groups: dict[str, list[Result]] = {}
        for row in rows:
            groups.setdefault(key(row), []).append(row)
        return {name: figures(mine) for name, mine in groups.items()}

    return {
        "all": figures(rows),
        "tasks": each(lambda row: row.task),
        "arms": each(lambda row: row.arm),
        "cells": each(lambda row: f"{row.task}-{row.arm}-{row.level}"),
    }


def _order(result: Result) -> tuple[str, str, str, int, str]:
    return result.task, result.arm, result.level, result.seed, result.policy
