"""k-means of a sample, float32, for the books of words and residuals.

# N vectors, C dimensions, V codes
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_ROWS = 1024  # vectors per distance matrix
_APART = 1e-4  # of the sample's rms: what a code is moved by where it would be another one's twin


def nearest(
    x_NC: Float[Tensor, "N C"], book_VC: Float[Tensor, "V C"], valid_NC: Bool[Tensor, "N C"] | None = None
) -> Int[Tensor, " N"]:
    """The nearest code of each vector, by its valid dimensions; in the dtype of the vectors."""
    book_VC = book_VC.to(x_NC.dtype)
    square_VC = book_VC.square()
    out = []
    for start in range(0, len(x_NC), _ROWS):
        x = x_NC[start : start + _ROWS]
        if valid_NC is None:
            distance_nV = torch.addmm(square_VC.sum(dim=1), x, book_VC.T, alpha=-2)
        else:
            valid = valid_NC[start : start + _ROWS].to(x.dtype)
            distance_nV = torch.addmm(valid @ square_VC.T, x * valid, book_VC.T, alpha=-2)
        out.append(torch.from_numpy(distance_nV.numpy().argmin(axis=1)))
    return torch.cat(out)


def kmeans(
    x_NC: Float[Tensor, "N C"],
    codes: int,
    iterations: int,
    generator: torch.Generator,
    valid_NC: Bool[Tensor, "N C"] | None = None,
) -> Float[Tensor, "V C"]:
    """Codes of a sample; no two of them are equal. Codes that nothing is near to move onto random vectors.

    Raises:
        ValueError: no vectors.
    """
    if not len(x_NC):
        raise ValueError("k-means of no vectors; give more motion")
    x_NC = x_NC.float()
    order = torch.randperm(len(x_NC), generator=generator)
    start = torch.cat([order, torch.randint(len(x_NC), (max(0, codes - len(x_NC)),), generator=generator)])[:codes]
    book_VC = x_NC[start].clone()
    weight_NC = None if valid_NC is None else valid_NC.float()
    for _ in range(iterations):
        index_N = nearest(x_NC, book_VC, valid_NC)
        count_V = torch.bincount(index_N, minlength=codes)
        given_NC = x_NC if weight_NC is None else x_NC * weight_NC
        total_VC = torch.zeros_like(book_VC).index_add_(0, index_N, given_NC)
        if weight_NC is None:
            weight_VC = count_V.float()[:, None].expand_as(book_VC)
        else:
            weight_VC = torch.zeros_like(book_VC).index_add_(0, index_N, weight_NC)
        book_VC = torch.where(weight_VC > 0, total_VC / weight_VC.clamp_min(1e-9), book_VC)
        empty = (count_V == 0).nonzero()[:, 0]
        book_VC[empty] = x_NC[torch.randint(len(x_NC), (len(empty),), generator=generator)]
    return _apart(book_VC, x_NC, generator)


def _apart(book_VC: Tensor, x_NC: Tensor, generator: torch.Generator) -> Tensor:
    """Equal codes moved a little off each other, so that which of them is nearest is never a matter of rounding."""
    _, first = torch.unique(book_VC, dim=0, return_inverse=True)
    order = first.argsort(stable=True)
    twin = torch.zeros(len(book_VC), dtype=torch.bool)
    twin[order[1:]] = first[order[1:]] == first[order[:-1]]
    if twin.any():
        size = x_NC.square().mean().sqrt().clamp_min(1e-6) * _APART
        book_VC[twin] += size * torch.randn(int(twin.sum()), book_VC.shape[1], generator=generator)
    return book_VC
