"""SO(3) in torch: 6D, matrices, quaternions, rotation vectors, angles. docs/method.md#actions.

Every function takes any leading shape, keeps the dtype, and has finite gradients at the identity and at half a turn.
A 6D rotation is the first two columns of its matrix, one after the other: (c1, c2).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

MIN_COLUMN = 1e-3  # a column shorter than this has no direction worth trusting
MIN_SINE = 1e-3  # columns closer than about .06 degrees span no plane worth trusting
_SMALL_ANGLE = 1e-2  # rad; below it a series to the fourth power is exact in float64


def matrix_from_rotation6d(rotation6d: Float[Tensor, "*B 6"]) -> Float[Tensor, "*B 3 3"]:
    """Gram-Schmidt: the rotation whose first two columns are nearest in order, so scale and skew do not matter.

    Degenerate rows give no rotation and no error (the hot path does not look): pass data through `check_rotation6d`
    first. Six zeros, as a masked arm has them, give the zero matrix.
    """
    first = torch.nn.functional.normalize(rotation6d[..., :3], dim=-1)
    second = rotation6d[..., 3:]
    second = torch.nn.functional.normalize(second - (first * second).sum(dim=-1, keepdim=True) * first, dim=-1)
    return torch.stack((first, second, torch.linalg.cross(first, second)), dim=-1)


def rotation6d_from_matrix(matrix: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B 6"]:
    """The first two columns, one after the other."""
    return matrix[..., :2].transpose(-1, -2).flatten(-2)


def check_rotation6d(rotation6d: Float[Tensor, "*B 6"]) -> None:
    """Refuse rows from which no rotation follows.

    Raises:
        ValueError: a row is not finite, a column is (nearly) zero, or the columns are (nearly) parallel; the message
            names the index of the first such row.
    """
    first, second = rotation6d[..., :3], rotation6d[..., 3:]
    lengths = torch.stack((first.norm(dim=-1), second.norm(dim=-1))).amin(dim=0)
    sine = torch.linalg.cross(first, second).norm(dim=-1) / (first.norm(dim=-1) * second.norm(dim=-1))
    for what, bad in (
        ("is not finite", ~torch.isfinite(rotation6d).all(dim=-1)),
        ("has a column of (nearly) zero length", lengths < MIN_COLUMN),
        ("has two (nearly) parallel columns", sine < MIN_SINE),
    ):
        if bad.any():
            index = tuple(bad.nonzero()[0].tolist())
            raise ValueError(
                f"6D rotation at index {index} {what}: {rotation6d[index].tolist()}; expected the first two columns of "
                "a rotation matrix, (c1, c2); mask the channels if the robot has no such arm, or drop the frame"
            )


def matrix_from_quaternion(quaternion: Float[Tensor, "*B 4"]) -> Float[Tensor, "*B 3 3"]:
    """Rotation of a quaternion (w, x, y, z), of any length.

    Raises:
        ValueError: a quaternion is (nearly) zero or not finite.
    """
    length = quaternion.norm(dim=-1, keepdim=True)
    if not bool((torch.isfinite(length) & (length > MIN_COLUMN)).all()):
        raise ValueError("a quaternion is zero or not finite; expected (w, x, y, z) of about unit length")
    return _matrix_from_unit_quaternion(quaternion / length)


def matrix_from_rotvec(rotvec_rad: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3 3"]:
    """Exponential map: axis times angle, rad."""
    square = rotvec_rad.square().sum(dim=-1, keepdim=True)
    small = square < _SMALL_ANGLE**2
    angle = torch.where(small, 1.0, square).sqrt()  # where first: sqrt has no gradient at 0
    half_sinc = torch.where(small, 0.5 - square / 48 + square.square() / 3840, (angle / 2).sin() / angle)
    half_cos = torch.where(small, 1 - square / 8 + square.square() / 384, (angle / 2).cos())
    return _matrix_from_unit_quaternion(torch.cat((half_cos, half_sinc * rotvec_rad), dim=-1))


def matrix_from_euler(angles_rad: Float[Tensor, "*B 3"], order: str) -> Float[Tensor, "*B 3 3"]:
    """Three turns one after the other, as scipy names them: "xyz" about fixed axes, "XYZ" about axes that move along.

    Raises:
        ValueError: an order that is not three axes of one case.
    """
    if len(order) != 3 or set(order.lower()) - set("xyz") or order not in (order.lower(), order.upper()):
        raise ValueError(f"order is {order!r}; expected three axes, 'xyz' (fixed) or 'XYZ' (moving)")
    turns = []
    for angle_rad, axis in zip(angles_rad.unbind(dim=-1), order.lower(), strict=True):
        unit = torch.zeros(3, dtype=angles_rad.dtype, device=angles_rad.device)
        unit["xyz".index(axis)] = 1.0
        turns.append(matrix_from_rotvec(angle_rad[..., None] * unit))
    first, second, third = turns if order.isupper() else reversed(turns)
    return first @ second @ third


def rotvec_from_matrix(matrix: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B 3"]:
    """Logarithm: axis times angle, rad, with an angle in [0, pi]. At half a turn either axis is right; one is chosen.

    The zero matrix of a masked arm gives zero.
    """
    quaternion = _unit_quaternion_from_matrix(matrix)
    cosine, vector = quaternion[..., :1], quaternion[..., 1:]
    square = vector.square().sum(dim=-1, keepdim=True)
    small = square < _SMALL_ANGLE**2
    sine = torch.where(small, 1.0, square).sqrt()
    series = 2 + square / 3 + 3 * square.square() / 20  # 2 asin(s) / s
    return vector * torch.where(small, series, 2 * torch.atan2(sine, cosine) / sine)


def geodesic_rad(a: Float[Tensor, "*B 3 3"], b: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B"]:
    """Angle between two rotations, [0, pi] rad.

    Through atan2: the gradient of acos explodes at the identity. Where the angle is 0 or pi exactly, the gradient is 0.
    """
    relative = a.transpose(-1, -2) @ b
    twice_sine = _axial(relative)
    square = twice_sine.square().sum(dim=-1)
    twice_sine_norm = torch.where(square > 0, torch.where(square > 0, square, 1.0).sqrt(), 0.0)
    return torch.atan2(twice_sine_norm, _trace(relative) - 1)


def _trace(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=-2, dim2=-1).sum(dim=-1)


def _axial(matrix: Tensor) -> Tensor:
    """Vector of the antisymmetric part: for a rotation, twice the sine of its angle times its axis."""
    return torch.stack(
        (
            matrix[..., 2, 1] - matrix[..., 1, 2],
            matrix[..., 0, 2] - matrix[..., 2, 0],
            matrix[..., 1, 0] - matrix[..., 0, 1],
        ),
        dim=-1,
    )


def _matrix_from_unit_quaternion(quaternion: Tensor) -> Tensor:
    w, x, y, z = quaternion.unbind(dim=-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _unit_quaternion_from_matrix(matrix: Tensor) -> Tensor:
    """(w, x, y, z) with w >= 0: the longest row of 4 q q^T, which is never short, so nothing is lost near pi."""
    trace = _trace(matrix)
    axial = _axial(matrix)
    symmetric = matrix + matrix.transpose(-1, -2)
    corner = (1 + trace)[..., None]
    body = symmetric + torch.diag_embed((1 - trace)[..., None].expand(*trace.shape, 3))
    outer = torch.cat((torch.cat((corner, axial), -1)[..., None, :], torch.cat((axial[..., None], body), -1)), dim=-2)
    longest = outer.diagonal(dim1=-2, dim2=-1).argmax(dim=-1)
    row = outer.gather(-2, longest[..., None, None].expand(*longest.shape, 1, 4)).squeeze(-2)
    row = torch.where(row[..., :1] < 0, -row, row)
    return row / row.norm(dim=-1, keepdim=True)
