"""Motion into codes by closed forms and k-means. docs/method.md#the-gaussian-codec, decision 0003.

The first level codes each slot's own smoothed motion; the robot's Gaussian predicts the chunk from all of them; the
residual levels code what that leaves. No decoder network; the one network fills dimensions that mean no motion.

# B batch, b rows of one robot, T frames, M slots, Q levels, K tangent channels, k those that the robot has,
# X = 4 K values of a slot (x of the robot's), C width of the first level, E = M x
C: a slot's motion, then `semantic_dims` dimensions that the encoder alone fills and that mean no motion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from typing_extensions import Self

from xtok.actions.delta import tangent_width
from xtok.actions.statistics import Statistics
from xtok.actions.steady import pinned
from xtok.actions.types import FRAMES_PER_SLOT, Context, slots
from xtok.codec.base import Codec, Groups, KnownBy, Networks, narrowed, never_moved
from xtok.codec.batch import BatchContext
from xtok.codec.config import GaussianConfig
from xtok.codec.encoder import Encoder
from xtok.codec.gaussian.basis import ChunkBasis, frames_to_slots
from xtok.codec.gaussian.codebooks import Codebooks
from xtok.codec.gaussian.prior import GenericPrior, MotionPrior
from xtok.codec.gaussian.robot_statistics import RobotStatistics
from xtok.codec.gaussian.slot_predictor import through
from xtok.codec.layers import bounded, idle, straight_through
from xtok.codec.output import CodecOutput
from xtok.codec.quantizer import Health, Quantized

BASES_BYTES = 2 << 30  # memory for closed forms at the chunk lengths in use


@dataclass(frozen=True)
class Robot:
    """Rows of a batch that share one prior."""

    name: str
    rows: Int[Tensor, " b"]
    prior: MotionPrior
    basis: ChunkBasis
    channels: Int[Tensor, " k"]  # its valid tangent channels


@dataclass(frozen=True)
class GaussianContext(BatchContext):
    """With the robots of the batch."""

    robots: tuple[Robot, ...]


class GaussianCodec(Codec):
    """Priors and codebooks. `robots` (measured or trained on) and `generic` are data, saved beside the codebooks."""

    config: GaussianConfig

    def __init__(
        self, config: GaussianConfig, robots: dict[str, MotionPrior] | None = None, generic: GenericPrior | None = None
    ) -> None:
        super().__init__(config)
        self.robots, self.generic = dict(robots or {}), generic
        self.measured: dict[str, RobotStatistics | None] = {}  # those of `robots` that have no codebooks of their own
        self._bases: dict[tuple[str, bytes, int], tuple[MotionPrior, ChunkBasis]] = {}
        K, D = tangent_width(self.layout), self.layout.width
        X = FRAMES_PER_SLOT * K
        self.motion_dim = X if config.coarse_space == "physical" else config.coarse_dim
        self.semantic_dims, self.semantic_scale = config.semantic_dims, config.semantic_scale
        self.latent_dim = self.motion_dim + config.semantic_dims
        self.slot_dim = X + self.latent_dim
        self.semantic_encoder: Encoder | None = None
        if config.semantic_dims:
            net = (config.hidden, config.heads, config.encoder_layers, config.dropout)
            self.semantic_encoder = Encoder(K, D, *net, config.semantic_dims, start_at_zero=True)
        decay = config.codebook_decay
        self.coarse = Codebooks(self.latent_dim, config.codebook_size, 1, decay)
        self.residual = Codebooks(config.code_dim, config.codebook_size, config.levels - 1, decay)
        self.in_float32()

    @property
    def codebooks(self) -> list[Codebooks]:
        """In level order."""
        return [self.coarse, self.residual]

    @property
    def networks(self) -> dict[str, nn.Module]:
        return {} if self.semantic_encoder is None else {"semantic_encoder": self.semantic_encoder}

    @property
    def device(self) -> torch.device:
        return self.coarse.shared.books_QVC.device

    def health(self) -> list[Health]:
        return [level for codebooks in self.codebooks for level in codebooks.health()]

    # -- robots ---------------------------------------------------------------------------------------------------

    @property
    def statistics(self) -> dict[str, Statistics]:
        """Of every robot that can be coded, "none" included."""
        return {**self.ranges, **{name: prior.statistics for name, prior in self.robots.items()}}

    @property
    def known_by(self) -> dict[str, KnownBy]:
        own: dict[str, KnownBy] = dict.fromkeys(self.robots, "own")
        return {**super().known_by, **own, **dict.fromkeys(self.measured, "measured")}

    def robot_statistics(self, name: str, mask_D: Bool[np.ndarray, " D"], horizon: int) -> Statistics:
        return self.basis(name, mask_D, horizon)[0].statistics

    def prior(self, name: str, mask_D: Bool[np.ndarray, " D"]) -> MotionPrior:
        """The robot's own prior, or the generic one over its channels.

        Raises:
            ValueError: channels that the robot lacks, or neither a prior nor statistics to go by.
        """
        if name in self.robots:
            prior = self.robots[name]
            return prior if (mask_D == prior.statistics.mask_D).all() else prior.restricted(mask_D)
        if name in self.ranges and self.generic is not None:
            return self.generic.for_robot(narrowed(self.ranges[name], mask_D))
        raise self.unknown_robot(name)

    def forget_robot(self, name: str) -> None:
        """Its prior and codebooks; "none" and robots known by their ranges stay."""
        self.robots.pop(name, None)
        self.measured.pop(name, None)
        for codebooks in self.codebooks:
            if name in codebooks.per_robot:
                del codebooks.per_robot[name]
        self.forget_bases()

    def add_robot(self, prior: MotionPrior) -> None:
        self.robots[prior.statistics.embodiment] = prior
        self.forget_bases()

    def add_measured(self, robot: RobotStatistics) -> None:
        """A robot measured through these shared codebooks (`Tokenizer.with_statistics` looks that it was)."""
        name = robot.embodiment
        self.forget_robot(name)
        self.ranges.pop(name, None)
        if robot.stretch_C is not None:
            book = self.residual.add(name)
            book.books_QVC.copy_(self.residual.shared.books_QVC * robot.stretch_C.to(self.device))
            book.restart_from_books()
        self.robots[name], self.measured[name] = robot.prior, robot

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.forget_bases()  # they may be on another device
        return super()._apply(fn, recurse)

    def forget_bases(self) -> None:
        """Call after a prior changed, or after the module moved to another device."""
        self._bases.clear()

    def basis(self, name: str, mask_D: Bool[np.ndarray, " D"], horizon: int) -> tuple[MotionPrior, ChunkBasis]:
        key = (name, mask_D.tobytes(), horizon)
        if key not in self._bases:
            prior = self.prior(name, mask_D)
            if not prior.valid.any():
                raise never_moved(name)
            basis = prior.at(horizon, self.config.coarse_noise, self.config.code_dim)
            if prior.slotwise is not None and self.device.type != "cpu":
                prior = replace(prior, slotwise=prior.slotwise.to(self.device))
            self._bases[key] = prior, basis.to(self.device)
            while len(self._bases) > 1 and sum(found.bytes for _, found in self._bases.values()) > BASES_BYTES:
                del self._bases[next(iter(self._bases))]  # the oldest; it can be made again
        return self._bases[key]

    @pinned
    def batch_context(self, context: Context, groups: Groups | None = None) -> GaussianContext:
        """Look up the robots of a batch, with their priors.

        Raises:
            ValueError: as `Codec.batch_context`.
        """
        batch, groups = self.grouped_context(context, groups)
        robots = []
        for (name, mask), rows in groups.items():
            prior, basis = self.basis(name, np.frombuffer(mask, dtype=bool), context.horizon)
            index = torch.tensor(rows, device=self.device)
            robots.append(Robot(name, index, prior, basis, prior.valid.nonzero().flatten().to(self.device)))
        return GaussianContext(**vars(batch), robots=tuple(robots))

    # -- first level ----------------------------------------------------------------------------------------------

    def latents(
        self,
        motion_BTK: Float[Tensor, "B T K"],
        batch_context: BatchContext,
        hidden_BTK: Bool[Tensor, "B T K"] | None = None,
        networks: Networks | None = None,
    ) -> Float[Tensor, "B M C"]:
        """The smoothed motion of each slot in units of the coarse space, then the semantic dimensions."""
        batch_context = gaussian(batch_context)
        B, M = len(motion_BTK), slots(batch_context.horizon)
        seen = motion_BTK if hidden_BTK is None else torch.where(hidden_BTK, 0.0, motion_BTK)
        parts = [motion_BTK.new_zeros(B, M, self.motion_dim)]
        for robot in batch_context.robots:
            smooth = robot.basis.smooth(seen[robot.rows][..., robot.channels].flatten(1))
            slots_bMx = smooth.unflatten(1, (M, -1))
            parts[0][robot.rows] = robot.prior.to_coarse(slots_bMx, self.config.coarse_space, self.motion_dim)
        if self.semantic_encoder is not None:
            network = (networks or self.networks)["semantic_encoder"]
            assert isinstance(network, Encoder)
            dtype = next(network.parameters()).dtype
            said = motion_BTK.new_zeros(B, M, self.semantic_dims, dtype=dtype)
            if not idle(network.out):
                said = network(motion_BTK.to(dtype), batch_context.conditions.to(dtype), hidden_BTK)
            parts.append(bounded(said, self.semantic_scale).to(motion_BTK.dtype))
        return torch.cat(parts, dim=-1) * self.valid(batch_context)

    def valid(self, batch_context: BatchContext) -> Bool[Tensor, "B M C"]:
        """In the physical space, the channels that the robot has."""
        B, M = len(batch_context.conditions.slot_B), slots(batch_context.horizon)
        if self.config.coarse_space == "principal":
            return batch_context.conditions.mask_BK.new_ones(B, M, self.latent_dim)
        known_BX = batch_context.conditions.mask_BK.repeat(1, FRAMES_PER_SLOT)
        known_BC = torch.nn.functional.pad(known_BX, (0, self.semantic_dims), value=True)
        return known_BC[:, None].expand(B, M, -1)

    def quantize_coarse(self, h_BMC: Float[Tensor, "B M C"], batch_context: BatchContext) -> Quantized:
        """First-level codes of latents; rows in the order B, M."""
        return self.coarse(h_BMC, batch_context.names, self.valid(batch_context))

    def first_codes(self, codes_BM: Int[Tensor, "B M"], batch_context: BatchContext) -> Float[Tensor, "B M C"]:
        return self.coarse.lookup(codes_BM[..., None], batch_context.names) * self.valid(batch_context)

    def coarse_motion(self, coarse_BMC: Tensor, robot: Robot) -> Float[Tensor, "b E"]:
        """One robot's slots as the first level has them, in units of its prior."""
        motion_bMC = coarse_BMC[robot.rows][..., : self.motion_dim]
        return robot.prior.from_coarse(motion_bMC, self.config.coarse_space).flatten(1)

    def first_level(self, motion_BTK: Float[Tensor, "B T K"], batch_context: BatchContext) -> CodecOutput:
        """Gradients reach the semantic dimensions alone."""
        h_BMC = self.latents(motion_BTK, batch_context)
        found = self.quantize_coarse(h_BMC.float(), batch_context)
        coarse_BMC = straight_through(h_BMC, found.latents_NC)
        motion, semantic = coarse_BMC.split([self.motion_dim, self.semantic_dims], dim=-1)
        coarse_BMC = torch.cat([motion.detach(), semantic], dim=-1)
        codes_BMQ = found.codes_NQ.view(*h_BMC.shape[:2], -1)
        motion_BTK = self.decode(codes_BMQ, batch_context)
        z_BMX = torch.cat([frames_to_slots(motion_BTK), coarse_BMC], dim=-1).float()
        return CodecOutput(motion_BTK, h_BMC, coarse_BMC, z_BMX, codes_BMQ, found.commitment)

    # -- all levels -----------------------------------------------------------------------------------------------

    def forward(
        self,
        motion_BTK: Float[Tensor, "B T K"],
        batch_context: BatchContext,
        levels: int | None = None,
        hidden_BTK: Bool[Tensor, "B T K"] | None = None,
    ) -> CodecOutput:
        """The residual levels code whatever the first left of the true motion and are constants to a loss."""
        levels = levels or self.config.levels
        B, M, _ = (h := self.latents(motion_BTK, batch_context, hidden_BTK)).shape
        first = self.quantize_coarse(h.float(), batch_context)
        coarse = straight_through(h, first.latents_NC)
        residual, _ = self._residuals(motion_BTK.detach(), coarse.detach(), batch_context)
        fine = self.residual(residual.float(), batch_context.names)
        detail = None if levels == 1 else fine.partial_QNC[levels - 2].view(B, M, -1).detach()
        motion = self._motion(coarse, detail, batch_context)
        z = torch.cat([frames_to_slots(motion), coarse.to(motion.dtype)], dim=-1).float()
        codes = torch.cat([first.codes_NQ, fine.codes_NQ], dim=-1).view(B, M, -1)
        return CodecOutput(motion, h, coarse, z, codes, first.commitment)

    @torch.no_grad()
    def encode(
        self, motion_BTK: Float[Tensor, "B T K"], batch_context: BatchContext, networks: Networks | None = None
    ) -> Int[Tensor, "B M Q"]:
        h = self.latents(motion_BTK, batch_context, networks=networks)
        first = self.quantize_coarse(h, batch_context)
        _, fine = self._residuals(motion_BTK, first.latents_NC.view_as(h), batch_context, self.config.beam)
        return torch.cat([first.codes_NQ.view(*h.shape[:2], 1), fine], dim=-1)

    @torch.no_grad()
    def encode_latents(self, h_BMC: Float[Tensor, "B M C"], batch_context: BatchContext) -> Int[Tensor, "B M q"]:
        """The first level alone: the others code what it left of the true motion, which latents do not tell."""
        h_BMC = h_BMC * self.valid(batch_context)
        return self.quantize_coarse(h_BMC.double(), batch_context).codes_NQ.view(*h_BMC.shape[:2], -1)

    @torch.no_grad()
    def residuals(self, motion_BTK: Float[Tensor, "B T K"], batch_context: BatchContext) -> Float[Tensor, "B M C"]:
        """What the residual levels have to code, for placing their codebooks."""
        h = self.latents(motion_BTK, batch_context)
        return self._residuals(motion_BTK, self.quantize_coarse(h, batch_context).latents_NC.view_as(h), batch_context)[
            0
        ]

    @torch.no_grad()
    def _residuals(
        self, motion_BTK: Tensor, coarse_BMC: Tensor, batch_context: BatchContext, beam: int = 0
    ) -> tuple[Float[Tensor, "B M C"], Int[Tensor, "B M q"]]:
        """What the first level leaves open by slot, and its codes. beam 0: no codes are looked for."""
        batch_context = gaussian(batch_context)
        B, M, dim = len(motion_BTK), slots(batch_context.horizon), self.config.code_dim
        details = torch.zeros(B, M, dim, dtype=torch.float64, device=motion_BTK.device)
        codes = torch.zeros(B, M, self.config.levels - 1, dtype=torch.long, device=motion_BTK.device)
        for robot in batch_context.robots:
            book, slotwise = self.residual.of(robot.name), robot.prior.slotwise
            motion, seen = motion_BTK[robot.rows][..., robot.channels].double(), self.coarse_motion(coarse_BMC, robot)
            if slotwise is None:
                size = robot.prior.scale(robot.basis, seen)[:, None, None]
                detail = robot.basis.analyse(motion.flatten(1) - robot.basis.predict(seen)) / size
                if beam:
                    codes[robot.rows] = book.search(detail.flatten(0, 1), beam).view(len(robot.rows), M, -1)
            else:  # later slots hang on what earlier ones decode to, so there are codes in any case
                found = slotwise.analyse(motion, seen.unflatten(1, (M, -1)), dim, through(book, beam or 1))
                detail, codes[robot.rows] = found.detail_BMC, found.codes_BMq
            details[robot.rows] = detail
        return details, codes

    @torch.no_grad()
    def decode(
        self,
        codes_BMq: Int[Tensor, "B M q"],
        batch_context: BatchContext,
        present_BM: Bool[Tensor, "B M"] | None = None,
        networks: Networks | None = None,
    ) -> Float[Tensor, "B T K"]:
        """Slots that are not present: the prior continues."""
        coarse = self.first_codes(codes_BMq[..., 0], batch_context).double()
        if present_BM is not None:
            coarse = self._continued(coarse, present_BM, batch_context)
        detail = None
        if codes_BMq.shape[-1] > 1:
            detail = self.residual.lookup(codes_BMq[..., 1:], batch_context.names).double()
            detail = detail if present_BM is None else detail * present_BM[..., None]
        return self._motion(coarse, detail, batch_context)

    def _continued(self, coarse_BMC: Tensor, present_BM: Bool[Tensor, "B M"], batch_context: BatchContext) -> Tensor:
        """First-level latents with missing slots filled by what the prior expects after the present ones."""
        out = coarse_BMC.clone()
        for robot in gaussian(batch_context).robots:
            seen = self.coarse_motion(coarse_BMC, robot)
            for i, row in enumerate(robot.rows.tolist()):
                likely = robot.prior.continue_from(seen[i], present_BM[row])
                h = robot.prior.to_coarse(likely[None], self.config.coarse_space, self.motion_dim)[0]
                h = torch.nn.functional.pad(h, (0, self.semantic_dims))
                out[row] = torch.where(present_BM[row, :, None], coarse_BMC[row], h)
        return out

    def _motion(
        self, coarse_BMC: Tensor, detail_BMC: Tensor | None, batch_context: BatchContext
    ) -> Float[Tensor, "B T K"]:
        """The motion that codes mean; float64."""
        batch_context = gaussian(batch_context)
        B, K = batch_context.conditions.mask_BK.shape
        T = batch_context.horizon
        out = torch.zeros(B, T, K, dtype=torch.float64, device=coarse_BMC.device)
        for robot in batch_context.robots:
            seen = self.coarse_motion(coarse_BMC.double(), robot)
            detail = None if detail_BMC is None else detail_BMC[robot.rows].double()
            if robot.prior.slotwise is not None:
                motion = robot.prior.slotwise.synthesise(detail, seen.unflatten(1, (slots(T), -1)), T)
            else:
                motion = robot.basis.predict(seen).unflatten(1, (T, -1))
                if detail is not None:
                    size = robot.prior.scale(robot.basis, seen.detach())[:, None, None]
                    motion = motion + robot.basis.synthesise(detail * size).unflatten(1, (T, -1))
            out[robot.rows[:, None, None], torch.arange(T)[:, None], robot.channels] = motion
        return out


def gaussian(batch_context: BatchContext) -> GaussianContext:
    """The context as `GaussianCodec.batch_context` made it."""
    assert isinstance(batch_context, GaussianContext), "this context is of another codec"
    return batch_context
