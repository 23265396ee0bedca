"""Pictures with questions: to be examined on (`xtok sim questions`), to learn from (`xtok teacher scenes`).

# Q questions, S side of a picture, N pictures, T things of a picture
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from PIL import Image

NOTHING = "nothing"
KIND_DOING, KIND_CAPTION = "doing", "caption"
DOING = "{instruction}: what comes now?"
_SIDES = {"left": "right", "right": "left", "leftmost": "rightmost", "rightmost": "leftmost"}
_SAME = {"block": "cube", "bin": "tray"}  # other nouns for a kind of thing


class ImageRow(TypedDict):
    """A row of the file of `xtok sim questions`, as far as it is looked at. mask: lengths of runs, False first."""

    kind: str
    question: str
    answer: str
    choices: list[str]
    mask: list[int] | None
    image: str
    facts: str
    task: str
    arm: str
    level: str


@dataclass(frozen=True)
class Question:
    """mask: bool [S, S], where to point, for questions that are answered so; choices: answers that the words allow."""

    kind: str
    text: str
    answer: str
    choices: tuple[str, ...] = ()
    mask: np.ndarray | None = None


@dataclass(frozen=True)
class Lesson:
    """A picture (uint8 RGB) with questions about it, and where it is from."""

    picture: np.ndarray
    questions: tuple[Question, ...]
    task: str = ""
    arm: str = ""
    level: str = ""


@dataclass(frozen=True)
class Thing:
    """One thing (or hand) of a scene as words see it. label: its number in the label map. place: x, y of its middle and
    of its mean, pixels. held: None of hands."""

    name: str
    kind: str
    colour: str | None
    held: bool | None
    label: int
    middle: tuple[int, int]
    mean: tuple[float, float]


@dataclass(frozen=True)
class Asked:
    """A question of a scene. things: labels of what to point at; None where nothing is pointed at."""

    kind: str
    text: str
    answer: str
    things: tuple[int, ...] | None


@dataclass(frozen=True)
class SeenScene:
    """A picture to learn from. picture uint8 [S, S, 3], labels uint8 [S, S] (0: none of its things)."""

    picture: np.ndarray
    labels: np.ndarray
    things: tuple[Thing, ...]
    asked: tuple[Asked, ...]
    view: str
    episode: str


def exchange(text: str) -> str:
    """Left for right and right for left, but "left or right" stays the way it is said."""
    return re.sub(r"\b(left or right|leftmost|rightmost|left|right)\b", lambda m: _SIDES.get(m[0], m[0]), text)


def question_set(folder: Path) -> list[Lesson]:
    """A set of `xtok sim questions`, a lesson a picture, in its order.

    Raises:
        ValueError: no such set there.
    """
    import pyarrow.parquet

    path = folder / "questions.parquet"
    if not path.is_file():
        raise ValueError(f"no {path}; make a set with `xtok sim questions -o {folder}`")
    by_picture: dict[str, list[ImageRow]] = {}
    for row in pyarrow.parquet.read_table(path).to_pylist():
        by_picture.setdefault(row["image"], []).append(row)
    return [_lesson(folder / image, rows) for image, rows in by_picture.items()]


def _lesson(image: Path, rows: Sequence[ImageRow]) -> Lesson:
    with Image.open(image) as opened:
        picture = np.asarray(opened.convert("RGB"))
    questions = []
    for row in rows:
        mask = None if row["mask"] is None else mask_from_runs(row["mask"], picture.shape[0])
        questions.append(Question(row["kind"], row["question"], row["answer"], tuple(row["choices"]), mask))
    return Lesson(picture, tuple(questions), rows[0]["task"], rows[0]["arm"], rows[0]["level"])


def mask_from_runs(lengths: Sequence[int], side: int) -> np.ndarray:
    """bool [S, S] from lengths of runs row by row, False first."""
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(side, side)


# -- scenes ---------------------------------------------------------------------------------------------------------


def scene_folder(folder: Path) -> Iterator[SeenScene]:
    """Scenes of `xtok teacher scenes`, file by file, with a caption and what comes now beside their questions.

    Raises:
        ValueError: there are none.
    """
    import pyarrow.parquet

    files = sorted(folder.glob("[!.]*.parquet"))
    if not files:
        raise ValueError(f"no scenes in {folder}; make some with `xtok teacher scenes -o {folder}`")
    for file in files:
        for row in pyarrow.parquet.read_table(file).to_pylist():
            yield _scene(row)


def _scene(row: dict[str, Any]) -> SeenScene:
    picture, labels = (np.asarray(Image.open(io.BytesIO(row[key]))) for key in ("picture", "labels"))
    facts, questions = json.loads(row["facts"]), json.loads(row["questions"])
    things = []
    for label, name in enumerate(row["things"], start=1):
        y, x = np.nonzero(labels == label)
        if len(x) == 0:
            continue
        middle = int(np.argmin((x - x.mean()) ** 2 + (y - y.mean()) ** 2))
        where = ((int(x[middle]), int(y[middle])), (float(x.mean()), float(y.mean())))
        if label <= len(facts):
            fact = facts[label - 1]
            words = f"{fact['colour']} {fact['kind']}" if fact["colour"] else fact["kind"]
            things.append(Thing(words, fact["kind"], fact["colour"], bool(fact["held"]), label, *where))
        else:
            things.append(Thing(name, name, None, None, label, *where))
    asked = [_with_place(question, things) for question in questions]
    fixed = row["view"] in ("scene", "front")
    if fixed:
        asked.append(Asked(KIND_DOING, DOING.format(instruction=row["instruction"]), row["subtask"], None))
        asked.append(Asked(KIND_CAPTION, "", caption(things), None))
    episode = "-".join((row["task"], row["arm"], row["level"], str(row["seed"])))
    return SeenScene(picture, labels, tuple(things), tuple(asked), row["view"], episode)


def _with_place(question: dict[str, Any], things: Sequence[Thing]) -> Asked:
    """Where the answer is a thing, or that of a thing, it is pointed at too."""
    kind, text, answer = question["kind"], question["question"], question["answer"]
    found: tuple[int, ...] | None = None
    if question["things"] is not None:
        found = tuple(number + 1 for number in question["things"])
    elif kind in ("beside", "which_held", "arm_holds"):
        found = tuple(thing.label for thing in things if thing.name == answer)
    elif kind == "colour":
        ordered = sorted((thing for thing in things if thing.held is not None), key=lambda thing: thing.mean[0])
        found = (ordered[0 if "leftmost" in text else -1].label,)
    return Asked(kind, text, answer, found or None)


def caption(things: Sequence[Thing]) -> str:
    """What is there from left to right, and what is held."""
    props = sorted((thing for thing in things if thing.held is not None), key=lambda thing: thing.mean[0])
    held = [thing.name for thing in props if thing.held]
    holds = f"held: {held[0] if held else NOTHING}"
    return f"from left to right: {', '.join(thing.name for thing in props)}; {holds}"


def named(text: str, things: Sequence[Thing]) -> list[tuple[int, ...]]:
    """Of each mention of a thing in a text, in order: labels of what it can mean; empty where that is not in sight."""
    colours = sorted({thing.colour for thing in things if thing.colour} | set(COLOUR_WORDS))
    kinds = sorted({thing.kind for thing in things if thing.held is not None} | set(_SAME) | set(KIND_WORDS))
    colour = "|".join(colours)
    noun = "|".join((*kinds, "thing", "left gripper", "right gripper", "gripper"))
    found = []
    for match in re.finditer(rf"\b(?:({colour})(?: or ({colour}))? )?({noun})s?\b", text):
        wanted = {word for word in match.groups()[:2] if word}
        kind = _SAME.get(match[3], match[3])
        found.append(
            tuple(
                thing.label
                for thing in things
                if (not wanted or thing.colour in wanted)
                and (thing.kind == kind or (kind == "thing" and thing.held is not None))
            )
        )
    return found


COLOUR_WORDS = ("red", "green", "blue", "yellow", "purple", "white")
KIND_WORDS = (
    "cube",
    "can",
    "ball",
    "bar",
    "bottle",
    "peg",
    "tray",
    "socket",
    "button",
    "lever",
    "pot",
    "paddle",
    "stick",
)
