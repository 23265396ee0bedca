"""The frames of a source's episodes, in memory or where they lie.

# E episodes, N frames of one, n chunks, T frames, D channels
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from xtok.data import Episode
from xtok.data.packed.episodes import PackedEpisode

IN_MEMORY_BYTES = 1 << 28  # of one robot's frames


class Motion(Protocol):
    """Frames of E episodes by episode and number."""

    def at(self, episode_n: Int[Tensor, " n"], frame_nT: Int[Tensor, "n T"]) -> Float[Tensor, "n T D"]:
        """float32, in the units of the layout."""
        ...

    def __iter__(self) -> Iterator[Float[np.ndarray, "N D"]]:
        """All frames, episode after episode, float32."""
        ...


class InMemory:
    """One tensor of all frames."""

    def __init__(self, episodes: Sequence[Episode]) -> None:
        self._absolute_ND = torch.from_numpy(np.concatenate([episode.absolute_ND for episode in episodes])).float()
        lengths_E = torch.tensor([len(episode) for episode in episodes])
        self._first_E = lengths_E.cumsum(0) - lengths_E
        self._lengths = lengths_E.tolist()

    def at(self, episode_n: Int[Tensor, " n"], frame_nT: Int[Tensor, "n T"]) -> Float[Tensor, "n T D"]:
        return self._absolute_ND[self._first_E[episode_n][:, None] + frame_nT]

    def __iter__(self) -> Iterator[Float[np.ndarray, "N D"]]:
        return (absolute_ND.numpy() for absolute_ND in self._absolute_ND.split(self._lengths))


class OnDisk:
    """Episodes of a packed corpus, read chunk by chunk: only what is looked at comes into memory, and need not stay.

    It holds two numbers an episode, so that a process that gets it maps the same files and copies none of them.
    """

    def __init__(self, episodes: Sequence[PackedEpisode]) -> None:
        units = {id(unit): unit for unit, _ in (episode.place for episode in episodes)}
        number = {key: i for i, key in enumerate(units)}
        self._units = tuple(units.values())
        self._unit_E = torch.tensor([number[id(episode.place[0])] for episode in episodes])
        self._position_E = torch.tensor([episode.place[1] for episode in episodes])

    def at(self, episode_n: Int[Tensor, " n"], frame_nT: Int[Tensor, "n T"]) -> Float[Tensor, "n T D"]:
        out_nTD = torch.zeros(*frame_nT.shape, self._units[0].layout.width)
        unit_n, position_n, frames = self._unit_E[episode_n], self._position_E[episode_n].numpy(), frame_nT.numpy()
        for number in unit_n.unique().tolist():
            rows = (unit_n == number).nonzero().flatten().numpy()
            self._units[number].gather(position_n[rows], frames[rows], out_nTD.numpy(), rows)
        return out_nTD

    def __iter__(self) -> Iterator[Float[np.ndarray, "N D"]]:
        places = zip(self._unit_E.tolist(), self._position_E.tolist(), strict=True)
        return (self._units[unit].read(position) for unit, position in places)


def motion_of(episodes: Sequence[Episode]) -> Motion:
    """Those of a packed corpus stay on disk where they would fill the memory."""
    stored = [episode for episode in episodes if isinstance(episode, PackedEpisode)]
    size = sum(map(len, episodes)) * episodes[0].layout.width * 4
    return OnDisk(stored) if len(stored) == len(episodes) and size > IN_MEMORY_BYTES else InMemory(episodes)
