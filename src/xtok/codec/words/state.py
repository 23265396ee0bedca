"""The first frame of a chunk that comes without a state: a code or a few, and where the chunk usually goes from there.

# N frames, B chunks, T frames of a chunk, S = 64, D channels, Q levels, V codes, n candidates, F = D + 1 features
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from xtok.codec.words.segment import Level


@dataclass(frozen=True, eq=False)
class StateBook:
    """levels: each in units of what the code before usually leaves open. drift_FSD: how frame 0, 1, ... usually differs
    from the decoded state: linear in it, so that channels that are velocities fall back and positions stay."""

    levels: tuple[Level, ...]
    drift_FSD: Float[Tensor, "F S D"]
    _double: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @property
    def channels(self) -> int:
        """D."""
        return self.drift_FSD.shape[2]

    def candidates(self, x_ND: Float[Tensor, "N D"], count: int) -> list[Int[Tensor, "N n Q"]]:
        """Of depth 1, 2, ...: codes of the `count` best sums that were found, nearest first; -1 beyond the depth."""
        N = len(x_ND)
        sum_NnD, unit_Nn = x_ND.new_zeros(N, 1, x_ND.shape[1]), x_ND.new_ones(N, 1)
        codes_NnQ = torch.full((N, 1, len(self.levels)), -1)
        found = []
        for number, level in enumerate(self.levels):
            left_NnD = x_ND[:, None] - sum_NnD
            n = left_NnD.shape[1]
            near_Nnk = level.book.least((left_NnD / unit_Nn[..., None]).flatten(0, 1), count).view(N, n, -1)
            k = near_Nnk.shape[2]
            tried_NnkD = level.book.codes_VC[near_Nnk] * unit_Nn[..., None, None]
            error_NE = (left_NnD[:, :, None] - tried_NnkD).square().sum(dim=3).flatten(1)
            best_Nn = error_NE.argsort(dim=1, stable=True)[:, :count]
            parent_Nn, code_Nn = best_Nn // k, near_Nnk.flatten(1).gather(1, best_Nn)
            sum_NnD = _rows(sum_NnD, parent_Nn) + _rows(tried_NnkD.flatten(1, 2), best_Nn)
            unit_Nn = unit_Nn.gather(1, parent_Nn) * level.spread_of(code_Nn)
            codes_NnQ = _rows(codes_NnQ, parent_Nn)
            codes_NnQ[:, :, number] = code_Nn
            found.append(codes_NnQ)
        return found

    def decode(self, codes_NQ: Int[Tensor, "N Q"]) -> Float[Tensor, "N D"]:
        """Sums of the codes of all levels; -1 stands for none. float64."""
        total_ND = torch.zeros(len(codes_NQ), self.channels, dtype=torch.float64)
        unit_N1 = torch.ones(len(codes_NQ), 1, dtype=torch.float64)
        for level, code_N in zip(self.levels, codes_NQ.unbind(dim=1), strict=True):
            chosen_ND = level.book.codes_VC[code_N.clamp_min(0)]
            total_ND = total_ND + torch.where(code_N[:, None] >= 0, chosen_ND * unit_N1, 0.0)
            unit_N1 = unit_N1 * level.spread_of(code_N.clamp_min(0))[:, None]
        return total_ND

    def base(self, state_ND: Float[Tensor, "N D"], horizon: int) -> Float[Tensor, "N T D"]:
        """Where a chunk usually goes from a decoded state; its motion is relative to this."""
        if "drift" not in self._double:
            self._double["drift"] = self.drift_FSD.double()
        drift_FTD = self._double["drift"][:, :horizon]
        features_NF = torch.cat([state_ND, state_ND.new_ones(len(state_ND), 1)], dim=1)
        return state_ND[:, None] + (features_NF @ drift_FTD.flatten(1)).unflatten(1, drift_FTD.shape[1:])


def _rows(x_Nb: Tensor, index_Nk: Tensor) -> Tensor:
    return x_Nb.gather(1, index_Nk[..., None].expand(-1, -1, x_Nb.shape[2]))
