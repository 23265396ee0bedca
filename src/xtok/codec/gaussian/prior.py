"""The motion prior: how a robot's deltas vary over a chunk, as one Gaussian from which every chunk length is served.

# B batch, T frames of this chunk, S = 64 frames of the longest, K tangent channels (valid ones only in a prior),
# P = T * K values of a chunk, R rank, M slots, C dimensions of a slot's detail

A delta is relative to the step before the chunk, so the first T frames of a 64-frame chunk are a T-frame chunk: the
leading block of one covariance is the covariance at T. From it follow, in closed form and float64:
- `smooth`: the motion that is likely under sensor noise (q0 codes this, so that noise does not flip it);
- `predict`: the chunk to expect when only the q0 codes are known;
- `basis`: orthonormal directions of what q0 leaves open, dealt out to the slots so that each carries an equal share.
No network, no gradient: a new robot needs a covariance only (`Tokenizer.adapt`). Decision 0003.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xtok.actions.delta import tangent_mask
from xtok.actions.layout import Layout
from xtok.actions.statistics import Statistics
from xtok.actions.tangent import tangent_kinds, tangent_scale
from xtok.actions.types import FRAMES_PER_SLOT, HORIZON_MAX, slots
from xtok.codec.base import narrowed
from xtok.codec.gaussian.basis import (
    ChunkBasis,
    assign_directions,
    compand,
    emphasis_of,
    expand,
    fixed_sign,
    posterior,
    steps,
)
from xtok.codec.gaussian.slot_predictor import GenericSlotPredictor, SlotPredictor, tensors_of

# One unit of the coarse space by kind: q0 sees physical motion, so that a code means the same on every arm.
COARSE_UNIT = {"position": 0.1, "rotation6d": 0.5, "gripper": 0.5, "velocity": 0.5, "scalar": 0.5}
JOINT_UNIT_MIN = 0.3  # rad; joints use half their range where that is more (native units have no physical scale)
_JITTER = 1e-9
SLOTWISE = "slotwise."  # before the names of a slot predictor's tensors
BEND = 0.3  # units up to which q0's space is about linear: 3 cm, .15 rad; or .3 of a robot's usual motion
ACTIVITY_EDGES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # of a chunk's movement over the robot's usual


@dataclass(frozen=True, eq=False)
class MotionPrior:
    """One robot: statistics, mean and covariance factor over its valid tangent channels, in units of `scale_K`.

    noise_MK: mean squared distance of q0's code to the motion by slot, which `predict` has to see through: early slots
    have moved less and are coded more finely. activity_A: measured size of a chunk's details over the Gaussian's, by
    how much q0 says that the chunk moves (ACTIVITY_EDGES). Robots move or stand still; one Gaussian does not.
    """

    layout: Layout
    statistics: Statistics
    mean_SK: Float[Tensor, "S K"]
    factor_SKR: Float[Tensor, "S K R"]
    noise_MK: Float[Tensor, "M K"]
    activity_A: Float[Tensor, " A"]
    slotwise: SlotPredictor | None = None
    emphasis_K: Float[Tensor, " K"] | None = None

    def __post_init__(self) -> None:
        S, M, K, R = HORIZON_MAX, slots(HORIZON_MAX), int(self.valid.sum()), self.factor_SKR.shape[-1]
        expected = {
            "mean_SK": (S, K),
            "factor_SKR": (S, K, R),
            "noise_MK": (M, K),
            "activity_A": (len(ACTIVITY_EDGES) + 1,),
        }
        if self.emphasis_K is not None:
            expected["emphasis_K"] = (K,)
        for name, shape in expected.items():
            given = tuple(getattr(self, name).shape)
            if given != shape:
                robot = self.statistics.embodiment
                raise ValueError(f"the motion prior of {robot!r} has {name} {given}; expected {shape} for its channels")
        if self.slotwise is not None and self.slotwise.channels != K:
            robot = self.statistics.embodiment
            raise ValueError(f"the slot predictor of {robot!r} has {self.slotwise.channels} channels, the robot {K}")
        emphasis_of(self.emphasis_K, K, 1)

    @cached_property
    def valid(self) -> Bool[Tensor, " Kfull"]:
        """Tangent channels that move; constant ones are not coded."""
        return tangent_mask(self.layout, torch.from_numpy(self.statistics.moving_D.copy()))

    @cached_property
    def scale_K(self) -> Float[Tensor, " K"]:
        """Tangent units in one unit of the prior."""
        return tangent_scale(self.layout, self.statistics)[self.valid]

    @cached_property
    def coarse_unit_K(self) -> Float[Tensor, " K"]:
        """Units of the prior in one unit of q0's codes."""
        scale = tangent_scale(self.layout, self.statistics)
        unit = [
            max(JOINT_UNIT_MIN, float(half)) if kind == "joint" else COARSE_UNIT[kind]
            for kind, half in zip(tangent_kinds(self.layout), scale, strict=True)
        ]
        return torch.tensor(unit, dtype=torch.float64)[self.valid] / self.scale_K

    @cached_property
    def _factor(self) -> Float[Tensor, "E R"]:
        return self.factor_SKR.double().flatten(0, 1)

    @cached_property
    def _slots(self) -> tuple[Float[Tensor, "x x"], float]:
        """Main directions of a slot's values over all slots of the longest chunk, by falling variance; their total rms.

        The same at every chunk length: directions of each length's own would show the book one motion in many guises.
        """
        M, width = slots(HORIZON_MAX), FRAMES_PER_SLOT * len(self.scale_K)
        factor_MXR, mean_MX = self._factor.view(M, width, -1), self.mean_SK.double().view(M, width)
        second_XX = (factor_MXR @ factor_MXR.mT).mean(dim=0) + mean_MX.T @ mean_MX / M
        variance, vectors = torch.linalg.eigh(second_XX)
        return fixed_sign(vectors.flip(-1)), float(variance.sum().sqrt())

    @property
    def principal_XC(self) -> Float[Tensor, "x x"]:
        return self._slots[0]

    @property
    def usual(self) -> float:
        """Root mean square of a slot's values, summed over them."""
        return self._slots[1]

    def to_coarse(self, x_BMX: Float[Tensor, "B M x"], space: str, dim: int) -> Tensor:
        """A slot's values (valid channels, prior units) in q0's space [B, M, C], where codes are chosen.

        "physical": each channel in COARSE_UNITs at its place in the layout, so that a code means the same motion on
        every arm. "principal": coordinates along the robot's own main directions, for joints, which have no shared
        meaning.
        """
        if space == "principal":
            y = x_BMX @ self.principal_XC[:, :dim].to(x_BMX)
            return torch.nn.functional.pad(compand(y / self.usual, BEND), (0, dim - y.shape[-1]))
        x = x_BMX.unflatten(-1, (FRAMES_PER_SLOT, -1)) / self.coarse_unit_K.to(x_BMX.device)
        out = x.new_zeros(*x.shape[:-1], len(self.valid))
        out[..., self.valid] = compand(x, BEND)
        return out.flatten(-2)

    def from_coarse(self, h_BMC: Float[Tensor, "B M C"], space: str) -> Float[Tensor, "B M x"]:
        """Inverse of `to_coarse` (its projection where "principal" keeps fewer directions)."""
        if space == "principal":
            direction = self.principal_XC[:, : h_BMC.shape[-1]].to(h_BMC)
            return expand(h_BMC[..., : direction.shape[1]], BEND) @ direction.T * self.usual
        x = expand(h_BMC.unflatten(-1, (FRAMES_PER_SLOT, -1))[..., self.valid], BEND) * self.coarse_unit_K.to(
            h_BMC.device
        )
        return x.flatten(-2)

    def continue_from(self, seen_E: Float[Tensor, " E"], present_M: Bool[Tensor, " M"]) -> Float[Tensor, "M x"]:
        """All slots of a chunk as expected from q0's view of the present ones."""
        M, width = len(present_M), FRAMES_PER_SLOT * len(self.scale_K)
        factor_ER = self._factor[: M * width]
        mean_E = self.mean_SK[: M * FRAMES_PER_SLOT].double().flatten()
        noise_E = self.noise_MK[:M].double().clamp_min(1e-8).repeat_interleave(FRAMES_PER_SLOT, dim=0).flatten()
        here_E = present_M.repeat_interleave(width)
        estimate_RP, _ = posterior(factor_ER[here_E], noise_E[here_E])
        return (mean_E + factor_ER @ (estimate_RP @ (seen_E - mean_E)[here_E])).view(M, width)

    def at(self, horizon: int, noise: float, detail_dim: int) -> ChunkBasis:
        """Closed forms for chunks of `horizon` frames. noise: physical sigma that `smooth` removes."""
        M = slots(horizon)
        P, E = horizon * len(self.scale_K), M * FRAMES_PER_SLOT * len(self.scale_K)
        factor_ER = self._factor[:E]
        factor_PR = factor_ER[:P]
        sensor_P = (noise / self.scale_K).square().repeat(horizon)
        by_slot = self.noise_MK.double().clamp_min(1e-8)
        coarse_E = by_slot[:M].repeat_interleave(FRAMES_PER_SLOT, dim=0).reshape(E)
        smooth_RP, _ = posterior(factor_PR, sensor_P + _JITTER)
        predict_RE, open_RR = posterior(factor_ER, coarse_E)
        emphasis_P = emphasis_of(self.emphasis_K, len(self.scale_K), horizon)
        # Directions of the open part F open F^T, errors weighed, through its small side.
        weighed_PR = emphasis_P[:, None] * factor_PR
        root_PR = weighed_PR @ torch.linalg.cholesky(open_RR + _JITTER * torch.eye(len(open_RR), dtype=torch.float64))
        variance, vectors = torch.linalg.eigh(root_PR.T @ root_PR)
        X = min(M * detail_dim, P, int((variance > 1e-10 * variance[-1]).sum()))
        order = torch.arange(len(variance) - 1, len(variance) - 1 - X, -1)
        variance, vectors = variance[order], vectors[:, order]
        basis_PX = fixed_sign(root_PR @ vectors / variance.sqrt())
        return ChunkBasis(
            horizon=horizon,
            mean_E=self.mean_SK[: M * FRAMES_PER_SLOT].double().reshape(E),
            factor_ER=factor_ER,
            smooth_RP=smooth_RP,
            predict_RE=predict_RE,
            basis_PX=basis_PX,
            direction_MC=assign_directions(X, M, detail_dim),
            gain=float((variance.sum() / (M * detail_dim)).sqrt()),
            emphasis_P=emphasis_P,
            spread=float(steps(factor_ER.T.unflatten(1, (-1, len(self.scale_K)))).square().sum(0).mean().sqrt()),
        )

    def scale(self, basis: ChunkBasis, coarse_BE: Float[Tensor, "B E"]) -> Float[Tensor, " B"]:
        """Size of each chunk's details, known to the decoder too: read off how much the q0 codes move."""
        return self.activity_A.double().to(coarse_BE.device)[self.activity(basis, coarse_BE)]

    def activity(self, basis: ChunkBasis, coarse_BE: Float[Tensor, "B E"]) -> Int[Tensor, " B"]:
        """Bin of each chunk's movement from slot to slot, as the q0 codes tell it, over the robot's usual."""
        frames = coarse_BE.unflatten(1, (-1, len(self.scale_K)))
        moved_B = steps(frames).square().mean(dim=(1, 2)).sqrt() / basis.spread
        return torch.bucketize(moved_B, moved_B.new_tensor(ACTIVITY_EDGES))

    def tensors(self) -> dict[str, Tensor]:
        return {
            "mean_SK": self.mean_SK,
            "factor_SKR": self.factor_SKR,
            "noise_MK": self.noise_MK,
            "activity_A": self.activity_A,
            **tensors_of(self.slotwise, SLOTWISE),
            **({} if self.emphasis_K is None else {"emphasis_K": self.emphasis_K}),
        }

    def restricted(self, mask_D: Bool[np.ndarray, " D"]) -> MotionPrior:
        """The same robot with fewer channels.

        Raises:
            ValueError: a channel that this robot does not have.
        """
        statistics = narrowed(self.statistics, mask_D)
        kept = tangent_mask(self.layout, torch.from_numpy(mask_D.copy()))[self.valid]
        return replace(
            self,
            statistics=statistics,
            mean_SK=self.mean_SK[:, kept],
            factor_SKR=self.factor_SKR[:, kept],
            noise_MK=self.noise_MK[:, kept],
            slotwise=None if self.slotwise is None else self.slotwise.restricted(kept),
            emphasis_K=None if self.emphasis_K is None else self.emphasis_K[kept],
        )


