"""Logits masks: a language model that generates under one writes whole chunks of codes and nothing else.

# B sequences, L tokens of a sequence, N ids of the language model
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from xtok.actions.entrance import whole_of
from xtok.codec.tokens.vocabulary import CodeVocabulary
from xtok.codec.tokens.word_vocabulary import WordVocabulary
from xtok.codec.words.grammar import Allowed, State

Ids = tuple[int, ...]


class CodeMask:
    """A logits processor for `model.generate`: whatever is sampled is a chunk of M slots, then `end_id`.

    prompt_length: tokens before the first code (prompts of a batch are padded on the left). end_id: the only id allowed
    after the chunk; None leaves the scores alone from there on.

    Raises:
        ValueError: no slot, numbers that are not whole, or an end_id among the ids of the codes.
    """

    def __init__(self, vocabulary: CodeVocabulary, slots: int, prompt_length: int, end_id: int | None = None) -> None:
        slots, prompt_length = whole_of(slots, "slots", 1), whole_of(prompt_length, "prompt_length", 0)
        if end_id is not None:
            vocabulary.check_text([end_id := whole_of(end_id, "end_id", 0)])
        self.vocabulary, self.slots, self.prompt_length, self.end_id = vocabulary, slots, prompt_length, end_id

    def __call__(self, input_ids: Int[Tensor, "B L"], scores: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        """Scores with -inf at the ids that are not allowed next."""
        number = _tokens_written(input_ids, scores, self.prompt_length, self.end_id)
        if number < self.vocabulary.length(self.slots):
            keep = self.vocabulary.allowed(number, scores.shape[1])
        elif self.end_id is not None:
            keep = torch.zeros(scores.shape[1], dtype=torch.bool)
            keep[self.end_id] = True
        else:
            return scores
        return scores.masked_fill(~keep.to(scores.device), float("-inf"))


class WordMask:
    """A logits processor for `model.generate`: whatever is sampled is a chunk of motion words, then `end_id`.

    Chunks differ in length. As soon as every block of `horizon` frames has its word, a chunk may end, and it may also
    go on with residuals: from there on `end_id` is one choice among others, which the language model has to make (train
    it with `end_id` behind every chunk). Behind `end_id` nothing but `end_id` is allowed.

    prompt_length: tokens before the first code (prompts of a batch are padded on the left). tokens_max: of a chunk,
    `end_id` not counted; with `max_new_tokens=tokens_max + 1` no chunk is cut off. None: `vocabulary.longest(horizon)`.
    Rows may be reordered between calls, as beam search does, and a mask may be used for one generation after another.

    Raises:
        ValueError: a horizon outside 8 to 64, numbers that are not whole, an end_id among the ids of the codes, or a
            tokens_max under the number of words.
    """

    def __init__(
        self,
        vocabulary: WordVocabulary,
        horizon: int,
        prompt_length: int,
        end_id: int,
        tokens_max: int | None = None,
    ) -> None:
        shortest, longest = vocabulary.shortest(horizon), vocabulary.longest(horizon)
        vocabulary.check_text([end_id := whole_of(end_id, "end_id", 0)])
        self.vocabulary, self.horizon, self.end_id = vocabulary, horizon, end_id
        self.prompt_length = whole_of(prompt_length, "prompt_length", 0)
        self.tokens_max = longest if tokens_max is None else whole_of(tokens_max, "tokens_max", shortest)
        self._states: dict[Ids, State | None] = {}  # of the rows of the last call
        self._masks: dict[Allowed, Tensor] = {}

    def __call__(self, input_ids: Int[Tensor, "B L"], scores: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        """Scores with -inf at the ids that are not allowed next.

        Raises:
            ValueError: a row that is no beginning of a chunk and was not written under this mask; a language model
                without room for the codes.
        """
        _tokens_written(input_ids, scores, self.prompt_length, self.end_id)
        rows: list[Ids] = [tuple(ids) for ids in input_ids[:, self.prompt_length :].tolist()]
        self._states = {ids: self._state(row, ids) for row, ids in enumerate(rows)}
        keep_BN = torch.stack([self._mask(self._allowed(len(ids), self._states[ids]), scores) for ids in rows])
        return scores.masked_fill(~keep_BN, float("-inf"))

    def _state(self, row: int, ids: Ids) -> State | None:
        """Behind the ids of a row; None behind its end. It depends on the ids alone, so any row may have been it."""
        if ids[:-1] in self._states and ids:
            before = self._states[ids[:-1]]
            try:
                return None if before is None else self._step(before, ids[-1], len(ids) - 1)
            except ValueError:  # a beam that was out of the running, with a score of -inf
                return None
        state: State | None = self.vocabulary.grammar.start(self.horizon)
        for place, token_id in enumerate(ids):
            if state is None:
                break
            try:
                state = self._step(state, token_id, place)
            except ValueError as error:
                raise ValueError(f"row {row}: {error} (prompt_length is {self.prompt_length})") from error
        return state

    def _step(self, state: State, token_id: int, place: int) -> State | None:
        if token_id == self.end_id and state.complete:
            return None
        return self.vocabulary.step(state, token_id, place)

    def _allowed(self, number: int, state: State | None) -> Allowed:
        """What may follow `number` tokens: what the grammar allows, as long as the missing words still find room."""
        if state is None:
            return Allowed((), end=True)
        grammar, left = self.vocabulary.grammar, self.tokens_max - number
        missing = state.blocks - 1 - state.block
        if left > missing:
            return grammar.allowed(state)
        return Allowed((grammar.range_of(),) if missing else (), state.complete)

    def _mask(self, allowed: Allowed, scores: Tensor) -> Tensor:
        """There are few of them: each is made once for a size and a device."""
        known = self._masks.get(allowed)
        if known is None or known.shape[0] != scores.shape[1] or known.device != scores.device:
            known = self.vocabulary.mask(self.vocabulary.shifted(allowed.ranges), scores.shape[1])
            known[self.end_id] = allowed.end
            known = self._masks[allowed] = known.to(scores.device)
        return known


def _tokens_written(input_ids: Tensor, scores: Tensor, prompt_length: int, end_id: int | None) -> int:
    """Tokens of the chunk so far.

    Raises:
        ValueError: other shapes, an end_id that the language model lacks, or less than a prompt.
    """
    if input_ids.ndim != 2 or scores.ndim != 2:
        shapes = f"{tuple(input_ids.shape)} and {tuple(scores.shape)}"
        raise ValueError(f"input_ids and scores have shapes {shapes}; expected [B, L] and [B, N]")
    if end_id is not None and end_id >= scores.shape[1]:
        raise ValueError(f"end_id is {end_id}; the language model has {scores.shape[1]} ids")
    number = input_ids.shape[1] - prompt_length
    if number < 0:
        raise ValueError(f"there are {input_ids.shape[1]} ids, prompt_length is {prompt_length}")
    return number
