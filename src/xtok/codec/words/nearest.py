"""The nearest codes of a book, exactly: float32 finds candidates, float64 decides, and doubtful rows are done in full.

A matrix product gives other last bits for other batch sizes, so candidates alone are asked of it. A row's answer is
that of float64 over the whole book.

# N vectors, V codes, C dimensions, b codes wanted of each vector
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

_ROWS = 512  # vectors per distance matrix
_MORE = 1  # candidates beyond those that are wanted
_SMALL = 128  # codes that are looked through in float64 straight away
_DOUBT = 2e-6  # relative error of a float32 distance, generously


class Book:
    """Codes [V, C], float32, ready to be searched."""

    def __init__(self, codes_VC: Float[Tensor, "V C"]) -> None:
        self.codes_VC = codes_VC.double()
        self._half_V = self.codes_VC.square().sum(dim=1) / 2
        # A code's halved square is one more dimension, so that one matrix product makes distances.
        self._wide_CV = torch.cat([-self.codes_VC.T, self._half_V[None]]).float()

    def __len__(self) -> int:
        return len(self.codes_VC)

    def least(self, x_NC: Float[Tensor, "N C"], count: int) -> Int[Tensor, "N b"]:
        """The `count` nearest codes of each float64 vector, nearest first; of equal ones the first."""
        count = min(count, len(self))
        if len(self) <= _SMALL:
            return self._in_full(x_NC, count)
        return torch.cat([self._least(part, count) for part in x_NC.split(_ROWS)]) if len(x_NC) else self._none(count)

    def _none(self, count: int) -> Int[Tensor, "0 b"]:
        return torch.zeros(0, count, dtype=torch.long)

    def _least(self, x_NC: Tensor, count: int) -> Tensor:
        wide_NC = torch.nn.functional.pad(x_NC.float(), (0, 1), value=1.0)
        wanted = min(count + _MORE, len(self))
        found_Nc, at_least_N = _smallest(wide_NC @ self._wide_CV, wanted)
        exact_Nc = self._half_V[found_Nc] - torch.einsum("nc,nkc->nk", x_NC, self.codes_VC[found_Nc])
        order = exact_Nc.argsort(dim=1, stable=True)[:, :count]
        index = found_Nc.gather(1, order)
        last_N = exact_Nc.gather(1, order[:, -1:])[:, 0]
        # A code that is nearer than the last one found is no longer than this: so large can its float32 error be.
        square_N = x_NC.square().sum(dim=1)
        long_N = square_N.sqrt() + (2 * last_N + square_N).clamp_min(0).sqrt()
        reach_N = _DOUBT * long_N * (square_N.sqrt() + long_N)
        doubtful = (last_N + reach_N >= at_least_N.double()).nonzero()[:, 0]
        if len(doubtful) and wanted < len(self):
            index[doubtful] = self._in_full(x_NC[doubtful], count)
        return index

    def _in_full(self, x_NC: Tensor, count: int) -> Tensor:
        exact_NV = torch.addmm(self._half_V, x_NC, self.codes_VC.T, alpha=-1)
        return exact_NV.argsort(dim=1, stable=True)[:, :count]


def _smallest(rough_NV: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Places of each row's `count` least values, in rising order of place, and the largest of these values. Overwrites
    them: for few of them numpy's argmin, again and again, is many times quicker than a topk of long rows."""
    values, rows = rough_NV.numpy(), np.arange(len(rough_NV))
    places, last_N = [], values[:, 0]
    for _ in range(count):
        places.append(values.argmin(axis=1))
        last_N = values[rows, places[-1]]
        values[rows, places[-1]] = np.inf
    return torch.from_numpy(np.stack(places, axis=1)).sort(dim=1).values, torch.from_numpy(last_N)
