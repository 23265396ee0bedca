"""The authors' 9-key episode dict and statistics JSON (docs/adapters.md), to and from layout `arms26`.

# N frames, D = 26 channels
Same order and meaning on both sides: poses absolute, in metres and 6D; a part that a robot lacks is absent or masked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from xtok.actions.entrance import array_of, mask_of, number_of
from xtok.actions.layout import ARMS26
from xtok.actions.statistics import Statistics
from xtok.actions.types import HORIZON_MAX
from xtok.actions.validate import check_actions
from xtok.atomic import atomic_write

# Key of the dict -> group of the layout.
GROUPS: dict[str, str] = {
    "follow_left_ee_cartesian_pos": "left_position",
    "follow_left_ee_rotation_6D": "left_rotation",
    "follow_left_gripper": "left_gripper",
    "follow_right_ee_cartesian_pos": "right_position",
    "follow_right_ee_rotation_6D": "right_rotation",
    "follow_right_gripper": "right_gripper",
    "velocity_decomposed": "base_velocity",
    "height": "lift_height",
    "head_actions": "head",
}


@dataclass(frozen=True)
class Poses:
    """absolute_ND: float32, masked channels 0. mask_D: the parts that the dict has."""

    absolute_ND: Float[np.ndarray, "N D"]
    mask_D: Bool[np.ndarray, " D"]


def to_episode_dict(
    absolute_ND: Float[np.ndarray, "N D"], mask_D: Bool[np.ndarray, " D"], complete: bool = False
) -> dict[str, Float[np.ndarray, "N C"]]:
    """Key -> [N, C], of the parts that the robot has; with `complete`, zeros for the others, so that there are nine.

    Raises:
        ValueError: another width than 26, a part that is valid in part, NaN or a degenerate rotation.
    """
    absolute_ND = array_of(absolute_ND, "actions", f"[N, {ARMS26.width}]").astype(np.float32)
    mask_D = mask_of(mask_D, "mask", f"[{ARMS26.width}]").cpu().numpy()
    N, D = (len(absolute_ND), ARMS26.width) if absolute_ND.ndim else (0, 0)
    if N == 0 or absolute_ND.shape != (N, D) or mask_D.shape != (D,):
        raise ValueError(f"actions {absolute_ND.shape}, mask {mask_D.shape}; expected [N, {ARMS26.width}] and [26]")
    check_actions(ARMS26, torch.from_numpy(absolute_ND), torch.from_numpy(mask_D))
    out = {}
    for key, group in GROUPS.items():
        channels = ARMS26.slices[group]
        valid = mask_D[channels]
        if valid.any() != valid.all():
            raise ValueError(f"{group!r} is valid in part: mask all of its channels or none")
        if valid.all() or complete:
            out[key] = np.where(valid, absolute_ND[:, channels], 0.0).astype(np.float32)
    return out


def from_episode_dict(episode: Mapping[str, Any]) -> Poses:
    """Inverse of `to_episode_dict`. A key that is absent is masked, and so is one that is zero from end to end.

    Raises:
        ValueError: no key or an unknown one, another width or number of frames, NaN or a degenerate rotation.
    """
    if not isinstance(episode, Mapping):
        raise ValueError(f"the episode is a {type(episode).__name__}; expected a dict of {list(GROUPS)}")
    if unknown := episode.keys() - GROUPS.keys():
        raise ValueError(f"unknown keys {sorted(unknown)}; an episode has some of {list(GROUPS)}")
    parts = {key: array_of(value, repr(key), "[N, C]").astype(np.float32) for key, value in episode.items()}
    parts = {key: value[:, None] if value.ndim == 1 else value for key, value in parts.items()}
    if flat := [key for key, value in parts.items() if value.ndim == 0]:
        raise ValueError(f"{flat[0]!r} is one number; expected [N, C], a row for each frame")
    lengths = {len(value) for value in parts.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"the parts have {sorted(lengths)} frames; expected one number, above zero")
    absolute_ND = np.zeros((lengths.pop(), ARMS26.width), dtype=np.float32)
    mask_D = np.zeros(ARMS26.width, dtype=bool)
    for key, value in parts.items():
        channels = ARMS26.slices[GROUPS[key]]
        width = channels.stop - channels.start
        if value.ndim != 2 or value.shape[1] != width:
            raise ValueError(f"{key!r} has shape {value.shape}; expected [N, {width}]")
        absolute_ND[:, channels], mask_D[channels] = value, bool(value.any())
    if not mask_D.any():
        raise ValueError("every part is zero from end to end; there is no motion to read")
    check_actions(ARMS26, torch.from_numpy(absolute_ND), torch.from_numpy(mask_D))
    return Poses(absolute_ND, mask_D)


def save_statistics(statistics: Mapping[str, Statistics], path: str | Path) -> None:
    """Write `{robot: {key: {"min": [...], "delta": [...]}}}`, delta = max - min, of the parts that each robot has.

    This is the form that wall-x reads. It says nothing of chunk length, rate and layout: keep `Statistics.save` too.

    Raises:
        ValueError: statistics of another layout.
    """
    content: dict[str, dict[str, dict[str, list[float]]]] = {}
    for robot, one in statistics.items():
        if one.layout_digest != ARMS26.digest:
            raise ValueError(f"statistics of {robot!r} are for layout {one.layout!r}; this form holds arms26")
        content[robot] = {
            key: {
                "min": one.low_D[ARMS26.slices[group]].tolist(),
                "delta": (one.high_D - one.low_D)[ARMS26.slices[group]].tolist(),
            }
            for key, group in GROUPS.items()
            if one.mask_D[ARMS26.slices[group]].all()
        }
    atomic_write(Path(path), json.dumps(content, indent=1) + "\n")


def load_statistics(
    path: str | Path, control_hz: float | Mapping[str, float], horizon_max: int = HORIZON_MAX
) -> dict[str, Statistics]:
    """Robot -> ranges, from what `save_statistics` writes.

    The form is silent about rate and chunk length, so say them: ranges of other chunks clip badly
    (docs/method.md#actions).
    control_hz: of all robots, or by robot. horizon_max: the longest chunk that the ranges were taken over.

    Raises:
        ValueError: not such a file, an unknown part, another width, or a range that is empty or not finite.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error})") from error
    if not isinstance(content, dict) or not all(isinstance(parts, dict) for parts in content.values()):
        raise ValueError(f"{path}: expected {{robot: {{key: {{'min': [...], 'delta': [...]}}}}}}")
    out = {}
    for robot, parts in content.items():
        low_D, high_D, mask_D = -np.ones(ARMS26.width), np.ones(ARMS26.width), np.zeros(ARMS26.width, dtype=bool)
        for key, part in parts.items():
            if key not in GROUPS:
                raise ValueError(f"{path}, robot {robot!r}: unknown part {key!r}; expected some of {list(GROUPS)}")
            channels = ARMS26.slices[GROUPS[key]]
            low, delta = _column(part, "min"), _column(part, "delta")
            if low.shape != delta.shape or low.shape != (channels.stop - channels.start,):
                raise ValueError(f"{path}, robot {robot!r}, {key!r}: min {low.shape}, delta {delta.shape}")
            low_D[channels], high_D[channels], mask_D[channels] = low, low + delta, True
        if isinstance(control_hz, Mapping) and robot not in control_hz:
            raise ValueError(f"control_hz has no rate for robot {robot!r}; it has {sorted(control_hz)}")
        rate = number_of(control_hz[robot] if isinstance(control_hz, Mapping) else control_hz, "control_hz", "Hz")
        try:
            out[robot] = Statistics(
                ARMS26.name, ARMS26.digest, robot, float(rate), horizon_max, 1, mask_D, low_D, high_D
            )
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    return out


def _column(part: Any, name: str) -> np.ndarray:
    try:
        return np.atleast_1d(np.array(part[name], dtype=np.float64))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"expected {{'min': [...], 'delta': [...]}} of numbers, {name!r} is amiss: {error}") from error
