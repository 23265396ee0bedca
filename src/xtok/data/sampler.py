"""Chunks drawn at random for training: what every corpus offers, whatever it holds and however it draws."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import torch

from xtok.actions.types import ChunkBatch
from xtok.data.origins import Origins

_SPREAD = 0x9E3779B97F4A7C15  # odd, so that seed and number of a batch mix into another seed each


@dataclass(frozen=True)
class Drawn:
    """Chunks, and where each was cut."""

    chunks: ChunkBatch
    origins: Origins

    def __getitem__(self, rows: slice) -> Drawn:
        return Drawn(self.chunks[rows], self.origins[rows])


class ChunkSampler(ABC):
    """A corpus that chunks of `horizon` frames are drawn from. Equal states of the generator draw equal chunks."""

    @abstractmethod
    def draw(self, horizon: int, batch_size: int, generator: torch.Generator) -> Drawn:
        """Random chunks of the train part, with their origins.

        Raises:
            ValueError: no episode is long enough.
        """

    def sample(self, horizon: int, batch_size: int, generator: torch.Generator) -> ChunkBatch:
        """The same without their origins."""
        return self.draw(horizon, batch_size, generator).chunks

    def batches(self, horizon: int, batch_size: int, seed: int = 0, first: int = 0, step: int = 1) -> Iterator[Drawn]:
        """Batches first, first + step, ... of an endless stream. A batch is decided by seed and number alone: a run
        that was stopped goes on at its number, and rank r of R takes first=r, step=R."""
        return (self.draw(horizon, batch_size, generator) for generator in generators(seed, first, step))


def generators(seed: int, first: int, step: int) -> Iterator[torch.Generator]:
    """A generator each for batches first, first + step, ... without end, decided by seed and number alone."""
    return (generator_of(seed, number) for number in count(first, step))


def generator_of(seed: int, number: int) -> torch.Generator:
    """That of one batch."""
    return torch.Generator().manual_seed((seed + 1) * _SPREAD + number & (1 << 63) - 1)
