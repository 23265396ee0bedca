"""Residual codes of one segment at every depth, by beam search over the levels.

# N rows, n of them, X values of a segment, C dimensions, b candidates, Q = 8 codes
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from xtok.codec.words.grammar import DEPTH, LEVELS
from xtok.codec.words.segment import SegmentCoder

LATER = 2.0  # a code behind the first takes away half of what is left at the most


@dataclass(frozen=True)
class Depth:
    """Candidates of one depth, the nearest first, of the rows that were worth it. sum_nbC: what their codes add up to.
    codes_nbQ: -1 beyond the depth."""

    rows_n: Int[Tensor, " n"]
    sum_nbC: Float[Tensor, "n b C"]
    codes_nbQ: Int[Tensor, "n b Q"]


def search(
    coder: SegmentCoder, slot: int, x_NC: Float[Tensor, "N C"], beam: int, enough_N: Float[Tensor, " N"]
) -> list[Depth]:
    """Of depth 1, 2, ...: the `beam` best sums that were found, by squared distance. float64.

    enough_N: a row of which less than this is left is not coded any deeper.
    """
    rows_n = (x_NC.norm(dim=1) >= enough_N).nonzero()[:, 0]
    x_nC = x_NC[rows_n]
    sum_nbC = torch.zeros_like(x_nC)[:, None]
    unit_nb = x_nC.new_ones(len(x_nC), 1)
    codes_nbQ = torch.full((len(x_nC), 1, DEPTH), -1)
    found: list[Depth] = []
    for number in range(DEPTH):
        if not len(rows_n):
            break
        level = coder.level(slot, min(number, LEVELS - 1))
        left_nbC = x_nC[:, None] - sum_nbC
        b = left_nbC.shape[1]
        near_nbk = level.book.least((left_nbC / unit_nb[..., None]).flatten(0, 1), beam).view(len(x_nC), b, -1)
        k = near_nbk.shape[2]
        tried_nbkC = level.book.codes_VC[near_nbk] * unit_nb[..., None, None]
        error_nE = (left_nbC[:, :, None] - tried_nbkC).square().sum(dim=3).flatten(1)
        best_nb = error_nE.argsort(dim=1, stable=True)[:, : min(beam, b * k)]
        parent_nb, code_nb = best_nb // k, near_nbk.flatten(1).gather(1, best_nb)
        sum_nbC = _rows(sum_nbC, parent_nb) + _rows(tried_nbkC.flatten(1, 2), best_nb)
        unit_nb = unit_nb.gather(1, parent_nb) * level.spread_of(code_nb)
        codes_nbQ = _rows(codes_nbQ, parent_nb)
        codes_nbQ[:, :, number] = code_nb
        found.append(Depth(rows_n, sum_nbC, codes_nbQ))
        on = (error_nE.gather(1, best_nb[:, :1])[:, 0].sqrt() >= enough_N[rows_n] * LATER).nonzero()[:, 0]
        rows_n, x_nC, sum_nbC, unit_nb, codes_nbQ = (each[on] for each in (rows_n, x_nC, sum_nbC, unit_nb, codes_nbQ))
    return found


def _rows(x_NbC: Tensor, index_Nk: Tensor) -> Tensor:
    return x_NbC.gather(1, index_Nk[..., None].expand(-1, -1, x_NbC.shape[2]))
