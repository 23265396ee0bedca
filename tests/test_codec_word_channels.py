"""Motion words of channels without a state: first frames, grammar, exact ids, repair, prices, files, fitting.

# B chunks, T frames, D channels
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from test_codec_channels import waves
from xtok.codec.channels import ChannelCodec, SaturationWarning
from xtok.codec.words import FitSettings, Grammar
from xtok.codec.words.channel_grammar import ChannelGrammar
from xtok.codec.words.channels import WordChannels, open_channels
from xtok.pretrain.word_channels import fit_word_channels, lengths_for

QUICK = FitSettings(
    lengths=lengths_for(16),
    sample=2000,
    rough_sample=1000,
    open_rows=400,
    closed=300,
    word_sample=1000,
    word_iterations=2,
    iterations=(2, 1),
    windows=400,
)


@cache
def fitted() -> WordChannels:
    return fit_word_channels(list(waves(150, 20, 4)), 2048, settings=QUICK)


@cache
def chunks() -> np.ndarray:
    return waves(12, 16, 4, seed=1)


def same(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> bool:
    return [ids.tolist() for ids in one] == [ids.tolist() for ids in other]


# -- exact -----------------------------------------------------------------------------------------------------------


def test_ids_are_the_same_alone_in_any_order_and_on_any_number_of_threads() -> None:
    ids = fitted().encode(chunks())
    assert len({len(each) for each in ids}) > 1
    assert same([fitted().encode(chunks()[b : b + 1])[0] for b in range(2)], ids[:2])
    assert same(fitted().encode(chunks()[::-1].copy()), ids[::-1])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        assert same(fitted().encode(chunks()[:3]), ids[:3])
    finally:
        torch.set_num_threads(threads)
    assert same(fitted().encode(torch.from_numpy(chunks()[:2])), ids[:2])


def test_decoding_is_the_same_alone_and_in_a_batch_and_near_the_chunks() -> None:
    fine = fitted().with_rate(0.01)
    ids = fine.encode(chunks())
    decoded = fine.decode(ids, 16)
    assert decoded.dtype == np.float32 and decoded.shape == (12, 16, 4)
    for b in range(4):
        np.testing.assert_array_equal(fine.decode(ids[b : b + 1], 16, 4)[0], decoded[b])
    assert np.abs(decoded - chunks()).mean() < 0.4 * np.abs(chunks() - chunks()[:, :1]).mean()


@pytest.mark.parametrize("horizon", [1, 3, 7, 8, 9, 13, 16, 20])
def test_every_length_up_to_the_longest_fitted_is_coded(horizon: int) -> None:
    x_BTD = waves(5, horizon, 4, seed=2)
    ids = fitted().encode(x_BTD)
    decoded = fitted().decode(ids, horizon)
    assert decoded.shape == x_BTD.shape
    assert np.abs(decoded - x_BTD).mean() < 0.3
    for each in ids:
        assert fitted().grammar.after(each.tolist(), max(8, horizon)).complete


def test_a_chunk_that_is_continued_costs_only_for_what_it_has() -> None:
    """T 5 is coded as 8 frames, and costs no more at its own rate than what another rate makes of it."""
    x_BTD = waves(8, 5, 4, seed=3)
    words = fitted().with_rate(0.05)
    ids = words.encode(x_BTD)
    cost = np.abs(words.decode(ids, 5) - x_BTD).sum((1, 2)) + 0.05 * np.array([len(each) for each in ids])
    other = words.with_rate(0.4).encode(x_BTD)
    dear = np.abs(words.decode(other, 5) - x_BTD).sum((1, 2)) + 0.05 * np.array([len(each) for each in other])
    assert cost.mean() <= dear.mean()


# -- prices ----------------------------------------------------------------------------------------------------------


def test_tokens_fall_and_errors_rise_with_the_rate() -> None:
    found = []
    for rate in (0.05, 0.3, 2.0):
        words = fitted().with_rate(rate)
        ids = words.encode(chunks())
        found.append((np.mean([len(i) for i in ids]), np.abs(words.decode(ids, 16) - chunks()).mean()))
    assert all(left[0] > right[0] and left[1] < right[1] for left, right in pairwise(found))
    assert fitted().with_rate(0.5).digest == fitted().digest


def test_a_mean_number_of_tokens_can_be_asked_for() -> None:
    few = chunks()[:4]
    words = fitted().with_tokens(6.0, few)
    assert abs(np.mean([len(ids) for ids in words.encode(few)]) - 6.0) < 0.5
    with pytest.raises(ValueError, match=r"cost .* at least"):
        fitted().with_tokens(1.0, few)


def test_the_fixed_form_gives_all_chunks_of_one_length_as_many_tokens() -> None:
    words = fitted().with_fixed(5)
    for horizon, expected in ((16, 7), (20, 13), (8, 7)):
        ids = words.encode(waves(6, horizon, 4, seed=4))
        assert {len(each) for each in ids} == {expected} == {words.fixed_length(horizon)}
        assert np.isfinite(words.decode(ids, horizon)).all()
    assert fitted().fixed_length(16) is None


# -- first frames ----------------------------------------------------------------------------------------------------


def test_the_nearest_first_frames_are_found_exactly() -> None:
    book = fitted().book
    x_ND = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (50, 4)))
    first, second = book.candidates(x_ND, 3)
    every = torch.cdist(x_ND, book.levels[0].codes_VC.double())
    torch.testing.assert_close(every.gather(1, first[..., 0]), every.topk(3, largest=False).values)
    assert (first[..., 1] == -1).all() and (second >= 0).all()
    off = [(book.decode(codes[:, 0]) - x_ND).norm(dim=1).mean() for codes in (first, second)]
    assert off[1] < off[0]


def test_motion_is_relative_to_where_a_chunk_usually_goes() -> None:
    """Channels that are velocities fall back to rest: what words have to code is smaller than a step from the first
    frame would be."""
    rng = np.random.default_rng(0)
    first = rng.uniform(-1, 1, (300, 1, 3))
    x_BTD = first * 0.8 ** np.arange(16)[:, None] + 0.01 * rng.normal(size=(300, 16, 3))
    words = fit_word_channels(list(x_BTD), 2048, settings=QUICK)
    state_BD = torch.from_numpy(x_BTD[:, 0])
    left = words.book.base(state_BD, 16).numpy() - x_BTD
    assert np.abs(left).mean() < 0.15 * np.abs(x_BTD[:, :1] - x_BTD).mean()


# -- the grammar and what does not follow it ---------------------------------------------------------------------------

SMALL = ChannelGrammar((3, 2), Grammar(4, tuple(((n, q), 2) for n in (1, 2, 4) for q in range(1, 5))))


@given(st.lists(st.integers(-2, SMALL.total + 1), max_size=12), st.sampled_from([8, 16, 20]))
@settings(max_examples=300, deadline=None)
def test_the_automaton_allows_what_it_steps_over(ids: list[int], horizon: int) -> None:
    state = SMALL.start(horizon)
    for place, token in enumerate(ids):
        if token not in SMALL.allowed(state):
            with pytest.raises(ValueError, match=f"token {place}"):
                SMALL.step(state, token, place)
            return
        state = SMALL.step(state, token, place)
    if SMALL.allowed(state).end:
        codes, motion = SMALL.split(ids, horizon)
        assert SMALL.join(codes, motion) == tuple(ids) and 1 <= len(codes) <= 2
        assert SMALL.motion.parse(motion, horizon)


@given(st.lists(st.integers(-2, SMALL.total + 1), max_size=8), st.sampled_from([8, 20]))
@settings(max_examples=200, deadline=None)
def test_whatever_is_repaired_parses_and_what_parses_is_left_alone(ids: list[int], horizon: int) -> None:
    repaired = SMALL.repair(ids, horizon)
    codes, _ = SMALL.split(repaired.ids, horizon)
    assert codes
    assert SMALL.repair(repaired.ids, horizon) == type(repaired)(repaired.ids, ())
    assert bool(repaired.remarks) == (list(repaired.ids) != ids)
    assert len(repaired.remarks) <= len(ids) + 1 + (2 if horizon == 20 else 1)


def test_one_wrong_token_is_one_change() -> None:
    whole = [1, 4, 5, 9, SMALL.offset + SMALL.motion.range_of(4, 1)[0]]
    SMALL.split(whole[:3] + whole[4:], 16)
    for place, message in ((0, "first frame"), (2, "word of block 0")):
        cut = [token for i, token in enumerate(whole[:3] + whole[4:]) if i != place]
        remarks = SMALL.repair(cut if place else cut[1:], 16).remarks
        assert len(remarks) == 1 and message in remarks[0] and "was missing" in remarks[0]
    assert len(SMALL.repair([2, *whole[:3], whole[4]], 16).remarks) == 1  # two first frames: one of them goes


def test_ids_that_cannot_be_raise_or_are_repaired_and_told() -> None:
    words = fitted()
    ids = words.encode(chunks()[:1])[0].tolist()
    for bad, message in (
        (ids[1:], "sequence 0: token 0 is .*; expected level 1 of the first frame"),
        (ids[:1], "it ends after 1 tokens; expected .*word of block 0"),
        ([*ids, words.vocab_size], f"id {words.vocab_size}"),
        ([*ids, ids[0]], "cannot|expected"),
        ([], "ends after 0 tokens"),
    ):
        with pytest.raises(ValueError, match=message):
            words.decode([bad], 16)
        if bad:
            with pytest.warns(UserWarning, match="was repaired"):
                assert np.isfinite(words.decode([bad], 16, on_invalid="repair")).all()
    for hopeless in ([], [-1], [words.vocab_size]):
        with pytest.raises(ValueError, match="no token that can be kept"):
            words.decode([hopeless], 16, on_invalid="repair")
    for kind, message in (("text", "are a str"), ([], "there are no sequences"), ([[0.5]], "sequence 0")):
        with pytest.raises(ValueError, match=message):
            words.decode(kind, 16)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="on_invalid"):
        words.decode([ids], 16, on_invalid="drop")  # type: ignore[arg-type]


def test_whatever_the_automaton_allows_decodes() -> None:
    words, rng = fitted(), np.random.default_rng(0)
    rows = []
    for _ in range(30):
        state, ids = words.grammar.start(20), []
        while (ranges := words.grammar.allowed(state).ranges) and not (state.complete and rng.random() < 0.3):
            low, high = ranges[rng.integers(len(ranges))]
            ids.append(int(rng.integers(low, high)))
            state = words.grammar.step(state, ids[-1], len(ids) - 1)
        rows.append(ids)
    assert np.isfinite(words.decode(rows, 20)).all()


# -- what goes in ------------------------------------------------------------------------------------------------------


def test_values_outside_the_range_are_told_and_never_clipped() -> None:
    words, x_BTD = fitted(), chunks()[:4].copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        words.encode(x_BTD)
    x_BTD[0, 8:, 2] = 1.9
    with pytest.warns(SaturationWarning, match="motion words were fitted on.*largest is 1.9 in channel 2"):
        ids = words.with_rate(0.01).encode(x_BTD)
    assert words.decode(ids, 16)[0, -1, 2] > 1.05  # small books reach no further; all were placed below
    with pytest.raises(ValueError, match="normalised to about"):
        words.encode(x_BTD * 100)
    outside = words.outside(x_BTD)
    assert outside is not None and outside.channel == 2


def test_shapes_that_do_not_fit_are_errors() -> None:
    words, x_BTD = fitted(), chunks()
    with pytest.raises(ValueError, match="actions have 3 channels; this was fitted on 4"):
        words.encode(x_BTD[..., :3])
    with pytest.raises(ValueError, match="chunks have 21 frames; expected 1 to 20"):
        words.encode(waves(1, 21, 4))
    with pytest.raises(ValueError, match="there are no chunks"):
        words.encode(x_BTD[:0])
    with pytest.raises(ValueError, match=r"expected \[B, T, D\]"):
        words.encode(x_BTD[0])
    broken = x_BTD.copy()
    broken[1, 2, 3] = np.nan
    with pytest.raises(ValueError, match=r"nan at index \[1, 2, 3\]"):
        words.encode(broken)


# -- files -------------------------------------------------------------------------------------------------------------


def test_saved_words_come_back_and_nothing_that_was_altered(tmp_path: Path) -> None:
    words = fitted().with_rate(0.3)
    words.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "channels.json"}
    for again in (WordChannels.load(tmp_path), open_channels(tmp_path)):
        assert isinstance(again, WordChannels) and again.digest == words.digest and again.coding == words.coding
        assert same(again.encode(chunks()[:4]), words.encode(chunks()[:4]))
    with pytest.raises(ValueError, match=r"holds motion words.*form='codes'"):
        ChannelCodec.load(tmp_path)
    content = json.loads((tmp_path / "channels.json").read_text())
    for change in (
        {"low_D": [-9.0] * 4},
        {"horizon_max": 65},
        {"states": [128]},
        {"channels": 5},
        {"format": 9},
        {"coding": {}},
        {"states": "many"},
        {"codec": None},
        {"more": 1},
    ):
        (tmp_path / "channels.json").write_text(json.dumps(content | change))
        with pytest.raises(ValueError, match=r"channels\.json"):
            WordChannels.load(tmp_path)
    (tmp_path / "channels.json").write_text(json.dumps(content))
    (tmp_path / "model.safetensors").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(ValueError, match="damaged"):
        WordChannels.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        WordChannels.load(tmp_path / "absent")


# -- fitting -----------------------------------------------------------------------------------------------------------


def test_fitting_twice_gives_the_same_words_and_other_seeds_others() -> None:
    one, two, other = (fit_word_channels(list(waves(60, 16, 2)), 2048, settings=QUICK, seed=s) for s in (0, 0, 1))
    assert one.digest == two.digest != other.digest
    assert one.channels == 2 and one.horizon_max == 16 and one.vocab_size == 2048


@pytest.mark.parametrize(("frames", "channels"), [(4, 1), (8, 3), (12, 2), (40, 3)])
def test_chunks_of_any_length_and_width_can_be_fitted(frames: int, channels: int) -> None:
    settings = FitSettings(**{**vars(QUICK), "lengths": lengths_for(frames), "windows": 150})
    words = fit_word_channels(list(waves(80, frames, channels)), 2048, settings=settings)
    x_BTD = waves(4, frames, channels, seed=5)
    assert words.horizon_max == frames
    assert np.abs(words.decode(words.encode(x_BTD), frames) - x_BTD).mean() < 0.3


def test_one_chunk_that_lies_far_out_is_told_and_fitted() -> None:
    x_BTD = waves(80, 16, 2)
    x_BTD[7] += 2.5
    with pytest.warns(SaturationWarning):
        words = fit_word_channels(list(x_BTD), 2048, settings=QUICK)
    assert words.high_D.max() > x_BTD[7].max()


def test_what_cannot_be_fitted_says_why() -> None:
    with pytest.raises(ValueError, match="give more chunks"):
        fit_word_channels(list(waves(2, 16, 3)), 2048, settings=QUICK)
    with pytest.raises(ValueError, match=r"sequences of \[3, 4\] channels"):
        fit_word_channels([*waves(9, 16, 3), *waves(9, 16, 4)], 2048, settings=QUICK)
    with pytest.raises(ValueError, match="vocabulary of 100 ids"):
        fit_word_channels(list(waves(90, 16, 3)), 100, settings=QUICK)
    with pytest.raises(ValueError, match="normalised to about"):
        fit_word_channels(list(90 * waves(90, 16, 3)), 2048, settings=QUICK)
    with pytest.raises(ValueError, match="longer than the windows"):
        fit_word_channels(list(waves(90, 16, 3)), 2048, settings=FitSettings(**{**vars(QUICK), "lengths": ((32, 1),)}))
