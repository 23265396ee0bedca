"""How far is the decoded motion from the real one: the errors of `xtok.evaluate.errors`, and rows that do not
decode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from xtok.actions.statistics import Statistics
from xtok.evaluate.coded import Coded
from xtok.evaluate.errors import measure


class ReconstructionFigures(TypedDict):
    """The five errors of `xtok.evaluate.errors.Errors`. decode_failures: rows whose codes held no motion."""

    l1: float
    position_mm: float | None
    rotation_deg: float | None
    gripper: float | None
    joint: float | None
    decode_failures: int


def run(coded: Coded, statistics: Mapping[str, Statistics]) -> ReconstructionFigures:
    """Errors of all rows; one that does not decode counts as standing still."""
    errors = measure(coded.chunks, coded.actions, statistics)
    return {
        "l1": errors.l1,
        "position_mm": errors.position_mm,
        "rotation_deg": errors.rotation_deg,
        "gripper": errors.gripper,
        "joint": errors.joint,
        "decode_failures": int(coded.actions.failed_B.sum()),
    }
