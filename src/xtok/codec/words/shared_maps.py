"""How one robot's residuals lie to a shared book: least squares for each class of codes, held to what fits all of them.

# n vectors, V codes, R classes, C shared dimensions, c of the robot, D = C + 1
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from xtok.codec.words.kmeans import nearest
from xtok.codec.words.shared_books import MAP_MOST, MAP_STEP, LevelMap, SharedLevel, on_grid

MAPPED = 16_000  # vectors that maps are fitted on; on a CR5, with 8,000 level 4 left 8 % more than with 20,000
_ROUGH = 4_000  # of them, for what comes before the maps of classes
_PRIOR = 0.02  # of all vectors: what the one map leans on a stretch of each direction with
_PRIOR_ROWS = 200.0  # what a class leans on the one map with
_MOVED_ROWS = 4.0  # what it is held in its place with
_RMS_MIN = 1e-4


def fit_map(x_nc: Float[Tensor, "n c"], shared: SharedLevel) -> tuple[LevelMap, Float[Tensor, "n c"]]:
    """The map of a level, and what it leaves of the vectors, in the next level's units."""
    one_VD = shared.with_one().float()
    rough_nc = x_nc[:_ROUGH]
    map_Dc = _stretched(rough_nc, shared)
    for _ in range(2):
        map_Dc = _one_map(rough_nc, one_VD[nearest(rough_nc, one_VD @ map_Dc)])
    code_n = nearest(x_nc, one_VD @ map_Dc)
    map_RDc = _by_class(x_nc, one_VD[code_n], shared.class_V[code_n], map_Dc, shared.classes)
    map_RDc = on_grid(map_RDc, MAP_STEP, MAP_MOST)
    code_Vc = LevelMap(map_RDc, 1.0).book(shared).codes_VC
    code_n = nearest(x_nc, code_Vc)
    left_nc = x_nc - code_Vc[code_n]
    usual_n = shared.spread_V[code_n]
    factor = float((left_nc.square().mean() / usual_n.square().mean()).sqrt().clamp_min(_RMS_MIN))
    return LevelMap(map_RDc, factor), left_nc / (usual_n * factor)[:, None]


def rms(x_nc: Tensor) -> Float[Tensor, " c"]:
    return x_nc.square().mean(dim=0).sqrt().clamp_min(_RMS_MIN)


def _stretched(x_nc: Tensor, shared: SharedLevel) -> Float[Tensor, "D c"]:
    """Each direction over its spread."""
    map_Dc = torch.zeros(shared.code_VC.shape[1] + 1, x_nc.shape[1])
    map_Dc[torch.arange(x_nc.shape[1]), torch.arange(x_nc.shape[1])] = rms(x_nc)
    return map_Dc


def _one_map(x_nc: Tensor, one_nD: Tensor) -> Float[Tensor, "D c"]:
    """Of all codes; nothing is moved."""
    code_nC = one_nD[:, :-1].double()
    C, c = code_nC.shape[1], x_nc.shape[1]
    gram_CC = code_nC.T @ code_nC
    cross_Cc = code_nC.T @ x_nc.double()
    prior_Cc = torch.zeros(C, c, dtype=torch.float64)
    each = torch.arange(c)
    prior_Cc[each, each] = cross_Cc[each, each] / gram_CC.diagonal()[:c].clamp_min(1e-9)
    ridge_CC = _PRIOR * gram_CC.diagonal().mean() * torch.eye(C, dtype=torch.float64)
    found_Cc = torch.linalg.solve(gram_CC + ridge_CC, cross_Cc + ridge_CC @ prior_Cc)
    return torch.nn.functional.pad(found_Cc, (0, 0, 0, 1)).float()


def _by_class(x_nc: Tensor, one_nD: Tensor, class_n: Tensor, prior_Dc: Tensor, classes: int) -> Float[Tensor, "R D c"]:
    """Of each class of codes; one without vectors has the map of all."""
    mean_D = one_nD.double().square().mean(dim=0)
    held_D = _PRIOR_ROWS * mean_D + 1e-6
    held_D[-1] = _MOVED_ROWS
    out = []
    for number in range(classes):
        one_mD, x_mc = one_nD[class_n == number].double(), x_nc[class_n == number].double()
        gram_DD = one_mD.T @ one_mD + held_D.diag()
        out.append(torch.linalg.solve(gram_DD, one_mD.T @ x_mc + held_D[:, None] * prior_Dc.double()).float())
    return torch.stack(out)
