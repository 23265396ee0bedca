"""What the numeric columns of a data set are called, before anything says which channels they are."""

from __future__ import annotations

from dataclasses import dataclass

STATE, ACTION = "observation.state", "action"
CHANNEL_VALID = "channel_valid"  # our own extra feature: which channels of `observation.state` an episode really has


@dataclass(frozen=True)
class Feature:
    """A numeric column group of a data set: its width and, where the set names them, its channels.

    unreadable: what is wrong with names that are there and cannot be read; "" where all is well.
    """

    width: int
    names: tuple[str, ...] | None = None
    unreadable: str = ""


@dataclass(frozen=True)
class Column:
    """One column of a feature."""

    feature: str
    index: int
