"""Shared residual books, and a robot measured on them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from words_kit import CHANNELS, QUICK, SMALL, numpy_decode, numpy_mapped, random_ids, waves
from xtok.codec.words import WordModel, encode, own_words
from xtok.codec.words.fit_shared import Taught, fit_shared, measure
from xtok.codec.words.grammar import LENGTHS
from xtok.codec.words.shared_books import (
    CODE_STEP,
    LevelMap,
    MeasuredRobot,
    SharedBooks,
    SharedLevel,
    with_shared_books,
)

SHORT = replace(
    QUICK,
    open_rows=300,
    closed=60,
    rough_sample=1000,
    sample=1500,
    iterations=(3, 2),
    word_sample=1000,
    word_iterations=3,
)
WIDTHS = (4, 7)


def taught(channels: int, seed: int) -> Taught:
    windows = waves(300, seed, channels).float()
    return Taught(windows, own_words(windows, torch.full((channels,), 0.2), SMALL.words, SHORT))


@cache
def shared_books() -> SharedBooks:
    return fit_shared([taught(channels, seed) for seed, channels in enumerate(WIDTHS)], SMALL, SHORT)


def measured(seed: int = 5, channels: int = CHANNELS) -> MeasuredRobot:
    robot = taught(channels, seed)
    return measure(robot.windows_NSK, robot.words, shared_books(), SMALL, SHORT)


@cache
def one_robot() -> MeasuredRobot:
    return measured()


def tensors_of(shared: SharedBooks) -> list[torch.Tensor]:
    found = [level for groups in shared.levels.values() for group in groups for level in group]
    return [each for level in found for each in (level.code_VC, level.class_V, level.spread_V)]


def same_books(one: WordModel, other: WordModel) -> bool:
    pairs = [
        (mine, theirs)
        for length, coder in one.coders.items()
        for group, others in zip(coder.books, other.coders[length].books, strict=True)
        for mine, theirs in zip(group, others, strict=True)
    ]
    return all(torch.equal(a.codes_VC, b.codes_VC) and torch.equal(a.spread_V, b.spread_V) for a, b in pairs)


def test_measuring_a_robot_leaves_shared_books_as_they_are() -> None:
    before = [each.clone() for each in tensors_of(shared_books())]
    measured(6, 3)
    assert all(torch.equal(a, b) for a, b in zip(before, tensors_of(shared_books()), strict=True))


def test_the_same_motion_gives_the_same_books_and_robots() -> None:
    again = fit_shared([taught(channels, seed) for seed, channels in enumerate(WIDTHS)], SMALL, SHORT)
    assert all(torch.equal(a, b) for a, b in zip(tensors_of(again), tensors_of(shared_books()), strict=True))
    other = measured()
    assert same_books(one_robot().model, other.model)
    assert torch.equal(one_robot().model.coders[4].weight_HFX, other.model.coders[4].weight_HFX)


def test_a_robot_is_rebuilt_from_shared_books_and_its_small_tensors_to_the_bit() -> None:
    robot = one_robot()
    bare = {n: replace(coder, books=(), _double={}) for n, coder in robot.model.coders.items()}
    stored = SharedBooks(
        {
            length: tuple(tuple(as_stored(level) for level in group) for group in groups)
            for length, groups in shared_books().levels.items()
        }
    )
    model = with_shared_books(SMALL, robot.model.words, bare, stored, robot.maps)
    assert same_books(robot.model, model)
    generator = np.random.default_rng(0)
    for horizon in (8, 31, 64):
        ids = [random_ids(SMALL, horizon, generator) for _ in range(8)]
        assert torch.equal(model.decode(ids, horizon), robot.model.decode(ids, horizon))


def as_stored(level: SharedLevel) -> SharedLevel:
    """Through the types that files keep."""
    code_VC = (level.code_VC / CODE_STEP).to(torch.int16).float() * CODE_STEP
    return SharedLevel(code_VC, level.class_V.to(torch.uint8).long(), level.spread_V)


def test_books_do_not_hang_on_the_order_in_which_products_are_added() -> None:
    shared = shared_books().levels[2][1][0]
    mine = one_robot().maps[2][1][0]
    order = torch.randperm(shared.code_VC.shape[1] + 1, generator=torch.Generator().manual_seed(3))
    one_VD, map_RDc = shared.with_one()[:, order], mine.map_RDc[:, order].double()
    code_Vc = (one_VD[:, None, :] * map_RDc[shared.class_V].transpose(1, 2)).flip(-1).cumsum(-1)[..., -1]
    assert torch.equal(code_Vc.float(), mine.book(shared).codes_VC)


def test_an_independent_decoder_agrees() -> None:
    robot = one_robot()
    books = numpy_mapped(shared_books(), robot.maps)
    for length in LENGTHS:
        for group, theirs in zip(robot.model.coders[length].books, books[length], strict=True):
            for level, (codes, spreads) in zip(group, theirs, strict=True):
                assert np.array_equal(level.codes_VC, codes) and np.array_equal(level.spread_V, spreads)
    generator = np.random.default_rng(1)
    for horizon in (8, 22, 64):
        for _ in range(4):
            ids = random_ids(SMALL, horizon, generator)
            ours = robot.model.decode([ids], horizon)[0].numpy()
            assert np.allclose(ours, numpy_decode(robot.model, ids, horizon, books), rtol=1e-9, atol=1e-9)


def test_shared_books_serve_a_robot_that_they_were_not_placed_on() -> None:
    model = one_robot().model
    motion = waves(60, 77)[:, :32]
    still = float(motion.abs().mean())
    errors, tokens = [], []
    for rate in (0.02, 0.3, 3.0):
        sequences = encode(model, motion, rate)
        errors.append(float((model.decode_sequences(sequences, 32) - motion).abs().mean()))
        tokens.append(float(sequences.tokens_B.double().mean()))
    assert errors[0] < 0.06 * still and errors == sorted(errors) and tokens == sorted(tokens, reverse=True)


def test_books_and_maps_that_do_not_fit_are_refused() -> None:
    shared, robot = shared_books(), taught(3, 0)
    other = replace(SMALL, residuals=tuple((key, 20) for key, _ in SMALL.residuals))
    with pytest.raises(ValueError, match=r"shared books of length 1 have \[24, 24, 24, 24\] codes; the grammar \[20"):
        measure(robot.windows_NSK, robot.words, shared, other, SHORT)
    with pytest.raises(ValueError, match=r"windows have shape \[300, 32, 3\]; expected \[2 or more, 64, K\]"):
        measure(robot.windows_NSK[:, :32], robot.words, shared, SMALL, SHORT)
    with pytest.raises(ValueError, match="need one robot or more"):
        fit_shared([], SMALL, SHORT)
    with pytest.raises(ValueError, match=r"multiples of 0\.001953125 below 64"):
        SharedLevel(torch.full((2, 3), 0.3), torch.zeros(2).long(), torch.ones(2))
    with pytest.raises(ValueError, match="maps are multiples of"):
        LevelMap(torch.full((1, 3, 3), 100.0), 1.0)
    with pytest.raises(ValueError, match=r"a map of shape \[1, 3, 2\]; this shared book needs"):
        LevelMap(torch.zeros(1, 3, 2), 1.0).book(shared.levels[1][0][0])
    with pytest.raises(ValueError, match=r"lengths \[1, 2\]; expected 1, 2 and 4"):
        SharedBooks({length: shared.levels[length] for length in (1, 2)})
