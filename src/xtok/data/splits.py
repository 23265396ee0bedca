"""Train and held-out episodes, by rule and never by chunk: every fifth episode of a set is held out.

So are all episodes of a task that the set marks as held out; they are in no train split.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Literal

from xtok.data.episode import Episode, EpisodeDataset
from xtok.progress import track

Split = Literal["train", "heldout", "all"]
HELDOUT_EVERY, HELDOUT_REMAINDER = 5, 4


def split_indices(n: int, split: Split) -> list[int]:
    """Positions 0..n-1 that belong to a split: position % 5 == 4 is held out.

    Raises:
        ValueError: an unknown split.
    """
    if split == "all":
        return list(range(n))
    if split not in ("train", "heldout"):
        raise ValueError(f"unknown split {split!r}; expected 'train', 'heldout' or 'all'")
    wants_heldout = split == "heldout"
    return [i for i in range(n) if is_heldout(i) == wants_heldout]


def is_heldout(place: int) -> bool:
    """Whether the episode at a place of its set is held out."""
    return place % HELDOUT_EVERY == HELDOUT_REMAINDER


def split_positions(dataset: EpisodeDataset, split: Split) -> list[int]:
    """Positions of a set that belong to a split, by the place of each episode among all that the set lists: leaving one
    out (skip_bad) moves no other between train and held-out. Of joined sets, those of each.

    Raises:
        ValueError: an unknown split.
    """
    if dataset.parts:
        starts = accumulate((len(part) for part in dataset.parts), initial=0)
        joined = zip(starts, dataset.parts, strict=False)
        return [start + i for start, part in joined for i in split_positions(part, split)]
    if not dataset.places:
        return split_indices(len(dataset), split)
    places = set(split_indices(max(dataset.places) + 1, split))
    return [i for i, place in enumerate(dataset.places) if place in places]


def empty_split(dataset: EpisodeDataset, split: str) -> str:
    """Why a split has no episodes, and what helps."""
    if len(dataset) < HELDOUT_EVERY:
        why = "every fifth episode is held out, and there are fewer"
    elif dataset.held_out_tasks:
        why = f"the set marks tasks as held out: {', '.join(sorted(dataset.held_out_tasks))}"
    else:
        why = "no episode belongs to it"
    said = f"split {split!r} of dataset {dataset.name!r} ({len(dataset)} episodes) is empty; use 'all' (`--split all`)"
    return f"{said}: {why}"


def select(dataset: EpisodeDataset, split: Split) -> list[Episode]:
    """The episodes of a split, read from disk. Of joined sets: the split of each, one after the other.

    Raises:
        ValueError: an unknown split, or one without episodes (a set of four or fewer has nothing held out).
    """
    if dataset.parts:
        return [episode for part in dataset.parts for episode in select(part, split)]
    positions = split_positions(dataset, split)
    episodes = [dataset[i] for i in track(positions, f"reading {dataset.name}", "episode", delay_s=0.5)]
    if split == "train":
        episodes = [episode for episode in episodes if episode.task not in dataset.held_out_tasks]
    if not episodes:
        raise ValueError(empty_split(dataset, split))
    return episodes


def train_episodes(dataset: EpisodeDataset, robot: str) -> list[Episode]:
    """Train episodes of one robot (position mod 5 != 4).

    Raises:
        ValueError: there are none.
    """
    mine = [episode for episode in select(dataset, "train") if episode.embodiment == robot]
    if not mine:
        raise ValueError(f"{dataset.name} has no train episode of {robot!r} to measure it on; give its --statistics")
    return mine
