"""Questions that one picture answers exactly, from the simulation's own knowledge of what is where.

Each kind asks the same words of many scenes with many answers, and of one scene in ways whose answers differ, so
neither words nor picture alone tell (`blind` measures that).

# S side of the picture in pixels
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np

from xtok.sim.facts import ObjectFact, PairFact

KINDS = ("point", "target", "side", "beside", "held", "which_held", "count", "colour")
PAIR_KINDS = ("which_arm", "arm_holds", "whose_side", "nearer_hand")  # besides, with two arms
VISIBLE_PIXELS = 20  # of a 128 px picture; what shows less is not asked about
APART = 5 / 128  # share of the picture's width by which things must lie apart to be left or right of each other
NOTHING = "nothing"
COUNT_MAX = 4
ROBOT = "white"  # some arms are, so white things are not counted

POINT = ("point to the {thing}", "where is the {thing}?", "find the {thing}", "look at the {thing}")
POINT_ANY = ("point to a {thing}", "where is a {thing}?", "find a {thing}")  # where several are called so
ALSO = {"cube": "block", "tray": "bin"}  # other names in instructions
FIRST = ("{instruction}: point to what is touched first", "{instruction}: where is the first thing to touch?")
GOES = ("{instruction}: point to where it goes", "{instruction}: where is it put?")
SIDE = ("is the {a} left or right of the {b}?", "which side of the {b} is the {a} on, left or right?")
BESIDE = ("what is {side} of the {thing}?", "name the thing {side} of the {thing}")
HELD = ("is the {thing} in the gripper?", "does the robot hold the {thing}?")
WHICH_HELD = ("which object is held?", "what does the robot hold?")
HELD_PAIR = ("is the {thing} in a gripper?", "does one of the arms hold the {thing}?")
WHICH_ARM = ("which arm holds the {thing}?", "who holds the {thing}, the left arm, the right arm or neither?")
WHICH_ARM_BOTH = (
    "which arm holds the {thing}?",
    "who holds the {thing}, the left arm, the right arm, both or neither?",
)
ARM_HOLDS = ("what does the {side} arm hold?", "which object is in the {side} gripper?")
WHOSE_SIDE = (
    "on whose side of the table is the {thing}, left or right?",
    "is the {thing} on the left or the right arm's side of the table?",
)
NEARER_HAND = (
    "which gripper is nearer to the {thing}?",
    "is the {thing} nearer to the left or the right gripper?",
)
COUNT = ("how many {things} are there?", "count the {things}")
COLOUR = ("what colour is the {place} object?", "name the colour of the {place} object")


@dataclass(frozen=True)
class Question:
    """One question. choices: answers that its words allow (empty for points). mask: where the thing is, bool [S, S]."""

    kind: str
    text: str
    answer: str
    choices: tuple[str, ...] = ()
    mask: np.ndarray | None = field(default=None, repr=False, compare=False)

    @property
    def point(self) -> tuple[int, int] | None:
        """x, y of the pixel of the thing that is nearest to its middle."""
        return None if self.mask is None else middle(self.mask)


@dataclass(frozen=True)
class Aims:
    """What an instruction is about. first: props of which one is touched first. goes: that on or in which it is put."""

    instruction: str
    first: tuple[str, ...]
    goes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Thing:
    name: str  # what words call it, unique in the scene
    kind: str
    colour: str | None
    held: bool
    x: float  # of its middle in the picture, pixels
    mask: np.ndarray


def middle(mask: np.ndarray) -> tuple[int, int]:
    """x, y of the True pixel that is nearest to the mean of them all."""
    rows, columns = np.nonzero(mask)
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    return int(columns[nearest]), int(rows[nearest])


def called(fact: ObjectFact) -> str:
    """ "red cube", or "lever" for a thing without a colour word."""
    return fact.kind if fact.colour is None else f"{fact.colour} {fact.kind}"


def ask(
    facts: Sequence[ObjectFact],
    masks: Mapping[str, np.ndarray],
    colours: Sequence[str],
    rng: np.random.Generator,
    cluttered: bool = False,
    hands: Mapping[str, np.ndarray] | None = None,
    aims: Aims | None = None,
) -> list[Question]:
    """All questions of one picture, in random wordings. colours: words that the suite has. cluttered: things that the
    facts do not name lie about, so nothing is asked whose answer they could change. hands: what words call a hand ->
    where it is seen, bool [S, S]. aims: of an instruction.
    """
    size = next(iter(masks.values())).shape[0]
    enough = VISIBLE_PIXELS * (size / 128) ** 2
    times = Counter(called(fact) for fact in facts)
    seen = [fact for fact in facts if masks[fact.name].sum() >= enough]
    things = [
        _Thing(called(f), f.kind, f.colour, f.held, float(np.nonzero(masks[f.name])[1].mean()), masks[f.name])
        for f in seen
        if times[called(f)] == 1
    ]
    all_seen = len(seen) == len(facts)  # else counts, and what is beside, are not in the picture
    pair = [fact for fact in facts if isinstance(fact, PairFact)]
    shown = [*_points(things, seen, masks, rng), *_hands(hands or {}, enough, rng), *_targets(aims, seen, masks, rng)]
    questions = [*shown, *_sides(things, size, rng), *_held(things, rng, HELD_PAIR if pair else HELD)]
    if all_seen:
        named_colours = () if cluttered else colours
        counts = _pair_counts(facts, named_colours, rng) if pair else _counts(facts, named_colours, rng)
        questions += [*([] if pair else _which_held(facts, rng)), *counts]
        if len(things) == len(facts) and not cluttered:
            questions += [*_beside(things, size, rng), *_colours(things, size, colours, rng)]
    if pair:
        named = [fact for fact in pair if any(called(fact) == thing.name for thing in things)]
        questions += [*_which_arm(named, rng), *_whose_side(named, rng), *_nearer_hand(named, rng)]
        if all_seen:
            questions += _arm_holds(pair, rng)
    return questions


def _say(templates: Sequence[str], rng: np.random.Generator, **words: str) -> str:
    return templates[int(rng.integers(len(templates)))].format(**words)


def _points(
    things: Sequence[_Thing], seen: Sequence[ObjectFact], masks: Mapping[str, np.ndarray], rng: np.random.Generator
) -> list[Question]:
    """At each thing; at any of those that are called the same."""
    if len(seen) < 2:
        return []
    questions = [Question("point", _say(POINT, rng, thing=_also(t.name, rng)), t.name, mask=t.mask) for t in things]
    alike: dict[str, list[np.ndarray]] = {}
    for fact in seen:
        alike.setdefault(called(fact), []).append(masks[fact.name])
    several = {name: found for name, found in alike.items() if len(found) > 1}
    return questions + [
        Question("point", _say(POINT_ANY, rng, thing=_also(name, rng)), name, mask=np.logical_or.reduce(found))
        for name, found in several.items()
    ]


def _also(name: str, rng: np.random.Generator) -> str:
    """The name, or half the time with another noun for it that instructions use."""
    kind = name.split()[-1]
    return name.replace(kind, ALSO[kind]) if kind in ALSO and rng.integers(2) else name


def _hands(hands: Mapping[str, np.ndarray], enough: float, rng: np.random.Generator) -> list[Question]:
    return [
        Question("point", _say(POINT, rng, thing=name), name, mask=mask)
        for name, mask in hands.items()
        if mask.sum() >= enough
    ]


def _targets(
    aims: Aims | None, seen: Sequence[ObjectFact], masks: Mapping[str, np.ndarray], rng: np.random.Generator
) -> list[Question]:
    """What an instruction means: the thing to touch first, and where it goes."""
    if aims is None:
        return []
    by_name = {fact.name: fact for fact in seen}
    questions = []
    for templates, names in ((FIRST, aims.first), (GOES, aims.goes)):
        if names and all(name in by_name for name in names):
            mask = np.logical_or.reduce([masks[name] for name in names])
            text = _say(templates, rng, instruction=aims.instruction)
            questions.append(Question("target", text, called(by_name[names[0]]), mask=mask))
    return questions


def _sides(things: Sequence[_Thing], size: int, rng: np.random.Generator) -> list[Question]:
    return [
        Question("side", _say(SIDE, rng, a=a.name, b=b.name), "left" if a.x < b.x else "right", ("left", "right"))
        for a, b in permutations(things, 2)
        if abs(a.x - b.x) > APART * size
    ]


def _beside(things: Sequence[_Thing], size: int, rng: np.random.Generator) -> list[Question]:
    """What is left (right) of a thing, where exactly one thing is, and others could be."""
    questions = []
    for thing in things if len(things) > 2 else ():
        for side, sign in (("left", -1), ("right", 1)):
            on_side = [other for other in things if sign * (other.x - thing.x) > 0]
            if len(on_side) == 1 and abs(on_side[0].x - thing.x) > APART * size:
                text = _say(BESIDE, rng, side=side, thing=thing.name)
                others = tuple(sorted(other.name for other in things if other is not thing))
                questions.append(Question("beside", text, on_side[0].name, others))
    return questions


def _held(things: Sequence[_Thing], rng: np.random.Generator, templates: Sequence[str]) -> list[Question]:
    """Yes of what is held and no of something else, both or neither."""
    held = [thing for thing in things if thing.held]
    free = [thing for thing in things if not thing.held]
    if not held or not free:
        return []
    pair = ((held[0], "yes"), (free[int(rng.integers(len(free)))], "no"))
    return [Question("held", _say(templates, rng, thing=thing.name), answer, ("yes", "no")) for thing, answer in pair]


def _which_held(facts: Sequence[ObjectFact], rng: np.random.Generator) -> list[Question]:
    held = [called(fact) for fact in facts if fact.held]
    if len(facts) < 2 or len(held) > 1:
        return []
    choices = (*sorted({called(fact) for fact in facts}), NOTHING)
    return [Question("which_held", _say(WHICH_HELD, rng), held[0] if held else NOTHING, choices)]


def _counts(facts: Sequence[ObjectFact], colours: Sequence[str], rng: np.random.Generator) -> list[Question]:
    """Of kinds that are there, and of colours (if any are given) that are there or not."""
    choices = tuple(str(i) for i in range(COUNT_MAX + 1))
    asked = Counter(f"{fact.kind}s" for fact in facts)
    asked.update(
        {f"{colour} things": sum(fact.colour == colour for fact in facts) for colour in colours if colour != ROBOT}
    )
    if colours:
        asked["things on the table or in the gripper"] = len(facts)
    return [
        Question("count", _say(COUNT, rng, things=things), str(count), choices)
        for things, count in asked.items()
        if count <= COUNT_MAX
    ]


def _colours(things: Sequence[_Thing], size: int, colours: Sequence[str], rng: np.random.Generator) -> list[Question]:
    """Of the outermost things, where they are alone there."""
    ordered = sorted(things, key=lambda thing: thing.x)
    questions = []
    for place, first, second in (("leftmost", 0, 1), ("rightmost", -1, -2)):
        if len(ordered) > 1 and abs(ordered[first].x - ordered[second].x) > APART * size:
            colour = ordered[first].colour
            if colour is not None:
                questions.append(Question("colour", _say(COLOUR, rng, place=place), colour, tuple(colours)))
    return questions


# -- two arms -----------------------------------------------------------------------------------------------------

ARM_ANSWERS = ("left", "right", "neither")
BOTH = ("stick",)  # kinds that one arm holds, the other, both or neither
TOGETHER = ("pot",)  # kinds that both hold or neither, so the name would say too much


def _pair_counts(facts: Sequence[ObjectFact], colours: Sequence[str], rng: np.random.Generator) -> list[Question]:
    """Of two colours, one question for each answer that the scene has. Kinds are not counted (sticks are always two),
    nor is more than one question of an answer asked: most would be alike, and a picture would tell them unread.
    """
    choices = ("0", "1", "2")
    asked: dict[str, list[str]] = {}
    for one, other in permutations((colour for colour in colours if colour != ROBOT), 2):
        count = str(sum(fact.colour in (one, other) for fact in facts))
        asked.setdefault(count, []).append(f"{one} or {other} things")
    return [
        Question("count", _say(COUNT, rng, things=things[int(rng.integers(len(things)))]), count, choices)
        for count, things in sorted(asked.items())
        if count in choices
    ]


def _which_arm(facts: Sequence[PairFact], rng: np.random.Generator) -> list[Question]:
    """Of what is held, and of one thing that is not."""
    facts = [fact for fact in facts if fact.kind not in TOGETHER]
    held = [fact for fact in facts if fact.holders]
    free = [fact for fact in facts if not fact.holders]
    asked = [*held, *([free[int(rng.integers(len(free)))]] if free else [])]
    questions = []
    for fact in asked:
        answer = "both" if len(fact.holders) == 2 else fact.holders[0] if fact.holders else "neither"
        templates, choices = (WHICH_ARM_BOTH, (*ARM_ANSWERS, "both")) if fact.kind in BOTH else (WHICH_ARM, ARM_ANSWERS)
        if answer in choices:
            questions.append(Question("which_arm", _say(templates, rng, thing=called(fact)), answer, choices))
    return questions


def _arm_holds(facts: Sequence[PairFact], rng: np.random.Generator) -> list[Question]:
    """What an arm holds, or nothing; of both only where that differs, so that one answer says nothing of another."""
    choices = (*sorted({called(fact) for fact in facts}), NOTHING)
    sides: dict[str, list[str]] = {}
    for side in ("left", "right"):
        held = [called(fact) for fact in facts if side in fact.holders]
        if len(facts) > 1 and len(held) < 2:
            sides.setdefault(held[0] if held else NOTHING, []).append(side)
    return [
        Question("arm_holds", _say(ARM_HOLDS, rng, side=which[int(rng.integers(len(which)))]), answer, choices)
        for answer, which in sides.items()
    ]


def _whose_side(facts: Sequence[PairFact], rng: np.random.Generator) -> list[Question]:
    return _left_and_right("whose_side", WHOSE_SIDE, {called(fact): fact.nearer for fact in facts}, rng)


def _nearer_hand(facts: Sequence[PairFact], rng: np.random.Generator) -> list[Question]:
    return _left_and_right("nearer_hand", NEARER_HAND, {called(fact): fact.nearer_hand for fact in facts}, rng)


def _left_and_right(
    kind: str, templates: Sequence[str], answers: Mapping[str, str | None], rng: np.random.Generator
) -> list[Question]:
    """Of one thing on the left and one on the right, both or neither: else what lies about would tell. answers: thing's
    name -> side, or None.
    """
    sides = ("left", "right")
    things = {side: [thing for thing, answer in answers.items() if answer == side] for side in sides}
    if not all(things.values()):
        return []
    chosen = {side: things[side][int(rng.integers(len(things[side])))] for side in sides}
    return [Question(kind, _say(templates, rng, thing=chosen[side]), side, sides) for side in sides]
