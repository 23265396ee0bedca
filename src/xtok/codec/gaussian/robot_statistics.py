"""What a frozen tokenizer has measured of a robot that it was not trained on: ranges, motion prior, one JSON file.

Codes of such a robot are those of the shared codebooks: nothing is placed on its data (`xtok adapt` does that). The
numbers belong to the codebooks that they were measured through, so the file says which, and refuses others.

# C dimensions of a slot's detail
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from xtok.actions.layout import get_layout
from xtok.actions.statistics import Statistics, StatisticsJson
from xtok.atomic import atomic_write
from xtok.codec.gaussian.prior import SLOTWISE, MotionPrior
from xtok.codec.gaussian.slot_predictor import SlotPredictor

FORMAT = 1
STRETCH = "stretch_C"
_HALF = ("factor_SKR", f"{SLOTWISE}weight_HFX", f"{SLOTWISE}covariance_XX")  # large, and well scaled: float16 serves
_TENSORS_MAX = 32
_FIELDS = {"format", "statistics", "measured_for", "windows", "tensors", "digest"}


class TensorJson(TypedDict):
    """A tensor in a file: float16 or float32, little-endian, row-major."""

    dtype: str
    shape: list[int]
    base64: str


class RobotStatisticsJson(TypedDict):
    """`RobotStatistics` in a file. tensors: of the motion prior, by name."""

    format: int
    statistics: StatisticsJson
    measured_for: str
    windows: float
    tensors: dict[str, TensorJson]
    digest: str


@dataclass(frozen=True, eq=False)
class RobotStatistics:
    """One robot as `xtok.pretrain.measure` found it, for one set of shared codebooks.

    prior: with its `statistics` (ranges). stretch_C: by what the shared detail codebooks are scaled for it; None: not.
    measured_for: `Tokenizer.foundation` of those codebooks. windows: independent 64-frame windows that its motion
    amounts to; few of them, and the prior leans on the generic one.
    """

    prior: MotionPrior
    stretch_C: Float[Tensor, " C"] | None
    measured_for: str
    windows: float

    @property
    def statistics(self) -> Statistics:
        return self.prior.statistics

    @property
    def embodiment(self) -> str:
        return self.prior.statistics.embodiment

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits over everything that decides its codes."""
        found = hashlib.sha256(f"{self.statistics.digest}{self.measured_for}".encode())
        for name, tensor in sorted(self._tensors().items()):
            found.update(f"{name}{tuple(tensor.shape)}".encode())
            found.update(tensor.numpy().tobytes())
        return found.hexdigest()[:16]

    def rounded(self) -> RobotStatistics:
        """The same with large tensors at values that float16 holds: what is used is what is written."""
        prior, halved = self.prior, lambda tensor: tensor.half().float()
        slotwise = prior.slotwise
        if slotwise is not None:
            slotwise = replace(
                slotwise, weight_HFX=halved(slotwise.weight_HFX), covariance_XX=halved(slotwise.covariance_XX)
            )
        return replace(self, prior=replace(prior, factor_SKR=halved(prior.factor_SKR), slotwise=slotwise))

    def to_dict(self) -> RobotStatisticsJson:
        """Plain JSON types, tensors as base64."""
        return {
            "format": FORMAT,
            "statistics": self.statistics.to_dict(),
            "measured_for": self.measured_for,
            "windows": self.windows,
            "tensors": {
                name: _packed(tensor.half() if name in _HALF else tensor) for name, tensor in self._tensors().items()
            },
            "digest": self.digest,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> RobotStatistics:
        """Inverse of `to_dict`.

        Raises:
            ValueError: missing or unknown fields, tensors that do not fit each other, or an altered file.
        """
        if content.keys() != _FIELDS or content["format"] != FORMAT:
            raise ValueError(
                f"these are no statistics of a robot: expected the fields {sorted(_FIELDS)} and format {FORMAT}, found "
                f"{sorted(content)}; write them anew with `xtok stats DATA -o F.json`"
            )
        statistics = Statistics.from_dict(content["statistics"])
        try:
            tensors = {name: _unpacked(packed) for name, packed in _some(content["tensors"]).items()}
            stretch = tensors.pop(STRETCH, None)
            parts = {n.removeprefix(SLOTWISE): tensors.pop(n) for n in list(tensors) if n.startswith(SLOTWISE)}
            slotwise = SlotPredictor(**parts) if parts else None
            prior = MotionPrior(get_layout(statistics.layout), statistics, **tensors, slotwise=slotwise)
            found = cls(prior, stretch, str(content["measured_for"]), float(content["windows"]))
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError) as error:
            raise ValueError(
                f"statistics of {statistics.embodiment!r} are damaged ({error}); write them anew with `xtok stats`"
            ) from error
        if found.digest != content["digest"]:
            raise ValueError(
                f"statistics of {statistics.embodiment!r} were altered: their digest is {found.digest}, the file says "
                f"{content['digest']}; write them anew with `xtok stats`"
            )
        return found

    def save(self, path: str | Path) -> None:
        """Write JSON, whole or not at all."""
        atomic_write(Path(path), json.dumps(self.to_dict(), indent=1) + "\n")

    def _tensors(self) -> dict[str, Tensor]:
        stretch = {} if self.stretch_C is None else {STRETCH: self.stretch_C}
        return {name: tensor.contiguous() for name, tensor in {**self.prior.tensors(), **stretch}.items()}


def load_statistics(path: str | Path) -> RobotStatistics | Statistics:
    """Read what `xtok stats -o` wrote: a robot as measured, or the ranges alone that older files hold.

    Raises:
        ValueError: not such a file, or an altered one. FileNotFoundError: no such file.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); write it with `xtok stats DATA -o {path}`") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not the statistics of one robot")
    content.pop("left_out", None)  # `xtok stats --skip-bad` notes beside them which episodes they are not of
    try:
        return statistics_from_dict(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def statistics_from_dict(content: Mapping[str, Any]) -> RobotStatistics | Statistics:
    """Either of the two, told apart by its fields.

    Raises:
        ValueError: neither.
    """
    return RobotStatistics.from_dict(content) if "tensors" in content else Statistics.from_dict(content)


def _some(tensors: Any) -> dict[str, TensorJson]:
    if not isinstance(tensors, dict) or len(tensors) > _TENSORS_MAX:
        raise TypeError("'tensors' is no mapping of a few names")
    return tensors


def _packed(tensor: Tensor) -> TensorJson:
    array = tensor.numpy()
    little = array.astype(array.dtype.newbyteorder("<"))
    data = base64.b64encode(little.tobytes()).decode("ascii")
    return {"dtype": str(array.dtype), "shape": list(array.shape), "base64": data}


def _unpacked(packed: TensorJson) -> Tensor:
    if packed["dtype"] not in ("float16", "float32"):
        raise TypeError(f"a tensor is {packed['dtype']!r}; expected 'float16' or 'float32'")
    shape = [int(size) for size in packed["shape"]]
    data = base64.b64decode(packed["base64"], validate=True)
    dtype = np.dtype(packed["dtype"]).newbyteorder("<")
    if min(shape, default=0) < 0 or int(np.prod(shape, dtype=object)) * dtype.itemsize != len(data):
        raise TypeError(f"a tensor of shape {shape} has {len(data)} bytes")
    array = np.frombuffer(data, dtype=dtype).reshape(shape).astype(np.float32)
    if not np.isfinite(array).all():
        raise TypeError("a tensor has values that are not finite")
    return torch.from_numpy(array)
