"""Pictures with questions about them, for a step of training: of seed and number of the step alone.

Everything is also shown mirrored (with left and right exchanged in the words), moved, dimmed and at 96 pixels.

# B pictures of a batch, R rows (a picture with a question), S side of a picture, G cells a side, T things, D places
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from xtok.semantics.embedded.eyes import CELLS, SIDE
from xtok.semantics.embedded.lessons import COLOUR_WORDS, KIND_CAPTION, KIND_DOING, KIND_WORDS, NOTHING, exchange, named
from xtok.semantics.embedded.recipe import TeacherRecipe
from xtok.semantics.embedded.school import School, answer_key

MOVED, SMALL, DIM = 5, 96, (0.85, 1.15)  # pixels; pixels a side; of each colour
CENTRE_WIDTH = 0.7  # cells: of the bump around a thing's middle
NAMED = 3  # mentions of a text that queries are taught
SEEN_SHARE, EMPTY_SHARE = 0.4, 0.85  # of a cell: it is a thing's; it is no thing's
LONG = (KIND_CAPTION, KIND_DOING)  # kinds with long answers, which have steps of their own: short ones need not wait


@dataclass(frozen=True)
class TeacherBatch:
    """pictures_B: their numbers. pixels: as augmented. *_BGG: of each cell, -1 where it is not told. place: picture,
    cell of each thing's middle; offset from the cell's middle to the thing's, in cells; held 0 or 1, -1 where not told.
    picture_R: of each row, its place in the batch. cover: how much of what is asked for each cell holds, at most 1;
    last: 1 if it is nowhere. points_R: whether that is told. named: the same of mentions.
    """

    pictures_B: Int[np.ndarray, " B"]
    pixels: UInt8[Tensor, "B 3 S S"]
    view_B: Int[Tensor, " B"]
    kind_BGG: Int[Tensor, "B G G"]
    colour_BGG: Int[Tensor, "B G G"]
    centre_BGG: Float[Tensor, "B G G"]
    place_D2: Int[Tensor, "D 2"]
    offset_D2: Float[Tensor, "D 2"]
    held_D: Int[Tensor, " D"]
    picture_R: Int[Tensor, " R"]
    texts: tuple[str, ...]
    answers: tuple[str, ...]
    cover_RG: Float[Tensor, "R G2+1"]
    points_R: Bool[Tensor, " R"]
    named_RMG: Float[Tensor, "R 3 G2+1"]
    is_named_RM: Bool[Tensor, "R 3"]


@dataclass(frozen=True)
class _Drawn:
    """What is random in a picture of a batch. asked: numbers of its questions. absent: a name, or none."""

    picture: int
    asked: tuple[int, ...]
    absent: str | None
    mirrored: bool
    moved: tuple[int, int]
    small: bool
    dim: tuple[float, float, float]
    any_view: bool
    wording: int


@dataclass(frozen=True)
class TeacherBatches:
    """A `BatchSource`. learned: numbers of pictures that are learned from; likely: chance of each. weights: of each row
    of each picture. long: whether its answer is. kind_number, colour_number: by word, from 1."""

    recipe: TeacherRecipe
    school: School
    learned: Int[np.ndarray, " N"]
    likely: Float[np.ndarray, " N"]
    weights: Sequence[Float[np.ndarray, " Q"]]
    long: Sequence[Bool[np.ndarray, " Q"]]
    kind_number: Mapping[str, int]
    colour_number: Mapping[str, int]

    @classmethod
    def of(cls, recipe: TeacherRecipe, school: School) -> TeacherBatches:
        learned = np.array([i for i in range(len(school)) if not is_watched(recipe, school, i)])
        answers = school.answers()
        with_kind: dict[str, int] = {}
        for rows in school.asked:
            for kind in {row.kind for row in rows}:
                with_kind[kind] = with_kind.get(kind, 0) + 1
        likely = np.array([np.mean([with_kind[row.kind] ** -0.5 for row in school.asked[i]]) for i in learned])
        long = [np.array([row.kind in LONG for row in rows]) for rows in school.asked]
        weights = []
        for rows in school.asked:
            rare = np.array([answers[answer_key(row)] ** -0.5 for row in rows])
            for kind in {row.kind for row in rows}:
                mine = np.array([row.kind == kind for row in rows])
                rare[mine] /= rare[mine].sum()
            weights.append(rare / rare.sum())
        kinds = {kind: i for i, kind in enumerate(recipe.network.kinds, start=1)}
        colours = {colour: i for i, colour in enumerate(recipe.network.colours, start=1)}
        school.arrays()  # stacked once, before processes share it
        return cls(recipe, school, learned, likely / likely.sum(), weights, long, kinds, colours)

    def part(self, step: int, index: int, count: int) -> TeacherBatch:
        drawn = self._draw(step)
        places = np.array_split(np.arange(len(drawn)), count)[index]
        return self._made([drawn[i] for i in places])

    def _draw(self, step: int) -> list[_Drawn]:
        recipe, part = self.recipe, self.recipe.part_at(step)
        rng = np.random.default_rng([recipe.seed, step])
        size = min(part.pictures, len(self.learned))
        chosen = self.learned[rng.choice(len(self.learned), size, replace=False, p=self.likely)]
        answering = part is recipe.answering
        long = answering and recipe.long_every > 0 and step % recipe.long_every == recipe.long_every - 1
        drawn = []
        for picture in chosen.tolist():
            weights = self.weights[picture] * (self.long[picture] == long)
            count = min(part.questions, int((weights > 0).sum()))
            chance = weights / max(weights.sum(), 1e-9)
            asked = rng.choice(len(weights), count, replace=False, p=chance).tolist() if count else []
            there = {thing.name for thing in self.school.things[picture]}
            name = f"{COLOUR_WORDS[rng.integers(len(COLOUR_WORDS))]} {KIND_WORDS[rng.integers(len(KIND_WORDS))]}"
            absent = name if (rng.random() < recipe.absent and name not in there) or not count else None
            moved = rng.integers(-MOVED, MOVED + 1, 2)
            drawn.append(
                _Drawn(
                    picture,
                    tuple(asked),
                    absent,
                    bool(rng.integers(2)),
                    (int(moved[0]), int(moved[1])),
                    bool(rng.random() < 0.3),
                    tuple(rng.uniform(*DIM, 3).tolist()),
                    bool(rng.integers(2)),
                    int(rng.integers(4)),
                )
            )
        return drawn

    # -- tensors ------------------------------------------------------------------------------------------------------

    def _made(self, drawn: Sequence[_Drawn]) -> TeacherBatch:
        pictures, labels = self.school.arrays()
        numbers = np.array([each.picture for each in drawn])
        seen = [_augmented(pictures[each.picture], labels[each.picture], each) for each in drawn]
        label_BSS = torch.stack([label for _, label in seen])
        most = max(thing.label for each in drawn for thing in self.school.things[each.picture])
        cover_BTGG = cell_shares(label_BSS, most + 1)
        kind, colour, centre, place, offset, held = self._of_cells(drawn, cover_BTGG)
        picture, texts, answers, cover, points, names, is_named = self._of_rows(drawn, cover_BTGG.flatten(2))
        views = [0 if each.any_view else self.school.views[each.picture] for each in drawn]
        return TeacherBatch(
            numbers,
            torch.stack([pixels for pixels, _ in seen]),
            torch.tensor(views),
            kind,
            colour,
            centre,
            place,
            offset,
            held,
            torch.tensor(picture),
            tuple(texts),
            tuple(answers),
            torch.stack(cover),
            torch.tensor(points),
            torch.stack(names),
            torch.stack(is_named),
        )

    def _of_cells(self, drawn: Sequence[_Drawn], cover_BTGG: Tensor) -> tuple[Tensor, ...]:
        B, T = cover_BTGG.shape[:2]
        kind_of, colour_of = torch.zeros(B, T, dtype=torch.long), torch.zeros(B, T, dtype=torch.long)
        centre = torch.zeros(B, CELLS, CELLS)
        axis = torch.arange(CELLS) + 0.5
        place, offset, held = [], [], []
        for b, each in enumerate(drawn):
            for thing in self.school.things[each.picture]:
                name = exchange(thing.kind) if each.mirrored else thing.kind
                kind_of[b, thing.label] = self.kind_number[name]
                colour_of[b, thing.label] = self.colour_number.get(thing.colour or "", 0)
                x, y = _moved(thing.middle, each)
                mean_x, mean_y = _moved(thing.mean, each)
                if not (0 <= x < SIDE and 0 <= y < SIDE):
                    continue
                scale = CELLS / SIDE
                column, row = int(x * scale), int(y * scale)
                bump = torch.exp(
                    -((axis[None] - column - 0.5) ** 2 + (axis[:, None] - row - 0.5) ** 2) / (2 * CENTRE_WIDTH**2)
                )
                centre[b] = torch.maximum(centre[b], bump)
                place.append((b, row * CELLS + column))
                offset.append(((mean_x + 0.5) * scale - column - 0.5, (mean_y + 0.5) * scale - row - 0.5))
                held.append(-1 if thing.held is None else int(thing.held))
        most, label = cover_BTGG.max(1)
        told = torch.where(label == 0, most > EMPTY_SHARE, most > SEEN_SHARE)
        rows = torch.arange(B)[:, None, None]
        kind = torch.where(told, kind_of[rows, label], -1)
        colour = torch.where(told & (label > 0), colour_of[rows, label], -1)
        return (
            kind,
            colour,
            centre,
            torch.tensor(place, dtype=torch.long).view(-1, 2),
            torch.tensor(offset, dtype=torch.float32).view(-1, 2),
            torch.tensor(held, dtype=torch.long),
        )

    def _of_rows(self, drawn: Sequence[_Drawn], cover_BTG: Tensor) -> tuple[list, ...]:
        picture, texts, answers, cover, points, names, is_named = [], [], [], [], [], [], []
        for b, each in enumerate(drawn):
            things = self.school.things[each.picture]
            rows = [self.school.asked[each.picture][i] for i in each.asked]
            told = [(row.text, row.answer, row.things) for row in rows]
            if each.absent is not None:
                told.append((_ABSENT[each.wording].format(each.absent), NOTHING, ()))
            for text, answer, labels in told:
                mentions = [_share(cover_BTG[b], found) for found in named(text, things)[:NAMED]]
                padded = [*mentions, *[torch.zeros(CELLS**2 + 1)] * (NAMED - len(mentions))]
                picture.append(b)
                texts.append(exchange(text) if each.mirrored else text)
                answers.append(_mirrored_answer(answer) if each.mirrored else answer)
                cover.append(_share(cover_BTG[b], labels or ()))
                points.append(labels is not None)
                names.append(torch.stack(padded))
                is_named.append(torch.arange(NAMED) < len(mentions))
        return picture, texts, answers, cover, points, names, is_named


_ABSENT = ("point to the {}", "where is the {}?", "find the {}", "look at the {}")


def _mirrored_answer(answer: str) -> str:
    """Captions name things from left to right."""
    if not answer.startswith("from left to right: "):
        return exchange(answer)
    things, held = answer.removeprefix("from left to right: ").split("; ")
    return f"from left to right: {', '.join(reversed(things.split(', ')))}; {held}"


def _share(cover_TG: Tensor, labels: Sequence[int]) -> Tensor:
    """[G + 1]: cells by how much of them these things cover, the fullest 1; or nowhere."""
    found = torch.zeros(cover_TG.shape[1] + 1)
    if labels:
        found[:-1] = cover_TG[list(labels)].sum(0)
    most = found.max()
    if most == 0:
        found[-1] = 1.0
        return found
    return found / most


def _moved(point: tuple[float, float], each: _Drawn) -> tuple[float, float]:
    x = SIDE - 1 - point[0] if each.mirrored else point[0]
    return x + each.moved[1], point[1] + each.moved[0]


def _augmented(picture: Tensor, label: Tensor, each: _Drawn) -> tuple[Tensor, Tensor]:
    """Pixels [3, S, S] and labels [S, S]; what is moved in from outside is the edge, of no thing."""
    if each.mirrored:
        picture, label = picture.flip(1), label.flip(1)
    down, right = each.moved
    axis = torch.arange(SIDE)
    rows, columns = (axis - down).clamp(0, SIDE - 1), (axis - right).clamp(0, SIDE - 1)
    inside = ((axis - down) == rows)[:, None] & ((axis - right) == columns)
    pixels = picture[rows][:, columns].permute(2, 0, 1).float()
    if each.small:
        pixels = F.interpolate(pixels[None], (SMALL, SMALL), mode="bilinear", antialias=True, align_corners=False)
        pixels = F.interpolate(pixels, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)[0]
    pixels = (pixels * torch.tensor(each.dim)[:, None, None]).round().clamp(0, 255).to(torch.uint8)
    return pixels, torch.where(inside, label[rows][:, columns], 0)


def cell_shares(label_BSS: UInt8[Tensor, "B S S"], labels: int) -> Float[Tensor, "B T G G"]:
    """Share of each cell's pixels that have each label."""
    B, step = len(label_BSS), SIDE // CELLS
    axis = torch.arange(SIDE) // step
    cell = axis[:, None] * CELLS + axis
    place = (torch.arange(B)[:, None, None] * labels + label_BSS.long()) * CELLS**2 + cell
    return torch.bincount(place.flatten(), minlength=B * labels * CELLS**2).view(B, labels, CELLS, CELLS) / step**2


def is_watched(recipe: TeacherRecipe, school: School, picture: int) -> bool:
    """Whether a picture is of an episode that is looked at and not learned from."""
    seed = int(school.episodes[picture].rsplit("-", 1)[-1])
    return recipe.watched > 0 and seed % recipe.watched == recipe.watched - 1
