"""All questions put to all tokenizers: the entries of the `xtok eval` JSON.

# T frames of a chunk
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

from xtok.actions.statistics import Statistics
from xtok.actions.types import ActionTokenizer, ChunkBatch
from xtok.evaluate import codebook, compare, rate, reconstruction, robustness, speed, swap
from xtok.evaluate.coded import Coded
from xtok.evaluate.compare import FAST, RIVALS, Rival
from xtok.evaluate.progress import Tell, silent
from xtok.evaluate.rate import RatePoint
from xtok.evaluate.sweep import Sweep

# Every entry has exactly these keys; None says that the question has no answer for this tokenizer or robot.
ENTRY_KEYS = (
    "tokens_mean",
    "bits_mean",
    "entropy_bits_mean",
    "l1",
    "position_mm",
    "rotation_deg",
    "gripper",
    "joint",
    "wer",
    "q0_flip",
    "flip_per_level",
    "usage",
    "perplexity",
    "encode_ms_per_chunk",
    "decode_ms_per_chunk",
    "encode_ms_per_chunk_batched",
    "decode_ms_per_chunk_batched",
    "decode_failures",
    "swap_failure_rate",
    "swap_l1",
    "swap_position_mm",
    "rate_distortion",
    "l1_vs_fast_at_equal_bits",
    "l1_vs_fast_reason",
    "at_equal_bits",
    "at_equal_entropy_bits",
    "curve",
)

Entry = dict[str, Any]


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
    entries = {}
    for number, (name, each) in enumerate(coded.items()):
        part = tell.within(number / len(coded), (number + 1) / len(coded), f"{name}: ")
        entries[name] = _collect(name, _questions(each, statistics, seed, sigmas, part))
    points = {name: [RatePoint(**point) for point in entry["rate_distortion"]] for name, entry in entries.items()}
    rivals = [Rival(name, points[name], _ends(coded[name])) for name in RIVALS if name in entries]
    for name, entry in entries.items():
        entry |= _beside(name, entry, points[name], chunks.context.horizon, rivals)
    return {name: _checked(name, entry) for name, entry in entries.items()}


def _beside(
    name: str, entry: Entry, points: Sequence[RatePoint], horizon: int, rivals: Sequence[Rival]
) -> dict[str, Any]:
    own = compare.figures_of(entry)
    bits = compare.at_equal("bits", entry["bits_mean"], own, rivals)
    entropy = compare.at_equal("entropy_bits", entry["entropy_bits_mean"], own, rivals)
    curve = compare.curve(name, points, horizon, rivals)
    fast = bits.get(FAST, compare.Figures(reason="FAST was not evaluated"))
    return {
        "l1_vs_fast_at_equal_bits": fast.l1,
        "l1_vs_fast_reason": fast.reason,
        "at_equal_bits": _plain(bits, f"{name}.at_equal_bits"),
        "at_equal_entropy_bits": _plain(entropy, f"{name}.at_equal_entropy_bits"),
        "curve": _plain(curve, f"{name}.curve"),
    }


def _ends(coded: Coded) -> tuple[str | None, str | None]:
    return coded.tokenizer.ends if isinstance(coded.tokenizer, Sweep) else (None, None)


def to_json(result: Mapping[str, Any]) -> str:
    """Strict JSON (no NaN or Infinity), stable for the same result."""
    return json.dumps(result, indent=2, allow_nan=False) + "\n"


def _questions(
    coded: Coded, statistics: Mapping[str, Statistics], seed: int, sigmas: Sequence[float], tell: Tell
) -> Iterator[tuple[str, Any]]:
    tell("encoding", 0.0)
    yield from reconstruction.run(coded, statistics)
    tell("errors at every rate", 0.2)
    yield from rate.run(coded, statistics)
    tell("codes under noise", 0.5)
    yield from robustness.run(coded, seed, sigmas)
    yield from codebook.run(coded)
    tell("one wrong token", 0.8)
    yield from swap.run(coded, statistics, seed)
    tell("speed", 0.9)
    yield from speed.run(coded.tokenizer, coded.chunks)


def _collect(name: str, answers: Iterator[tuple[str, Any]]) -> Entry:
    entry: Entry = {}
    for key, value in answers:
        assert key not in entry, f"two questions answer {key!r}"
        entry[key] = _plain(value, f"{name}.{key}")
    return entry


def _checked(name: str, entry: Entry) -> Entry:
    """The entry in the order of ENTRY_KEYS, none missing and none unknown."""
    assert entry.keys() == set(ENTRY_KEYS), f"{name}: {entry.keys() ^ set(ENTRY_KEYS)}"
    return {key: entry[key] for key in ENTRY_KEYS}


def _plain(value: Any, where: str) -> Any:
    """Dataclasses to dicts, and a refusal of numbers that are not finite, with their place."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value), where)
    if isinstance(value, Mapping):
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}: the tokenizer decoded something that is not finite; check its weights")
    return value