def fit_prior(layout: Layout, statistics: Statistics, windows_NSK: Float[Tensor, "N S K"], rank: int) -> MotionPrior:
    """Mean and leading covariance directions of 64-frame windows of valid tangent deltas (tangent units).

    Raises:
        ValueError: windows of another length, or fewer than two.
    """
    N, S, K = windows_NSK.shape
    if S != HORIZON_MAX or N < 2:
        raise ValueError(
            f"a motion prior needs two or more windows of {HORIZON_MAX} frames, there are {N} of {S}; "
            "give longer episodes, or encode with embodiment 'none'"
        )
    valid = tangent_mask(layout, torch.from_numpy(statistics.moving_D.copy()))
    x_NP = (windows_NSK.double() / tangent_scale(layout, statistics)[valid]).reshape(N, S * K)
    mean_P = x_NP.mean(dim=0)
    centred = (x_NP - mean_P) / N**0.5
    rank = min(rank, N - 1, S * K)
    if min(N, S * K) > 4 * rank:  # a full decomposition would take minutes, the leading part takes seconds
        torch.manual_seed(0)
        _, value, direction_PR = torch.svd_lowrank(centred, q=rank, niter=6)
    else:
        _, value, direction_RP = torch.linalg.svd(centred, full_matrices=False)
        value, direction_PR = value[:rank], direction_RP[:rank].T
    factor = (direction_PR * value).reshape(S, K, rank)
    noise = torch.full((slots(S), K), 0.01, dtype=torch.float32)
    return MotionPrior(layout, statistics, mean_P.reshape(S, K).float(), factor.float(), noise, no_activity())


