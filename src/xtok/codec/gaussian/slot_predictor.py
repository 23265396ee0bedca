"""Details slot by slot: each slot is predicted from the decoded past and from q0, and q1 .. q3 code what is left.

# B batch, T frames, M slots, K channels of the robot (tangent, prior units), X = 4 K values of a slot (frame-major),
# H histories (0, 1, 2 or more slots decoded before), F = 20 K features, A activity bins, C code dimension

A robot that stands still, or moves smoothly, is all but known from its last frames: what is left is small and local in
time. Everything is relative to the last decoded frame, so one predictor serves every slot and every chunk
length. q0 of the slot before, of this one and of the next anchor the prediction, so that a wrong detail code fades
instead of spoiling what follows. Decision 0007.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from xtok.actions.types import FRAMES_PER_SLOT, HORIZON_MAX, slots
from xtok.codec.gaussian.basis import emphasis_of, fixed_sign
from xtok.codec.quantizer import ResidualQuantizer

PAST = 2  # slots of decoded past that a prediction looks at
FEATURES = FRAMES_PER_SLOT * (PAST + 3)  # a channel: the past, and q0's view of the slots before, here and after
_JITTER = 1e-10

Quantize = Callable[[Tensor], tuple[Tensor, Tensor]]  # a slot's detail [B, C] -> codes [B, q], what they decode to


@dataclass(frozen=True)
class Step:
    """A whole slot as a predictor meets it. history: slots decoded before, as far as it looks back."""

    features_BF: Float[Tensor, "B F"]
    wanted_BX: Float[Tensor, "B x"]  # relative to the last decoded frame
    history: int


@dataclass(frozen=True)
class SlotDetails:
    """What the detail levels have to code, the codes that were chosen, and the whole slots, for fitting a predictor."""

    detail_BMC: Float[Tensor, "B M C"]
    codes_BMq: Int[Tensor, "B M q"]
    steps: tuple[Step, ...]


@dataclass(frozen=True, eq=False)
class SlotPredictor:
    """weight_HFX predicts a slot; covariance_XX is that of what it leaves open; edge_A and size_A: how large that is
    (over the covariance's) in bins of how much the robot is moving. emphasis_K: how much an error of a channel counts
    when its codes are chosen; None: all alike."""

    weight_HFX: Float[Tensor, "H F x"]
    covariance_XX: Float[Tensor, "x x"]
    edge_A: Float[Tensor, " a"]
    size_A: Float[Tensor, " A"]
    emphasis_K: Float[Tensor, " K"] | None = None

    def __post_init__(self) -> None:
        X = len(self.covariance_XX)
        A = len(self.size_A)
        expected = {
            "weight_HFX": (PAST + 1, FEATURES * X // FRAMES_PER_SLOT, X),
            "covariance_XX": (X, X),
            "edge_A": (A - 1,),
        }
        if self.emphasis_K is not None:
            expected["emphasis_K"] = (self.channels,)
        for name, shape in expected.items():
            if (given := tuple(getattr(self, name).shape)) != shape or X % FRAMES_PER_SLOT:
                raise ValueError(f"the slot predictor has {name} {given}; expected {shape}")
        emphasis_of(self.emphasis_K, self.channels, 1)

    @property
    def channels(self) -> int:
        return len(self.covariance_XX) // FRAMES_PER_SLOT

    @cached_property
    def _weight(self) -> Float[Tensor, "H F x"]:
        return self.weight_HFX.double()

    @cached_property
    def emphasis_X(self) -> Float[Tensor, " x"]:
        """Of each value of a slot, on the predictor's device."""
        return emphasis_of(self.emphasis_K, self.channels, FRAMES_PER_SLOT).to(self.covariance_XX.device)

    @cached_property
    def _directions(self) -> tuple[Tensor, float]:
        """Orthonormal directions of what is left times emphasis, by falling variance, and its root total variance."""
        emphasised_XX = self.covariance_XX.double() * self.emphasis_X[:, None] * self.emphasis_X
        variance, vectors = torch.linalg.eigh(emphasised_XX)
        return fixed_sign(vectors.flip(-1)), float(variance.sum().clamp_min(_JITTER).sqrt())

    @cached_property
    def _fill(self) -> dict[int, Tensor]:
        """By frames present in a last, partial slot: what is left in them -> what to expect in the absent ones."""
        C = self.covariance_XX.double()
        out = {}
        for frames in range(1, FRAMES_PER_SLOT):
            n = frames * self.channels
            seen = C[:n, :n] + _JITTER * torch.eye(n, dtype=C.dtype, device=C.device)
            out[frames] = torch.linalg.solve(seen, C[:n, n:])
        return out

    def analyse(
        self,
        motion_BTK: Float[Tensor, "B T K"],
        seen_BMX: Float[Tensor, "B M x"],
        dim: int,
        quantize: Quantize,
    ) -> SlotDetails:
        """What the detail levels have to code, given that earlier slots decode as `quantize` says. float64."""
        _, T, K = motion_BTK.shape
        M = slots(T)
        padded = torch.nn.functional.pad(motion_BTK, (0, 0, 0, M * FRAMES_PER_SLOT - T))
        seen = self._by_frame(seen_BMX)
        done: list[Tensor] = []
        found: list[tuple[Tensor, Tensor]] = []
        steps: list[Step] = []
        for i in range(M):
            features, last = self._features(done, seen, i)
            predicted = features @ self._weight[min(i, PAST)]
            want = (padded[:, i * FRAMES_PER_SLOT : (i + 1) * FRAMES_PER_SLOT] - last).flatten(1)
            left, frames = want - predicted, min(FRAMES_PER_SLOT, T - i * FRAMES_PER_SLOT)
            if frames < FRAMES_PER_SLOT:
                left = torch.cat([left[:, : frames * K], left[:, : frames * K] @ self._fill[frames]], dim=1)
            else:
                steps.append(Step(features, want, min(i, PAST)))
            scale = self._scale(predicted, features)
            detail = self.to_detail(left / scale, dim)
            codes, decoded = quantize(detail)
            found.append((detail, codes))
            slot = predicted + self._from_detail(decoded.to(left.dtype)) * scale
            done.append(last + slot.unflatten(1, (FRAMES_PER_SLOT, K)))
        details, chosen = zip(*found, strict=True)
        return SlotDetails(torch.stack(details, dim=1), torch.stack(chosen, dim=1), tuple(steps))

    def synthesise(
        self, detail_BMC: Float[Tensor, "B M C"] | None, seen_BMX: Float[Tensor, "B M x"], horizon: int
    ) -> Float[Tensor, "B T K"]:
        """The motion from q0's view of all slots and their details (None: from q0 alone). float64."""
        seen = self._by_frame(seen_BMX)
        done: list[Tensor] = []
        for i in range(seen.shape[1]):
            features, last = self._features(done, seen, i)
            slot = features @ self._weight[min(i, PAST)]
            if detail_BMC is not None:
                slot = slot + self._from_detail(detail_BMC[:, i].double()) * self._scale(slot, features)
            done.append(last + slot.unflatten(1, (FRAMES_PER_SLOT, self.channels)))
        return torch.cat(done, dim=1)[:, :horizon]

    def activity(self, predicted_BX: Float[Tensor, "B x"], features_BF: Float[Tensor, "B F"]) -> Float[Tensor, " B"]:
        """Log of how much the robot moves: the slot as predicted, and the slot before as decoded."""
        before = features_BF[:, : FRAMES_PER_SLOT * self.channels]
        return (predicted_BX.square().mean(dim=1) + before.square().mean(dim=1) + _JITTER).sqrt().log()

    def carried_error(self) -> float:
        """Root mean square that is left of a unit error in one slot after 15 more; above 1 it has grown."""
        X = len(self.covariance_XX)
        done = [torch.zeros(X, FRAMES_PER_SLOT, self.channels, dtype=torch.float64) for _ in range(PAST)]
        done.append(torch.eye(X, dtype=torch.float64).unflatten(1, (FRAMES_PER_SLOT, self.channels)))
        seen = torch.zeros(X, PAST + 1 + slots(HORIZON_MAX), FRAMES_PER_SLOT, self.channels, dtype=torch.float64)
        while len(done) < PAST + slots(HORIZON_MAX):
            features, last = self._features(done, seen, len(done))
            slot = features @ self._weight[PAST]
            done.append(last + slot.unflatten(1, (FRAMES_PER_SLOT, self.channels)))
        return float(done[-1].square().sum().div(X).sqrt())

    def _scale(self, predicted_BX: Tensor, features_BF: Tensor) -> Float[Tensor, "B 1"]:
        activity = self.activity(predicted_BX.detach(), features_BF.detach())
        return self.size_A.double()[torch.bucketize(activity, self.edge_A.double())][:, None]

    def _by_frame(self, seen_BMX: Tensor) -> Float[Tensor, "B M 4 K"]:
        return seen_BMX.double().unflatten(2, (FRAMES_PER_SLOT, self.channels))

    def _features(self, done: list[Tensor], seen_BMFK: Tensor, i: int) -> tuple[Tensor, Float[Tensor, "B 1 K"]]:
        """Features of slot i, and the last decoded frame (the anchor, 0, before the first)."""
        B, M, frames, K = seen_BMFK.shape
        still = seen_BMFK.new_zeros(B, frames, K)
        last = done[-1][:, -1:] if done else still[:, :1]
        parts = []
        for j in range(1, PAST + 1):  # the window ends one frame early: its last frame is what all is relative to
            if i < j:
                parts.append(still)
                continue
            before = done[i - j - 1][:, -1:] if i > j else still[:, :1]
            parts.append(torch.cat([before, done[i - j][:, :-1]], dim=1) - last)
        here = seen_BMFK[:, i] - last
        parts.append(seen_BMFK[:, i - 1] - last if i else still)
        parts.append(here)
        parts.append(seen_BMFK[:, i + 1] - last if i + 1 < M else here[:, -1:].expand(-1, frames, -1))
        return torch.cat(parts, dim=1).flatten(1), last

    def to_detail(self, left_BX: Float[Tensor, "B x"], dim: int) -> Float[Tensor, "B C"]:
        """What a prediction leaves open along its main directions, in units of its root total variance."""
        direction_XX, total = self._directions
        detail = (left_BX * self.emphasis_X) @ direction_XX[:, :dim] / total
        return torch.nn.functional.pad(detail, (0, dim - detail.shape[1]))

    def _from_detail(self, detail_BC: Tensor) -> Float[Tensor, "B x"]:
        direction_XX, total = self._directions
        used = min(detail_BC.shape[1], len(direction_XX))
        return detail_BC[:, :used] @ direction_XX[:, :used].T * (total / self.emphasis_X)

    def restricted(self, kept_K: Tensor) -> SlotPredictor:
        """The same robot with fewer channels."""
        kept_X, kept_F = kept_K.repeat(FRAMES_PER_SLOT), kept_K.repeat(FEATURES)
        return replace(
            self,
            weight_HFX=self.weight_HFX[:, kept_F][:, :, kept_X],
            covariance_XX=self.covariance_XX[kept_X][:, kept_X],
            emphasis_K=None if self.emphasis_K is None else self.emphasis_K[kept_K],
        )

    def to(self, device: torch.device) -> SlotPredictor:
        return SlotPredictor(**{name: value.to(device) for name, value in tensors_of(self).items()})


@dataclass(frozen=True, eq=False)
class GenericSlotPredictor:
    """For a robot that was not measured: every channel by itself, as the average channel moves.

    weight_HPF: of one channel, P = 20 features to 4 frames. covariance_FF: of what is left of one channel, as a share
    of all channels' total. spectrum_C: root mean square of the details that the shared books were placed on.
    """

    weight_HPF: Float[Tensor, "H P f"]
    covariance_FF: Float[Tensor, "f f"]
    edge_A: Float[Tensor, " a"]
    size_A: Float[Tensor, " A"]
    spectrum_C: Float[Tensor, " C"]

    def for_channels(self, K: int) -> SlotPredictor:
        eye = torch.eye(K, dtype=torch.float32)
        weight = torch.einsum("hpf,kl->hpkfl", self.weight_HPF, eye).flatten(3, 4).flatten(1, 2)
        # Equal channels would leave the directions undetermined: each a little smaller than the one before.
        size = torch.diag(1 - 0.004 * torch.arange(K, dtype=torch.float32))
        covariance = torch.einsum("fg,kl->fkgl", self.covariance_FF, size).flatten(2, 3).flatten(0, 1)
        return SlotPredictor(weight, covariance, self.edge_A, self.size_A)


def tensors_of(predictor: SlotPredictor | GenericSlotPredictor | None, prefix: str = "") -> dict[str, Tensor]:
    """All that a predictor is, by name; nothing of none."""
    if predictor is None:
        return {}
    found = {field.name: getattr(predictor, field.name) for field in fields(predictor)}
    return {f"{prefix}{name}": value for name, value in found.items() if value is not None}


def through(book: ResidualQuantizer, beam: int) -> Quantize:
    """The codes of a book."""

    def quantize(detail_BC: Tensor) -> tuple[Tensor, Tensor]:
        codes_Bq = book.search(detail_BC, beam)
        return codes_Bq, book.lookup(codes_Bq).double()

    return quantize
