"""Motion words as tokens of a language model: ids, strings, the mask; a real tokenizer, a tiny language model."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from language_kit import text_tokenizer
from words_kit import SMALL, random_ids, small_model, waves
from xtok.actions.types import Codes
from xtok.codec.tokens import WordMask, WordVocabulary
from xtok.codec.words import Grammar, WordStream, encode, repair

OFFSET = 100
HORIZONS = st.integers(8, 64)
SEEDS = st.integers(0, 2**32 - 1)


def words(offset: int = OFFSET) -> WordVocabulary:
    return WordVocabulary(offset, SMALL)


@cache
def coded() -> Codes:
    """Four chunks of 40 frames."""
    return Codes(tuple(encode(small_model(), waves(4, 3)[:, :40], 0.1).ids(SMALL)), SMALL.total)


# -- ids ------------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(HORIZONS, SEEDS)
def test_ids_and_codes_are_inverse_and_never_text(horizon: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows = [random_ids(SMALL, horizon, generator) for _ in range(3)]
    ids = words().ids(Codes(tuple(map(np.array, rows)), SMALL.total))
    assert min(map(min, ids)) >= OFFSET and max(map(max, ids)) < words().end
    again = words().codes([[3, *row, 7] for row in ids], horizon)  # text around the codes
    assert again.vocab_size == SMALL.total
    assert [row.tolist() for row in again.tokens] == rows
    assert all(words().shortest(horizon) <= len(row) <= words().longest(horizon) for row in rows)


def test_every_id_has_a_string_of_its_own_that_says_what_it_is() -> None:
    tokens = words().tokens()
    assert len(set(tokens)) == len(tokens) == words().size == SMALL.total
    assert [words().token(OFFSET + place) for place in range(SMALL.total)] == tokens
    for place, token in enumerate(tokens):
        symbol = SMALL.symbol(place)
        found = re.fullmatch(r"<xtok_(?:w|r([124])_([1-4]))_(\d+)>", token)
        assert found is not None
        assert tuple(int(part or 0) for part in found.groups()) == (symbol.length, symbol.level, symbol.code)
    assert (tokens[17], tokens[SMALL.range_of(2, 3)[0] + 5]) == ("<xtok_w_17>", "<xtok_r2_3_5>")


@pytest.mark.parametrize("horizon", [8, 17, 40, 64])
def test_the_longest_chunk_parses_and_takes_nothing_more(horizon: int) -> None:
    state, ids = SMALL.start(horizon), list[int]()
    while True:  # as deep as can be, then the shortest next segment, then the next word
        allowed = SMALL.allowed(state)
        if not allowed.ranges:
            break
        levels = {SMALL.symbol(low).level: low for low, _ in allowed.ranges[::-1]}  # of level 1 the length 1
        ids.append(levels[max(levels, key=lambda level: (level > 1, level))])
        state = SMALL.step(state, ids[-1], len(ids) - 1)
    assert state.complete and len(ids) == words().longest(horizon)


def test_disorder_is_named() -> None:
    good = words().ids(coded())[0]
    for bad, message in (
        ([1, 2], "sequence 0 has no code; ids of codes are 100"),
        (good[1:], "sequence 0: token 0 is residual .*; expected the word of block 0"),
        ([*good[:3], 3, *good[3:]], "sequence 0: id 3 at token 3 of the chunk is no code; expected "),
        (good[:1], "sequence 0: the chunk ends after 1 tokens; expected the word of block 1"),
    ):
        with pytest.raises(ValueError, match=message):
            words().codes([bad], 40)
    with pytest.raises(ValueError, match="another tokenizer's"):
        words().ids(Codes((np.array([1]),), 2048))
    for tokens, message in (
        ([0, 0, 0, 0, 0], "chunk 0 has 5 words; expected 1 to 4"),
        ([60, 0], "chunk 0: token 0 is residual"),
        ([0, SMALL.total], "chunk 0: token 1: id"),
    ):
        with pytest.raises(ValueError, match=message):
            words().ids(Codes((np.array(tokens),), SMALL.total))
    with pytest.raises(ValueError, match="id 3 is no code"):
        words().token(3)
    with pytest.raises(ValueError, match="expected a whole number from 8 to 64"):
        words().codes([good], 7)
    with pytest.raises(ValueError, match="expected a Grammar"):
        WordVocabulary(0, 2048)  # type: ignore[arg-type]


def test_what_does_not_parse_can_be_handed_to_a_decoder_that_repairs() -> None:
    good = words().ids(coded())[0]
    broken = [9, *good[1:4], 5, *good[4:]]
    (sequence,) = words().codes([broken], None).tokens
    assert sequence.tolist() == [token_id - OFFSET for token_id in good[1:]]
    assert repair(SMALL, sequence.tolist(), 40).ids


def test_a_stream_takes_what_the_language_model_writes() -> None:
    stream, (row, *_) = WordStream(small_model(), 40), words().ids(coded())
    for token_id in row:
        assert words().allowed(stream.state)[token_id]
        stream.push(words().code(token_id))
    assert stream.complete
    assert torch.equal(stream.motion_TK, small_model().decode(coded().tokens[:1], 40)[0])


# -- what may follow ------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(HORIZONS, SEEDS)
def test_allowed_are_the_ids_that_the_grammar_takes(horizon: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    ids = random_ids(SMALL, horizon, generator)
    state = SMALL.after(ids[: generator.integers(0, len(ids) + 1)], horizon)
    allowed = words().allowed(state, words().end + 5)
    for token_id in range(words().end + 5):
        try:
            words().step(state, token_id, 0)
        except ValueError:
            assert not allowed[token_id]
        else:
            assert allowed[token_id]


def test_a_language_model_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match=rf"resize it: model.resize_token_embeddings\({words().end}\)"):
        words().allowed(SMALL.start(8), OFFSET)


# -- the mask -------------------------------------------------------------------------------------------------------

END = 7


def sample(mask: WordMask, rows: int, generator: torch.Generator, end_bias: float) -> list[list[int]]:
    """What language models without any sense write under a mask, each up to its end."""
    ids = torch.full((rows, mask.prompt_length), 3)
    for _ in range(mask.tokens_max + 1):
        scores = 3 * torch.randn(rows, words().end + 2, generator=generator)
        scores[:, END] += end_bias
        chances = mask(ids, scores).softmax(dim=-1)
        ids = torch.cat([ids, torch.multinomial(chances, 1, generator=generator)], dim=1)
    written = ids[:, mask.prompt_length :].tolist()
    assert all(END in row and set(row[row.index(END) :]) == {END} for row in written)
    return [row[: row.index(END)] for row in written]


@pytest.mark.parametrize("end_bias", [-3.0, 8.0])
def test_whatever_is_sampled_under_the_mask_parses(end_bias: float) -> None:
    generator, lengths = torch.Generator().manual_seed(0), set()
    for horizon in range(8, 65):
        rows = sample(WordMask(words(), horizon, 2, END), 3, generator, end_bias)
        for sequence in words().codes(rows, horizon).tokens:
            SMALL.parse(sequence.tolist(), horizon)
        lengths |= set(map(len, rows))
    assert len(lengths) > 10


@settings(max_examples=25, deadline=None)
@given(HORIZONS, st.integers(0, 12), SEEDS)
def test_a_limit_of_tokens_leaves_room_for_every_word(horizon: int, more: int, seed: int) -> None:
    limit = words().shortest(horizon) + more
    mask = WordMask(words(), horizon, 0, END, tokens_max=limit)
    rows = sample(mask, 4, torch.Generator().manual_seed(seed), -9.0)
    assert max(map(len, rows)) <= limit
    words().codes(rows, horizon)


@settings(max_examples=25, deadline=None)
@given(HORIZONS, SEEDS)
def test_the_mask_is_what_the_grammar_takes_and_the_end(horizon: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    ids = random_ids(SMALL, horizon, generator)
    cut = int(generator.integers(0, len(ids) + 1))
    state = SMALL.after(ids[:cut], horizon)
    taken = {END} if state.complete else set()
    for code in range(SMALL.total):
        try:
            SMALL.step(state, code, cut)
        except ValueError:
            continue
        taken.add(OFFSET + code)
    row = torch.tensor([[3, 3, *(OFFSET + code for code in ids[:cut])]])
    scores = torch.randn(1, words().end + 9)
    masked = WordMask(words(), horizon, 2, END)(row, scores)[0]
    assert set(torch.isfinite(masked).nonzero()[:, 0].tolist()) == taken
    assert all(masked[token_id] == scores[0, token_id] for token_id in taken)


def test_rows_may_be_reordered_doubled_and_of_another_generation() -> None:
    generator = torch.Generator().manual_seed(1)
    mask, ids = WordMask(words(), 40, 1, END), torch.full((6, 1), 3)
    for step in range(60):
        if step == 30:
            ids = torch.full((6, 1), 5)  # another generation, with the same mask
        scores = torch.randn(6, words().end, generator=generator)
        kept = mask(ids, scores)
        assert torch.equal(kept, WordMask(words(), 40, 1, END)(ids, scores))
        ids = torch.cat([ids, torch.multinomial(kept.softmax(dim=-1), 1, generator=generator)], dim=1)
        ids = ids[torch.randint(6, (6,), generator=generator)]


def test_what_was_not_written_under_the_mask_is_named() -> None:
    mask, good = WordMask(words(), 40, 2, END), words().ids(coded())[0]
    scores = torch.zeros(2, words().end)
    with pytest.raises(ValueError, match=r"row 1: id 5 at token 0 of the chunk is no code; .*prompt_length is 2"):
        mask(torch.tensor([[3, 3, good[0]], [3, 3, 5]]), scores)
    with pytest.raises(ValueError, match="row 0: token 1 is residual"):
        mask(torch.tensor([[3, 3, good[0], words().end - 1]] * 2), scores)
    with pytest.raises(ValueError, match="there are 1 ids, prompt_length is 2"):
        mask(torch.tensor([[3], [3]]), scores)
    with pytest.raises(ValueError, match="text has id 105"):
        WordMask(words(), 40, 2, OFFSET + 5)
    with pytest.raises(ValueError, match="tokens_max is 2; expected a whole number from 3 on"):
        WordMask(words(), 40, 2, END, tokens_max=2)
    with pytest.raises(ValueError, match="resize it"):
        mask(torch.tensor([[3, 3]]), torch.zeros(1, words().end - 1))


# -- a real text tokenizer ------------------------------------------------------------------------------------------


def test_tokens_are_appended_to_a_real_tokenizer() -> None:
    text = text_tokenizer()
    before, prompt = text.get_vocab_size(), text.encode("pick up the block").ids  # type: ignore[attr-defined]
    vocabulary = WordVocabulary.append_to(text, SMALL)
    assert vocabulary.offset == before and vocabulary.end == text.get_vocab_size()  # type: ignore[attr-defined]
    ids = vocabulary.ids(coded())[0]
    written = " ".join(vocabulary.token(token_id) for token_id in ids)
    encoded = text.encode(f"pick up the block {written}").ids  # type: ignore[attr-defined]
    assert encoded == [*prompt, *ids]  # text ids are what they were, codes are one token each
    assert text.decode(ids, skip_special_tokens=False).split() == written.split()  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=rf"already has <xtok_w_0> .*use WordVocabulary\(offset={before}, "):
        WordVocabulary.append_to(text, SMALL)
    with pytest.raises(ValueError, match="has no get_vocab"):
        WordVocabulary.append_to({"a": 1}, SMALL)


def test_all_ids_of_a_full_vocabulary_are_appended() -> None:
    text, grammar = text_tokenizer(), Grammar.of_total(8192)
    vocabulary = WordVocabulary.append_to(text, grammar)
    assert text.get_vocab_size() == vocabulary.end == vocabulary.offset + 8192  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", [{"do_sample": True}, {"num_beams": 5}, {"num_beams": 3, "do_sample": True}])
def test_a_language_model_generates_under_the_mask(how: dict[str, object]) -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers: pip install 'xtok[hf]'")
    text = transformers.PreTrainedTokenizerFast(tokenizer_object=text_tokenizer(), eos_token="</s>", pad_token="<unk>")
    vocabulary = WordVocabulary.append_to(text, SMALL)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=vocabulary.end, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2
    )
    model = transformers.LlamaForCausalLM(config).eval()
    text.padding_side = "left"
    prompt = text(["pick up the red block", "open"] * 2, padding=True, return_tensors="pt", return_token_type_ids=False)
    length, limit = prompt["input_ids"].shape[1], 14
    mask = WordMask(vocabulary, 40, length, text.eos_token_id, tokens_max=limit)
    out = model.generate(
        **prompt,
        **how,
        max_new_tokens=limit + 1,
        logits_processor=transformers.LogitsProcessorList([mask]),
        pad_token_id=text.pad_token_id,
        eos_token_id=text.eos_token_id,
    )
    assert (out[:, length:] == text.eos_token_id).any(dim=1).all()
    codes = vocabulary.codes(out, 40)
    motion = small_model().decode(codes.tokens, 40)
    assert torch.isfinite(motion).all()
    # and what it would be trained on: the chunk and its end
    for row in vocabulary.ids(coded()):
        labels = torch.tensor([[*row, text.eos_token_id]])
        assert torch.isfinite(model(input_ids=labels, labels=labels).loss)
