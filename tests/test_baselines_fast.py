"""FAST: known answers, bounded error, and its known fault in the open.

# B chunks, T frames, D channels, C valid channels
"""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from scipy.fft import dct
from scipy.spatial.transform import Rotation
from torch import Tensor

import evaluate_kit as kit
from xtok.actions.delta import from_delta, to_delta
from xtok.actions.layout import ARMS26, JOINTS, Layout
from xtok.actions.statistics import Statistics, normalise_batch
from xtok.actions.types import ActionTokenizer, ChunkBatch, Codes, Context, concatenate
from xtok.baselines.common import Form, forms_of, normalised_chunks, rest_of, to_actions
from xtok.baselines.fast import FastTokenizer, cosines, fast_sweep, finest_scale

T = 16
FORMS = get_args(Form)
LAYOUTS = pytest.mark.parametrize("layout", [ARMS26, JOINTS], ids=lambda layout: layout.name)


def fitted(layout: Layout, scale: float = 10.0) -> FastTokenizer:
    return FastTokenizer(kit.statistics(layout), scale).fit([kit.chunks(layout, T, stride=2)])


def normalised(statistics: dict[str, Statistics], chunks: ChunkBatch) -> Tensor:
    context = chunks.context
    assert context.anchor_BD is not None
    delta_BTD = to_delta(context.layout, chunks.target_BTD, context.anchor_BD, context.mask_BD)
    return normalise_batch(statistics, context, delta_BTD)


def two_joint_chunks(coefficients_BTC: np.ndarray, scale: float) -> tuple[dict[str, Statistics], ChunkBatch]:
    """Chunks of two joints whose scaled cosine coefficients are exactly these."""
    B, horizon, C = coefficients_BTC.shape
    mask_D = np.zeros(JOINTS.width, dtype=bool)
    mask_D[:C] = True
    unit_D = np.ones(JOINTS.width)
    statistics = Statistics("joints", JOINTS.digest, "cr5", 20.0, 64, 1, mask_D, -unit_D, unit_D)  # delta = normalised
    frequencies = np.arange(horizon)
    basis_FT = np.cos(np.pi / horizon * (np.arange(horizon) + 0.5) * frequencies[:, None]) * np.sqrt(2 / horizon)
    basis_FT[0] /= np.sqrt(2)
    target_BTD = torch.zeros(B, horizon, JOINTS.width)
    target_BTD[..., :C] = torch.from_numpy(np.einsum("bfc,ft->btc", coefficients_BTC / scale, basis_FT))
    mask_BD = torch.from_numpy(mask_D).expand(B, -1)
    context = Context(JOINTS, torch.zeros(B, JOINTS.width), mask_BD, torch.full((B,), 20.0), ("cr5",) * B, horizon)
    return {"cr5": statistics}, ChunkBatch(target_BTD, context)


def test_known_answer_lowest_frequency_of_all_channels_first() -> None:
    coefficients_BTC = np.zeros((1, 8, 2))
    coefficients_BTC[0, 0] = [3, -2]
    coefficients_BTC[0, 1] = [1, 0]
    statistics, chunks = two_joint_chunks(coefficients_BTC, scale=10.0)
    tokenizer = FastTokenizer(statistics, scale=10.0, vocab_size=6).fit([chunks])  # six symbols: no room for a merge
    codes = tokenizer.encode(chunks)
    assert (np.array(codes.tokens[0]) - 2).tolist() == [3, -2, 1, 0] + [0] * 12
    assert codes.vocab_size == tokenizer.vocab_size == 6
    assert torch.allclose(tokenizer.decode(codes, chunks.context).delta_BTD, chunks.target_BTD, atol=1e-6)


def test_merges_shorten_what_repeats() -> None:
    coefficients_BTC = np.zeros((20, 8, 2))
    coefficients_BTC[:, 0] = [3, -2]
    statistics, chunks = two_joint_chunks(coefficients_BTC, scale=10.0)
    tokenizer = FastTokenizer(statistics, scale=10.0).fit([chunks])
    codes = tokenizer.encode(chunks)
    assert [len(sequence) for sequence in codes.tokens] == [1] * 20
    assert 6 < tokenizer.vocab_size == codes.vocab_size < 30  # what exists, not the 2048 asked for
    assert torch.allclose(tokenizer.decode(codes, chunks.context).delta_BTD, chunks.target_BTD, atol=1e-6)


