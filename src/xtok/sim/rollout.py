"""Closed loop: policies act, success and progress are counted with 95 % intervals, on the same seeds for all.

An episode depends on its cell, level, split, seed and policy alone, so workers change nothing but time. Each result is
appended to a ledger as it comes; a run that was stopped goes on from it.

# N goals of an episode, H goals of one act, D channels of arms26
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xtok.actions.layout import ARMS26
from xtok.actions.types import ActionTokenizer
from xtok.atomic import atomic_write
from xtok.data.digests import differences
from xtok.policy import Policy
from xtok.sim.policies import Coded, Demonstration, ReplayPolicy, factory, through
from xtok.sim.recorder import seeds
from xtok.sim.suite import get_cell
from xtok.sim.workers import EpisodeSpec, environment, run_jobs

if TYPE_CHECKING:
    from xtok.sim.variation import Level, Split

EXPERT, RAW = "expert", "raw"
HOLD_STEPS = 20  # a replay holds its last goal for a second: things may still have to settle


@dataclass(frozen=True)
class Result:
    """One episode of one policy. progress: share of the task's stages, 0..1. bits: spent on its codes, if any."""

    task: str
    arm: str
    level: Level
    split: Split
    seed: int
    policy: str
    success: bool
    progress: float
    steps: int
    bits: float | None = None
    chunks: int | None = None
    chunks_failed: int | None = None

    @property
    def episode(self) -> EpisodeSpec:
        return EpisodeSpec(self.task, self.arm, self.level, self.split, self.seed)


@dataclass(frozen=True)
class Coder:
    """A tokenizer to send commands through. whole: it knows one length only, so the last chunk is padded to it."""

    tokenizer: ActionTokenizer
    whole: bool = False


def plan(
    cells: Sequence[tuple[str, str]], levels: Sequence[Level], episodes: int, split: Split = "eval"
) -> list[EpisodeSpec]:
    """The episodes of a test: the first seeds of each cell and level."""
    if episodes < 1:
        raise ValueError(f"episodes is {episodes}; expected 1 or more of each cell")
    specs = []
    for task, arm in cells:
        get_cell(task, arm)
        for level in levels:
            specs += [EpisodeSpec(task, arm, level, split, s) for s in islice(seeds(task, arm, level, split), episodes)]
    return specs


# -- one episode --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """A policy by name on one episode."""

    episode: EpisodeSpec
    policy: str
    image_size: int | None = None  # pixels; None for a policy that looks at no pictures


@dataclass(frozen=True)
class Replay:
    """Commands on one episode, under the name of what they came through."""

    episode: EpisodeSpec
    policy: str
    goals_ND: np.ndarray = field(repr=False)
    frames: int  # of one act


def run_trial(trial: Trial) -> Result:
    spec = trial.episode
    env = environment(spec, trial.image_size is not None, trial.image_size or 96)
    make = factory(trial.policy)
    return _roll(env, spec, trial.policy, lambda: make(env, spec.seed)).result


def run_replay(replay: Replay) -> Result:
    env = environment(replay.episode, views=False)
    policy = ReplayPolicy(replay.goals_ND, replay.frames)
    return _roll(env, replay.episode, replay.policy, lambda: policy, len(replay.goals_ND) + HOLD_STEPS).result


def demonstrate(spec: EpisodeSpec) -> tuple[Result, Demonstration]:
    """Let the expert act, and keep what it commanded."""
    env = environment(spec, views=False)
    starts: list[np.ndarray] = []

    def make() -> Policy:
        starts.append(np.array(env.state_D(), dtype=np.float64))
        return factory(EXPERT)(env, spec.seed)

    acted = _roll(env, spec, EXPERT, make)
    goals_ND = np.stack(acted.commanded).astype(np.float64)
    mask_D = np.asarray(env.mask_D, bool)
    return acted.result, Demonstration(starts[0], goals_ND, mask_D, env.embodiment, env.control_hz)


@dataclass(frozen=True)
class _Acted:
    """What came of an episode, and the goal [D] that was commanded at each of its steps."""

    result: Result
    commanded: list[np.ndarray]


def _roll(env: Any, spec: EpisodeSpec, name: str, make: Callable[[], Policy], limit: int | None = None) -> _Acted:
    """Reset, then act until the episode ends, or for `limit` steps. `make` is called after the reset."""
    observation, info = env.reset(seed=spec.seed, options={"split": spec.split})
    policy = make()
    policy.reset(env.instruction)
    steps, over = 0, False
    commanded: list[np.ndarray] = []
    while not over:
        for goal_D in _checked(policy.act(observation), name):
            observation, _, terminated, truncated, info = env.step(goal_D[None])
            steps += 1
            commanded.append(np.array(info["commanded"][-1]))
            over = terminated or truncated or steps == limit
            if over:
                break
    result = Result(
        **asdict(spec), policy=name, success=bool(info["success"]), progress=float(info["progress"]), steps=steps
    )
    return _Acted(result, commanded)


