"""What a tokenizer promises: exact codes, fixed lengths, prefixes, robots, the authors' method names.

# B chunks, T frames, M slots, Q levels, D channels
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

import codec_kit as kit
import synthetic
from xtok import Tokenizer
from xtok.actions.delta import from_delta, to_delta
from xtok.actions.layout import ARMS26
from xtok.actions.types import Actions, ActionTokenizer, ChunkBatch, Codes, Context, concatenate, slots

RIGHT_POSITION = ARMS26.slices["right_position"]


def deltas(batch: ChunkBatch) -> Tensor:
    context = batch.context
    assert context.anchor_BD is not None
    return to_delta(ARMS26, batch.target_BTD.double(), context.anchor_BD.double(), context.mask_BD)


def grid(codes: Codes) -> Tensor:
    assert codes.grid_BMQ is not None
    return codes.grid_BMQ


def absolute(actions: Actions) -> Tensor:
    assert actions.absolute_BTD is not None
    return actions.absolute_BTD


def position_mm(actions: Actions, batch: ChunkBatch) -> float:
    return float((absolute(actions) - batch.target_BTD)[..., RIGHT_POSITION].norm(dim=-1).mean() * 1000)


def moved_mm(batch: ChunkBatch) -> float:
    """Error of standing still at the anchor."""
    assert batch.context.anchor_BD is not None
    still = batch.context.anchor_BD[:, None] - batch.target_BTD
    return float(still[..., RIGHT_POSITION].norm(dim=-1).mean() * 1000)


def without_cache() -> Tokenizer:
    """Computes its bases anew."""
    return Tokenizer(kit.fresh_codec())


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# -- shape and exactness --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("horizon", kit.ALL_HORIZONS)
def test_every_length_has_its_fixed_number_of_codes_and_comes_back(horizon: int) -> None:
    tokenizer, batch = kit.tokenizer(), kit.chunks(horizon, stride=48)
    codes = tokenizer.encode(batch)
    assert grid(codes).shape == (len(batch), slots(horizon), tokenizer.levels)
    assert {len(tokens) for tokens in codes.tokens} == {slots(horizon) * tokenizer.levels}
    assert 0 <= grid(codes).min() and grid(codes).max() < tokenizer.codebook_size
    actions = tokenizer.decode(codes, batch.context)
    assert absolute(actions).shape == batch.target_BTD.shape
    assert not actions.failed_B.any() and actions.complete_BT is not None and actions.complete_BT.all()
    assert position_mm(actions, batch) < 0.3 * moved_mm(batch)


@pytest.mark.parametrize("horizon", (8, 18, 64))
def test_codes_do_not_depend_on_the_batch(horizon: int) -> None:
    """Alone, among many, and in another order, with fresh bases: all the same."""
    batch = kit.chunks(horizon, stride=4)[:96]
    together = grid(without_cache().encode(batch))
    assert len(together) > 40 and len(together.flatten(1).unique(dim=0)) > 30
    alone = torch.cat([grid(kit.tokenizer().encode(batch[row : row + 1])) for row in range(len(batch))])
    assert torch.equal(alone, together)
    backwards = concatenate([batch[row : row + 1] for row in reversed(range(len(batch)))])
    assert torch.equal(grid(kit.tokenizer().encode(backwards)).flip(0), together)


@pytest.mark.parametrize("horizon", (18, 64))
def test_codes_do_not_depend_on_the_number_of_threads(horizon: int) -> None:
    """Priors, networks and search, all computed anew on one thread and on two."""
    batch, found = kit.chunks(horizon, stride=8), []
    for count in (1, 2):
        with threads(count):
            found.append(grid(without_cache().encode(batch)))
    assert torch.equal(*found)


def test_codes_do_not_depend_on_other_robots_in_the_batch() -> None:
    batch = kit.mixed()
    together = grid(kit.tokenizer().encode(batch))
    for row, name in enumerate(batch.context.embodiment):
        alone = grid(kit.tokenizer().encode(batch[row : row + 1]))
        assert torch.equal(alone[0], together[row]), f"row {row}, {name}"
    actions = kit.tokenizer().decode(Codes.from_grid(together, kit.CODES), batch.context)
    for row in range(len(batch)):
        one = kit.tokenizer().decode(Codes.from_grid(together[row : row + 1], kit.CODES), batch.context[row : row + 1])
        torch.testing.assert_close(one.delta_BTD[0], actions.delta_BTD[row], atol=1e-5, rtol=0)


def test_codes_of_a_robot_that_stands_still_do_not_depend_on_the_batch() -> None:
    """Equal vectors, many of them: where two codes were equally near, rounding would choose."""
    batch = kit.chunks(20)
    assert batch.context.anchor_BD is not None
    still = ChunkBatch(batch.context.anchor_BD[:, None].repeat(1, 20, 1), batch.context)
    together = grid(kit.tokenizer().encode(still))
    alone = torch.cat([grid(kit.tokenizer().encode(still[row : row + 1])) for row in range(len(still))])
    assert torch.equal(alone, together)


def test_masked_channels_may_hold_anything() -> None:
    """Padding from 10 channels to 26 is invisible: to codes, and to motion (where it is 0)."""
    batch = kit.chunks()
    noise = torch.randn(batch.target_BTD.shape, generator=torch.Generator().manual_seed(0))
    target = torch.where(batch.context.mask_BD[:, None], batch.target_BTD, noise)
    target[0, 0, 0] = torch.nan
    assert not batch.context.mask_BD[0, 0]
    codes = kit.tokenizer().encode(ChunkBatch(target, batch.context))
    assert torch.equal(grid(codes), grid(kit.tokenizer().encode(batch)))
    decoded = kit.tokenizer().decode(codes, batch.context)
    invalid = ~batch.context.mask_BD[:, None].expand_as(target)
    assert (decoded.delta_BTD[invalid] == 0).all() and (absolute(decoded)[invalid] == 0).all()


def test_tokens_are_slot_after_slot() -> None:
    """docs/method.md#actions: all levels of slot i before slot i + 1, so that a cut sequence is a shorter motion."""
    codes = kit.tokenizer().encode(kit.chunks())
    for row, tokens in enumerate(codes.tokens):
        assert tokens.tolist() == [int(code) for slot in grid(codes)[row] for code in slot]


