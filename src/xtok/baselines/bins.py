"""Uniform bins: one token for every frame and channel, as in RT-2 and OpenVLA. docs/method.md#published-results.

# B chunks, T frames, D channels of the layout, C valid channels
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from xtok.actions.statistics import Statistics
from xtok.actions.types import Actions, ActionTokenizer, ChunkBatch, Codes, Context
from xtok.baselines.common import normalised_chunks, place_values, to_actions, valid_values


class BinTokenizer:
    """Each normalised value in [-1, 1] to one of `bins` equal bins and back to its centre; T times C tokens a chunk.

    Args:
        statistics: by embodiment; the normalisation that every tokenizer shares.

    Attributes:
        saturated: values outside [-1, 1], over all calls of `encode` so far; they take the outermost bin.
    """

    name = "bins"

    def __init__(self, statistics: Mapping[str, Statistics], bins: int = 256) -> None:
        if bins < 2:
            raise ValueError(f"bins is {bins}; expected 2 or more")
        self.statistics = dict(statistics)
        self.vocab_size = bins
        self.saturated = 0

    def encode(self, chunks: ChunkBatch) -> Codes:
        """T times C tokens a chunk, frame after frame.

        Raises:
            ValueError: no anchor, bad values, or statistics that do not fit.
        """
        normalised_BTD = normalised_chunks(self.statistics, chunks)
        self.saturated += int((np.abs(normalised_BTD) > 1).sum())  # masked channels are 0
        bins_BTD = np.floor((normalised_BTD + 1) / 2 * self.vocab_size).clip(0, self.vocab_size - 1).astype(np.int64)
        return Codes(tuple(valid_values(bins_BTD, chunks.context)), self.vocab_size)

    def decode(self, codes: Codes, context: Context) -> Actions:
        """Motion. A sequence with an unknown token, or not of T times C tokens, marks its row as failed.

        Raises:
            ValueError: another number of sequences than of chunks, or statistics that do not fit.
        """
        centres = [self._centres(tokens) for tokens in codes.tokens]
        return to_actions(self.statistics, context, *place_values(centres, context))

    def rate_points(self) -> list[ActionTokenizer]:
        """Itself: bins have one rate."""
        return [self]

    def _centres(self, tokens: np.ndarray) -> np.ndarray | None:
        """Centres of the bins, or None where a token does not exist."""
        if ((tokens < 0) | (tokens >= self.vocab_size)).any():
            return None
        return (tokens + 0.5) * 2 / self.vocab_size - 1
