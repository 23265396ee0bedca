"""Errors against motion that was displaced by known amounts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import evaluate_kit as kit
from xtok.actions.layout import ARMS26, JOINTS
from xtok.actions.rotation import matrix_from_rotation6d, matrix_from_rotvec, rotation6d_from_matrix
from xtok.actions.types import Actions, ChunkBatch
from xtok.evaluate import reconstruction
from xtok.evaluate.batches import decode, encode, target_delta
from xtok.evaluate.coded import Coded
from xtok.evaluate.errors import measure

POSITION, ROTATION, GRIPPER = (ARMS26.slices[f"right_{part}"] for part in ("position", "rotation", "gripper"))


def exact(chunks: ChunkBatch) -> Actions:
    return Actions(target_delta(chunks), chunks.target_BTD, torch.zeros(len(chunks), dtype=torch.bool))


def test_exact_motion_has_no_error() -> None:
    chunks = kit.chunks(ARMS26, horizon=16)
    errors = measure(chunks, exact(chunks), kit.statistics(ARMS26))
    assert errors.l1 == pytest.approx(0, abs=1e-6)
    assert errors.position_mm == pytest.approx(0, abs=1e-4)
    assert errors.rotation_deg == pytest.approx(0, abs=0.05)  # float32
    assert errors.gripper == 0
    assert errors.joint is None


def test_millimetres_are_euclidean_and_degrees_geodesic() -> None:
    chunks = kit.chunks(ARMS26, horizon=8)
    actions = exact(chunks)
    delta_BTD = actions.delta_BTD.clone()
    delta_BTD[..., POSITION] += torch.tensor([0.003, 0.0, -0.004])
    turned = matrix_from_rotation6d(delta_BTD[..., ROTATION]) @ matrix_from_rotvec(torch.tensor([0.0, 0.05, 0.0]))
    delta_BTD[..., ROTATION] = rotation6d_from_matrix(turned)
    delta_BTD[..., GRIPPER] -= 0.25
    errors = measure(chunks, replace(actions, delta_BTD=delta_BTD), kit.statistics(ARMS26))
    assert errors.position_mm == pytest.approx(5.0, rel=1e-3)
    assert errors.rotation_deg == pytest.approx(torch.rad2deg(torch.tensor(0.05)).item(), rel=1e-3)
    assert errors.gripper == pytest.approx(0.25, rel=1e-4)


def test_joints_have_neither_millimetres_nor_degrees() -> None:
    chunks = kit.chunks(JOINTS, horizon=8)
    actions = exact(chunks)
    delta_BTD = actions.delta_BTD.clone()
    delta_BTD[..., :6] += 0.02
    errors = measure(chunks, replace(actions, delta_BTD=delta_BTD), kit.statistics(JOINTS))
    assert errors.joint == pytest.approx(0.02, rel=1e-3)
    assert (errors.position_mm, errors.rotation_deg) == (None, None)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 5), st.floats(-3.0, 3.0))
def test_l1_is_a_mean_over_valid_channels_and_is_not_clipped(channel: int, offset: float) -> None:
    chunks, statistics = kit.chunks(JOINTS, horizon=8, episodes=1, stride=20), kit.statistics(JOINTS)
    actions = exact(chunks)
    width = statistics["cr5"].high_D[channel] - statistics["cr5"].low_D[channel]
    delta_BTD = actions.delta_BTD.clone()
    delta_BTD[..., channel] += offset
    delta_BTD[..., 30] += 100.0  # not a joint of this robot
    errors = measure(chunks, replace(actions, delta_BTD=delta_BTD), statistics)
    assert errors.l1 == pytest.approx(abs(offset) * 2 / width / 7, rel=1e-3, abs=1e-5)  # six joints and a gripper


def test_a_row_that_failed_counts_as_standing_still() -> None:
    chunks, statistics = kit.chunks(ARMS26, horizon=8), kit.statistics(ARMS26)
    first = torch.arange(len(chunks)) == 0
    broken = Actions(torch.full_like(chunks.target_BTD, float("nan")), None, first)
    delta_BTD = torch.where(first[:, None, None], broken.delta_BTD, target_delta(chunks))
    errors = measure(chunks, replace(broken, delta_BTD=delta_BTD), statistics)
    moved_mm = 1000 * target_delta(chunks)[0, :, POSITION].norm(dim=-1).mean().item()
    assert errors.position_mm == pytest.approx(moved_mm / len(chunks), rel=1e-3)
    assert errors.rotation_deg is not None and 0 < errors.rotation_deg < 180


def test_run_gives_each_error_once_and_counts_failures() -> None:
    chunks, statistics = kit.chunks(ARMS26, horizon=10), kit.statistics(ARMS26)
    answers = dict(reconstruction.run(Coded(kit.StepTokenizer(statistics), chunks), statistics))
    assert set(answers) == {"l1", "position_mm", "rotation_deg", "gripper", "joint", "decode_failures"}
    assert answers["decode_failures"] == 0


def test_batches_change_nothing() -> None:
    chunks, tokenizer = kit.chunks(ARMS26, horizon=9), kit.StepTokenizer(kit.statistics(ARMS26))
    codes = encode(tokenizer, chunks)
    pieces = encode(tokenizer, chunks, batch_size=7)
    assert codes.grid_BMQ is not None and pieces.grid_BMQ is not None
    assert torch.equal(codes.grid_BMQ, pieces.grid_BMQ)
    assert all((a == b).all() for a, b in zip(codes.tokens, pieces.tokens, strict=True))
    whole, parts = decode(tokenizer, codes, chunks.context), decode(tokenizer, pieces, chunks.context, batch_size=7)
    assert torch.equal(whole.delta_BTD, parts.delta_BTD)
    assert whole.absolute_BTD is not None and parts.absolute_BTD is not None
    assert torch.equal(whole.absolute_BTD, parts.absolute_BTD)


def test_what_is_missing_is_named() -> None:
    chunks = kit.chunks(ARMS26, horizon=8)
    with pytest.raises(ValueError, match=r"no statistics for embodiment 'Franka'; there are \[\]"):
        measure(chunks, exact(chunks), {})
    with pytest.raises(ValueError, match="without an anchor"):
        target_delta(replace(chunks, context=replace(chunks.context, anchor_BD=None)))
