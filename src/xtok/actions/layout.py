"""What each action channel means: its kind, its unit, and how its delta is taken. docs/method.md#actions.

A layout is data. Nothing else in xtok counts channels or assumes an order.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Literal

Kind = Literal["position", "rotation6d", "gripper", "velocity", "scalar", "joint"]
Delta = Literal["subtract", "compose", "none"]


@dataclass(frozen=True)
class Group:
    """A run of neighbouring channels that share one meaning.

    `delta` says how a target is made relative to the anchor (the state one step before the chunk): "subtract",
    "compose" (in SO(3), rotations only) or "none" (the channel is used as it is).
    """

    name: str
    kind: Kind
    unit: str
    size: int
    delta: Delta


@dataclass(frozen=True)
class Layout:
    """An ordered list of channel groups; `width` channels in all.

    Raises:
        ValueError: if a rotation group is not six wide, or "compose" is asked of anything but a rotation.
    """

    name: str
    groups: tuple[Group, ...]

    def __post_init__(self) -> None:
        for group in self.groups:
            if (group.kind == "rotation6d") != (group.delta == "compose"):
                raise ValueError(
                    f"layout {self.name!r}: group {group.name!r}: delta 'compose' goes with kind 'rotation6d' only"
                )
            if group.kind == "rotation6d" and group.size != 6:
                raise ValueError(
                    f"layout {self.name!r}: group {group.name!r} has {group.size} channels; a 6D rotation has 6"
                )

    @cached_property
    def width(self) -> int:
        return sum(group.size for group in self.groups)

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Group name -> its slice of the channel axis."""
        out: dict[str, slice] = {}
        start = 0
        for group in self.groups:
            out[group.name] = slice(start, start + group.size)
            start += group.size
        return out

    @cached_property
    def channel_names(self) -> tuple[str, ...]:
        return tuple(
            group.name if group.size == 1 else f"{group.name}.{i}" for group in self.groups for i in range(group.size)
        )

    @cached_property
    def channel_kinds(self) -> tuple[Kind, ...]:
        return tuple(group.kind for group in self.groups for _ in range(group.size))

    @cached_property
    def channel_units(self) -> tuple[str, ...]:
        return tuple(group.unit for group in self.groups for _ in range(group.size))

    def of_kind(self, kind: Kind) -> list[tuple[Group, slice]]:
        """Every group of one kind with its slice."""
        return [(group, self.slices[group.name]) for group in self.groups if group.kind == kind]

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits that change when any channel changes; stored beside statistics and weights."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _arm(side: str) -> tuple[Group, ...]:
    return (
        Group(f"{side}_position", "position", "m", 3, "subtract"),
        Group(f"{side}_rotation", "rotation6d", "1", 6, "compose"),
        Group(f"{side}_gripper", "gripper", "1", 1, "none"),
    )


# docs/method.md#actions: 26 channels, in the order of the authors' library. A lone arm takes the right side.
ARMS26 = Layout(
    "arms26",
    (
        *_arm("left"),
        *_arm("right"),
        Group("base_velocity", "velocity", "m/s", 3, "none"),
        Group("lift_height", "scalar", "m", 1, "none"),
        Group("head", "scalar", "rad", 2, "none"),
    ),
)

# Sets and hands without a pose: joints relative to the anchor, grippers as they are. Decision 0002.
JOINTS = Layout(
    "joints",
    (
        Group("joint", "joint", "rad", 60, "subtract"),
        Group("gripper", "gripper", "1", 4, "none"),
    ),
)

LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in (ARMS26, JOINTS)}


def get_layout(name: str) -> Layout:
    """The layout called `name`.

    Raises:
        ValueError: if no such layout ships.
    """
    try:
        return LAYOUTS[name]
    except KeyError:
        raise ValueError(f"unknown layout {name!r}; expected one of {sorted(LAYOUTS)}") from None
