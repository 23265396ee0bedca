"""What the connector is taught from, scenes with all their questions and films with sub-tasks, and examined on.

Everything is also shown mirrored, with left and right exchanged in the words.

# Q questions, S side of a picture, N pictures
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
from PIL import Image

from xtok.data import Episode, open_dataset
from xtok.data.splits import Split, split_positions

DOING = "what is the robot doing?"
KIND_DOING = "doing"
NOTHING = "nothing"
_SIDES = {"left": "right", "right": "left", "leftmost": "rightmost", "rightmost": "leftmost"}


class QuestionRow(TypedDict):
    """A question as `xtok sim questions` stores it. point: x, y in pixels. mask: lengths of runs, False first."""

    kind: str
    question: str
    answer: str
    choices: list[str]
    point: list[int] | None
    mask: list[int] | None


class ImageRow(QuestionRow):
    """A row of its parquet file, as far as it is looked at. facts: JSON, a list of `FactRow`."""

    image: str
    facts: str


class FactRow(TypedDict):
    """What is true of one thing in a scene, as far as it is looked at."""

    kind: str
    colour: str | None
    held: bool


@dataclass(frozen=True)
class Question:
    """mask: bool [S, S], where to point, for questions of kind "point"; choices: answers that the words allow."""

    kind: str
    text: str
    answer: str
    choices: tuple[str, ...] = ()
    mask: np.ndarray | None = None


@dataclass(frozen=True)
class Lesson:
    """A picture (uint8 RGB) with questions about it, what can be said of it, and names of what is in it."""

    picture: np.ndarray
    questions: tuple[Question, ...]
    caption: str
    facts: tuple[str, ...]

    def mirrored(self) -> Lesson:
        def turned(question: Question) -> Question:
            mask = None if question.mask is None else question.mask[:, ::-1]
            words = (exchange(question.text), exchange(question.answer))
            return Question(question.kind, *words, tuple(map(exchange, question.choices)), mask)

        caption = self.caption
        if match := re.match(r"From left to right: (.*?)\. (.*)", caption):
            caption = f"From left to right: {', '.join(reversed(match[1].split(', ')))}. {match[2]}"
        else:
            caption = exchange(caption)
        questions = tuple(turned(question) for question in self.questions)
        return Lesson(self.picture[:, ::-1], questions, caption, tuple(map(exchange, self.facts)))


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
    return [_lesson(folder / image, rows, json.loads(rows[0]["facts"])) for image, rows in by_picture.items()]


def scene_folder(folder: Path) -> list[Lesson]:
    """Scenes of `xtok teacher scenes`, by name; scenes of which nothing can be asked are left out.

    Raises:
        ValueError: there are none.
    """
    lessons = []
    for path in sorted(folder.glob("[!.]*/about.json")):
        about = json.loads(path.read_text(encoding="utf-8"))
        if about["questions"]:
            lessons.append(_lesson(path.parent / "picture.png", about["questions"], about["facts"]))
    if not lessons:
        raise ValueError(f"no scenes in {folder}; make some with `xtok teacher scenes -o {folder}`")
    return lessons


def _lesson(image: Path, rows: Sequence[QuestionRow], facts: Sequence[FactRow]) -> Lesson:
    with Image.open(image) as opened:
        picture = np.asarray(opened.convert("RGB"))
    side = picture.shape[0]
    questions, places = [], {}
    for row in rows:
        mask = None if row["mask"] is None else mask_from_runs(row["mask"], side)
        questions.append(Question(row["kind"], row["question"], row["answer"], tuple(row["choices"]), mask))
        if row["point"] is not None:
            places[row["answer"]] = row["point"][0]
    names = [f"{fact['colour']} {fact['kind']}" if fact["colour"] else fact["kind"] for fact in facts]
    held = next((name for name, fact in zip(names, facts, strict=True) if fact["held"]), NOTHING)
    holds = f"The gripper holds {held if held == NOTHING else 'the ' + held}."
    if len(places) == len(names):  # each has its place in the picture
        caption = f"From left to right: {', '.join(sorted(places, key=lambda name: places[name]))}. {holds}"
    else:
        caption = f"There are: {', '.join(sorted(names))}. {holds}"
    return Lesson(picture, tuple(questions), caption, (*sorted(set(names)), f"holds {held}"))


def mask_from_runs(lengths: Sequence[int], side: int) -> np.ndarray:
    """bool [S, S] from lengths of runs row by row, False first."""
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(side, side)


def film_lessons(
    data: Path, split: Split, frames_each: int, seed: int, episodes_max: int, leave_out: Sequence[str] = ()
) -> Iterator[list[Lesson]]:
    """Episode by episode, pictures of a few random frames in all views, with the sub-task as what is being done.
    leave_out: words; an episode whose instruction has one of them is not among them.
    """
    dataset = open_dataset(data)
    rng = np.random.default_rng(seed)
    positions = split_positions(dataset, split)
    found = 0
    for position in rng.permutation(positions).tolist():
        if found == episodes_max:
            return
        episode = dataset[position]
        if not set(leave_out) & set(episode.instruction.split()):
            found += 1
            yield list(_of_episode(episode, frames_each, rng))


def _of_episode(episode: Episode, count: int, rng: np.random.Generator) -> Iterator[Lesson]:
    if not episode.subtasks:
        return
    frames = sorted(rng.choice(len(episode), min(count, len(episode)), replace=False).tolist())
    doing = [subtask_at(episode, frame) for frame in frames]
    for video in episode.videos.values():
        for picture, text in zip(video.frames(frames), doing, strict=True):
            if text:
                yield Lesson(picture, (Question(KIND_DOING, DOING, text),), f"Now: {text}.", (f"now {text}",))


def subtask_at(episode: Episode, frame: int) -> str:
    return next((part.text for part in episode.subtasks if part.start <= frame < part.end), "")
