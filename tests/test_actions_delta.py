"""Deltas and their inverse, the tangent space and its inverse, and motion that is refused.

# B batch, T frames, D channels
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import Tensor

from xtok.actions.delta import (
    from_delta,
    from_tangent,
    tangent_channel_names,
    tangent_mask,
    tangent_width,
    to_delta,
    to_tangent,
)
from xtok.actions.layout import ARMS26, JOINTS, Layout
from xtok.actions.rotation import geodesic_rad, matrix_from_rotation6d, rotation6d_from_matrix
from xtok.actions.validate import check_actions

LAYOUTS = pytest.mark.parametrize("layout", [ARMS26, JOINTS], ids=lambda layout: layout.name)
seeds = st.integers(0, 10_000)


def random_poses(layout: Layout, shape: tuple[int, ...], seed: int) -> Tensor:
    """Absolute actions [*shape, D], float64, with true rotations."""
    rng = np.random.default_rng(seed)
    absolute = torch.from_numpy(rng.normal(size=(*shape, layout.width)))
    for _, channels in layout.of_kind("rotation6d"):
        matrices = torch.from_numpy(Rotation.random(math.prod(shape), random_state=rng).as_matrix())
        absolute[..., channels] = rotation6d_from_matrix(matrices).reshape(*shape, 6)
    return absolute


def random_masks(layout: Layout, B: int, seed: int) -> Tensor:
    """[B, D], whole groups at a time, at least one of them valid."""
    rng = np.random.default_rng(seed)
    mask_BD = torch.zeros(B, layout.width, dtype=torch.bool)
    for row in mask_BD:
        for group in rng.permutation(len(layout.groups))[: rng.integers(1, len(layout.groups) + 1)]:
            row[layout.slices[layout.groups[group].name]] = True
    return mask_BD


@LAYOUTS
@given(seed=seeds)
def test_from_delta_inverts_to_delta(layout: Layout, seed: int) -> None:
    absolute_BTD, anchor_BD = random_poses(layout, (3, 5), seed), random_poses(layout, (3,), seed + 1)
    mask_BD = random_masks(layout, 3, seed)
    delta_BTD = to_delta(layout, absolute_BTD, anchor_BD, mask_BD)
    back_BTD = from_delta(layout, delta_BTD, anchor_BD, mask_BD)
    assert torch.allclose(back_BTD, torch.where(mask_BD[:, None], absolute_BTD, 0.0), atol=1e-12)
    again_BTD = to_delta(layout, back_BTD, anchor_BD, mask_BD)
    assert torch.allclose(again_BTD, delta_BTD, atol=1e-12)
    assert torch.equal(delta_BTD != 0, (delta_BTD != 0) & mask_BD[:, None])


@LAYOUTS
@given(seed=seeds)
def test_from_tangent_inverts_to_tangent(layout: Layout, seed: int) -> None:
    delta_BTD = random_poses(layout, (2, 4), seed)
    tangent_BTK = to_tangent(layout, delta_BTD)
    assert tangent_BTK.shape == (2, 4, tangent_width(layout))
    assert torch.allclose(from_tangent(layout, tangent_BTK), delta_BTD, atol=1e-9)


def test_each_kind_takes_its_own_delta() -> None:
    absolute_BTD, anchor_BD = random_poses(ARMS26, (2, 3), 0), random_poses(ARMS26, (2,), 1)
    delta_BTD = to_delta(ARMS26, absolute_BTD, anchor_BD, torch.ones(2, 26, dtype=torch.bool))
    position = ARMS26.slices["left_position"]
    assert torch.equal(delta_BTD[..., position], absolute_BTD[..., position] - anchor_BD[:, None, position])
    for name in ("left_gripper", "right_gripper", "base_velocity", "lift_height", "head"):
        assert torch.equal(delta_BTD[..., ARMS26.slices[name]], absolute_BTD[..., ARMS26.slices[name]])
    right = ARMS26.slices["right_rotation"]
    here = Rotation.from_matrix(matrix_from_rotation6d(anchor_BD[1, right]).numpy())
    there = Rotation.from_matrix(matrix_from_rotation6d(absolute_BTD[1, 2, right]).numpy())
    expected = (here.inv() * there).as_matrix()
    assert np.allclose(matrix_from_rotation6d(delta_BTD[1, 2, right]).numpy(), expected, atol=1e-12)


def test_no_motion_is_zero_and_the_identity() -> None:
    anchor_BD = random_poses(ARMS26, (2,), 3)
    delta_BTD = to_delta(ARMS26, anchor_BD[:, None], anchor_BD, torch.ones(2, 26, dtype=torch.bool))
    assert torch.allclose(delta_BTD[..., ARMS26.slices["left_position"]], torch.zeros(3, dtype=torch.float64))
    identity = torch.tensor([1.0, 0, 0, 0, 1, 0], dtype=torch.float64)
    assert torch.allclose(delta_BTD[..., ARMS26.slices["left_rotation"]], identity, atol=1e-12)


@given(seeds)
def test_a_turned_base_frame_leaves_the_rotation_delta_alone(seed: int) -> None:
    absolute_BTD, anchor_BD = random_poses(ARMS26, (1, 2), seed), random_poses(ARMS26, (1,), seed + 1)
    mask_BD = torch.ones(1, 26, dtype=torch.bool)
    channels = ARMS26.slices["right_rotation"]
    before = to_delta(ARMS26, absolute_BTD, anchor_BD, mask_BD)[..., channels]
    turn_33 = torch.from_numpy(Rotation.random(random_state=seed).as_matrix())
    for pose in (absolute_BTD, anchor_BD):
        pose[..., channels] = rotation6d_from_matrix(turn_33 @ matrix_from_rotation6d(pose[..., channels]))
    assert torch.allclose(to_delta(ARMS26, absolute_BTD, anchor_BD, mask_BD)[..., channels], before, atol=1e-12)


def test_masked_channels_are_zero_whatever_they_hold() -> None:
    absolute_BTD, anchor_BD = random_poses(ARMS26, (1, 2), 0), random_poses(ARMS26, (1,), 1)
    mask_BD = torch.zeros(1, 26, dtype=torch.bool)
    mask_BD[:, ARMS26.slices["right_position"]] = True
    absolute_BTD[..., ~mask_BD[0]] = math.nan
    anchor_BD[..., ~mask_BD[0]] = math.nan
    delta_BTD = to_delta(ARMS26, absolute_BTD, anchor_BD, mask_BD)
    assert delta_BTD.isfinite().all()
    assert torch.equal(from_delta(ARMS26, delta_BTD, anchor_BD, mask_BD) != 0, mask_BD[:, None].expand(1, 2, 26))


def test_tangent_of_a_rotation_is_as_long_as_its_angle_and_masked_ones_are_zero() -> None:
    delta_BTD = random_poses(ARMS26, (2, 3), 5)
    delta_BTD[0, :, ARMS26.slices["left_rotation"]] = 0.0
    tangent_BTK = to_tangent(ARMS26, delta_BTD)
    names = tangent_channel_names(ARMS26)
    left = [names.index(f"left_rotation.r{axis}") for axis in "xyz"]
    angle = geodesic_rad(
        torch.eye(3, dtype=torch.float64), matrix_from_rotation6d(delta_BTD[1, :, ARMS26.slices["left_rotation"]])
    )
    assert torch.allclose(tangent_BTK[1][:, left].norm(dim=-1), angle, atol=1e-12)
    assert torch.equal(tangent_BTK[0][:, left], torch.zeros(3, 3, dtype=torch.float64))


def test_tangent_names_and_mask_follow_the_layout() -> None:
    names = tangent_channel_names(ARMS26)
    assert len(names) == tangent_width(ARMS26) == 20
    assert names[:8] == (*(f"left_position.{i}" for i in range(3)), *(f"left_rotation.r{a}" for a in "xyz"),
                         "left_gripper", "right_position.0")  # fmt: skip
    assert tangent_width(JOINTS) == 64 and tangent_channel_names(JOINTS) == JOINTS.channel_names
    mask_BD = torch.zeros(2, 26, dtype=torch.bool)
    mask_BD[1, ARMS26.slices["right_rotation"]] = True
    valid = tangent_mask(ARMS26, mask_BD)
    assert not valid[0].any() and [n for n, v in zip(names, valid[1], strict=True) if v] == [
        "right_rotation.rx", "right_rotation.ry", "right_rotation.rz"
    ]  # fmt: skip
    mask_BD[1, ARMS26.slices["right_rotation"].start] = False
    with pytest.raises(ValueError, match="right_rotation"):
        tangent_mask(ARMS26, mask_BD)


def test_wrong_shapes_say_what_was_expected() -> None:
    mask_BD = torch.ones(2, 26, dtype=torch.bool)
    with pytest.raises(ValueError, match="7 channels; layout 'arms26' expects 26"):
        to_delta(ARMS26, torch.zeros(2, 4, 7), torch.zeros(2, 26), mask_BD)
    with pytest.raises(ValueError, match=r"anchor has shape \(1, 26\); expected \[2, 26\]"):
        from_delta(ARMS26, torch.zeros(2, 4, 26), torch.zeros(1, 26), mask_BD)
    with pytest.raises(ValueError, match="tangent has 26 channels; layout 'arms26' expects 20"):
        from_tangent(ARMS26, torch.zeros(2, 26))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_bad_values_are_refused_by_channel_and_index_unless_masked(value: float) -> None:
    absolute_BTD = random_poses(ARMS26, (2, 3), 0)
    mask_BD = torch.ones(2, 26, dtype=torch.bool)
    check_actions(ARMS26, absolute_BTD, mask_BD[:, None])
    absolute_BTD[1, 2, ARMS26.slices["head"].start] = value
    with pytest.raises(ValueError, match=rf"'head.0' is {value} at index \(1, 2\)"):
        check_actions(ARMS26, absolute_BTD, mask_BD[:, None])
    mask_BD[1, ARMS26.slices["head"]] = False
    check_actions(ARMS26, absolute_BTD, mask_BD[:, None])


def test_degenerate_rotations_are_refused_by_group_and_index_unless_masked() -> None:
    absolute_BTD = random_poses(ARMS26, (2, 3), 0)
    mask_BD = torch.ones(2, 26, dtype=torch.bool)
    absolute_BTD[1, 2, ARMS26.slices["left_rotation"]] = 0.0
    with pytest.raises(ValueError, match=r"'left_rotation'.*index \(1, 2\).*zero length"):
        check_actions(ARMS26, absolute_BTD, mask_BD[:, None])
    mask_BD[1, ARMS26.slices["left_rotation"]] = False
    check_actions(ARMS26, absolute_BTD, mask_BD[:, None])
    with pytest.raises(ValueError, match="layout 'joints' expects 64"):
        check_actions(JOINTS, absolute_BTD, mask_BD[:, None])
