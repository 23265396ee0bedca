"""The likely motion behind a noisy one: posterior mean under one Gaussian of the robot's motion and sensor noise.

# B batch, T frames of a chunk, S = 64 frames of the longest, E = 4 M frames of its whole slots, K channels, R rank
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from xtok.actions.types import FRAMES_PER_SLOT, HORIZON_MAX, slots
from xtok.codec.gaussian.basis import posterior

NOISE = 0.008  # sigma of a sensor: m, rad, or the unit of the channel; the most that words should hold still under
_JITTER = 1e-9
WINDOWS = (16, 32, 48, HORIZON_MAX)  # frames of a window that a robot can be fitted on: whole blocks


@dataclass(frozen=True, eq=False)
class Smoother:
    """mean_SK and factor_SKR: the Gaussian of 64-frame motions relative to the anchor, normalised units. noise_K: sigma
    of the sensors in these units."""

    mean_SK: Float[Tensor, "S K"]
    factor_SKR: Float[Tensor, "S K R"]
    noise_K: Float[Tensor, " K"]
    _at: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    def smooth(self, x_BTK: Float[Tensor, "B T K"]) -> Float[Tensor, "B E K"]:
        """Likely motion, float64; a last slot that the chunk fills in part is continued."""
        B, T, K = x_BTK.shape
        E = slots(T) * FRAMES_PER_SLOT
        factor_ER, estimate_RP = self._matrices(T)
        mean_E = self.mean_SK[:E].double().flatten()
        off_BP = x_BTK.double().flatten(1) - mean_E[: T * K]
        return (mean_E + off_BP @ estimate_RP.T @ factor_ER.T).view(B, E, K)

    def _matrices(self, T: int) -> tuple[Tensor, Tensor]:
        if T not in self._at:
            E = slots(T) * FRAMES_PER_SLOT
            factor_ER = self.factor_SKR[:E].double().flatten(0, 1)
            noise_P = self.noise_K.double().square().repeat(T) + _JITTER
            estimate_RP, _ = posterior(factor_ER[: len(noise_P)], noise_P)
            self._at[T] = factor_ER, estimate_RP
        return self._at[T]


def fit_smoother(
    windows_NSK: Float[Tensor, "N S K"], scale_K: Float[Tensor, " K"], rank: int, noise: float = NOISE
) -> Smoother:
    """From windows of 16, 32, 48 or 64 frames in normalised units; behind shorter ones it takes the last frame to hold.
    scale_K: physical units of one normalised unit.

    Raises:
        ValueError: windows of another length, or fewer than two.
    """
    N, S, K = windows_NSK.shape
    if S not in WINDOWS or N < 2:
        raise ValueError(f"{N} windows of {S} frames; a smoother needs two or more of one of {WINDOWS}")
    x_NP = windows_NSK.double().flatten(1)
    mean_P = x_NP.mean(dim=0)
    centred_NP = (x_NP - mean_P) / N**0.5
    rank = min(rank, N - 1, S * K)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _, value_R, direction_PR = torch.svd_lowrank(centred_NP, q=rank, niter=4)
    factor_SKR = (direction_PR * value_R).unflatten(0, (S, K))
    noise_K = noise / scale_K.double()
    held_S = torch.arange(HORIZON_MAX).clamp_max(S - 1)
    return Smoother(mean_P.view(S, K)[held_S].float(), factor_SKR[held_S].float(), noise_K.float())