def shrunk(prior: MotionPrior, towards: MotionPrior, share: float, rank: int) -> MotionPrior:
    """The Gaussian of `prior`, with a `share` of its weight on that of `towards`, in at most `rank` directions.

    Moments of the mixture of the two: a robot of which little was seen is not taken to move as that little did.
    """
    mean, other = prior.mean_SK.double(), towards.mean_SK.double()
    parts = [
        prior.factor_SKR.double() * (1 - share) ** 0.5,
        towards.factor_SKR.double() * share**0.5,
        ((mean - other) * (share * (1 - share)) ** 0.5)[..., None],
    ]
    together_PR = torch.cat(parts, dim=-1).flatten(0, 1)
    torch.manual_seed(0)
    direction_PR, value, _ = torch.svd_lowrank(together_PR, q=min(rank, *together_PR.shape), niter=6)
    factor_SKR = (direction_PR * value).unflatten(0, mean.shape)
    return replace(prior, mean_SK=((1 - share) * mean + share * other).float(), factor_SKR=factor_SKR.float())


@dataclass(frozen=True, eq=False)
class GenericPrior:
    """For a robot without a prior: each channel by itself, with the time course that its kind usually has."""

    layout: Layout
    temporal: dict[str, Float[Tensor, "S r"]]  # kind -> factor, in units of half a range
    noise: dict[str, Float[Tensor, " M"]]  # kind -> q0 noise by slot
    activity_A: Float[Tensor, " A"]
    slotwise: GenericSlotPredictor | None = None

    def for_robot(self, statistics: Statistics) -> MotionPrior:
        """A prior over the valid channels of `statistics`."""
        valid = tangent_mask(self.layout, torch.from_numpy(statistics.moving_D.copy()))
        kinds = [kind for kind, keep in zip(tangent_kinds(self.layout), valid, strict=True) if keep]
        S, r = next(iter(self.temporal.values())).shape
        factor = torch.zeros(S, len(kinds), len(kinds) * r, dtype=torch.float32)
        for k, kind in enumerate(kinds):
            # Equal channels would leave the directions undetermined: each a little smaller than the one before.
            factor[:, k, k * r : (k + 1) * r] = self.temporal[kind] * (1 - 0.004 * k)
        noise = torch.stack([self.noise[kind] for kind in kinds], dim=1)
        slotwise = None if self.slotwise is None else self.slotwise.for_channels(len(kinds))
        mean = factor.new_zeros(S, len(kinds))
        return MotionPrior(self.layout, statistics, mean, factor, noise, self.activity_A, slotwise)

    def tensors(self) -> dict[str, Tensor]:
        named = {f"temporal.{kind}": factor for kind, factor in self.temporal.items()}
        return {
            **named,
            **{f"noise.{kind}": noise for kind, noise in self.noise.items()},
            "activity_A": self.activity_A,
            **tensors_of(self.slotwise, SLOTWISE),
        }


