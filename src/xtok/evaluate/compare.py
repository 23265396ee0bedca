"""Two tokenizers at the same price: the errors of one over the errors of its rival, never extrapolated.

A rival is a curve of rate points; between two of them the logarithm of an error is linear in the price. Under 1 is
better than the rival.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from xtok.actions.types import slots
from xtok.evaluate.rate import RatePoint
from xtok.evaluate.reconstruction import ReconstructionFigures
from xtok.evaluate.result import CurvePointJson, FiguresJson

FAST, FAST_POOLED = "fast", "fast-pooled"  # fitted on the robot itself; on other robots
RIVALS = (FAST, FAST_POOLED)  # what every tokenizer is held against, where they were evaluated
CURVE = (1, 2, 3, 4)  # times M tokens: our own prefixes of levels

Price = Literal["bits", "tokens", "entropy_bits"]
Figure = Literal["l1", "position_mm", "rotation_deg", "joint"]
FIGURES: tuple[Figure, ...] = ("l1", "position_mm", "rotation_deg", "joint")
_WORDS: dict[Price, str] = {"bits": "bits", "tokens": "tokens", "entropy_bits": "bits of entropy"}


@dataclass(frozen=True)
class Rival:
    """points: by any order. ends: why there are none under the cheapest and none over the dearest, where it is
    known."""

    name: str
    points: Sequence[RatePoint]
    ends: tuple[str | None, str | None] = (None, None)


@dataclass(frozen=True)
class Figures:
    """Errors, or ratios of errors; None where the robot has no such channel, or (with a reason) no comparison."""

    l1: float | None = None
    position_mm: float | None = None
    rotation_deg: float | None = None
    joint: float | None = None
    reason: str | None = None

    def to_dict(self) -> FiguresJson:
        return {
            "l1": self.l1,
            "position_mm": self.position_mm,
            "rotation_deg": self.rotation_deg,
            "joint": self.joint,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class CurvePoint:
    """At `slots` times M tokens: own errors, and by rival its errors there and the ratios. entropy_bits: mean bits a
    chunk behind a unigram entropy coder there, by tokenizer; None where they are not known."""

    slots: int
    tokens: int
    own: Figures
    rivals: dict[str, Figures]
    over: dict[str, Figures]
    entropy_bits: dict[str, float | None] = field(default_factory=dict)

    def to_dict(self) -> CurvePointJson:
        return {
            "slots": self.slots,
            "tokens": self.tokens,
            "own": self.own.to_dict(),
            "rivals": {name: figures.to_dict() for name, figures in self.rivals.items()},
            "over": {name: figures.to_dict() for name, figures in self.over.items()},
            "entropy_bits": self.entropy_bits,
        }


def at(rival: Rival, price: Price, value: float, best: bool = True) -> Figures:
    """The errors of a rival at a price: log error linear in the price, inside its rates.

    best: a rate that errs more than a cheaper one counts as the cheaper one, which anybody would take instead.
    """
    paid = [(getattr(point, price), point) for point in rival.points if getattr(point, price) is not None]
    found = sorted(paid, key=lambda each: (each[0], each[1].l1))
    if not found:
        return Figures(reason=f"{rival.name} was not evaluated at any number of {_WORDS[price]}")
    prices = [paid for paid, _ in found]
    # A price within rounding of an end is that end: our own prefixes spend exactly so many tokens.
    if value < prices[0] * (1 - 1e-9) or value > prices[-1] * (1 + 1e-9):
        end = rival.ends[0] if value < prices[0] else rival.ends[1]
        said = f"{value:.1f} {_WORDS[price]} lie outside {rival.name}'s sweep ({prices[0]:.1f} to {prices[-1]:.1f})"
        return Figures(reason=said if end is None else f"{said}: {end}")

    def error(figure: Figure) -> float | None:
        errors = [getattr(point, figure) for _, point in found]
        if any(error is None for error in errors):
            return None
        if min(errors) <= 0:
            return 0.0 if max(errors) <= 0 else None  # no logarithm
        log_errors = np.minimum.accumulate(np.log(errors)) if best else np.log(errors)
        return math.exp(np.interp(value, prices, log_errors))

    return _figures(error)


def ratios(own: Figures, rival: Figures) -> Figures:
    """Own errors over the rival's; None with a reason where either has none."""
    if (reason := own.reason or rival.reason) is not None:
        return Figures(reason=reason)
    found = _figures(lambda figure: _ratio(getattr(own, figure), getattr(rival, figure)))
    return replace(found, reason="the rival's l1 there is zero") if found.l1 is None else found


def at_equal(price: Price, value: float | None, own: Figures, rivals: Sequence[Rival]) -> dict[str, Figures]:
    """By rival: own errors over its errors where it spends as much."""
    if value is None:
        none = Figures(reason=f"no {_WORDS[price]} are known without train episodes")
        return {rival.name: none for rival in rivals}
    return {rival.name: ratios(own, at(rival, price, value)) for rival in rivals}


def curve(name: str, points: Sequence[RatePoint], horizon: int, rivals: Sequence[Rival]) -> list[CurvePoint]:
    """At M, 2M, 3M and 4M tokens, M = ceil(T / 4). A tokenizer of other rates is interpolated as its rivals are."""
    out = []
    itself = Rival(name, points, next((rival.ends for rival in rivals if rival.name == name), (None, None)))
    for times in CURVE:
        tokens = times * slots(horizon)
        own = at(itself, "tokens", tokens, best=name in RIVALS)
        theirs = {rival.name: at(rival, "tokens", tokens) for rival in rivals}
        over = {rival: ratios(own, errors) for rival, errors in theirs.items()}
        entropy = {each.name: entropy_bits_at(each, tokens) for each in (itself, *rivals)}
        out.append(CurvePoint(times, tokens, own, theirs, over, entropy))
    return out


def entropy_bits_at(rival: Rival, tokens: float) -> float | None:
    """Bits of entropy that so many tokens come to, linear between rates; None outside, or where none are known."""
    paid = sorted(
        (point.tokens, point.entropy_bits)
        for point in rival.points
        if point.tokens is not None and point.entropy_bits is not None
    )
    if not paid or not paid[0][0] * (1 - 1e-9) <= tokens <= paid[-1][0] * (1 + 1e-9):
        return None
    return float(np.interp(tokens, [each for each, _ in paid], [bits for _, bits in paid]))


def figures_of(errors: ReconstructionFigures) -> Figures:
    """Own errors as they are compared."""
    return _figures(lambda figure: errors[figure])


def l1_ratio_at_equal_bits(bits: float, l1: float, fast_points: Sequence[RatePoint]) -> Figures:
    """`l1` over FAST's at the same bits, where l1 is all that there is."""
    if not fast_points:
        return Figures(reason="FAST was not evaluated")
    return ratios(Figures(l1=l1), at(Rival(FAST, fast_points), "bits", bits))


def _figures(value: Callable[[Figure], float | None]) -> Figures:
    return Figures(
        l1=value("l1"), position_mm=value("position_mm"), rotation_deg=value("rotation_deg"), joint=value("joint")
    )


def _ratio(own: float | None, rival: float | None) -> float | None:
    return None if own is None or not rival else own / rival