def _checked(chunk_HD: np.ndarray, name: str) -> np.ndarray:
    chunk_HD = np.asarray(chunk_HD, dtype=np.float64)
    if chunk_HD.ndim != 2 or len(chunk_HD) == 0 or chunk_HD.shape[1] != ARMS26.width:
        raise ValueError(f"policy {name!r} acted {chunk_HD.shape}; expected goals [H, {ARMS26.width}] with H >= 1")
    return chunk_HD


# -- many episodes ------------------------------------------------------------------------------------------------


class Ledger:
    """Results in a file, one JSON a line after a line of settings. A last line cut short by a kill is left out."""

    def __init__(self, path: Path | None, settings: Mapping[str, object], resume: bool = False) -> None:
        self.results: dict[tuple[str, EpisodeSpec], Result] = {}
        self._file = None
        if path is None:
            return
        head = json.dumps(settings, sort_keys=True)
        lines: list[str] = []
        if path.exists():
            check_resume(path, resume)
            lines = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
            if lines and lines[0].rstrip("\n") != head:
                different = ", ".join(differences(json.loads(lines[0]), settings))
                raise ValueError(
                    f"{path} is of a run with other settings: {different}; give that run's command, or remove the file"
                )
            for line in lines[1:]:
                self._keep(Result(**json.loads(line)))
        atomic_write(path, "".join(lines) or head + "\n")
        self._file = path.open("a", encoding="utf-8")

    def add(self, result: Result) -> None:
        self._keep(result)
        if self._file is not None:
            self._file.write(json.dumps(asdict(result)) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def __contains__(self, key: tuple[str, EpisodeSpec]) -> bool:
        return key in self.results

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _keep(self, result: Result) -> None:
        self.results[result.policy, result.episode] = result


def check_resume(path: Path, resume: bool) -> None:
    """Raises ValueError if the ledger of a run that was stopped is there and nobody said what to do with it."""
    if path.exists() and not resume:
        raise ValueError(f"{path} holds results of a run that was stopped; add --resume, or remove it")


def evaluate(
    policy: str, specs: Sequence[EpisodeSpec], ledger: Ledger, workers: int = 1, image_size: int | None = None
) -> Iterator[Result]:
    """A policy by name on every episode; results come as they are done, those in the ledger first."""
    factory(policy)  # an unknown name is told before work begins
    yield from (ledger.results[policy, spec] for spec in specs if (policy, spec) in ledger)
    jobs = [Trial(spec, policy, image_size) for spec in specs if (policy, spec) not in ledger]
    for _, result in run_jobs(run_trial, jobs, workers):
        ledger.add(result)
        yield result


def evaluate_replay(
    coders: Mapping[str, Mapping[str, Coder]],
    specs: Sequence[EpisodeSpec],
    ledger: Ledger,
    workers: int = 1,
    horizon: int = 32,
) -> Iterator[Result]:
    """The expert, its commands as they were ("raw"), and its commands through each coder, on the same episodes.

    coders: arm -> name -> coder; the same names for every arm.
    """
    names = (EXPERT, RAW, *next(iter(coders.values())))
    for spec in specs:
        yield from (ledger.results[name, spec] for name in names if (name, spec) in ledger)
    open_specs = [spec for spec in specs if any((name, spec) not in ledger for name in names)]
    replays: list[Replay] = []
    costs: dict[tuple[str, EpisodeSpec], Coded] = {}
    for spec, (result, demonstration) in run_jobs(demonstrate, open_specs, workers):
        if (EXPERT, spec) not in ledger:
            ledger.add(result)
            yield result
        if (RAW, spec) not in ledger:
            replays.append(Replay(spec, RAW, demonstration.goals_ND, horizon))
        for name, coder in coders[spec.arm].items():
            if (name, spec) not in ledger:
                coded = through(coder.tokenizer, demonstration, horizon, coder.whole)
                replays.append(Replay(spec, name, coded.goals_ND, horizon))
                costs[name, spec] = coded
    order = {spec: i for i, spec in enumerate(specs)}
    replays.sort(key=lambda replay: order[replay.episode])
    for replay, done in run_jobs(run_replay, replays, workers):
        cost = costs.get((replay.policy, replay.episode))
        result = done if cost is None else _with_cost(done, cost)
        ledger.add(result)
        yield result


def _with_cost(result: Result, coded: Coded) -> Result:
    return replace(result, bits=coded.bits, chunks=coded.chunks, chunks_failed=coded.chunks_failed)
