"""Residual codes of one segment at every depth, by beam search over the levels.

# N rows, X values of a segment, C dimensions, b candidates, Q = 6 codes
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from xtok.codec.words.grammar import DEPTH, LEVELS
from xtok.codec.words.segment import SegmentCoder


@dataclass(frozen=True)
class Depth:
    """Candidates of one depth, the nearest first. sum_NbC: what their codes add up to. codes_NbQ: -1 beyond the
    depth."""

    sum_NbC: Float[Tensor, "N b C"]
    codes_NbQ: Int[Tensor, "N b Q"]


def search(coder: SegmentCoder, slot: int, x_NC: Float[Tensor, "N C"], beam: int) -> list[Depth]:
    """Of depth 1, 2, ...: the `beam` best sums that were found, by squared distance. float64."""
    N, C = x_NC.shape
    sum_NbC = x_NC.new_zeros(N, 1, C)
    unit_Nb = x_NC.new_ones(N, 1)
    codes_NbQ = torch.full((N, 1, DEPTH), -1)
    found = []
    for number in range(DEPTH):
        level = coder.level(slot, min(number, LEVELS - 1))
        left_NbC = x_NC[:, None] - sum_NbC
        b = left_NbC.shape[1]
        near_Nbk = level.book.least((left_NbC / unit_Nb[..., None]).flatten(0, 1), beam).view(N, b, -1)
        k = near_Nbk.shape[2]
        tried_NbkC = level.book.codes_VC[near_Nbk] * unit_Nb[..., None, None]
        best_Nb = torch.zeros(N, 1, dtype=torch.long)
        if b * k > 1:
            error_NE = (left_NbC[:, :, None] - tried_NbkC).square().sum(dim=3).flatten(1)
            best_Nb = error_NE.argsort(dim=1, stable=True)[:, : min(beam, b * k)]
        parent_Nb, code_Nb = best_Nb // k, near_Nbk.flatten(1).gather(1, best_Nb)
        sum_NbC = _rows(sum_NbC, parent_Nb) + _rows(tried_NbkC.flatten(1, 2), best_Nb)
        unit_Nb = unit_Nb.gather(1, parent_Nb) * level.spread_of(code_Nb)
        codes_NbQ = _rows(codes_NbQ, parent_Nb)
        codes_NbQ[:, :, number] = code_Nb
        found.append(Depth(sum_NbC, codes_NbQ))
    return found


def _rows(x_NbC: Tensor, index_Nk: Tensor) -> Tensor:
    return x_NbC.gather(1, index_Nk[..., None].expand(-1, -1, x_NbC.shape[2]))