# -- decoding -------------------------------------------------------------------------------------------------------


def test_decoding_is_the_evaluation_forward() -> None:
    """Through the door and straight through the module."""
    tokenizer, batch = kit.tokenizer(), kit.mixed()
    codec, context = tokenizer.codec, batch.context
    batch_context = codec.batch_context(context)
    motion = codec.motion(batch, batch_context)
    codes = codec.encode(motion, batch_context, tokenizer._coder.networks)
    assert torch.equal(codes, grid(tokenizer.encode(batch)))
    delta = codec.delta(codec.decode(codes, batch_context), batch_context) * context.mask_BD[:, None]
    assert context.anchor_BD is not None
    direct = from_delta(ARMS26, delta, context.anchor_BD.double(), context.mask_BD).float()
    decoded = tokenizer.decode(tokenizer.encode(batch), context)
    torch.testing.assert_close(decoded.delta_BTD, delta.float(), atol=1e-6, rtol=0)
    torch.testing.assert_close(absolute(decoded), direct, atol=1e-6, rtol=0)


def test_training_forward_decodes_its_greedy_codes_alike() -> None:
    """One decoder for training and use: the same codes give the same motion, at every number of levels."""
    codec, batch = kit.tokenizer().codec, kit.mixed()
    batch_context = codec.batch_context(batch.context)
    motion = codec.motion(batch, batch_context)
    for levels in range(1, 5):
        with torch.no_grad():
            trained = codec(motion, batch_context, levels=levels)
        decoded = codec.decode(trained.codes_BMQ[..., :levels], batch_context)
        torch.testing.assert_close(trained.motion_BTK, decoded, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("horizon", (8, 30, 64))
def test_every_level_lowers_the_error_of_held_out_motion(horizon: int) -> None:
    tokenizer, batch = kit.tokenizer(), kit.chunks(horizon, stride=4)
    codes = tokenizer.encode(batch)
    errors = [position_mm(tokenizer.decode(codes, batch.context, levels=level), batch) for level in range(1, 5)]
    assert all(coarse > fine for coarse, fine in pairwise(errors)), errors
    assert errors[-1] < 0.5 * errors[0]


def test_a_prefix_is_the_same_by_levels_by_slicing_and_as_a_rate_point() -> None:
    tokenizer, batch = kit.tokenizer(), kit.chunks()
    codes = tokenizer.encode(batch)
    for level, point in enumerate(tokenizer.rate_points(), start=1):
        wanted = absolute(tokenizer.decode(codes, batch.context, levels=level))
        sliced = Codes.from_grid(grid(codes)[..., :level], kit.CODES)
        assert torch.equal(absolute(tokenizer.decode(sliced, batch.context)), wanted)
        assert torch.equal(grid(point.encode(batch)), grid(codes)[..., :level])
        assert torch.equal(absolute(point.decode(point.encode(batch), batch.context)), wanted)
        without_grid = replace(point.encode(batch), grid_BMQ=None)
        assert torch.equal(absolute(point.decode(without_grid, batch.context)), wanted)


def test_the_decoder_never_sees_the_target() -> None:
    """A tokenizer that never met the chunk decodes from ids and context alone, after the target was destroyed."""
    batch = kit.chunks()
    private = ChunkBatch(batch.target_BTD.clone(), batch.context)
    codes = kit.tokenizer().encode(private)
    wanted = absolute(kit.tokenizer().decode(codes, batch.context))
    private.target_BTD.fill_(torch.nan)
    bare = Codes(tuple(tokens.copy() for tokens in codes.tokens), kit.CODES)
    assert torch.equal(absolute(without_cache().decode(bare, batch.context)), wanted)
    # And a context has no room for one. A new field has to be thought about here.
    assert {field.name for field in dataclasses.fields(Context)} == {
        "layout", "anchor_BD", "mask_BD", "control_hz_B", "embodiment", "horizon",
    }  # fmt: skip


@pytest.mark.parametrize("anchored", [True, False], ids=["state", "no state"])
@pytest.mark.parametrize("robot_type", [kit.PANDA, "none"])
def test_all_four_combinations_of_state_and_embodiment(robot_type: str, anchored: bool) -> None:
    tokenizer, batch = kit.tokenizer(), kit.chunks(30)
    delta = deltas(batch)
    known = {"robot_type": robot_type, "dof_mask": batch.context.mask_BD}
    if anchored:
        known["obs_state"] = batch.context.anchor_BD
    back = tokenizer.reconstruct(delta, **known)
    assert torch.isfinite(back).all() and back.dtype == torch.float32
    error, size = ((x[..., RIGHT_POSITION]).norm(dim=-1).mean() for x in (back - delta, delta))
    assert error < 0.3 * size


def test_state_and_embodiment_are_seen_by_the_networks() -> None:
    """The four combinations above are not one: each conditions encoder and decoder."""
    codec, batch = synthetic.fitted_codec("perceiver").eval(), kit.renamed(kit.chunks(), synthetic.ONE_ARM)
    for network in codec.networks.values():  # that start at zero beside the linear path
        torch.nn.init.normal_(network.get_parameter("out.weight"))
    batch_context = codec.batch_context(batch.context)
    motion = codec.motion(batch, batch_context)
    for given in (batch_context.conditions.without_state(), batch_context.conditions.without_embodiment()):
        other = replace(batch_context, conditions=given)
        assert not torch.allclose(codec.latents(motion, other), codec.latents(motion, batch_context), atol=1e-7)
        codes = codec.encode(motion, batch_context)
        assert not torch.allclose(codec.decode(codes, other), codec.decode(codes, batch_context), atol=1e-7)


# -- the authors' method names ----------------------------------------------------------------------------------------


def test_tokenizer_and_prefixes_meet_the_protocol() -> None:
    assert all(isinstance(t, ActionTokenizer) for t in (kit.tokenizer(), *kit.tokenizer().rate_points()))
    assert (kit.tokenizer().levels, kit.tokenizer().codebook_size) == (4, kit.CODES)


def test_absolute_actions_give_the_codes_and_motion_of_chunks() -> None:
    tokenizer, batch = kit.tokenizer(), kit.chunks()
    context = batch.context
    assert context.anchor_BD is not None
    codes = tokenizer.encode_from_absolute(batch.target_BTD, context.anchor_BD, kit.PANDA)
    assert torch.equal(codes, grid(tokenizer.encode(batch)))
    decoded = tokenizer.decode_to_absolute(codes, 18, context.anchor_BD, kit.PANDA, levels=3)
    assert torch.equal(decoded, absolute(tokenizer.decode(tokenizer.encode(batch), context, levels=3)))


def test_deltas_give_the_codes_and_motion_of_chunks() -> None:
    tokenizer, batch = kit.tokenizer(), kit.chunks()
    known = {"robot_type": kit.PANDA, "obs_state": batch.context.anchor_BD}
    codes = tokenizer.encode(deltas(batch), **known)
    assert torch.equal(codes, grid(tokenizer.encode(batch)))
    decoded = tokenizer.decode(codes, target_length=18, **known)
    torch.testing.assert_close(decoded, tokenizer.decode(tokenizer.encode(batch), batch.context).delta_BTD)
    coarse = tokenizer.decode(codes, target_length=18, levels=2, **known)
    assert torch.equal(tokenizer.reconstruct(deltas(batch), levels=2, **known), coarse)


def test_numpy_variants_are_the_tensor_methods() -> None:
    tokenizer, batch = kit.tokenizer(), kit.chunks()
    state, target, delta = batch.context.anchor_BD, batch.target_BTD, deltas(batch).float()
    assert state is not None
    known, known_np = (
        {"robot_type": kit.PANDA, "obs_state": state},
        {"robot_type": kit.PANDA, "obs_state": state.numpy()},
    )
    codes = tokenizer.encode_delta(delta, **known)
    pairs = [
        (tokenizer.encode_numpy(delta.numpy(), **known_np), codes),
        (tokenizer.decode_numpy(codes.numpy(), 18, **known_np), tokenizer.decode_delta(codes, 18, **known)),
        (tokenizer.reconstruct_numpy(delta.numpy(), **known_np), tokenizer.reconstruct(delta, **known)),
        (
            tokenizer.encode_from_absolute_numpy(target.numpy(), state.numpy(), robot_type=kit.PANDA),
            tokenizer.encode_from_absolute(target, state, kit.PANDA),
        ),
        (
            tokenizer.decode_to_absolute_numpy(codes.numpy(), 18, state.numpy(), robot_type=kit.PANDA),
            tokenizer.decode_to_absolute(codes, 18, state, kit.PANDA),
        ),
    ]
    for array, tensor in pairs:
        assert isinstance(array, np.ndarray)
        np.testing.assert_array_equal(array, tensor.numpy())


def test_quantizer_major_is_the_transpose() -> None:
    tokenizer, batch = kit.tokenizer(), kit.chunks()
    state = batch.context.anchor_BD
    assert state is not None
    time_major = tokenizer.encode_from_absolute(batch.target_BTD, state, kit.PANDA)
    swapped = tokenizer.encode_from_absolute(batch.target_BTD, state, kit.PANDA, layout="quantizer_major")
    assert torch.equal(swapped, time_major.transpose(1, 2))
    decoded = tokenizer.decode_to_absolute(swapped, 18, state, kit.PANDA, layout="quantizer_major")
    assert torch.equal(decoded, tokenizer.decode_to_absolute(time_major, 18, state, kit.PANDA))


def test_saturation_names_the_channels_outside_their_range() -> None:
    batch = kit.chunks()
    usual = kit.tokenizer().saturation(batch)
    target = batch.target_BTD.clone()
    target[:, :9, RIGHT_POSITION.start] += 50.0
    found = kit.tokenizer().saturation(ChunkBatch(target, batch.context))
    assert found["right_position.0"] >= 0.5 > usual.get("right_position.0", 0.0)
    assert found.get("right_position.1", 0.0) == usual.get("right_position.1", 0.0)


# -- robots ---------------------------------------------------------------------------------------------------------


def test_statistics_alone_make_a_robot_and_leave_the_tokenizer_as_it_was() -> None:
    tokenizer, batch = kit.tokenizer(), kit.chunks(30)
    digest, codes = tokenizer.digest, grid(tokenizer.encode(batch))
    wider = tokenizer.with_ranges(kit.unseen_statistics())
    unseen = kit.renamed(batch, kit.UNSEEN)
    decoded = wider.decode(wider.encode(unseen), unseen.context)
    assert position_mm(decoded, batch) < 0.3 * moved_mm(batch)
    assert torch.equal(grid(wider.encode(batch)), codes), "the robots that it knew keep their codes"
    assert kit.UNSEEN in wider.statistics and kit.UNSEEN not in tokenizer.statistics
    assert wider.digest != digest == Tokenizer(tokenizer.codec).digest
    assert torch.equal(grid(tokenizer.encode(batch)), codes)
    with pytest.raises(ValueError, match="no robot"):
        tokenizer.encode(unseen)
    assert wider.with_ranges(kit.unseen_statistics()) is wider


def test_a_robot_with_fewer_channels_is_coded_by_those() -> None:
    """A recording without the gripper: its codes do not depend on what stands there, and it comes back as 0."""
    batch = kit.chunks()
    mask_BD = batch.context.mask_BD.clone()
    gripper = ARMS26.slices["right_gripper"]
    mask_BD[:, gripper] = False
    fewer = ChunkBatch(batch.target_BTD, replace(batch.context, mask_BD=mask_BD))
    actions = kit.tokenizer().decode(kit.tokenizer().encode(fewer), fewer.context)
    assert (absolute(actions)[..., gripper] == 0).all()
    assert position_mm(actions, batch) < 0.3 * moved_mm(batch)
