"""Ids of a chunk that comes without a state: codes of its first frame, then motion words as `Grammar` has them.

    chunk = state 1 [state 2 [...]] motion         the first frame's codes have the first ids, each level its own

# Q levels of states, S codes of all of them together
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

from xtok.codec.words.grammar import LENGTHS, LEVELS, Allowed, Grammar, State, Symbol, is_whole
from xtok.codec.words.repair import Repaired, Way, nearest, offer, steps_of

SHARES = {1: 6, 2: 11, 4: 27}  # of residual ids, by length: chosen on validation chunks of 16 frames


@dataclass(frozen=True)
class ChannelState:
    """Where in a chunk a writer is. depth: codes of the first frame so far. motion: where behind them."""

    depth: int
    motion: State

    @property
    def complete(self) -> bool:
        """Whether the chunk may end here."""
        return self.motion.complete


@dataclass(frozen=True)
class ChannelGrammar:
    """states: sizes of the first frame's books, one at least. motion: of what follows; its ids lie behind theirs.

    Raises:
        ValueError: no states, or a book without codes.
    """

    states: tuple[int, ...]
    motion: Grammar

    def __post_init__(self) -> None:
        if not self.states or min(self.states) < 1:
            raise ValueError(f"books of the first frame have sizes {list(self.states)}; expected one or more of 1 code")

    @classmethod
    def of_total(cls, total: int) -> ChannelGrammar:
        """Book sizes for a vocabulary of `total` ids: an eighth and a sixteenth of it first frames, an eighth words,
        and larger residual books for longer segments, which short chunks use most.

        Raises:
            ValueError: a size outside 2,048 to 32,768.
        """
        words = Grammar.of_total(total).words
        states = (total // 8, total // 16)
        each = (total - words - sum(states)) // LEVELS
        sizes = {length: each * share // sum(SHARES.values()) for length, share in SHARES.items()}
        residuals = {(length, level): sizes[length] for length in LENGTHS for level in range(1, LEVELS + 1)}
        residuals[4, 1] += total - words - sum(states) - sum(residuals.values())
        return cls(states, Grammar(words, tuple(residuals.items())))

    @cached_property
    def _starts(self) -> tuple[int, ...]:
        """First id of each state level, and of motion."""
        return tuple(accumulate(self.states, initial=0))

    @property
    def offset(self) -> int:
        """S, the first id of motion."""
        return self._starts[-1]

    @property
    def total(self) -> int:
        """Ids in all."""
        return self.offset + self.motion.total

    def range_of_state(self, level: int) -> tuple[int, int]:
        """Half-open range of ids of a state level, from 1."""
        return self._starts[level - 1], self._starts[level]

    def state_of(self, token: object) -> tuple[int, int] | None:
        """Level (from 1) and code of an id of the first frame; None for any other."""
        if not is_whole(token) or not 0 <= token < self.offset:  # type: ignore[operator]
            return None
        level = next(q for q in range(1, len(self._starts)) if token < self._starts[q])  # type: ignore[operator]
        return level, int(token) - self._starts[level - 1]  # type: ignore[call-overload]

    # -- the automaton --------------------------------------------------------------------------------------------

    def start(self, horizon: int) -> ChannelState:
        """Before the first token of a chunk of `horizon` frames, 8 or more."""
        return ChannelState(0, self.motion.start(horizon))

    def _next_level(self, state: ChannelState) -> int | None:
        return state.depth + 1 if state.motion.block < 0 and state.depth < len(self.states) else None

    def allowed(self, state: ChannelState) -> Allowed:
        """What may come after `state`."""
        level = self._next_level(state)
        ranges = [] if level is None else [self.range_of_state(level)]
        if state.depth:
            ranges += [
                (low + self.offset, high + self.offset) for low, high in self.motion.allowed(state.motion).ranges
            ]
        return Allowed(tuple(ranges), state.complete)

    def step(self, state: ChannelState, token: int, place: int) -> ChannelState:
        """The state behind one more token, the `place`-th (from 0) of its sequence.

        Raises:
            ValueError: a token that cannot stand where it stands; the message names it and what was expected.
        """
        if not is_whole(token) or not 0 <= token < self.total:
            raise ValueError(
                f"token {place}: id {token!r}; expected a whole number from 0 to {self.total - 1}: "
                f"{self.expected(state)}"
            )
        found = self.state_of(token)
        if found is not None:
            if found[0] != self._next_level(state):
                raise ValueError(f"token {place} is {self.told(token)}; expected {self.expected(state)}")
            return replace(state, depth=found[0])
        symbol = self.motion.symbol(int(token) - self.offset)
        if not state.depth or not state.motion.follows(symbol):
            raise ValueError(f"token {place} is {self.told(token)}; expected {self.expected(state)}")
        return replace(state, motion=state.motion.after(symbol))

    def after(self, ids: Sequence[int], horizon: int) -> ChannelState:
        """The state behind a prefix.

        Raises:
            ValueError: as `step`.
        """
        state = self.start(horizon)
        for place, token in enumerate(ids):
            state = self.step(state, token, place)
        return state

    def expected(self, state: ChannelState) -> str:
        """What may come next, in words."""
        level = self._next_level(state)
        said = []
        if level is not None:
            low, high = self.range_of_state(level)
            said = [f"level {level} of the first frame (ids {low} to {high - 1})"]
        if state.depth:
            said.append(self.motion.expected(state.motion).replace(f"ids 0 to {self.motion.words - 1}", self._words))
        return ", ".join(said)

    @property
    def _words(self) -> str:
        return f"ids {self.offset} to {self.offset + self.motion.words - 1}"

    def told(self, token: int) -> str:
        """An id in words."""
        found = self.state_of(token)
        if found is not None:
            return f"first frame {found[1]} (level {found[0]})"
        return str(self.motion.symbol(int(token) - self.offset))

    # -- whole sequences ------------------------------------------------------------------------------------------

    def split(self, ids: Sequence[int], horizon: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Codes of the first frame, level 1 first, and ids of `motion`.

        Raises:
            ValueError: a token that cannot stand where it stands, or an end that comes too early.
        """
        state = self.after(ids, horizon)
        if not state.complete:
            raise ValueError(f"it ends after {len(ids)} tokens; expected {self.expected(state)}")
        codes = [found[1] for token in ids[: state.depth] if (found := self.state_of(token)) is not None]
        return tuple(codes), tuple(int(token) - self.offset for token in ids[state.depth :])

    def join(self, codes: Sequence[int], motion: Sequence[int]) -> tuple[int, ...]:
        """Inverse of `split`."""
        first = [start + int(code) for start, code in zip(self._starts, codes, strict=False)]
        return (*first, *(int(token) + self.offset for token in motion))

    def repair(self, ids: Sequence[int], horizon: int, state: int = 0, word: int = 0) -> Repaired:
        """The nearest sequence that follows the grammar: as few tokens as possible are left out or put in.

        Words alone are put in, and the first frame's first code where there is none. state, word: codes of these.
        """
        shifted = [token - self.offset if is_whole(token) and token >= self.offset else -1 for token in ids]
        way = nearest(self.motion, shifted, horizon, self._starts_of_motion(ids))
        kept: list[int] = []
        remarks: list[str] = []
        for what, place in steps_of(way):
            if what == "keep":
                kept.append(int(ids[place]))
            elif what == "leave":
                remarks.append(f"token {place} ({self._named(ids[place])}) cannot stand there; it was left out")
            else:
                kept.append(state if what == "state" else self.offset + self.motion.id_of(Symbol("word", word)))
                missing = "the code of the first frame" if what == "state" else f"the word of block {place}"
                remarks.append(f"{missing} was missing; {self.told(kept[-1])} was put in")
        return Repaired(tuple(kept), tuple(remarks))

    def _starts_of_motion(self, ids: Sequence[int]) -> dict[int, Way]:
        """The nearest way to codes of the first frame, by the place that motion would begin at."""
        reached: dict[int, Way] = {0: Way(0, 0, 0)}
        starts = {}
        for place in range(len(ids) + 1):
            offer(reached, 1, reached[0].then(("state", 0), len(ids) - place))
            starts[place] = min((way for depth, way in reached.items() if depth), key=lambda way: way.cost)
            if place == len(ids):
                break
            following: dict[int, Way] = {}
            found = self.state_of(ids[place])
            for depth, way in reached.items():
                offer(following, depth, way.then(("leave", place)))
                if found is not None and found[0] == depth + 1:
                    offer(following, depth + 1, way.then(("keep", place)))
            reached = following
        return starts

    def _named(self, token: object) -> str:
        if is_whole(token) and 0 <= token < self.total:  # type: ignore[operator]
            return self.told(token)  # type: ignore[arg-type]
        return f"id {token!r}, which does not exist"