def scipy_tangent(statistics: Statistics, layout: Layout, delta_BTD: np.ndarray) -> np.ndarray:
    """Normalised tangent channels [B, T, C] of the valid ones, by scipy's rotations: nothing of ours but the ranges."""
    low_D, high_D, mask_D = statistics.low_D, statistics.high_D, statistics.mask_D
    parts = []
    for group in layout.groups:
        at = layout.slices[group.name]
        if not mask_D[at].any():
            continue
        half, centre, values = (high_D[at] - low_D[at]) / 2, (high_D[at] + low_D[at]) / 2, delta_BTD[..., at]
        if group.kind == "rotation6d":
            first, second = values[..., :3], values[..., 3:]
            matrix = np.stack([first, second, np.cross(first, second)], axis=-1).reshape(-1, 3, 3)
            vector = Rotation.from_matrix(matrix).as_rotvec().reshape(*values.shape[:-1], 3)
            # near the identity c1 = (1, z, -y) and c2 = (-z, 1, x): the half ranges of x, y and z
            parts.append(vector / np.array([half[5], half[2], half[1]]))
        else:
            valid = mask_D[at]
            parts.append(((values - centre) / half)[..., valid])
    return np.concatenate(parts, axis=-1)


def delta_of(chunks: ChunkBatch) -> np.ndarray:
    context = chunks.context
    assert context.anchor_BD is not None
    return to_delta(context.layout, chunks.target_BTD.double(), context.anchor_BD.double(), context.mask_BD).numpy()


@LAYOUTS
@pytest.mark.parametrize("form", ["tangent", "tangent-rest"])
@pytest.mark.parametrize("scale", [1.0, 4.0, 20.0])
def test_error_of_a_tangent_round_trip_is_bounded_by_the_scale(layout: Layout, scale: float, form: Form) -> None:
    """Each coefficient is off by at most .5 / scale, and so is the root mean square of each channel."""
    chunks, statistics = kit.chunks(layout, T, stride=2), kit.statistics(layout)
    tokenizer = FastTokenizer(statistics, scale, form=form).fit([chunks])
    actions = tokenizer.decode(tokenizer.encode(chunks), chunks.context)
    assert not actions.failed_B.any() and tokenizer.saturated == 0
    (robot,) = statistics.values()
    wanted, got = (
        scipy_tangent(robot, layout, delta) for delta in (delta_of(chunks), actions.delta_BTD.double().numpy())
    )
    off = got - wanted
    assert np.abs(dct(off, axis=1, norm="ortho")).max() <= 0.5 / scale + 1e-4
    assert np.sqrt((off**2).mean(axis=1)).max() <= 0.5 / scale + 1e-4  # the transform is orthonormal
    assert not actions.delta_BTD[~chunks.context.mask_BD[:, None].expand_as(actions.delta_BTD)].any()


@pytest.mark.parametrize("form", ["columns", "columns-rest"])
@pytest.mark.parametrize("scale", [4.0, 20.0])
def test_error_of_columns_is_bounded_where_no_rotation_is_made_proper(scale: float, form: Form) -> None:
    chunks, statistics = kit.chunks(ARMS26, T, stride=2), kit.statistics(ARMS26)
    tokenizer = FastTokenizer(statistics, scale, form=form).fit([chunks])
    actions = tokenizer.decode(tokenizer.encode(chunks), chunks.context)
    straight_D = torch.tensor([kind != "rotation6d" for kind in ARMS26.channel_kinds])
    got_BTD = normalise_batch(statistics, chunks.context, actions.delta_BTD)
    off_BTD = (got_BTD - normalised(statistics, chunks))[..., straight_D].numpy()
    assert np.abs(dct(off_BTD, axis=1, norm="ortho")).max() <= 0.5 / scale + 1e-4


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", [0.05, 0.5, 3.0, 30.0])
def test_decoded_rotations_are_proper_in_all_forms(form: Form, scale: float) -> None:
    """However coarse: at .05 every coefficient is 0."""
    chunks, statistics = kit.chunks(ARMS26, T, stride=2), kit.statistics(ARMS26)
    tokenizer = FastTokenizer(statistics, scale, form=form).fit([chunks])
    actions = tokenizer.decode(tokenizer.encode(chunks), chunks.context)
    columns = actions.delta_BTD[..., ARMS26.slices["right_rotation"]].double().numpy()
    first, second = columns[..., :3], columns[..., 3:]
    assert np.allclose((first * first).sum(-1), 1, atol=1e-5) and np.allclose((second * second).sum(-1), 1, atol=1e-5)
    assert np.allclose((first * second).sum(-1), 0, atol=1e-5)


