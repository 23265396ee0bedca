"""Pictures that the embedded teacher learns from: seen by its eyes once, as rows of questions and answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from xtok.data.digests import digest_of
from xtok.semantics.embedded.connector import POINTS
from xtok.semantics.embedded.eyes import Sight
from xtok.semantics.embedded.lessons import KIND_DOING, Lesson
from xtok.semantics.embedded.model import EmbeddedVLM

EYES_BATCH = 64


@dataclass(frozen=True)
class Row:
    """One thing to learn from a picture. question None: a caption. answers: of the linear head, all equally right."""

    picture: int
    question: str | None
    said: str
    answers: tuple[str, ...]
    mask: Float[Tensor, "64 64"] | None
    kind: str


class School:
    """Lessons seen by the eyes, as rows by picture."""

    def __init__(self, model: EmbeddedVLM, progress: Callable[[int], Any] = lambda _: None) -> None:
        self._model, self._progress = model, progress
        self._sights: list[Sight] = []
        self.rows: list[list[Row]] = []  # of each picture
        self.captions: list[Row] = []

    def add(self, lessons: Sequence[Lesson]) -> None:
        """Also mirrored."""
        both = [each for lesson in lessons for each in (lesson, lesson.mirrored())]
        for start in range(0, len(both), EYES_BATCH):
            some = both[start : start + EYES_BATCH]
            self._sights.append(self._model.eyes([lesson.picture for lesson in some]))
            for lesson in some:
                number = len(self.rows)
                self.rows.append([_row(number, question) for question in lesson.questions])
                self.captions.append(Row(number, None, f" {lesson.caption}", lesson.facts, None, "caption"))
            self._progress(len(some))

    def sight(self) -> Sight:
        """Of all pictures, by number."""
        if len(self._sights) > 1:
            self._sights = [Sight.cat(self._sights)]
        if not self._sights:
            raise ValueError("nothing to learn from; give sets of `xtok sim questions`")
        return self._sights[0]

    @property
    def answers(self) -> tuple[str, ...]:
        every = [row for rows in self.rows for row in rows] + self.captions
        return tuple(sorted({answer for row in every for answer in row.answers}))

    @property
    def digest(self) -> str:
        rows = [[(r.question, r.said) for r in rows] for rows in self.rows]
        colour = self.sight().colour.float().mean((1, 2, 3)).tolist()
        return digest_of(rows=rows, captions=[r.said for r in self.captions], colour=[round(c, 3) for c in colour])


def _row(picture: int, question: Any) -> Row:
    mask = None
    if question.mask is not None:
        cells = F.adaptive_avg_pool2d(torch.from_numpy(question.mask.copy()).float()[None, None], POINTS)[0, 0]
        mask = cells / cells.sum()
    answers = () if mask is not None else (question.answer,)
    if question.kind == KIND_DOING:
        answers = (f"now {question.answer}",)
    return Row(picture, question.text, f" {question.answer}", answers, mask, question.kind)
