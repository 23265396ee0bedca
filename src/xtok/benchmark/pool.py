"""Sets of other robots for `xtok eval --pool`: each robot with its own statistics, the evaluated ones left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xtok.data import EpisodeDataset, open_dataset, select
from xtok.evaluate.pool import PoolMember
from xtok.evaluate.progress import Tell
from xtok.messages import say
from xtok.pretrain.corpus import fit_statistics_of


def open_pool(paths: Sequence[Path], dataset: EpisodeDataset, tell: Tell) -> list[PoolMember]:
    """Train episodes of every robot of `paths` that is none of `dataset`'s, in the same layout.

    Raises:
        ValueError: a set that cannot be read in that layout, or no other robot than those evaluated.
    """
    layout, members, left_out = dataset.layout.name, [], set()
    for number, path in enumerate(paths):
        tell(f"pool: reading {path}", number / len(paths))
        try:
            other = open_dataset(path, layout=layout)
        except ValueError as error:
            raise ValueError(f"--pool {path} cannot be read as {layout}, as the data are: {error}") from error
        left_out |= set(other.embodiments) & set(dataset.embodiments)
        robots = [robot for robot in other.embodiments if robot not in dataset.embodiments]
        train = select(other, "train") if robots else []
        for robot in robots:
            mine = [episode for episode in train if episode.embodiment == robot]
            if mine:
                members.append(PoolMember(other.name, mine, fit_statistics_of(other.layout, mine)))
    if left_out:
        say(f"pool: {', '.join(sorted(left_out))} left out, evaluated here")
    if not members:
        raise ValueError(
            f"--pool has no train episode of another robot than {', '.join(dataset.embodiments)}, which is evaluated; "
            f"give folders of other robots that can be read as {layout}, or leave --pool out"
        )
    return members
