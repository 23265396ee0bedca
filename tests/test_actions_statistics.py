"""Normalisation statistics and the histogram under them.

# N frames of an episode, D channels, X values
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import evaluate_kit as kit
from xtok.actions.delta import to_delta
from xtok.actions.histogram import BINS, QuantileHistogram
from xtok.actions.layout import ARMS26, JOINTS, Layout
from xtok.actions.statistics import (
    Statistics,
    denormalise,
    denormalise_batch,
    normalise,
    normalise_batch,
    saturation,
)
from xtok.actions.statistics_fit import fit_statistics

LAYOUTS = pytest.mark.parametrize("layout", [ARMS26, JOINTS], ids=lambda layout: layout.name)


def fitted(layout: Layout = ARMS26, control_hz: float = 20.0, horizon_max: int = 16) -> Statistics:
    episodes = [kit.motion(layout, 60, seed) for seed in range(3)]
    return fit_statistics(layout, "Franka", control_hz, kit.mask(layout), episodes, horizon_max)


def slow_deltas(layout: Layout, episodes: list[np.ndarray], horizon_max: int) -> np.ndarray:
    """pose[t + k] relative to pose[t - 1], one at a time: [X, D]."""
    mask_1D = torch.from_numpy(kit.mask(layout))[None]
    rows = [
        to_delta(
            layout, torch.from_numpy(motion[None, t + k : t + k + 1]), torch.from_numpy(motion[None, t - 1]), mask_1D
        )
        for motion in (episode.astype(np.float64) for episode in episodes)
        for t in range(1, len(motion))
        for k in range(min(horizon_max, len(motion) - t))
    ]
    return torch.cat(rows)[:, 0].numpy()


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.001, 0.3, 0.5, 0.999, 1.0]))
def test_quantiles_are_exact_to_a_bin(seed: int, p: float) -> None:
    rng = np.random.default_rng(seed)
    values_XD = rng.normal(size=(3000, 3)) ** 3 * [1.0, 1e-3, 1e4]
    histogram = QuantileHistogram(values_XD.min(axis=0), values_XD.max(axis=0))
    histogram.add(values_XD)
    bin_D = np.ptp(values_XD, axis=0) / BINS * 1.001
    got_D = histogram.quantile(p)
    assert (got_D >= np.quantile(values_XD, p, axis=0, method="lower") - bin_D).all()
    assert (got_D <= np.quantile(values_XD, p, axis=0, method="higher") + bin_D).all()


def test_merged_histograms_are_one_pass_over_all_data() -> None:
    values_XD = np.random.default_rng(0).normal(size=(1000, 4))
    low_D, high_D = values_XD.min(axis=0), values_XD.max(axis=0)
    whole, left, right = (QuantileHistogram(low_D, high_D) for _ in range(3))
    whole.add(values_XD)
    left.add(values_XD[:300])
    right.add(values_XD[300:])
    merged = left.merge(right)
    assert np.array_equal(merged.counts, whole.counts)
    assert np.array_equal(merged.quantile(0.1), whole.quantile(0.1))
    with pytest.raises(ValueError, match="different ranges"):
        left.merge(QuantileHistogram(low_D, high_D + 1))


def test_histogram_refuses_what_it_cannot_count() -> None:
    histogram = QuantileHistogram(np.zeros(2), np.array([1.0, 0.0]))
    for bad in (1.5, -0.1, math.nan):
        with pytest.raises(ValueError, match="ranges"):
            histogram.add(np.array([[bad, 0.0]]))
    with pytest.raises(ValueError, match="some values"):
        histogram.quantile(0.5)
    histogram.add(np.array([[0.25, 0.0]]))
    assert histogram.quantile(0.5)[1] == 0.0  # a channel that never moves
    with pytest.raises(ValueError, match=r"p in \[0, 1\]"):
        histogram.quantile(1.5)


@LAYOUTS
def test_fit_takes_every_delta_of_every_horizon(layout: Layout) -> None:
    episodes = [kit.motion(layout, frames, seed=frames) for frames in (40, 9, 1, 30)]
    statistics = fit_statistics(layout, "Franka", 20.0, kit.mask(layout), episodes, horizon_max=16)
    deltas_XD = slow_deltas(layout, episodes, horizon_max=16)
    assert statistics.count == len(deltas_XD)
    for p, got_D in ((0.001, statistics.low_D), (0.999, statistics.high_D)):
        slack_D = np.maximum(np.ptp(deltas_XD, axis=0) * 1e-4, 1e-12)
        low_D, high_D = (np.quantile(deltas_XD, p, axis=0, method=method) for method in ("lower", "higher"))
        valid = statistics.mask_D
        assert (got_D[valid] >= (low_D - slack_D)[valid]).all() and (got_D[valid] <= (high_D + slack_D)[valid]).all()
    assert (statistics.low_D[~valid] == -1).all() and (statistics.high_D[~valid] == 1).all()


@LAYOUTS
def test_channels_that_tremble_keep_their_floor_about_their_centre(layout: Layout) -> None:
    still_ND = np.repeat(kit.motion(layout, 1, seed=0), 20, axis=0)
    still_ND[1::2] += 1e-4  # a tenth of a millimetre, six thousandths of a degree: more than rounding
    statistics = fit_statistics(layout, "Franka", 20.0, kit.mask(layout), [still_ND], horizon_max=8)
    width_D, centre_D = statistics.high_D - statistics.low_D, (statistics.high_D + statistics.low_D) / 2
    floors = {"position": 0.001, "rotation6d": math.sin(math.radians(0.5)), "gripper": 0.01, "joint": 0.01}
    deltas_XD = slow_deltas(layout, [still_ND], 8)
    for channel in np.flatnonzero(statistics.mask_D):
        assert width_D[channel] == pytest.approx(floors[layout.channel_kinds[channel]])
        assert centre_D[channel] == pytest.approx(deltas_XD[:, channel].mean(), abs=1e-4)
    assert not statistics.constant_D.any()


@LAYOUTS
def test_denormalise_inverts_normalise_and_nothing_is_clipped(layout: Layout) -> None:
    statistics = fitted(layout)
    valid = torch.tensor(statistics.mask_D)
    delta_BTD = 10 * torch.randn(2, 5, layout.width, generator=torch.Generator().manual_seed(0))
    normalised_BTD = normalise(statistics, delta_BTD)
    assert normalised_BTD.dtype == torch.float32 and normalised_BTD.abs().max() > 2
    back_BTD = denormalise(statistics, normalised_BTD)
    assert back_BTD.dtype == torch.float32
    assert torch.allclose(back_BTD[..., valid], delta_BTD[..., valid], rtol=1e-5, atol=1e-5)
    assert not normalised_BTD[..., ~valid].any() and not back_BTD[..., ~valid].any()
    ends = normalise(statistics, torch.from_numpy(np.stack([statistics.low_D, statistics.high_D])))
    assert torch.allclose(ends[:, valid], torch.tensor([[-1.0], [1.0]]))
    with pytest.raises(ValueError, match="7 channels"):
        normalise(statistics, torch.zeros(7))


def test_masked_nan_does_not_reach_normalised_values() -> None:
    statistics = fitted()
    delta_D = torch.zeros(26)
    delta_D[ARMS26.slices["left_position"]] = math.nan
    assert normalise(statistics, delta_D).isfinite().all()


def test_saturation_reports_shares_of_valid_values_only() -> None:
    normalised_BTD = torch.zeros(2, 4, 3)
    normalised_BTD[0, 0, 0], normalised_BTD[1, :, 1], normalised_BTD[0, :, 2] = 1.5, -3.0, 1.0
    mask_BD = torch.tensor([[True, False, True], [True, True, True]])
    assert saturation(normalised_BTD, mask_BD) == {0: 0.125, 1: 1.0}
    assert saturation(normalised_BTD, torch.zeros(2, 3, dtype=torch.bool)) == {}


def test_json_round_trip_is_exact(tmp_path: Path) -> None:
    statistics = fitted()
    statistics.save(tmp_path / "s.json")
    loaded = Statistics.load(tmp_path / "s.json")
    assert loaded.digest == statistics.digest and len(loaded.digest) == 16
    for name in ("mask_D", "low_D", "high_D"):
        assert np.array_equal(getattr(loaded, name), getattr(statistics, name))


@pytest.mark.parametrize(
    ("field", "value"),
    [("embodiment", "UR5"), ("control_hz", 30.0), ("horizon_max", 64), ("count", 1), ("layout_digest", "0" * 16)],
)
def test_altered_numbers_are_noticed(field: str, value: object, tmp_path: Path) -> None:
    content = fitted().to_dict()
    content[field] = value
    (tmp_path / "s.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="altered"):
        Statistics.load(tmp_path / "s.json")


def test_an_altered_bound_is_noticed_and_a_missing_field_named() -> None:
    content = fitted().to_dict()
    content["low_D"][12] -= 1e-9
    with pytest.raises(ValueError, match="altered"):
        Statistics.from_dict(content)
    del content["low_D"]
    with pytest.raises(ValueError, match=r"\['low_D'\]"):
        Statistics.from_dict(content)


@pytest.mark.parametrize("text", ["{", "[1, 2]"])
def test_a_file_that_is_no_statistics_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(ValueError, match=r"s\.json"):
        Statistics.load(tmp_path / "s.json")


def test_other_layout_rate_or_horizon_is_refused() -> None:
    statistics = fitted(control_hz=30.0, horizon_max=16)
    statistics.check(ARMS26, 29.97, 16)
    with pytest.raises(ValueError, match=r"'arms26'.*'joints'"):
        statistics.check(JOINTS, 30.0, 16)
    with pytest.raises(ValueError, match="30 Hz, the data have 20 Hz"):
        statistics.check(ARMS26, 20.0, 16)
    with pytest.raises(ValueError, match="1 to 16 frames, not 17"):
        statistics.check(ARMS26, 30.0, 17)
    renamed = replace(ARMS26, groups=(replace(ARMS26.groups[0], unit="mm"), *ARMS26.groups[1:]))
    with pytest.raises(ValueError, match="layout"):
        statistics.check(renamed, 30.0, 16)


def test_arrays_are_read_only_and_nonsense_is_refused() -> None:
    statistics = fitted()
    with pytest.raises(ValueError, match="read-only"):
        statistics.low_D[0] = 0.0
    with pytest.raises(ValueError, match="not above high"):
        replace(statistics, low_D=statistics.high_D + 1)
    with pytest.raises(ValueError, match="not above high"):
        replace(statistics, low_D=np.full(26, np.nan))
    with pytest.raises(ValueError, match="shapes"):
        replace(statistics, low_D=np.zeros(3))
    with pytest.raises(ValueError, match="control_hz"):
        replace(statistics, control_hz=0.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_fit_names_episode_frame_and_channel_of_a_bad_value(value: float) -> None:
    episodes = [kit.motion(ARMS26, 20, seed) for seed in range(2)]
    episodes[0][3, 0] = value  # masked: no matter
    fit_statistics(ARMS26, "Franka", 20.0, kit.mask(ARMS26), episodes)
    episodes[1][7, ARMS26.slices["right_position"].start + 2] = value
    with pytest.raises(ValueError, match=rf"episode 1: channel 'right_position.2' is {value} at index \(7,\)"):
        fit_statistics(ARMS26, "Franka", 20.0, kit.mask(ARMS26), episodes)


def test_fit_refuses_what_holds_no_statistics() -> None:
    mask_D, episode = kit.mask(ARMS26), kit.motion(ARMS26, 20, 0)
    degenerate = episode.copy()
    degenerate[5, ARMS26.slices["right_rotation"]] = 0.0
    partial = mask_D.copy()
    partial[ARMS26.slices["right_rotation"].start] = False
    for episodes, mask, message in (
        ([], mask_D, "no motion"),
        ([episode[:1]], mask_D, "no motion"),
        ([episode[:, :7]], mask_D, r"expects \[N, 26\]"),
        ([episode, degenerate], mask_D, r"episode 1: 'right_rotation'.*\(5,\)"),
        ([episode], np.zeros(26, dtype=bool), "at least one valid"),
        ([episode], mask_D[:7], "at least one valid"),
        ([episode], partial, "right_rotation"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_statistics(ARMS26, "Franka", 20.0, mask, episodes)


def test_each_chunk_is_normalised_by_its_own_robot() -> None:
    chunks = kit.chunks(ARMS26, horizon=8)
    first = fitted()
    second = replace(first, embodiment="UR5", high_D=2 * first.high_D - first.low_D)
    names = tuple("Franka" if row % 2 else "UR5" for row in range(len(chunks)))
    context = replace(chunks.context, embodiment=names)
    statistics = {"Franka": first, "UR5": second}
    got_BTD = normalise_batch(statistics, context, chunks.target_BTD)
    for row, name in enumerate(names):
        assert torch.equal(got_BTD[row], normalise(statistics[name], chunks.target_BTD[row]))
    back_BTD = denormalise_batch(statistics, context, got_BTD)
    valid_BTD = torch.where(context.mask_BD[:, None], chunks.target_BTD, 0.0)
    assert torch.allclose(back_BTD, valid_BTD, atol=1e-6)
    gone_BD = context.mask_BD.clone()
    gone_BD[0, ARMS26.slices["right_position"]] = False
    fewer = replace(context, mask_BD=gone_BD)
    for batch in (normalise_batch, denormalise_batch):
        assert not batch(statistics, fewer, got_BTD)[0, :, ~gone_BD[0]].any()
    with pytest.raises(ValueError, match=r"lack channels \['head.0', 'head.1'\]"):
        more_BD = context.mask_BD.clone()
        more_BD[:, ARMS26.slices["head"]] = True
        normalise_batch(statistics, replace(context, mask_BD=more_BD), chunks.target_BTD)
    with pytest.raises(ValueError, match="no statistics for embodiment 'UR5'"):
        normalise_batch({"Franka": first}, context, chunks.target_BTD)
    with pytest.raises(ValueError, match="Hz"):
        slower = replace(context, control_hz_B=context.control_hz_B / 2)
        normalise_batch(statistics, slower, chunks.target_BTD)
