"""All questions put to all tokenizers: the entries of the `xtok eval` JSON.

# T frames of a chunk
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from xtok.actions.statistics import Statistics
from xtok.actions.types import ActionTokenizer, ChunkBatch
from xtok.evaluate import codebook, compare, rate, reconstruction, robustness, speed, swap
from xtok.evaluate.codebook import CodebookFigures
from xtok.evaluate.coded import Coded
from xtok.evaluate.compare import FAST, RIVALS, Rival
from xtok.evaluate.progress import Tell, silent
from xtok.evaluate.rate import RateFigures, RatePoint
from xtok.evaluate.reconstruction import ReconstructionFigures
from xtok.evaluate.result import Entry, EvaluationResult
from xtok.evaluate.robustness import RobustnessFigures
from xtok.evaluate.speed import SpeedFigures
from xtok.evaluate.swap import SwapFigures
from xtok.evaluate.sweep import Sweep

Figures = TypeVar("Figures")
ENTRY_KEYS = tuple(Entry.__annotations__)  # every entry has exactly these


def evaluate(
    tokenizers: Mapping[str, ActionTokenizer | Coded],
    chunks: ChunkBatch,
    statistics: Mapping[str, Statistics],
    seed: int,
    sigmas: Sequence[float] = robustness.SIGMAS,
    train: ChunkBatch | None = None,
    tell: Tell = silent,
) -> dict[str, Entry]:
    """One horizon: tokenizer name -> its entry, all on the same chunks, in the same units and under the same noise.

    Args:
        tokenizers: those called as RIVALS are, if any, are what all are held against at equal bits and equal tokens.
            One that comes as `Coded` has coded the chunks already.
        chunks: all chunks of one length T, with anchors.
        statistics: by embodiment; the normalised units of l1.
        seed: of noise and swapped tokens.
        train: chunks of train episodes, on whose tokens the entropy coder's frequencies are fitted.

    Raises:
        ValueError: a figure that is not finite, chunks without anchors, or an embodiment without statistics.
    """
    coded = {name: each if isinstance(each, Coded) else Coded(each, chunks, train) for name, each in tokenizers.items()}
    answers = {}
    for number, (name, each) in enumerate(coded.items()):
        part = tell.within(number / len(coded), (number + 1) / len(coded), f"{name}: ")
        answers[name] = _ask(name, each, statistics, seed, sigmas, part)
    rivals = [
        Rival(name, answers[name].rate["rate_distortion"], _ends(coded[name])) for name in RIVALS if name in answers
    ]
    return {name: _entry(name, each, chunks.context.horizon, rivals) for name, each in answers.items()}


def _ends(coded: Coded) -> tuple[str | None, str | None]:
    return coded.tokenizer.ends if isinstance(coded.tokenizer, Sweep) else (None, None)


def to_json(result: EvaluationResult) -> str:
    """Strict JSON (no NaN or Infinity), stable for the same result."""
    return json.dumps(result, indent=2, allow_nan=False) + "\n"


@dataclass(frozen=True)
class _Answers:
    """Of one tokenizer, question by question."""

    reconstruction: ReconstructionFigures
    rate: RateFigures
    robustness: RobustnessFigures
    codebook: CodebookFigures
    swap: SwapFigures
    speed: SpeedFigures


def _ask(
    name: str, coded: Coded, statistics: Mapping[str, Statistics], seed: int, sigmas: Sequence[float], tell: Tell
) -> _Answers:
    tell("encoding", 0.0)
    errors = _finite(reconstruction.run(coded, statistics), name)
    tell("errors at every rate", 0.2)
    price = _finite(rate.run(coded, statistics), name)
    tell("codes under noise", 0.5)
    noise = _finite(robustness.run(coded, seed, sigmas), name)
    use = _finite(codebook.run(coded), name)
    tell("one wrong token", 0.8)
    swapped = _finite(swap.run(coded, statistics, seed), name)
    tell("speed", 0.9)
    return _Answers(errors, price, noise, use, swapped, _finite(speed.run(coded.tokenizer, coded.chunks), name))


def _entry(name: str, answers: _Answers, horizon: int, rivals: Sequence[Rival]) -> Entry:
    """The answers with what they are worth beside the rivals', in the order of the JSON."""
    errors, price, noise, use = answers.reconstruction, answers.rate, answers.robustness, answers.codebook
    swapped, time_ms, points = answers.swap, answers.speed, price["rate_distortion"]
    own = compare.figures_of(errors)
    at_bits = compare.at_equal("bits", price["bits_mean"], own, rivals)
    at_entropy = compare.at_equal("entropy_bits", price["entropy_bits_mean"], own, rivals)
    fast = at_bits.get(FAST, compare.Figures(reason="FAST was not evaluated"))
    entry: Entry = {
        "tokens_mean": price["tokens_mean"],
        "bits_mean": price["bits_mean"],
        "entropy_bits_mean": price["entropy_bits_mean"],
        "l1": errors["l1"],
        "position_mm": errors["position_mm"],
        "rotation_deg": errors["rotation_deg"],
        "gripper": errors["gripper"],
        "joint": errors["joint"],
        "wer": noise["wer"],
        "q0_flip": noise["q0_flip"],
        "flip_per_level": noise["flip_per_level"],
        "usage": use["usage"],
        "perplexity": use["perplexity"],
        "books": use["books"],
        "encode_ms_per_chunk": time_ms["encode_ms_per_chunk"],
        "decode_ms_per_chunk": time_ms["decode_ms_per_chunk"],
        "encode_ms_per_chunk_batched": time_ms["encode_ms_per_chunk_batched"],
        "decode_ms_per_chunk_batched": time_ms["decode_ms_per_chunk_batched"],
        "decode_failures": errors["decode_failures"],
        "swap_failure_rate": swapped["swap_failure_rate"],
        "swap_repaired_rate": swapped["swap_repaired_rate"],
        "swap_l1": swapped["swap_l1"],
        "swap_position_mm": swapped["swap_position_mm"],
        "rate_distortion": [point.to_dict() for point in points],
        "l1_vs_fast_at_equal_bits": fast.l1,
        "l1_vs_fast_reason": fast.reason,
        "at_equal_bits": {rival: figures.to_dict() for rival, figures in at_bits.items()},
        "at_equal_entropy_bits": {rival: figures.to_dict() for rival, figures in at_entropy.items()},
        "curve": [point.to_dict() for point in compare.curve(name, points, horizon, rivals)],
    }
    return _finite(entry, name)


def _finite(figures: Figures, where: str) -> Figures:
    """The figures, and a refusal of numbers that are not finite, with their place."""
    _refuse(figures, where)
    return figures


def _refuse(value: object, where: str) -> None:
    if isinstance(value, RatePoint):
        value = value.to_dict()
    if isinstance(value, Mapping):
        for key, item in value.items():
            _refuse(item, f"{where}.{key}")
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _refuse(item, f"{where}[{i}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}: the tokenizer decoded something that is not finite; check its weights")
