"""Codes as words of a language model: ids, strings, the mask, a stream; a real tokenizer, a tiny language model.

# B chunks, T frames, L ids, Q levels
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import codec_kit as kit
from language_kit import text_tokenizer
from xtok import Tokenizer
from xtok.actions.types import ChunkBatch, Codes, slots
from xtok.codec.channels import ChannelCodec
from xtok.codec.tokens import CodeMask, CodeStream, CodeVocabulary

OFFSET = 1000


@cache
def tokenizer() -> Tokenizer:
    return kit.tokenizer()


@cache
def channels() -> ChannelCodec:
    return ChannelCodec.load()


def vocabulary(marker: bool = False, offset: int = OFFSET) -> CodeVocabulary:
    return CodeVocabulary(offset, tokenizer().levels, tokenizer().codebook_size, marker)


def sample(words: CodeVocabulary, count: int, seed: int) -> list[int]:
    """What a language model without any sense would write under the mask."""
    generator = torch.Generator().manual_seed(seed)
    mask, ids = CodeMask(words, count, 0), torch.empty(1, 0, dtype=torch.long)
    for _ in range(words.length(count)):
        scores = mask(ids, torch.randn(1, words.end, generator=generator))
        ids = torch.cat([ids, torch.multinomial(scores.softmax(dim=-1), 1, generator=generator)], dim=1)
    return ids[0].tolist()


# -- ids ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("marker", [False, True])
def test_ids_and_codes_are_inverse_and_never_text(marker: bool) -> None:
    words, codes = vocabulary(marker), tokenizer().encode(kit.chunks(18)[:5])
    ids = words.ids(codes)
    assert {len(row) for row in ids} == {words.length(slots(18))} and len(words.tokens()) == words.size
    assert min(map(min, ids)) >= OFFSET and max(map(max, ids)) < words.end
    again = words.codes([[3, *row, 7] for row in ids])  # text around the codes
    for before, after in zip(codes.tokens, again.tokens, strict=True):
        np.testing.assert_array_equal(before, after)
    assert [words.tokens()[i - OFFSET] for i in ids[0]] == [words.token(i) for i in ids[0]]


def test_order_is_position_major_and_levels_have_words_of_their_own() -> None:
    grid = torch.tensor([[[5, 5, 5, 5], [6, 7, 8, 9]]])
    words = CodeVocabulary(0, 4, 16, marker=True)
    names = [words.token(i) for i in words.ids(Codes.from_grid(grid, 16))[0]]
    assert names[:6] == ["<xtok_slot>", "<xtok_q0_5>", "<xtok_q1_5>", "<xtok_q2_5>", "<xtok_q3_5>", "<xtok_slot>"]
    assert len(set(words.tokens())) == words.size == 65


def test_disorder_is_named() -> None:
    words = vocabulary()
    good = words.ids(tokenizer().encode(kit.chunks(18)[:1]))[0]
    for bad, message in (
        ([1, 2], "has no code"),
        ([good[1], *good[1:]], "<xtok_q1_.* is token 0 of the chunk; expected a code of level 0"),
        ([*good[:5], 3, *good[5:]], "id 3 at token 5 of the chunk is no code; expected a code of level 1"),
    ):
        with pytest.raises(ValueError, match=message):
            words.codes([bad])
    with pytest.raises(ValueError, match="expected whole slots"):
        words.ids(Codes((np.arange(5),), 256))
    with pytest.raises(ValueError, match="outside"):
        words.ids(Codes((np.array([0, 1, 2, 256]),), 256))
    with pytest.raises(ValueError, match="no code"):
        words.token(3)


# -- the mask -------------------------------------------------------------------------------------------------------


@given(st.integers(8, 64), st.booleans(), st.integers(0, 2**31 - 1))
@settings(max_examples=25, deadline=None)
def test_whatever_is_sampled_under_the_mask_decodes(horizon: int, marker: bool, seed: int) -> None:
    words = vocabulary(marker)
    codes = words.codes([sample(words, slots(horizon), seed)])
    chunk = kit.renamed(kit.chunks(8)[:1], "none")
    context = ChunkBatch(torch.zeros(1, horizon, 26), _at(chunk, horizon)).context
    actions = tokenizer().decode(codes, context)
    assert actions.absolute_BTD is not None and torch.isfinite(actions.absolute_BTD).all()
    assert actions.complete_BT is not None and actions.complete_BT.all()


@given(st.integers(1, 64), st.integers(1, 26), st.integers(0, 2**31 - 1))
@settings(max_examples=15, deadline=None)
def test_so_it_does_for_channels_of_unknown_meaning(horizon: int, width: int, seed: int) -> None:
    codec = channels()
    words = CodeVocabulary(OFFSET, codec.levels, codec.codebook_size)
    codes = words.codes([sample(words, codec.slots(horizon), seed)])
    assert np.isfinite(codec.decode(codes.tokens, horizon, width)).all()


def test_after_the_chunk_the_mask_asks_for_the_end() -> None:
    words = vocabulary()
    mask = CodeMask(words, slots=2, prompt_length=3, end_id=7)
    scores = mask(torch.zeros(2, 3 + 8, dtype=torch.long), torch.zeros(2, words.end))
    assert (scores > -np.inf).nonzero().tolist() == [[0, 7], [1, 7]]
    free = CodeMask(words, slots=2, prompt_length=3)
    assert torch.isfinite(free(torch.zeros(1, 11, dtype=torch.long), torch.zeros(1, words.end))).all()
    with pytest.raises(ValueError, match=r"resize it: model.resize_token_embeddings"):
        mask(torch.zeros(1, 3, dtype=torch.long), torch.zeros(1, OFFSET))


# -- the stream -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("marker", [False, True])
def test_a_stream_decodes_by_slot_and_by_level(marker: bool) -> None:
    chunks, words = kit.chunks(18)[:1], vocabulary(marker)
    codes = tokenizer().encode(chunks)
    stream = CodeStream(words, tokenizer(), chunks.context)
    with pytest.raises(ValueError, match="no slot is known to 4 levels"):
        stream.actions()
    target, coarse_errors = chunks.target_BTD[0, :, 10:13], []
    for number, token_id in enumerate(words.ids(codes)[0]):
        stream.push(token_id)
        place = number % words.tokens_per_slot - marker
        if place == 0:  # q0 of a slot is enough for a first look
            slot = number // words.tokens_per_slot
            assert stream.slots(1) == slot + 1 and stream.slots() == slot
            look = stream.actions(levels=1)
            assert look.complete_BT is not None and look.complete_BT[0].sum() == min(18, 4 * (slot + 1))
            assert look.absolute_BTD is not None
            coarse_errors.append(float((look.absolute_BTD[0, :, 10:13] - target).norm(dim=-1).mean()))
    assert stream.finished and coarse_errors[-1] < coarse_errors[0]
    whole, streamed = tokenizer().decode(codes, chunks.context), stream.actions()
    assert torch.equal(whole.delta_BTD, streamed.delta_BTD)
    assert torch.equal(tokenizer().decode(codes, chunks.context, levels=2).delta_BTD, stream.actions(2).delta_BTD)
    with pytest.raises(ValueError, match="whole after 5 slots"):
        stream.push(OFFSET)


def test_a_stream_refuses_what_is_not_due_and_stays_as_it_was() -> None:
    chunks, words = kit.chunks(18)[:1], vocabulary(marker=True)
    ids = words.ids(tokenizer().encode(chunks))[0]
    stream = CodeStream(words, tokenizer(), chunks.context)
    for token_id in ids[:5]:
        stream.push(token_id)
    for wrong in (ids[1], 3, ids[4]):
        with pytest.raises(ValueError, match="expected <xtok_slot>"):
            stream.push(wrong)
    stream.push(ids[5])
    with pytest.raises(ValueError, match="<xtok_slot> is token 6 of the chunk; expected a code of level 0"):
        stream.push(ids[5])
    for token_id in ids[6:]:
        stream.push(token_id)
    assert stream.finished
    with pytest.raises(ValueError, match="levels of 2048 codes"):
        CodeStream(CodeVocabulary(0), tokenizer(), chunks.context)
    with pytest.raises(ValueError, match="one chunk"):
        CodeStream(words, tokenizer(), kit.chunks(18)[:2].context)


# -- a real text tokenizer, and a language model -----------------------------------------------------------------------


def test_tokens_are_appended_to_a_real_tokenizer() -> None:
    text = text_tokenizer()
    before, prompt = text.get_vocab_size(), text.encode("pick up the block").ids  # type: ignore[attr-defined]
    words = CodeVocabulary.append_to(text, tokenizer().levels, tokenizer().codebook_size, marker=True)
    assert words.offset == before and words.end == text.get_vocab_size()  # type: ignore[attr-defined]
    ids = words.ids(tokenizer().encode(kit.chunks(18)[:1]))[0]
    written = " ".join(words.token(i) for i in ids)
    encoded = text.encode(f"pick up the block {written}").ids  # type: ignore[attr-defined]
    assert encoded == [*prompt, *ids]  # text ids are what they were, codes are one token each
    assert text.decode(ids, skip_special_tokens=False).split() == written.split()  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="already has <xtok_q0_0>"):
        CodeVocabulary.append_to(text, tokenizer().levels, tokenizer().codebook_size)


def test_a_language_model_generates_under_the_mask() -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers: pip install 'xtok[hf]'")
    text = transformers.PreTrainedTokenizerFast(tokenizer_object=text_tokenizer(), eos_token="</s>", pad_token="<unk>")
    words = CodeVocabulary.append_to(text, tokenizer().levels, tokenizer().codebook_size)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=words.offset, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2
    )
    model = transformers.LlamaForCausalLM(config).eval()
    model.resize_token_embeddings(words.end)
    prompt = text(["pick up the red block"] * 3, return_tensors="pt", return_token_type_ids=False)
    length, count = prompt["input_ids"].shape[1], slots(18)
    mask = CodeMask(words, count, length, end_id=text.eos_token_id)
    out = model.generate(
        **prompt,
        do_sample=True,
        max_new_tokens=words.length(count) + 4,
        logits_processor=transformers.LogitsProcessorList([mask]),
        pad_token_id=text.pad_token_id,
        eos_token_id=text.eos_token_id,
    )
    assert out.shape[1] == length + words.length(count) + 1 and (out[:, -1] == text.eos_token_id).all()
    context = kit.chunks(18)[:3].context
    actions = tokenizer().decode(words.codes(out), context)
    assert actions.absolute_BTD is not None and torch.isfinite(actions.absolute_BTD).all()
    # and what it would be trained on: text, codes, text
    ids = words.ids(tokenizer().encode(kit.chunks(18)[:3]))
    loss = model(input_ids=torch.tensor(ids), labels=torch.tensor(ids)).loss
    assert torch.isfinite(loss)


def _at(chunk: ChunkBatch, horizon: int) -> object:
    from dataclasses import replace

    return replace(chunk.context, horizon=horizon)


def test_the_old_homes_of_the_names_still_serve() -> None:
    from xtok.adapters import stream, vocabulary

    assert (vocabulary.CodeVocabulary, vocabulary.CodeMask, stream.CodeStream) == (CodeVocabulary, CodeMask, CodeStream)
