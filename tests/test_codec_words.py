"""Motion words: the encoder, the decoder beside one in plain numpy, sameness under batches, padding and threads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from words_kit import CHANNELS, SMALL, numpy_decode, random_ids, small_model, waves
from xtok.codec.words import Sequences, WordStream, encode, encode_fixed
from xtok.codec.words.nearest import Book


def l1(sequences: Sequences, motion_BTK: torch.Tensor) -> float:
    return float((small_model().decode_sequences(sequences, motion_BTK.shape[1]) - motion_BTK).abs().mean())


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 64), st.integers(0, 2**32 - 1))
def test_decoder_agrees_with_one_in_plain_numpy(horizon: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    ids = [random_ids(SMALL, horizon, generator) for _ in range(3)]
    got_BTK = small_model().decode(ids, horizon)
    assert got_BTK.shape == (3, horizon, CHANNELS)
    assert torch.isfinite(got_BTK).all()
    want_BTK = np.stack([numpy_decode(small_model(), row, horizon) for row in ids])
    size = max(1.0, float(np.abs(want_BTK).max()))
    assert np.abs(got_BTK.numpy() - want_BTK).max() < 1e-9 * size


@pytest.mark.parametrize("horizon", [8, 21, 32, 64])
def test_numpy_decoder_agrees_on_what_the_encoder_writes(horizon: int) -> None:
    motion = waves(20, 1)[:, :horizon]
    ids = [row.tolist() for row in encode(small_model(), motion, 0.1).ids(SMALL)]
    want = np.stack([numpy_decode(small_model(), row, horizon) for row in ids])
    assert np.abs(small_model().decode(ids, horizon).numpy() - want).max() < 1e-9


@pytest.mark.parametrize("horizon", [8, 19, 32, 64])
def test_a_lower_rate_spends_more_and_errs_less(horizon: int) -> None:
    motion = waves(60, 2)[:, :horizon]
    found = [encode(small_model(), motion, rate) for rate in (3.0, 0.3, 0.02)]
    tokens = [float(each.tokens_B.double().mean()) for each in found]
    errors = [l1(each, motion) for each in found]
    assert tokens == sorted(tokens) and tokens[0] < tokens[2]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 0.2 * float(motion.abs().mean())


def test_rates_by_chunk_are_those_of_single_chunks() -> None:
    motion, rate = waves(3, 3)[:, :32], torch.tensor([0.02, 0.3, 3.0])
    together = encode(small_model(), motion, rate).ids(SMALL)
    for row in range(3):
        alone = encode(small_model(), motion[row : row + 1], float(rate[row])).ids(SMALL)
        assert (alone[0] == together[row]).all()


def test_more_paths_cost_no_more() -> None:
    motion = waves(60, 4)[:, :32]

    def cost(paths: int) -> float:
        found = encode(small_model(), motion, 0.1, paths)
        off = small_model().decode_sequences(found, 32) - motion
        return float(off.abs().sum() + 0.1 * found.tokens_B.sum())

    assert cost(8) < cost(2) < cost(1)


@pytest.mark.parametrize("horizon", [8, 30, 64])
@pytest.mark.parametrize("residuals", [0, 1, 5, 32])
def test_the_fixed_form_has_one_length(horizon: int, residuals: int) -> None:
    motion = waves(20, 5)[:, :horizon]
    found = encode_fixed(small_model(), motion, residuals)
    slots = -(-horizon // 4)
    due = sum(1 + min(residuals, 8 * min(4, slots - start)) for start in range(0, slots, 4))
    assert set(found.tokens_B.tolist()) == {due}
    assert small_model().decode(found.ids(SMALL), horizon).shape == motion.shape


def test_more_residuals_of_the_fixed_form_err_less() -> None:
    motion = waves(40, 6)[:, :32]
    errors = [l1(encode_fixed(small_model(), motion, residuals), motion) for residuals in (0, 2, 6, 12)]
    assert errors == sorted(errors, reverse=True)


# -- codes depend on the chunk alone -----------------------------------------------------------------------------------


@pytest.mark.parametrize("horizon", [8, 23, 32])
def test_codes_do_not_depend_on_batch_or_order(horizon: int) -> None:
    motion = waves(70, 7)[:, :horizon]
    whole = encode(small_model(), motion, 0.1)
    order = torch.randperm(70, generator=torch.Generator().manual_seed(0))
    shuffled = encode(small_model(), motion[order], 0.1)
    parts = [encode(small_model(), part, 0.1) for part in motion.split(13)]
    alone = [encode(small_model(), motion[row : row + 1], 0.1) for row in range(0, 70, 10)]
    for name in ("words_BN", "length_BM", "codes_BMQ"):
        expected = getattr(whole, name)
        assert torch.equal(getattr(shuffled, name), expected[order])
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), expected)
        assert torch.equal(torch.cat([getattr(each, name) for each in alone]), expected[::10])


def test_codes_do_not_depend_on_threads_or_dtype() -> None:
    motion = waves(12, 8)[:, :16].float()
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(encode(small_model(), motion, 0.1))
    finally:
        torch.set_num_threads(before)
    found.append(encode(small_model(), motion.double(), 0.1))
    for other in found[1:]:
        assert torch.equal(other.codes_BMQ, found[0].codes_BMQ)
        assert torch.equal(other.words_BN, found[0].words_BN)


def test_what_a_last_slot_lacks_is_held_and_does_not_count() -> None:
    motion = waves(30, 9)[:, :30]
    held = torch.cat([motion, motion[:, -1:].expand(-1, 2, -1)], dim=1)
    ids = [row.tolist() for row in encode(small_model(), motion, 0.1).ids(SMALL)]
    assert torch.equal(small_model().decode(ids, 32)[:, :30], small_model().decode(ids, 30))
    assert l1(encode(small_model(), motion, 0.1), motion) <= 1.05 * l1(encode(small_model(), held, 0.1), held)


def test_words_do_not_depend_on_the_rate() -> None:
    motion = waves(30, 10)[:, :48]
    words = [encode(small_model(), motion, rate).words_BN for rate in (0.01, 1.0)]
    assert torch.equal(*words)
    assert torch.equal(encode_fixed(small_model(), motion, 3).words_BN, words[0])


# -- the rest ----------------------------------------------------------------------------------------------------------


def test_refuses_what_it_cannot_code() -> None:
    model, motion = small_model(), waves(2, 11)
    with pytest.raises(ValueError, match="expected 8 to 64"):
        encode(model, motion[:, :7], 0.1)
    with pytest.raises(ValueError, match=r"expected \[B, T, 5\]"):
        encode(model, motion[..., :4], 0.1)
    with pytest.raises(ValueError, match="NaN or inf"):
        encode(model, motion * torch.nan, 0.1)
    with pytest.raises(ValueError, match="rate: expected"):
        encode(model, motion, -1.0)
    with pytest.raises(ValueError, match="expected 0 to 32"):
        encode_fixed(model, motion, 33)
    with pytest.raises(ValueError, match="row 1: token 0 is residual"):
        model.decode([[0, 1], [SMALL.words]], 32)


def test_no_chunks_are_no_sequences() -> None:
    found = encode(small_model(), waves(1, 0)[:0, :32], 0.1)
    assert len(found) == 0 and found.ids(SMALL) == []
    assert small_model().decode([], 32).shape == (0, 32, CHANNELS)


@pytest.mark.parametrize("horizon", [8, 27, 64])
def test_a_stream_shows_what_its_tokens_would_decode_to(horizon: int) -> None:
    generator = np.random.default_rng(horizon)
    ids = random_ids(SMALL, horizon, generator)
    whole = small_model().decode([ids], horizon)[0]
    stream = WordStream(small_model(), horizon)
    assert stream.motion_TK.shape == (0, CHANNELS)
    for place, token in enumerate(ids):
        changed = stream.push(token)
        begun = stream.motion_TK
        blocks = sum(each < SMALL.words for each in ids[: place + 1])
        assert len(begun) == min(horizon, 16 * blocks) == changed.stop
        state = SMALL.after(ids[: place + 1], horizon)
        assert state.block == blocks - 1
        if state.complete:
            assert torch.equal(begun, small_model().decode([ids[: place + 1]], horizon)[0])
        assert torch.equal(begun[: stream.settled], whole[: stream.settled])
    assert stream.complete and torch.equal(stream.motion_TK, whole)
    with pytest.raises(ValueError, match=f"token {len(ids)} is word"):
        stream.push(0)


def test_nearest_codes_are_those_of_float64_in_full() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(500, 7, generator=generator)
    codes[100:110] = codes[0]  # twins: the first one counts
    x = torch.cat([torch.randn(300, 7, generator=generator).double(), codes[:20].double()])
    book = Book(codes)
    full = (codes.double().square().sum(1) / 2 - x @ codes.double().T).argsort(dim=1, stable=True)
    assert torch.equal(book.least(x, 1), full[:, :1])
    assert torch.equal(book.least(x[:300], 4), full[:300, :4])
