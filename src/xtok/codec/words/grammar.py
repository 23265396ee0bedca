"""Ids of motion words and residuals, and which may follow which: an automaton and a parser.

A chunk of M slots is cut into blocks of 4. A block is one word, then segments of 1, 2 or 4 slots until it is full or
the writer stops. A segment is its residual codes, level 1 first; the first id tells its length, and each further level
has ids of its own, so no id is spent on where something ends; level 4 may come again. What no segment covers is a tail:
it costs nothing.

    chunk    = block, one for every 4 slots (the last may have fewer)
    block    = word segment*              lengths of the segments together: at most the block's slots
    segment  = level 1 [level 2 [level 3 [level 4]*]]      all of one length, 8 codes at most

# M slots of a chunk, V ids in all
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from numbers import Integral
from typing import Literal

from xtok.actions.types import slots

BLOCK_SLOTS = 4
LENGTHS = (1, 2, 4)  # slots of a segment
LEVELS = 4  # books of a length
DEPTH = 8  # residual codes of a segment, at most: from the fourth on they are of the fourth book
TOTAL_MIN, TOTAL_MAX = 2048, 32768
WORDS_DEFAULT = 2048

Kind = Literal["word", "residual"]


@dataclass(frozen=True)
class Symbol:
    """What an id means. length and level: 0 of a word."""

    kind: Kind
    code: int
    length: int = 0
    level: int = 0

    def __str__(self) -> str:
        if self.kind == "word":
            return f"word {self.code}"
        return f"residual {self.code} (length {self.length}, level {self.level})"


@dataclass(frozen=True)
class Segment:
    """length: slots. codes: of level 1, 2, 3, 4, 4, ..., one to eight of them."""

    length: int
    codes: tuple[int, ...]


@dataclass(frozen=True)
class Block:
    """One word and the segments behind it, from the block's first slot on."""

    word: int
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True)
class Allowed:
    """Ids that may come next, as half-open ranges in rising order, and whether the chunk may end here."""

    ranges: tuple[tuple[int, int], ...]
    end: bool

    def __contains__(self, token: object) -> bool:
        return isinstance(token, int) and any(low <= token < high for low, high in self.ranges)


@dataclass(frozen=True)
class State:
    """Where in a chunk a writer is. block: the one being written, -1 before the first word. filled: slots of it that
    segments cover, the one being written included. length, depth: of that segment, 0 after a word."""

    slots: int
    block: int = -1
    filled: int = 0
    length: int = 0
    depth: int = 0

    @property
    def blocks(self) -> int:
        return blocks_of(self.slots)

    @property
    def room(self) -> int:
        """Slots of this block that no segment covers yet."""
        return min(BLOCK_SLOTS, self.slots - self.block * BLOCK_SLOTS) - self.filled

    @property
    def complete(self) -> bool:
        return self.block == self.blocks - 1

    @property
    def next_level(self) -> int | None:
        """The level that the segment being written may go on with."""
        return min(self.depth + 1, LEVELS) if 0 < self.depth < DEPTH else None

    def follows(self, symbol: Symbol) -> bool:
        """Whether this symbol may come next."""
        if symbol.kind == "word":
            return not self.complete
        if self.block < 0:
            return False
        if symbol.level == 1:
            return symbol.length <= self.room
        return symbol.length == self.length and symbol.level == self.next_level

    def after(self, symbol: Symbol) -> State:
        """The state behind a symbol that `follows`."""
        if symbol.kind == "word":
            return State(self.slots, self.block + 1)
        if symbol.level == 1:
            return replace(self, filled=self.filled + symbol.length, length=symbol.length, depth=1)
        return replace(self, depth=self.depth + 1)


