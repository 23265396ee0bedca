"""Rotations in the forms that data sets store, checked to be what a mapping says they are.

A wrong column or a wrong order almost never looks like a rotation of the form named, so it is caught here and not in
training.

# N frames, W columns of a form
"""

from __future__ import annotations

import numpy as np
import torch

from xtok.actions.rotation import matrix_from_euler, matrix_from_quaternion, matrix_from_rotvec

RADIANS = {"rad": 1.0, "deg": np.pi / 180}
FORMS: dict[str, tuple[int, tuple[str, ...]]] = {  # form -> columns, orders
    "6d": (6, ("columns", "rows", "interleaved")),
    "quaternion": (4, ("wxyz", "xyzw")),
    "euler": (3, ()),
    "axis_angle": (3, ()),
    "matrix": (9, ()),
}
TOLERANCE = 0.02  # of unit length and right angles; float16 and rounding to two digits stay within
TURNS_MAX = 2.0  # an angle beyond two full turns is in another unit


def rotation_matrices(values_NW: np.ndarray, form: str, order: str, scale: float) -> np.ndarray:
    """Rotation matrices [N, 3, 3]. scale: rad a unit, of angles. 6d orders: the first two columns one after the other,
    the first two rows one after the other, or the first two columns read row by row (interleaved).

    Raises:
        ValueError: values that are no such rotation; the message says in which row.
    """
    values = torch.from_numpy(np.ascontiguousarray(values_NW, dtype=np.float64))
    if form == "quaternion":
        _close_to_one(np.linalg.norm(values_NW, axis=1), "as a quaternion, the columns have length")
        return matrix_from_quaternion(values if order == "wxyz" else values[:, [3, 0, 1, 2]]).numpy()
    if form in ("euler", "axis_angle"):
        _within_turns(values_NW * scale, scale)
        turned = matrix_from_euler(values * scale, order) if form == "euler" else matrix_from_rotvec(values * scale)
        return turned.numpy()
    if form == "matrix":
        pair_N23 = values_NW.reshape(-1, 3, 3).transpose(0, 2, 1)[:, :2]
        matrix = _orthonormal(pair_N23)
        off = np.abs(matrix - values_NW.reshape(-1, 3, 3)).max(axis=(1, 2))
        if (off > TOLERANCE).any():
            row = int(np.argmax(off))
            raise ValueError(f"row {row} is no rotation matrix row by row: {np.round(values_NW[row], 3).tolist()}")
        return matrix
    interleaved = order == "interleaved"
    pair_N23 = values_NW.reshape(-1, 3, 2).transpose(0, 2, 1) if interleaved else values_NW.reshape(-1, 2, 3)
    matrix = _orthonormal(pair_N23)
    return matrix.transpose(0, 2, 1) if order == "rows" else matrix


def _orthonormal(pair_N23: np.ndarray) -> np.ndarray:
    """The rotation whose first two columns are nearest to a pair, after a look that the pair is nearly that already."""
    lengths_N2 = np.linalg.norm(pair_N23, axis=2)
    for k in range(2):
        _close_to_one(lengths_N2[:, k], f"of the 6D rotation, vector {k + 1} has length")
    cosine = np.abs((pair_N23[:, 0] * pair_N23[:, 1]).sum(axis=1))
    if (cosine > TOLERANCE).any():
        row = int(np.argmax(cosine))
        raise ValueError(
            f"the two vectors of the 6D rotation are not at right angles in row {row} (cosine {cosine[row]:.2f}); "
            "check 'from' and 'order'"
        )
    first = pair_N23[:, 0] / lengths_N2[:, :1]
    second = pair_N23[:, 1] - (pair_N23[:, 1] * first).sum(axis=1, keepdims=True) * first
    second = second / np.linalg.norm(second, axis=1, keepdims=True)
    return np.stack([first, second, np.cross(first, second)], axis=2)


def _close_to_one(lengths_N: np.ndarray, what: str) -> None:
    wrong = ~(np.abs(lengths_N - 1) <= TOLERANCE)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"{what} {lengths_N[row]:.3f} in row {row}, not 1; check 'from' and 'form'")


def _within_turns(angles_rad: np.ndarray, scale: float) -> None:
    largest = float(np.abs(angles_rad).max(initial=0.0))
    if not largest <= TURNS_MAX * 2 * np.pi:
        hint = "is it deg?" if scale == 1.0 else "check 'from'"
        raise ValueError(f"an angle reaches {largest / (2 * np.pi):.1f} full turns; {hint}")
