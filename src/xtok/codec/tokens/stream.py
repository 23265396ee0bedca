"""Codes decoded while they are still being written: by slot, and by level. docs/method.md#actions.

# T frames, M slots, Q levels, D channels
"""

from __future__ import annotations

import warnings

import numpy as np
import torch

from xtok.actions.entrance import whole_of
from xtok.actions.types import Actions, Codes, Context, slots
from xtok.codec import Tokenizer
from xtok.codec.checked import context_of
from xtok.codec.tokens.vocabulary import CodeVocabulary


class CodeStream:
    """One chunk, token by token: `push` ids as the language model emits them, ask for `actions` at any time.

    In position-major order a slot's coarse codes come first, so slot i is known at one level as soon as q0 of it is
    there. Frames of slots that are not there yet are what the motion prior expects, `complete_BT` is False for them.
    Details of `arms26` belong to the chunk as a whole (decision 0003): frames that are complete may still move a little
    until the last slot is there. Where details are coded slot by slot (0007), no later detail moves them.

    Raises:
        ValueError: a context of more than one chunk.
    """

    def __init__(self, vocabulary: CodeVocabulary, tokenizer: Tokenizer, context: Context) -> None:
        context = context_of(context, tokenizer.codec.device)
        if len(context) != 1:
            raise ValueError(f"a stream is one chunk, the context has {len(context)}; make one stream for each")
        if (vocabulary.levels, vocabulary.codebook_size) != (tokenizer.levels, tokenizer.codebook_size):
            raise ValueError(
                f"the vocabulary has {vocabulary.levels} levels of {vocabulary.codebook_size} codes, "
                f"the tokenizer {tokenizer.levels} of {tokenizer.codebook_size}"
            )
        self.vocabulary, self.tokenizer, self.context = vocabulary, tokenizer, context
        self._tokens = 0
        self._codes: list[int] = []

    @property
    def finished(self) -> bool:
        return len(self._codes) == slots(self.context.horizon) * self.tokenizer.levels

    def push(self, token_id: int) -> None:
        """Take the next id.

        Raises:
            ValueError: an id that is not due here, or a chunk that is whole already. The stream stays as it was.
        """
        if self.finished:
            raise ValueError(f"the chunk is whole after {slots(self.context.horizon)} slots; start another stream")
        code = self.vocabulary.code(self._tokens, whole_of(token_id, "token_id"))
        self._tokens += 1
        if code is not None:
            self._codes.append(code)

    def slots(self, levels: int | None = None) -> int:
        """How many slots are known to that level (all levels).

        Raises:
            ValueError: a level that the codes do not have.
        """
        most = self.tokenizer.levels
        levels = most if levels is None else whole_of(levels, "levels", 1, most)
        whole, rest = divmod(len(self._codes), self.tokenizer.levels)
        return whole + (rest >= levels)

    def actions(self, levels: int | None = None) -> Actions:
        """Motion of the whole chunk from the slots known to that level.

        Raises:
            ValueError: not one slot is known to that level yet.
        """
        levels = self.tokenizer.levels if levels is None else levels
        known = self.slots(levels)
        if known == 0:
            raise ValueError(f"no slot is known to {levels} levels yet; push more ids, or ask for fewer levels")
        flat = np.full(-(-len(self._codes) // self.tokenizer.levels) * self.tokenizer.levels, 0, dtype=np.int64)
        flat[: len(self._codes)] = self._codes
        grid = torch.from_numpy(flat).view(1, -1, self.tokenizer.levels)[:, :known, :levels]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that slots are missing is what a stream is about
            return self.tokenizer.decode(
                Codes.from_grid(grid, self.tokenizer.codebook_size), self.context, on_invalid="repair"
            )