@dataclass(frozen=True)
class Grammar:
    """words: size of the book of words. residuals: of each (length, level), in the order of their ids.

    Ids: words first, then the books of length 1 by level, of length 2, of length 4.
    """

    words: int
    residuals: tuple[tuple[tuple[int, int], int], ...]

    def __post_init__(self) -> None:
        keys = [key for key, _ in self.residuals]
        expected = [(length, level) for length in LENGTHS for level in range(1, LEVELS + 1)]
        if keys != expected:
            raise ValueError(f"residual books of (length, level) {keys}; expected {expected}, in this order")
        if self.words < 1 or min(size for _, size in self.residuals) < 1:
            raise ValueError(f"a book without codes: {self.words} words, residuals {dict(self.residuals)}")

    @classmethod
    def of_total(cls, total: int, words: int | None = None) -> Grammar:
        """Book sizes for a vocabulary of `total` ids: `words` of them (an eighth, 2,048 at most, if it is not said);
        residual books share the rest evenly.

        Raises:
            ValueError: a size outside 2,048 to 32,768, or words that leave no half of it to residuals.
        """
        if not TOTAL_MIN <= total <= TOTAL_MAX:
            raise ValueError(f"a vocabulary of {total} ids; expected {TOTAL_MIN} to {TOTAL_MAX}")
        words = min(WORDS_DEFAULT, total // 8) if words is None else words
        if not 1 <= words <= total // 2:
            raise ValueError(f"{words} words in a vocabulary of {total} ids; expected 1 to {total // 2}")
        keys = [(length, level) for length in LENGTHS for level in range(1, LEVELS + 1)]
        each, more = divmod(total - words, len(keys))
        return cls(words, tuple((key, each + (number < more)) for number, key in enumerate(keys)))

    @cached_property
    def size_of(self) -> Mapping[tuple[int, int], int]:
        """Codes of each residual book, by (length, level)."""
        return dict(self.residuals)

    @cached_property
    def _starts(self) -> tuple[int, ...]:
        """First id of the words and of each residual book."""
        return tuple(accumulate((size for _, size in self.residuals), initial=self.words))

    @cached_property
    def _ranges(self) -> Mapping[tuple[int, int], tuple[int, int]]:
        return {
            key: (start, start + size) for (key, size), start in zip(self.residuals, self._starts[:-1], strict=True)
        }

    @property
    def total(self) -> int:
        """V, ids in all."""
        return self._starts[-1]

    def range_of(self, length: int = 0, level: int = 0) -> tuple[int, int]:
        """Half-open range of ids of a residual book, or of the words (length 0)."""
        return (0, self.words) if length == 0 else self._ranges[length, level]

    def id_of(self, symbol: Symbol) -> int:
        """The id of a symbol.

        Raises:
            ValueError: a book or code that does not exist.
        """
        key = (symbol.length, symbol.level)
        if symbol.kind != "word" and key not in self._ranges:
            raise ValueError(f"no book for {symbol}; lengths are {LENGTHS}, levels 1 to {LEVELS}")
        low, high = self.range_of(*key)
        if not 0 <= symbol.code < high - low:
            raise ValueError(f"{symbol}: its book has {high - low} codes")
        return low + symbol.code

    def symbol(self, token: int) -> Symbol:
        """What an id means.

        Raises:
            ValueError: an id outside the vocabulary, or no whole number.
        """
        if not is_whole(token) or not 0 <= token < self.total:
            raise ValueError(f"id {token!r}; expected a whole number from 0 to {self.total - 1}")
        token = int(token)
        if token < self.words:
            return Symbol("word", token)
        book = bisect_right(self._starts, token) - 1
        (length, level), _ = self.residuals[book]
        return Symbol("residual", token - self._starts[book], length, level)

    # -- the automaton --------------------------------------------------------------------------------------------

    def start(self, horizon: int) -> State:
        """Before the first token of a chunk of `horizon` frames."""
        return State(slots(horizon))

    def allowed(self, state: State) -> Allowed:
        """What may come after `state`."""
        keys = [] if state.complete else [(0, 0)]
        if state.block >= 0:
            firsts = [(length, 1) for length in LENGTHS if length <= state.room]
            deeper = [] if state.next_level is None else [(state.length, state.next_level)]
            keys += sorted(firsts + deeper)
        return Allowed(tuple(self.range_of(*key) for key in keys), state.complete)

    def after(self, ids: Sequence[int], horizon: int) -> State:
        """The state behind a prefix.

        Raises:
            ValueError: a token that cannot stand where it stands; the message names it and what was expected.
        """
        state = self.start(horizon)
        for place, token in enumerate(ids):
            state = self.step(state, token, place)
        return state

    def step(self, state: State, token: int, place: int) -> State:
        """The state behind one more token, the `place`-th (from 0) of its sequence.

        Raises:
            ValueError: as `after`.
        """
        try:
            symbol = self.symbol(token)
        except ValueError as error:
            raise ValueError(f"token {place}: {error}; expected {self.expected(state)}") from error
        if not state.follows(symbol):
            raise ValueError(f"token {place} is {symbol}; expected {self.expected(state)}")
        return state.after(symbol)

    def expected(self, state: State) -> str:
        """What may come next, in words."""
        said = [] if state.complete else [f"the word of block {state.block + 1} (ids 0 to {self.words - 1})"]
        if state.block >= 0:
            said += [f"a segment of length {length} (level 1)" for length in LENGTHS if length <= state.room]
            if state.next_level is not None:
                said.append(f"level {state.next_level} of length {state.length}")
        return ", ".join([*said, "the end"] if state.complete else said)

    # -- whole sequences ------------------------------------------------------------------------------------------

    def parse(self, ids: Sequence[int], horizon: int) -> tuple[Block, ...]:
        """The blocks of a whole sequence.

        Raises:
            ValueError: a token that cannot stand where it stands, or an end that comes too early.
        """
        state = self.start(horizon)
        blocks: list[tuple[int, list[tuple[int, list[int]]]]] = []
        for place, token in enumerate(ids):
            state = self.step(state, token, place)
            symbol = self.symbol(token)
            if symbol.kind == "word":
                blocks.append((symbol.code, []))
            elif symbol.level == 1:
                blocks[-1][1].append((symbol.length, [symbol.code]))
            else:
                blocks[-1][1][-1][1].append(symbol.code)
        if not state.complete:
            raise ValueError(f"the sequence ends after {len(ids)} tokens; expected {self.expected(state)}")
        return tuple(
            Block(word, tuple(Segment(length, tuple(codes)) for length, codes in segments)) for word, segments in blocks
        )

    def write(self, blocks: Sequence[Block]) -> tuple[int, ...]:
        """The ids of blocks; inverse of `parse`.

        Raises:
            ValueError: a book or code that does not exist.
        """
        ids = []
        for block in blocks:
            ids.append(self.id_of(Symbol("word", block.word)))
            for segment in block.segments:
                ids += [
                    self.id_of(Symbol("residual", code, segment.length, min(depth, LEVELS)))
                    for depth, code in enumerate(segment.codes, start=1)
                ]
        return tuple(ids)


def blocks_of(slot_count: int) -> int:
    """Blocks of a chunk of so many slots."""
    return -(-slot_count // BLOCK_SLOTS)


def longest(horizon: int) -> int:
    """Tokens of the longest chunk of `horizon` frames: every slot a segment of its own, as deep as can be."""
    M = slots(horizon)
    return blocks_of(M) + M * DEPTH


def is_whole(token: object) -> bool:
    """Whether something is a whole number, and not a truth value."""
    return isinstance(token, Integral) and not isinstance(token, bool)
