"""Normalisation statistics: per channel quantiles of deltas over horizons 1..horizon_max, per robot (paper, section 3).

They carry all that they depend on (layout, robot, rate, horizon) and refuse to serve anything else: statistics made
with another chunk length clip badly. One file serves every T up to horizon_max. A channel that never moved is a
constant: its low equals its high, no code is spent on it, and it decodes to that value.

# N frames of an episode, D channels, B batch, T frames of a chunk, X any number of values
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from xtok.actions.layout import Kind, Layout, get_layout
from xtok.actions.types import Context

# Least width of a channel, so that noise of a still one is not blown up to [-1, 1]: 1 mm, half a degree, .01.
FLOORS: dict[Kind, float] = {
    "position": 0.001,
    "rotation6d": math.sin(math.radians(0.5)),
    "gripper": 0.01,
    "velocity": 0.01,
    "scalar": 0.01,
    "joint": 0.01,
}
HZ_TOLERANCE = 0.01  # relative: 29.97 and 30 are one rate
_SATURATED = 1.0 + 1e-6  # float32 rounding of the range's own end is no saturation


class _Content(TypedDict):
    layout: str
    layout_digest: str
    embodiment: str
    control_hz: float
    horizon_max: int
    count: int
    mask_D: list[bool]
    low_D: list[float]
    high_D: list[float]


class StatisticsJson(_Content):
    """`Statistics` in a file: every field, and the digest over them."""

    digest: str


@dataclass(frozen=True, eq=False)
class Statistics:
    """What turns a robot's deltas into about [-1, 1] and back. Compare two of them by `digest`.

    count: delta frames they were fitted on. mask_D: the robot's channels. low_D, high_D: float64, physical units of
    the delta, equal in a channel that never moved; -1 and 1 in masked channels, where they are never used. The arrays
    are read-only.

    Raises:
        ValueError: widths that differ, values that are not finite, or a channel whose low is above its high.
    """

    layout: str
    layout_digest: str
    embodiment: str
    control_hz: float
    horizon_max: int
    count: int
    mask_D: Bool[np.ndarray, " D"]
    low_D: Float[np.ndarray, " D"]
    high_D: Float[np.ndarray, " D"]

    def __post_init__(self) -> None:
        for name, dtype in (("mask_D", np.bool_), ("low_D", np.float64), ("high_D", np.float64)):
            array = np.array(getattr(self, name), dtype=dtype)
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        if not self.mask_D.shape == self.low_D.shape == self.high_D.shape == (len(self.mask_D),):
            shapes = (self.mask_D.shape, self.low_D.shape, self.high_D.shape)
            raise ValueError(
                f"statistics of {self.embodiment!r}: mask, low and high have shapes {shapes}; expected [D] each"
            )
        if not np.isfinite(self.high_D - self.low_D).all() or not (self.low_D <= self.high_D).all():
            raise ValueError(f"statistics of {self.embodiment!r}: low must be finite and not above high in any channel")
        if not (math.isfinite(self.control_hz) and self.control_hz > 0 and self.horizon_max >= 1 and self.count >= 1):
            raise ValueError(f"statistics of {self.embodiment!r}: control_hz, horizon_max and count must be above zero")

    @cached_property
    def constant_D(self) -> Bool[np.ndarray, " D"]:
        """True in the robot's channels that never moved; `low_D` is their value."""
        return self.mask_D & (self.low_D == self.high_D)

    @cached_property
    def moving_D(self) -> Bool[np.ndarray, " D"]:
        """True in the robot's channels that move, which are those that codes are spent on."""
        return self.mask_D & ~self.constant_D

    @cached_property
    def half_D(self) -> Float[np.ndarray, " D"]:
        """Half the range of each channel; of a constant one half its floor, so that a motion of it is out of range."""
        floor_D = np.array([FLOORS[kind] for kind in get_layout(self.layout).channel_kinds])
        return np.where(self.low_D == self.high_D, floor_D, self.high_D - self.low_D) / 2

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits over every field: what normalised this?"""
        return hashlib.sha256(json.dumps(self._content(), sort_keys=True).encode()).hexdigest()[:16]

    def check(self, layout: Layout, control_hz: float, horizon: int) -> None:
        """Refuse data that these statistics do not describe.

        Raises:
            ValueError: another layout, another rate (beyond 1 %), or a horizon above horizon_max.
        """
        if self.layout_digest != layout.digest:
            raise ValueError(
                f"statistics of {self.embodiment!r} are for layout {self.layout!r} ({self.layout_digest}), "
                f"the data are in {layout.name!r} ({layout.digest}); fit them anew: `xtok stats`"
            )
        if not math.isclose(self.control_hz, control_hz, rel_tol=HZ_TOLERANCE):
            raise ValueError(
                f"statistics of {self.embodiment!r} are for {self.control_hz:g} Hz, the data have {control_hz:g} Hz; "
                "resample the data, or fit statistics at their rate: `xtok stats`"
            )
        if not 1 <= horizon <= self.horizon_max:
            raise ValueError(
                f"statistics of {self.embodiment!r} serve chunks of 1 to {self.horizon_max} frames, not {horizon}; "
                "fit them with a larger horizon_max, or use shorter chunks"
            )

    def to_dict(self) -> StatisticsJson:
        """Plain JSON types, with the digest."""
        return {**self._content(), "digest": self.digest}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Statistics:
        """Inverse of `to_dict`.

        Raises:
            ValueError: missing or unknown fields, or a digest that does not match: the numbers were altered.
        """
        expected = {field.name for field in fields(cls)} | {"digest"}
        if content.keys() != expected:
            raise ValueError(f"statistics differ from the expected fields in {sorted(content.keys() ^ expected)}")
        statistics = cls(**{name: value for name, value in content.items() if name != "digest"})
        if statistics.digest != content["digest"]:
            raise ValueError(
                f"statistics of {statistics.embodiment!r} were altered: their digest is {statistics.digest}, "
                f"the file says {content['digest']}; fit them anew: `xtok stats`"
            )
        return statistics

    def save(self, path: str | Path) -> None:
        """Write JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Statistics:
        """Read what `save` wrote.

        Raises:
            ValueError: not such a file, or an altered one.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is not JSON ({error}); write it with `xtok stats DATA -o {path}`") from error
        if not isinstance(content, dict):
            raise ValueError(f"{path} holds a {type(content).__name__}, not the statistics of one robot")
        content.pop("left_out", None)  # `xtok stats --skip-bad` notes beside them which episodes they are not of
        return cls.from_dict(content)

    def _content(self) -> _Content:
        return {
            "layout": self.layout,
            "layout_digest": self.layout_digest,
            "embodiment": self.embodiment,
            "control_hz": self.control_hz,
            "horizon_max": self.horizon_max,
            "count": self.count,
            "mask_D": self.mask_D.tolist(),
            "low_D": self.low_D.tolist(),
            "high_D": self.high_D.tolist(),
        }


def normalise(statistics: Statistics, delta: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
    """Deltas to float32, -1 at low and 1 at high. Never clipped: values outside stay outside. Masked channels are 0.

    Raises:
        ValueError: a width that is not the statistics'.
    """
    centre_D, half_D, mask_D = _affine(statistics, delta)
    return torch.where(mask_D, (delta.double() - centre_D) / half_D, 0.0).float()


def denormalise(statistics: Statistics, normalised: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
    """Inverse of `normalise`: physical deltas, float32; masked channels are 0.

    Raises:
        ValueError: a width that is not the statistics'.
    """
    centre_D, half_D, mask_D = _affine(statistics, normalised)
    return torch.where(mask_D, normalised.double() * half_D + centre_D, 0.0).float()


def normalise_batch(
    statistics: Mapping[str, Statistics], context: Context, delta_BTD: Float[Tensor, "B T D"]
) -> Float[Tensor, "B T D"]:
    """`normalise`, each chunk by the statistics of its own robot; channels that the chunk masks are 0.

    Raises:
        ValueError: a robot without statistics, or statistics that do not fit layout, rate, horizon or channels.
    """
    return _by_robot(normalise, statistics, context, delta_BTD)


def denormalise_batch(
    statistics: Mapping[str, Statistics], context: Context, normalised_BTD: Float[Tensor, "B T D"]
) -> Float[Tensor, "B T D"]:
    """`denormalise`, each chunk by the statistics of its own robot; channels that the chunk masks are 0.

    Raises:
        ValueError: a robot without statistics, or statistics that do not fit layout, rate, horizon or channels.
    """
    return _by_robot(denormalise, statistics, context, normalised_BTD)


def saturation(normalised_BTD: Float[Tensor, "B T D"], mask_BD: Bool[Tensor, "B D"]) -> dict[int, float]:
    """Share of a channel's valid values outside [-1, 1], by channel index; only channels where there are any."""
    valid_BTD = mask_BD[:, None].expand_as(normalised_BTD)
    outside_D = ((normalised_BTD.abs() > _SATURATED) & valid_BTD).double().sum(dim=(0, 1))
    share_D = outside_D / valid_BTD.sum(dim=(0, 1)).clamp_min(1)
    return {int(channel): float(share_D[channel]) for channel in share_D.nonzero().flatten()}