def test_columns_that_span_no_plane_decode_to_no_rotation() -> None:
    """Ranges of -1 to 1 have their middle at zero columns, which are no rotation at all."""
    chunks, statistics = kit.chunks(ARMS26, T), kit.statistics(ARMS26)
    (name,) = statistics
    ones_D = np.ones(ARMS26.width)
    wide = {name: replace(statistics[name], low_D=-ones_D, high_D=ones_D)}
    tokenizer = FastTokenizer(wide, 0.01, form="columns").fit([chunks])
    decoded = tokenizer.decode(tokenizer.encode(chunks), chunks.context).delta_BTD
    still = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    assert torch.equal(decoded[..., ARMS26.slices["right_rotation"]], still.expand(len(chunks), T, 6))


def test_joints_have_two_forms_and_poses_four() -> None:
    assert forms_of(JOINTS) == ("tangent", "tangent-rest") and forms_of(ARMS26) == FORMS
    chunks, statistics = kit.chunks(JOINTS, T), kit.statistics(JOINTS)
    tokens = {form: FastTokenizer(statistics, 10.0, form=form).fit([chunks]).encode(chunks).tokens for form in FORMS}
    for end in ("", "-rest"):  # no rotation, no difference
        assert all(map(np.array_equal, tokens[f"columns{end}"], tokens[f"tangent{end}"]))
    assert not all(map(np.array_equal, tokens["tangent"], tokens["tangent-rest"]))


def one_sided(layout: Layout, constant: float | None = None) -> dict[str, Statistics]:
    """Ranges with no motion well inside them, but far from their middle; a gripper that never moved, at `constant`."""
    (robot,) = kit.statistics(layout).values()
    low_D, high_D = robot.low_D.copy(), robot.high_D.copy()
    turns_D = np.array([kind == "rotation6d" for kind in layout.channel_kinds])
    low_D[~turns_D] *= 0.1
    grippers_D = np.array([kind == "gripper" for kind in layout.channel_kinds]) & robot.mask_D
    if constant is not None:
        low_D[grippers_D] = high_D[grippers_D] = constant
    return {robot.embodiment: replace(robot, low_D=low_D, high_D=high_D)}


@LAYOUTS
@pytest.mark.parametrize("form", ["tangent", "columns", "tangent-rest", "columns-rest"])
def test_a_robot_at_rest_is_all_zeros_if_zero_is_at_rest(layout: Layout, form: Form) -> None:
    chunks, statistics = kit.chunks(layout, T), one_sided(layout, 0.375)
    anchor_BD = chunks.context.anchor_BD
    assert anchor_BD is not None
    for _, at in layout.of_kind("gripper"):
        anchor_BD[:, at] = 0.375 * chunks.context.mask_BD[:, at]
    still = replace(chunks, target_BTD=anchor_BD[:, None].repeat(1, T, 1))
    (flat, *_) = cosines(statistics, [still], form).flat
    assert bool((np.abs(flat) < 1e-3).all()) is form.endswith("-rest")
    # All that is rounded is the coefficients: at no rate does a still robot move.
    if form.endswith("-rest"):
        tokenizer = FastTokenizer(statistics, 0.5, form=form).fit([chunks, still])
        decoded = tokenizer.decode(tokenizer.encode(still), still.context)
        assert decoded.absolute_BTD is not None
        assert torch.allclose(decoded.absolute_BTD, still.target_BTD, atol=1e-6)


def test_what_is_never_at_zero_has_its_zero_at_the_nearest_end_of_its_range() -> None:
    (robot,) = kit.statistics(JOINTS).values()
    low_D, high_D = robot.low_D.copy(), robot.high_D.copy()
    low_D[60], high_D[60], low_D[0], high_D[0], low_D[1], high_D[1] = 0.4, 0.9, -3.0, -1.0, -1.0, 3.0
    rest_D = rest_of(JOINTS, replace(robot, low_D=low_D, high_D=high_D), "tangent-rest")
    assert rest_D[[60, 0, 1]] == pytest.approx([-1.0, 1.0, -0.5])
    assert not rest_of(JOINTS, robot, "tangent").any() and np.abs(rest_D).max() <= 1


