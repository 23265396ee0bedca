"""Words: instructions in phrasings that are recorded (seen) and that never are (unseen), and the lines of sub-tasks.

`{fields}` are filled from a goal's words.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

SEEN: dict[str, tuple[str, ...]] = {
    "Lift": (
        "lift the {colour} cube",
        "pick up the {colour} cube",
        "take the {colour} cube and raise it",
        "raise the {colour} cube off the table",
    ),
    "Stack": (
        "stack the {top} cube on the {bottom} cube",
        "put the {top} cube on top of the {bottom} cube",
        "place the {top} cube on the {bottom} one",
        "pick up the {top} cube and set it on the {bottom} cube",
    ),
}
UNSEEN: dict[str, tuple[str, ...]] = {
    "Lift": (
        "get the {colour} block up in the air",
        "grab the {colour} cube and hold it high",
        "the {colour} cube should leave the table",
    ),
    "Stack": (
        "build a tower with the {bottom} cube below and the {top} cube above",
        "the {bottom} cube should carry the {top} cube",
        "make the {top} cube sit on the {bottom} cube",
    ),
}
SUBTASKS: dict[str, str] = {
    "reach": "reach for the {thing}",
    "grasp": "grasp the {thing}",
    "lift": "lift the {thing}",
    "place_on": "place the {thing} on the {where}",
    "place_in": "put the {thing} into the {where}",
    "press": "press the {thing}",
    "turn": "turn the {thing} to the {where}",
    "insert": "insert the {thing} into the {where}",
}


def instruction(task: str, words: Mapping[str, str], split: str, rng: np.random.Generator) -> str:
    """An instruction in one of the phrasings of a split: "train" draws from SEEN, "eval" from UNSEEN."""
    phrasings = (SEEN if split == "train" else UNSEEN)[task]
    return phrasings[int(rng.integers(len(phrasings)))].format(**words)


def subtask(verb: str, thing: str, where: str = "") -> str:
    """The line of a sub-task: subtask("place_on", "red cube", "blue cube") -> "place the red cube on the blue cube"."""
    return SUBTASKS[verb].format(thing=thing, where=where)
