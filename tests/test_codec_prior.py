"""The motion prior's closed forms against their definitions.

# S = 64 frames, T frames of a chunk, K valid tangent channels, P = T K values, E = 4 M K, R rank, M slots, X directions
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import codec_kit as kit
from xtok.actions.layout import ARMS26, JOINTS
from xtok.actions.statistics import Statistics
from xtok.actions.tangent import tangent_scale
from xtok.actions.types import slots
from xtok.codec.gaussian.basis import compand, expand, frames_to_slots, slots_to_frames
from xtok.codec.gaussian.prior import BEND, MotionPrior, fit_generic, fit_prior

NOISE, DETAIL = 0.004, 32
HORIZONS = (8, 13, 18, 32, 64)


def panda() -> MotionPrior:
    return kit.quiet_codec().robots[kit.PANDA]


@cache
def joint_prior(rank: int = 12) -> MotionPrior:
    """Six joints and a gripper that move along random smooth paths."""
    absolute_BTD = torch.from_numpy(kit.smooth_joints(64, 200, seed=3)).double()
    mask_D = absolute_BTD.abs().sum(dim=(0, 1)).numpy() > 0
    delta_BTD = absolute_BTD[:, 1:] - absolute_BTD[:, :1]
    delta_BTD[..., 60:] = absolute_BTD[:, 1:, 60:]
    low_D, high_D = np.full(64, -1.0), np.full(64, 1.0)
    low_D[:6], high_D[:6] = -2.5, 2.5
    statistics = Statistics("joints", JOINTS.digest, "cr5", 20.0, 64, 200, mask_D, low_D, high_D)
    return fit_prior(JOINTS, statistics, delta_BTD[..., mask_D], rank)


def draw(prior: MotionPrior, horizon: int, count: int, seed: int) -> Tensor:
    """Chunks [count, E] from the prior's own Gaussian, whole slots."""
    E = 4 * slots(horizon) * len(prior.scale_K)
    z = torch.randn(count, prior.factor_SKR.shape[-1], generator=torch.Generator().manual_seed(seed)).double()
    return prior.mean_SK.double().flatten()[:E] + z @ prior.factor_SKR.double().flatten(0, 1)[:E].T


# -- fitting ------------------------------------------------------------------------------------------------------


def test_fit_finds_mean_and_covariance_in_units_of_the_statistics() -> None:
    prior = joint_prior(rank=24)
    windows = torch.from_numpy(kit.smooth_joints(64, 200, seed=3)).double()
    delta = (windows[:, 1:, :6] - windows[:, :1, :6]) / 2.5
    torch.testing.assert_close(prior.mean_SK[:, :6].double(), delta.mean(dim=0), atol=1e-6, rtol=0)
    factor = prior.factor_SKR[:, :6].double().flatten(0, 1)
    covariance = torch.cov(delta.flatten(1).T, correction=0)
    assert (factor @ factor.T - covariance).norm() < 0.02 * covariance.norm()


@pytest.mark.parametrize("shape", [(200, 63, 7), (1, 64, 7)])
def test_fit_refuses_other_windows(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"needs two or more windows of 64 frames.*or encode with embodiment 'none'"):
        fit_prior(JOINTS, joint_prior().statistics, torch.zeros(shape), 8)


def test_scale_of_rotations_is_that_of_small_rotation_vectors() -> None:
    low_D, high_D = np.full(26, -1.0), np.full(26, 1.0)
    rotation = ARMS26.slices["right_rotation"]
    low_D[rotation] = [0.9, -0.1, -0.2, -0.1, 0.8, -0.3]
    high_D[rotation] = [1.0, 0.1, 0.2, 0.1, 1.0, 0.3]
    statistics = Statistics("arms26", ARMS26.digest, "panda", 20.0, 64, 9, np.ones(26, bool), low_D, high_D)
    # c1 = [1, z, -y] and c2 = [-z, 1, x]: x is in channel 5, y in 2, z in 1.
    assert tangent_scale(ARMS26, statistics)[10:13].tolist() == pytest.approx([0.3, 0.2, 0.1])


