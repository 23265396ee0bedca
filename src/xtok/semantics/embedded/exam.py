"""Answers to a set of questions, with controls: another picture, no words, another question of the same picture.

It takes any backbone that answers. # Q questions
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import numpy as np

from xtok.semantics.backbone import Answer, Backbone, Observation
from xtok.semantics.embedded.lessons import Lesson, Question

BATCH = 64
NO_WORDS = "?"
CONDITIONS = ("right", "another_picture", "no_words", "another_question")
POINTING = ("point", "target")  # kinds that a place answers


class Exam(TypedDict):
    """kinds: kind (and "all") -> questions and the share right under each condition, with an interval of `right`.
    parts: the same of level, held-out arm and task. sure: of bins of how sure it was, how often it was right."""

    kinds: dict[str, dict[str, Any]]
    sure: dict[str, dict[str, float]]
    seconds_an_answer: float


def is_right(question: Question, answer: Answer, size: tuple[int, int]) -> bool:
    """A point lies within the mask; other answers are the same words. size: height and width of the picture."""
    if question.mask is None:
        return answer.text.rstrip(".").lower() == question.answer.lower()
    if answer.point is None:
        return False
    side = len(question.mask)
    x = min(max(int((answer.point[0] + 0.5) / size[1] * side), 0), side - 1)
    y = min(max(int((answer.point[1] + 0.5) / size[0] * side), 0), side - 1)
    return bool(question.mask[y, x])


def answers_of(
    model: Backbone,
    lessons: Sequence[Lesson],
    seed: int = 0,
    controls: bool = True,
    progress: Callable[[int], Any] = lambda _: None,
) -> list[dict[str, Any]]:
    """Of every question: what was answered under each condition, and whether it is right.

    another_picture: asked of a picture drawn from the other lessons: what words and habit give. no_words: every
    question is "?": what the picture gives. another_question: one of the same kind about another picture's things is
    asked, and its answer held against this question's.
    """
    asked = [(i, question) for i, lesson in enumerate(lessons) for question in lesson.questions]
    rng = np.random.default_rng(seed)
    other = [int((i + rng.integers(1, len(lessons))) % len(lessons)) if len(lessons) > 1 else i for i, _ in asked]
    by_kind: dict[str, list[str]] = {}
    for _, question in asked:
        by_kind.setdefault(question.kind, []).append(question.text)
    swapped = [by_kind[q.kind][int(rng.integers(len(by_kind[q.kind])))] for _, q in asked]
    rows: list[dict[str, Any]] = []
    for start in range(0, len(asked), BATCH):
        some = range(start, min(start + BATCH, len(asked)))
        conditions = [("right", [(asked[n][0], asked[n][1].text) for n in some])]
        if controls:
            conditions += [
                ("another_picture", [(other[n], asked[n][1].text) for n in some]),
                ("no_words", [(asked[n][0], NO_WORDS) for n in some]),
                ("another_question", [(asked[n][0], swapped[n]) for n in some]),
            ]
        new: list[dict[str, Any]] = [{"lesson": asked[n][0], "question": asked[n][1]} for n in some]
        for name, observed in conditions:
            began = time.perf_counter()
            answers = model.answer([Observation({"any": lessons[i].picture}, text) for i, text in observed])
            seconds = (time.perf_counter() - began) / len(observed)
            for row, answer, (i, _) in zip(new, answers, observed, strict=True):
                row[name] = is_right(
                    row["question"], answer, (lessons[i].picture.shape[0], lessons[i].picture.shape[1])
                )
                if name == "right":
                    row |= {"answer": answer, "seconds": seconds}
        rows += new
        progress(len(new))
    return rows


def exam(
    model: Backbone,
    lessons: Sequence[Lesson],
    seed: int = 0,
    controls: bool = True,
    progress: Callable[[int], Any] = lambda _: None,
) -> Exam:
    """See `Exam`, `answers_of`."""
    return table_of(answers_of(model, lessons, seed, controls, progress))


def table_of(rows: Sequence[dict[str, Any]]) -> Exam:
    kinds = {}
    for kind in (*sorted({row["question"].kind for row in rows}), "all"):
        mine = [row for row in rows if kind in (row["question"].kind, "all")]
        kinds[kind] = shares(mine)
    sure: dict[str, dict[str, float]] = {}
    for name, pointing in (("place", True), ("words", False)):
        mine = [row for row in rows if (row["question"].mask is not None) == pointing]
        for low in (0.0, 0.5, 0.7, 0.9):
            high = {0.0: 0.5, 0.5: 0.7, 0.7: 0.9, 0.9: 1.01}[low]
            told = [row for row in mine if low <= sureness(row) < high]
            if told:
                right = float(np.mean([row["right"] for row in told]))
                said = float(np.mean([sureness(row) for row in told]))
                sure[f"{name} {low}+"] = {"questions": len(told), "sure": round(said, 3), "right": round(right, 3)}
    return {
        "kinds": kinds,
        "sure": sure,
        "seconds_an_answer": round(float(np.mean([row["seconds"] for row in rows])), 4),
    }


def sureness(row: dict[str, Any]) -> float:
    """How sure the model was of what counts."""
    answer: Answer = row["answer"]
    return answer.sure if row["question"].mask is None else answer.point_sure


def shares(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Questions, share right by condition, and the interval of `right` (95 %, by scenes drawn again)."""
    found: dict[str, Any] = {"questions": len(rows)}
    for condition in CONDITIONS:
        if rows and condition in rows[0]:
            found[condition] = round(float(np.mean([row[condition] for row in rows])), 4)
    if rows:
        found["interval"] = interval([row["lesson"] for row in rows], [row["right"] for row in rows])
    return found


def interval(lessons: Sequence[int], right: Sequence[bool], draws: int = 1000) -> list[float]:
    """Of the share right: 2.5 and 97.5 % of bootstraps over pictures, since questions of one picture hang together."""
    numbers, place = np.unique(lessons, return_inverse=True)
    hits = np.bincount(place, weights=np.asarray(right, float), minlength=len(numbers))
    counts = np.bincount(place, minlength=len(numbers))
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(numbers), size=(draws, len(numbers)))
    found = hits[drawn].sum(1) / counts[drawn].sum(1)
    return [round(float(value), 4) for value in np.quantile(found, (0.025, 0.975))]
