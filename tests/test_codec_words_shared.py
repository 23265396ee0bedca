"""One book of words for several robots."""

from __future__ import annotations

import pytest
import torch

from words_kit import QUICK, SMALL, waves
from xtok.actions.layout import ARMS26
from xtok.codec.words import NearestWords, encode, fit
from xtok.codec.words.fit import word_space
from xtok.codec.words.shared import Member, physical_book, whitened_book, with_physical_book, with_whitened_book

WIDTH = 20  # tangent channels of arms26
RIGHT = torch.arange(WIDTH).ge(7) & torch.arange(WIDTH).lt(14)  # position, rotation, gripper of the right arm
BOTH = torch.arange(WIDTH) < 14


def member(valid_D: torch.Tensor, scale: float, seed: int) -> Member:
    """A robot whose physical motions are about `scale` metres or radians large."""
    K = int(valid_D.sum())
    return Member(valid_D, torch.full((K,), scale), waves(400, seed, K).float())


def test_a_word_means_the_same_physical_motion_on_every_robot() -> None:
    one, two = member(RIGHT, 0.3, 0), member(BOTH, 0.15, 1)
    book = physical_book(ARMS26, [one, two], SMALL.words, QUICK)
    assert book.shape == (SMALL.words, 16, WIDTH)
    assert (book[..., 14:] == 0).all()  # nobody has a base, a lift or a head
    for robot in (one, two):
        space = word_space(robot.windows_NSK, robot.scale_K, QUICK)
        words = with_physical_book(space, book, robot.valid_D, robot.scale_K)
        meant = words.trajectories(torch.arange(SMALL.words)[:, None])[:, 0] * robot.scale_K
        assert torch.allclose(meant, book[..., robot.valid_D].double(), atol=1e-6)
        model = fit(robot.windows_NSK, robot.scale_K, SMALL, QUICK, words)
        motion = robot.windows_NSK[:20, :32].double()
        still = float(motion.abs().mean())
        assert float((model.decode_sequences(encode(model, motion, 0.1), 32) - motion).abs().mean()) < 0.35 * still


def told_apart(words: NearestWords, motion: torch.Tensor) -> float:
    """How much of the motion of first blocks words leave open, relative to its size."""
    path = words.trajectories(words.encode(motion))[:, 0]
    return float((path - motion[:, :16]).square().sum() / motion[:, :16].square().sum())


def test_words_of_whitened_directions_serve_robots_of_different_widths() -> None:
    robots = [member(torch.arange(WIDTH) < K, 1.0, seed) for K, seed in ((3, 2), (6, 3))]
    book = whitened_book(robots, 128, QUICK)
    for robot in robots:
        words = with_whitened_book(word_space(robot.windows_NSK, robot.scale_K, QUICK), book)
        motion = robot.windows_NSK[:60, :16].double()
        assert told_apart(words, motion) < 0.7
        assert len(words.encode(motion).unique()) > 10


def test_robots_of_another_layout_and_no_robots_are_refused() -> None:
    with pytest.raises(ValueError, match="needs one robot or more"):
        physical_book(ARMS26, [], 8, QUICK)
    with pytest.raises(ValueError, match="needs one robot or more"):
        whitened_book([], 8, QUICK)
    with pytest.raises(ValueError, match=r"other channels than layout 'arms26', which has 20"):
        physical_book(ARMS26, [member(torch.ones(3, dtype=torch.bool), 1.0, 0)], 8, QUICK)
    with pytest.raises(ValueError, match=r"a member has 7 channels but scale \[2\]"):
        Member(RIGHT, torch.ones(2), waves(4, 0, 7))