@LAYOUTS
@pytest.mark.parametrize("form", FORMS)
def test_a_channel_that_never_moved_costs_nothing_and_decodes_to_its_value(layout: Layout, form: Form) -> None:
    chunks, statistics = kit.chunks(layout, T), one_sided(layout, 0.375)
    (at,) = (place for _, place in layout.of_kind("gripper") if chunks.context.mask_BD[0, place].any())
    gripper_D = torch.zeros(layout.width, dtype=torch.bool)
    gripper_D[at] = chunks.context.mask_BD[0, at]
    held = replace(chunks, target_BTD=torch.where(gripper_D, torch.tensor(0.375), chunks.target_BTD))
    lacking_BD = chunks.context.mask_BD & ~gripper_D
    without = ChunkBatch(held.target_BTD * lacking_BD[:, None], replace(chunks.context, mask_BD=lacking_BD))
    tokenizer = FastTokenizer(statistics, 10.0, form=form).fit([held])
    codes = tokenizer.encode(held)
    assert all(map(np.array_equal, codes.tokens, tokenizer.encode(without).tokens))
    decoded = tokenizer.decode(codes, held.context)
    assert not decoded.failed_B.any() and (decoded.delta_BTD[..., gripper_D] == 0.375).all()
    # One that stands still altogether still has tokens.
    (robot,) = statistics.values()
    frozen = {robot.embodiment: replace(robot, high_D=np.where(robot.mask_D, robot.low_D, robot.high_D))}
    assert len(FastTokenizer(frozen, 0.05, form=form).fit([chunks]).encode(chunks).tokens[0]) > 0


def test_chunks_of_two_robots_have_their_own_zeros() -> None:
    chunks, (robot,) = kit.chunks(JOINTS, T), one_sided(JOINTS).values()
    (plain,) = kit.statistics(JOINTS).values()
    other = replace(plain, embodiment="so101")
    names = ("so101", *chunks.context.embodiment[1:])
    both = replace(chunks, context=replace(chunks.context, embodiment=names))
    statistics = {"so101": other, robot.embodiment: robot}
    got = normalised_chunks(statistics, both, "tangent-rest")
    assert np.array_equal(got[1:], normalised_chunks(statistics, chunks, "tangent-rest")[1:])
    alone = normalised_chunks({robot.embodiment: plain}, chunks, "tangent-rest")
    assert np.array_equal(got[0], alone[0]) and not np.allclose(got[0], got[1])
    decoded = to_actions(statistics, both.context, got, np.zeros(len(both), dtype=bool), "tangent-rest")
    assert decoded.absolute_BTD is not None and torch.allclose(decoded.absolute_BTD, both.target_BTD, atol=1e-5)
    with pytest.raises(ValueError, match="no statistics for embodiment 'so101'"):
        to_actions({}, both.context[slice(0, 1)], got[:1], np.zeros(1, dtype=bool), "tangent-rest")


def test_cosines_serve_every_scale_and_no_other_form() -> None:
    chunks, statistics = kit.chunks(ARMS26, T, stride=2), kit.statistics(ARMS26)
    given = cosines(statistics, [chunks], "tangent")
    for scale in (2.0, 15.0):
        tokenizer = FastTokenizer(statistics, scale).fit([chunks])
        again = FastTokenizer(statistics, scale).fit_cosines(given)
        pairs = zip(tokenizer.encode(chunks).tokens, again.encode_cosines(given).tokens, strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs)
    finest = finest_scale(given)
    FastTokenizer(statistics, finest).fit_cosines(given)
    with pytest.raises(ValueError, match="use a smaller scale"):
        FastTokenizer(statistics, 1.01 * finest).fit_cosines(given)
    with pytest.raises(ValueError, match="cosines are of tangent, this FAST codes columns"):
        FastTokenizer(statistics, 2.0, form="columns").fit_cosines(given)


