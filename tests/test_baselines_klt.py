"""FAST on principal directions: what is turned comes back, variance falls, and what channels share is paid for once."""

from __future__ import annotations

import numpy as np
import pytest

from xtok.baselines.fast import Cosines, FastTokenizer
from xtok.baselines.klt import fit_klt

HORIZON, CHANNELS, SIZE = 8, 3, 24


def chunks(count: int, seed: int, shared: bool = True) -> Cosines:
    """Coefficients of three channels that follow one another, with a little of their own."""
    rng = np.random.default_rng(seed)
    one_NT = rng.normal(size=(count, HORIZON)) / (1 + np.arange(HORIZON))
    own_NTC = rng.normal(size=(count, HORIZON, CHANNELS)) / (1 + np.arange(HORIZON))[:, None]
    values_NTC = one_NT[..., None] * [1.0, -0.7, 0.4] + (0.05 if shared else 1.0) * own_NTC
    return Cosines(HORIZON, "tangent-rest", tuple(values_NTC.reshape(count, -1)))


def test_turned_coefficients_come_back_and_keep_their_distances() -> None:
    klt, given = fit_klt(chunks(200, 0)), chunks(5, 1)
    turned = klt.turn(given)
    assert (turned.horizon, turned.form) == (given.horizon, given.form)
    for before, after, back in zip(given.flat, turned.flat, klt.back(turned.flat), strict=True):
        assert np.allclose(before, back, atol=1e-12) and np.linalg.norm(before) == pytest.approx(np.linalg.norm(after))


def test_train_variance_falls_and_zero_stays_zero() -> None:
    train = chunks(400, 0)
    variance_X = np.square(np.stack(fit_klt(train, shrink=0.0).turn(train).flat)).mean(axis=0)
    assert (np.diff(variance_X) <= 1e-12).all() and variance_X[HORIZON:].max() < 0.02 * variance_X[0]
    still = Cosines(HORIZON, "tangent-rest", (np.zeros(SIZE),))
    assert not fit_klt(train).turn(still).flat[0].any()


def test_few_chunks_leave_the_other_directions_to_cosines() -> None:
    """Of two chunks a KLT knows two directions; unbelieved covariance orders the rest by variance, not by chance."""
    few, many = chunks(2, 0, shared=False), chunks(300, 1, shared=False)
    klt = fit_klt(few)
    spread_X = np.square(np.stack(klt.turn(many).flat)).mean(axis=0)
    assert np.allclose(klt.direction_XX.T @ klt.direction_XX, np.eye(SIZE), atol=1e-10)
    assert spread_X[: SIZE // 2].sum() > 2 * spread_X[SIZE // 2 :].sum()


def test_channels_that_move_together_cost_fewer_tokens_than_as_cosines() -> None:
    """At one scale rounding errs alike in both: the directions are orthonormal."""
    train, given = chunks(600, 0), chunks(60, 1)
    klt = fit_klt(train)
    spent, errors = [], []
    for fitted, asked, back in ((train, given, list), (klt.turn(train), klt.turn(given), klt.back)):
        fast = FastTokenizer({}, 6.0, form="tangent-rest").fit_cosines(fitted)
        codes = fast.encode_cosines(asked)
        spent.append(sum(map(len, codes.tokens)))
        decoded = back([values for values in fast.decode_cosines(codes) if values is not None])
        errors.append(float(np.square(np.stack(decoded) - np.stack(given.flat)).mean()))
        assert max(np.abs(np.stack(decoded) - np.stack(given.flat)).max(axis=1)) < 0.5 / 6.0 * np.sqrt(SIZE)
    assert spent[1] < 0.9 * spent[0] and errors[1] < 1.1 * errors[0]


def test_other_channels_are_refused() -> None:
    klt = fit_klt(chunks(20, 0))
    wrong = Cosines(HORIZON, "tangent-rest", (np.zeros(SIZE - HORIZON),))
    with pytest.raises(ValueError, match=r"have \[16\] coefficients, these directions 24; fit them anew"):
        klt.turn(wrong)
    with pytest.raises(ValueError, match="needs train chunks"):
        fit_klt(Cosines(HORIZON, "tangent-rest", ()))
