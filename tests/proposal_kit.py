"""Small LeRobot folders of robots that no registry knows, with motion that is smooth and known.

# N frames of an episode, W columns of one feature
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from folders import STATE, write_v21, write_v30

N = 90
XYZ, XYZW, WXYZ = ["x", "y", "z"], ["qx", "qy", "qz", "qw"], ["qw", "qx", "qy", "qz"]
Arrays = dict[str, np.ndarray]
Made = Callable[[np.random.Generator], Arrays]


def time(count: int = N) -> np.ndarray:
    return np.linspace(0, 6, count)[:, None]


def place(rng: np.random.Generator, scale: float = 1.0, centre: Sequence[float] = (0.4, -0.2, 0.3)) -> np.ndarray:
    """Where a hand is, [N, 3] m times `scale`."""
    return scale * (np.array(centre) + 0.1 * np.sin(time() * rng.uniform(0.5, 1.2, 3) + rng.uniform(0, 3, 3)))


def turn(rng: np.random.Generator, size: float = 0.6) -> Rotation:
    return Rotation.from_rotvec(size * np.sin(time() * rng.uniform(0.5, 1, 3) + rng.uniform(0, 3, 3)))


def opening(
    rng: np.random.Generator, closed: float = 0.0, opened: float = 1.0, rests_closed: bool = False
) -> np.ndarray:
    """[N, 1] raw: rests at one end, opens or closes twice."""
    share = np.zeros(N)
    start = 15 + int(rng.integers(0, 6))
    share[start : start + 15], share[start + 40 : start + 50] = 1.0, 0.9
    share = share if rests_closed else 1 - share
    return (closed + share * (opened - closed))[:, None]


def joints(rng: np.random.Generator, width: int, size: float = 1.5) -> np.ndarray:
    return size * np.sin(time() * rng.uniform(0.3, 1, width) + rng.uniform(0, 3, width))


def pose(rng: np.random.Generator, scale: float = 1.0) -> np.ndarray:
    """[N, 7]: place and quaternion, w last."""
    return np.concatenate([place(rng, scale), turn(rng).as_quat()], axis=1)


def state(*parts: np.ndarray) -> Arrays:
    return {STATE: np.concatenate(parts, axis=1)}


def write(
    root: Path, made: Made, names: Mapping[str, Any] | None = None, episodes: int = 6, v3: bool = False, **info: Any
) -> Path:
    """A folder of `episodes` episodes of 90 frames at 10 Hz."""
    arrays = [
        {key: np.asarray(values, dtype=np.float32) for key, values in made(np.random.default_rng(seed)).items()}
        for seed in range(episodes)
    ]
    named = {
        key: value if isinstance(value, Mapping) or value is None else list(value)
        for key, value in (names or {}).items()
    }
    return (write_v30 if v3 else write_v21)(root, arrays, named, **info)
