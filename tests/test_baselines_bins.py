"""Uniform bins: known answers, bounded error, counted saturation.

# T frames
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import evaluate_kit as kit
from xtok.actions.delta import to_delta
from xtok.actions.layout import ARMS26, JOINTS, Layout
from xtok.actions.statistics import Statistics, normalise_batch
from xtok.actions.types import ActionTokenizer, ChunkBatch, Codes, Context
from xtok.baselines.bins import BinTokenizer

T = 8
LAYOUTS = pytest.mark.parametrize("layout", [ARMS26, JOINTS], ids=lambda layout: layout.name)


def one_joint(values: list[float]) -> tuple[dict[str, Statistics], ChunkBatch]:
    """A chunk of one joint whose normalised values are these."""
    mask_D = np.arange(JOINTS.width) == 0
    unit_D = np.ones(JOINTS.width)
    statistics = Statistics("joints", JOINTS.digest, "cr5", 20.0, 64, 1, mask_D, -unit_D, unit_D)
    target_BTD = torch.zeros(1, len(values), JOINTS.width)
    target_BTD[0, :, 0] = torch.tensor(values)
    anchor_BD, mask_BD = torch.zeros(1, JOINTS.width), torch.tensor(mask_D)[None]
    context = Context(JOINTS, anchor_BD, mask_BD, torch.tensor([20.0]), ("cr5",), len(values))
    return {"cr5": statistics}, ChunkBatch(target_BTD, context)


def test_known_answer_and_counted_saturation() -> None:
    statistics, chunks = one_joint([-1.0, -0.999, -0.01, 0.0, 0.999, 1.0, 1.5, -2.0])
    tokenizer = BinTokenizer(statistics)
    codes = tokenizer.encode(chunks)
    assert codes.tokens[0].tolist() == [0, 0, 126, 128, 255, 255, 255, 0]
    assert codes.vocab_size == 256 and tokenizer.saturated == 2
    decoded = tokenizer.decode(codes, chunks.context).delta_BTD[0, :, 0]
    assert decoded[:2].tolist() == pytest.approx([1 / 256 - 1] * 2)  # the centre of the first bin


@LAYOUTS
def test_error_of_a_round_trip_is_half_a_bin(layout: Layout) -> None:
    chunks, statistics = kit.chunks(layout, T), kit.statistics(layout)
    context = chunks.context
    assert context.anchor_BD is not None
    tokenizer = BinTokenizer(statistics)
    codes = tokenizer.encode(chunks)
    valid = context.mask_BD.sum(dim=1)
    assert [len(sequence) for sequence in codes.tokens] == (T * valid).tolist()
    actions = tokenizer.decode(codes, context)
    assert not actions.failed_B.any()
    delta_BTD = to_delta(layout, chunks.target_BTD, context.anchor_BD, context.mask_BD)
    want_BTD = normalise_batch(statistics, context, delta_BTD)
    off_BTD = (normalise_batch(statistics, context, actions.delta_BTD) - want_BTD.clamp(-1, 1)).abs()
    straight_D = torch.tensor([kind != "rotation6d" for kind in layout.channel_kinds])  # rotations are made proper
    assert off_BTD[..., straight_D].max() <= 1 / 256 + 1e-5 and off_BTD.max() <= 2 / 256
    for _, channels in layout.of_kind("rotation6d"):
        columns = actions.delta_BTD[context.mask_BD[:, channels].all(dim=1)][..., channels].unflatten(-1, (2, 3))
        assert torch.allclose(columns @ columns.mT, torch.eye(2).expand(*columns.shape[:-2], 2, 2), atol=1e-5)
    assert tokenizer.saturated == int((want_BTD.abs() > 1).sum())
    assert torch.equal(tokenizer.decode(codes, replace(context, anchor_BD=None)).delta_BTD, actions.delta_BTD)


@pytest.mark.parametrize("tokens", [[], [1] * (T - 1), [1] * (T + 1), [1] * (T - 1) + [256], [-1] + [1] * (T - 1)])
def test_malformed_sequences_mark_the_row(tokens: list[int]) -> None:
    statistics, chunks = one_joint([0.0] * T)
    codes = Codes((np.array(tokens, dtype=np.int64),), 256)
    actions = BinTokenizer(statistics).decode(codes, chunks.context)
    assert actions.failed_B.tolist() == [True] and not actions.delta_BTD.any()


def test_one_wrong_token_moves_one_value_only() -> None:
    chunks, tokenizer = kit.chunks(JOINTS, T), BinTokenizer(kit.statistics(JOINTS))
    codes = tokenizer.encode(chunks)
    before = tokenizer.decode(codes, chunks.context)
    codes.tokens[2][5] = (codes.tokens[2][5] + 100) % 256
    after = tokenizer.decode(codes, chunks.context)
    assert not after.failed_B.any() and int((after.delta_BTD != before.delta_BTD).sum()) == 1


def test_it_meets_the_protocol() -> None:
    tokenizer = BinTokenizer(kit.statistics(ARMS26), bins=64)
    assert isinstance(tokenizer, ActionTokenizer) and (tokenizer.name, tokenizer.vocab_size) == ("bins", 64)
    assert tokenizer.rate_points() == [tokenizer]
    assert max(sequence.max() for sequence in tokenizer.encode(kit.chunks(ARMS26, T)).tokens) < 64


def test_misuse_says_what_to_do() -> None:
    chunks, statistics = kit.chunks(JOINTS, T), kit.statistics(JOINTS)
    tokenizer = BinTokenizer(statistics)
    with pytest.raises(ValueError, match="expected 2 or more"):
        BinTokenizer(statistics, bins=1)
    with pytest.raises(ValueError, match="without an anchor"):
        tokenizer.encode(replace(chunks, context=replace(chunks.context, anchor_BD=None)))
    with pytest.raises(ValueError, match="expected one each"):
        tokenizer.decode(tokenizer.encode(chunks)[slice(0, 1)], chunks.context)
    chunks.target_BTD[0, 3, 60] = float("nan")
    with pytest.raises(ValueError, match=r"'gripper.0' is nan at index \(0, 3\)"):
        tokenizer.encode(chunks)