def _affine(statistics: Statistics, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if value.shape[-1] != len(statistics.mask_D):
        raise ValueError(
            f"actions have {value.shape[-1]} channels; "
            f"statistics of {statistics.embodiment!r} have {len(statistics.mask_D)}"
        )
    centre_D = torch.tensor((statistics.low_D + statistics.high_D) / 2, device=value.device)
    half_D = torch.tensor(statistics.half_D, device=value.device)
    return centre_D, half_D, torch.tensor(statistics.mask_D, device=value.device)


def _by_robot(
    step: Callable[[Statistics, Tensor], Tensor],
    statistics: Mapping[str, Statistics],
    context: Context,
    value_BTD: Tensor,
) -> Tensor:
    out_BTD = torch.zeros_like(value_BTD, dtype=torch.float32)
    for name in sorted(set(context.embodiment)):
        if name not in statistics:
            raise ValueError(
                f"no statistics for embodiment {name!r}; there are {sorted(statistics)}; fit them: `xtok stats`"
            )
        rows = torch.tensor([other == name for other in context.embodiment], device=value_BTD.device)
        for control_hz in context.control_hz_B[rows].unique().tolist():
            statistics[name].check(context.layout, control_hz, context.horizon)
        unfitted_D = context.mask_BD[rows].any(dim=0).cpu().numpy() & ~statistics[name].mask_D
        if unfitted_D.any():
            names = [context.layout.channel_names[channel] for channel in np.flatnonzero(unfitted_D)]
            raise ValueError(
                f"statistics of {name!r} lack channels {names} that the chunks have; fit them: `xtok stats`"
            )
        out_BTD[rows] = step(statistics[name], value_BTD[rows])
    return torch.where(context.mask_BD[:, None], out_BTD, 0.0)
