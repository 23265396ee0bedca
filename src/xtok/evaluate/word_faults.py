"""Ways for a sequence of motion words to be wrong that its grammar tells apart.

"flip" of `faults` draws from the whole vocabulary, so that sequences may not parse any more; a decoder then repairs
them. Here are the errors of a language model that writes under the logits mask, and those that stay within one book.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from xtok.evaluate.faults import Corrupt, touched

ALLOWED = "flip allowed"
DROPS = {"drop word": True, "drop residual": False}  # whether words are what is missing
LEVELS = {"flip word": 0, "flip level 1": 1, "flip level 2": 2, "flip level 3": 3, "flip level 4": 4}


class Automaton(Protocol):
    """What is asked of `xtok.codec.words.Grammar`. A state is its own matter; `allowed` has half-open `ranges` of ids,
    a symbol `length` and `level`, both 0 of a word."""

    def start(self, horizon: int) -> Any: ...

    def allowed(self, state: Any) -> Any: ...

    def step(self, state: Any, token: int, place: int) -> Any: ...

    def parse(self, ids: Sequence[int], horizon: int) -> object: ...

    def symbol(self, token: int) -> Any: ...

    def range_of(self, length: int, level: int) -> tuple[int, int]: ...


@runtime_checkable
class HasGrammar(Protocol):
    """A tokenizer whose sequences follow a grammar."""

    @property
    def grammar(self) -> Automaton: ...


def parses(grammar: Automaton, tokens: np.ndarray, horizon: int) -> bool:
    """Whether it is a whole chunk of `horizon` frames."""
    try:
        grammar.parse(tokens.tolist(), horizon)
    except ValueError:
        return False
    return True


def word_kinds(grammar: Automaton, horizon: int) -> dict[str, Corrupt]:
    """ALLOWED, the kinds of DROPS and those of LEVELS."""
    return {
        ALLOWED: flip_allowed(grammar, horizon),
        **{kind: drop_of(grammar, words) for kind, words in DROPS.items()},
        **{kind: flip_within_book(grammar, level) for kind, level in LEVELS.items()},
    }


def flip_allowed(grammar: Automaton, horizon: int) -> Corrupt:
    """What a language model writes under the mask if it errs: another id of those that may come there, drawn evenly.

    What it meant to write goes on behind that, as far as the mask lets it: tokens that may not come any more are left
    out. So a wrong id costs what its place in the grammar makes of it; where a word was meant and a residual written,
    a word is missing in the end, and the sequence does not parse.
    """

    def flip(tokens: np.ndarray, rate: float, vocab_size: int, rng: np.random.Generator) -> np.ndarray:
        state, out = grammar.start(horizon), list[int]()
        for token, wrong in zip(tokens.tolist(), touched(tokens, rate, rng), strict=True):
            written = _another(grammar.allowed(state).ranges, token, rng) if wrong else token
            try:
                state = grammar.step(state, written, len(out))
            except ValueError:
                continue
            out.append(written)
        return np.array(out, dtype=np.int64)

    return flip


def flip_within_book(grammar: Automaton, level: int) -> Corrupt:
    """That share of the words (level 0), or of the residual codes of a level: each another one of its own book.

    The sequence parses as before.
    """

    def flip(tokens: np.ndarray, rate: float, vocab_size: int, rng: np.random.Generator) -> np.ndarray:
        out, symbols = tokens.copy(), [grammar.symbol(token) for token in tokens.tolist()]
        of_level = np.flatnonzero([symbol.level == level for symbol in symbols])
        for place in of_level[touched(of_level, rate, rng)]:
            book = grammar.range_of(symbols[place].length, level)
            out[place] = _another([book], int(tokens[place]), rng)
        return out

    return flip


def drop_of(grammar: Automaton, words: bool) -> Corrupt:
    """That share of the words is missing, or of the residuals. Without one of its words a sequence never parses: a
    block has lost its beginning. Without a residual it does where what is left follows the grammar."""

    def drop(tokens: np.ndarray, rate: float, vocab_size: int, rng: np.random.Generator) -> np.ndarray:
        is_word = np.array([grammar.symbol(token).level == 0 for token in tokens.tolist()], dtype=bool)
        mine = np.flatnonzero(is_word == words)
        return np.delete(tokens, mine[touched(mine, rate, rng)])

    return drop


def _another(ranges: Sequence[tuple[int, int]], token: int, rng: np.random.Generator) -> int:
    """An id of half-open ranges, drawn evenly, but not this one; this one where there is no other."""
    ids = np.concatenate([np.arange(low, high) for low, high in ranges]) if ranges else np.arange(0)
    ids = ids[ids != token]
    return int(rng.choice(ids)) if len(ids) else token
