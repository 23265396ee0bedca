"""What both codecs are: modules that turn normalised motion into codes and back. docs/method.md.

# B batch, T frames, M slots, Q levels, K tangent channels, D channels of the layout, C width of a latent
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from xtok.actions.delta import to_delta
from xtok.actions.embodiments import NONE, get_embodiment
from xtok.actions.layout import get_layout
from xtok.actions.statistics import Statistics
from xtok.actions.steady import pinned
from xtok.actions.types import ChunkBatch, Context
from xtok.codec.batch import BatchContext, units_of
from xtok.codec.config import CodecConfig
from xtok.codec.encoder import Conditions
from xtok.codec.output import CodecOutput
from xtok.codec.precision import KeepsPrecision
from xtok.codec.quantizer import Health, ResidualQuantizer

KnownBy = Literal["own", "measured", "ranges"]
Networks = Mapping[str, nn.Module]
Member = tuple[str, bytes]  # a robot and the mask of its channels
Groups = Mapping[Member, list[int]]  # their rows in a batch


class FormerlyJson(TypedDict):
    """`Formerly` in a file."""

    digests: list[str]
    foundations: list[str]


@dataclass(frozen=True)
class Formerly:
    """Digests and foundations that a codec had in an older format; what was written under them is its own."""

    digests: tuple[str, ...] = ()
    foundations: tuple[str, ...] = ()

    def to_dict(self) -> FormerlyJson:
        """JSON types."""
        return {"digests": list(self.digests), "foundations": list(self.foundations)}

    @classmethod
    def from_dict(cls, content: FormerlyJson) -> Formerly:
        """Inverse of `to_dict`."""
        return cls(tuple(content.get("digests", ())), tuple(content.get("foundations", ())))


class Codec(KeepsPrecision, ABC):
    """Networks, codebooks and what is known of each robot.

    latent_dim: C, width of what the first level quantises. slot_dim: width of z~, what is decoded from. semantic_dims:
    the last dimensions of both that mean no motion; semantic_scale: their length at most.
    """

    latent_dim: int
    slot_dim: int
    semantic_dims: int = 0
    semantic_scale: float = 1.0

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config, self.layout = config, get_layout(config.layout)
        self.ranges: dict[str, Statistics] = {}
        self.formerly = Formerly()
        self._slots: dict[str, int] = {}

    # -- robots ---------------------------------------------------------------------------------------------------

    @property
    def statistics(self) -> dict[str, Statistics]:
        """Of every robot that can be coded, "none" included."""
        return dict(self.ranges)

    @property
    def known_by(self) -> dict[str, KnownBy]:
        """How each robot is known; see `Tokenizer.known_by`."""
        return dict.fromkeys(self.ranges, "ranges")

    def add_statistics(self, statistics: Statistics) -> None:
        """A robot known by its ranges alone."""
        self.forget_robot(statistics.embodiment)
        self.ranges[statistics.embodiment] = statistics

    def forget_robot(self, name: str) -> None:
        """All that is known of it but its ranges."""

    def forget_bases(self) -> None:
        """Drop what was computed from robots; call after one changed."""

    def robot_statistics(self, name: str, mask_D: Bool[np.ndarray, " D"], horizon: int) -> Statistics:
        """Of a robot, over the channels of a mask, for chunks of `horizon` frames.

        Raises:
            ValueError: an unknown robot, or channels that it lacks.
        """
        if name not in self.ranges:
            raise self.unknown_robot(name)
        statistics = narrowed(self.ranges[name], mask_D)
        if not statistics.moving_D.any():
            raise never_moved(name)
        return statistics

    def slot(self, name: str) -> int:
        """Row of a robot in the embodiment table. It goes along with a pickled codec, so that a worker can code robots
        that only its parent registered.

        Raises:
            ValueError: an unknown robot.
        """
        if name not in self._slots:
            self._slots[name] = get_embodiment(name).slot
        return self._slots[name]

    def __getstate__(self) -> dict[str, Any]:
        for name in self.statistics:
            with suppress(ValueError):  # of another project, and nobody has asked for it
                self.slot(name)
        return self.__dict__.copy()

    def unknown_robot(self, name: str) -> ValueError:
        """The error for a robot that this codec does not know."""
        if name != NONE and not name.startswith(f"{NONE}:"):
            get_embodiment(name)  # an unknown name is told its close matches
        return ValueError(
            f"this tokenizer has no robot {name!r}; it has {sorted(self.statistics)}. Add yours from its data with "
            "`xtok.tokenizer_for(dataset)`, which measures it on its train episodes, or with_statistics(...) from "
            "`xtok stats DATA -o F.json`; `xtok adapt DATA -o TOKENIZER` gives it codebooks of its own"
        )

    # -- borders --------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the codebooks are."""

    @pinned
    def batch_context(self, context: Context, groups: Groups | None = None) -> BatchContext:
        """Look up the robots of a batch. groups: `rows_by_robot(context)`, if that is known already.

        Raises:
            ValueError: another layout, an unknown robot, another control rate.
        """
        return self.grouped_context(context, groups)[0]

    def grouped_context(self, context: Context, groups: Groups | None = None) -> tuple[BatchContext, Groups]:
        """`batch_context`, and which rows are of which robot."""
        if context.layout.digest != self.layout.digest:
            raise ValueError(
                f"chunks are in layout {context.layout.name!r}; this tokenizer is for {self.layout.name!r}"
            )
        groups = rows_by_robot(context) if groups is None else groups
        device, found = self.device, []
        robot_B = torch.empty(len(context), dtype=torch.long)
        for i, ((name, mask), rows) in enumerate(groups.items()):
            statistics = self.robot_statistics(name, np.frombuffer(mask, dtype=bool), context.horizon)
            for control_hz in context.control_hz_B[rows].unique().tolist():
                if name != NONE:
                    statistics.check(self.layout, control_hz, context.horizon)
            robot_B[rows] = i
            found.append(statistics)
        units, moving_BK = units_of(self.layout, found, robot_B, device)
        slot_R = torch.tensor([self.slot(name) for name, _ in groups])
        anchor_BD = context.mask_BD.new_zeros(context.mask_BD.shape, dtype=torch.float32)
        if context.anchor_BD is not None:
            anchor_BD = torch.where(context.mask_BD, context.anchor_BD, 0.0).float()
        conditions = Conditions(
            anchor_BD.to(device), moving_BK, slot_R[robot_B].to(device), context.control_hz_B.float().to(device)
        )
        return BatchContext(context.horizon, conditions, units, context.embodiment), groups

    def motion(self, chunks: ChunkBatch, batch_context: BatchContext) -> Float[Tensor, "B T K"]:
        """Normalised tangent deltas of absolute chunks, float64."""
        anchor_BD = chunks.context.anchor_BD
        assert anchor_BD is not None, "absolute actions need an anchor"
        delta = to_delta(self.layout, chunks.target_BTD.double(), anchor_BD.double(), chunks.context.mask_BD)
        return self.motion_of_delta(delta.to(self.device), batch_context)

    def motion_of_delta(self, delta_BTD: Float[Tensor, "B T D"], batch_context: BatchContext) -> Float[Tensor, "B T K"]:
        """Physical deltas to normalised tangent."""
        return batch_context.units.to_motion(self.layout, delta_BTD)

    def delta(self, motion_BTK: Float[Tensor, "B T K"], batch_context: BatchContext) -> Float[Tensor, "B T D"]:
        """Inverse of `motion_of_delta`, constant channels included. Masked rotations come back as the identity."""
        return batch_context.units.to_delta(self.layout, motion_BTK)

    # -- networks and codebooks -----------------------------------------------------------------------------------

    @property
    @abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """By the names of its attributes; those that decide codes."""

    def exact_networks(self) -> Networks:
        """Copies in float64: in float32 a chunk's codes would depend on the batch around it."""
        return {name: deepcopy(network).double() for name, network in self.networks.items()}

    @property
    def quantizers(self) -> list[ResidualQuantizer]:
        """All codebooks, in level order."""
        return [module for module in self.modules() if isinstance(module, ResidualQuantizer)]

    @abstractmethod
    def health(self) -> list[Health]:
        """Use of each level since the last call."""

    @abstractmethod
    def first_codes(self, codes_BM: Int[Tensor, "B M"], batch_context: BatchContext) -> Float[Tensor, "B M C"]:
        """What first-level codes stand for."""

    @abstractmethod
    def valid(self, batch_context: BatchContext) -> Bool[Tensor, "B M C"]:
        """True where a latent value means something for the robot."""

    # -- coding ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def latents(
        self,
        motion_BTK: Float[Tensor, "B T K"],
        batch_context: BatchContext,
        hidden_BTK: Bool[Tensor, "B T K"] | None = None,
        networks: Networks | None = None,
    ) -> Float[Tensor, "B M C"]:
        """h, what the first level quantises.

        hidden_BTK: values that masked modelling hides. networks: `exact_networks`, where codes must be exact.
        """

    @abstractmethod
    def forward(
        self,
        motion_BTK: Float[Tensor, "B T K"],
        batch_context: BatchContext,
        levels: int | None = None,
        hidden_BTK: Bool[Tensor, "B T K"] | None = None,
    ) -> CodecOutput:
        """Training pass: greedy codes, straight-through gradients; the decoder sees `levels` of them."""

    @abstractmethod
    def first_level(self, motion_BTK: Float[Tensor, "B T K"], batch_context: BatchContext) -> CodecOutput:
        """Training pass of the first level alone, without gradient to what it decodes to."""

    @abstractmethod
    def encode(
        self, motion_BTK: Float[Tensor, "B T K"], batch_context: BatchContext, networks: Networks | None = None
    ) -> Int[Tensor, "B M Q"]:
        """Codes, with beam search over the levels. Call in eval mode."""

    @abstractmethod
    def encode_latents(self, h_BMC: Float[Tensor, "B M C"], batch_context: BatchContext) -> Int[Tensor, "B M q"]:
        """Codes of given latents: as many levels as can be told from them."""

    @abstractmethod
    def decode(
        self,
        codes_BMq: Int[Tensor, "B M q"],
        batch_context: BatchContext,
        present_BM: Bool[Tensor, "B M"] | None = None,
        networks: Networks | None = None,
    ) -> Float[Tensor, "B T K"]:
        """Normalised tangent motion from the first q levels. present_BM: False for slots that are to be guessed."""


def rows_by_robot(context: Context) -> dict[Member, list[int]]:
    """Rows of a batch, in order, by robot and mask; these in the order of their first rows."""
    groups: dict[Member, list[int]] = {}
    masks = context.mask_BD.cpu().numpy()
    for row, name in enumerate(context.embodiment):
        groups.setdefault((name, masks[row].tobytes()), []).append(row)
    return groups


def narrowed(statistics: Statistics, mask_D: Bool[np.ndarray, " D"]) -> Statistics:
    """The same robot with fewer channels.

    Raises:
        ValueError: a channel that this robot does not have.
    """
    if (mask_D == statistics.mask_D).all():
        return statistics
    if (mask_D & ~statistics.mask_D).any():
        names = np.array(get_layout(statistics.layout).channel_names)[mask_D & ~statistics.mask_D].tolist()
        raise ValueError(
            f"robot {statistics.embodiment!r} has no channels {names}; "
            "correct the mask, use embodiment 'none', or `xtok adapt` to your data"
        )
    return replace(statistics, mask_D=mask_D)


def never_moved(name: str) -> ValueError:
    """The error for channels of which there is nothing to code."""
    return ValueError(f"none of these channels ever moved in what {name!r} was measured on; measure it where it moves")
