"""The one k-means of the house: nearest codes, what they gather, and Lloyd's rounds. Books of every codec are placed by
it; what is special to one (dead codes in training, words that keep apart) is with that one.

# N vectors, C dimensions, V codes
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

_ROWS = 1024  # vectors per distance matrix: 1024 x 2048 floats stay in the cache, which takes half the time


@dataclass(frozen=True)
class Gathered:
    """What codes were nearest to: count, sum and number of valid values."""

    count_V: Float[Tensor, " V"]
    sum_VC: Float[Tensor, "V C"]
    weight_VC: Float[Tensor, "V C"]

    def means(self, book_VC: Float[Tensor, "V C"]) -> Float[Tensor, "V C"]:
        """The mean of each code's vectors; a code, or a dimension of it, that has none stays as it is."""
        return torch.where(self.weight_VC > 0, self.sum_VC / self.weight_VC.clamp_min(1e-9), book_VC)


Refill = Callable[[Tensor, Tensor, int], Tensor]  # book, count_V, number of the round -> book


def nearest(
    x_NC: Float[Tensor, "N C"], book_VC: Float[Tensor, "V C"], valid_NC: Float[Tensor, "N C"] | None = None
) -> Int[Tensor, " N"]:
    """The nearest code of each vector by its valid dimensions (1 where valid, else 0), the first of equal ones.

    In the dtype of the vectors. |x - c|^2 without |x|^2, which does not change the answer.
    """
    book_VC = book_VC.to(x_NC.dtype)
    square_VC, out = book_VC.square(), []
    for start in range(0, len(x_NC), _ROWS):
        x = x_NC[start : start + _ROWS]
        if valid_NC is None:
            distance_nV = torch.addmm(square_VC.sum(dim=1), x, book_VC.T, alpha=-2)
        else:
            valid = valid_NC[start : start + _ROWS]
            distance_nV = torch.addmm(valid @ square_VC.T, x * valid, book_VC.T, alpha=-2)
        out.append(argmin(distance_nV))
    return torch.cat(out) if out else x_NC.new_zeros(0, dtype=torch.long)


def argmin(distance_NV: Float[Tensor, "N V"]) -> Int[Tensor, " N"]:
    """Index of each row's least value, the first of equal ones. On a CPU numpy finds it ten times faster than torch."""
    known = distance_NV.dtype in (torch.float32, torch.float64)
    if not known or distance_NV.device.type != "cpu" or torch.compiler.is_compiling():
        return distance_NV.argmin(dim=1)
    return torch.from_numpy(distance_NV.detach().numpy().argmin(axis=1))


def gathered(
    x_NC: Float[Tensor, "N C"], index_N: Int[Tensor, " N"], codes: int, valid_NC: Float[Tensor, "N C"] | None = None
) -> Gathered:
    """Of one assignment, float32. Values that are not valid have to be 0."""
    x = x_NC.float()
    count_V = torch.bincount(index_N, minlength=codes).float()
    sum_VC = x.new_zeros(codes, x.shape[1]).index_add_(0, index_N, x)
    if valid_NC is None:
        return Gathered(count_V, sum_VC, count_V[:, None].expand_as(sum_VC))
    return Gathered(count_V, sum_VC, torch.zeros_like(sum_VC).index_add_(0, index_N, valid_NC.float()))


def lloyd(
    x_NC: Float[Tensor, "N C"],
    book_VC: Float[Tensor, "V C"],
    iterations: int,
    refill: Refill,
    valid_NC: Float[Tensor, "N C"] | None = None,
) -> Float[Tensor, "V C"]:
    """Rounds of nearest codes and their means from a first book on. refill: the book of a round made usable, such as by
    `random_vectors`. Values that are not valid have to be 0."""
    for number in range(iterations):
        found = gathered(x_NC, nearest(x_NC, book_VC, valid_NC), len(book_VC), valid_NC)
        book_VC = refill(found.means(book_VC), found.count_V, number)
    return book_VC


def random_vectors(x_NC: Float[Tensor, "N C"], generator: torch.Generator) -> Refill:
    """A `Refill`: codes that nothing was near to move onto random vectors."""

    def refill(book_VC: Tensor, count_V: Tensor, number: int) -> Tensor:
        empty = (count_V == 0).nonzero()[:, 0]
        book_VC[empty] = x_NC[torch.randint(len(x_NC), (len(empty),), generator=generator)].to(book_VC.dtype)
        return book_VC

    return refill
