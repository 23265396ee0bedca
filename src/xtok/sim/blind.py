"""Is a set of questions guessable? Balance it, then measure what is answered without picture, and without words.

# N questions, W words, A answers, P pixels of a thumbnail
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from xtok.sim.ask import Question

FOLDS = 5
NEIGHBOURS = 3
EVEN = 0.75  # of the answers that some words have must still be there in a round of balancing


@dataclass(frozen=True)
class Asked:
    """A question of a picture. scene: pictures of one scene share it, so that controls never learn from the scene."""

    question: Question
    picture: str
    scene: str


def balanced(asked: Sequence[Asked], wanted: int, rng: np.random.Generator) -> list[Asked]:
    """At least `wanted` questions if there are so many, in equal parts by kind as far as they go, in the old order.

    Where words have few answers ("is ... left or right of ...?"), each answer is kept equally often for the same words,
    since words alone must not tell.
    """
    kinds: dict[str, list[int]] = {}
    for kind in sorted({each.question.kind for each in asked}):
        mine = [i for i, each in enumerate(asked) if each.question.kind == kind]
        kinds[kind] = _even([int(i) for i in rng.permutation(mine)], asked)
    share, taken = 0, 0
    while taken < wanted and any(len(mine) > share for mine in kinds.values()):
        share += 1
        taken = sum(min(share, len(mine)) for mine in kinds.values())
    return [asked[i] for i in sorted(i for mine in kinds.values() for i in mine[:share])]


def _even(order: Sequence[int], asked: Sequence[Asked]) -> list[int]:
    """Questions in rounds: one of each answer to the same words a round; words whose answers run out stop there. Points
    go picture by picture: all its things, so that none is the likely one.
    """
    groups: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for i in order:
        question = asked[i].question
        words, answer = (question.text, question.answer) if question.mask is None else (asked[i].picture, str(i))
        groups[words][answer].append(i)
    rounds: list[list[int]] = []
    for answers in groups.values():
        pools = list(answers.values())
        # one answer would give itself away, and rounds in which few of many are left would say too much
        least = max(2, round(EVEN * len(pools)))
        while len(pools) >= least:
            rounds.append([pool.pop() for pool in pools])
            pools = [pool for pool in pools if pool]
    return [i for group in sorted(rounds, key=len, reverse=True) for i in group]  # the fullest rounds first


class ControlsJson(TypedDict):
    """`Controls` in a file, to four places."""

    questions: int
    chance: float
    image_blind: float
    text_blind: float


@dataclass(frozen=True)
class Controls:
    """Share answered right. chance: by a guess among the answers that the words allow. image_blind: from the words, by
    the best of three guessers. text_blind: from the picture, likewise.
    """

    questions: int
    chance: float
    image_blind: float
    text_blind: float

    def rounded(self) -> ControlsJson:
        return {
            "questions": self.questions,
            "chance": round(self.chance, 4),
            "image_blind": round(self.image_blind, 4),
            "text_blind": round(self.text_blind, 4),
        }


def controls(asked: Sequence[Asked], thumbnails: Mapping[str, np.ndarray], seed: int = 0) -> dict[str, Controls]:
    """Kind (and "all") -> controls. thumbnails: picture -> its pixels in small, float [P].

    The guessers of a question learn from questions of other scenes, in five folds; only the text-blind majority looks
    at the other questions of the same picture.
    """
    folds = _folds(asked, seed)
    image_blind = [_crossed(asked, folds, guesser) for guesser in (_by_kind, _by_words, _bag_of_words)]
    text_blind = [
        _by_picture(asked),
        _crossed(asked, folds, lambda learnt, new: _by_neighbours(learnt, new, thumbnails)),
    ]
    chance_N = np.array([_chance(each.question) for each in asked])
    kinds = np.array([each.question.kind for each in asked])
    found = {}
    for kind in (*sorted(set(kinds.tolist())), "all"):
        where = np.ones(len(asked), bool) if kind == "all" else kinds == kind
        found[kind] = Controls(
            int(where.sum()),
            float(chance_N[where].mean()),
            max(float(right_N[where].mean()) for right_N in image_blind),
            max(float(right_N[where].mean()) for right_N in text_blind),
        )
    return found


Guesses = Sequence[str | tuple[int, int]]


def _chance(question: Question) -> float:
    if question.mask is not None:
        return float(question.mask.mean())
    return 1 / len(question.choices)


def _is_right(question: Question, guess: str | tuple[int, int]) -> bool:
    if question.mask is not None:
        return not isinstance(guess, str) and bool(question.mask[guess[1], guess[0]])
    return guess == question.answer


def _folds(asked: Sequence[Asked], seed: int) -> np.ndarray:
    scenes = sorted({each.scene for each in asked})
    fold_of = dict(zip(scenes, np.random.default_rng(seed).permutation(len(scenes)) % FOLDS, strict=True))
    return np.array([fold_of[each.scene] for each in asked])


def _crossed(
    asked: Sequence[Asked], folds_N: np.ndarray, guesser: Callable[[list[Asked], list[Asked]], Guesses]
) -> np.ndarray:
    """bool [N]: was the guess right, made by a guesser that learnt from the other folds."""
    right_N = np.zeros(len(asked), dtype=bool)
    for fold in range(FOLDS):
        here = np.flatnonzero(folds_N == fold)
        learnt = [asked[i] for i in np.flatnonzero(folds_N != fold)]
        guesses = guesser(learnt, [asked[i] for i in here]) if len(here) and learnt else []
        for i, guess in zip(here, guesses, strict=False):
            right_N[i] = _is_right(asked[i].question, guess)
    return right_N


def _spot(questions: Sequence[Question]) -> tuple[int, int]:
    points = [question.point for question in questions if question.point is not None]
    x, y = np.mean(points, axis=0).round().astype(int).tolist()
    return x, y


def _by_kind(learnt: list[Asked], new: list[Asked]) -> Guesses:
    """The commonest answer to questions of the kind, since words tell it; for points their mean place."""
    by_kind: dict[str, list[Question]] = defaultdict(list)
    for each in learnt:
        by_kind[each.question.kind].append(each.question)
    said = {
        kind: _spot(of) if of[0].mask is not None else _commonest([q.answer for q in of])
        for kind, of in by_kind.items()
    }
    return [said.get(each.question.kind, "") for each in new]


def _by_words(learnt: list[Asked], new: list[Asked]) -> Guesses:
    """The commonest answer to the same words, else to the kind; for points their mean place."""
    by_text: dict[str, list[Question]] = defaultdict(list)
    by_kind: dict[str, list[Question]] = defaultdict(list)
    for each in learnt:
        by_text[each.question.text].append(each.question)
        by_kind[each.question.kind].append(each.question)
    guesses: list[str | tuple[int, int]] = []
    for each in new:
        known = by_text.get(each.question.text) or by_kind.get(each.question.kind) or []
        if not known:
            guesses.append("")
        elif each.question.mask is not None:
            guesses.append(_spot(known))
        else:
            guesses.append(_commonest([question.answer for question in known]))
    return guesses


def _bag_of_words(learnt: list[Asked], new: list[Asked]) -> Guesses:
    """Naive Bayes over words, kind by kind, since words tell the kind; points by the mean place."""
    guesses: list[str | tuple[int, int]] = list(_by_words(learnt, new))
    for kind in {each.question.kind for each in new if each.question.mask is None}:
        of_kind = [each for each in learnt if each.question.kind == kind]
        where = [i for i, each in enumerate(new) if each.question.kind == kind]
        if of_kind:
            for i, guess in zip(where, _bayes(of_kind, [new[i] for i in where]), strict=True):
                guesses[i] = guess
    return guesses


def _bayes(learnt: list[Asked], new: list[Asked]) -> list[str]:
    words = sorted({word for each in learnt for word in each.question.text.split()})
    answers = sorted({each.question.answer for each in learnt})
    place = {word: i for i, word in enumerate(words)}
    counts_AW = np.ones((len(answers), len(words)))
    prior_A = np.zeros(len(answers))
    number = {answer: i for i, answer in enumerate(answers)}
    for each in learnt:
        row = number[each.question.answer]
        prior_A[row] += 1
        for word in each.question.text.split():
            counts_AW[row, place[word]] += 1  # on top of one for every word
    log_AW = np.log(counts_AW / counts_AW.sum(axis=1, keepdims=True))
    known = [[place[word] for word in each.question.text.split() if word in place] for each in new]
    return [answers[int(np.argmax(np.log(prior_A) + log_AW[:, row].sum(axis=1)))] for row in known]


def _by_picture(asked: Sequence[Asked]) -> np.ndarray:
    """bool [N]: right by the commonest answer to the other questions of the picture; points at its largest thing."""
    by_picture: dict[str, list[int]] = defaultdict(list)
    for i, each in enumerate(asked):
        by_picture[each.picture].append(i)
    right_N = np.zeros(len(asked), dtype=bool)
    for mine in by_picture.values():
        pointed = [(int(mask.sum()), -i) for i in mine if (mask := asked[i].question.mask) is not None]
        largest = asked[-max(pointed)[1]].question.point if pointed else None
        for i in mine:
            question = asked[i].question
            others = [asked[j].question.answer for j in mine if j != i and asked[j].question.mask is None]
            if question.mask is not None and largest is not None:
                right_N[i] = _is_right(question, largest)
            elif others:
                right_N[i] = _is_right(question, _commonest(others))
    return right_N


def _by_neighbours(learnt: list[Asked], new: list[Asked], thumbnails: Mapping[str, np.ndarray]) -> Guesses:
    """The commonest answer to any question about the three pictures of other scenes that look most alike."""
    pictures = sorted({each.picture for each in learnt})
    known_P = np.stack([thumbnails[picture] for picture in pictures])
    answers: dict[str, list[Question]] = defaultdict(list)
    for each in learnt:
        answers[each.picture].append(each.question)
    guesses: list[str | tuple[int, int]] = []
    for each in new:
        distance = ((known_P - thumbnails[each.picture]) ** 2).sum(axis=1)
        near = [q for i in np.argsort(distance, kind="stable")[:NEIGHBOURS] for q in answers[pictures[i]]]
        points = [question for question in near if question.mask is not None]
        said = [question.answer for question in near if question.mask is None]
        if each.question.mask is not None:
            guesses.append(_spot(points) if points else "")
        else:
            guesses.append(_commonest(said) if said else "")
    return guesses


def _commonest(answers: Sequence[str]) -> str:
    return max(sorted(Counter(answers).items()), key=lambda item: item[1])[0]
