"""What is true of the things in a scene, for questions with exact answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ObjectFact:
    """What is true of a thing now. colour: a word, or None. position_m: [3], base frame (of two arms: the right one's).
    held: by both fingers of a hand; a button that they press is not.
    """

    name: str
    kind: str
    colour: str | None
    position_m: np.ndarray
    held: bool


@dataclass(frozen=True)
class PairFact(ObjectFact):
    """With two arms, besides: holders: sides of the arms that hold it. nearer: the arm on whose side of the table it
    is, or None where it is too near the middle to say. nearer_hand: the arm whose hand is nearer to every part of it,
    or None where that is not plain, or it is held.
    """

    holders: tuple[str, ...]
    nearer: str | None
    nearer_hand: str | None = None
