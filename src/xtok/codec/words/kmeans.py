"""k-means of a sample, float32, for the books of words and residuals.

# N vectors, C dimensions, V codes
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_ROWS = 1024  # vectors per distance matrix
_STEP = 1e-4  # of the sample's rms: what a code is moved by where it would be another one's twin


def nearest(
    x_NC: Float[Tensor, "N C"], book_VC: Float[Tensor, "V C"], valid_NC: Bool[Tensor, "N C"] | None = None
) -> Int[Tensor, " N"]:
    """The nearest code of each vector, by its valid dimensions; in the dtype of the vectors."""
    return _nearest(x_NC, book_VC, valid_NC)[0]


def _nearest(x_NC: Tensor, book_VC: Tensor, valid_NC: Tensor | None) -> tuple[Int[Tensor, " N"], Float[Tensor, " N"]]:
    """And how far it is."""
    book_VC = book_VC.to(x_NC.dtype)
    square_VC = book_VC.square()
    index, least = [], []
    for start in range(0, len(x_NC), _ROWS):
        x = x_NC[start : start + _ROWS]
        if valid_NC is None:
            distance_nV = torch.addmm(square_VC.sum(dim=1), x, book_VC.T, alpha=-2)
        else:
            valid = valid_NC[start : start + _ROWS].to(x.dtype)
            x = x * valid
            distance_nV = torch.addmm(valid @ square_VC.T, x, book_VC.T, alpha=-2)
        index.append(torch.from_numpy(distance_nV.numpy().argmin(axis=1)))
        found_n = distance_nV.gather(1, index[-1][:, None])[:, 0] + x.square().sum(dim=1)
        least.append(found_n.clamp_min(0).sqrt())
    return torch.cat(index), torch.cat(least)


def kmeans(
    x_NC: Float[Tensor, "N C"],
    codes: int,
    iterations: int,
    generator: torch.Generator,
    valid_NC: Bool[Tensor, "N C"] | None = None,
    apart: float = 0.0,
) -> Float[Tensor, "V C"]:
    """Codes of a sample; no two of them are equal. Codes that nothing is near to move onto random vectors.

    apart: codes keep at least this distance from each other, the more used ones first; those that would be nearer move
    onto vectors that are so far from all others, and where there are no more of these, outside the sample.

    Raises:
        ValueError: no vectors.
    """
    if not len(x_NC):
        raise ValueError("k-means of no vectors; give more motion")
    x_NC = x_NC.float()
    order = torch.randperm(len(x_NC), generator=generator)
    start = torch.cat([order, torch.randint(len(x_NC), (max(0, codes - len(x_NC)),), generator=generator)])[:codes]
    book_VC = x_NC[start].clone()
    for number in range(iterations):
        index_N, _ = _nearest(x_NC, book_VC, valid_NC)
        book_VC, count_V = _means(x_NC, index_N, book_VC, valid_NC)
        if apart > 0:
            free = (~_kept(book_VC, count_V, apart)).nonzero()[:, 0]
            book_VC = _far(x_NC, book_VC, free, apart, generator, valid_NC, number == iterations - 1)
        else:
            free = (count_V == 0).nonzero()[:, 0]
            book_VC[free] = x_NC[torch.randint(len(x_NC), (len(free),), generator=generator)]
    return _no_twins(book_VC, x_NC, generator)


def _means(x_NC: Tensor, index_N: Tensor, book_VC: Tensor, valid_NC: Tensor | None) -> tuple[Tensor, Int[Tensor, " V"]]:
    """The mean of each code's vectors, and how many there are."""
    count_V = torch.bincount(index_N, minlength=len(book_VC))
    weight_NC = None if valid_NC is None else valid_NC.float()
    total_VC = torch.zeros_like(book_VC).index_add_(0, index_N, x_NC if weight_NC is None else x_NC * weight_NC)
    if weight_NC is None:
        weight_VC = count_V.float()[:, None].expand_as(book_VC)
    else:
        weight_VC = torch.zeros_like(book_VC).index_add_(0, index_N, weight_NC)
    return torch.where(weight_VC > 0, total_VC / weight_VC.clamp_min(1e-9), book_VC), count_V


def _kept(book_VC: Tensor, count_V: Tensor, apart: float) -> Bool[Tensor, " V"]:
    """Codes that stay: from the most used on, those that are far enough from all that stay already."""
    near_VV = torch.cdist(book_VC, book_VC) < apart
    kept_V = torch.zeros(len(book_VC), dtype=torch.bool)
    for code in count_V.argsort(descending=True, stable=True).tolist():
        if count_V[code] > 0 and not bool((near_VV[code] & kept_V).any()):
            kept_V[code] = True
    return kept_V


def _far(
    x_NC: Tensor,
    book_VC: Tensor,
    free: Tensor,
    apart: float,
    generator: torch.Generator,
    valid_NC: Tensor | None,
    last: bool,
) -> Tensor:
    """The book with its free codes on vectors that are far from the others; in the end, and where there are none, on
    large vectors made a little larger: there they take the least away, and serve what is yet to come."""
    kept_V = torch.ones(len(book_VC), dtype=torch.bool)
    kept_V[free] = False
    _, least_N = _nearest(x_NC, book_VC[kept_V], valid_NC)
    far = (least_N > apart).nonzero()[:, 0]
    far = far[torch.randperm(len(far), generator=generator)][: 0 if last else len(free)]
    book_VC[free[: len(far)]] = x_NC[far]
    rest = free[len(far) :]
    if len(rest):
        largest = x_NC.norm(dim=1).argsort(descending=True)[: max(1, len(x_NC) // 5)]
        drawn = largest[torch.randint(len(largest), (len(rest),), generator=generator)]
        book_VC[rest] = x_NC[drawn] * (1.05 + 0.15 * torch.rand(len(rest), 1, generator=generator))
    return book_VC


def _no_twins(book_VC: Tensor, x_NC: Tensor, generator: torch.Generator) -> Tensor:
    """Equal codes moved a little off each other, so that which of them is nearest is never a matter of rounding."""
    _, first = torch.unique(book_VC, dim=0, return_inverse=True)
    order = first.argsort(stable=True)
    twin = torch.zeros(len(book_VC), dtype=torch.bool)
    twin[order[1:]] = first[order[1:]] == first[order[:-1]]
    if twin.any():
        size = x_NC.square().mean().sqrt().clamp_min(1e-6) * _STEP
        book_VC[twin] += size * torch.randn(int(twin.sum()), book_VC.shape[1], generator=generator)
    return book_VC
