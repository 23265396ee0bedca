"""Where the chunks of a batch were cut, so that whatever else is known of those moments can be looked up.

# B chunks, M slots, S stretches of words: of one episode, or of several, one episode after another
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xtok.data.episode import Episode

EpisodeKey = tuple[str, int]  # (Episode.dataset, Episode.index)
_FRAMES_MAX = 1 << 40  # more than any episode has


@dataclass(frozen=True)
class Origins:
    """Target step k (from 0) of chunk b shows frame anchor_B + rate_B * (k + 1) of its episode.

    episode_B: key of each chunk's episode. anchor_B: frame of the anchor. rate_B: recorded frames a step. last_B: last
    frame of the episode. reversed_B: played backwards; then the frames are not those of the formula. words: sub-task
    cuts of each episode, for `words_at`.
    """

    episode_B: tuple[EpisodeKey, ...]
    anchor_B: Int[Tensor, " B"]
    rate_B: Float[Tensor, " B"]
    last_B: Int[Tensor, " B"]
    reversed_B: Bool[Tensor, " B"]
    words: Sequence[Words]

    def __len__(self) -> int:
        return len(self.episode_B)

    def __getitem__(self, rows: slice) -> Origins:
        return Origins(
            self.episode_B[rows],
            self.anchor_B[rows],
            self.rate_B[rows],
            self.last_B[rows],
            self.reversed_B[rows],
            self.words[rows],
        )

    def words_at(self, frames_BM: Float[Tensor, "B M"]) -> Int[Tensor, "B M"]:
        """One number for each wording of a sub-task: equal numbers, equal words."""
        return _table(self.words).at(frames_BM)


@dataclass(frozen=True)
class Words:
    """cut_S: first frames of an episode's stretches, from 0 on. key_S: the number of the words of each."""

    cut_S: Int[Tensor, " S"]
    key_S: Int[Tensor, " S"]

    def at(self, frames_M: Float[Tensor, " M"]) -> Int[Tensor, " M"]:
        return self.key_S[torch.searchsorted(self.cut_S, frames_M.floor().long(), right=True) - 1]


@dataclass(frozen=True)
class WordsTable(Sequence[Words]):
    """Those of several episodes in three tensors, which other processes get as fast as one. until_E: S of each episode
    and all before it."""

    cut_S: Int[Tensor, " S"]
    key_S: Int[Tensor, " S"]
    until_E: Int[Tensor, " E"]

    @classmethod
    def of(cls, words: Iterable[Words]) -> WordsTable:
        every = list(words)
        if not every:
            return cls(*(torch.zeros(0, dtype=torch.long) for _ in range(3)))
        counts = torch.tensor([len(each.cut_S) for each in every])
        cut, key = (torch.cat([getattr(each, name) for each in every]) for name in ("cut_S", "key_S"))
        return cls(cut, key, counts.cumsum(0))

    @classmethod
    def cat(cls, tables: Sequence[WordsTable]) -> WordsTable:
        counts = torch.cat([table.until_E - table._first_E for table in tables])
        cut, key = (torch.cat([getattr(table, name) for table in tables]) for name in ("cut_S", "key_S"))
        return cls(cut, key, counts.cumsum(0))

    def __len__(self) -> int:
        return len(self.until_E)

    @overload
    def __getitem__(self, e: int) -> Words: ...

    @overload
    def __getitem__(self, e: slice) -> WordsTable: ...

    def __getitem__(self, e: int | slice) -> Words | WordsTable:
        if isinstance(e, slice):
            return self.take(torch.arange(len(self))[e])
        rows = slice(int(self._first_E[e]), int(self.until_E[e]))
        return Words(self.cut_S[rows], self.key_S[rows])

    def take(self, episode_n: Int[Tensor, " n"]) -> WordsTable:
        """Those of some episodes, in that order."""
        first_n, count_n = self._first_E[episode_n], (self.until_E - self._first_E)[episode_n]
        until_n = count_n.cumsum(0)
        before_n = first_n - (until_n - count_n)
        rows = torch.arange(int(count_n.sum())) + before_n.repeat_interleave(count_n)
        return WordsTable(self.cut_S[rows], self.key_S[rows], until_n)

    def at(self, frames_EM: Float[Tensor, "E M"]) -> Int[Tensor, "E M"]:
        """Keys of the words at frames of each episode."""
        episode_S = torch.arange(len(self)).repeat_interleave(self.until_E - self._first_E)
        frame_EM = frames_EM.floor().long() + torch.arange(len(self))[:, None] * _FRAMES_MAX
        return self.key_S[torch.searchsorted(self.cut_S + episode_S * _FRAMES_MAX, frame_EM, right=True) - 1]

    @cached_property
    def _first_E(self) -> Int[Tensor, " E"]:
        return torch.nn.functional.pad(self.until_E[:-1], (1, 0)) if len(self) else self.until_E


def _table(words: Sequence[Words]) -> WordsTable:
    return words if isinstance(words, WordsTable) else WordsTable.of(words)


def words_of(episode: Episode) -> Words:
    """The sub-task that is going on; where there is none, the instruction."""
    cuts, keys = [0], [word_key(episode.instruction)]
    for segment in sorted(episode.subtasks, key=lambda segment: segment.start):
        for cut, text in ((segment.start, segment.text), (segment.end, episode.instruction)):
            while cuts and cuts[-1] >= cut:
                cuts.pop()
                keys.pop()
            cuts.append(cut)
            keys.append(word_key(text))
    return Words(torch.tensor(cuts), torch.tensor(keys))


def word_key(text: str) -> int:
    """The same on every machine, so that ranks agree. 62 bits: no two texts of a corpus meet."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 2


def joined(parts: Sequence[Origins]) -> Origins:
    """Chunks of several batches, in order."""
    return Origins(
        tuple(key for part in parts for key in part.episode_B),
        torch.cat([part.anchor_B for part in parts]),
        torch.cat([part.rate_B for part in parts]),
        torch.cat([part.last_B for part in parts]),
        torch.cat([part.reversed_B for part in parts]),
        WordsTable.cat([_table(part.words) for part in parts]),
    )
