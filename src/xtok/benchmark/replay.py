"""The tokenizers that an expert's commands are sent through: ours at several prices, FAST and bins at the same.

Slots are taken at each level, and FAST at as many bits; motion words at their own rate and at M, 2M, 3M and 4M tokens
a chunk (M = T / 4), and FAST at as many tokens.

A robot that the tokenizer does not know is measured, or adapted to, on recorded demonstrations; FAST is fitted on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from xtok.actions.types import HORIZON_MAX, ActionTokenizer, ChunkBatch, Codes, slots
from xtok.baselines.bins import BinTokenizer
from xtok.codec.load import AnyTokenizer, load_tokenizer
from xtok.codec.words import WordTokenizer
from xtok.data import Episode, iter_chunks, open_dataset, select
from xtok.data.readers.tables import read_parquet
from xtok.evaluate.batches import encode
from xtok.evaluate.coded import Coded
from xtok.evaluate.compare import CURVE
from xtok.evaluate.fit import fit_baselines
from xtok.evaluate.rate import bits_mean, tokens_mean
from xtok.evaluate.result import FastFitJson
from xtok.evaluate.strides import spread_chunks
from xtok.messages import say
from xtok.pretrain import adapt, adapt_words, measure
from xtok.sim.arms import get_arm
from xtok.sim.recorder import folder_name
from xtok.sim.rollout import Coder
from xtok.sim.tasks.names import HELD_OUT_TASKS

TOKENIZERS = ("xtok", "fast", "bins")
FAST_CHUNKS = 4096  # train chunks that FAST's vocabulary is fitted to
BINS, BINS_MOST = 256, 4096
PRICED = 256  # train chunks on which the rates of motion words are found
HOLD_FRAMES = 16  # a short episode is prolonged to so many more than the longest chunk has


@dataclass(frozen=True)
class FastPoint:
    """FAST at one scale. bits, tokens: means of a held-out chunk."""

    bits: float
    tokens: float
    scale: float
    form: str | None

    def to_json(self) -> dict[str, float | str | None]:
        return {
            "bits_on_held_out_chunks": round(self.bits, 2),
            "tokens_on_held_out_chunks": round(self.tokens, 2),
            "scale": self.scale,
            "form": self.form,
        }


@dataclass(frozen=True)
class Baselines:
    """Name -> coder, and how they were set. bits, tokens: what ours spends on a held-out chunk at each of its points.

    fast: how FAST was fitted, as `xtok.evaluate.fit.Fitted.fast`. fast_points: coder's name -> its scale and bits.
    """

    coders: dict[str, Coder]
    bits: tuple[float, ...]
    tokens: tuple[float, ...]
    fast: FastFitJson | None = None
    fast_points: Mapping[str, FastPoint] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        return {
            "xtok_bits_on_held_out_chunks": [round(bits, 2) for bits in self.bits],
            "xtok_tokens_on_held_out_chunks": [round(tokens, 2) for tokens in self.tokens],
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
    tokenizer = load_tokenizer(tokenizer_name or "arms26")
    return {arm: _arm_coders(arm, tokenizer, tokenizers, data, horizon, adapt_all) for arm in dict.fromkeys(arms)}


def _arm_coders(
    arm: str, tokenizer: AnyTokenizer, tokenizers: Sequence[str], data: Path | None, horizon: int, adapt_all: bool
) -> ArmCoders:
    robot = get_arm(arm).embodiment
    must_adapt = adapt_all or robot not in tokenizer.statistics
    words = isinstance(tokenizer, WordTokenizer)
    train, held_out = _demonstrations(arm, data) if must_adapt or words or "fast" in tokenizers or data else ([], [])
    if must_adapt:
        say(f"measuring {robot} on {len(train)} train episodes of {data}")
        # A robot that no training saw is served by what training left: closed forms, no book placed on its motion.
        if isinstance(tokenizer, WordTokenizer):
            shared = not adapt_all and tokenizer.codec.shared is not None
            tokenizer = adapt_words(tokenizer, train, "shared" if shared else "own")
        else:
            tokenizer = (adapt if adapt_all else measure)(tokenizer, train)
    points: Sequence[ActionTokenizer] = tokenizer.rate_points()
    if isinstance(tokenizer, WordTokenizer):
        priced = spread_chunks(train, horizon, PRICED)
        assert priced is not None, "demonstrations are prolonged to the longest chunk"
        points = _word_points(tokenizer, priced)
    coders = {point.name: Coder(point) for point in points} if "xtok" in tokenizers else {}
    baselines = None
    if {"fast", "bins"} & set(tokenizers):
        if not held_out:
            raise ValueError(f"fast and bins are set to what xtok spends on recorded episodes of {arm}; give --data")
        (chunks,) = iter_chunks(held_out, horizon, horizon, batch_size=1 << 20, short="skip")
        codes = [encode(point, chunks) for point in points]
        baselines = _baselines(tokenizer, codes, tokenizers, train, chunks)
        coders |= baselines.coders
    return ArmCoders(coders, tokenizer.digest, must_adapt, robot, baselines)


def _word_points(tokenizer: WordTokenizer, chunks: ChunkBatch) -> list[WordTokenizer]:
    """Its own rate, then M to 4M mean tokens on some train chunks."""
    points = [tokenizer]
    for times in CURVE:
        point = tokenizer.with_tokens(times * slots(chunks.context.horizon), chunks)
        points.append(WordTokenizer(point.codec, point.coding, f"{tokenizer.name}~{times}M"))
    return points


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
    tokenizer: AnyTokenizer,
    ours: Sequence[Codes],
    tokenizers: Sequence[str],
    train: Sequence[Episode],
    chunks: ChunkBatch,
) -> Baselines:
    """FAST (the best of its forms) at the price nearest to that of each point of ours, and bins: 256, and as many as
    come nearest to the last point's bits."""
    bits, tokens = tuple(map(bits_mean, ours)), tuple(map(tokens_mean, ours))
    words = isinstance(tokenizer, WordTokenizer)
    coders: dict[str, Coder] = {}
    fast, fast_points = None, {}
    if "fast" in tokenizers:
        say(f"fitting FAST on {len(train)} train episodes")
        subject = Coded(tokenizer, chunks)
        fitted = fit_baselines(["fast"], train, subject, tokenizer.statistics, FAST_CHUNKS)
        sweep, fast = fitted.coded["fast"], fitted.fast
        points = {point: _fast_point(point, codes) for point, codes in zip(sweep.points, sweep.rate_codes, strict=True)}
        for number, spent in enumerate(tokens if words else bits):
            point = min(points, key=lambda each: abs((points[each].tokens if words else points[each].bits) - spent))
            name = f"fast~{number + 1}" if not words else f"fast~{CURVE[number - 1]}M" if number else "fast~own"
            coders[name] = Coder(point, whole=True)
            fast_points[name] = points[point]
    if "bins" in tokenizers:
        mask_D = chunks.context.mask_BD[0]
        values = chunks.context.horizon * int(mask_D.sum())
        nearest = min(BINS_MOST, max(2, round(2 ** (bits[-1] / values))))
        for bins in sorted({nearest, BINS}):
            coders[f"bins-{bins}"] = Coder(BinTokenizer(tokenizer.statistics, bins))
    return Baselines(coders, bits, tokens, fast, fast_points)


def _fast_point(point: ActionTokenizer, codes: Codes) -> FastPoint:
    scale, form = float(getattr(point, "scale", float("nan"))), getattr(point, "form", None)
    return FastPoint(bits_mean(codes), tokens_mean(codes), scale, form)
