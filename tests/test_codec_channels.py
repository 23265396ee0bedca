"""Channels of unknown meaning: the first frame's code, the chunk relative to it, fitting, and the folder on disk.

# B chunks, T frames, D channels
"""

from __future__ import annotations

import json
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xtok import Tokenizer
from xtok.codec.anchor import StateCode
from xtok.codec.channels import ChannelCodec
from xtok.pretrain.channels import fit_channels


def waves(count: int, frames: int, channels: int, seed: int = 0) -> np.ndarray:
    """[count, frames, D] in [-1, 1]: slow sines that start anywhere."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(frames) / 20.0
    rate, phase = rng.uniform(0.3, 2.0, (2, count, 1, channels)), rng.uniform(0, 6, (2, count, 1, channels))
    both = np.sin(rate[0] * time_s[:, None] + phase[0]) + 0.5 * np.sin(2 * rate[1] * time_s[:, None] + phase[1])
    return both / 1.5


@cache
def shipped() -> ChannelCodec:
    return ChannelCodec.load()


@cache
def fitted() -> ChannelCodec:
    return fit_channels(shipped().tokenizer, list(waves(150, 96, 5)), vectors=6000, iterations=2)


# -- the first frame ------------------------------------------------------------------------------------------------


@given(st.integers(1, 26), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_a_state_comes_back_within_its_cell(channels: int, seed: int) -> None:
    code, x_ND = StateCode.plain(channels), np.random.default_rng(seed).uniform(-1, 1, (20, channels))
    codes_NQ = code.encode(x_ND)
    assert codes_NQ.min() >= 0 and codes_NQ.max() < 2048
    assert (code.steps_QD.prod(axis=1) <= 2048).all() and (code.steps_QD.prod(axis=1) > 1024).all()
    for q in range(1, 5):  # every further level cuts the cells: each prefix is within its own
        cell_D = 2 / code.steps_QD[:q].prod(axis=0)
        assert (np.abs(code.decode(codes_NQ[:, :q]) - x_ND) <= cell_D / 2 + 1e-12).all()
    np.testing.assert_array_equal(code.encode(code.decode(codes_NQ)), codes_NQ)


def test_any_ids_are_a_state() -> None:
    code = StateCode.plain(7)
    codes_NQ = np.random.default_rng(0).integers(0, 2048, (500, 4))
    assert np.abs(code.decode(codes_NQ)).max() <= 1


def test_a_fitted_state_code_spends_steps_where_states_differ() -> None:
    rng = np.random.default_rng(1)
    hidden = rng.normal(size=(4000, 3)) * [0.5, 0.2, 0.05]
    x_ND = hidden @ np.linalg.qr(rng.normal(size=(14, 14)))[0][:3]
    plain, own = StateCode.plain(14), StateCode.fit(x_ND[:2000])
    held = x_ND[2000:]
    error = {c: np.abs(c.decode(c.encode(held)) - held).mean() for c in (plain, own)}
    assert error[own] < error[plain] / 20
    again = StateCode.from_dict(json.loads(json.dumps(own.to_dict())))
    np.testing.assert_array_equal(again.encode(held), own.encode(held))


def test_a_channel_of_two_values_costs_one_step_and_is_exact() -> None:
    rng = np.random.default_rng(2)
    hand = rng.choice([-1.0, 1.0], (3000, 1))
    x_ND = np.concatenate([rng.uniform(-1, 1, (3000, 3)) + 0.3 * hand, hand, 0 * hand], axis=1)
    code = StateCode.fit(x_ND[:2000])
    again_ND = code.decode(code.encode(x_ND[2000:]))
    np.testing.assert_allclose(again_ND[:, 3:], x_ND[2000:, 3:], atol=1e-5)
    assert code.steps_QD[:, 3].prod() == 2 and code.steps_QD[:, 4].prod() == 1
    assert np.abs(again_ND - x_ND[2000:]).max() < 0.01


def test_steps_are_narrow_where_states_are() -> None:
    rng = np.random.default_rng(3)
    x_ND = np.where(rng.random((4000, 1)) < 0.9, rng.normal(0, 0.01, (4000, 2)), rng.uniform(-1, 1, (4000, 2)))
    code = StateCode.fit(x_ND[:3000], levels=1)
    off_N = np.abs(code.decode(code.encode(x_ND[3000:])) - x_ND[3000:]).mean(axis=1)
    rest = np.abs(x_ND[3000:]).max(axis=1) < 0.05
    assert off_N[rest].mean() < off_N[~rest].mean() / 2 and off_N[~rest].max() < 0.1
    far = code.decode(code.encode(np.full((1, 2), 50.0)))  # beyond all that was seen: the end of the range
    assert 0.9 < np.abs(far).max() < 3


def test_state_codes_that_cannot_be_are_refused() -> None:
    zero_D, ends_DK, steps_QD = np.zeros(3), np.tile([-1.0, 1.0], (3, 1)), np.full((4, 3), 12)
    StateCode(zero_D, np.eye(3), ends_DK, steps_QD)
    with pytest.raises(ValueError, match="rise from low to high"):
        StateCode(zero_D, np.eye(3), -ends_DK, steps_QD)
    with pytest.raises(ValueError, match="shapes"):
        StateCode(zero_D, np.eye(2), ends_DK, steps_QD)
    with pytest.raises(ValueError, match="finite"):
        StateCode(zero_D + np.nan, np.eye(3), ends_DK, steps_QD)
    with pytest.raises(ValueError, match="more cells than 2048"):
        StateCode(zero_D, np.eye(3), ends_DK, steps_QD + 1)
    for steps in (0 * steps_QD, steps_QD / 7):
        with pytest.raises(ValueError, match="whole numbers"):
            StateCode(zero_D, np.eye(3), ends_DK, steps)
    with pytest.raises(ValueError, match="fields"):
        StateCode.from_dict({"mean_D": [0.0]})


# -- chunks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("horizon", "slots"), [(1, 3), (5, 3), (8, 3), (9, 4), (32, 9), (64, 17)])
def test_sequences_of_one_length_are_one_length(horizon: int, slots: int) -> None:
    codec, x_BTD = shipped(), waves(3, horizon, 7)
    grid = codec.encode(x_BTD)
    assert grid.shape == (3, slots, 4) and codec.slots(horizon) == slots
    again = codec.decode(grid.reshape(3, -1), horizon, 7)
    assert again.shape == x_BTD.shape and again.dtype == np.float32
    assert np.abs(again - x_BTD).mean() < 0.08


@pytest.mark.parametrize("channels", [1, 7, 14, 26])
def test_every_width_up_to_26_is_coded(channels: int) -> None:
    x_BTD = waves(4, 16, channels)
    grid = shipped().encode(x_BTD)
    off = np.abs(shipped().decode(grid.reshape(4, -1), 16, channels) - x_BTD).mean()
    share = 2 if channels == 26 else 4  # 26 independent sines: few bits each
    assert off < np.abs(x_BTD - x_BTD.mean()).mean() / share


def test_a_chunk_is_coded_alike_alone_and_in_a_batch() -> None:
    x_BTD = waves(5, 20, 7)
    together = shipped().encode(x_BTD)
    for b in range(5):
        np.testing.assert_array_equal(shipped().encode(x_BTD[b : b + 1])[0], together[b])


def test_more_levels_err_less() -> None:
    x_BTD = waves(30, 32, 7)
    sequences = shipped().encode(x_BTD).reshape(30, -1)
    errors = [np.abs(shipped().decode(sequences, 32, 7, levels) - x_BTD).mean() for levels in (1, 2, 3, 4)]
    assert errors == sorted(errors, reverse=True) and errors[3] < errors[0] / 2


@given(st.integers(1, 64), st.integers(1, 26), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_any_ids_decode_to_finite_motion(horizon: int, channels: int, seed: int) -> None:
    sequence = np.random.default_rng(seed).integers(0, 2048, shipped().slots(horizon) * 4)
    assert np.isfinite(shipped().decode([sequence], horizon, channels)).all()


def test_what_cannot_be_coded_is_a_typed_error() -> None:
    codec, x_BTD = shipped(), waves(2, 16, 7)
    with pytest.raises(ValueError, match="27 channels; this contract carries 1 to 26"):
        codec.encode(waves(1, 16, 27))
    with pytest.raises(ValueError, match="65 frames; expected 1 to 64"):
        codec.encode(waves(1, 65, 7))
    with pytest.raises(ValueError, match=r"hold nan at index \[0, 3, 2\]"):
        x_BTD[0, 3, 2] = np.nan
        codec.encode(x_BTD)
    with pytest.raises(ValueError, match=r"expected \[B, T, D\]"):
        codec.encode(waves(1, 16, 7)[0])
    with pytest.raises(ValueError, match=r"100.00% of the values lie outside \[-2, 2\].*expected values normalised"):
        codec.encode(1e5 * waves(1, 16, 7))
    with pytest.raises(ValueError, match="no chunks"):
        codec.encode(np.zeros((0, 16, 7)))
    with pytest.raises(ValueError, match="layout 'arms26'"):
        ChannelCodec(Tokenizer.from_pretrained("arms26"))


def test_broken_sequences_raise_or_are_repaired() -> None:
    codec, x_BTD = shipped(), waves(2, 32, 7)
    sequences = list(codec.encode(x_BTD).reshape(2, -1))
    whole = codec.decode(sequences, 32, 7)
    broken = [sequences[0][:18], sequences[1]]
    with pytest.raises(ValueError, match="sequence 0 ends after 18 of 36"):
        codec.decode(broken, 32, 7)
    with pytest.warns(UserWarning, match="dropped 5 of 9"):
        repaired = codec.decode(broken, 32, 7, on_invalid="repair")
    np.testing.assert_allclose(repaired[1], whole[1], atol=1e-6)
    assert np.abs(repaired[0, :8] - x_BTD[0, :8]).mean() < 0.1 and np.isfinite(repaired).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        held = codec.decode([sequences[0][:4]], 32, 7, on_invalid="repair")[0]
    assert (held == held[0]).all() and np.abs(held[0] - x_BTD[0, 0]).max() < 0.05  # all that is known
    with pytest.raises(ValueError, match="no whole slot"):
        codec.decode([sequences[0][:3]], 32, 7, on_invalid="repair")


# -- fitting, and the folder ------------------------------------------------------------------------------------------


def test_fitting_codes_the_same_motion_better() -> None:
    held_BTD = waves(40, 32, 5, seed=9)
    error = {}
    for name, codec in (("own", fitted()), ("shared", shipped())):
        error[name] = np.abs(codec.decode(codec.encode(held_BTD).reshape(40, -1), 32, 5) - held_BTD).mean()
    assert error["own"] < 0.7 * error["shared"]
    assert fitted().channels == 5 and fitted().horizon_max == 64
    with pytest.raises(ValueError, match="4 channels; this was fitted on 5"):
        fitted().encode(waves(1, 16, 4))


def test_chunks_shorter_than_64_frames_are_enough_to_fit() -> None:
    chunks = list(waves(300, 32, 3))
    codec = fit_channels(shipped().tokenizer, chunks, vectors=4000, iterations=1)
    assert codec.horizon_max == 32
    assert np.isfinite(codec.decode(codec.encode(waves(2, 32, 3)).reshape(2, -1), 32, 3)).all()
    with pytest.raises(ValueError, match="33 frames; expected 1 to 32"):
        codec.encode(waves(1, 33, 3))


def test_too_little_to_fit_is_said() -> None:
    with pytest.raises(ValueError, match="640 frames; books of 2048 codes need 2048"):
        fit_channels(shipped().tokenizer, list(waves(10, 64, 3)))
    with pytest.raises(ValueError, match=r"sequences of \[3, 4\] channels"):
        fit_channels(shipped().tokenizer, [*waves(200, 64, 3), waves(1, 64, 4)[0]])


@pytest.mark.parametrize("make", [shipped, fitted])
def test_a_folder_gives_the_same_codes_back(make: object, tmp_path: Path) -> None:
    codec: ChannelCodec = make()  # type: ignore[operator]
    codec.save(tmp_path)
    again, x_BTD = ChannelCodec.load(tmp_path), waves(3, 20, 5)
    np.testing.assert_array_equal(again.encode(x_BTD), codec.encode(x_BTD))
    assert (again.fitted, again.channels, again.horizon_max) == (codec.fitted, codec.channels, codec.horizon_max)
    assert not list(tmp_path.glob(".*"))


def test_a_damaged_folder_is_refused(tmp_path: Path) -> None:
    fitted().save(tmp_path)
    path = tmp_path / "channels.json"
    good = json.loads(path.read_text())
    for change, message in (
        ({"tokenizer": "0" * 16}, "belongs to tokenizer"),
        ({"format": 99}, "has format 99"),
        ({"state": None}, "is damaged"),
        ({"state": good["state"] | {"steps_QD": good["state"]["steps_QD"][:3]}}, "is damaged"),
        ({"state": good["state"] | {"steps_QD": [[10**300] * 5] * 4}}, "is damaged"),
        ({"state": good["state"] | {"curve_DK": "x"}}, "is damaged"),
        ({"state": good["state"] | {"codebook_size": 10**12}}, "is damaged"),
        ({"state": StateCode.plain(4).to_dict()}, "is damaged"),
        ({"state": StateCode.plain(27).to_dict()}, "is damaged"),
        ({"more": 1}, "is not the configuration"),
    ):
        path.write_text(json.dumps(good | change))
        with pytest.raises(ValueError, match=message):
            ChannelCodec.load(tmp_path)
    path.write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        ChannelCodec.load(tmp_path)
