"""What codecs of channels that nobody described take: chunks [B, T, D] in about [-1, 1], and how they are looked at.

# B chunks, T frames, D channels (26 at most), N frames of all chunks
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from xtok.actions.entrance import array_of, caller, integers_of
from xtok.actions.types import HORIZON_MAX

CHANNELS_MAX = 26  # docs/method.md#actions: the width of the published layout
PLAIN = 2.0  # unfitted codes serve values up to this (docs/adapters.md tells the error beyond)
_SHARE, _LARGEST = 0.1, 10.0  # outside: more of the values, or further out, and it is another unit, not an outlier
_REMEDY = "normalise by quantiles of your train split, and clip the outliers yourself if you can do without them"


class SaturationWarning(UserWarning):
    """Some values lie outside the range that the codes were made for, and decode with a large error."""


@dataclass(frozen=True)
class Outside:
    """Values outside the range that the codes were made for. share: of all values. largest: value furthest from 0, in
    channel `channel`. expected: the range, in words."""

    share: float
    largest: float
    channel: int
    expected: str

    def __str__(self) -> str:
        return (
            f"{self.share:.2%} of the values lie outside {self.expected}; the largest is {self.largest:.4g} in channel "
            f"{self.channel}"
        )


class ChannelInput(ABC):
    """The checks that all codecs of channels share."""

    fitted: bool

    @property
    @abstractmethod
    def channels(self) -> int | None:
        """The D it was fitted on; None: any up to 26."""

    @property
    @abstractmethod
    def horizon_max(self) -> int:
        """The longest chunk: 64 frames, or the longest that it was fitted on."""

    @abstractmethod
    def _beyond(self, flat_ND: Float[np.ndarray, "N D"]) -> tuple[Bool[np.ndarray, "N D"], str]:
        """Which values lie outside the range that the codes were made for, and that range in words."""

    def checked(self, actions: Any, ndim: int = 2) -> np.ndarray:
        """Actions as float64 with channels last.

        Raises:
            ValueError: as `encode`.
        """
        expected = "[B, T, D]" if ndim == 3 else "[N, D]"
        array = array_of(actions, "actions", f"{expected} in [-1, 1]")
        if array.ndim != ndim or array.shape[-2] == 0:
            raise ValueError(f"actions have shape {array.shape}; expected {expected} with one frame or more")
        self._check_channels(array.shape[-1])
        if not np.isfinite(array).all():
            at = np.argwhere(~np.isfinite(array))[0].tolist()
            raise ValueError(f"actions hold {array[tuple(at)]} at index {at}; repair or drop the frame")
        self._check_range(array)
        return array

    def outside(self, actions: Any) -> Outside | None:
        """How much of [..., D] lies outside the range that the codes were made for; None: nothing.

        Raises:
            ValueError: no numbers, or channels that are not the codec's.
        """
        array = array_of(actions, "actions", "[..., T, D] in [-1, 1]")
        self._check_channels(array.shape[-1] if array.ndim else 0)
        return self._outside(array)

    def _outside(self, array: np.ndarray) -> Outside | None:
        flat_ND = array.reshape(-1, array.shape[-1])
        outside_ND, expected = self._beyond(flat_ND)
        if not outside_ND.any():
            return None
        row, channel = np.unravel_index(int(np.abs(flat_ND).argmax()), flat_ND.shape)
        return Outside(float(outside_ND.mean()), float(flat_ND[row, channel]), int(channel), expected)

    def _check_range(self, array: np.ndarray) -> None:
        if (found := self._outside(array)) is None:
            return
        far = float((np.abs(array) > PLAIN).mean())
        remedy = "fit it again on data like these" if self.fitted and abs(found.largest) <= PLAIN else _REMEDY
        if far > _SHARE or abs(found.largest) > _LARGEST:
            raise ValueError(f"{found}; expected values normalised to about [-1, 1]: {_REMEDY}")
        message = f"{found}. They are coded as they are and decode with a large error: {remedy}"
        warnings.warn(message, SaturationWarning, stacklevel=caller())

    def _check_channels(self, channels: int) -> None:
        if not 1 <= channels <= CHANNELS_MAX:
            raise ValueError(
                f"actions have {channels} channels; this contract carries 1 to {CHANNELS_MAX}. A robot with more has a "
                "layout: xtok.Tokenizer.from_pretrained('joints') takes 60 joints and 4 grippers"
            )
        if self.channels not in (None, channels):
            raise ValueError(f"actions have {channels} channels; this was fitted on {self.channels}: fit it again")

    def _check_horizon(self, horizon: int) -> None:
        if not 1 <= horizon <= self.horizon_max:
            raise ValueError(
                f"chunks have {horizon} frames; expected 1 to {self.horizon_max}. Cut longer ones into several"
            )


class AnyChannels(ChannelInput):
    """Channels of which nothing is known yet, but that they should be in about [-1, 1]."""

    fitted = False

    @property
    def channels(self) -> int | None:
        return None

    @property
    def horizon_max(self) -> int:
        return HORIZON_MAX

    def _beyond(self, flat_ND: Float[np.ndarray, "N D"]) -> tuple[Bool[np.ndarray, "N D"], str]:
        return np.abs(flat_ND) > PLAIN, f"[-{PLAIN:g}, {PLAIN:g}]"


def rows_of(sequences: Any, expected: str) -> list[np.ndarray]:
    """One array of ids a chunk. expected: how many there are of each, in words.

    Raises:
        ValueError: no sequences, or such as are no integers in one row.
    """
    if isinstance(sequences, (str, bytes, dict, set)) or not hasattr(sequences, "__len__"):
        kind = type(sequences).__name__
        raise ValueError(f"sequences to decode are a {kind}; expected a list of {expected} for each chunk")
    if getattr(sequences, "ndim", 2) == 0 or len(sequences) == 0:
        raise ValueError(f"there are no sequences to decode; expected one or more of {expected}")
    what = f"in one row, {expected.removesuffix(' integers')} for each chunk"
    empty = np.zeros(0, dtype=np.int64)
    return [
        empty
        if hasattr(each, "__len__") and len(each) == 0
        else integers_of(each, f"ids of sequence {row}", what, 1).cpu().numpy()
        for row, each in enumerate(sequences)
    ]


def pad_last_frame(actions_BTD: Float[np.ndarray, "B T D"], frames: int) -> Float[np.ndarray, "B F D"]:
    """The last frame repeated until there are so many."""
    missing = max(0, frames - actions_BTD.shape[1])
    return np.concatenate([actions_BTD, np.repeat(actions_BTD[:, -1:], missing, axis=1)], axis=1)


def fitting_data(sequences: Sequence[np.ndarray], shortest: int) -> list[np.ndarray]:
    """The sequences [N, D] that are long enough.

    Raises:
        ValueError: none is, or they differ in D.
    """
    long = [sequence for sequence in sequences if len(sequence) >= shortest]
    widths = sorted({sequence.shape[1] for sequence in sequences})
    if not long or len(widths) != 1:
        raise ValueError(
            f"{len(sequences)} sequences of {widths} channels, {len(long)} of them with {shortest} frames or more; "
            f"expected chunks or episodes [N, D] of one D, N of {shortest} or more"
        )
    return long
