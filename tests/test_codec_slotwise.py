"""Details slot by slot: the loop of encoding and decoding, its generic form, and where it is kept.

# B chunks, T frames, M slots, K channels, X = 4 K values of a slot, C dimensions of a detail
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import codec_kit as kit
import synthetic
from xtok import Tokenizer
from xtok.actions.layout import JOINTS
from xtok.actions.types import FRAMES_PER_SLOT, slots
from xtok.codec.config import CodecConfig
from xtok.codec.gaussian import GaussianCodec
from xtok.codec.gaussian.slot_predictor import FEATURES, PAST, GenericSlotPredictor, SlotPredictor
from xtok.pretrain import adapt, measure
from xtok.pretrain.slotwise import Sample, fit_slotwise, virtual_robots

K, X = 7, 28
HORIZONS = (8, 13, 18, 32, 64)


@cache
def sample(horizon: int) -> Sample:
    """Smooth joints in half ranges, and a coarse view of them such as q0 gives."""
    absolute = torch.from_numpy(kit.smooth_joints(horizon, 64, seed=horizon)).double()[..., [*range(6), 60]]
    motion = (absolute[:, 1:] - absolute[:, :1]) / 2.5
    M = slots(horizon)
    padded = torch.nn.functional.pad(motion, (0, 0, 0, 4 * M - horizon)).view(len(motion), M, -1)
    noise = torch.randn(padded.shape, generator=torch.Generator().manual_seed(1)).double()
    return Sample(motion, padded + 0.05 * noise, np.ones(motion.shape[2], dtype=bool))


@cache
def predictor() -> SlotPredictor:
    return fit_slotwise([sample(horizon) for horizon in HORIZONS], X).predictor


def as_codes(decoded: Tensor) -> tuple[Tensor, Tensor]:
    """Stands for a book: what a detail decodes to, as its codes too."""
    return decoded, decoded


def keep(detail: Tensor) -> tuple[Tensor, Tensor]:
    return as_codes(detail)


def rounded(detail: Tensor) -> Tensor:
    """What both sides know."""
    return (detail * 4).round() / 4


@pytest.mark.parametrize("horizon", HORIZONS)
def test_synthesis_undoes_analysis(horizon: int) -> None:
    given = sample(horizon)
    detail = predictor().analyse(given.motion_BTK, given.seen_BMX, X, keep).detail_BMC
    back = predictor().synthesise(detail, given.seen_BMX, horizon)
    torch.testing.assert_close(back, given.motion_BTK, atol=1e-9, rtol=0)


def test_what_is_emphasised_is_coded_finer_and_what_is_lost_is_lost_elsewhere() -> None:
    """Few dimensions of detail: the emphasised channels are the ones that they are spent on."""
    emphasis_K = torch.tensor([4.0, 4.0, 4.0, 1.0, 1.0, 1.0, 1.0])
    emphasised = fit_slotwise([sample(horizon) for horizon in HORIZONS], X, emphasis_K).predictor
    given = sample(32)
    whole = emphasised.analyse(given.motion_BTK, given.seen_BMX, X, keep).detail_BMC
    back = emphasised.synthesise(whole, given.seen_BMX, 32)
    torch.testing.assert_close(back, given.motion_BTK, atol=1e-9, rtol=0)

    def error_K(of: SlotPredictor) -> Tensor:
        first = of.analyse(given.motion_BTK, given.seen_BMX, X, lambda detail: as_codes(detail * (torch.arange(X) < 6)))
        found = of.synthesise(first.codes_BMq, given.seen_BMX, 32)
        return (found - given.motion_BTK).abs().mean(dim=(0, 1))

    with_it, without = error_K(emphasised), error_K(predictor())
    assert with_it[:3].mean() < 0.8 * without[:3].mean()
    assert with_it[3:].mean() > without[3:].mean()


@pytest.mark.parametrize("horizon", HORIZONS)
def test_errors_do_not_build_up_since_encoding_knows_what_decoding_will_have(horizon: int) -> None:
    given = sample(horizon)
    closed = predictor().analyse(given.motion_BTK, given.seen_BMX, X, lambda detail: as_codes(rounded(detail)))
    back = predictor().synthesise(closed.codes_BMq, given.seen_BMX, horizon)
    error_T = (back - given.motion_BTK).abs().mean(dim=(0, 2))
    assert error_T[-4:].mean() < 3 * error_T[:4].mean() + 1e-6
    open_loop = rounded(predictor().analyse(given.motion_BTK, given.seen_BMX, X, keep).detail_BMC)
    drifted = predictor().synthesise(open_loop, given.seen_BMX, horizon)
    assert (back - given.motion_BTK).abs().mean() < (drifted - given.motion_BTK).abs().mean()


def test_prediction_leaves_less_than_holding_the_last_frame() -> None:
    given = sample(32)
    steps = predictor().analyse(given.motion_BTK, given.seen_BMX, X, keep).steps
    wanted = torch.cat([step.wanted_BX for step in steps])
    left = torch.cat([s.wanted_BX - s.features_BF @ predictor().weight_HFX[s.history].double() for s in steps])
    assert left.square().sum() < 0.05 * wanted.square().sum()
    assert {step.history for step in steps} == set(range(PAST + 1))


def test_a_prefix_of_a_chunk_has_the_codes_of_the_chunk_but_for_the_slot_that_saw_ahead() -> None:
    """Slot i looks at q0 of i + 1 and at nothing later, so motion can be decoded one slot behind the stream."""
    given = sample(32)
    whole = predictor().synthesise(None, given.seen_BMX, 32)
    part = predictor().synthesise(None, given.seen_BMX[:, :5], 20)
    torch.testing.assert_close(part[:, :16], whole[:, :16], atol=1e-12, rtol=0)


def test_a_generic_predictor_treats_every_channel_alike() -> None:
    torch.manual_seed(0)
    one = GenericSlotPredictor(
        torch.randn(PAST + 1, FEATURES, FRAMES_PER_SLOT),
        torch.eye(4) + 0.1,
        torch.zeros(1),
        torch.ones(2),
        torch.ones(8),
    )
    three, single = one.for_channels(3), one.for_channels(1)
    seen = torch.randn(5, 4, FRAMES_PER_SLOT, 3).double()
    together = three.synthesise(None, seen.flatten(2), 16)
    for k in range(3):
        alone = single.synthesise(None, seen[..., k].contiguous(), 16)
        torch.testing.assert_close(together[..., k], alone[..., 0], atol=1e-9, rtol=1e-9)


def test_fewer_channels_are_the_same_predictor_without_the_others() -> None:
    kept = torch.tensor([True, False, True, True, False, True, True])
    small = predictor().restricted(kept)
    assert small.channels == 5
    emphasised = replace(predictor(), emphasis_K=torch.arange(1.0, 8.0)).restricted(kept)
    assert emphasised.emphasis_K is not None and emphasised.emphasis_K.tolist() == [1, 3, 4, 6, 7]
    torch.testing.assert_close(small.covariance_XX[0, 1], predictor().covariance_XX[0, 2])
    torch.testing.assert_close(small.weight_HFX[2, 1, 2], predictor().weight_HFX[2, 2, 3])


def test_shapes_that_do_not_fit_are_told() -> None:
    with pytest.raises(ValueError, match=r"slot predictor has edge_A \(3,\); expected \(7,\)"):
        replace(predictor(), edge_A=torch.zeros(3))
    with pytest.raises(ValueError, match=r"slot predictor has weight_HFX"):
        replace(predictor(), weight_HFX=torch.zeros(2, 2, X))
    with pytest.raises(ValueError, match=r"slot predictor has emphasis_K \(3,\); expected \(7,\)"):
        replace(predictor(), emphasis_K=torch.ones(3))
    with pytest.raises(ValueError, match=r"expected values above 0"):
        replace(predictor(), emphasis_K=torch.zeros(7))


# -- in a codec -----------------------------------------------------------------------------------------------------


@cache
def joints_codec() -> GaussianCodec:
    """Books per robot, shared ones for robots not seen; beam 1, so that training and encoding choose alike."""
    shape = {"layout": "joints", "coarse_space": "principal", "per_robot": True, "beam": 1, "code_dim": 32}
    codec = synthetic._fitted(replace(synthetic.TINY, semantic_dims=0, **shape))
    assert isinstance(codec, GaussianCodec)
    return codec


@pytest.fixture
def tokenizer() -> Iterator[Tokenizer]:
    yield Tokenizer(joints_codec(), "joints")


def chunks(horizon: int = 18):
    return synthetic.corpus("joints").validate(horizon, 12)


def slotwise_codec() -> GaussianCodec:
    """The codec with its robot coded slot by slot, whichever way the choice fell."""
    from xtok.pretrain.corpus import draw_batches
    from xtok.pretrain.slotwise import place_slotwise, samples_of

    codec = Tokenizer(joints_codec()).shared_codec()
    assert isinstance(codec, GaussianCodec)
    generator = torch.Generator().manual_seed(0)
    part = synthetic.corpus("joints").of(synthetic.JOINT_ROBOT)
    samples = samples_of(codec, list(draw_batches(part, 2000, generator)), codec.coarse.of(synthetic.JOINT_ROBOT))
    place_slotwise(codec, synthetic.JOINT_ROBOT, samples, generator, 1500, 0, 3)
    return codec


def test_a_wrong_code_spoils_nothing_before_it_and_does_not_run_away() -> None:
    """Later slots lean on q0 as well, so the error stays in the order of what the wrong code itself makes."""
    codec = slotwise_codec()
    batch = chunks(64)
    batch_context = codec.batch_context(batch.context)
    codes = codec.encode(codec.motion(batch, batch_context), batch_context)
    spoilt = codes.clone()
    spoilt[:, 1, 1] = (spoilt[:, 1, 1] + 7) % codec.config.codebook_size
    off_T = (codec.decode(spoilt, batch_context) - codec.decode(codes, batch_context)).abs().mean(dim=(0, 2))
    assert off_T[:4].max() == pytest.approx(0, abs=1e-9)
    assert off_T[4:8].min() > 0
    assert off_T[8:].max() < 5 * off_T[4:8].max()
    predictor = codec.robots[synthetic.JOINT_ROBOT].slotwise
    assert predictor is not None and predictor.carried_error() <= 1.0


def test_no_shipped_predictor_carries_an_error_on_for_ever() -> None:
    codec = Tokenizer.from_pretrained("joints").codec
    found = {name: prior.slotwise.carried_error() for name, prior in codec.robots.items() if prior.slotwise}
    assert found and max(found.values()) <= 1.0, found
    assert codec.generic is not None and codec.generic.slotwise is not None
    assert codec.generic.slotwise.for_channels(6).carried_error() < 0.1


@pytest.mark.parametrize("horizon", (13, 32))
def test_decoding_of_codes_is_the_training_forward(horizon: int) -> None:
    codec = slotwise_codec()
    batch = chunks(horizon)
    batch_context = codec.batch_context(batch.context)
    motion = codec.motion(batch, batch_context)
    for levels in (1, 4):
        codes = codec.encode(motion, batch_context)[..., :levels]
        decoded = codec.decode(codes, batch_context)
        with torch.no_grad():
            forward = codec(motion, batch_context, levels).motion_BTK
        torch.testing.assert_close(decoded, forward, atol=1e-5, rtol=0)


def test_codes_do_not_depend_on_the_batch() -> None:
    tokenizer = Tokenizer(slotwise_codec())
    batch = chunks(18)
    together = tokenizer.encode(batch).grid_BMQ
    assert together is not None
    for row in (0, 5, 11):
        alone = tokenizer.encode(batch[row : row + 1]).grid_BMQ
        assert alone is not None and torch.equal(alone[0], together[row])


@pytest.mark.parametrize("emphasis_K", [None, torch.full((len(JOINTS.channel_names),), 2.0)])
def test_slot_predictors_are_saved_and_loaded(tmp_path: Path, emphasis_K: Tensor | None) -> None:
    codec = slotwise_codec()
    prior = codec.robots[synthetic.JOINT_ROBOT]
    assert prior.slotwise is not None
    if emphasis_K is not None:
        emphasis_K = emphasis_K[prior.valid]
    codec.add_robot(replace(prior, slotwise=replace(prior.slotwise, emphasis_K=emphasis_K)))
    tokenizer = Tokenizer(codec)
    tokenizer.save_pretrained(tmp_path)
    again = Tokenizer.from_pretrained(tmp_path)
    assert again.digest == tokenizer.digest
    slotwise = again.codec.robots[synthetic.JOINT_ROBOT].slotwise
    assert slotwise is not None
    assert (slotwise.emphasis_K is None) == (emphasis_K is None)
    assert again.codec.generic is not None and again.codec.generic.slotwise is not None
    batch = chunks(18)
    before, after = tokenizer.encode(batch).grid_BMQ, again.encode(batch).grid_BMQ
    assert before is not None and after is not None and torch.equal(before, after)


def test_virtual_robots_have_few_channels_of_one_robot() -> None:
    codec = joints_codec()
    for robot in virtual_robots(codec, seed=0):
        full = codec.robots[robot.name].statistics.mask_D
        assert 4 <= robot.mask_D.sum() <= 8 and not (robot.mask_D & ~full).any()


def test_measuring_stretches_the_shared_books_and_adapting_places_new_ones(tokenizer: Tokenizer) -> None:
    train = synthetic.episodes(JOINTS)
    shared = tokenizer.codec.residual.shared.books_QVC.clone()
    measured = measure(tokenizer, train).codec
    name = synthetic.JOINT_ROBOT
    assert name not in measured.coarse.per_robot, "q0 is the shared one"
    ratio = (measured.residual.of(name).books_QVC / shared)[0]
    ratio = ratio[shared[0].abs().min(dim=1).values > 1e-6]
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), atol=1e-3, rtol=1e-3)
    adapted = adapt(tokenizer, train, vectors=2000, iterations=3).codec
    assert name in adapted.coarse.per_robot
    assert torch.equal(tokenizer.codec.residual.shared.books_QVC, shared), "the tokenizer itself stays as it was"
    batch = chunks(32)
    for codec in (measured, adapted):
        each = Tokenizer(codec)
        decoded = each.decode(each.encode(batch), batch.context)
        assert torch.isfinite(decoded.delta_BTD).all()


def test_a_robot_known_by_ranges_alone_is_served(tokenizer: Tokenizer) -> None:
    statistics = replace(tokenizer.statistics[synthetic.JOINT_ROBOT], embodiment="none:new")
    batch = kit.renamed(chunks(18), "none:new")
    new = tokenizer.with_ranges(statistics)
    decoded = new.decode(new.encode(batch), batch.context)
    assert torch.isfinite(decoded.delta_BTD).all()


def test_config_stays_as_it_was() -> None:
    """Slot predictors are data of a robot: weights from before they existed still load."""
    assert "slot" not in " ".join(CodecConfig().to_dict())
