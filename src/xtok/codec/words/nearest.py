"""The nearest codes of a book, exactly: float32 finds candidates, float64 decides, and doubtful rows are done in full.

A matrix product gives other last bits for other batch sizes, so candidates alone are asked of it. A row's answer is
that of float64 over the whole book.

# N vectors, V codes, C dimensions, b codes wanted of each vector
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

_ROWS = 256  # vectors per distance matrix: 256 x 2048 floats stay in the cache
_BLOCK = 64  # codes whose minimum is looked at first
_MORE = 3  # candidates beyond those that are wanted
_DOUBT = 2e-6  # relative error of a float32 distance, generously


class Book:
    """Codes [V, C], float32, ready to be searched."""

    def __init__(self, codes_VC: Float[Tensor, "V C"]) -> None:
        self.codes_VC = codes_VC.double()
        self._half_V = self.codes_VC.square().sum(dim=1) / 2
        pad = -len(codes_VC) % _BLOCK
        self._wide_CV = torch.nn.functional.pad(codes_VC.float(), (0, 0, 0, pad)).T.contiguous()
        self._wide_half_V = torch.nn.functional.pad(self._half_V.float(), (0, pad), value=torch.inf)
        self._length = float(self._half_V.max().mul(2).sqrt())

    def __len__(self) -> int:
        return len(self.codes_VC)

    def least(self, x_NC: Float[Tensor, "N C"], count: int) -> Int[Tensor, "N b"]:
        """The `count` nearest codes of each float64 vector, nearest first; of equal ones the first."""
        count = min(count, len(self))
        if len(self) <= 2 * _BLOCK:
            return self._in_full(x_NC, count)
        return torch.cat([self._least(part, count) for part in x_NC.split(_ROWS)]) if len(x_NC) else self._none(count)

    def _none(self, count: int) -> Int[Tensor, "0 b"]:
        return torch.zeros(0, count, dtype=torch.long)

    def _least(self, x_NC: Tensor, count: int) -> Tensor:
        rough_NV = torch.addmm(self._wide_half_V, x_NC.float(), self._wide_CV, alpha=-1)
        wanted = min(count + _MORE, len(self))
        found_Nc, at_least_N = _smallest(rough_NV, wanted)
        exact_Nc = self._half_V[found_Nc] - torch.einsum("nc,nkc->nk", x_NC, self.codes_VC[found_Nc])
        order = exact_Nc.argsort(dim=1, stable=True)[:, :count]
        index = found_Nc.gather(1, order)
        last_N = exact_Nc.gather(1, order[:, -1:])[:, 0]
        reach_N = _DOUBT * self._length * (x_NC.square().sum(dim=1).sqrt() + self._length)
        doubtful = (last_N + reach_N >= at_least_N.double()).nonzero()[:, 0]
        if len(doubtful) and wanted < len(self):
            index[doubtful] = self._in_full(x_NC[doubtful], count)
        return index

    def _in_full(self, x_NC: Tensor, count: int) -> Tensor:
        exact_NV = torch.addmm(self._half_V, x_NC, self.codes_VC.T, alpha=-1)
        return exact_NV.argsort(dim=1, stable=True)[:, :count]


def _smallest(rough_NV: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Places of each row's `count` least values, in rising order of place, and the largest of these values. A topk of
    blocks' minima first: it is slow on long rows."""
    by_block = rough_NV.unflatten(1, (-1, _BLOCK))
    if by_block.shape[1] <= count:
        value, place = rough_NV.topk(count, largest=False)
    else:
        near = by_block.amin(dim=2).topk(count, largest=False).indices
        inside = by_block.gather(1, near[..., None].expand(-1, -1, _BLOCK)).flatten(1)
        value, at = inside.topk(count, largest=False)
        place = near.gather(1, at // _BLOCK) * _BLOCK + at % _BLOCK
    return place.sort(dim=1).values, value[:, -1]
