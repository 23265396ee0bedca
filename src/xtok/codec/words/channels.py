"""Motion words of D channels in [-1, 1] without state, robot or rate: what FAST's contract passes, at a free length.

The first frame is one code or a few, nearest or what costs least together with the rest; motion is relative to where a
chunk usually goes from the frame that they decode to, so words and residuals mend what they leave open, in the loop.

# B chunks, T frames, D channels (26 at most), Q levels of first frames
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xtok.actions.entrance import whole_of
from xtok.actions.steady import exact
from xtok.actions.types import HORIZON_MAX, HORIZON_MIN, slots
from xtok.codec import storage
from xtok.codec.channel_input import CHANNELS_MAX, ChannelInput, pad_last_frame, rows_of
from xtok.codec.channels import CONFIG, ChannelCodec
from xtok.codec.sequence import OnInvalid
from xtok.codec.words import channel_files as files
from xtok.codec.words.channel_grammar import ChannelGrammar
from xtok.codec.words.encode import encode, encode_fixed
from xtok.codec.words.grammar import BLOCK_SLOTS, DEPTH
from xtok.codec.words.model import WordModel
from xtok.codec.words.prices import rate_for
from xtok.codec.words.repair import tell
from xtok.codec.words.sequences import Sequences
from xtok.codec.words.settings import CodingSettings
from xtok.codec.words.state import StateBook

NEAREST = 2  # first frames that are tried of each depth


@dataclass(frozen=True)
class _Coded:
    """codes_BQ: of first frames, -1 beyond the depth. cost_B: error and what the tokens cost."""

    codes_BQ: Int[Tensor, "B Q"]
    motion: Sequences
    cost_B: Float[Tensor, " B"]

    def or_better(self, other: _Coded) -> _Coded:
        """Of each chunk what costs less; of equal ones this."""
        better_B = other.cost_B < self.cost_B
        motion = [
            torch.where(better_B.view(-1, *[1] * (mine.ndim - 1)), his, mine)
            for mine, his in zip(vars(self.motion).values(), vars(other.motion).values(), strict=True)
        ]
        codes_BQ = torch.where(better_B[:, None], other.codes_BQ, self.codes_BQ)
        return _Coded(codes_BQ, Sequences(*motion), torch.where(better_B, other.cost_B, self.cost_B))


class WordChannels(ChannelInput):
    """A tokenizer of sequences of free length for chunks [B, T, D] of channels that nobody described, fitted on chunks
    of these channels (`xtok.pretrain.word_channels`).

    low_D, high_D: the range that it was made for. horizon_max: the longest chunk that it was fitted on. coding: what a
    token has to save, in the channels' units.

    Raises:
        ValueError: parts that do not belong together.
    """

    fitted = True

    def __init__(
        self,
        book: StateBook,
        model: WordModel,
        low_D: Float[np.ndarray, " D"],
        high_D: Float[np.ndarray, " D"],
        horizon_max: int,
        coding: CodingSettings | None = None,
    ) -> None:
        D = model.channels
        shapes = (book.channels, *low_D.shape, *high_D.shape)
        if not 1 <= D <= CHANNELS_MAX or shapes != (D, D, D):
            raise ValueError(f"motion has {D} channels, first frames and ranges {shapes}; expected 1 to {CHANNELS_MAX}")
        if not (np.isfinite(low_D).all() and np.isfinite(high_D).all() and (low_D <= high_D).all()):
            raise ValueError("the range of the channels is not finite, or its low end is above its high end")
        if type(horizon_max) is not int or not 1 <= horizon_max <= HORIZON_MAX:
            raise ValueError(f"horizon_max is {horizon_max!r}; expected 1 to {HORIZON_MAX} frames")
        self.book, self.model, self.low_D, self.high_D = book, model, low_D, high_D
        self._horizon_max, self.coding = horizon_max, coding or CodingSettings()
        self.grammar = ChannelGrammar(tuple(len(level) for level in book.levels), model.grammar)

    @property
    def channels(self) -> int:
        """D."""
        return self.model.channels

    @property
    def horizon_max(self) -> int:
        return self._horizon_max

    @property
    def vocab_size(self) -> int:
        """V; ids are 0 .. V - 1."""
        return self.grammar.total

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits over all that decides what ids mean."""
        return files.digest_of(self)

    # -- rates ----------------------------------------------------------------------------------------------------

    def _with(self, coding: CodingSettings) -> WordChannels:
        return WordChannels(self.book, self.model, self.low_D, self.high_D, self.horizon_max, coding)

    def with_rate(self, rate: float) -> WordChannels:
        """The same at another price: `rate` is the error that one token has to save, summed over frames and channels.

        Raises:
            ValueError: a rate below 0.
        """
        return self._with(replace(self.coding, rate=rate, residuals=None))

    def with_tokens(self, tokens: float, actions_BTD: Float[np.ndarray, "B T D"]) -> WordChannels:
        """The same at the rate at which such chunks (a few hundred train chunks of the length that you use) have so
        many tokens on average.

        Raises:
            ValueError: no rate costs so little or so much, or as `encode`.
        """

        def tokens_at(rate: float) -> float:
            return float(np.mean([len(ids) for ids in self.with_rate(rate).encode(actions_BTD)]))

        return self.with_rate(rate_for(tokens_at, tokens))

    def with_fixed(self, residuals: int) -> WordChannels:
        """The same at one length for all chunks of one T: one code of the first frame, and a word and so many residual
        tokens for every 16 frames.

        Raises:
            ValueError: residuals outside 0 to 32.
        """
        return self._with(replace(self.coding, residuals=residuals))

    # -- coding ---------------------------------------------------------------------------------------------------

    @exact
    def encode(self, actions_BTD: Float[np.ndarray, "B T D"]) -> list[Int[np.ndarray, " L"]]:
        """Ids of chunks (arrays, tensors or lists of any real dtype); T under 8 is continued by its last frame.

        Values outside the range that was fitted are coded as they are, and cost more tokens or err more: a few are told
        by a SaturationWarning, many are an error. Never clipped.

        Raises:
            ValueError: another shape or dtype, another D than fitted, T above `horizon_max`, NaN or inf, or values that
                are not normalised.
        """
        actions_BTD = self.checked(actions_BTD, 3)
        B, T, _ = actions_BTD.shape
        self._check_horizon(T)
        if B == 0:
            raise ValueError("there are no chunks in the batch; expected one or more")
        x_BTD = torch.from_numpy(pad_last_frame(actions_BTD, HORIZON_MIN))
        coded = self._fixed(x_BTD, T) if self.coding.residuals is not None else self._cheapest(x_BTD, T)
        motion = coded.motion.ids(self.model.grammar)
        return [
            np.array(self.grammar.join(codes[codes >= 0].tolist(), ids.tolist()), dtype=np.int64)
            for codes, ids in zip(coded.codes_BQ.numpy(), motion, strict=True)
        ]

    def _cheapest(self, x_BTD: Tensor, horizon: int) -> _Coded:
        """The first frames are chosen with one path behind each, then all paths follow behind the best."""
        rate, best = self.coding.rate, None
        for depth in self.book.candidates(x_BTD[:, 0], NEAREST):
            for codes_BQ in depth.unbind(dim=1):
                new = self._behind(codes_BQ, x_BTD, horizon, lambda m: encode(self.model, m, rate, 1, 1))
                best = new if best is None else best.or_better(new)
        assert best is not None
        paths, beam = self.coding.paths, self.coding.beam
        return best.or_better(
            self._behind(best.codes_BQ, x_BTD, horizon, lambda m: encode(self.model, m, rate, paths, beam))
        )

    def _fixed(self, x_BTD: Tensor, horizon: int) -> _Coded:
        coding, residuals = self.coding, self.coding.residuals
        assert residuals is not None
        codes_BQ = self.book.candidates(x_BTD[:, 0], 1)[0][:, 0]
        return self._behind(
            codes_BQ, x_BTD, horizon, lambda m: encode_fixed(self.model, m, residuals, coding.paths, coding.beam)
        )

    def _behind(self, codes_BQ: Tensor, x_BTD: Tensor, horizon: int, encoded: Callable[[Tensor], Sequences]) -> _Coded:
        """Chunks behind these codes of their first frames."""
        T = x_BTD.shape[1]
        base_BTD = self.book.base(self.book.decode(codes_BQ), T)
        motion = encoded(x_BTD - base_BTD)
        off_BTD = self.model.decode_sequences(motion, T) + base_BTD - x_BTD
        tokens_B = motion.tokens_B + (codes_BQ >= 0).sum(dim=1)
        return _Coded(codes_BQ, motion, off_BTD[:, :horizon].abs().sum(dim=(1, 2)) + self.coding.rate * tokens_B)

    @exact
    def decode(
        self,
        sequences: Sequence[Sequence[int]] | Sequence[np.ndarray] | Int[np.ndarray, "B L"],
        horizon: int,
        channels: int | None = None,
        on_invalid: OnInvalid = "raise",
    ) -> Float[np.ndarray, "B T D"]:
        """Chunks of sequences of ids, float32.

        on_invalid="repair" decodes the nearest sequences that follow the grammar, and warns of what it changed.

        Raises:
            ValueError: a sequence that does not follow the grammar (on "raise"), or of which no token can stay (on
                "repair"), or a shape as in `encode`.
        """
        if on_invalid not in ("raise", "repair"):
            raise ValueError(f"on_invalid is {on_invalid!r}; expected 'raise' or 'repair'")
        horizon = whole_of(horizon, "horizon (T, frames)")
        self._check_channels(self.channels if channels is None else whole_of(channels, "channels (D)"))
        self._check_horizon(horizon)
        T = max(horizon, HORIZON_MIN)
        rows = rows_of(sequences, "integers")
        parts = [self._looked_at(row, ids.tolist(), T, on_invalid) for row, ids in enumerate(rows)]
        codes_BQ = torch.full((len(parts), len(self.book.levels)), -1)
        for row, (codes, _) in enumerate(parts):
            codes_BQ[row, : len(codes)] = torch.tensor(codes)
        motion_BTD = self.model.decode([ids for _, ids in parts], T)
        out_BTD = self.book.base(self.book.decode(codes_BQ), T) + motion_BTD
        return out_BTD[:, :horizon].float().numpy()

    def _looked_at(
        self, row: int, ids: list[int], horizon: int, on_invalid: OnInvalid
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        try:
            return self.grammar.split(ids, horizon)
        except ValueError as error:
            if on_invalid == "raise":
                raise ValueError(f"sequence {row}: {error}. on_invalid='repair' decodes what can be kept") from error
        state, word = self._usual
        repaired = self.grammar.repair(ids, horizon, state, word)
        tell(row, ids, repaired)
        return self.grammar.split(repaired.ids, horizon)

    @cached_property
    def _usual(self) -> tuple[int, int]:
        """Codes of what is put in where it is missing: the middle of the range, and the usual motion from there."""
        middle_ND = torch.from_numpy((self.low_D + self.high_D) / 2)[None]
        state = int(self.book.candidates(middle_ND, 1)[0][0, 0, 0])
        still_BTD = torch.zeros(1, HORIZON_MIN, self.channels, dtype=torch.float64)
        return state, int(self.model.words.encode(still_BTD)[0, 0])

    def fixed_length(self, horizon: int) -> int | None:
        """Tokens of every chunk of T frames in the fixed form; None: they differ."""
        if self.coding.residuals is None:
            return None
        self._check_horizon(horizon)
        M = slots(max(horizon, HORIZON_MIN))
        rooms = [min(BLOCK_SLOTS, M - start) for start in range(0, M, BLOCK_SLOTS)]
        return 1 + sum(1 + min(self.coding.residuals, DEPTH * room) for room in rooms)

    def _beyond(self, flat_ND: Float[np.ndarray, "N D"]) -> tuple[Bool[np.ndarray, "N D"], str]:
        outside_ND = (flat_ND < self.low_D) | (flat_ND > self.high_D)
        return outside_ND, "the range that these motion words were fitted on"

    # -- from and to disk -----------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write model.safetensors and channels.json."""
        files.save(self, Path(folder))

    @classmethod
    def load(cls, path_or_id: str | Path) -> WordChannels:
        """A folder or hub id written by `save`.

        Raises:
            FileNotFoundError: no such folder. ValueError: a damaged or altered one, or one of another kind.
        """
        return files.load(path_or_id, cls)


def open_channels(path_or_id: str | Path | None = None) -> ChannelCodec | WordChannels:
    """What a folder or hub id holds, of either kind; nothing: the shipped weights, unfitted.

    Raises:
        FileNotFoundError: no such folder. ValueError: damaged or altered files.
    """
    if path_or_id is None:
        return ChannelCodec.load()
    folder = storage.resolve(path_or_id, extra=[CONFIG])
    try:
        content = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        content = None  # ChannelCodec.load says what is wrong with it
    return (
        WordChannels.load(folder)
        if isinstance(content, dict) and content.get("kind") == files.KIND
        else ChannelCodec.load(folder)
    )
