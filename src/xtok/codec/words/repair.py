"""The nearest sequence of motion words that follows the grammar, for one that does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from xtok.codec.words.grammar import Grammar, State, Symbol

Step = tuple[Literal["keep", "leave", "word"], int]  # a token's place, or the block whose word is put in


@dataclass(frozen=True)
class Repaired:
    """A sequence that parses. remarks: what was left out and what was put in, in order; none if nothing had to be."""

    ids: tuple[int, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class _Way:
    """A way to a state: what it cost, and the step that led there. behind: tokens behind the words that were put in."""

    edits: int
    put_in: int
    behind: int
    before: _Way | None = None
    step: Step | None = None

    @property
    def cost(self) -> tuple[int, int, int]:
        return self.edits, self.put_in, self.behind

    def then(self, step: Step, behind: int = 0) -> _Way:
        put_in = step[0] == "word"
        return _Way(self.edits + (step[0] != "keep"), self.put_in + put_in, self.behind + behind, self, step)


def repair(grammar: Grammar, ids: Sequence[int], horizon: int, word: int = 0) -> Repaired:
    """The nearest sequence that parses: as few tokens as possible are left out or put in.

    Only words are ever put in, for blocks that have none. word: its code. Of two ways that are equally near, the one
    that puts in less, and puts it in later: a sequence that was cut short is continued.

    Raises:
        ValueError: a word that the book does not have.
    """
    put_in = grammar.id_of(Symbol("word", word))
    reached = _with_words({grammar.start(horizon): _Way(0, 0, 0)}, len(ids))
    for place, token in enumerate(ids):
        symbol = _symbol(grammar, token)
        following: dict[State, _Way] = {}
        for state, way in reached.items():
            if symbol is not None and state.follows(symbol):
                _offer(following, state.after(symbol), way.then(("keep", place)))
            _offer(following, state, way.then(("leave", place)))
        reached = _with_words(following, len(ids) - place - 1)
    best = min((way for state, way in reached.items() if state.complete), key=lambda way: way.cost)
    return _told(grammar, _steps(best), ids, put_in)


def _with_words(reached: dict[State, _Way], behind: int) -> dict[State, _Way]:
    """And the states that missing words would lead to, put in where `behind` tokens follow."""
    for block in range(-1, next(iter(reached)).blocks - 1):
        for state, way in [(s, w) for s, w in reached.items() if s.block == block]:
            _offer(reached, State(state.slots, block + 1), way.then(("word", block + 1), behind))
    return reached


def _offer(reached: dict[State, _Way], state: State, way: _Way) -> None:
    if state not in reached or way.cost < reached[state].cost:
        reached[state] = way


def _steps(way: _Way) -> list[Step]:
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
            symbol = _symbol(grammar, ids[place])
            name = f"id {ids[place]!r}, which does not exist" if symbol is None else str(symbol)
            remarks.append(f"token {place} ({name}) cannot stand there; it was left out")
    return Repaired(tuple(kept), tuple(remarks))


def _symbol(grammar: Grammar, token: int) -> Symbol | None:
    try:
        return grammar.symbol(token)
    except (ValueError, TypeError):
        return None
