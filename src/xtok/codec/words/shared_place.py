"""Shared residual books: k-means over robots, each of which sees the codes stretched along its own directions.

# M robots, n vectors, V codes, R classes, C dimensions, c of a robot
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from xtok.codec.words.fit_segments import PRIOR_ROWS, left_open
from xtok.codec.words.kmeans import kmeans, nearest
from xtok.codec.words.shared_books import CODE_MOST, CODE_STEP, SharedLevel, on_grid
from xtok.codec.words.shared_maps import rms

CLASSES = 8
_CLASS_ITERATIONS = 10


def place(
    left: Sequence[Float[Tensor, "n c"]],
    sizes: Sequence[int],
    dim: int,
    iterations: tuple[int, int],
    generator: torch.Generator,
) -> tuple[SharedLevel, ...]:
    """Level after level. left: of each robot, along its own directions; the nearest code is that in its own space."""
    wide = [torch.nn.functional.pad(x_nc, (0, dim - x_nc.shape[1])) for x_nc in left]
    levels = []
    for number, size in enumerate(sizes):
        code_VC, stretch_MC = _level(wide, size, iterations[min(number, 1)], generator)
        mean_C = stretch_MC.square().mean(dim=0).sqrt()
        classes = min(CLASSES, size)
        centre_RC = kmeans(code_VC * mean_C, classes, _CLASS_ITERATIONS, generator)
        class_V = nearest(code_VC * mean_C, centre_RC)
        _, class_V = torch.unique(class_V, return_inverse=True)
        code_VC = on_grid(code_VC, CODE_STEP, CODE_MOST)
        total_V, count_V, found = torch.zeros(size), torch.zeros(size), []
        for x_nC, stretch_C in zip(wide, stretch_MC, strict=True):
            code_n, left_nC = left_open(x_nC, code_VC * stretch_C)
            energy_n = left_nC.square().mean(dim=1)
            total_V.index_add_(0, code_n, energy_n / energy_n.mean())
            count_V += torch.bincount(code_n, minlength=size)
            found.append((code_n, left_nC, energy_n.mean()))
        spread_V = ((total_V + PRIOR_ROWS) / (count_V + PRIOR_ROWS)).sqrt()
        levels.append(SharedLevel(code_VC, class_V, spread_V))
        wide = [
            left_nC / (spread_V[code_n] * (energy / spread_V[code_n].square().mean()).sqrt())[:, None]
            for code_n, left_nC, energy in found
        ]
    return tuple(levels)


def _level(
    wide: Sequence[Tensor], size: int, iterations: int, generator: torch.Generator
) -> tuple[Float[Tensor, "V C"], Float[Tensor, "M C"]]:
    """Whitened codes, and how each robot stretches them: in turns the nearest codes, the stretch, the codes."""
    stretch_MC = torch.stack([rms(x_nC) for x_nC in wide])
    pool_NC = torch.cat([x_nC / s_C for x_nC, s_C in zip(wide, stretch_MC, strict=True)])
    code_VC = _drawn(pool_NC, size, generator)
    for number in range(iterations):
        top_VC, below_VC = torch.zeros_like(code_VC), torch.zeros_like(code_VC)
        for robot, x_nC in enumerate(wide):
            stretch_C = stretch_MC[robot]
            code_n = nearest(x_nC, code_VC * stretch_C)
            count_V = torch.bincount(code_n, minlength=size)
            top_VC.index_add_(0, code_n, x_nC * stretch_C)
            below_VC += count_V[:, None] * stretch_C.square()
            if number:
                of_nC = code_VC[code_n]
                stretch_MC[robot] = (of_nC * x_nC).sum(dim=0) / of_nC.square().sum(dim=0).clamp_min(1e-9)
        used_V = below_VC.sum(dim=1) > 0
        code_VC = torch.where(below_VC > 0, top_VC / below_VC.clamp_min(1e-12), code_VC)
        code_VC[~used_V] = _drawn(pool_NC, int((~used_V).sum()), generator)
    return code_VC.clamp(1 - CODE_MOST, CODE_MOST - 1), stretch_MC


def _drawn(pool_NC: Tensor, count: int, generator: torch.Generator) -> Float[Tensor, "m C"]:
    order = torch.randperm(len(pool_NC), generator=generator)
    more = torch.randint(len(pool_NC), (max(0, count - len(pool_NC)),), generator=generator)
    return pool_NC[torch.cat([order, more])[:count]].clone()