# -- one chunk length ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("horizon", HORIZONS)
def test_directions_are_orthonormal_and_details_invert(horizon: int) -> None:
    basis = panda().at(horizon, NOISE, DETAIL)
    X = basis.basis_PX.shape[1]
    assert 0 < X <= slots(horizon) * DETAIL
    torch.testing.assert_close(basis.basis_PX.T @ basis.basis_PX, torch.eye(X).double(), atol=1e-6, rtol=0)
    weight = torch.randn(5, X, generator=torch.Generator().manual_seed(0)).double()
    motion = weight @ basis.basis_PX.T
    torch.testing.assert_close(basis.synthesise(basis.analyse(motion)), motion, atol=1e-6, rtol=1e-6)
    detail = basis.analyse(motion)
    assert (detail[:, basis.direction_MC < 0] == 0).all()
    torch.testing.assert_close(basis.analyse(basis.synthesise(detail)), detail, atol=1e-6, rtol=1e-6)


def test_what_is_emphasised_is_coded_finer_and_no_direction_is_lost() -> None:
    plain, K = panda(), len(panda().scale_K)
    emphasised = replace(plain, emphasis_K=torch.where(torch.arange(K) < 3, 4.0, 1.0))
    motion = torch.randn(64, plain.factor_SKR.shape[-1], generator=torch.Generator().manual_seed(0)).double()
    motion = motion @ plain.at(32, NOISE, DETAIL).factor_ER.T[:, : 32 * K]

    def error_K(prior: MotionPrior) -> torch.Tensor:
        basis = prior.at(32, NOISE, 2)  # two dimensions a slot: something has to be lost
        left = basis.synthesise(basis.analyse(motion)) - motion
        return left.view(-1, 32, K).square().mean(dim=(0, 1))

    with_it, without = error_K(emphasised), error_K(plain)
    assert with_it[:3].sum() < without[:3].sum() and with_it[3:].sum() > without[3:].sum()
    basis = emphasised.at(13, NOISE, DETAIL)
    detail = basis.analyse(motion[:, : 13 * K])
    torch.testing.assert_close(basis.analyse(basis.synthesise(detail)), detail, atol=1e-6, rtol=1e-6)
    mask_D = plain.statistics.mask_D.copy()
    mask_D[ARMS26.slices["right_gripper"]] = False
    narrow = emphasised.restricted(mask_D).emphasis_K
    assert narrow is not None and len(narrow) == K - int(plain.statistics.mask_D[ARMS26.slices["right_gripper"]].sum())
    with pytest.raises(ValueError, match=r"emphasis_K \(2,\); expected"):
        replace(plain, emphasis_K=torch.ones(2))
    with pytest.raises(ValueError, match=r"expected values above 0"):
        replace(plain, emphasis_K=torch.zeros(K))


@pytest.mark.parametrize("horizon", range(8, 65, 3))
def test_each_direction_has_one_place_and_slots_share_evenly(horizon: int) -> None:
    basis = panda().at(horizon, NOISE, DETAIL)
    placed = basis.direction_MC[basis.direction_MC >= 0]
    assert sorted(placed.tolist()) == list(range(basis.basis_PX.shape[1]))
    in_slot = (basis.direction_MC >= 0).sum(dim=1)
    assert in_slot.max() - in_slot.min() <= 1
    for k in range(int(in_slot.min())):  # the k-th dimension of any slot is a direction of about the same variance
        assert sorted(basis.direction_MC[:, k].tolist()) == list(range(k * len(in_slot), (k + 1) * len(in_slot)))


