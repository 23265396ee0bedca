"""Wrong motion words: what the grammar allows, what is repaired and counted, and what stays within a book."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache

import numpy as np
import pytest

import evaluate_kit as kit
from word_tokenizer_kit import word_coder
from words_kit import SMALL, random_ids
from xtok.actions.layout import JOINTS
from xtok.actions.types import ChunkBatch
from xtok.baselines.fast import FastTokenizer
from xtok.evaluate import Budget, corruption, evaluate_dataset, render, swap, to_json
from xtok.evaluate.coded import Coded
from xtok.evaluate.corruption import Corrupted, decode_or_not
from xtok.evaluate.faults import KINDS, ONE_TOKEN
from xtok.evaluate.word_faults import ALLOWED, DROPS, LEVELS, parses, word_kinds

T = 32
RATES = (0.0, 0.1, 0.4)


@cache
def chunks() -> ChunkBatch:
    return kit.chunks(JOINTS, T, episodes=2, stride=10)


@cache
def coded() -> Coded:
    return Coded(word_coder(), chunks())


@cache
def curve() -> dict[str, list[Corrupted]]:
    return dict(corruption.run(coded(), word_coder().statistics, 0, RATES))["corruption"]


def test_codes_within_a_book_parse_and_nothing_else_changes() -> None:
    rng, kinds = np.random.default_rng(0), word_kinds(SMALL, T)
    for _ in range(30):
        tokens = np.array(random_ids(SMALL, T, rng))
        for kind, level in LEVELS.items():
            out = kinds[kind](tokens, 1.0, SMALL.total, rng)
            assert parses(SMALL, out, T)
            for before, after in zip(map(SMALL.symbol, tokens.tolist()), map(SMALL.symbol, out.tolist()), strict=True):
                assert (before.length, before.level) == (after.length, after.level)
                assert (before.code != after.code) == (before.level == level)


def test_allowed_ids_are_all_those_that_the_mask_leaves_and_no_others() -> None:
    """One word, one residual behind it; the second token is always the wrong one."""
    word, first = 3, SMALL.range_of(2, 1)[0]
    flip, found = word_kinds(SMALL, 16)[ALLOWED], Counter[int]()
    rng = np.random.default_rng(1)
    for _ in range(3000):
        out = flip(np.array([word, first]), ONE_TOKEN, SMALL.total, rng)
        assert parses(SMALL, out, 16) or out[0] == word
        if out[0] == word:
            found[int(out[1])] += 1
    state = SMALL.after([word], 16)
    allowed = {token for low, high in SMALL.allowed(state).ranges for token in range(low, high)} - {first}
    assert set(found) == allowed


@pytest.mark.parametrize("horizon", [8, 30, 64])
def test_under_the_mask_only_a_word_can_be_missing(horizon: int) -> None:
    rng, flip = np.random.default_rng(2), word_kinds(SMALL, horizon)[ALLOWED]
    whole = 0
    for _ in range(60):
        tokens = np.array(random_ids(SMALL, horizon, rng))
        assert (flip(tokens, 0.0, SMALL.total, rng) == tokens).all()
        out = flip(tokens, 0.3, SMALL.total, rng)
        state = SMALL.after(out.tolist(), horizon)  # every token may stand where it stands
        assert parses(SMALL, out, horizon) == state.complete
        assert len(out) <= len(tokens)
        whole += state.complete
    assert whole >= 30


def test_a_missing_word_never_parses_and_a_missing_residual_may() -> None:
    rng, kinds = np.random.default_rng(5), word_kinds(SMALL, T)
    kept = 0
    for _ in range(60):
        tokens = np.array(random_ids(SMALL, T, rng))
        without = kinds["drop word"](tokens, ONE_TOKEN, SMALL.total, rng)
        assert len(without) == len(tokens) - 1 and not parses(SMALL, without, T)
        assert (without >= SMALL.words).sum() == (tokens >= SMALL.words).sum()
        rest = kinds["drop residual"](tokens, ONE_TOKEN, SMALL.total, rng)
        residuals = int((tokens >= SMALL.words).sum())
        assert len(rest) == len(tokens) - min(1, residuals) and (rest < SMALL.words).sum() == 2
        kept += parses(SMALL, rest, T)
        assert len(kinds["drop residual"](tokens, 1.0, SMALL.total, rng)) == 2
    assert 0 < kept < 60


def test_one_token_is_one_token() -> None:
    rng, tokens = np.random.default_rng(3), np.arange(20)
    for kind, lost in (("flip", 0), ("drop", 1), ("truncate", 1), ("swap", 0)):
        outs = [KINDS[kind](tokens, ONE_TOKEN, 64, rng) for _ in range(50)]
        assert {20 - len(out) for out in outs} == {lost}
        if not lost:
            assert {int((out != tokens).sum()) for out in outs} == {2 if kind == "swap" else 1}
        assert KINDS[kind](tokens[:0], ONE_TOKEN, 64, rng).size == 0


def test_every_kind_has_a_curve_and_all_of_it_is_motion() -> None:
    assert list(curve()) == [*KINDS, ALLOWED, *DROPS, *LEVELS]
    for kind, points in curve().items():
        assert [point.rate for point in points] == list(RATES)
        assert {point.decoded + point.repaired for point in points} == {len(chunks())}  # none failed
        assert points[0].repaired == 0 and points[0].l1 == curve()["flip"][0].l1
        if kind in LEVELS:
            assert {point.repaired for point in points} == {0}
    assert curve()["flip"][0].l1 < curve()["flip"][1].l1 < curve()["flip"][2].l1
    assert curve()["flip"][2].repaired > curve()[ALLOWED][2].repaired  # the mask keeps most of them whole
    assert curve()["flip word"][2].l1 > curve()["flip level 2"][2].l1  # coarse to fine
    assert curve()["drop"][2].repaired > 0


def test_repaired_rows_are_those_that_do_not_parse() -> None:
    clean, context, rng = coded().codes, chunks().context, np.random.default_rng(4)
    tokens = [
        KINDS["flip"](sequence, 0.2 * (row % 2), clean.vocab_size, rng) for row, sequence in enumerate(clean.tokens)
    ]
    actions, repaired = decode_or_not(word_coder(), tokens, clean, context)
    good = np.array([parses(SMALL, sequence, T) for sequence in tokens])
    assert 0 < repaired == (~good).sum() < len(tokens)
    for row in (int(np.flatnonzero(good)[0]), int(np.flatnonzero(~good)[0])):
        alone, _ = decode_or_not(word_coder(), tokens[row : row + 1], clean, context[row : row + 1])
        np.testing.assert_array_equal(alone.delta_BTD[0].numpy(), actions.delta_BTD[row].numpy())


def test_what_cannot_be_repaired_has_failed_and_spoils_no_other_row() -> None:
    clean, context = coded().codes, chunks().context
    tokens = [sequence.copy() for sequence in clean.tokens]
    tokens[2], tokens[5] = tokens[2][:0], np.append(tokens[5], 0)  # nothing at all; one word too many
    actions, repaired = decode_or_not(word_coder(), tokens, clean, context)
    assert repaired == 1 and actions.failed_B.nonzero()[:, 0].tolist() == [2]
    expected = word_coder().decode(clean, context).delta_BTD
    rows = [row for row in range(len(tokens)) if row not in (2, 5)]
    np.testing.assert_array_equal(actions.delta_BTD[rows].numpy(), expected[rows].numpy())


def test_one_wrong_token_beside_fast() -> None:
    statistics = word_coder().statistics
    ours = corruption.one_token(coded(), statistics, 0)
    fast = corruption.one_token(Coded(FastTokenizer(statistics, 10.0).fit([chunks()]), chunks()), statistics, 0)
    assert list(ours) == ["none", *KINDS, ALLOWED, *DROPS, *LEVELS] and list(fast) == ["none", *KINDS]
    assert all(point.failed == 0 for point in ours.values()) and fast["drop"].failed > 0
    mean = np.mean([1 / len(sequence) for sequence in coded().codes.tokens])
    assert ours["flip"].rate == ours["swap"].rate == pytest.approx(mean)
    assert ours["none"].l1 == curve()["flip"][0].l1 < ours["flip"].l1
    answers = swap.run(coded(), statistics, 0)
    assert answers["swap_failure_rate"] == 0 and 0 < answers["swap_repaired_rate"] < 1
    assert answers["swap_l1"] > ours["none"].l1


def test_a_whole_evaluation_of_ragged_codes_draws_them() -> None:
    evaluation = evaluate_dataset(
        kit.dataset(JOINTS, [60] * 5),
        {"words": word_coder()},
        word_coder().statistics,
        weights={"words": None},
        horizons=(16,),
        baselines=["bins"],
        budget=Budget(evaluated=6, fitted=20),
        corrupt=True,
    )
    found = json.loads(to_json(evaluation.result))
    assert list(found["corruption"]["tokenizers"]["words"]) == [*KINDS, ALLOWED, *DROPS, *LEVELS]
    one = found["corruption"]["one_token"]
    assert set(one) == {"words", "bins"} and {*KINDS, "none"} == set(one["bins"])
    assert one["words"]["none"]["l1"] < one["words"]["flip word"]["l1"]
    entry = found["horizons"]["16"]["words"]
    assert entry["swap_repaired_rate"] > 0 == entry["swap_failure_rate"] and entry["q0_flip"] is None
    html = render(evaluation)
    assert "Flipped under the mask" in html and "% repaired" in html.replace("\N{NO-BREAK SPACE}", "")
    assert html.count("error by rate") == 8  # seven kinds, and the levels of one tokenizer
    assert "One token of each chunk" in html
