"""The nearest sequence of motion words that follows the grammar, for one that does not."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from xtok.codec.words.grammar import Grammar, State, Symbol

# A token's place, the block whose word is put in, or (of channels without a state) the code of a first frame.
Step = tuple[Literal["keep", "leave", "word", "state"], int]

Key = TypeVar("Key")


@dataclass(frozen=True)
class Repaired:
    """A sequence that parses. remarks: what was left out and what was put in, in order; none if nothing had to be."""

    ids: tuple[int, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Way:
    """A way to a state: what it cost, and the step that led there. behind: tokens behind the words that were put in."""

    edits: int
    put_in: int
    behind: int
    before: Way | None = None
    step: Step | None = None

    @property
    def cost(self) -> tuple[int, int, int]:
        return self.edits, self.put_in, self.behind

    def then(self, step: Step, behind: int = 0) -> Way:
        put_in = step[0] in ("word", "state")
        return Way(self.edits + (step[0] != "keep"), self.put_in + put_in, self.behind + behind, self, step)


def repair(grammar: Grammar, ids: Sequence[int], horizon: int, word: int = 0) -> Repaired:
    """The nearest sequence that parses: as few tokens as possible are left out or put in.

    Only words are ever put in, for blocks that have none. word: its code. Of two ways that are equally near, the one
    that puts in less, and puts it in later: a sequence that was cut short is continued.

    Raises:
        ValueError: a word that the book does not have.
    """
    put_in = grammar.id_of(Symbol("word", word))
    way = nearest(grammar, ids, horizon, {0: Way(0, 0, 0)})
    return _told(grammar, steps_of(way), ids, put_in)


def tell(row: int, ids: Sequence[int], repaired: Repaired) -> None:
    """Warn of what was changed in sequence `row`.

    Raises:
        ValueError: no token of it could stay.
    """
    if not set(repaired.ids) & set(ids):
        raise ValueError(f"sequence {row} has no token that can be kept; there is nothing to decode")
    more = f", and {len(repaired.remarks) - 1} more changes" if len(repaired.remarks) > 1 else ""
    warnings.warn(
        f"sequence {row} does not follow the grammar and was repaired: {repaired.remarks[0]}{more}", stacklevel=6
    )


def nearest(grammar: Grammar, ids: Sequence[int], horizon: int, starts: Mapping[int, Way]) -> Way:
    """The nearest way to a whole chunk. starts: the ways to its first token, by the place in `ids` that it is at."""
    start, reached = grammar.start(horizon), dict[State, Way]()
    for place in range(len(ids) + 1):
        if place in starts:
            offer(reached, start, starts[place])
        reached = _with_words(reached, len(ids) - place)
        if place == len(ids):
            break
        symbol = symbol_of(grammar, ids[place])
        following: dict[State, Way] = {}
        for state, way in reached.items():
            if symbol is not None and state.follows(symbol):
                offer(following, state.after(symbol), way.then(("keep", place)))
            offer(following, state, way.then(("leave", place)))
        reached = following
    return min((way for state, way in reached.items() if state.complete), key=lambda way: way.cost)


def _with_words(reached: dict[State, Way], behind: int) -> dict[State, Way]:
    """And the states that missing words would lead to, put in where `behind` tokens follow."""
    for block in range(-1, next(iter(reached)).blocks - 1) if reached else ():
        for state, way in [(s, w) for s, w in reached.items() if s.block == block]:
            offer(reached, State(state.slots, block + 1), way.then(("word", block + 1), behind))
    return reached


def offer(reached: dict[Key, Way], state: Key, way: Way) -> None:
    """Keep a way to a state if it is the nearest so far."""
    if state not in reached or way.cost < reached[state].cost:
        reached[state] = way


def steps_of(way: Way) -> list[Step]:
    """Its steps, the first one first."""
    steps = []
    while way.before is not None and way.step is not None:
        steps.append(way.step)
        way = way.before
    return steps[::-1]


def _told(grammar: Grammar, steps: Sequence[Step], ids: Sequence[int], put_in: int) -> Repaired:
    kept: list[int] = []
    remarks: list[str] = []
    for what, place in steps:
        if what == "keep":
            kept.append(int(ids[place]))
        elif what == "word":
            kept.append(put_in)
            remarks.append(f"the word of block {place} was missing; {grammar.symbol(put_in)} was put in")
        else:
            symbol = symbol_of(grammar, ids[place])
            name = f"id {ids[place]!r}, which does not exist" if symbol is None else str(symbol)
            remarks.append(f"token {place} ({name}) cannot stand there; it was left out")
    return Repaired(tuple(kept), tuple(remarks))


def symbol_of(grammar: Grammar, token: int) -> Symbol | None:
    """What an id means; None where it means nothing."""
    try:
        return grammar.symbol(token)
    except (ValueError, TypeError):
        return None
