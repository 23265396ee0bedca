"""Noise in physical space, edit distances, flipped and swapped codes, code use."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import evaluate_kit as kit
from xtok.actions.layout import ARMS26, JOINTS
from xtok.actions.rotation import geodesic_rad, matrix_from_rotation6d
from xtok.actions.types import Codes
from xtok.evaluate import codebook, robustness, swap
from xtok.evaluate.batches import encode
from xtok.evaluate.codebook import code_counts, perplexity, usage
from xtok.evaluate.coded import Coded
from xtok.evaluate.robustness import add_noise, changed_tokens, flip_per_level, word_error_rate
from xtok.evaluate.swap import swap_one_token

sequences = st.lists(st.integers(0, 3), min_size=1, max_size=8).map(np.array)


def edit_distance(a: np.ndarray, b: np.ndarray) -> int:
    """The textbook recursion, as an oracle."""
    table = np.arange(len(b) + 1)
    for i, x in enumerate(a, start=1):
        above, table = table, np.full(len(b) + 1, i)
        for j, y in enumerate(b, start=1):
            table[j] = min(above[j] + 1, table[j - 1] + 1, above[j - 1] + (x != y))
    return int(table[-1])


def test_noise_has_the_asked_size_in_physical_units() -> None:
    chunks = kit.chunks(ARMS26, horizon=64, episodes=8, stride=2)
    noisy = add_noise(chunks, sigma=0.004, seed=0)
    moved = noisy.target_BTD - chunks.target_BTD
    assert moved[..., ARMS26.slices["right_position"]].std().item() == pytest.approx(0.004, rel=0.02)
    assert moved[..., ARMS26.slices["right_gripper"]].std().item() == pytest.approx(0.004, rel=0.02)
    rotation = ARMS26.slices["right_rotation"]
    before, after = (matrix_from_rotation6d(x.target_BTD[..., rotation].double()) for x in (chunks, noisy))
    angle = geodesic_rad(before, after)
    assert angle.square().mean().sqrt().item() == pytest.approx(0.004 * 3**0.5, rel=0.02)  # three axes
    off_orthonormal = after.mT @ after - torch.eye(3, dtype=torch.float64)
    assert off_orthonormal.abs().max().item() < 1e-5


def test_noise_leaves_anchors_and_absent_channels_alone_and_can_be_repeated() -> None:
    chunks = kit.chunks(ARMS26, horizon=8)
    noisy = add_noise(chunks, sigma=0.002, seed=3)
    assert noisy.context is chunks.context
    assert (noisy.target_BTD[..., ~torch.from_numpy(kit.mask(ARMS26))] == 0).all()
    assert torch.equal(noisy.target_BTD, add_noise(chunks, sigma=0.002, seed=3).target_BTD)
    assert not torch.equal(noisy.target_BTD, add_noise(chunks, sigma=0.002, seed=4).target_BTD)


@given(sequences, sequences)
def test_word_error_rate_is_edit_distance_over_clean_length(clean: np.ndarray, noisy: np.ndarray) -> None:
    rate = word_error_rate(Codes((clean,), 4), Codes((noisy,), 4))
    assert rate == pytest.approx(edit_distance(clean, noisy) / len(clean))
    changed = changed_tokens(clean, noisy)
    assert changed.shape == noisy.shape and changed.sum() <= edit_distance(clean, noisy)


def test_flips_are_counted_level_by_level() -> None:
    clean = Codes.from_grid(torch.zeros(2, 5, 3, dtype=torch.long), vocab_size=8)
    grid_BMQ = torch.zeros(2, 5, 3, dtype=torch.long)
    grid_BMQ[0, :3, 1] = 7
    grid_BMQ[..., 2] = 1
    assert flip_per_level(clean, Codes.from_grid(grid_BMQ, vocab_size=8)) == pytest.approx([0.0, 0.3, 1.0])


def test_coarse_codes_flip_less_and_more_noise_flips_more() -> None:
    chunks, tokenizer = kit.chunks(ARMS26, horizon=16, episodes=4, stride=1), kit.StepTokenizer(kit.statistics(ARMS26))
    answers = dict(robustness.run(Coded(tokenizer, chunks), seed=0))
    assert list(answers["wer"]) == ["0.002", "0.004", "0.006", "0.008"]
    for flips in answers["flip_per_level"].values():
        assert flips == sorted(flips)
    assert answers["q0_flip"]["0.002"] == answers["flip_per_level"]["0.002"][0]
    assert answers["wer"]["0.002"] < answers["wer"]["0.008"]


def test_perplexity_and_usage() -> None:
    assert perplexity(np.full(64, 9)) == pytest.approx(64)
    assert perplexity(np.array([0, 12, 0])) == pytest.approx(1)
    assert usage(np.array([0, 12, 0, 1])) == 0.5


def test_code_counts_are_by_level_with_a_grid_and_flat_without() -> None:
    grid_BMQ = torch.tensor([[[0, 3], [1, 3]], [[1, 3], [1, 2]]])
    codes = Codes.from_grid(grid_BMQ, vocab_size=4)
    assert [level.tolist() for level in code_counts(codes)] == [[1, 3, 0, 0], [0, 0, 1, 3]]
    assert [level.tolist() for level in code_counts(Codes(codes.tokens, 4))] == [[1, 3, 1, 3]]
    answers = dict(codebook.run(Coded(kit.StepTokenizer(kit.statistics(JOINTS)), kit.chunks(JOINTS, horizon=8))))
    assert len(answers["usage"]) == len(answers["perplexity"]) == 3


def test_a_swap_changes_exactly_one_token_of_each_sequence() -> None:
    codes = encode(kit.StepTokenizer(kit.statistics(JOINTS)), kit.chunks(JOINTS, horizon=16))
    swapped = swap_one_token(codes, seed=1)
    places = []
    for before, after in zip(codes.tokens, swapped.tokens, strict=True):
        assert (before != after).sum() == 1 and after.min() >= 0 and after.max() < codes.vocab_size
        places.append(int((before != after).argmax()))
    assert len(set(places)) > 6  # anywhere in the sequence
    assert swapped.grid_BMQ is not None
    assert torch.equal(swapped.grid_BMQ.flatten(1), torch.from_numpy(np.stack(swapped.tokens)))


def test_swapped_tokens_of_a_code_of_fixed_length_always_decode() -> None:
    chunks, statistics = kit.chunks(ARMS26, horizon=16), kit.statistics(ARMS26)
    answers = dict(swap.run(Coded(kit.StepTokenizer(statistics), chunks), statistics, seed=0))
    assert answers["swap_failure_rate"] == 0
    assert answers["swap_position_mm"] > 0
