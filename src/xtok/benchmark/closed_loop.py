"""A policy in the simulation, or an expert's commands through tokenizers: planned, run, and summed up in one report."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict

import torch

from xtok.benchmark.replay import TOKENIZERS, make_coders
from xtok.data.digests import folder_digest
from xtok.data.fingerprint import FILMS
from xtok.provenance import command, git_revision, versions
from xtok.sim.rollout import (
    Coder,
    Ledger,
    Result,
    check_resume,
    evaluate,
    evaluate_replay,
    plan,
)
from xtok.sim.staging import packages
from xtok.sim.summary import ByGroup, EpisodeFigures, PairedFigures, compare, summarise
from xtok.sim.variation import Level, Split
from xtok.sim.workers import EpisodeSpec

REPLAY = "replay"


@dataclass(frozen=True)
class ClosedLoopRequest:
    """What is asked for.

    policy: "expert", "random", "module:callable", or "replay[:TOKENIZER]". cells: (task, arm). episodes: of each cell
    and level. image_size: pixels a side, None for a policy that looks at no images. ledger: a file to which each result
    is appended, None for none; resume: go on from it.
    Of replays alone: tokenizers, some of TOKENIZERS; data, recorded demonstrations; horizon T, frames a chunk;
    adapt_all, books of its own for every robot.
    """

    policy: str
    cells: Sequence[tuple[str, str]]
    levels: Sequence[Level]
    episodes: int
    split: Split = "eval"
    image_size: int | None = None
    ledger: Path | None = None
    resume: bool = False
    tokenizers: Sequence[str] = TOKENIZERS
    data: Path | None = None
    horizon: int = 32
    adapt_all: bool = False

    @property
    def is_replay(self) -> bool:
        return self.policy.partition(":")[0] == REPLAY


class _Decisive(TypedDict):
    simulator: dict[str, str | None]


class Decisive(_Decisive, total=False):
    """What a policy's name does not say. simulator: versions. policy_code, data: hashes."""

    policy_code: str
    data: str


class Settings(Decisive, total=False):
    """All that decides a run, as its ledger and its report say. tokenizers: by arm, what its coders are."""

    policy: str
    cells: list[str]
    levels: list[Level]
    episodes: int
    split: Split
    image_size: int | None
    horizon: int
    tokenizers: Mapping[str, Mapping[str, object]]


class ReportJson(TypedDict):
    """A report in a file. episodes: fields of every `Result`."""

    settings: Settings
    policies: dict[str, ByGroup[EpisodeFigures]]
    against_raw: dict[str, ByGroup[PairedFigures]]
    episodes: list[dict[str, object]]
    versions: dict[str, str | None]
    git: str | None
    command: str


@dataclass(frozen=True)
class ClosedLoop:
    """A request that is ready to run. coders: arm -> name -> coder, empty but for replays. settings: decide the run."""

    request: ClosedLoopRequest
    specs: Sequence[EpisodeSpec]
    coders: dict[str, dict[str, Coder]]
    settings: Settings

    @property
    def rollouts(self) -> int:
        """How many results there will be."""
        runs = 2 + len(next(iter(self.coders.values()))) if self.request.is_replay else 1
        return len(self.specs) * runs

    def run(self, workers: int = 1) -> Iterator[Result]:
        """Results as they are done, those in the ledger among them.

        Raises:
            ValueError: the ledger is of a run with other settings.
        """
        request = self.request
        ledger = Ledger(request.ledger, self.settings, request.resume)
        if request.is_replay:
            yield from evaluate_replay(self.coders, self.specs, ledger, workers, request.horizon)
        else:
            yield from evaluate(request.policy, self.specs, ledger, workers, request.image_size)
        ledger.close()


@dataclass(frozen=True)
class ClosedLoopReport:
    """The JSON of `xtok sim eval`. policies, against_raw: as `summarise` and `compare` of xtok.sim.summary say."""

    settings: Settings
    policies: dict[str, ByGroup[EpisodeFigures]]
    against_raw: dict[str, ByGroup[PairedFigures]]
    episodes: Sequence[Result] = field(repr=False)

    def to_json(self) -> ReportJson:
        return {
            "settings": self.settings,
            "policies": self.policies,
            "against_raw": self.against_raw,
            "episodes": [vars(result) for result in self.episodes],
            "versions": versions(),
            "git": git_revision(),
            "command": command(),
        }


def prepare(request: ClosedLoopRequest) -> ClosedLoop:
    """Plan the episodes, and fit what a replay needs; minutes, where FAST is fitted.

    Raises:
        ValueError: no episodes, a ledger that is there without `resume`, or as `make_coders`.
    """
    specs = plan(request.cells, request.levels, request.episodes, request.split)
    settings: Settings = {
        "policy": request.policy,
        "cells": sorted({f"{spec.task}-{spec.arm}" for spec in specs}),
        "levels": list(request.levels),
        "episodes": request.episodes,
        "split": request.split,
        "image_size": request.image_size,
        **decisive(request.policy, request.data),
    }
    if request.ledger is not None:
        check_resume(request.ledger, request.resume)  # now, not after minutes of fitting
    coders: dict[str, dict[str, Coder]] = {}
    if request.is_replay:
        tokenizer = request.policy.partition(":")[2] or None
        arms = [spec.arm for spec in specs]
        made = make_coders(arms, tokenizer, request.tokenizers, request.data, request.horizon, request.adapt_all)
        coders = {arm: each.coders for arm, each in made.items()}
        settings["horizon"] = request.horizon
        settings["tokenizers"] = {arm: each.to_json() for arm, each in made.items()}
        torch.set_num_threads(1)  # single chunks from here on, and the workers want the other cores
    return ClosedLoop(request, specs, coders, settings)


def report(loop: ClosedLoop, results: Sequence[Result]) -> ClosedLoopReport:
    """All figures of a run."""
    return ClosedLoopReport(
        loop.settings,
        summarise(results),
        compare(results) if loop.request.is_replay else {},
        sorted(results, key=lambda r: (r.policy, r.episode.name)),
    )


def decisive(policy: str, data: Path | None) -> Decisive:
    """What a name alone does not say: the code of a policy of one's own, the demonstrations, the simulator."""
    decides: Decisive = {"simulator": packages()}
    module, colon, _ = policy.partition(":")
    if colon and module != REPLAY:
        found = find_spec(module) if module.replace(".", "").isidentifier() else None
        if found is not None and found.origin is not None and Path(found.origin).is_file():
            decides["policy_code"] = hashlib.sha256(Path(found.origin).read_bytes()).hexdigest()[:16]
    if data is not None and data.is_dir():
        decides["data"] = folder_digest(data, FILMS)
    return decides
