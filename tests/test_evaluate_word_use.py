"""Use of the books of motion words, and what tokens are in bits of entropy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import evaluate_kit as kit
from word_tokenizer_kit import WordCoder, word_coder
from words_kit import SMALL, random_ids
from xtok.actions.layout import JOINTS
from xtok.actions.types import Codes
from xtok.cli.table import table
from xtok.evaluate import Budget, codebook, evaluate_dataset, render
from xtok.evaluate.coded import Coded
from xtok.evaluate.compare import Rival, curve, entropy_bits_at
from xtok.evaluate.comparison import prices
from xtok.evaluate.rate import RatePoint
from xtok.evaluate.verdicts import verdicts
from xtok.evaluate.word_use import WORD, book_counts, book_use, by_level, level_counts, perplexity


def drawn(count: int = 200) -> Codes:
    generator = np.random.default_rng(0)
    return Codes(tuple(np.array(random_ids(SMALL, 32, generator)) for _ in range(count)), SMALL.total)


def test_every_token_is_counted_once_in_its_own_book() -> None:
    codes = drawn()
    counts = book_counts(codes, SMALL)
    assert list(counts) == [WORD, *SMALL.size_of]
    expected = {key: np.zeros(len(each), dtype=int) for key, each in counts.items()}
    for token in np.concatenate(codes.tokens).tolist():
        symbol = SMALL.symbol(token)
        expected[symbol.length, symbol.level][symbol.code] += 1
    for key, each in counts.items():
        np.testing.assert_array_equal(each, expected[key])
    levels = level_counts(codes, SMALL)
    assert [len(each) for each in levels] == [48, 72, 72, 72, 72]
    assert sum(each.sum() for each in levels) == sum(map(len, codes.tokens))


def test_books_say_how_much_of_them_is_used() -> None:
    codes = Codes((np.array([3, 48, 3]), np.array([5, 5])), SMALL.total)
    first, second, *rest = book_use(codes, SMALL)
    assert (first["frames"], first["level"], first["size"], first["tokens"], first["usage"]) == (0, 0, 48, 4, 2 / 48)
    assert first["perplexity"] == pytest.approx(2)
    assert (second["frames"], second["level"], second["tokens"], second["usage"]) == (4, 1, 1, 1 / 24)
    assert {each["perplexity"] for each in rest} == {0.0} and perplexity(np.zeros(3)) == 0
    assert by_level([first, second, *rest]) == [(4, 48), (1, 72), (0, 72), (0, 72), (0, 72)]


def test_levels_of_words_stand_where_levels_of_slots_do() -> None:
    coder = word_coder()
    answers = codebook.run(Coded(coder, kit.chunks(JOINTS, 32)))
    assert len(answers["usage"]) == len(answers["perplexity"]) == 5
    assert answers["books"] is not None and len(answers["books"]) == 13
    assert answers["usage"][0] == answers["books"][0]["usage"] > 0


def test_bits_of_entropy_are_read_off_between_rates_and_never_beyond() -> None:
    points = [RatePoint(11.0 * t, 1 / t, float(t), entropy_bits=float(t**2)) for t in (8, 16, 32)]
    rival = Rival("fast", points)
    assert [entropy_bits_at(rival, t) for t in (8, 12, 32)] == [64, 160, 1024]
    assert entropy_bits_at(rival, 7) is None and entropy_bits_at(rival, 33) is None
    assert entropy_bits_at(Rival("fast", [replace(points[0], entropy_bits=None)]), 8) is None
    found = curve("words", points[:2], horizon=32, rivals=[rival])
    assert [point.entropy_bits["words"] for point in found] == [64, 256, None, None]
    assert [point.entropy_bits["fast"] for point in found] == [64, 256, 640, 1024]


class Rated(WordCoder):
    """At two rates."""

    @property
    def own_rate(self) -> int:
        return 1

    def rate_points(self) -> list[WordCoder]:
        return [WordCoder(self.statistics, self.model, 3.0), self]

    def encode_rates(self, chunks):  # type: ignore[no-untyped-def]
        return [point.encode(chunks) for point in self.rate_points()]


def test_the_report_and_the_terminal_show_books_and_bits() -> None:
    coder = word_coder()
    rated = Rated(coder.statistics, coder.model, coder.rate)
    data = kit.dataset(JOINTS, [90] * 10)
    evaluation = evaluate_dataset(
        data,
        {"words": rated},
        coder.statistics,
        {"words": None},
        horizons=(32,),
        budget=Budget(evaluated=24, fitted=60),
    )
    result = evaluation.result
    html, lines = render(evaluation), table(result)
    assert "Book by book" in html and "residuals of 16 frames, level 4" in html and "In bits a chunk" in html
    assert any(line.strip().startswith("words of 16 frames") for line in lines)
    rows = {row.name: row for _, row in prices(result)}
    assert "fast" in rows
    entry = result["horizons"]["32"]["fast"]
    for tokens, bits in zip(rows["fast"].tokens, rows["fast"].bits, strict=True):
        assert bits is None or bits == pytest.approx(tokens * entry["bits_mean"] / entry["tokens_mean"])
    (use,) = [each for each in verdicts(result) if each.claim.startswith("q0 uses")]
    assert use.met is None and "a book of 48 wants 192" in use.found
