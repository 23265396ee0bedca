"""Where the chunks of a batch were cut, so that whatever else is known of those moments can be looked up.

# B chunks, M slots
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xtok.data.episode import Episode

EpisodeKey = tuple[str, int]  # (Episode.dataset, Episode.index)


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
        return torch.stack([words.at(frames_M) for words, frames_M in zip(self.words, frames_BM, strict=True)])


@dataclass(frozen=True)
class Words:
    """cut_S: first frames of an episode's stretches, from 0 on. key_S: the number of the words of each."""

    cut_S: Int[Tensor, " S"]
    key_S: Int[Tensor, " S"]

    def at(self, frames_M: Float[Tensor, " M"]) -> Int[Tensor, " M"]:
        return self.key_S[torch.searchsorted(self.cut_S, frames_M.floor().long(), right=True) - 1]


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
        tuple(words for part in parts for words in part.words),
    )
