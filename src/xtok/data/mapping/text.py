"""How a mapping file writes columns, rotations, grippers and joints: the lines that a proposal is made of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from xtok.data.features import Column


@dataclass(frozen=True)
class Turned:
    """A rotation as a mapping file says it. unit: of angles, else ""."""

    columns: tuple[Column, ...]
    form: str
    order: str = ""
    unit: str = ""


@dataclass(frozen=True)
class Opening:
    """A gripper as a mapping file says it. closed, open: raw values."""

    columns: tuple[Column, ...]
    closed: float
    open: float


def pick(columns: Sequence[Column]) -> str:
    """How a mapping file writes these columns, in quotes.

    Raises:
        ValueError: columns of several features, of which a `from` names one.
    """
    features = list(dict.fromkeys(column.feature for column in columns))
    if len(features) != 1:
        raise ValueError(f"columns of several features, {features}, where one is wanted")
    indices = [column.index for column in columns]
    runs = indices == list(range(indices[0], indices[0] + len(indices))) and len(indices) > 1
    inside = f"{indices[0]}:{indices[-1] + 1}" if runs else ", ".join(map(str, indices))
    return json.dumps(f"{features[0]}[{inside}]", ensure_ascii=False)


def position_line(columns: Sequence[Column], unit: str) -> str:
    return f"position: {{from: {pick(columns)}, unit: {unit}}}"


def rotation_line(turned: Turned) -> str:
    order = f", order: {turned.order}" if turned.order else ""
    unit = f", unit: {turned.unit}" if turned.form in ("euler", "axis_angle") else ""
    return f"rotation: {{from: {pick(turned.columns)}, form: {turned.form}{order}{unit}}}"


def gripper_value(gripper: Opening) -> str:
    return f"{{from: {pick(gripper.columns)}, closed: {gripper.closed:.4g}, open: {gripper.open:.4g}}}"


def gripper_line(gripper: Opening) -> str:
    return f"gripper: {gripper_value(gripper)}"


def joint_values(columns: Sequence[Column], unit: str) -> list[str]:
    """One `{from: ..., unit: ...}` for each run of columns of one feature."""
    runs: list[list[Column]] = []
    for column in columns:
        if runs and runs[-1][0].feature == column.feature:
            runs[-1].append(column)
        else:
            runs.append([column])
    return [f"{{from: {pick(run)}, unit: {unit}}}" for run in runs]
