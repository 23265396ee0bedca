"""Motion words as tokens of a language model, appended after its text vocabulary. docs/method.md#policies.

# B sequences, L tokens of a sequence, V ids of the grammar, N ids of the language model

Every word and every code of every residual book is a token of its own: `<xtok_w_17>` is word 17, `<xtok_r2_3_17>` code
17 of the third level of segments of 2 slots. Sequences differ in length; what may follow what is the grammar's matter
(`xtok.codec.words.grammar`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int
from torch import Tensor

from xtok.actions.entrance import integers_of, whole_of
from xtok.actions.types import FRAMES_PER_SLOT, HORIZON_MAX, HORIZON_MIN, Codes, slots
from xtok.codec.tokens.appended import GrammarVocabulary, rows_of
from xtok.codec.words.grammar import BLOCK_SLOTS, Grammar, State, Symbol, blocks_of, longest

BLOCK_FRAMES = BLOCK_SLOTS * FRAMES_PER_SLOT


@dataclass(frozen=True)
class WordVocabulary(GrammarVocabulary[Grammar]):
    """Ids `offset` .. `offset + size - 1`, in the grammar's order: words, then the residual books.

    offset: the size of the text vocabulary, so that no text id is ever touched. grammar: of the tokenizer.

    Raises:
        ValueError: a negative offset, or one that is no whole number; no grammar.
    """

    grammar_type = Grammar
    given_by = "tokenizer"

    # -- ids and strings ------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        return self.grammar.total

    def tokens(self) -> list[str]:
        """All token strings, by id."""
        words = [string_of(Symbol("word", code)) for code in range(self.grammar.words)]
        books = self.grammar.residuals
        return words + [
            string_of(Symbol("residual", code, length, level))
            for (length, level), size in books
            for code in range(size)
        ]

    def token(self, token_id: int) -> str:
        """The string of an id of this vocabulary."""
        return string_of(self.grammar.symbol(self.code(token_id)))

    def code(self, token_id: int) -> int:
        """The grammar's id of an id of the language model: what a stream of motion words is pushed.

        Raises:
            ValueError: text.
        """
        return self.place_of(whole_of(token_id, "token_id"))

    def longest(self, horizon: int) -> int:
        """L of the longest chunk of `horizon` frames: every slot a segment of its own, as deep as can be."""
        return longest(_horizon(horizon))

    def shortest(self, horizon: int) -> int:
        """L of the shortest chunk of `horizon` frames: words alone."""
        return blocks_of(slots(_horizon(horizon)))

    # -- codes and ids --------------------------------------------------------------------------------------------

    def ids(self, codes: Codes) -> list[list[int]]:
        """Ids of each chunk.

        Raises:
            ValueError: codes of another vocabulary, or that are no chunk of any length.
        """
        if not isinstance(codes, Codes):
            raise ValueError(f"codes are a {type(codes).__name__}; expected Codes: tokenizer.encode(chunks)")
        if codes.vocab_size != self.size:
            raise ValueError(f"codes have {codes.vocab_size} ids, the grammar has {self.size}; another tokenizer's?")
        out = []
        for row, sequence in enumerate(codes.tokens):
            given = integers_of(sequence, f"codes of chunk {row}", "in one row", 1).tolist()
            words = sum(0 <= token < self.grammar.words for token in given)
            frames = words * BLOCK_FRAMES
            if not HORIZON_MIN <= frames <= HORIZON_MAX:
                most = HORIZON_MAX // BLOCK_FRAMES
                raise ValueError(
                    f"chunk {row} has {words} words; expected 1 to {most}, one for every {BLOCK_FRAMES} frames"
                )
            try:
                self.grammar.parse(given, frames)  # the longest chunk of so many words
            except ValueError as error:
                raise ValueError(f"chunk {row}: {error}") from error
            out.append([self.offset + token for token in given])
        return out

    def codes(self, ids: Iterable[Sequence[int] | Int[Tensor, " L"]], horizon: int | None) -> Codes:
        """Inverse of `ids`: the codes among the ids, checked to be whole chunks of `horizon` frames.

        Text ids before the first and after the last code are passed over, so a whole generation may be given. horizon
        None: all codes that there are, unchecked and whatever text stands between them, for a decoder that repairs.

        Raises:
            ValueError: no code at all, text between codes, or a sequence that does not follow the grammar.
        """
        horizon = None if horizon is None else _horizon(horizon)
        found = []
        for row, given in enumerate(rows_of(ids)):
            written = self.written(row, given)
            if horizon is not None:
                try:
                    self._check(written, horizon)
                except ValueError as error:
                    raise ValueError(f"sequence {row}: {error}") from error
            ours = [token_id - self.offset for token_id in written if self.owns(token_id)]
            found.append(np.array(ours, dtype=np.int64))
        return Codes(tuple(found), self.size)

    def _check(self, ids: Sequence[int], horizon: int) -> None:
        state = self.grammar.start(horizon)
        for place, token_id in enumerate(ids):
            state = self.step(state, token_id, place)
        if not state.complete:
            raise ValueError(f"the chunk ends after {len(ids)} tokens; expected {self.grammar.expected(state)}")

    def step(self, state: State, token_id: int, place: int) -> State:
        """The grammar's state behind one more id, the `place`-th (from 0) of its chunk.

        Raises:
            ValueError: text, or a code that may not come next; the message says what may.
        """
        if not self.owns(token_id):
            expected = self.grammar.expected(state)
            raise ValueError(f"id {token_id} at token {place} of the chunk is no code; expected {expected}")
        return self.grammar.step(state, token_id - self.offset, place)

    # -- generation -----------------------------------------------------------------------------------------------

    def allowed(self, state: State, size: int | None = None) -> Bool[Tensor, " N"]:
        """True for the codes that may come next. size: N, ids of the language model.

        Whether the chunk may end instead is `state.complete`: the id that ends it is text, and none of these.
        """
        return self.mask(self.shifted(self.grammar.allowed(state).ranges), size)


def string_of(symbol: Symbol) -> str:
    """The token that a symbol is written as."""
    if symbol.kind == "word":
        return f"<xtok_w_{symbol.code}>"
    return f"<xtok_r{symbol.length}_{symbol.level}_{symbol.code}>"


def _horizon(horizon: int) -> int:
    return whole_of(horizon, "horizon (T, frames)", HORIZON_MIN, HORIZON_MAX)
