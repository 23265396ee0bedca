"""Code sequences as a language model writes them, checked before they are decoded. docs/method.md#actions.

# B sequences, M slots, Q levels
A sequence is position-major: all Q levels of slot i before slot i + 1. Nothing is ever decoded to silent zeros.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

OnInvalid = Literal["raise", "repair"]


@dataclass(frozen=True)
class Checked:
    """codes_BMQ: every id within the book (0 where not present). present_BM: slots that were whole."""

    codes_BMQ: Int[Tensor, "B M Q"]
    present_BM: Bool[Tensor, "B M"]


def check_sequences(
    sequences: Sequence[np.ndarray], slots: int, levels: int, vocab_size: int, on_invalid: OnInvalid = "raise"
) -> Checked:
    """Sequences of M * Q ids as a grid.

    on_invalid="repair" keeps the whole slots before the first fault, and warns of what it dropped.

    Raises:
        ValueError: on_invalid="raise" and a sequence is short, long, or has an id outside [0, V); or, in either mode,
            ids that are no integers, or a sequence without one whole slot.
    """
    if on_invalid not in ("raise", "repair"):
        raise ValueError(f"on_invalid is {on_invalid!r}; expected 'raise' or 'repair'")
    expected = slots * levels
    grid = np.zeros((len(sequences), slots, levels), dtype=np.int64)
    present = np.zeros((len(sequences), slots), dtype=bool)
    for row, given in enumerate(sequences):
        sequence = _array(row, given)
        if sequence.ndim != 1 or sequence.dtype.kind not in "iu":
            raise ValueError(
                f"sequence {row} has shape {sequence.shape} and type {sequence.dtype}; "
                f"expected {expected} integers in one row"
            )
        outside = np.flatnonzero((sequence < 0) | (sequence >= vocab_size))
        whole = min(len(sequence), expected, *outside[:1].tolist()) // levels
        fault = _fault(row, sequence, outside, expected, vocab_size, levels)
        if fault and (on_invalid == "raise" or whole == 0):
            raise ValueError(
                f"{fault}; expected {slots} slots x {levels} levels, position-major. "
                + ("on_invalid='repair' decodes the whole slots" if whole else "There is no whole slot to decode")
            )
        if fault:
            warnings.warn(f"{fault}: decoded slots 0..{whole - 1}, dropped {slots - whole} of {slots}", stacklevel=3)
        grid[row, :whole] = sequence[: whole * levels].reshape(whole, levels)
        present[row, :whole] = True
    return Checked(torch.from_numpy(grid), torch.from_numpy(present))


def _array(row: int, given: Any) -> np.ndarray:
    try:
        if isinstance(given, Tensor):
            given = given.detach().cpu()
            given = given.float() if given.dtype == torch.bfloat16 else given
        out: np.ndarray = np.asarray(given)
    except Exception:  # whatever an object's own __array__ raises, too
        raise ValueError(f"sequence {row} is a {type(given).__name__} that is no array; expected integers") from None
    return out


def _fault(
    row: int, sequence: np.ndarray, outside: np.ndarray, expected: int, vocab_size: int, levels: int
) -> str | None:
    if len(outside):
        at = int(outside[0])
        return f"sequence {row}: id {int(sequence[at])} at position {at} is outside [0, {vocab_size})"
    if len(sequence) < expected:
        slot, level = divmod(len(sequence), levels)
        return f"sequence {row} ends after {len(sequence)} of {expected} ids (slot {slot}, level {level})"
    if len(sequence) > expected:
        return f"sequence {row} has {len(sequence)} ids, {len(sequence) - expected} too many"
    return None