def test_decoding_knows_the_context_and_never_the_target() -> None:
    tokenizer, chunks = fitted(ARMS26), kit.chunks(ARMS26, T)
    codes = tokenizer.encode(chunks)
    before = tokenizer.decode(codes, chunks.context)
    chunks.target_BTD.fill_(7.0)
    after = tokenizer.decode(codes, chunks.context)
    assert torch.equal(before.delta_BTD, after.delta_BTD)
    context = chunks.context
    assert context.anchor_BD is not None and before.absolute_BTD is not None
    composed = from_delta(context.layout, before.delta_BTD, context.anchor_BD, context.mask_BD)
    assert torch.equal(before.absolute_BTD, composed)
    alone = tokenizer.decode(codes, replace(context, anchor_BD=None))
    assert alone.absolute_BTD is None and torch.equal(alone.delta_BTD, before.delta_BTD)


def test_one_wrong_token_breaks_the_count_and_is_never_silent() -> None:
    coefficients_BTC = np.zeros((20, 8, 2))
    coefficients_BTC[:, 0] = [3, -2]
    statistics, chunks = two_joint_chunks(coefficients_BTC, scale=10.0)
    tokenizer = FastTokenizer(statistics, scale=10.0).fit([chunks])
    codes = tokenizer.encode(chunks)  # one token a chunk; every other token stands for fewer coefficients
    swapped = (*codes.tokens[:3], (codes.tokens[3] + 1) % codes.vocab_size, *codes.tokens[4:])
    actions = tokenizer.decode(replace(codes, tokens=swapped), chunks.context)
    assert actions.failed_B.nonzero().tolist() == [[3]]
    assert actions.absolute_BTD is not None
    assert not actions.delta_BTD[3].any() and not actions.absolute_BTD[3].any()
    others = [row for row in range(20) if row != 3]
    assert torch.allclose(actions.delta_BTD[others], chunks.target_BTD[others], atol=1e-6)


@pytest.mark.parametrize("tokens", [[], [-1], [2048], [10**12]])
def test_tokens_that_do_not_exist_mark_the_row(tokens: list[int]) -> None:
    tokenizer, chunks = fitted(JOINTS), kit.chunks(JOINTS, T)[slice(0, 2)]
    good = tokenizer.encode(chunks).tokens[0]
    codes = Codes((good, np.array(tokens, dtype=np.int64)), tokenizer.vocab_size)
    assert tokenizer.decode(codes, chunks.context).failed_B.tolist() == [False, True]


def test_coefficients_outside_the_fitted_range_saturate_and_are_counted() -> None:
    narrow, wide = np.zeros((4, 8, 2)), np.zeros((4, 8, 2))
    narrow[:, 0], wide[:, 0] = [3, -3], [5, -9]
    statistics, train = two_joint_chunks(narrow, scale=10.0)
    _, test = two_joint_chunks(wide, scale=10.0)
    tokenizer = FastTokenizer(statistics, scale=10.0).fit([train])
    actions = tokenizer.decode(tokenizer.encode(test), test.context)
    assert tokenizer.saturated == 8 and not actions.failed_B.any()
    assert torch.allclose(actions.delta_BTD, train.target_BTD, atol=1e-6)


@LAYOUTS
def test_tokens_depend_on_neither_the_batch_nor_the_fit(layout: Layout) -> None:
    chunks = kit.chunks(layout, T)
    tokenizer, again = fitted(layout), fitted(layout)
    whole = tokenizer.encode(chunks).tokens
    one_by_one = [tokenizer.encode(chunks[slice(i, i + 1)]).tokens[0] for i in range(len(chunks))]
    for other in (one_by_one, again.encode(chunks).tokens):
        assert all(np.array_equal(a, b) for a, b in zip(whole, other, strict=True))


def test_robots_with_other_channels_share_one_vocabulary() -> None:
    one_arm = kit.chunks(JOINTS, T)
    fewer_BD = one_arm.context.mask_BD.clone()
    fewer_BD[:, 3:6] = False
    fewer = ChunkBatch(one_arm.target_BTD * fewer_BD[:, None], replace(one_arm.context, mask_BD=fewer_BD))
    both = concatenate([one_arm[slice(0, 3)], fewer[slice(0, 3)], one_arm[slice(3, 6)]])
    tokenizer = FastTokenizer(kit.statistics(JOINTS), 20.0).fit([one_arm, fewer])
    actions = tokenizer.decode(tokenizer.encode(both), both.context)
    assert not actions.failed_B.any()
    assert not actions.delta_BTD[3:6, :, 3:6].any()
    statistics = kit.statistics(JOINTS)
    off_BTD = (normalise_batch(statistics, both.context, actions.delta_BTD) - normalised(statistics, both)).abs()
    assert off_BTD.max() < 0.5 / 20.0 * np.sqrt(T)


