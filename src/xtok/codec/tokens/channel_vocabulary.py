"""Motion words of channels as tokens of a language model, appended after its text vocabulary.

# B sequences, L tokens of a sequence, N ids of the language model

`<xtok_s1_17>` is code 17 of the first frame's first book, `<xtok_w_17>` word 17, `<xtok_r2_3_17>` code 17 of the third
level of segments of 2 slots. Sequences differ in length; what may follow what is the grammar's matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int
from torch import Tensor

from xtok.codec.tokens.appended import GrammarVocabulary, rows_of
from xtok.codec.tokens.word_vocabulary import string_of
from xtok.codec.words.channel_grammar import ChannelGrammar, ChannelState


@dataclass(frozen=True)
class ChannelWordVocabulary(GrammarVocabulary[ChannelGrammar]):
    """Ids `offset` .. `offset + size - 1`, in the grammar's order: first frames, words, residual books.

    offset: the size of the text vocabulary. grammar: of the codec, `WordChannels.grammar`.

    Raises:
        ValueError: a negative offset, or one that is no whole number; no grammar.
    """

    grammar_type = ChannelGrammar
    given_by = "codec"

    @property
    def size(self) -> int:
        return self.grammar.total

    def tokens(self) -> list[str]:
        """All token strings, by id."""
        grammar = self.grammar
        first = [f"<xtok_s{level}_{code}>" for level, size in enumerate(grammar.states, 1) for code in range(size)]
        return first + [string_of(grammar.motion.symbol(token)) for token in range(grammar.motion.total)]

    def ids(self, sequences: Iterable[Sequence[int] | Int[np.ndarray, " L"]]) -> list[list[int]]:
        """Ids of encoded chunks.

        Raises:
            ValueError: a code outside the vocabulary.
        """
        out = []
        for row, sequence in enumerate(sequences):
            codes = [int(code) for code in sequence]
            if wrong := [code for code in codes if not 0 <= code < self.size]:
                raise ValueError(f"chunk {row} has code {wrong[0]}; expected 0 to {self.size - 1}")
            out.append([self.offset + code for code in codes])
        return out

    def codes(self, ids: Iterable[Sequence[int] | Int[Tensor, " L"]]) -> list[Int[np.ndarray, " L"]]:
        """Inverse of `ids`. Text before the first and after the last code is passed over, so a whole generation may be
        given; whether codes follow the grammar, the codec's `decode` looks at.

        Raises:
            ValueError: no code at all, or text between codes.
        """
        found = []
        for row, given in enumerate(rows_of(ids)):
            written = self.written(row, given)
            for place, token_id in enumerate(written):
                if not self.owns(token_id):
                    raise ValueError(
                        f"sequence {row}: id {token_id} at token {place} of the chunk is no code, but text"
                    )
            found.append(np.array([token_id - self.offset for token_id in written], dtype=np.int64))
        return found

    def allowed(self, state: ChannelState, size: int | None = None) -> Bool[Tensor, " N"]:
        """True for the codes that may come next. size: N, ids of the language model. Whether the chunk may end instead
        is `state.complete`."""
        return self.mask(self.shifted(self.grammar.allowed(state).ranges), size)
