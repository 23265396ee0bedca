"""Pictures with questions about them, for a step of the connector's training: of seed and number of the step alone.

# B pictures of a batch, R rows (a picture with a question)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from xtok.semantics.embedded.eyes import Sight
from xtok.semantics.embedded.lessons import KIND_DOING
from xtok.semantics.embedded.recipe import TeacherRecipe
from xtok.semantics.embedded.school import Row, School


@dataclass(frozen=True)
class TeacherBatch:
    """pictures_B: their numbers. rows_R2: questions about them, each the number of a picture and of one of its rows.
    spoken: places in `rows_R2` that are answered in words; described: places in pictures_B that are captioned. Both
    empty before the second part. sight: what the eyes gave of the pictures."""

    pictures_B: Int[np.ndarray, " B"]
    rows_R2: Int[np.ndarray, "R 2"]
    spoken: tuple[int, ...]
    described: tuple[int, ...]
    sight: Sight


@dataclass(frozen=True)
class TeacherBatches:
    """A `BatchSource`. kinds: of question, of each row of each picture, with whether it is answered in words.
    weights: of each row, by how rare its answer is. likely_N: chance of each picture."""

    recipe: TeacherRecipe
    kinds: Sequence[Sequence[tuple[str, bool]]]
    weights: Sequence[Sequence[float]]
    likely_N: Float[np.ndarray, " N"]
    sight: Sight

    @classmethod
    def of(cls, recipe: TeacherRecipe, school: School) -> TeacherBatches:
        seen = Counter(_answer(row) for rows in school.rows for row in rows)
        film = np.array([rows[0].kind == KIND_DOING for rows in school.rows])
        share = recipe.film_share if 0 < film.sum() < len(film) else film.mean()
        likely_N = np.where(film, share / max(film.sum(), 1), (1 - share) / max((~film).sum(), 1))
        kinds = [[(row.kind, row.mask is None) for row in rows] for rows in school.rows]
        weights = [[seen[_answer(row)] ** -0.5 for row in rows] for rows in school.rows]
        return cls(recipe, kinds, weights, likely_N, school.sight())

    def part(self, step: int, index: int, count: int) -> TeacherBatch:
        pictures_B, rows_R2, spoken, described = self._whole(step)
        places = np.array_split(np.arange(len(pictures_B)), count)[index]
        mine = np.isin(rows_R2[:, 0], pictures_B[places])
        at = np.cumsum(mine) - 1  # a row of the whole among those of the part
        return TeacherBatch(
            pictures_B[places],
            rows_R2[mine],
            tuple(int(at[i]) for i in spoken if mine[i]),
            tuple(int(i - places[0]) for i in described if places[0] <= i <= places[-1]),
            self.sight[torch.from_numpy(pictures_B[places])],
        )

    def _whole(self, step: int) -> tuple[np.ndarray, np.ndarray, list[int], list[int]]:
        recipe = self.recipe
        rng = np.random.default_rng([recipe.seed, step])
        speaking = step >= recipe.looking
        size = min(recipe.speaking_pictures if speaking else recipe.pictures, len(self.kinds))
        pictures_B = rng.choice(len(self.kinds), size, replace=False, p=self.likely_N)
        rows_R2 = np.array([(picture, i) for picture in pictures_B.tolist() for i in self._asked(picture, rng)])
        if not speaking:
            return pictures_B, rows_R2, [], []
        n = recipe.spoken
        in_words = [r for r, (picture, i) in enumerate(rows_R2.tolist()) if self.kinds[picture][i][1]]
        spoken = [in_words[i] for i in rng.permutation(len(in_words))[: n - n // 6]]
        return pictures_B, rows_R2, spoken, rng.permutation(size)[: n // 6].tolist()

    def _asked(self, picture: int, rng: np.random.Generator) -> list[int]:
        """Questions of a picture: kinds equally likely, and within a kind answers that are rare all over more so."""
        kinds = [kind for kind, _ in self.kinds[picture]]
        size = min(self.recipe.questions, len(kinds))
        weights = np.array(self.weights[picture])
        for kind in sorted(set(kinds)):
            mine = np.array([each == kind for each in kinds])
            weights[mine] /= weights[mine].sum()
        found: list[int] = rng.choice(len(kinds), size, replace=False, p=weights / weights.sum()).tolist()
        return found


def _answer(row: Row) -> tuple[str, str]:
    return row.kind, row.said if row.mask is None else ""
