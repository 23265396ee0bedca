"""Motion while its tokens are still being written: a block's word first, then finer as residuals come.

# T frames, K channels
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from xtok.actions.steady import exact
from xtok.actions.types import FRAMES_PER_SLOT
from xtok.codec.words.grammar import BLOCK_SLOTS, DEPTH, State
from xtok.codec.words.model import WordModel, check_horizon, paths
from xtok.codec.words.segment import Past


class WordStream:
    """One chunk, token by token. What its blocks show is what the tokens so far decode to if nothing follows.

    Raises:
        ValueError: a horizon outside 8 to 64 frames.
    """

    def __init__(self, model: WordModel, horizon: int) -> None:
        check_horizon(horizon)
        self._model, self._horizon = model, horizon
        self._state = model.grammar.start(horizon)
        self._ids: list[int] = []
        self._past = Past.none(1, model.channels)  # before the segment being written
        self._path_NFK = torch.zeros(1, 1, model.channels)
        self._done: list[Tensor] = []  # frames of whole segments
        self._codes = torch.full((1, DEPTH), -1)  # of the segment being written
        self._open: list[Tensor] = []  # frames of the segment being written, and of the tail

    @property
    def ids(self) -> tuple[int, ...]:
        """The tokens so far."""
        return tuple(self._ids)

    @property
    def state(self) -> State:
        """For `Grammar.allowed`: what may come next."""
        return self._state

    @property
    def complete(self) -> bool:
        """Whether the chunk may end here."""
        return self._state.complete

    @property
    def motion_TK(self) -> Float[Tensor, "t K"]:
        """Frames of all blocks that have begun, normalised, float64."""
        every = [*self._done, *self._open]
        return torch.cat(every)[: self._horizon] if every else torch.zeros(0, self._model.channels).double()

    @property
    def settled(self) -> int:
        """Frames that no further token will change."""
        return min(self._horizon, sum(map(len, self._done)))

    @exact
    def push(self, token: int) -> slice:
        """Take one more token; the frames that it changed.

        Raises:
            ValueError: a token that may not come next; the message says what may. The stream stays as it was.
        """
        grammar = self._model.grammar
        state = grammar.step(self._state, token, len(self._ids))
        symbol = grammar.symbol(token)
        if symbol.kind == "word":
            self._settle(len(self._open))
            self._past = self._past.at_block()
            self._path_NFK = paths(self._model.words, torch.tensor([[symbol.code]]))[:, 0]
        else:
            if symbol.level == 1:
                self._settle(1 if self._state.length else 0)
                self._codes = torch.full((1, DEPTH), -1)
            self._codes[0, state.depth - 1] = symbol.code
        self._state = state
        self._ids.append(int(token))
        start = self.settled
        self._redraw()
        return slice(start, min(self._horizon, start + sum(map(len, self._open))))

    def _settle(self, segments: int) -> None:
        """The first `segments` of what is open will not change."""
        for frames in self._open[:segments]:
            self._done.append(frames)
            self._past = self._past.then(frames[None])
        self._open = []

    def _redraw(self) -> None:
        """The segment being written, and the tail behind it."""
        past, self._open = self._past, []
        in_block = self._state.filled - self._state.length
        for length, codes in ((self._state.length, self._codes), (self._state.room, torch.full_like(self._codes, -1))):
            if length:
                slot = self._state.block * BLOCK_SLOTS + in_block
                coder = self._model.coders[length]
                frames = coder.decode(past, self._path_NFK, codes, slot, in_block)
                assert frames.shape[1] == length * FRAMES_PER_SLOT
                self._open.append(frames[0])
                past = past.then(frames)
                in_block += length
