"""The product: chunks of motion into fixed-length codes and back.

# B chunks, T frames, M = ceil(T / 4) slots, Q levels, D channels of the layout
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import cached_property, wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar, overload

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from xtok.actions.delta import to_delta
from xtok.actions.embodiments import get_embodiment
from xtok.actions.layout import Layout
from xtok.actions.statistics import Statistics, normalise_batch, saturation
from xtok.actions.steady import exact
from xtok.actions.types import HORIZON_MAX, Actions, ChunkBatch, Codes, Context
from xtok.codec import storage
from xtok.codec.arrays import ArrayInterface
from xtok.codec.base import Codec, Formerly, KnownBy
from xtok.codec.checked import check_anchor, chunks_of
from xtok.codec.exact_coder import ExactCoder
from xtok.codec.gaussian.model import GaussianCodec
from xtok.codec.gaussian.robot_statistics import RobotStatistics
from xtok.codec.prefix import Prefix
from xtok.codec.sequence import OnInvalid

P = ParamSpec("P")
R = TypeVar("R")


def _of_arrays(method: Callable[Concatenate[ArrayInterface, P], R]) -> Callable[Concatenate[Tokenizer, P], R]:
    """A method of `Tokenizer.arrays` as the tokenizer's own, under the name that the authors' library has for it."""

    @wraps(method)
    def forwarded(self: Tokenizer, *args: P.args, **kwargs: P.kwargs) -> R:
        return method(self.arrays, *args, **kwargs)

    return forwarded


class Tokenizer:
    """A frozen codec behind the `ActionTokenizer` protocol, and behind the method names of the authors' library.

    Encoding is exact: everything that decides a code runs in float64, so a chunk has the same codes alone or in a
    batch, padded or not, on one thread or many. Decoding never fails on codes that exist and is never silent on others.
    No gradient passes. A host may cast, move or wrap the codec as it likes (`xtok.codec.precision`): codes stay, or a
    ValueError says what became of it.
    """

    def __init__(self, codec: Codec, name: str = "xtok") -> None:
        self.name = name
        self._coder = ExactCoder(codec)

    @property
    def codec(self) -> Codec:
        """The module inside; a host may move it or put a wrapped one in its place."""
        return self._coder.codec

    @codec.setter
    def codec(self, codec: Codec) -> None:
        self._coder.codec = codec

    @cached_property
    def arrays(self) -> ArrayInterface:
        """The same for plain tensors, arrays and lists."""
        return ArrayInterface(self._coder)

    encode_delta = _of_arrays(ArrayInterface.encode_delta)
    decode_delta = _of_arrays(ArrayInterface.decode_delta)
    reconstruct = _of_arrays(ArrayInterface.reconstruct)
    encode_from_absolute = _of_arrays(ArrayInterface.encode_from_absolute)
    decode_to_absolute = _of_arrays(ArrayInterface.decode_to_absolute)
    encode_numpy = _of_arrays(ArrayInterface.encode_numpy)
    decode_numpy = _of_arrays(ArrayInterface.decode_numpy)
    reconstruct_numpy = _of_arrays(ArrayInterface.reconstruct_numpy)
    encode_from_absolute_numpy = _of_arrays(ArrayInterface.encode_from_absolute_numpy)
    decode_to_absolute_numpy = _of_arrays(ArrayInterface.decode_to_absolute_numpy)

    # -- what it is -----------------------------------------------------------------------------------------------

    @property
    def layout(self) -> Layout:
        return self.codec.layout

    @property
    def levels(self) -> int:
        """Q."""
        return self.codec.config.levels

    @property
    def codebook_size(self) -> int:
        """V, codes a level."""
        return self.codec.config.codebook_size

    @property
    def vocab_size(self) -> int:
        return self.codebook_size

    @property
    def statistics(self) -> dict[str, Statistics]:
        """Of every robot that it can code, "none" included."""
        return self.codec.statistics

    @property
    def digest(self) -> str:
        """Sixteen hex digits over weights, books, priors and configuration, as they are now: what do these codes mean?

        Raises:
            ValueError: the codec was rounded or emptied by a host.
        """
        return storage.digest(self.codec)

    def answers_to(self, digest: str) -> bool:
        """Whether codes that were written under a digest are this tokenizer's: its own, or one of an older format."""
        return digest == self.digest or digest in self.codec.formerly.digests

    @cached_property
    def foundation(self) -> str:
        """Sixteen hex digits over what its robots share: statistics of a robot are measured for one of these."""
        return storage.foundation(self.codec)

    def stands_on(self, foundation: str) -> bool:
        """Whether statistics that were measured for a foundation serve here: its own, or one of an older format."""
        return foundation == self.foundation or foundation in self.codec.formerly.foundations

    # -- from and to disk -----------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, path_or_id: str | Path | None = None) -> Tokenizer:
        """A folder written by `save_pretrained`, a hub id, or shipped weights: "arms26" and "joints", each of
        the layout of its name, or "arms26-srq", the published model.

        Raises:
            FileNotFoundError: no such tokenizer. ValueError: a damaged or altered one.
        """
        return cls(storage.load(storage.resolve(path_or_id)), name="xtok")

    def save_pretrained(self, folder: str | Path) -> None:
        """Write model.safetensors and config.json."""
        storage.save(self.codec, Path(folder))

    # -- robots ---------------------------------------------------------------------------------------------------

    @property
    def known_by(self) -> dict[str, KnownBy]:
        """How each robot is known: by codebooks or details of its "own" (training or `xtok adapt` gave it those), as
        "measured" on its episodes for the shared codebooks, or by its "ranges" alone."""
        return self.codec.known_by

    @property
    def measured(self) -> Mapping[str, RobotStatistics | None]:
        """Robots measured for the shared codebooks; None where the file that they came from is not at hand."""
        codec = storage.unwrapped(self.codec)
        return codec.measured if isinstance(codec, GaussianCodec) else {}

    def with_statistics(self, robot: RobotStatistics | Statistics) -> Tokenizer:
        """The same weights for one more robot, as `xtok.pretrain.measure` or `xtok stats` measured it for them.

        Raises:
            ValueError: ranges alone where more is needed (`with_ranges` takes those), statistics of another layout or
                for shorter chunks than 64 frames, measured through other codebooks, or of an unregistered robot.
        """
        if not isinstance(storage.unwrapped(self.codec), GaussianCodec):  # it needs no more than ranges
            return self.with_ranges(robot if isinstance(robot, Statistics) else robot.statistics)
        if isinstance(robot, Statistics):
            raise ValueError(
                f"these statistics of {robot.embodiment!r} are ranges alone, which code a robot badly: measure it with "
                "`xtok.tokenizer_for(dataset)` or `xtok stats DATA -o F.json`, or ask for it: with_ranges(statistics)"
            )
        get_embodiment(robot.embodiment)
        robot.statistics.check(self.layout, robot.statistics.control_hz, HORIZON_MAX)
        known = self.measured.get(robot.embodiment)
        if known is not None and known.digest == robot.digest:
            return self
        if not self.stands_on(robot.measured_for):
            raise ValueError(
                f"statistics of {robot.embodiment!r} were measured for codebooks {robot.measured_for}, these are "
                f"{self.foundation}: measure them for this tokenizer, `xtok stats DATA --tokenizer X -o F.json`"
            )
        codec = self.shared_codec()
        assert isinstance(codec, GaussianCodec)
        codec.add_measured(robot)
        return Tokenizer(codec, self.name)

    def with_ranges(self, statistics: Statistics) -> Tokenizer:
        """The same weights for one more robot, known by its ranges only: all that a perceiver needs, but of a Gaussian
        codec the generic motion prior serves it, badly.

        Raises:
            ValueError: as `with_statistics`.
        """
        get_embodiment(statistics.embodiment)
        statistics.check(self.layout, statistics.control_hz, HORIZON_MAX)
        known = self.statistics.get(statistics.embodiment)
        if known is not None and known.digest == statistics.digest:
            return self
        codec = self.shared_codec()
        codec.add_statistics(statistics)
        return Tokenizer(codec, self.name)

    def shared_codec(self) -> Codec:
        """A copy to which robots can be added: this tokenizer stays as it is."""
        codec = deepcopy(storage.unwrapped(self.codec))
        codec.forget_bases()
        codec.formerly = Formerly(foundations=codec.formerly.foundations)  # with other robots it is another tokenizer
        return codec

    # -- the protocol ---------------------------------------------------------------------------------------------

    @overload
    def encode(self, chunks: ChunkBatch) -> Codes: ...

    @overload
    def encode(
        self,
        chunks: Float[Tensor, "B T D"],
        robot_type: str = ...,
        obs_state: Float[Tensor, "B D"] | None = ...,
        dof_mask: Tensor | None = ...,
        control_hz: float | None = ...,
        layout: str = ...,
    ) -> Int[Tensor, "B M Q"]: ...

    @exact
    def encode(
        self,
        chunks: ChunkBatch | Float[Tensor, "B T D"],
        robot_type: str = "none",
        obs_state: Float[Tensor, "B D"] | None = None,
        dof_mask: Tensor | None = None,
        control_hz: float | None = None,
        layout: str = "time_major",
    ) -> Codes | Int[Tensor, "B M Q"]:
        """Codes of absolute chunks; or, given a tensor, of deltas in physical units (see `encode_delta`).

        Raises:
            ValueError: NaN or inf, a degenerate rotation, a wrong width, T outside [8, 64], an unknown robot, a rate or
                layout that its statistics do not fit, or chunks without an anchor.
        """
        if isinstance(chunks, np.ndarray):
            raise ValueError("encode takes a ChunkBatch or a torch tensor; give arrays to encode_numpy")
        if not isinstance(chunks, ChunkBatch):
            return self.encode_delta(chunks, robot_type, obs_state, dof_mask, control_hz, layout)
        return Codes.from_grid(self._coder.encode(chunks), self.vocab_size)

    @overload
    def decode(
        self, codes: Codes, context: Context, levels: int | None = ..., on_invalid: OnInvalid = ...
    ) -> Actions: ...

    @overload
    def decode(
        self,
        codes: Int[Tensor, "B M q"],
        context: None = ...,
        levels: int | None = ...,
        on_invalid: OnInvalid = ...,
        *,
        target_length: int,
        robot_type: str = ...,
        obs_state: Float[Tensor, "B D"] | None = ...,
        dof_mask: Tensor | None = ...,
        control_hz: float | None = ...,
        layout: str = ...,
    ) -> Float[Tensor, "B T D"]: ...

    @exact
    def decode(
        self,
        codes: Codes | Int[Tensor, "B M q"],
        context: Context | None = None,
        levels: int | None = None,
        on_invalid: OnInvalid = "raise",
        *,
        target_length: int | None = None,
        robot_type: str = "none",
        obs_state: Float[Tensor, "B D"] | None = None,
        dof_mask: Tensor | None = None,
        control_hz: float | None = None,
        layout: str = "time_major",
    ) -> Actions | Float[Tensor, "B T D"]:
        """Motion from the first `levels` levels; or, given a tensor, deltas in physical units (see `decode_delta`).

        on_invalid="repair" decodes the whole slots before the first fault: `complete_BT` says which frames they cover,
        the prior continues the motion over the rest (a perceiver has none: code 0 stands there), and a warning
        says what was dropped.

        Raises:
            ValueError: ids outside the book, sequences that are cut short, too long or incomplete, levels outside
                [1, Q], T outside [8, 64], an unknown robot.
        """
        if not isinstance(codes, Codes):
            if target_length is None:
                raise ValueError(
                    "decode(codes) needs target_length=T, the frames that were encoded: M slots fit four T"
                )
            return self.decode_delta(
                codes, target_length, levels, robot_type, obs_state, dof_mask, control_hz, layout, on_invalid
            )
        if context is None:
            raise ValueError("decode(Codes) needs the context of the chunks: chunks.context")
        return self._coder.decode(codes, context, levels, on_invalid)

    def rate_points(self) -> list[Prefix]:
        """This tokenizer at 1 .. Q levels, for rate-distortion curves."""
        return [Prefix(self, level) for level in range(1, self.levels + 1)]

    @property
    def own_rate(self) -> int:
        """Which of `rate_points` is this tokenizer itself: the last."""
        return self.levels - 1

    def encode_rates(self, chunks: ChunkBatch) -> list[Codes]:
        """Codes at each of `rate_points`, from one encoding: a prefix keeps the first levels of the same codes."""
        grid = self.encode(chunks).grid_BMQ
        assert grid is not None
        return [Codes.from_grid(grid[..., :levels], self.vocab_size) for levels in range(1, self.levels + 1)]

    @exact
    def saturation(self, chunks: ChunkBatch) -> dict[str, float]:
        """Share of a channel's values outside the range of the robot's statistics, for channels where there are any.

        Raises:
            ValueError: as `encode`.
        """
        chunks = chunks_of(chunks, self._coder.device)
        context = chunks.context
        check_anchor(context)
        self._coder.batch_context(context)
        anchor_BD = context.anchor_BD
        assert anchor_BD is not None
        delta = to_delta(self.layout, chunks.target_BTD.double(), anchor_BD.double(), context.mask_BD)
        normalised = normalise_batch(self.statistics, context, delta)
        return {self.layout.channel_names[i]: share for i, share in saturation(normalised, context.mask_BD).items()}