def test_finer_scales_cost_more_and_err_less() -> None:
    chunks, statistics = kit.chunks(ARMS26, T, stride=2), kit.statistics(ARMS26)
    coarse, fine = fast_sweep(statistics, [chunks], scales=[4.0, 32.0])
    assert (coarse.scale, fine.scale) == (4.0, 32.0)
    spent, errors = [], []
    for tokenizer in (coarse, fine):
        codes = tokenizer.encode(chunks)
        spent.append(sum(map(len, codes.tokens)))
        got_BTD = normalise_batch(statistics, chunks.context, tokenizer.decode(codes, chunks.context).delta_BTD)
        errors.append(float((got_BTD - normalised(statistics, chunks)).abs().mean()))
    assert spent[0] < spent[1] and errors[0] > 2 * errors[1]
    assert fine.rate_points() == [fine]


def test_it_meets_the_protocol_and_does_not_touch_the_chunks() -> None:
    tokenizer, chunks = fitted(ARMS26), kit.chunks(ARMS26, T)
    assert isinstance(tokenizer, ActionTokenizer) and tokenizer.name == "fast"
    before = chunks.target_BTD.clone()
    codes = tokenizer.encode(chunks)
    assert torch.equal(chunks.target_BTD, before)
    assert codes.grid_BMQ is None and all(sequence.dtype == np.int64 for sequence in codes.tokens)


def test_refitting_asks_for_the_full_vocabulary_again() -> None:
    still, chunks = np.zeros((4, T, 2)), kit.chunks(JOINTS, T, stride=2)
    statistics, few = two_joint_chunks(still, scale=10.0)
    tokenizer = FastTokenizer(statistics | kit.statistics(JOINTS), 10.0).fit([few])
    small = tokenizer.vocab_size
    assert tokenizer.fit([chunks]).vocab_size > 4 * small


def test_misuse_says_what_to_do() -> None:
    chunks, statistics = kit.chunks(JOINTS, T), kit.statistics(JOINTS)
    with pytest.raises(ValueError, match=r"call fit\(train_chunks\) first"):
        FastTokenizer(statistics, 10.0).encode(chunks)
    with pytest.raises(ValueError, match=r"one horizon, not of \[\]"):
        FastTokenizer(statistics, 10.0).fit([])
    with pytest.raises(ValueError, match=r"not of \[8, 16\]"):
        FastTokenizer(statistics, 10.0).fit([chunks, kit.chunks(JOINTS, 8)])
    with pytest.raises(ValueError, match="use a smaller scale"):
        FastTokenizer(statistics, 1e5).fit([chunks])
    for scale, vocab_size in ((0.0, 2048), (float("nan"), 2048), (10.0, 1), (10.0, 10**6)):
        with pytest.raises(ValueError, match="expected"):
            FastTokenizer(statistics, scale, vocab_size)
    tokenizer = fitted(JOINTS)
    with pytest.raises(ValueError, match="fitted to chunks of 16 frames, these have 8"):
        tokenizer.encode(kit.chunks(JOINTS, 8))
    with pytest.raises(ValueError, match="expected one each"):
        tokenizer.decode(tokenizer.encode(chunks)[slice(0, 2)], chunks.context)
    with pytest.raises(ValueError, match="without an anchor"):
        tokenizer.encode(replace(chunks, context=replace(chunks.context, anchor_BD=None)))
    with pytest.raises(ValueError, match="no statistics for embodiment 'cr5'"):
        FastTokenizer({}, 10.0).fit([chunks])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_bad_values_never_become_tokens(value: float) -> None:
    tokenizer, chunks = fitted(JOINTS), kit.chunks(JOINTS, T)
    chunks.target_BTD[1, 2, 4] = value
    with pytest.raises(ValueError, match=rf"'joint.4' is {value} at index \(1, 2\)"):
        tokenizer.encode(chunks)
