"""Motion words behind the one protocol: absolute chunks to sequences of ids of free length, and back.

# B chunks, b of one robot, T frames, K channels of a robot, D channels of the layout
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from xtok.actions.delta import from_delta, to_delta
from xtok.actions.entrance import integers_of
from xtok.actions.layout import Layout
from xtok.actions.statistics import Statistics, normalise_batch, saturation
from xtok.actions.steady import exact
from xtok.actions.types import Actions, ChunkBatch, Codes, Context, slots
from xtok.actions.validate import check_actions
from xtok.codec import storage
from xtok.codec.base import Groups, KnownBy, rows_by_robot
from xtok.codec.checked import check_anchor, check_context, chunks_of, context_of
from xtok.codec.sequence import OnInvalid
from xtok.codec.words import files
from xtok.codec.words.action_stream import ActionStream
from xtok.codec.words.codec import WordCodec
from xtok.codec.words.encode import encode, encode_fixed
from xtok.codec.words.grammar import BLOCK_SLOTS, Grammar
from xtok.codec.words.prices import rate_for
from xtok.codec.words.repair import repair, tell
from xtok.codec.words.robot import WordRobot
from xtok.codec.words.sequences import Sequences
from xtok.codec.words.settings import RATES, CodingSettings
from xtok.codec.words.word import BLOCK_FRAMES

_HERE = torch.device("cpu")
_NONE = np.zeros(0, dtype=np.int64)


class WordTokenizer:
    """Motion words of a frozen codec; meets `xtok.actions.types.ActionTokenizer`.

    Everything that decides an id runs in float64, so a chunk has the same ids alone or in a batch, on one thread or
    many. How many tokens a chunk costs follows from `coding`; ids mean the same at every rate.
    """

    def __init__(self, codec: WordCodec, coding: CodingSettings | None = None, name: str = "words") -> None:
        self.codec, self.coding, self.name = codec, coding or CodingSettings(), name

    # -- what it is -----------------------------------------------------------------------------------------------

    @property
    def layout(self) -> Layout:
        return self.codec.layout

    @property
    def grammar(self) -> Grammar:
        """Which ids there are, and which may follow which."""
        return self.codec.grammar

    @property
    def vocab_size(self) -> int:
        """V, ids in all."""
        return self.grammar.total

    @property
    def statistics(self) -> dict[str, Statistics]:
        """Of every robot that it can code."""
        return self.codec.statistics

    @property
    def known_by(self) -> dict[str, KnownBy]:
        """How each robot is known: by residual books of its "own", or as "measured" for the shared ones."""
        return {name: robot.known_by for name, robot in self.codec.robots.items()}

    @property
    def digest(self) -> str:
        """Sixteen hex digits over all that decides what ids mean."""
        return self.codec.digest

    def answers_to(self, digest: str) -> bool:
        """Whether ids that were written under a digest are this tokenizer's."""
        return digest == self.digest

    @classmethod
    def from_pretrained(cls, path_or_id: str | Path) -> WordTokenizer:
        """A folder written by `save_pretrained`, shipped weights, or a hub id.

        Raises:
            FileNotFoundError: no such tokenizer. ValueError: a damaged or altered one, or one of another kind.
        """
        return cls(*files.load(storage.resolve(path_or_id)))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write model.safetensors and config.json."""
        files.save(self.codec, self.coding, Path(folder))

    # -- rates ----------------------------------------------------------------------------------------------------

    def with_rate(self, rate: float) -> WordTokenizer:
        """The same at another price: `rate` is the error that one token has to save (`CodingSettings`).

        Raises:
            ValueError: a rate below 0.
        """
        return WordTokenizer(self.codec, replace(self.coding, rate=rate, residuals=None), f"{self.name}@{rate:g}")

    def with_tokens(self, tokens: float, chunks: ChunkBatch) -> WordTokenizer:
        """The same at the rate at which such chunks (give train chunks of the length that you use) have so many tokens
        on average. A few hundred of them will do.

        Raises:
            ValueError: no rate costs so little or so much, or as `encode`.
        """

        def tokens_at(rate: float) -> float:
            return float(np.mean([len(ids) for ids in self.with_rate(rate).encode(chunks).tokens]))

        return self.with_rate(rate_for(tokens_at, tokens))

    def with_fixed(self, residuals: int) -> WordTokenizer:
        """The same with one word and so many residual tokens for every 16 frames, so that all chunks of one length
        have as many tokens.

        Raises:
            ValueError: residuals outside 0 to 32.
        """
        return WordTokenizer(self.codec, replace(self.coding, residuals=residuals), f"{self.name}+{residuals}")

    def with_robot(self, robot: WordRobot) -> WordTokenizer:
        """The same with one more robot, or another in its place."""
        return WordTokenizer(self.codec.with_robot(robot), self.coding, self.name)

    def rate_points(self) -> list[WordTokenizer]:
        """Itself among cheaper and dearer ones, by rising price."""
        if self.coding.residuals is not None:
            return [self]
        rates = sorted({*RATES, self.coding.rate}, reverse=True)
        return [self if rate == self.coding.rate else self.with_rate(rate) for rate in rates]

    @property
    def own_rate(self) -> int:
        """Which of `rate_points` is this one."""
        return self.rate_points().index(self)

    def encode_rates(self, chunks: ChunkBatch) -> list[Codes]:
        """Codes at each of `rate_points`."""
        return [point.encode(chunks) for point in self.rate_points()]

    # -- coding ---------------------------------------------------------------------------------------------------

    @exact
    def encode(self, chunks: ChunkBatch) -> Codes:
        """Ids of absolute chunks, one sequence a chunk.

        Raises:
            ValueError: NaN or inf, a degenerate rotation, a wrong width, T outside [8, 64], an unknown robot, a rate or
                layout that its statistics do not fit, or chunks without an anchor.
        """
        chunks = chunks_of(chunks, _HERE)
        context = chunks.context
        check_anchor(context)
        groups = self._groups(context)
        check_actions(self.layout, chunks.target_BTD, context.mask_BD[:, None])
        assert context.anchor_BD is not None
        delta_BTD = to_delta(self.layout, chunks.target_BTD.double(), context.anchor_BD.double(), context.mask_BD)
        return self._codes(delta_BTD, context, groups)

    @exact
    def encode_delta(self, delta_BTD: Float[Tensor, "B T D"], context: Context) -> Codes:
        """Ids of deltas to the anchor in physical units; the context needs no anchor.

        Raises:
            ValueError: as `encode`.
        """
        context = context_of(context, _HERE)
        groups = self._groups(context)
        check_actions(self.layout, delta_BTD, context.mask_BD[:, None])
        safe_BTD = torch.where(context.mask_BD[:, None], delta_BTD.to(_HERE), 0.0).double()
        return self._codes(safe_BTD, context, groups)

    def _codes(self, delta_BTD: Tensor, context: Context, groups: Groups) -> Codes:
        tokens: list[np.ndarray] = [np.zeros(0, dtype=np.int64)] * len(context)
        for (name, mask), rows in groups.items():
            robot = self.codec.robot(name, np.frombuffer(mask, dtype=bool))
            motion_bTK = self.codec.motion(robot, delta_BTD[rows])
            for row, ids in zip(rows, self._ids(robot, motion_bTK), strict=True):
                tokens[row] = ids
        return Codes(tuple(tokens), self.vocab_size)

    def _ids(self, robot: WordRobot, motion_bTK: Tensor) -> list[np.ndarray]:
        coding = self.coding
        if coding.residuals is not None:
            sequences = encode_fixed(robot.model, motion_bTK, coding.residuals, coding.paths, coding.beam)
        else:
            sequences = encode(robot.model, motion_bTK, coding.rate, coding.paths, coding.beam)
        return sequences.ids(self.grammar)

    @exact
    def decode(self, codes: Codes, context: Context, on_invalid: OnInvalid = "raise") -> Actions:
        """Motion of sequences of ids.

        on_invalid="repair" decodes the nearest sequences that follow the grammar: tokens that cannot stand where they
        are are left out, words that are missing are those of standing still. A warning says what was changed, and
        `complete_BT` is False from the block of the first change on.

        Raises:
            ValueError: a sequence that does not follow the grammar (on "raise"), or of which no token can stay (on
                "repair"), another number of sequences than of chunks, T outside [8, 64], an unknown robot.
        """
        if on_invalid not in ("raise", "repair"):
            raise ValueError(f"on_invalid is {on_invalid!r}; expected 'raise' or 'repair'")
        context = context_of(context, _HERE)
        groups = self._groups(context)
        if len(codes) != len(context):
            raise ValueError(f"there are {len(codes)} code sequences and {len(context)} chunks in the context")
        B, T = len(context), context.horizon
        delta_BTD = torch.zeros(B, T, self.layout.width, dtype=torch.float64)
        complete_BT = torch.ones(B, T, dtype=torch.bool)
        for (name, mask), rows in groups.items():
            robot = self.codec.robot(name, np.frombuffer(mask, dtype=bool))
            ids = [_integers(row, codes.tokens[row]) for row in rows]
            try:
                sequences = Sequences.of_ids(self.grammar, ids, T)  # all at once
            except ValueError:
                mended = [self._mended(row, each, robot, T, on_invalid) for row, each in zip(rows, ids, strict=True)]
                sequences = Sequences.of_ids(self.grammar, [each for each, _ in mended], T)
                for row, (_, whole) in zip(rows, mended, strict=True):
                    complete_BT[row, whole:] = False
            delta_BTD[rows] = self.codec.delta(robot, robot.model.decode_sequences(sequences, T))
        return self._actions(delta_BTD, context, complete_BT)

    def first_codes(self, codes: Codes, horizon: int) -> Int[np.ndarray, "B M 1"]:
        """The word that each slot is in, of sequences that parse.

        Raises:
            ValueError: one that does not.
        """
        words_BN = Sequences.of_ids(self.grammar, codes.tokens, horizon).words_BN.numpy()
        return np.repeat(words_BN, BLOCK_SLOTS, axis=1)[:, : slots(horizon), None]

    def stream(self, context: Context) -> ActionStream:
        """One chunk, token by token, as motion that can be executed while the rest is still written.

        Raises:
            ValueError: a context of more than one chunk, or as `decode`.
        """
        context = context_of(context, _HERE)
        if len(context) != 1:
            raise ValueError(f"a stream is one chunk, the context has {len(context)}; make one stream for each")
        ((name, mask),) = self._groups(context)
        robot = self.codec.robot(name, np.frombuffer(mask, dtype=bool))
        return ActionStream(robot.model, context, lambda motion: self._frames(robot, motion, context))

    def _frames(self, robot: WordRobot, motion_TK: Tensor, context: Context) -> Actions:
        shown = replace(context, horizon=len(motion_TK))
        complete_BT = torch.ones(1, len(motion_TK), dtype=torch.bool)
        return self._actions(self.codec.delta(robot, motion_TK[None]), shown, complete_BT)

    def _actions(self, delta_BTD: Tensor, context: Context, complete_BT: Tensor) -> Actions:
        delta_BTD = torch.where(context.mask_BD[:, None], delta_BTD, 0.0)
        absolute_BTD = None
        if context.anchor_BD is not None:
            absolute_BTD = from_delta(self.layout, delta_BTD, context.anchor_BD.double(), context.mask_BD).float()
        failed_B = torch.zeros(len(context), dtype=torch.bool)
        return Actions(delta_BTD.float(), absolute_BTD, failed_B, complete_BT)

    def _mended(
        self, row: int, ids: np.ndarray, robot: WordRobot, horizon: int, on_invalid: OnInvalid
    ) -> tuple[np.ndarray, int]:
        """Ids that parse, and how many frames lie before the block of the first that was changed."""
        state = self.grammar.start(horizon)
        try:
            for place, token in enumerate(ids.tolist()):
                state = self.grammar.step(state, token, place)
            if not state.complete:
                raise ValueError(f"it ends after {len(ids)} tokens; expected {self.grammar.expected(state)}")
            return ids, horizon
        except ValueError as error:
            if on_invalid == "raise":
                raise ValueError(f"sequence {row}: {error}. on_invalid='repair' decodes what can be kept") from error
        still = int(robot.words.encode(torch.zeros(1, horizon, robot.model.channels))[0, 0])
        repaired = repair(self.grammar, ids.tolist(), horizon, still)
        tell(row, ids.tolist(), repaired)
        return np.asarray(repaired.ids, dtype=np.int64), max(0, state.block) * BLOCK_FRAMES

    def _groups(self, context: Context) -> Groups:
        """Rows by robot, all of them looked at."""
        check_context(context)
        if context.layout.digest != self.layout.digest:
            raise ValueError(
                f"chunks are in layout {context.layout.name!r}; this tokenizer is for {self.layout.name!r}"
            )
        groups = rows_by_robot(context)
        for (name, mask), rows in groups.items():
            statistics = self.codec.robot(name, np.frombuffer(mask, dtype=bool)).statistics
            for control_hz in context.control_hz_B[rows].unique().tolist():
                statistics.check(self.layout, control_hz, context.horizon)
        if context.anchor_BD is not None:
            try:
                check_actions(self.layout, context.anchor_BD, context.mask_BD)
            except ValueError as error:
                raise ValueError(f"anchor (the state one step before): {error}") from error
        return groups

    @exact
    def saturation(self, chunks: ChunkBatch) -> dict[str, float]:
        """Share of a channel's values outside the range of the robot's statistics, for channels where there are any.

        Raises:
            ValueError: as `encode`.
        """
        chunks = chunks_of(chunks, _HERE)
        context = chunks.context
        check_anchor(context)
        self._groups(context)
        assert context.anchor_BD is not None
        delta = to_delta(self.layout, chunks.target_BTD.double(), context.anchor_BD.double(), context.mask_BD)
        normalised = normalise_batch(self.statistics, context, delta)
        return {self.layout.channel_names[i]: share for i, share in saturation(normalised, context.mask_BD).items()}


def _integers(row: int, given: Sequence[int] | np.ndarray) -> np.ndarray:
    if isinstance(given, np.ndarray) and given.dtype == np.int64 and given.ndim == 1:
        return given
    return integers_of(given, f"sequence {row}", "ids in one row", 1).cpu().numpy() if len(given) else _NONE
