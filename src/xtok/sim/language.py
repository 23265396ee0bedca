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
    "PickPlace": (
        "put the {thing} into the tray",
        "place the {thing} in the tray",
        "pick up the {thing} and put it into the tray",
        "move the {thing} to the tray",
    ),
    "Press": (
        "press the {colour} button",
        "push the {colour} button",
        "press down on the {colour} button",
        "use your fingers to press the {colour} button",
    ),
    "Turn": (
        "turn the {colour} lever to the {side}",
        "push the {colour} lever to the {side}",
        "move the {colour} lever {side}",
        "swing the {colour} lever to the {side}",
    ),
    "Insert": (
        "insert the {peg} peg into the {colour} socket",
        "put the {peg} peg into the {colour} socket",
        "pick up the {peg} peg and insert it into the {colour} socket",
        "place the {peg} peg in the {colour} socket",
    ),
    "Sort": (
        "put the {colour} blocks into the {bin} bin",
        "sort the {colour} blocks into the {bin} bin",
        "move both {colour} blocks to the {bin} bin",
        "place all {colour} blocks in the {bin} bin",
    ),
    "Tidy": (
        "put the {first} cube into the tray, then the {second} cube, then the {third} cube",
        "tidy up: first the {first} cube, then the {second} cube, then the {third} cube",
        "place the cubes in the tray in this order: {first}, {second}, {third}",
        "first put away the {first} cube, next the {second} cube, last the {third} cube",
    ),
    "Tower": (
        "build a tower: the {bottom} cube below, the {middle} cube in the middle, the {top} cube on top",
        "stack the {middle} cube on the {bottom} cube and the {top} cube on the {middle} cube",
        "put the {middle} cube on the {bottom} one, then the {top} cube on the {middle} one",
        "make a tower of {bottom}, {middle} and {top} from bottom to top",
    ),
    "PressOrder": (
        "press the {first} button, then the {second} button, then the {third} button",
        "press the buttons in this order: {first}, {second}, {third}",
        "push first the {first} button, next the {second} button, last the {third} button",
        "press {first}, {second} and {third} one after the other",
    ),
    "Serve": (
        "{first} into the {first_bin} bin, then {second} into the {second_bin} bin, then press the {colour} button",
        "put first the {first} in the {first_bin} bin, next the {second} in the {second_bin} bin, press {colour} last",
        "place {first} in the {first_bin} bin, {second} in the {second_bin} bin, and push the {colour} button",
    ),
    "TwoArmLift": (
        "lift the {colour} pot with both hands",
        "pick up the {colour} pot by its two handles",
        "raise the {colour} pot with both arms and keep it level",
        "take both handles of the {colour} pot and lift it",
    ),
    "Handover": (
        "hand the {colour} stick over to the other arm",
        "pass the {colour} stick from one arm to the other",
        "lift the {colour} stick and give it to the other arm",
        "let the other arm take the {colour} stick",
    ),
    "TwoArmInsert": (
        "hold up the {colour} paddle and put the {peg} peg into it",
        "insert the {peg} peg into the {colour} paddle in the air",
        "lift the {peg} peg and the {colour} paddle and put one into the other",
        "with one arm hold the {colour} paddle, with the other put the {peg} peg into it",
    ),
    "Transport": (
        "bring the {colour} cube from the crate to the {bin} bin",
        "take the {colour} cube out of the crate and pass it on into the {bin} bin",
        "move the {colour} cube over the pad to the {bin} bin",
        "get the {colour} cube across the table into the {bin} bin",
    ),
    "Share": (
        "put the {left} cube into the left tray and the {right} cube into the right tray",
        "the left arm takes the {left} cube, the right arm takes the {right} cube",
        "give the {left} cube to the left arm and the {right} cube to the right arm",
        "sort the cubes: {left} to the left, {right} to the right",
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
    "PickPlace": (
        "the {thing} belongs in the tray",
        "I want the {thing} inside the tray, please",
        "drop the {thing} off in the tray",
    ),
    "Press": (
        "the button to hit is the {colour} one",
        "please activate the {colour} button",
        "give the {colour} button a push",
    ),
    "Turn": (
        "the {colour} lever should point {side}",
        "rotate the {colour} handle towards the {side}",
        "flip the {colour} lever over to its {side} side",
    ),
    "Insert": (
        "the {peg} peg goes where it is {colour}",
        "fit the {peg} peg in the hole of the {colour} socket",
        "plug the {colour} socket with the {peg} peg",
    ),
    "Sort": (
        "every {colour} block belongs in the {bin} bin",
        "fill the {bin} bin with the {colour} blocks",
        "collect whatever is {colour} in the {bin} bin",
    ),
    "Tidy": (
        "the tray should get the {first} cube, after that the {second} one and finally the {third} one",
        "clean up in the order {first}, {second}, {third}",
        "start with the {first} cube, go on with the {second} one and end with the {third} one, all into the tray",
    ),
    "Tower": (
        "the {bottom} cube should carry the {middle} cube, and that one the {top} cube",
        "pile up the cubes, {top} above {middle} above {bottom}",
        "a tower with {bottom} at its foot, {middle} next and {top} at its tip",
    ),
    "PressOrder": (
        "hit the buttons in the order {first}, {second}, {third}",
        "start with the {first} button, go on with the {second} one and end with the {third} one",
        "the {third} button comes last, the {first} one first, the {second} one between them",
    ),
    "Serve": (
        "serve {first} in the {first_bin} bin, after it {second} in the {second_bin} bin, and ring the {colour} button",
        "the {first_bin} bin gets the {first}, then the {second_bin} bin the {second}, then hit the {colour} button",
        "begin with {first} for the {first_bin} bin, then {second} for {second_bin}, end with the {colour} button",
    ),
    "TwoArmLift": (
        "the {colour} pot should leave the table, held at both ends",
        "grab the {colour} pot on both sides and hoist it",
        "use two arms to get the {colour} pot up in the air",
    ),
    "Handover": (
        "the other arm should end up with the {colour} stick",
        "swap hands on the {colour} stick",
        "one arm picks the {colour} stick and the second one receives it",
    ),
    "TwoArmInsert": (
        "the {peg} peg goes into the {colour} paddle while both are off the table",
        "fit the {peg} peg in the hole of the lifted {colour} paddle",
        "join the {peg} peg and the {colour} paddle above the table",
    ),
    "Transport": (
        "the {colour} cube belongs on the far side, in the {bin} bin",
        "relay the {colour} cube: from its crate over the pad into the {bin} bin",
        "deliver the {colour} cube to the {bin} bin with the help of both arms",
    ),
    "Share": (
        "the {left} cube is for the left side and the {right} cube for the right side",
        "divide the cubes, {left} for the left arm and {right} for the right arm",
        "left gets {left}, right gets {right}",
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
    "take_over": "take over the {thing} with the other arm",
    "let_go": "let the other arm have the {thing}",
}


def instruction(task: str, words: Mapping[str, str], split: str, rng: np.random.Generator) -> str:
    """An instruction in one of the phrasings of a split: "train" draws from SEEN, "eval" from UNSEEN."""
    phrasings = (SEEN if split == "train" else UNSEEN)[task]
    return phrasings[int(rng.integers(len(phrasings)))].format(**words)


def subtask(verb: str, thing: str, where: str = "") -> str:
    """The line of a sub-task: subtask("place_on", "red cube", "blue cube") -> "place the red cube on the blue cube"."""
    return SUBTASKS[verb].format(thing=thing, where=where)
