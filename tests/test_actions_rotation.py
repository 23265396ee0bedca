"""Properties of SO(3), held against roma and scipy.

# X any number of rotations
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import roma
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation
from torch import Tensor

from xtok.actions.rotation import (
    check_rotation6d,
    geodesic_rad,
    matrix_from_quaternion,
    matrix_from_rotation6d,
    matrix_from_rotvec,
    rotation6d_from_matrix,
    rotvec_from_matrix,
)

numbers = st.floats(-3.0, 3.0, allow_subnormal=False)
vectors = arrays(np.float64, (4, 3), elements=numbers)
angles_rad = st.one_of(
    st.floats(0.0, math.pi),
    st.floats(-9.0, 0.0).map(lambda power: 10.0**power),
    st.floats(-9.0, 0.0).map(lambda power: math.pi - 10.0**power),
    st.sampled_from([0.0, math.pi]),
)


@st.composite
def rotvecs(draw: st.DrawFn) -> Tensor:
    """Rotation vectors [4, 3] of any axis and any angle in [0, pi], often near the ends."""
    axis = np.array(draw(arrays(np.float64, (4, 3), elements=numbers)))
    axis[np.linalg.norm(axis, axis=1) < 0.1] = [0.6, 0.0, 0.8]
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    return torch.from_numpy(axis * np.array(draw(st.tuples(*[angles_rad] * 4)))[:, None])


def random_matrices(count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.from_numpy(Rotation.random(count, random_state=0).as_matrix()).to(dtype)


@given(rotvecs())
def test_exponential_is_that_of_roma_and_scipy(rotvec_X3: Tensor) -> None:
    ours = matrix_from_rotvec(rotvec_X3)
    assert torch.allclose(ours, roma.rotvec_to_rotmat(rotvec_X3), atol=1e-12)
    assert np.allclose(ours.numpy(), Rotation.from_rotvec(rotvec_X3.numpy()).as_matrix(), atol=1e-12)


@given(rotvecs())
def test_logarithm_inverts_the_exponential_up_to_half_a_turn(rotvec_X3: Tensor) -> None:
    matrix_X33 = matrix_from_rotvec(rotvec_X3)
    back = rotvec_from_matrix(matrix_X33)
    assert torch.allclose(matrix_from_rotvec(back), matrix_X33, atol=1e-12)
    assert torch.allclose(back.norm(dim=-1), rotvec_X3.norm(dim=-1), atol=1e-12)
    before_pi = rotvec_X3.norm(dim=-1) < math.pi - 1e-8  # at pi itself both signs of the axis are right
    assert torch.allclose(back[before_pi], rotvec_X3[before_pi], rtol=1e-7, atol=1e-12)
    assert np.allclose(back[before_pi], roma.rotmat_to_rotvec(matrix_X33)[before_pi], atol=1e-7)


def test_float32_keeps_small_and_large_angles() -> None:
    axis = torch.tensor([0.6, 0.0, 0.8])
    for angle_rad in (1e-6, 1e-4, 0.0099, 0.0101, 1.0, math.pi - 1e-3):
        back = rotvec_from_matrix(matrix_from_rotvec(angle_rad * axis))
        assert back.dtype == torch.float32
        assert torch.allclose(back, angle_rad * axis, rtol=1e-5, atol=1e-6)


@given(arrays(np.float64, (4, 4), elements=numbers))
def test_quaternions_are_those_of_scipy_at_any_length(wxyz: np.ndarray) -> None:
    wxyz = np.where(np.linalg.norm(wxyz, axis=1, keepdims=True) < 0.01, [1.0, 0.0, 0.0, 0.0], wxyz)
    expected = Rotation.from_quat(wxyz[:, [1, 2, 3, 0]]).as_matrix()
    assert np.allclose(matrix_from_quaternion(torch.from_numpy(wxyz)).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("wxyz", [[0.0, 0.0, 0.0, 0.0], [math.nan, 0.0, 0.0, 1.0]])
def test_a_quaternion_without_direction_is_refused(wxyz: list[float]) -> None:
    with pytest.raises(ValueError, match=r"quaternion.*w, x, y, z"):
        matrix_from_quaternion(torch.tensor(wxyz))


@given(vectors, vectors)
def test_gram_schmidt_is_that_of_roma(first: np.ndarray, second: np.ndarray) -> None:
    plane = np.linalg.norm(np.cross(first, second), axis=1) > 0.01
    rotation6d = torch.from_numpy(np.concatenate([first, second], axis=1)[plane])
    ours = matrix_from_rotation6d(rotation6d)
    columns = torch.stack((rotation6d[:, :3], rotation6d[:, 3:]), dim=-1)
    assert torch.allclose(ours, roma.special_gramschmidt(columns), atol=1e-9)
    assert torch.allclose(ours.transpose(-1, -2) @ ours, torch.eye(3, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(torch.linalg.det(ours), torch.ones(len(ours), dtype=torch.float64), atol=1e-9)


def test_6d_is_the_first_two_columns_and_comes_back() -> None:
    matrix_X33 = random_matrices(50).reshape(5, 10, 3, 3)
    rotation6d = rotation6d_from_matrix(matrix_X33)
    assert torch.equal(rotation6d[..., :3], matrix_X33[..., :, 0])
    assert torch.equal(rotation6d[..., 3:], matrix_X33[..., :, 1])
    assert torch.allclose(matrix_from_rotation6d(rotation6d), matrix_X33, atol=1e-12)
    assert torch.allclose(matrix_from_rotation6d(3.0 * rotation6d), matrix_X33, atol=1e-12)


@given(rotvecs(), rotvecs())
def test_geodesic_is_the_angle_of_scipy_and_symmetric(a_X3: Tensor, b_X3: Tensor) -> None:
    a_X33, b_X33 = matrix_from_rotvec(a_X3), matrix_from_rotvec(b_X3)
    angle = geodesic_rad(a_X33, b_X33)
    expected = (Rotation.from_rotvec(a_X3.numpy()).inv() * Rotation.from_rotvec(b_X3.numpy())).magnitude()
    assert np.allclose(angle.numpy(), expected, atol=1e-9)
    assert torch.allclose(angle, geodesic_rad(b_X33, a_X33), atol=1e-12)


def test_geodesic_sees_a_thousandth_of_a_degree_in_float32() -> None:
    angle_rad = torch.tensor([math.radians(0.001)])  # acos would say 0 or .02 degrees
    turned = matrix_from_rotvec(angle_rad * torch.tensor([[0.0, 0.6, 0.8]]))
    assert torch.allclose(geodesic_rad(torch.eye(3), turned), angle_rad, rtol=0.02)


@pytest.mark.parametrize("angle_rad", [0.0, 1e-12, 1e-7, 1.0, math.pi - 1e-7, math.pi])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_at_the_identity_and_at_half_a_turn(angle_rad: float, dtype: torch.dtype) -> None:
    rotvec = (angle_rad * torch.tensor([0.6, 0.0, 0.8], dtype=dtype)).requires_grad_()
    matrix = matrix_from_rotvec(rotvec)
    geodesic_rad(torch.eye(3, dtype=dtype), matrix).backward(retain_graph=True)
    assert rotvec.grad is not None and rotvec.grad.isfinite().all()
    (again,) = torch.autograd.grad(rotvec_from_matrix(matrix).sum(), rotvec)
    assert again.isfinite().all()


def test_gradient_of_the_geodesic_is_right_away_from_its_ends() -> None:
    rotation6d = rotation6d_from_matrix(random_matrices(3)).requires_grad_()
    target = random_matrices(4)[1:]
    assert torch.autograd.gradcheck(lambda x: geodesic_rad(target, matrix_from_rotation6d(x)), rotation6d)
    rotvec = rotvec_from_matrix(target).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: rotvec_from_matrix(matrix_from_rotvec(x)), rotvec)


def test_gradient_of_a_masked_rotation_is_zero_not_nan() -> None:
    zeros = torch.zeros(2, 6, requires_grad=True)
    (matrix_from_rotation6d(zeros) * 0.0).sum().backward()
    assert zeros.grad is not None and torch.equal(zeros.grad, torch.zeros(2, 6))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([0.0] * 6, "zero length"),
        ([1.0, 0.0, 0.0, 0.0, 0.0, 0.0], "zero length"),
        ([1.0, 0.0, 0.0, -2.0, 0.0, 0.0], "parallel"),
        ([1.0, 0.0, 0.0, 0.0, math.nan, 0.0], "not finite"),
        ([1.0, 0.0, 0.0, 0.0, math.inf, 0.0], "not finite"),
    ],
)
def test_degenerate_6d_is_refused_with_its_index(row: list[float], reason: str) -> None:
    rotation6d = rotation6d_from_matrix(random_matrices(12, torch.float32).reshape(3, 4, 3, 3))
    check_rotation6d(rotation6d)
    rotation6d[1, 2] = torch.tensor(row)
    with pytest.raises(ValueError, match=rf"index \(1, 2\).*{reason}"):
        check_rotation6d(rotation6d)