@pytest.mark.parametrize("horizon", (8, 18, 37, 63))
def test_a_shorter_chunk_is_the_leading_block_of_the_longest(horizon: int) -> None:
    """Mean and factor come out of those of 64 frames, so one prior serves every T."""
    prior, K = panda(), len(panda().scale_K)
    short, long = prior.at(horizon, NOISE, DETAIL), prior.at(64, NOISE, DETAIL)
    E = 4 * slots(horizon) * K
    assert torch.equal(short.mean_E, long.mean_E[:E]) and torch.equal(short.factor_ER, long.factor_ER[:E])
    assert short.smooth_RP.shape[1] == short.basis_PX.shape[0] == horizon * K
    assert short.predict_RE.shape[1] == E


@pytest.mark.parametrize("horizon", (13, 64))
def test_smoothing_and_prediction_are_the_gaussian_conditional_means(horizon: int) -> None:
    """Against the textbook form mean + S (S + N)^-1 (x - mean), which inverts another matrix."""
    prior = panda()
    basis, K = prior.at(horizon, NOISE, DETAIL), len(panda().scale_K)
    P, E = horizon * K, 4 * slots(horizon) * K
    mean, factor = basis.mean_E, basis.factor_ER
    cov = factor @ factor.T
    x = draw(prior, horizon, 3, seed=0)
    sensor = (NOISE / prior.scale_K).square().repeat(horizon) + 1e-9
    gain = torch.linalg.solve(cov[:P, :P] + torch.diag(sensor), cov[:P]).T
    torch.testing.assert_close(basis.smooth(x[:, :P]), mean + (x[:, :P] - mean[:P]) @ gain.T, atol=1e-4, rtol=1e-4)
    coded = prior.noise_MK.double().clamp_min(1e-8)[: slots(horizon)].repeat_interleave(4, dim=0).reshape(E)
    gain = torch.linalg.solve(cov + torch.diag(coded), cov[:, :P]).T
    torch.testing.assert_close(basis.predict(x), mean[:P] + (x - mean) @ gain.T, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("horizon", (8, 18, 64))
def test_prediction_is_exact_where_codes_are(horizon: int) -> None:
    prior = replace(panda(), noise_MK=torch.zeros_like(panda().noise_MK))
    x = draw(prior, horizon, 4, seed=1)
    predicted = prior.at(horizon, NOISE, DETAIL).predict(x)
    torch.testing.assert_close(predicted, x[:, : predicted.shape[1]], atol=2e-3, rtol=0)


def test_more_code_noise_leaves_more_to_the_details() -> None:
    gains = [replace(panda(), noise_MK=panda().noise_MK * f).at(32, NOISE, DETAIL).gain for f in (0.01, 1.0, 100.0)]
    assert gains[0] < gains[1] < gains[2]


@pytest.mark.parametrize("horizon", (8, 18, 64))
def test_smoothing_removes_noise_and_keeps_motion(horizon: int) -> None:
    prior = panda()
    sigma = 0.02
    basis, K = prior.at(horizon, sigma, DETAIL), len(prior.scale_K)
    clean = draw(prior, horizon, 64, seed=2)[:, : horizon * K]
    drawn = torch.randn(clean.shape, generator=torch.Generator().manual_seed(3)).double()
    noisy = clean + drawn * (sigma / prior.scale_K).repeat(horizon)
    smooth = basis.smooth(noisy)[:, : horizon * K]
    assert (smooth - clean).square().mean() < 0.5 * (noisy - clean).square().mean()
    assert torch.nn.functional.cosine_similarity(smooth.flatten(), clean.flatten(), dim=0) > 0.97


def test_a_part_filled_last_slot_is_continued() -> None:
    prior = panda()
    basis, K = prior.at(13, 1e-4, DETAIL), len(prior.scale_K)
    whole = draw(prior, 16, 64, seed=4)
    error = (basis.smooth(whole[:, : 13 * K]) - whole)[:, 13 * K :].square().mean()
    assert error < 0.1 * (whole - basis.mean_E)[:, 13 * K :].square().mean()


def test_fewer_dimensions_keep_the_directions_that_vary_most() -> None:
    full, few = panda().at(32, NOISE, DETAIL), panda().at(32, NOISE, 3)
    assert few.basis_PX.shape[1] == 24
    torch.testing.assert_close(few.basis_PX, full.basis_PX[:, :24])


# -- q0's space ---------------------------------------------------------------------------------------------------


@given(st.floats(-200, 200))
def test_companding_inverts(x: float) -> None:
    value = torch.tensor([x], dtype=torch.float64)
    torch.testing.assert_close(expand(compand(value, BEND), BEND), value, rtol=1e-9, atol=1e-12)


def test_companding_keeps_small_motion_apart_and_bounds_wild_codes() -> None:
    assert compand(torch.tensor(1e-3), BEND).item() == pytest.approx(1e-3, rel=1e-4)
    assert compand(torch.tensor(100 * BEND), BEND).item() < 6 * BEND
    assert torch.isfinite(expand(torch.tensor([1e30, -1e30]), BEND)).all()


@given(seed=st.integers(0, 100), horizon=st.sampled_from(HORIZONS))
@settings(max_examples=15, deadline=None)
def test_physical_intent_inverts_and_fills_only_valid_channels(seed: int, horizon: int) -> None:
    prior = panda()
    x_BMX = draw(prior, horizon, 3, seed).unflatten(1, (slots(horizon), -1))
    h_BMC = prior.to_coarse(x_BMX, "physical", 4 * 20)
    torch.testing.assert_close(prior.from_coarse(h_BMC, "physical"), x_BMX, atol=1e-9, rtol=1e-9)
    invalid = ~prior.valid.repeat(4)
    assert invalid.any() and (h_BMC[..., invalid] == 0).all()


def test_physical_intent_means_the_same_motion_on_every_robot() -> None:
    """3 cm forwards by the right hand is one latent, whatever a robot's range is and whatever else it has."""
    found = []
    for name in (kit.PANDA, kit.TWO_ARMS):
        prior = kit.quiet_codec().robots[name]
        channel = int(prior.valid[:7].sum())  # right_position.0 among the robot's own channels
        x = torch.zeros(1, 2, 4, len(prior.scale_K)).double()
        x[..., channel] = 0.03 / prior.scale_K[channel]
        h = prior.to_coarse(x.flatten(2), "physical", 80).unflatten(-1, (4, -1))
        assert (h[..., 7] > 0).all() and (h[..., torch.arange(20) != 7] == 0).all()
        found.append(h)
    torch.testing.assert_close(*found)


def test_principal_intent_inverts_with_all_dimensions_and_projects_with_fewer() -> None:
    prior = joint_prior()
    X = 4 * len(prior.scale_K)
    x = torch.randn(2, 5, X, generator=torch.Generator().manual_seed(0)).double()

    def there_and_back(value: Tensor, dim: int) -> Tensor:
        return prior.from_coarse(prior.to_coarse(value, "principal", dim), "principal")

    torch.testing.assert_close(there_and_back(x, X), x)
    assert (prior.to_coarse(x, "principal", X + 7)[..., X:] == 0).all()
    torch.testing.assert_close(there_and_back(x, X + 7), x)
    once = there_and_back(x, 6)
    torch.testing.assert_close(there_and_back(once, 6), once)
    assert 0 < (once - x).square().sum() < x.square().sum()


def test_principal_directions_are_those_of_the_robots_usual_slots() -> None:
    """Orthonormal, by falling size; over all of them usual motion has a mean square of 1 (before the bend)."""
    prior = joint_prior()
    X = 4 * len(prior.scale_K)
    torch.testing.assert_close(prior.principal_XC.T @ prior.principal_XC, torch.eye(X).double(), atol=1e-9, rtol=0)
    x = draw(prior, 64, 4000, seed=6).unflatten(1, (16, -1))
    size = expand(prior.to_coarse(x, "principal", X), BEND).square().mean(dim=(0, 1))
    assert size.sum() == pytest.approx(1.0, abs=0.1)
    assert size[0] > 0.3 and size[0] > size[2] > size[6]


def test_directions_do_not_depend_on_the_solvers_sign() -> None:
    """Codes would differ between machines otherwise."""
    for direction in (joint_prior().principal_XC, joint_prior().at(20, NOISE, DETAIL).basis_PX):
        top = direction.gather(0, direction.abs().argmax(dim=0, keepdim=True))
        assert (top > 0).all()


# -- robots -------------------------------------------------------------------------------------------------------


def test_restricting_keeps_the_other_channels_as_they_were() -> None:
    prior = panda()
    mask_D = prior.statistics.mask_D.copy()
    mask_D[ARMS26.slices["right_gripper"]] = False
    restricted = prior.restricted(mask_D)
    assert len(restricted.scale_K) == len(prior.scale_K) - 1
    assert torch.equal(restricted.factor_SKR, prior.factor_SKR[:, :-1])  # the gripper is the last one that it has
    torch.testing.assert_close(restricted.scale_K, prior.scale_K[:-1])
    assert (restricted.statistics.mask_D == mask_D).all()
    assert restricted.at(18, NOISE, DETAIL).basis_PX.shape[0] == 18 * len(restricted.scale_K)


def test_restricting_to_channels_that_the_robot_lacks_is_refused() -> None:
    mask_D = panda().statistics.mask_D.copy()
    mask_D[0] = True
    with pytest.raises(ValueError, match=r"robot 'panda' has no channels \['left_position.0'\]; correct the mask"):
        panda().restricted(mask_D)


@pytest.mark.parametrize("present", (1, 3, 5))
def test_continuing_keeps_what_is_there_and_expects_the_rest(present: int) -> None:
    """Nearer to the truth than standing still where the chunk broke off, and equal to the truth where it did not."""
    prior = replace(panda(), noise_MK=torch.full_like(panda().noise_MK, 1e-8))
    K, horizon = len(prior.scale_K), 20
    here_M = torch.arange(slots(horizon)) < present
    continued_error, still_error = 0.0, 0.0
    for x_E in draw(prior, horizon, 24, seed=5):
        x_MX = x_E.view(slots(horizon), -1)
        spoilt = torch.where(here_M[:, None], x_MX, 1e6)
        likely_MX = prior.continue_from(spoilt.flatten(), here_M)
        torch.testing.assert_close(likely_MX[here_M], x_MX[here_M], atol=0.02, rtol=0)
        last = x_MX[present - 1, -K:].repeat(4)
        continued_error += float((likely_MX - x_MX)[~here_M].square().sum())
        still_error += float((last - x_MX)[~here_M].square().sum())
    assert continued_error < 0.7 * still_error or present == slots(horizon)


def test_a_generic_prior_takes_the_usual_time_course_of_each_kind() -> None:
    prior = panda()
    generic = fit_generic(ARMS26, [prior])
    made = generic.for_robot(prior.statistics)
    assert torch.equal(made.valid, prior.valid) and (made.mean_SK == 0).all()
    factor = prior.factor_SKR[:, :3].double()
    second = torch.stack([factor[:, k] @ factor[:, k].T for k in range(3)]).mean(dim=0)
    mean = prior.mean_SK[:, :3].double()
    second += torch.stack([torch.outer(mean[:, k], mean[:, k]) for k in range(3)]).mean(dim=0)
    own = made.factor_SKR[:, 0].double()
    assert (own @ own.T - second).norm() < 0.02 * second.norm()
    across = own @ made.factor_SKR[:, 1].double().T
    assert (across == 0).all(), "each channel by itself"


@given(horizon=st.integers(8, 64))
def test_frames_and_slots_invert(horizon: int) -> None:
    x_BTK = torch.arange(2.0 * horizon * 3).view(2, horizon, 3)
    slotted = frames_to_slots(x_BTK)
    assert slotted.shape == (2, slots(horizon), 12)
    assert torch.equal(slots_to_frames(slotted, horizon), x_BTK)
    assert torch.equal(slotted[:, 1, :3], x_BTK[:, 4])
