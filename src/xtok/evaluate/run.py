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
from xtok.evaluate import codebook, rate, reconstruction, robustness, speed, swap
from xtok.evaluate.rate import FAST, RatePoint, l1_ratio_at_equal_bits

# Every entry has exactly these keys; None says that the question has no answer for this tokenizer or robot.
ENTRY_KEYS = (
    "tokens_mean",
    "bits_mean",
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
)

Entry = dict[str, Any]


def evaluate(
    tokenizers: Mapping[str, ActionTokenizer],
    chunks: ChunkBatch,
    statistics: Mapping[str, Statistics],
    seed: int,
    sigmas: Sequence[float] = robustness.SIGMAS,
) -> dict[str, Entry]:
    """One horizon: tokenizer name -> its entry, all on the same chunks, in the same units and under the same noise.

    Args:
        tokenizers: the one called "fast", if any, is what the others are held against at equal bits.
        chunks: all chunks of one length T, with anchors.
        statistics: by embodiment; the normalised units of l1.
        seed: of noise and swapped tokens.

    Raises:
        ValueError: a figure that is not finite, chunks without anchors, or an embodiment without statistics.
    """
    entries = {}
    for name, tokenizer in tokenizers.items():
        entries[name] = _collect(name, _questions(tokenizer, chunks, statistics, seed, sigmas))
    fast_points = [RatePoint(**point) for point in entries[FAST]["rate_distortion"]] if FAST in entries else []
    for entry in entries.values():
        equal = l1_ratio_at_equal_bits(entry["bits_mean"], entry["l1"], fast_points)
        entry |= {"l1_vs_fast_at_equal_bits": equal.ratio, "l1_vs_fast_reason": equal.reason}
    return {name: _checked(name, entry) for name, entry in entries.items()}


def to_json(result: Mapping[str, Any]) -> str:
    """Strict JSON (no NaN or Infinity), stable for the same result."""
    return json.dumps(result, indent=2, allow_nan=False) + "\n"


def _questions(
    tokenizer: ActionTokenizer,
    chunks: ChunkBatch,
    statistics: Mapping[str, Statistics],
    seed: int,
    sigmas: Sequence[float],
) -> Iterator[tuple[str, Any]]:
    yield from reconstruction.run(tokenizer, chunks, statistics)
    yield from rate.run(tokenizer, chunks, statistics)
    yield from robustness.run(tokenizer, chunks, seed, sigmas)
    yield from codebook.run(tokenizer, chunks)
    yield from swap.run(tokenizer, chunks, statistics, seed)
    yield from speed.run(tokenizer, chunks)


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
