"""What an action is: layouts, rotations, deltas, normalisation, robots, and what travels between rooms.

docs/method.md#actions.
"""

from __future__ import annotations

from xtok.actions.delta import from_delta, from_tangent, tangent_mask, tangent_width, to_delta, to_tangent
from xtok.actions.embodiments import Embodiment, get_embodiment, register
from xtok.actions.layout import ARMS26, JOINTS, Group, Layout, get_layout
from xtok.actions.statistics import Statistics, denormalise, normalise, saturation
from xtok.actions.statistics_fit import fit_statistics
from xtok.actions.types import Actions, ActionTokenizer, ChunkBatch, Codes, Context
from xtok.actions.validate import check_actions

__all__ = [
    "ARMS26",
    "JOINTS",
    "ActionTokenizer",
    "Actions",
    "ChunkBatch",
    "Codes",
    "Context",
    "Embodiment",
    "Group",
    "Layout",
    "Statistics",
    "check_actions",
    "denormalise",
    "fit_statistics",
    "from_delta",
    "from_tangent",
    "get_embodiment",
    "get_layout",
    "normalise",
    "register",
    "saturation",
    "tangent_mask",
    "tangent_width",
    "to_delta",
    "to_tangent",
]
