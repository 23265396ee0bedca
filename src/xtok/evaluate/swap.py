"""What one wrong token does: does the sequence still decode, and how far off is the motion?

# B chunks, M slots, Q levels
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypedDict

import numpy as np
import torch

from xtok.actions.statistics import Statistics
from xtok.actions.types import Actions, Codes
from xtok.evaluate.batches import BATCH_SIZE
from xtok.evaluate.coded import Coded
from xtok.evaluate.corruption import decode_or_not
from xtok.evaluate.errors import measure


class SwapFigures(TypedDict):
    """swap_failure_rate: share of chunks that no longer decode. swap_repaired_rate: share that decodes under
    on_invalid="repair" alone. swap_l1, swap_position_mm: over all chunks; one that does not decode counts as standing
    still."""

    swap_failure_rate: float
    swap_repaired_rate: float
    swap_l1: float
    swap_position_mm: float | None


def run(coded: Coded, statistics: Mapping[str, Statistics], seed: int) -> SwapFigures:
    """After one random token of each chunk became another one."""
    swapped, context = swap_one_token(coded.codes, seed), coded.chunks.context
    parts, repaired = [], 0
    for start in range(0, len(swapped), BATCH_SIZE):
        rows = slice(start, start + BATCH_SIZE)
        part, count = decode_or_not(coded.tokenizer, swapped.tokens[rows], swapped, context[rows])
        parts.append(part)
        repaired += count
    deltas, failed = [part.delta_BTD for part in parts], [part.failed_B for part in parts]
    actions = Actions(torch.cat(deltas), None, torch.cat(failed))
    errors = measure(coded.chunks, actions, statistics)
    return {
        "swap_failure_rate": float(actions.failed_B.double().mean()),
        "swap_repaired_rate": repaired / len(swapped),
        "swap_l1": errors.l1,
        "swap_position_mm": errors.position_mm,
    }


def swap_one_token(codes: Codes, seed: int) -> Codes:
    """Each sequence with one token, at a place drawn evenly, replaced by another one of the vocabulary."""
    rng = np.random.default_rng(seed)
    swapped = []
    for sequence in codes.tokens:
        place = rng.integers(len(sequence))
        other = sequence.copy()
        other[place] = (sequence[place] + rng.integers(1, codes.vocab_size)) % codes.vocab_size
        swapped.append(other)
    if codes.grid_BMQ is None:
        return replace(codes, tokens=tuple(swapped))
    return Codes.from_grid(torch.from_numpy(np.stack(swapped)).view_as(codes.grid_BMQ), codes.vocab_size)
