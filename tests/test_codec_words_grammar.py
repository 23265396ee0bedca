"""The grammar of motion words: ids, the automaton, parsing, repair."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from words_kit import SMALL, random_ids
from xtok.codec.words import Grammar, Sequences, repair
from xtok.codec.words.grammar import Block, Segment, Symbol

HORIZONS = st.integers(8, 64)


@pytest.mark.parametrize("total", [2048, 3000, 8192, 32768])
def test_every_id_has_one_meaning_and_the_books_fill_the_vocabulary(total: int) -> None:
    grammar = Grammar.of_total(total)
    assert grammar.total == total
    assert grammar.words + sum(size for _, size in grammar.residuals) == total
    tokens = [*range(0, total, 97), total - 1]
    assert [grammar.id_of(grammar.symbol(token)) for token in tokens] == tokens
    ends = [grammar.range_of(), *(grammar.range_of(*key) for key, _ in grammar.residuals)]
    assert [high for _, high in ends] == [low for low, _ in ends[1:]] + [total]


@pytest.mark.parametrize("total", [0, 2047, 32769])
def test_a_vocabulary_of_another_size_is_refused(total: int) -> None:
    with pytest.raises(ValueError, match="expected 2048 to 32768"):
        Grammar.of_total(total)


@pytest.mark.parametrize("token", [-1, SMALL.total, 1.5, True])
def test_what_is_no_id_is_refused(token: int) -> None:
    with pytest.raises(ValueError, match="expected a whole number from 0 to"):
        SMALL.symbol(token)


@settings(max_examples=60, deadline=None)
@given(HORIZONS, st.integers(0, 2**32 - 1))
def test_what_the_automaton_allows_parses_and_is_written_again(horizon: int, seed: int) -> None:
    ids = random_ids(SMALL, horizon, np.random.default_rng(seed))
    blocks = SMALL.parse(ids, horizon)
    assert SMALL.write(blocks) == tuple(ids)
    assert len(blocks) == -(-horizon // 16)
    sequences = Sequences.of_ids(SMALL, [ids], horizon)
    assert sequences.blocks() == [blocks]
    assert sequences.tokens_B.tolist() == [len(ids)]
    assert int(sequences.length_BM.sum()) == -(-horizon // 4)  # every slot belongs to a segment or a tail
    assert repair(SMALL, ids, horizon).remarks == ()


@settings(max_examples=60, deadline=None)
@given(HORIZONS, st.integers(0, 2**32 - 1))
def test_what_the_automaton_does_not_allow_raises_at_that_token(horizon: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    ids = random_ids(SMALL, horizon, generator)
    cut = int(generator.integers(0, len(ids) + 1))
    state = SMALL.after(ids[:cut], horizon)
    allowed = SMALL.allowed(state)
    for token in generator.integers(0, SMALL.total, 20).tolist():
        if token in allowed:
            SMALL.step(state, token, cut)
        else:
            with pytest.raises(ValueError, match=rf"^token {cut} is .*; expected "):
                SMALL.parse([*ids[:cut], token, *ids[cut:]], horizon)


def test_errors_say_what_was_expected() -> None:
    word, first, second = 3, SMALL.range_of(4, 1)[0], SMALL.range_of(4, 2)[0]
    with pytest.raises(ValueError, match="ends after 3 tokens; expected the word of block 1"):
        SMALL.parse([word, first, second], 32)
    with pytest.raises(ValueError, match=r"token 2 is residual 0 .*; expected .*level 2 of length 4"):
        SMALL.parse([word, first, first], 16)
    with pytest.raises(ValueError, match=r"token 1 is residual 0 .*; expected a segment of length 1"):
        SMALL.parse([word, first], 8)  # two slots have no room for four
    with pytest.raises(ValueError, match=r"token 1 is word 3; expected .* the end"):
        SMALL.parse([word, word], 16)


def test_repair_changes_as_little_as_it_can_and_says_so() -> None:
    word, first, second, third = 3, *(SMALL.range_of(1, level)[0] + 5 for level in (1, 2, 3))
    found = repair(SMALL, [first, word, first, third, second, 10**6, word], 16, word=7)
    assert found.ids == (word, first, second)
    assert [remark.split(" cannot")[0] for remark in found.remarks] == [
        "token 0 (residual 5 (length 1, level 1))",
        "token 3 (residual 5 (length 1, level 3))",
        f"token 5 (id {10**6}, which does not exist)",
        "token 6 (word 3)",
    ]
    lost = repair(SMALL, [first, second, word], 32, word=7)
    assert lost.ids == (7, first, second, word)
    assert lost.remarks == ("the word of block 0 was missing; word 7 was put in",)


@settings(max_examples=60, deadline=None)
@given(HORIZONS, st.lists(st.integers(-3, SMALL.total + 3), max_size=40))
def test_any_ids_are_repaired_to_some_that_parse(horizon: int, ids: list[int]) -> None:
    found = repair(SMALL, ids, horizon)
    SMALL.parse(found.ids, horizon)
    assert len(found.remarks) <= len(ids) + 4  # at the worst all are left out, and a word put in for every block
    assert bool(found.remarks) == (list(found.ids) != ids)


def test_blocks_are_written_with_the_ids_of_their_books() -> None:
    block = Block(2, (Segment(1, (4, 0)), Segment(2, (1,))))
    assert SMALL.write([block]) == (
        2,
        SMALL.id_of(Symbol("residual", 4, 1, 1)),
        SMALL.id_of(Symbol("residual", 0, 1, 2)),
        SMALL.id_of(Symbol("residual", 1, 2, 1)),
    )
    with pytest.raises(ValueError, match="its book has 24 codes"):
        SMALL.write([Block(2, (Segment(1, (24,)),))])
    with pytest.raises(ValueError, match="no book for"):
        SMALL.write([Block(2, (Segment(3, (1,)),))])


@settings(max_examples=40, deadline=None)
@given(HORIZONS, st.integers(0, 2**32 - 1))
def test_batches_are_read_as_their_rows_are(horizon: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows = [random_ids(SMALL, horizon, generator) for _ in range(5)]
    expected = Sequences.of_blocks([SMALL.parse(ids, horizon) for ids in rows], horizon)
    found = Sequences.of_ids(SMALL, rows, horizon)
    for name, value in vars(expected).items():
        assert (getattr(found, name) == value).all()
    assert [ids.tolist() for ids in found.ids(SMALL)] == rows
    rows[3].insert(int(generator.integers(0, len(rows[3]) + 1)), int(generator.integers(-2, SMALL.total + 2)))
    try:
        SMALL.parse(rows[3], horizon)
    except ValueError as error:
        with pytest.raises(ValueError) as raised:
            Sequences.of_ids(SMALL, rows, horizon)
        assert str(raised.value) == f"row 3: {error}"
    else:
        assert Sequences.of_ids(SMALL, rows, horizon).blocks()[3] == SMALL.parse(rows[3], horizon)


def test_a_batch_with_something_that_is_no_id_is_refused() -> None:
    for bad in (1.5, True, None, "3", 10**30):
        with pytest.raises(ValueError, match="row 1: token 1"):
            Sequences.of_ids(SMALL, [[0], [0, bad]], 8)  # type: ignore[list-item]
