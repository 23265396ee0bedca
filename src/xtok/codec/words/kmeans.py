"""Books of words and residuals: the house's k-means (`xtok.codec.kmeans`) in float32, with codes that keep apart.

# N vectors, C dimensions, V codes
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xtok.codec import kmeans as house

_STEP = 1e-4  # of the sample's rms: what a code is moved by where it would be another one's twin


def nearest(
    x_NC: Float[Tensor, "N C"], book_VC: Float[Tensor, "V C"], valid_NC: Bool[Tensor, "N C"] | None = None
) -> Int[Tensor, " N"]:
    """The nearest code of each vector, by its valid dimensions; in the dtype of the vectors."""
    return house.nearest(x_NC, book_VC, None if valid_NC is None else valid_NC.to(x_NC.dtype))


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
    valid = None if valid_NC is None else valid_NC.to(x_NC.dtype)
    seen_NC = x_NC if valid is None else x_NC * valid

    def keep_apart(book_VC: Tensor, count_V: Tensor, number: int) -> Tensor:
        free = (~_kept(book_VC, count_V, apart)).nonzero()[:, 0]
        return _far(x_NC, book_VC, free, apart, generator, valid, number == iterations - 1)

    refill = keep_apart if apart > 0 else house.random_vectors(x_NC, generator)
    book_VC = house.lloyd(seen_NC, x_NC[start].clone(), iterations, refill, valid)
    return _no_twins(book_VC, x_NC, generator)


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
    valid_NC: Float[Tensor, "N C"] | None,
    last: bool,
) -> Tensor:
    """The book with its free codes on vectors that are far from the others; in the end, and where there are none, on
    large vectors made a little larger: there they take the least away, and serve what is yet to come."""
    kept_V = torch.ones(len(book_VC), dtype=torch.bool)
    kept_V[free] = False
    least_N = _distance(x_NC, book_VC[kept_V], valid_NC)
    far = (least_N > apart).nonzero()[:, 0]
    far = far[torch.randperm(len(far), generator=generator)][: 0 if last else len(free)]
    book_VC[free[: len(far)]] = x_NC[far]
    rest = free[len(far) :]
    if len(rest):
        largest = x_NC.norm(dim=1).argsort(descending=True)[: max(1, len(x_NC) // 5)]
        drawn = largest[torch.randint(len(largest), (len(rest),), generator=generator)]
        book_VC[rest] = x_NC[drawn] * (1.05 + 0.15 * torch.rand(len(rest), 1, generator=generator))
    return book_VC


def _distance(x_NC: Tensor, book_VC: Tensor, valid_NC: Tensor | None) -> Float[Tensor, " N"]:
    """To the nearest code, by the valid dimensions."""
    off_NC = x_NC - book_VC[house.nearest(x_NC, book_VC, valid_NC)]
    return (off_NC if valid_NC is None else off_NC * valid_NC).norm(dim=1)


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
