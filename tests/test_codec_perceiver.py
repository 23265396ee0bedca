"""The published model keeps the promises of the shipped one: exact codes, prefixes, robots known by their statistics.

Its networks are random, and so large that every part of the motion reaches the codes.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import codec_kit as kit
import synthetic
from xtok import Tokenizer
from xtok.actions.types import ChunkBatch, concatenate
from xtok.codec.layers import rotate
from xtok.codec.perceiver import PerceiverCodec

ROBOTS = (synthetic.ONE_ARM, "none")


@cache
def tokenizer() -> Tokenizer:
    codec = synthetic.fitted_codec("perceiver")
    assert isinstance(codec, PerceiverCodec)
    torch.manual_seed(1)
    for network in (codec.encoder, codec.decoder):
        for block in network.blocks:
            for layer in (block.attention.out, block.feed[2]):
                nn.init.normal_(layer.weight, std=0.3)
        nn.init.normal_(network.out.weight, std=0.3)
    batch = chunks(18, 4)
    context = codec.batch_context(batch.context)
    h_BMC = codec.latents(codec.motion(batch, context).float(), context).detach()
    codec.quantizer.initialise(h_BMC.flatten(0, 1), iterations=5)
    return Tokenizer(codec, name="perceiver")


def chunks(horizon: int, stride: int = 8) -> ChunkBatch:
    """Of two robots by turns."""
    batch = kit.chunks(horizon, stride)[:40]
    rows = [kit.renamed(batch[row : row + 1], ROBOTS[row % 2]) for row in range(len(batch))]
    return concatenate(rows)


def grid(batch: ChunkBatch) -> Tensor:
    found = tokenizer().encode(batch).grid_BMQ
    assert found is not None
    return found


@pytest.mark.parametrize("horizon", (8, 18, 64))
def test_codes_do_not_depend_on_the_batch_or_on_the_robots_in_it(horizon: int) -> None:
    batch = chunks(horizon)
    together = grid(batch)
    assert together.shape == (len(batch), -(-horizon // 4), 4)
    assert len(together.flatten(1).unique(dim=0)) > len(batch) // 2
    alone = torch.cat([grid(batch[row : row + 1]) for row in range(len(batch))])
    assert torch.equal(alone, together)
    backwards = concatenate([batch[row : row + 1] for row in reversed(range(len(batch)))])
    assert torch.equal(grid(backwards).flip(0), together)


def test_codes_do_not_depend_on_the_number_of_threads() -> None:
    batch, found, before = chunks(30), [], torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(grid(batch))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


def test_prefixes_decode_and_the_whole_is_the_forward_pass() -> None:
    batch = chunks(18)
    codes = tokenizer().encode(batch)
    motions = [tokenizer().decode(codes, batch.context, levels).delta_BTD for levels in (1, 2, 3, 4)]
    assert all(motion.isfinite().all() for motion in motions)
    assert not torch.equal(motions[0], motions[3])
    assert torch.equal(tokenizer().decode(codes, batch.context).delta_BTD, motions[3])


def test_masked_channels_may_hold_anything() -> None:
    batch = chunks(18)
    spoilt = torch.where(batch.context.mask_BD[:, None], batch.target_BTD, 7.0)
    assert torch.equal(grid(ChunkBatch(spoilt, batch.context)), grid(batch))


def test_statistics_alone_make_a_robot_and_the_tokenizer_stays(tmp_path: Path) -> None:
    before = tokenizer().digest
    wider = tokenizer().with_ranges(kit.unseen_statistics())
    assert tokenizer().digest == before != wider.digest
    assert kit.UNSEEN in wider.statistics and wider.known_by[kit.UNSEEN] == "ranges"
    batch = kit.renamed(kit.chunks(18)[:4], kit.UNSEEN)
    wider.save_pretrained(tmp_path)
    again = Tokenizer.from_pretrained(tmp_path)
    assert again.digest == wider.digest
    assert torch.equal(again.encode(batch).grid_BMQ, wider.encode(batch).grid_BMQ)  # type: ignore[arg-type]


def test_bfloat16_rounds_what_is_rotated_and_not_the_angles() -> None:
    x, time_T = torch.randn(1, 4, 64, 32, generator=torch.Generator().manual_seed(0)).bfloat16(), torch.arange(64.0)
    exact = rotate(x.double(), time_T.double())
    assert rotate(x, time_T).dtype == torch.bfloat16
    assert (rotate(x, time_T).double() - exact).abs().max() < 0.02 < 0.2 * exact.abs().max()
