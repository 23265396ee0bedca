"""A motion prior at one chunk length: smoothing, prediction, the directions that details are coded in. Decision 0003.

# B batch, T frames, K tangent channels of the robot, P = T * K values of a chunk, R rank, M slots,
# E = 4 M K: whole slots, of which a chunk fills the first P values, C dimensions of a slot's detail
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from xtok.actions.types import FRAMES_PER_SLOT, slots


@dataclass(frozen=True)
class ChunkBasis:
    """A prior at one chunk length. All float64; rows are a chunk's P values, time-major."""

    horizon: int
    mean_E: Float[Tensor, " E"]  # E = 4 M K: whole slots, of which a chunk fills the first P values
    factor_ER: Float[Tensor, "E R"]
    smooth_RP: Float[Tensor, "R P"]
    predict_RE: Float[Tensor, "R E"]
    basis_PX: Float[Tensor, "P X"]  # X directions in use, by falling variance
    direction_MC: Int[Tensor, "M C"]  # direction of each slot's detail dimension, -1 where there is none
    gain: float  # root mean square of a detail dimension that the Gaussian expects
    spread: float  # root mean square of the motion's steps from slot to slot
    emphasis_P: Float[Tensor, " P"]  # how much an error of each value counts when details are coded

    def to(self, device: torch.device) -> ChunkBasis:
        return replace(
            self,
            mean_E=self.mean_E.to(device),
            factor_ER=self.factor_ER.to(device),
            smooth_RP=self.smooth_RP.to(device),
            predict_RE=self.predict_RE.to(device),
            basis_PX=self.basis_PX.to(device),
            direction_MC=self.direction_MC.to(device),
            emphasis_P=self.emphasis_P.to(device),
        )

    @property
    def bytes(self) -> int:
        tensors = (value for value in vars(self).values() if isinstance(value, Tensor))
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def smooth(self, x_BP: Float[Tensor, "B P"]) -> Float[Tensor, "B E"]:
        """Likely motion without sensor noise; a last slot that the chunk fills in part is continued."""
        P = x_BP.shape[1]
        return self.mean_E + (x_BP - self.mean_E[:P]) @ self.smooth_RP.T @ self.factor_ER.T

    def predict(self, coarse_BE: Float[Tensor, "B E"]) -> Float[Tensor, "B P"]:
        """The chunk to expect from q0's view of its slots."""
        P = self.smooth_RP.shape[1]
        return self.mean_E[:P] + (coarse_BE - self.mean_E) @ self.predict_RE.T @ self.factor_ER[:P].T

    def analyse(self, residual_BP: Tensor) -> Float[Tensor, "B M C"]:
        """A chunk's residual as slot details, in units of `gain`."""
        used = (residual_BP * self.emphasis_P) @ self.basis_PX / self.gain
        padded = torch.cat([used, used.new_zeros(len(used), 1)], dim=1)  # -1 points at the zero
        return padded[:, self.direction_MC]

    def synthesise(self, detail_BMC: Float[Tensor, "B M C"]) -> Float[Tensor, "B P"]:
        """Inverse of `analyse` on the directions in use."""
        used = detail_BMC.new_zeros(len(detail_BMC), self.basis_PX.shape[1])
        real = self.direction_MC >= 0
        used[:, self.direction_MC[real]] = detail_BMC[:, real]
        return used @ self.basis_PX.T * self.gain / self.emphasis_P


def emphasis_of(emphasis_K: Tensor | None, channels: int, frames: int) -> Float[Tensor, " P"]:
    """How much an error of each of `frames` frames' values counts, float64; without `emphasis_K` all alike.

    Raises:
        ValueError: one that is not above 0.
    """
    if emphasis_K is None:
        return torch.ones(channels * frames, dtype=torch.float64)
    if not (emphasis_K > 0).all():
        raise ValueError(f"emphasis_K {emphasis_K.tolist()}; expected values above 0")
    return emphasis_K.double().repeat(frames)


def posterior(factor_PR: Tensor, noise_P: Tensor) -> tuple[Tensor, Tensor]:
    """x = F z, z ~ N(0, 1), seen as x + noise: the matrix that estimates z, and z's posterior covariance."""
    weighted = factor_PR / noise_P[:, None]
    precision = torch.eye(factor_PR.shape[1], dtype=torch.float64) + factor_PR.T @ weighted
    chol = torch.linalg.cholesky(precision)
    return torch.cholesky_solve(weighted.T, chol), torch.cholesky_inverse(chol)


def assign_directions(count: int, M: int, detail_dim: int) -> Tensor:
    """Directions by falling variance to slots, back and forth, so that every slot's k-th dimension is alike."""
    place = torch.full((M, detail_dim), -1, dtype=torch.long)
    for direction in range(count):
        row, column = divmod(direction, M)
        place[column if row % 2 == 0 else M - 1 - column, row] = direction
    return place


def fixed_sign(basis_PX: Tensor) -> Tensor:
    """Eigenvectors are free up to sign; fix it (largest entry positive), so that codes do not depend on the solver."""
    top = basis_PX.gather(0, basis_PX.abs().argmax(dim=0, keepdim=True))
    return basis_PX * torch.sign(top)


def steps(x_BTK: Tensor) -> Tensor:
    """Difference between frames one slot apart."""
    return x_BTK[:, FRAMES_PER_SLOT:] - x_BTK[:, :-FRAMES_PER_SLOT]


def compand(x: Tensor, bend: float) -> Tensor:
    """Motion to q0's space: as it is near rest, logarithmic beyond `bend`, so that small motions keep their words."""
    return torch.asinh(x / bend) * bend


def expand(h: Tensor, bend: float) -> Tensor:
    """Inverse of `compand`. Bounded, since no book holds anything that far out: a wild code cannot overflow."""
    return torch.sinh((h / bend).clamp(-9, 9)) * bend


def frames_to_slots(x_BTK: Tensor) -> Tensor:
    """[B, T, K] -> [B, M, 4 K]; frames beyond T are 0."""
    B, T, K = x_BTK.shape
    M = slots(T)
    padded = torch.nn.functional.pad(x_BTK, (0, 0, 0, M * FRAMES_PER_SLOT - T))
    return padded.reshape(B, M, FRAMES_PER_SLOT * K)


def slots_to_frames(x_BMX: Tensor, horizon: int) -> Tensor:
    """Inverse of `frames_to_slots`."""
    B, M, X = x_BMX.shape
    return x_BMX.reshape(B, M * FRAMES_PER_SLOT, X // FRAMES_PER_SLOT)[:, :horizon]
