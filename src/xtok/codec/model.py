"""The codec as one module: motion -> h -> SRQ -> z~ -> motion. METHOD 3, decision 0003.

# B batch, T frames, M slots, Q levels, K tangent channels, X = 4 K values of a slot, C code dimension
q0's latents: a slot's motion, then `intent_extra` dimensions that the encoder alone fills and that mean no motion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from typing_extensions import Self

from xtok.actions.delta import tangent_width, to_delta
from xtok.actions.embodiments import NONE, get_embodiment
from xtok.actions.layout import get_layout
from xtok.actions.statistics import Statistics
from xtok.actions.steady import pinned
from xtok.actions.types import FRAMES_PER_SLOT, ChunkBatch, Context, slots
from xtok.codec.basis import ChunkBasis, frames_to_slots
from xtok.codec.books import Books
from xtok.codec.config import CodecConfig
from xtok.codec.decoder import Decoder
from xtok.codec.encoder import Conditions, Encoder
from xtok.codec.layers import bounded, idle
from xtok.codec.output import CodecOutput as CodecOutput
from xtok.codec.precision import KeepsPrecision
from xtok.codec.prior import GenericPrior, MotionPrior, narrowed
from xtok.codec.quantizer import Quantized, ResidualQuantizer
from xtok.codec.robot_statistics import RobotStatistics
from xtok.codec.setting import Robot, Setting
from xtok.codec.slotwise import choosing
from xtok.codec.units import from_units, to_units

BASES_BYTES = 2 << 30  # memory for closed forms at the chunk lengths in use


class Codec(KeepsPrecision):
    """Networks, books and priors. `robots` and `generic` are data, saved beside the weights."""

    def __init__(
        self, config: CodecConfig, robots: dict[str, MotionPrior] | None = None, generic: GenericPrior | None = None
    ) -> None:
        super().__init__()
        self.config, self.robots, self.generic = config, dict(robots or {}), generic
        self.ranges: dict[str, Statistics] = {}  # robots without a prior of their own: the generic one serves them
        self.measured: dict[str, RobotStatistics | None] = {}  # those of `robots` that have no codebooks of their own
        self.layout = get_layout(config.layout)
        self._bases: dict[tuple[str, bytes, int], tuple[MotionPrior, ChunkBasis]] = {}
        K, D = tangent_width(self.layout), self.layout.width
        X = FRAMES_PER_SLOT * K
        front = config.front == "prior"
        net = (config.hidden, config.heads)
        self.motion_dim = X if config.intent_space == "physical" else config.intent_dim
        self.latent_dim = self.motion_dim + config.intent_extra if front else config.code_dim
        self.encoder = Encoder(K, D, *net, config.encoder_layers, config.dropout, self.latent_dim, front)
        slot_dim = X + self.motion_dim if front else config.code_dim
        self.decoder = Decoder(slot_dim, K, D, config.levels, *net, config.decoder_layers, config.dropout, front)
        if front:
            self.intent = Books(self.latent_dim, config.codebook_size, 1, config.book_decay)
            self.detail = Books(config.code_dim, config.codebook_size, config.levels - 1, config.book_decay)
        else:
            self.books = Books(config.code_dim, config.codebook_size, config.levels, config.book_decay)
        self.in_float32()

    @property
    def all_books(self) -> list[Books]:
        """In level order."""
        return [self.intent, self.detail] if self.config.front == "prior" else [self.books]

    @property
    def quantizers(self) -> list[ResidualQuantizer]:
        """The shared ones, in level order."""
        return [books.shared for books in self.all_books]

    # -- robots ---------------------------------------------------------------------------------------------------

    @property
    def statistics(self) -> dict[str, Statistics]:
        """Of every robot that can be coded, "none" included."""
        return {**self.ranges, **{name: prior.statistics for name, prior in self.robots.items()}}

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
        if name != NONE and not name.startswith(f"{NONE}:"):
            get_embodiment(name)  # an unknown name is told its close matches
        raise ValueError(
            f"this tokenizer has no robot {name!r}; it has {sorted(self.statistics)}. Add yours from its data with "
            "`xtok.tokenizer_for(dataset)`, which measures it on its train episodes, or with_statistics(...) from "
            "`xtok stats DATA -o F.json`; `xtok adapt DATA -o TOKENIZER` gives it codebooks of its own"
        )

    def forget_robot(self, name: str) -> None:
        """Its prior and books; "none" and robots known by their ranges stay."""
        self.robots.pop(name, None)
        self.measured.pop(name, None)
        for books in self.all_books:
            if name in books.own:
                del books.own[name]
        self._bases.clear()

    def add_robot(self, prior: MotionPrior) -> None:
        self.robots[prior.statistics.embodiment] = prior
        self._bases.clear()

    def add_statistics(self, statistics: Statistics) -> None:
        """A robot known by its ranges alone: the generic prior serves it."""
        self.forget_robot(statistics.embodiment)
        self.ranges[statistics.embodiment] = statistics

    def add_measured(self, robot: RobotStatistics) -> None:
        """A robot measured through these shared codebooks (`Tokenizer.with_statistics` looks that it was)."""
        name = robot.embodiment
        self.forget_robot(name)
        self.ranges.pop(name, None)
        if robot.stretch_C is not None:
            book = self.detail.add(name)
            book.books_QVC.copy_(self.detail.shared.books_QVC * robot.stretch_C.to(self.device))
            book.restart_from_books()
        self.robots[name], self.measured[name] = robot.prior, robot

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._bases.clear()  # they may be on another device
        return super()._apply(fn, recurse)

    @property
    def device(self) -> torch.device:
        return self.encoder.queries.device

    def forget_bases(self) -> None:
        """Call after a prior changed, or after the module moved to another device."""
        self._bases.clear()

    def basis(self, name: str, mask_D: Bool[np.ndarray, " D"], horizon: int) -> tuple[MotionPrior, ChunkBasis]:
        key = (name, mask_D.tobytes(), horizon)
        if key not in self._bases:
            prior = self.prior(name, mask_D)
            if not prior.valid.any():
                raise ValueError(
                    f"none of these channels ever moved in what {name!r} was measured on; measure it where it moves"
                )
            basis = prior.at(horizon, self.config.intent_noise, self.config.code_dim)
            if prior.slotwise is not None and self.device.type != "cpu":
                prior = replace(prior, slotwise=prior.slotwise.to(self.device))
            self._bases[key] = prior, basis.to(self.device)
            while len(self._bases) > 1 and sum(found.bytes for _, found in self._bases.values()) > BASES_BYTES:
                del self._bases[next(iter(self._bases))]  # the oldest; it can be made again
        return self._bases[key]

    # -- borders --------------------------------------------------------------------------------------------------

    @pinned
    def setting(self, context: Context) -> Setting:
        """Look up the robots of a batch.

        Raises:
            ValueError: another layout, an unknown robot, another control rate.
        """
        if context.layout.digest != self.layout.digest:
            raise ValueError(
                f"chunks are in layout {context.layout.name!r}; this tokenizer is for {self.layout.name!r}"
            )
        groups: dict[tuple[str, bytes], list[int]] = {}
        masks = context.mask_BD.cpu().numpy()
        for row, name in enumerate(context.embodiment):
            groups.setdefault((name, masks[row].tobytes()), []).append(row)
        robots = []
        device = self.device
        slot_B = torch.empty(len(context), dtype=torch.long, device=device)
        moving_BK = torch.zeros(len(context), tangent_width(self.layout), dtype=torch.bool, device=device)
        for (name, mask), rows in groups.items():
            prior, basis = self.basis(name, np.frombuffer(mask, dtype=bool), context.horizon)
            index = torch.tensor(rows, device=device)
            for control_hz in context.control_hz_B[rows].unique().tolist():
                if name != NONE:
                    prior.statistics.check(self.layout, control_hz, context.horizon)
            slot_B[index] = get_embodiment(name).slot
            moving_BK[index] = prior.valid.to(device)
            robots.append(Robot(name, index, prior, basis, prior.valid.nonzero().flatten().to(device)))
        nothing_BD = torch.zeros(len(context), self.layout.width, dtype=torch.float32)
        anchor_BD = nothing_BD if context.anchor_BD is None else context.anchor_BD
        given = Conditions(
            torch.where(context.mask_BD, anchor_BD, 0.0).float().to(device),
            moving_BK,
            slot_B,
            context.control_hz_B.float().to(device),
        )
        return Setting(context.horizon, given, tuple(robots), context.embodiment)

    def motion(self, chunks: ChunkBatch, setting: Setting) -> Float[Tensor, "B T K"]:
        """Normalised tangent deltas of absolute chunks, float64."""
        anchor_BD = chunks.context.anchor_BD
        assert anchor_BD is not None, "absolute actions need an anchor"
        delta = to_delta(self.layout, chunks.target_BTD.double(), anchor_BD.double(), chunks.context.mask_BD)
        return self.motion_of_delta(delta.to(self.device), setting)

    def motion_of_delta(self, delta_BTD: Float[Tensor, "B T D"], setting: Setting) -> Float[Tensor, "B T K"]:
        """Physical deltas to normalised tangent."""
        return to_units(self.layout, delta_BTD, setting.robots)

    def delta(self, motion_BTK: Float[Tensor, "B T K"], setting: Setting) -> Float[Tensor, "B T D"]:
        """Inverse of `motion_of_delta`, constant channels included. Masked rotations come back as the identity."""
        return from_units(self.layout, motion_BTK, setting.robots)

    # -- encoder, SRQ, decoder ------------------------------------------------------------------------------------

    def latents(
        self,
        motion_BTK: Float[Tensor, "B T K"],
        setting: Setting,
        hidden_BTK: Bool[Tensor, "B T K"] | None = None,
        encoder: Encoder | None = None,
    ) -> Float[Tensor, "B M C"]:
        """h: the smoothed motion of each slot in units of intent, plus the encoder's correction; extra dimensions.

        hidden_BTK: values that masked modelling hides from both. encoder: a float64 copy, where codes must be exact.
        """
        network = encoder or self.encoder
        dtype = next(network.parameters()).dtype
        if idle(network.out):
            h = motion_BTK.new_zeros(len(motion_BTK), slots(setting.horizon), self.latent_dim, dtype=dtype)
        else:
            h = network(motion_BTK.to(dtype), setting.given.to(dtype), hidden_BTK)
        if self.config.front == "none":
            return h
        seen = motion_BTK if hidden_BTK is None else torch.where(hidden_BTK, 0.0, motion_BTK)
        motion, extra = h.split([self.motion_dim, self.config.intent_extra], dim=-1)
        front = torch.zeros_like(motion, dtype=motion_BTK.dtype)
        for robot in setting.robots:
            smooth = robot.basis.smooth(seen[robot.rows][..., robot.channels].flatten(1))
            slots_bMX = smooth.unflatten(1, (h.shape[1], -1))
            front[robot.rows] = robot.prior.to_intent(slots_bMX, self.config.intent_space, self.motion_dim)
        extra = bounded(extra, self.config.intent_extra_scale).to(front.dtype)
        return torch.cat([front + motion, extra], dim=-1) * self.valid(setting)

    def valid(self, setting: Setting) -> Bool[Tensor, "B M C"]:
        """True where a latent value means something for the robot: in the physical space, the channels that it has."""
        B, M = len(setting.given.slot_B), slots(setting.horizon)
        if self.config.front == "none" or self.config.intent_space == "principal":
            return setting.given.mask_BK.new_ones(B, M, self.latent_dim)
        known_BX = setting.given.mask_BK.repeat(1, FRAMES_PER_SLOT)
        known_BC = torch.nn.functional.pad(known_BX, (0, self.config.intent_extra), value=True)
        return known_BC[:, None].expand(B, M, -1)

    def quantize_intent(self, h_BMC: Float[Tensor, "B M C"], setting: Setting) -> Quantized:
        """q0 of latents; rows in the order B, M."""
        return self.intent(h_BMC, setting.names, self.valid(setting))

    def seen(self, intent_BMC: Tensor, setting: Setting, robot: Robot) -> Float[Tensor, "b E"]:
        """One robot's slots as q0 sees them, in units of its prior."""
        motion_bMC = intent_BMC[robot.rows][..., : self.motion_dim]
        return robot.prior.from_intent(motion_bMC, self.config.intent_space).flatten(1)

    def forward(
        self,
        motion_BTK: Float[Tensor, "B T K"],
        setting: Setting,
        levels: int | None = None,
        hidden_BTK: Bool[Tensor, "B T K"] | None = None,
    ) -> CodecOutput:
        """Training pass: greedy codes, straight-through gradients, `levels` seen by the decoder only (METHOD 3).

        Gradients of the reconstruction reach the encoder through q0; the detail levels code whatever q0 left of the
        true motion and are constants to it, so that a loss on q0 costs no reconstruction.
        """
        levels = levels or self.config.levels
        B, M, C = (h := self.latents(motion_BTK, setting, hidden_BTK)).shape
        if self.config.front == "none":
            found = self.books(h.float(), setting.names)
            z = (h.reshape(B * M, C) + (found.partial_QNC[levels - 1] - h.reshape(B * M, C)).detach()).view(B, M, C)
            intent = h + (found.partial_QNC[0].view_as(h) - h).detach()
            motion = self.decoder(z, setting.given, setting.horizon, levels)
            return CodecOutput(motion, h, intent, z, found.codes_NQ.view(B, M, -1), found.commitment)
        coarse = self.quantize_intent(h.float(), setting)
        intent = h + (coarse.latents_NC.view_as(h).to(h.dtype) - h).detach()
        residual, _ = self._details(motion_BTK.detach(), intent.detach(), setting)
        fine = self.detail(residual.float(), setting.names)
        detail = None if levels == 1 else fine.partial_QNC[levels - 2].view(B, M, -1).detach()
        linear = self._linear(intent, detail, setting)
        motion, z = self._refine(linear, intent, setting, levels)
        codes = torch.cat([coarse.codes_NQ, fine.codes_NQ], dim=-1).view(B, M, -1)
        return CodecOutput(motion, h, intent, z, codes, coarse.commitment)

    @torch.no_grad()
    def encode(
        self, motion_BTK: Float[Tensor, "B T K"], setting: Setting, encoder: Encoder | None = None
    ) -> Int[Tensor, "B M Q"]:
        """Codes, with beam search over the detail levels. Call in eval mode."""
        h = self.latents(motion_BTK, setting, encoder=encoder)
        if self.config.front == "none":
            return self.books.search(h.float(), setting.names, self.config.beam)
        coarse = self.quantize_intent(h, setting)
        _, fine = self._details(motion_BTK, coarse.latents_NC.view_as(h), setting, self.config.beam)
        return torch.cat([coarse.codes_NQ.view(*h.shape[:2], 1), fine], dim=-1)

    @torch.no_grad()
    def residual(self, motion_BTK: Float[Tensor, "B T K"], setting: Setting) -> Float[Tensor, "B M C"]:
        """What the detail levels have to code, for placing their books."""
        h = self.latents(motion_BTK, setting)
        return self._details(motion_BTK, self.quantize_intent(h, setting).latents_NC.view_as(h), setting)[0]

    @torch.no_grad()
    def _details(
        self, motion_BTK: Tensor, intent_BMC: Tensor, setting: Setting, beam: int = 0
    ) -> tuple[Float[Tensor, "B M C"], Int[Tensor, "B M q"]]:
        """What q0 leaves open as slot details, and their codes. beam 0: details alone, codes are not looked for."""
        B, M, dim = len(motion_BTK), slots(setting.horizon), self.config.code_dim
        details = torch.zeros(B, M, dim, dtype=torch.float64, device=motion_BTK.device)
        codes = torch.zeros(B, M, self.config.levels - 1, dtype=torch.long, device=motion_BTK.device)
        for robot in setting.robots:
            book, slotwise = self.detail.of(robot.name), robot.prior.slotwise
            motion, seen = motion_BTK[robot.rows][..., robot.channels].double(), self.seen(intent_BMC, setting, robot)
            if slotwise is None:
                size = robot.prior.scale(robot.basis, seen)[:, None, None]
                detail = robot.basis.analyse(motion.flatten(1) - robot.basis.predict(seen)) / size
                if beam:
                    codes[robot.rows] = book.search(detail.flatten(0, 1), beam).view(len(robot.rows), M, -1)
            else:  # later slots hang on what earlier ones decode to, so there are codes in any case
                chosen: list[Tensor] = []
                choose = choosing(book, beam or 1, chosen)
                detail = slotwise.analyse(motion, seen.unflatten(1, (M, -1)), dim, choose)
                codes[robot.rows] = torch.stack(chosen, dim=1)
            details[robot.rows] = detail
        return details, codes

    @torch.no_grad()
    def decode(
        self, codes_BMq: Int[Tensor, "B M q"], setting: Setting, present_BM: Bool[Tensor, "B M"] | None = None
    ) -> Float[Tensor, "B T K"]:
        """Normalised tangent motion from the first q levels. Slots that are not present: the prior continues."""
        levels = codes_BMq.shape[-1]
        if self.config.front == "none":
            z = self.books.lookup(codes_BMq, setting.names)
            return self.decoder(z, setting.given, setting.horizon, levels)
        intent = self.intent.lookup(codes_BMq[..., :1], setting.names).double() * self.valid(setting)
        if present_BM is not None:
            intent = self._continued(intent, present_BM, setting)
        detail = None
        if levels > 1:
            detail = self.detail.lookup(codes_BMq[..., 1:], setting.names).double()
            detail = detail if present_BM is None else detail * present_BM[..., None]
        return self._refine(self._linear(intent, detail, setting), intent, setting, levels)[0]

    def _continued(self, intent_BMC: Tensor, present_BM: Bool[Tensor, "B M"], setting: Setting) -> Tensor:
        """q0 latents with missing slots filled by what the prior expects after the present ones."""
        out = intent_BMC.clone()
        for robot in setting.robots:
            seen = self.seen(intent_BMC, setting, robot)
            for i, row in enumerate(robot.rows.tolist()):
                likely = robot.prior.continue_from(seen[i], present_BM[row])
                h = robot.prior.to_intent(likely[None], self.config.intent_space, self.motion_dim)[0]
                h = torch.nn.functional.pad(h, (0, self.config.intent_extra))
                out[row] = torch.where(present_BM[row, :, None], intent_BMC[row], h)
        return out

    def _linear(self, intent_BMC: Tensor, detail_BMC: Tensor | None, setting: Setting) -> Float[Tensor, "B T K"]:
        """The motion that codes mean by themselves, before the network's correction; float64."""
        B, K = setting.given.mask_BK.shape
        T = setting.horizon
        out = torch.zeros(B, T, K, dtype=torch.float64, device=intent_BMC.device)
        for robot in setting.robots:
            seen = self.seen(intent_BMC.double(), setting, robot)
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

    def _refine(
        self, linear_BTK: Tensor, intent_BMX: Tensor, setting: Setting, levels: int
    ) -> tuple[Float[Tensor, "B T K"], Float[Tensor, "B M X"]]:
        """The network's correction of the linear decoding, and the slot latents it saw."""
        z = torch.cat([frames_to_slots(linear_BTK), intent_BMX.to(linear_BTK.dtype)], dim=-1).float()
        if idle(self.decoder.out):
            return linear_BTK, z
        correction = self.decoder(z[..., : self.decoder.slot.in_features], setting.given, setting.horizon, levels)
        return linear_BTK + correction * setting.given.mask_BK[:, None], z
