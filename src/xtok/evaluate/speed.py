"""How long a chunk takes, alone (a robot waiting for its next motion) and in a batch (a corpus being coded)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import TypedDict

from xtok.actions.types import ActionTokenizer, ChunkBatch, Codes
from xtok.evaluate.batches import BATCH_SIZE

REPEATS = 5
BUDGET_S = 1.0  # fewer repeats where they take longer together
SINGLES = 8  # batch 1: so many different chunks a repeat, because time may depend on the motion


class SpeedFigures(TypedDict):
    """Milliseconds a chunk, at batch 1 and batched at up to 256."""

    encode_ms_per_chunk: float
    decode_ms_per_chunk: float
    encode_ms_per_chunk_batched: float
    decode_ms_per_chunk_batched: float


def run(tokenizer: ActionTokenizer, chunks: ChunkBatch) -> SpeedFigures:
    """Medians of a few runs each."""
    singles = [chunks[i : i + 1] for i in range(min(SINGLES, len(chunks)))]
    encode_ms, decode_ms = _ms_per_chunk(tokenizer, singles)
    encode_ms_batched, decode_ms_batched = _ms_per_chunk(tokenizer, [chunks[:BATCH_SIZE]])
    return {
        "encode_ms_per_chunk": encode_ms,
        "decode_ms_per_chunk": decode_ms,
        "encode_ms_per_chunk_batched": encode_ms_batched,
        "decode_ms_per_chunk_batched": decode_ms_batched,
    }


def _ms_per_chunk(tokenizer: ActionTokenizer, batches: Sequence[ChunkBatch]) -> tuple[float, float]:
    """To encode and to decode."""
    codes = _encode(tokenizer, batches)
    count = sum(len(batch) for batch in batches)
    encode_ms = _median_ms(partial(_encode, tokenizer, batches)) / count
    return encode_ms, _median_ms(partial(_decode, tokenizer, codes, batches)) / count


def _encode(tokenizer: ActionTokenizer, batches: Sequence[ChunkBatch]) -> list[Codes]:
    return [tokenizer.encode(batch) for batch in batches]


def _decode(tokenizer: ActionTokenizer, codes: Sequence[Codes], batches: Sequence[ChunkBatch]) -> None:
    for each, batch in zip(codes, batches, strict=True):
        tokenizer.decode(each, batch.context)


def _median_ms(call: Callable[[], object]) -> float:
    """Of calls after the first, which warms up; of the first alone where it takes longer than the budget."""
    times_ms: list[float] = []
    while len(times_ms) <= REPEATS and sum(times_ms) < 1000 * BUDGET_S:
        start_s = time.perf_counter()
        call()
        times_ms.append(1000.0 * (time.perf_counter() - start_s))
    return median(times_ms[1:] or times_ms)
