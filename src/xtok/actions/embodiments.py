"""Which robots there are, as data: slot, arms, valid channels, rate, gripper convention, joints.

docs/method.md#actions, docs/method.md#published-results.

`embodiments.json` holds the 18 slots published by the authors first, then the robots of this project. A slot is a row
of the codec's 1,024-row embodiment table, so a published slot never moves. The gripper channel is 0 (closed) .. 1
(open) for every robot; `gripper_closed` and `gripper_open` say which raw values those are.

# D channels of the layout
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from xtok.actions.layout import ARMS26, Layout, get_layout

SLOTS = 1024  # docs/method.md#encoder-quantizer-decoder: rows of the embodiment table
NONE = "none"
NONE_SLOT = SLOTS - 1
UNREGISTERED_PREFIX = "none:"


@dataclass(frozen=True)
class Kinematics:
    """How a robot's joints become poses in `arms26`.

    urdf: a file that ships in xtok/actions/urdf, or the path of yours; poses are in the frame of its root link.
    frames: arm side ("left", "right") -> link. joints: channel name in the data -> joint of the URDF.
    hands: arm side -> channels of the data whose mean is the raw value of that side's gripper.
    """

    urdf: str
    frames: Mapping[str, str]
    joints: Mapping[str, str]
    hands: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Embodiment:
    """One robot.

    slot: row of the embodiment table; robots without one of their own share NONE_SLOT. arms: sides in use (a lone arm
    is "right"). pose_groups: groups of `arms26` that it has. joint_names, gripper_names: its channels in `joints`,
    filled in order from joint.0 and gripper.0; joint_unit is "rad", or "native" where a set ships no calibration.
    gripper_closed, gripper_open: raw values. control_hz: usual rate; None where it differs from set to set.
    robot_types: names under which LeRobot sets call it.

    Raises:
        ValueError: a slot outside the table, channels that a layout lacks, or a gripper that never opens.
    """

    name: str
    slot: int = NONE_SLOT
    arms: tuple[str, ...] = ()
    control_hz: float | None = None
    pose_groups: tuple[str, ...] = ()
    joint_names: tuple[str, ...] = ()
    joint_unit: str = "rad"
    gripper_names: tuple[str, ...] = ()
    gripper_closed: float = 0.0
    gripper_open: float = 1.0
    kinematics: Kinematics | None = None
    robot_types: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.slot < SLOTS:
            raise ValueError(f"embodiment {self.name!r}: slot {self.slot} is outside 0..{SLOTS - 1}")
        if self.gripper_closed == self.gripper_open:
            raise ValueError(f"embodiment {self.name!r}: gripper_closed equals gripper_open ({self.gripper_open})")
        if unknown := set(self.pose_groups) - set(ARMS26.slices):
            known = list(ARMS26.slices)
            raise ValueError(f"embodiment {self.name!r}: arms26 has no groups {sorted(unknown)}; it has {known}")
        sides = () if self.kinematics is None else self.kinematics.frames
        if missing := {f"{side}_position" for side in sides} - set(self.pose_groups):
            raise ValueError(
                f"embodiment {self.name!r}: its kinematics give {sorted(missing)}; add them to pose_groups"
            )
        joints = get_layout("joints")
        for group, names in (("joint", self.joint_names), ("gripper", self.gripper_names)):
            room = joints.slices[group].stop - joints.slices[group].start
            if len(names) > room:
                raise ValueError(f"embodiment {self.name!r} has {len(names)} {group}s; layout 'joints' holds {room}")

    @property
    def urdf(self) -> str | None:
        return None if self.kinematics is None else self.kinematics.urdf

    @property
    def layouts(self) -> tuple[str, ...]:
        """Names of the layouts for which the valid channels are known."""
        channels = {"arms26": self.pose_groups, "joints": self.joint_names}
        return tuple(layout for layout, names in channels.items() if names)

    def mask(self, layout: Layout) -> np.ndarray:
        """Bool [D], True where the robot has the channel.

        Raises:
            ValueError: the registry does not know this robot's channels in that layout.
        """
        if layout.name not in self.layouts:
            raise ValueError(
                f"embodiment {self.name!r} has no registered channels in layout {layout.name!r} (it has "
                f"{list(self.layouts)}); give the mask yourself, or register an Embodiment with its channels"
            )
        mask_D = np.zeros(layout.width, dtype=bool)
        if layout.name == "arms26":
            for group in self.pose_groups:
                mask_D[layout.slices[group]] = True
        else:
            for group, names in (("joint", self.joint_names), ("gripper", self.gripper_names)):
                start = layout.slices[group].start
                mask_D[start : start + len(names)] = True
        return mask_D

    def gripper_opening(self, raw: np.ndarray) -> np.ndarray:
        """Raw gripper values on the common scale, 0 closed .. 1 open; overshoot is kept, never clipped."""
        return (np.asarray(raw, dtype=np.float64) - self.gripper_closed) / (self.gripper_open - self.gripper_closed)


def get_embodiment(name: str) -> Embodiment:
    """The robot called `name`. "none:<anything>" is a robot that nobody registered: no known channels, slot of "none".

    Raises:
        ValueError: an unknown name; the message lists close ones.
    """
    if name in _registry():
        return _registry()[name]
    if name.startswith(UNREGISTERED_PREFIX):
        return Embodiment(name)
    close = get_close_matches(name, _registry(), n=3, cutoff=0.4)
    hint = f"did you mean one of {close}? " if close else ""
    raise ValueError(
        f"unknown embodiment {name!r}; {hint}Leave it out, or use {NONE!r}, for a robot that nobody registered; "
        "xtok.actions.embodiments.embodiment_names() lists those that are, register(Embodiment(...)) adds yours"
    )


def embodiment_names() -> tuple[str, ...]:
    """All registered names, published slots first."""
    return tuple(_registry())


def find_robot_type(robot_type: str) -> Embodiment | None:
    """The robot that a LeRobot set means by its `robot_type`, or None. Case and punctuation do not matter."""
    for embodiment in _registry().values():
        if _plain(robot_type) in {_plain(alias) for alias in (embodiment.name, *embodiment.robot_types)}:
            return embodiment
    return None


def unregistered_name(robot_type: str) -> str:
    """The name of a robot that the registry does not know: "none:" and its robot_type in letters of any script."""
    letters = unicodedata.normalize("NFC", robot_type).lower()
    return UNREGISTERED_PREFIX + (re.sub(r"[\W_]+", "_", letters).strip("_") or "robot")


def register(embodiment: Embodiment) -> None:
    """Make a robot known for the life of this process.

    Raises:
        ValueError: the name is taken by another robot, or the slot is (NONE_SLOT may be shared).
    """
    for other in _registry().values():
        if other.name == embodiment.name and other != embodiment:
            raise ValueError(f"embodiment {embodiment.name!r} is registered already; choose another name")
        if other.slot == embodiment.slot != NONE_SLOT and other.name != embodiment.name:
            raise ValueError(f"slot {embodiment.slot} belongs to {other.name!r}; choose a free one, or leave slot out")
    _registry()[embodiment.name] = embodiment


@cache
def _registry() -> dict[str, Embodiment]:
    entries = json.loads((files("xtok.actions") / "embodiments.json").read_text(encoding="utf-8"))
    return {entry["name"]: _from_json(entry) for entry in entries}


def _from_json(entry: dict[str, Any]) -> Embodiment:
    fields = {key: _frozen(value) for key, value in entry.items() if key != "kinematics"}
    if "kinematics" not in entry:
        return Embodiment(**fields)
    parts = entry["kinematics"]
    hands = {side: tuple(channels) for side, channels in parts["hands"].items()}
    return Embodiment(**fields, kinematics=Kinematics(**{**parts, "hands": hands}))


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _plain(text: str) -> str:
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFC", text).lower())
