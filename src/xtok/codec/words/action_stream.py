"""Actions of one chunk while its motion words are still being written.

# T frames, K channels of the robot
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from xtok.actions.types import Actions, Context
from xtok.codec.words.grammar import Allowed
from xtok.codec.words.model import WordModel
from xtok.codec.words.stream import WordStream


class ActionStream:
    """`push` ids as a language model emits them; `actions` at any time.

    A block's word comes first, so all of its 16 frames can be seen at once, coarsely; residuals refine them from the
    front. `settled` frames will not change any more and may be executed; so may others, if coarse will do.
    """

    def __init__(
        self, model: WordModel, context: Context, actions_of: Callable[[Float[Tensor, "t K"]], Actions]
    ) -> None:
        self.context = context
        self._model, self._actions_of = model, actions_of
        self._stream = WordStream(model, context.horizon)

    @property
    def ids(self) -> tuple[int, ...]:
        """What was pushed so far."""
        return self._stream.ids

    @property
    def allowed(self) -> Allowed:
        """Ids that may come next, and whether the chunk may end here."""
        return self._model.grammar.allowed(self._stream.state)

    @property
    def complete(self) -> bool:
        """Whether the chunk may end here: every block has its word."""
        return self._stream.complete

    @property
    def known(self) -> int:
        """Frames of blocks that have begun: so many `actions` has."""
        return len(self._stream.motion_TK)

    @property
    def settled(self) -> int:
        """Frames that no further id will change."""
        return self._stream.settled

    def push(self, token: int) -> slice:
        """Take one more id; the frames that it changed.

        Raises:
            ValueError: an id that may not come next; the message says what may. The stream stays as it was.
        """
        return self._stream.push(token)

    def actions(self) -> Actions:
        """Motion of the `known` frames, as the ids so far decode if nothing follows.

        Raises:
            ValueError: no word has come yet.
        """
        if not self.known:
            raise ValueError("no word has come yet; push ids first")
        return self._actions_of(self._stream.motion_TK)
