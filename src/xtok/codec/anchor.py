"""A state as Q codes, where nobody tells it: scalar steps along axes, coarse to fine, in closed form. Decision 0010.

# N states, D channels, Q levels, V codes a level, K knots
Chunks are coded relative to the state one step before. Contracts that pass a chunk and nothing else (FAST's) lack it,
so the first frame is coded by itself and the chunk relative to what that decodes to. No book, so that every id below V
and every prefix of levels decodes, and nothing is fitted to more than a mean, axes and how dense states lie along them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypedDict

import numpy as np
from jaxtyping import Float, Int

KNOTS = 32  # even, so that the middle of a curve is no knot: see `_two_values`
_BINS, _SMOOTH = 256, 0.02  # of the histogram along an axis; width of the smoothing, of the range
_REACH = 0.2  # how far steps go beyond what was seen, of its range, on both sides
_EVERYWHERE = 0.05  # share of the states that is taken to lie anywhere
_LEAST = 1e-3  # width of an axis along which nothing moves
_COUNTED = 64  # parts up to which errors are measured; beyond, they fall as one over parts


class StateCodeJson(TypedDict):
    """A `StateCode` in a file."""

    mean_D: list[float]
    axis_DD: list[list[float]]
    curve_DK: list[list[float]]
    steps_QD: list[list[int]]
    codebook_size: int


@dataclass(frozen=True, eq=False)
class StateCode:
    """axis_DD: orthonormal columns. curve_DK: positions along each axis, from mean_D on, at shares 0 .. 1 of its steps,
    so that steps are narrow where the curve is flat. steps_QD: into how many parts each level cuts each axis.

    Raises:
        ValueError: shapes that do not belong together, values that are not finite, a curve that does not rise, or more
            parts than a code can tell.
    """

    mean_D: Float[np.ndarray, " D"]
    axis_DD: Float[np.ndarray, "D D"]
    curve_DK: Float[np.ndarray, "D K"]
    steps_QD: Int[np.ndarray, "Q D"]
    codebook_size: int = 2048

    def __post_init__(self) -> None:
        for name in ("mean_D", "axis_DD", "curve_DK"):
            object.__setattr__(self, name, np.array(getattr(self, name), dtype=np.float64))
        steps = np.array(self.steps_QD)
        D = len(self.mean_D)
        shapes = (self.axis_DD.shape, self.curve_DK.shape[:1], steps.shape[1:])
        if D == 0 or shapes != ((D, D), (D,), (D,)) or self.curve_DK.ndim != 2 or self.curve_DK.shape[1] < 2:
            raise ValueError(f"a state code of {D} channels has axes, curves and steps of shapes {shapes}")
        if not all(np.isfinite(a).all() for a in (self.mean_D, self.axis_DD, self.curve_DK)):
            raise ValueError("a state code needs finite values")
        if not (np.diff(self.curve_DK) > 0).all():
            raise ValueError("the curves of a state code rise from low to high along every axis")
        if len(steps) < 1 or self.codebook_size < 2 or steps.dtype.kind != "i" or steps.min(initial=1) < 1:
            raise ValueError(f"steps are {steps.tolist()}, codebook_size {self.codebook_size}; expected whole numbers")
        if (np.log2(steps).sum(axis=1) > np.log2(self.codebook_size) + 1e-9).any():
            raise ValueError(f"steps {steps.tolist()} make more cells than {self.codebook_size} codes can tell")
        object.__setattr__(self, "steps_QD", steps.astype(np.int64))

    @classmethod
    def plain(cls, channels: int, levels: int = 4, codebook_size: int = 2048) -> StateCode:
        """Channels in [-1, 1] of which nothing else is known."""
        steps_QD = _cut(lambda parts_D: 2.0 / parts_D, channels, levels, codebook_size, even=True)
        ends_DK = np.tile([-1.0, 1.0], (channels, 1))
        return cls(np.zeros(channels), np.eye(channels), ends_DK, steps_QD, codebook_size)

    @classmethod
    def fit(cls, states_ND: Float[np.ndarray, "N D"], levels: int = 4, codebook_size: int = 2048) -> StateCode:
        """Principal axes of states, so that channels that move together share steps, cut more finely where more states
        are. A channel of two values (a gripper's command) is an axis by itself, and one step tells it.
        """
        mean_D = states_ND.mean(axis=0, dtype=np.float64)
        away_ND = states_ND - mean_D
        two_D = np.array([len(np.unique(x_N)) <= 2 for x_N in states_ND.T.round(6)])
        moving = np.flatnonzero(~two_D)
        axis_DD = np.eye(len(mean_D))
        axis_DD[np.ix_(moving, moving)] = _principal(away_ND[:, moving])
        along_ND = away_ND @ axis_DD
        curve_DK = np.stack([_two_values(x) if two else _curve(x) for x, two in zip(along_ND.T, two_D, strict=True)])
        table_PD = np.stack([_errors(x, curve) for x, curve in zip(along_ND.T, curve_DK, strict=True)], axis=1)

        def error(parts_D: np.ndarray) -> np.ndarray:
            told_D = np.minimum(parts_D, _COUNTED)
            return table_PD[told_D - 1, np.arange(len(told_D))] * told_D / parts_D

        return cls(mean_D, axis_DD, curve_DK, _cut(error, len(mean_D), levels, codebook_size), codebook_size)

    @property
    def levels(self) -> int:
        return len(self.steps_QD)

    @property
    def channels(self) -> int:
        """D."""
        return len(self.mean_D)

    @cached_property
    def _share_K(self) -> Float[np.ndarray, " K"]:
        return np.linspace(0.0, 1.0, self.curve_DK.shape[1])

    def encode(self, states_ND: Float[np.ndarray, "N D"]) -> Int[np.ndarray, "N Q"]:
        """Codes of each state; what lies outside the range takes its end."""
        along_ND = (states_ND - self.mean_D) @ self.axis_DD
        rest_ND = np.stack([np.interp(x, c, self._share_K) for x, c in zip(along_ND.T, self.curve_DK, strict=True)], 1)
        codes = []
        for steps_D in self.steps_QD:
            cell_ND = np.floor(rest_ND * steps_D).clip(0, steps_D - 1)
            rest_ND = rest_ND * steps_D - cell_ND
            codes.append(cell_ND.astype(np.int64) @ _places(steps_D))
        return np.stack(codes, axis=1)

    def decode(self, codes_Nq: Int[np.ndarray, "N q"]) -> Float[np.ndarray, "N D"]:
        """Middles of the cells that the first q levels name. Any integer names one: ids beyond the last start again."""
        share_ND, width_D = np.zeros((len(codes_Nq), len(self.mean_D))), np.ones(len(self.mean_D))
        for steps_D, code_N in zip(self.steps_QD, codes_Nq.T, strict=False):
            cell_ND = code_N[:, None] // _places(steps_D) % steps_D
            width_D = width_D / steps_D
            share_ND = share_ND + cell_ND * width_D
        share_ND = share_ND + width_D / 2
        along = [np.interp(s, self._share_K, c) for s, c in zip(share_ND.T, self.curve_DK, strict=True)]
        return np.stack(along, axis=1) @ self.axis_DD.T + self.mean_D

    def to_dict(self) -> StateCodeJson:
        """JSON types."""
        return {
            "mean_D": self.mean_D.tolist(),
            "axis_DD": self.axis_DD.tolist(),
            "curve_DK": self.curve_DK.tolist(),
            "steps_QD": self.steps_QD.tolist(),
            "codebook_size": self.codebook_size,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> StateCode:
        """Inverse of `to_dict`.

        Raises:
            ValueError: other fields, or such as no state code has.
        """
        expected = {"mean_D", "axis_DD", "curve_DK", "steps_QD", "codebook_size"}
        if not isinstance(content, Mapping) or content.keys() != expected:
            raise ValueError(f"a state code has the fields {sorted(expected)}")
        if type(content["codebook_size"]) is not int:
            raise ValueError("codebook_size of a state code is a whole number")
        return cls(**content)


# -- axes and curves ---------------------------------------------------------------------------------------------------


def _principal(away_ND: np.ndarray) -> Float[np.ndarray, "D D"]:
    _, axis_DD = np.linalg.eigh(away_ND.T @ away_ND)
    axis_DD = axis_DD[:, ::-1]
    return axis_DD * np.where(axis_DD[np.abs(axis_DD).argmax(axis=0), np.arange(len(axis_DD))] < 0, -1.0, 1.0)


def _curve(x_N: np.ndarray) -> Float[np.ndarray, " K"]:
    """Knots that make steps as dense as the root of how dense the states are, which is best for an absolute error."""
    low, high = x_N.min(), x_N.max()
    reach = _REACH * (high - low) + _LEAST
    hits_B, edges = np.histogram(x_N, _BINS, (low - reach, high + reach))
    away_B = np.arange(-_BINS, _BINS + 1) / (_SMOOTH * _BINS)
    kernel_B = np.exp(-0.5 * away_B**2)
    dense_B = np.convolve(hits_B / len(x_N), kernel_B / kernel_B.sum())[_BINS : 2 * _BINS]
    steps_B = np.sqrt((1 - _EVERYWHERE) * dense_B + _EVERYWHERE / _BINS)
    share = np.concatenate([[0.0], np.cumsum(steps_B)])
    return np.interp(np.linspace(0.0, 1.0, KNOTS), share / share[-1], edges)


def _two_values(x_N: np.ndarray) -> Float[np.ndarray, " K"]:
    """The lower value in the lower half of the shares, the higher one in the upper half."""
    share_K = np.linspace(0.0, 1.0, KNOTS)
    return np.where(share_K < 0.5, x_N.min(), x_N.max()) + 1e-6 * (share_K - 0.5)


def _errors(x_N: np.ndarray, curve_K: np.ndarray) -> Float[np.ndarray, " P"]:
    """Mean absolute error in 1 .. P parts."""
    grid_K = np.linspace(0.0, 1.0, len(curve_K))
    share_N = np.interp(x_N, curve_K, grid_K)
    out = []
    for parts in range(1, _COUNTED + 1):
        cell_N = np.floor(share_N * parts).clip(0, parts - 1)
        out.append(np.abs(np.interp((cell_N + 0.5) / parts, grid_K, curve_K) - x_N).mean())
    return np.array(out)


# -- steps -------------------------------------------------------------------------------------------------------------


def _cut(
    error: Callable[[np.ndarray], np.ndarray], channels: int, levels: int, cells: int, even: bool = False
) -> Int[np.ndarray, "Q D"]:
    """Into how many parts each level cuts each axis: always where the error is largest, while a code can still tell.

    error: of each axis in so many parts. even: it is the width of a part, so the search may start at equal widths.
    """
    steps_QD = np.ones((levels, channels), dtype=np.int64)
    before_D = np.ones(channels, dtype=np.int64)
    for steps_D in steps_QD:
        if even:
            steps_D[:] = _even_steps(error(before_D), cells)
        while True:
            part_D = error(before_D * steps_D)
            fits = [d for d in np.argsort(-part_D, kind="stable") if _cells(steps_D, d) <= cells]
            if not fits or part_D[fits[0]] < part_D.max() / 2:  # rather leave a code unused than cut a thin part
                break
            steps_D[fits[0]] += 1
        before_D = before_D * steps_D
    return steps_QD


def _even_steps(width_D: np.ndarray, cells: int) -> np.ndarray:
    """Steps of about one width along all axes, as thin as so many cells allow: where the search for the best starts."""
    steps_D = np.ones(len(width_D), dtype=np.int64)
    wide, thin = float(width_D.max()), float(width_D.max()) / cells
    for _ in range(40):
        middle = (wide * thin) ** 0.5
        tried_D = np.maximum(1, np.floor(width_D / middle))
        if np.log2(tried_D).sum() <= np.log2(cells):
            wide, steps_D = middle, tried_D.astype(np.int64)
        else:
            thin = middle
    return steps_D


def _cells(steps_D: np.ndarray, d: int) -> int:
    """Cells that there are once axis d is cut once more."""
    return int(np.prod(steps_D)) // int(steps_D[d]) * int(steps_D[d] + 1)


def _places(steps_D: np.ndarray) -> np.ndarray:
    """Value of a step along each axis in the mixed-radix number of a cell; the first axis leads."""
    return np.concatenate([np.cumprod(steps_D[:0:-1])[::-1], [1]]).astype(np.int64)
