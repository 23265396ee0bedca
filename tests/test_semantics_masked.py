"""docs/method.md#losses: both forms of masked action modelling, and the trap of each."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from synthetic import corpus, fitted_codec
from xtok.codec.base import Codec
from xtok.codec.batch import BatchContext
from xtok.semantics.masked import (
    CodeMasking,
    Masking,
    code_masking_loss,
    draw_hidden,
    draw_masking,
    reconstruct_hidden,
)


def batch(codec: Codec, horizon: int = 18, count: int = 16) -> tuple[Tensor, BatchContext]:
    chunks = corpus(codec.layout.name).sample(horizon, count, torch.Generator().manual_seed(1), augment=False)
    batch_context = codec.batch_context(chunks.context)
    return codec.motion(chunks, batch_context), batch_context


def head_for(codec: Codec) -> CodeMasking:
    return CodeMasking(codec.latent_dim, codec.config.codebook_size, hidden=16, heads=2)


def gradient(codec: Codec) -> float:
    (encoder,) = (network for name, network in codec.networks.items() if "encoder" in name)
    return sum(float(p.grad.abs().sum()) for p in encoder.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", ["gaussian", "perceiver"])
def test_code_masking_reaches_the_encoder(kind: str) -> None:
    codec = fitted_codec(kind)
    motion, batch_context = batch(codec)
    masking = draw_masking((16, 5), 32, torch.Generator().manual_seed(0))
    code_masking_loss(head_for(codec), codec, codec(motion, batch_context), batch_context, masking).backward()
    assert gradient(codec) > 0


@pytest.mark.parametrize("kind", ["gaussian", "perceiver"])
def test_trap_plain_code_embeddings_train_the_head_alone(kind: str) -> None:
    codec = fitted_codec(kind)
    head = head_for(codec)
    motion, batch_context = batch(codec)
    output = codec(motion, batch_context)
    plain = replace(output, coarse_BMC=codec.quantizers[0].books_QVC[0][output.codes_BMQ[..., 0]])
    masking = draw_masking((16, 5), 32, torch.Generator().manual_seed(0))
    code_masking_loss(head, codec, plain, batch_context, masking).backward()
    assert gradient(codec) == 0
    assert head.predict.weight.grad is not None
    assert head.predict.weight.grad.abs().sum() > 0


def test_shares_of_the_masking_are_berts() -> None:
    masking = draw_masking((500, 400), 32, torch.Generator().manual_seed(0))
    predicted = masking.predicted_BM.float().mean()
    assert predicted == pytest.approx(0.15, abs=0.003)
    assert masking.mask_BM.float().mean() / predicted == pytest.approx(0.8, abs=0.01)
    assert masking.random_BM.float().mean() / predicted == pytest.approx(0.1, abs=0.01)
    assert not (masking.mask_BM & masking.random_BM).any()
    assert not ((masking.mask_BM | masking.random_BM) & ~masking.predicted_BM).any()
    assert set(masking.codes_BM.unique().tolist()) == set(range(32))


def test_only_predicted_positions_count_and_the_head_cannot_see_them() -> None:
    codec = fitted_codec().eval()
    head = head_for(codec).eval()
    motion, batch_context = batch(codec)
    output = codec(motion, batch_context)
    first = torch.zeros(16, 5, dtype=torch.bool)
    first[:, 0] = True
    masking = Masking(first, first, torch.zeros_like(first), torch.zeros(16, 5, dtype=torch.long))
    loss = code_masking_loss(head, codec, output, batch_context, masking)

    codes = output.codes_BMQ.clone()
    codes[:, 1:] = (codes[:, 1:] + 1) % 32  # targets elsewhere
    intent = output.coarse_BMC.clone()
    intent[:, 0] = 7.0  # the input that is hidden
    same = code_masking_loss(head, codec, replace(output, codes_BMQ=codes, coarse_BMC=intent), batch_context, masking)
    torch.testing.assert_close(loss, same, rtol=0, atol=0)

    logits = head(output.coarse_BMC.float(), torch.zeros_like(output.coarse_BMC).float(), masking)[:, 0]
    expected = torch.nn.functional.cross_entropy(logits, output.codes_BMQ[:, 0, 0])  # the mean over 16 positions
    torch.testing.assert_close(loss, expected)
    nothing = Masking(*(torch.zeros_like(t) for t in (first, first, first, masking.codes_BM)))
    assert code_masking_loss(head, codec, output, batch_context, nothing) == 0


def test_whole_slots_and_whole_parts_are_hidden() -> None:
    codec = fitted_codec()
    _, batch_context = batch(codec, horizon=18, count=400)
    hidden_BTK = draw_hidden(batch_context, codec.layout, torch.Generator().manual_seed(0))
    assert hidden_BTK.shape == (400, 18, 20)
    in_slot = hidden_BTK[:, :16].unflatten(1, (4, 4))
    assert (in_slot.all(2) == in_slot.any(2)).all()
    rotation = hidden_BTK[..., 3:6]  # left rotation vector
    assert (rotation.all(-1) == rotation.any(-1)).all()
    slots_hidden = hidden_BTK.all(dim=-1)[:, ::4].float().mean()
    parts_hidden = hidden_BTK.all(dim=1)[:, [0, 3, 6, 7, 10, 13]].float().mean()
    assert slots_hidden == pytest.approx(0.15, abs=0.03)
    assert parts_hidden == pytest.approx(0.15, abs=0.03)
    assert (hidden_BTK.all(dim=1)[:, 0] != hidden_BTK.all(dim=1)[:, 3]).any()  # position and rotation by themselves


def test_joints_are_hidden_one_by_one() -> None:
    codec = fitted_codec(layout_name="joints")
    _, batch_context = batch(codec)
    whole = draw_hidden(batch_context, codec.layout, torch.Generator().manual_seed(0)).all(dim=1)
    assert 0 < whole[:, :6].sum() < whole[:, :6].numel()
    assert whole[:, :6].float().var(dim=1).max() > 0


@pytest.mark.parametrize("kind", ["gaussian", "perceiver"])
def test_hidden_values_have_no_influence(kind: str) -> None:
    codec = fitted_codec(kind)
    for parameter in codec.parameters():  # zero-initialised branches would hide a leak
        torch.nn.init.normal_(parameter, std=0.05)
    codec.eval()
    motion, batch_context = batch(codec)
    hidden = (
        draw_hidden(batch_context, codec.layout, torch.Generator().manual_seed(0))
        & batch_context.conditions.mask_BK[:, None]
    )
    other = torch.where(hidden, motion + 3.0, motion)
    assert hidden.any()
    first, second = (reconstruct_hidden(codec, m, batch_context, hidden) for m in (motion, other))
    assert torch.equal(first.h_BMC, second.h_BMC)
    assert torch.equal(first.motion_BTK, second.motion_BTK)
    seen = torch.where(~hidden & batch_context.conditions.mask_BK[:, None], motion + 3.0, motion)
    assert not torch.equal(reconstruct_hidden(codec, seen, batch_context, hidden).h_BMC, first.h_BMC)


def test_masked_motion_moves_no_book_and_counts_as_no_use() -> None:
    codec = fitted_codec("perceiver").train()
    motion, batch_context = batch(codec)
    before = {name: value.clone() for name, value in codec.state_dict().items()}
    hidden = draw_hidden(batch_context, codec.layout, torch.Generator().manual_seed(0))
    output = reconstruct_hidden(codec, motion, batch_context, hidden)
    assert all(torch.equal(before[name], value) for name, value in codec.state_dict().items())
    assert all(quantizer.training for quantizer in codec.quantizers)
    (output.motion_BTK - motion).abs().mean().backward()
    assert gradient(codec) > 0
    codec(motion, batch_context)
    assert not torch.equal(before["quantizer.books_QVC"], codec.quantizers[0].books_QVC)