def fit_generic(layout: Layout, priors: list[MotionPrior], rank: int = 24) -> GenericPrior:
    """Average second moment of the time courses over all channels of a kind and all robots, mean included."""
    moment: dict[str, list[Tensor]] = {}
    noise: dict[str, list[Tensor]] = {}
    for prior in priors:
        kinds = [kind for kind, keep in zip(tangent_kinds(layout), prior.valid, strict=True) if keep]
        for k, kind in enumerate(kinds):
            factor, mean = prior.factor_SKR[:, k].double(), prior.mean_SK[:, k].double()
            moment.setdefault(kind, []).append(factor @ factor.T + torch.outer(mean, mean))
            noise.setdefault(kind, []).append(prior.noise_MK[:, k])
    everything = [value for values in moment.values() for value in values]
    temporal, level = {}, {}
    for kind in sorted(set(tangent_kinds(layout))):
        values = moment.get(kind, everything)  # a kind that no robot of the corpus has moves like the average channel
        variance, vectors = torch.linalg.eigh(torch.stack(values).mean(dim=0))
        temporal[kind] = (vectors[:, -rank:] * variance[-rank:].clamp_min(0).sqrt()).flip(-1).float()
        level[kind] = torch.stack(noise.get(kind, [v for vs in noise.values() for v in vs])).mean(dim=0)
    activity_A = torch.stack([prior.activity_A for prior in priors]).log().mean(dim=0).exp()
    return GenericPrior(layout, temporal, level, activity_A)


def no_activity() -> Float[Tensor, " A"]:
    """Details as large as the Gaussian expects, however much the chunk moves."""
    return torch.ones(len(ACTIVITY_EDGES) + 1, dtype=torch.float32)
