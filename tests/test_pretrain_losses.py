"""docs/method.md#losses (L_rec): known answers, masks, gradients, and no loss without a weight."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.fft import dct
from torch import Tensor

from synthetic import corpus, fitted_codec
from xtok.actions.delta import tangent_width
from xtok.codec.base import Codec
from xtok.codec.batch import BatchContext
from xtok.codec.output import CodecOutput
from xtok.engine.loop import weighted_sum
from xtok.pretrain.losses import WEIGHTS, dct_matrix, masked_mean, reconstruction_losses

REC = {"position", "rotation", "commitment", "dct", "velocity"}


def batch(codec: Codec, horizon: int = 12) -> tuple[Tensor, BatchContext]:
    chunks = corpus(codec.layout.name).sample(horizon, 8, torch.Generator().manual_seed(1), augment=False)
    batch_context = codec.batch_context(chunks.context)
    return codec.motion(chunks, batch_context), batch_context


def decoded(codec: Codec, motion: Tensor, commitment: float = 0.0) -> CodecOutput:
    nothing = torch.zeros(())
    return CodecOutput(motion, nothing, nothing, nothing, nothing.long(), torch.tensor(commitment))


def test_a_perfect_decoding_costs_nothing_but_commitment() -> None:
    codec = fitted_codec()
    motion, batch_context = batch(codec)
    losses = reconstruction_losses(codec, decoded(codec, motion, 0.3), motion, batch_context)
    assert losses.keys() == REC
    expected = {**dict.fromkeys(REC, 0.0), "commitment": 0.3}
    assert {name: float(value) for name, value in losses.items()} == pytest.approx(expected)
    assert all(value.dtype == torch.float32 for value in losses.values())


def test_known_answers_of_a_constant_error() -> None:
    codec = fitted_codec()
    motion, batch_context = batch(codec)
    error = torch.zeros(tangent_width(codec.layout))
    error[7:10] = 0.1  # right position: of the 4 straight channels of each arm
    losses = reconstruction_losses(codec, decoded(codec, motion + error), motion, batch_context)
    mask_BK = batch_context.conditions.mask_BK
    arms = mask_BK[:, [0, 7]].sum(dim=1).double()
    share = 3 * len(mask_BK) / float(4 * arms.sum())
    assert float(losses["position"]) == pytest.approx(0.1 * share, rel=1e-5)
    assert float(losses["velocity"]) == pytest.approx(0.0, abs=1e-6)
    assert float(losses["rotation"]) == pytest.approx(0.0, abs=1e-4)
    # Of a constant only the first cosine is left: sqrt(T) times it, in one of T rows.
    of_all = 3 * len(mask_BK) / float(mask_BK.sum())
    assert float(losses["dct"]) == pytest.approx(0.1 * of_all * math.sqrt(12) / 12, rel=1e-4)


def test_rotation_is_the_angle_in_rad_between_physical_rotations() -> None:
    codec = fitted_codec()
    motion, batch_context = batch(codec)
    still = torch.zeros_like(motion)
    turned = still.clone()
    for robot in batch_context.robots:
        scale = torch.ones(motion.shape[-1], dtype=torch.float64)
        scale[robot.channels] = robot.prior.scale_K
        for first in (3, 10):  # left and right rotation vectors: .3 rad about y
            turned[robot.rows, :, first + 1] = 0.3 / scale[first + 1]
    losses = reconstruction_losses(codec, decoded(codec, turned), still, batch_context)
    assert float(losses["rotation"]) == pytest.approx(0.3, abs=1e-5)
    assert float(losses["position"]) == 0.0


@pytest.mark.parametrize("layout_name", ["arms26", "joints"])
def test_values_that_do_not_exist_change_no_loss(layout_name: str) -> None:
    codec = fitted_codec(layout_name=layout_name)
    motion, batch_context = batch(codec)
    guess = motion + torch.randn(motion.shape, generator=torch.Generator().manual_seed(0)) * 0.1
    absent = ~batch_context.conditions.mask_BK[:, None]
    assert absent.any()
    losses = reconstruction_losses(codec, decoded(codec, guess), motion, batch_context)
    junk = torch.where(absent, 1e3, guess)
    again = reconstruction_losses(codec, decoded(codec, junk), motion, batch_context)
    for name, value in losses.items():
        assert torch.isfinite(value)
        torch.testing.assert_close(again[name], value, rtol=1e-6, atol=1e-7, msg=name)


def test_a_layout_without_rotations_keeps_the_keys() -> None:
    codec = fitted_codec(layout_name="joints")
    motion, batch_context = batch(codec)
    losses = reconstruction_losses(codec, decoded(codec, motion + 0.1), motion, batch_context)
    assert losses.keys() == REC
    assert losses["rotation"] == 0
    assert float(losses["position"]) == pytest.approx(0.1)


def test_gradients_are_finite_where_the_decoding_is_exact() -> None:
    codec = fitted_codec()
    motion, batch_context = batch(codec)
    for start in (motion, torch.zeros_like(motion)):
        guess = start.clone().requires_grad_()
        losses = reconstruction_losses(codec, decoded(codec, guess), start, batch_context)
        torch.stack(list(losses.values())).sum().backward()
        assert guess.grad is not None
        assert torch.isfinite(guess.grad).all()
    guess = (motion + 0.1).requires_grad_()
    reconstruction_losses(codec, decoded(codec, guess), motion, batch_context)["rotation"].backward()
    assert guess.grad is not None
    assert guess.grad.abs().sum() > 0


@pytest.mark.parametrize("n", [8, 13, 64])
def test_dct_is_scipys(n: int) -> None:
    x = np.random.default_rng(0).normal(size=(n, 3))
    np.testing.assert_allclose(dct_matrix(n).numpy() @ x, dct(x, axis=0, norm="ortho"), atol=1e-12)


def test_masked_mean_divides_by_what_is_there() -> None:
    value = torch.tensor([[1.0, 3.0, float("nan")], [5.0, float("inf"), 7.0]])
    assert masked_mean(value, torch.isfinite(value)) == 4.0
    assert masked_mean(value, torch.zeros_like(value, dtype=torch.bool)) == 0.0


def test_every_loss_has_a_weight_and_every_weight_a_loss() -> None:
    losses = {name: torch.tensor(2.0) for name in WEIGHTS}
    assert float(weighted_sum(losses, WEIGHTS)) == pytest.approx(2 * sum(WEIGHTS.values()))
    with pytest.raises(ValueError, match=r"without a weight: \['typo'\]"):
        weighted_sum({**losses, "typo": torch.tensor(1.0)}, WEIGHTS)
    with pytest.raises(ValueError, match=r"without a loss: \['dct'\]"):
        weighted_sum({name: value for name, value in losses.items() if name != "dct"}, WEIGHTS)
