"""Figures as people read them."""

from __future__ import annotations

import math

DASH = "\N{EN DASH}"


def format_figure(value: float | None) -> str:
    """Three significant digits, never an exponent, and no more than six decimals; a dash for None."""
    if value is None:
        return DASH
    if value == 0:
        return "0"
    if abs(value) < 1e-6:
        return "< 0.000001"
    rounded = float(f"{value:.3g}")  # 0.9999 has the digits of 1
    digits = min(6, max(0, 2 - math.floor(math.log10(abs(rounded)))))
    return f"{value:,.{digits}f}"


def format_fixed(value: float | None, digits: int) -> str:
    """A fixed number of decimals, so that a column of figures can be read down; a dash for None."""
    return DASH if value is None else f"{value:,.{digits}f}"


def format_count(value: float) -> str:
    """A mean number of tokens or bits: one decimal unless it is whole."""
    return f"{value:,.1f}".removesuffix(".0")


def format_percent(share: float | None) -> str:
    """A share as per cent: one decimal under ten."""
    if share is None:
        return DASH
    percent = 100.0 * share
    if 0 < percent < 0.05:
        return "< 0.1\N{NO-BREAK SPACE}%"
    return f"{percent:.{0 if percent >= 10 or percent == 0 else 1}f}\N{NO-BREAK SPACE}%"
