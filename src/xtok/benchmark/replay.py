"""The tokenizers that an expert's commands are sent through: ours at each level, FAST and bins at the same bits.

A robot that the tokenizer does not know is measured, or adapted to, on recorded demonstrations; FAST is fitted on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from xtok.actions.types import HORIZON_MAX, ActionTokenizer, ChunkBatch
from xtok.baselines.bins import BinTokenizer
from xtok.codec import Tokenizer
from xtok.data import Episode, iter_chunks, open_dataset, select
from xtok.data.readers.tables import read_parquet
from xtok.evaluate.coded import Coded
from xtok.evaluate.fit import fit_baselines
from xtok.evaluate.rate import bits_mean
from xtok.evaluate.result import FastFitJson
from xtok.messages import say
from xtok.pretrain import adapt, measure
from xtok.sim.arms import get_arm
from xtok.sim.recorder import folder_name
from xtok.sim.rollout import Coder
from xtok.sim.tasks.names import HELD_OUT_TASKS

TOKENIZERS = ("xtok", "fast", "bins")
FAST_CHUNKS = 4096  # train chunks that FAST's vocabulary is fitted to
BINS = 256
HOLD_FRAMES = 16  # a short episode is prolonged to so many more than the longest chunk has


@dataclass(frozen=True)
class FastPoint:
    """FAST at one scale. bits: mean of a held-out chunk."""

    bits: float
    scale: float
    form: str | None

    def to_json(self) -> dict[str, float | str | None]:
        return {"bits_on_held_out_chunks": round(self.bits, 2), "scale": self.scale, "form": self.form}


@dataclass(frozen=True)
class Baselines:
    """Name -> coder, and how they were set. level_bits: what ours spends on a held-out chunk at 1 .. Q levels.

    fast: how FAST was fitted, as `xtok.evaluate.fit.Fitted.fast`. fast_points: coder's name -> its scale and bits.
    """

    coders: dict[str, Coder]
    level_bits: tuple[float, ...]
    fast: FastFitJson | None = None
    fast_points: Mapping[str, FastPoint] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        return {
            "xtok_bits_on_held_out_chunks": [round(bits, 2) for bits in self.level_bits],
            **({} if self.fast is None else {"fast": self.fast}),
            **{name: point.to_json() for name, point in self.fast_points.items()},
        }


@dataclass(frozen=True)
class ArmCoders:
    """Name -> coder of one arm. digest, adapted, robot: of our tokenizer; baselines: None where none is wanted."""

    coders: dict[str, Coder]
    digest: str
    adapted: bool
    robot: str
    baselines: Baselines | None

    def to_json(self) -> dict[str, object]:
        own: dict[str, object] = {"digest": self.digest, "adapted": self.adapted, "robot": self.robot}
        return own | ({} if self.baselines is None else self.baselines.to_json())


def make_coders(
    arms: Sequence[str],
    tokenizer_name: str | None,
    tokenizers: Sequence[str],
    data: Path | None,
    horizon: int,
    adapt_all: bool,
) -> dict[str, ArmCoders]:
    """Arm -> its coders.

    Args:
        tokenizer_name: a folder, hub id or shipped weights; None for `arms26`.
        tokenizers: some of TOKENIZERS.
        data: a folder of `xtok sim record`, whose train episodes fit what must be fitted.
        horizon: T, frames a chunk.
        adapt_all: books of its own for every robot, instead of closed forms for those that the tokenizer lacks.

    Raises:
        ValueError: an unknown name in `tokenizers`, or demonstrations that are needed and missing or too few.
    """
    if unknown := set(tokenizers) - set(TOKENIZERS):
        raise ValueError(f"unknown --tokenizers {sorted(unknown)}; expected some of {list(TOKENIZERS)}")
    tokenizer = Tokenizer.from_pretrained(tokenizer_name or "arms26")
    return {arm: _arm_coders(arm, tokenizer, tokenizers, data, horizon, adapt_all) for arm in dict.fromkeys(arms)}


def _arm_coders(
    arm: str, tokenizer: Tokenizer, tokenizers: Sequence[str], data: Path | None, horizon: int, adapt_all: bool
) -> ArmCoders:
    robot = get_arm(arm).embodiment
    must_adapt = adapt_all or robot not in tokenizer.statistics
    train, held_out = _demonstrations(arm, data) if must_adapt or "fast" in tokenizers or data else ([], [])
    if must_adapt:
        say(f"measuring {robot} on {len(train)} train episodes of {data}")
        # A robot that no training saw is served by what training left: closed forms, no book placed on its motion.
        tokenizer = (adapt if adapt_all else measure)(tokenizer, train)
    coders = {point.name: Coder(point) for point in tokenizer.rate_points()} if "xtok" in tokenizers else {}
    baselines = None
    if {"fast", "bins"} & set(tokenizers):
        if not held_out:
            raise ValueError(
                f"fast and bins are set to the bits that xtok spends on recorded episodes of {arm}; give --data"
            )
        (chunks,) = iter_chunks(held_out, horizon, horizon, batch_size=1 << 20, short="skip")
        baselines = _baselines(tokenizer, tokenizers, train, chunks)
        coders |= baselines.coders
    return ArmCoders(coders, tokenizer.digest, must_adapt, robot, baselines)


def _demonstrations(arm: str, data: Path | None) -> tuple[list[Episode], list[Episode]]:
    """Commanded goals of an arm's recorded train and held-out episodes (every fifth), short ones prolonged.

    Episodes of held-out tasks are left out: no tokenizer is ever fitted to them.
    """
    if data is None:
        raise ValueError(
            f"the tokenizer does not know {arm}, or FAST is to be fitted; record demonstrations "
            f"(xtok sim record --arms {arm} --no-video --episodes 50 -o DIR) and give --data DIR"
        )
    dataset = open_dataset(data / folder_name(arm), action_source="commanded")
    root = data / folder_name(arm)
    tasks = read_parquet(root / "meta/episodes/chunk-000/file-000.parquet", ["episode_index", "env_task"]).to_pydict()
    kept_back = {i for i, task in zip(*tasks.values(), strict=True) if task in HELD_OUT_TASKS}  # nothing learns from it
    train, held_out = (
        [_prolonged(episode) for episode in select(dataset, split) if episode.index not in kept_back]
        for split in ("train", "heldout")
    )
    if not train or not held_out:
        raise ValueError(f"{root} has too few episodes of other tasks than {HELD_OUT_TASKS}; record 5 or more")
    return train, held_out


def _prolonged(episode: Episode) -> Episode:
    """An episode long enough for the longest chunk: its last goal is held, as the robot itself would hold it."""
    if len(episode) > HORIZON_MAX:
        return episode
    missing = HORIZON_MAX + HOLD_FRAMES - len(episode)
    absolute_ND = np.concatenate([episode.absolute_ND, np.repeat(episode.absolute_ND[-1:], missing, axis=0)])
    timestamps_s = np.arange(len(absolute_ND)) / episode.control_hz
    return replace(episode, absolute_ND=absolute_ND, timestamps_s=timestamps_s, subtasks=(), videos={})


def _baselines(
    tokenizer: Tokenizer, tokenizers: Sequence[str], train: Sequence[Episode], chunks: ChunkBatch
) -> Baselines:
    """FAST (the best of its forms) and bins at the bits nearest to those of each level of ours, and 256 bins."""
    subject = Coded(tokenizer, chunks)
    levels = tuple(bits_mean(codes) for codes in subject.rate_codes)
    coders: dict[str, Coder] = {}
    fast, fast_points = None, {}
    if "fast" in tokenizers:
        say(f"fitting FAST on {len(train)} train episodes")
        fitted = fit_baselines(["fast"], train, subject, tokenizer.statistics, FAST_CHUNKS)
        sweep, fast = fitted.coded["fast"], fitted.fast
        points = {point: bits_mean(codes) for point, codes in zip(sweep.points, sweep.rate_codes, strict=True)}
        for level, bits in enumerate(levels, start=1):
            point = min(points, key=lambda point: abs(points[point] - bits))
            coders[f"fast~{level}"] = Coder(point, whole=True)
            fast_points[f"fast~{level}"] = _fast_point(point, points[point])
    if "bins" in tokenizers:
        mask_D = chunks.context.mask_BD[0]
        values = chunks.context.horizon * int(mask_D.sum())
        nearest = max(2, round(2 ** (levels[-1] / values)))
        for bins in sorted({nearest, BINS}):
            coders[f"bins-{bins}"] = Coder(BinTokenizer(tokenizer.statistics, bins))
    return Baselines(coders, levels, fast, fast_points)


def _fast_point(point: ActionTokenizer, bits: float) -> FastPoint:
    return FastPoint(bits, float(getattr(point, "scale", float("nan"))), getattr(point, "form", None))
