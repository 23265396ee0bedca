"""Heads of a frozen tokenizer of motion words: latents, masks of the grammar, exact resume, files, evaluation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import semantics_kit as kit
import synthetic
from ranks_kit import metrics
from words_kit import QUICK, SMALL, random_ids
from xtok import WordTokenizer, load_tokenizer
from xtok.actions.layout import get_layout
from xtok.actions.types import Codes
from xtok.codec.config import WordsConfig
from xtok.codec.words import WordCodec
from xtok.codec.words.robot import moving
from xtok.engine import checkpoint
from xtok.pretrain import loop
from xtok.pretrain.batches import masked_places
from xtok.pretrain.loop import begin_run, train
from xtok.pretrain.recipe import Recipe
from xtok.pretrain.words import fit_codec, words_for_corpus
from xtok.semantics.align import load_heads
from xtok.semantics.latents import decode_latents, latents
from xtok.semantics.masked import Masking, draw_masking
from xtok.semantics.masked_words import WordMasking, WordSequences, foretell
from xtok.semantics.word_latents import WordLatents


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    with kit.quick_training():
        yield


def tokenizer(layout: str = "arms26") -> WordTokenizer:
    return fitted(layout)


@cache
def fitted(layout: str) -> WordTokenizer:
    corpus = kit.corpus() if layout == "arms26" else synthetic.corpus(layout)
    codec = fit_codec(WordCodec(get_layout(layout), SMALL, None), corpus, (), QUICK)
    return WordTokenizer(codec)


def recipe(**changes: object) -> Recipe:
    """All three heads."""
    heads = {"trainable": "heads", "grad_scope": "nothing", "input_dims": "latents", "cosine": True}
    return kit.recipe(**{**heads, "name": "tiny_heads", "forms": "codes", "start": 0.0, **changes})


def of_words(given: Recipe) -> Recipe:
    """As `train` makes it of a recipe."""
    return replace(given, codec=WordsConfig(codebook_size=tokenizer().vocab_size))


@pytest.fixture(scope="module")
def straight(quick: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "straight"
    return train(recipe(), [], out, features=kit.store(), tokenizer=tokenizer())


# -- a run -------------------------------------------------------------------------------------------------------------


def test_a_run_leaves_the_tokenizer_as_it_was_and_writes_heads(straight: Path) -> None:
    found = load_tokenizer(straight)
    assert isinstance(found, WordTokenizer) and found.digest == tokenizer().digest
    assert json.loads((straight / "run.json").read_text())["tokenizer_digest"] == found.digest
    heads = load_file(straight / "heads.safetensors")
    assert {name.split(".")[0] for name in heads} == {"align", "predict", "codes"}
    lines = [json.loads(line) for line in (straight / "metrics.jsonl").read_text().splitlines()]
    losses = next(line for line in lines if "total" in line)
    assert {"align_global", "align_local", "align_cosine", "predict", "mam_codes"} <= losses.keys()
    assert {"released_masked_nats", "released_masked_right"} <= set().union(*lines)
    assert any("substitute_variance" in line for line in lines)


def test_all_heads_learn(straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "none"
    begin_run(of_words(recipe()), kit.corpus(), out, features=kit.store(), tokenizer=tokenizer())
    _, start = checkpoint.load_checkpoint(out / "checkpoints")
    after = load_file(straight / "heads.safetensors")
    for name in ("align.action_head.0.weight", "predict.slot.weight", "codes.embed.weight", "codes.depth.weight"):
        assert not torch.equal(start["heads"][name], after[name]), name


def test_two_steps_and_two_more_after_a_resume_are_four_bit_for_bit(straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "parts"
    begin_run(of_words(recipe()), kit.corpus(), out, features=kit.store(), tokenizer=tokenizer()).run(until=2)
    torch.manual_seed(99)
    train(recipe(), [], out, resume=True, features=kit.store(), tokenizer=tokenizer())
    for name in ("model.safetensors", "heads.safetensors"):
        assert (out / name).read_bytes() == (straight / name).read_bytes(), name
    assert metrics(out) == metrics(straight)


def test_masked_ids_need_no_teacher(tmp_path: Path) -> None:
    alone = recipe(align=False, predict=False, cosine=False, steps=2)
    out = train(alone, [], tmp_path / "run", tokenizer=tokenizer())
    assert {name.split(".")[0] for name in load_file(out / "heads.safetensors")} == {"codes"}


def test_robots_that_the_tokenizer_lacks_are_measured_and_stored(tmp_path: Path) -> None:
    known = tokenizer()
    without = {name: robot for name, robot in known.codec.robots.items() if name != synthetic.ONE_ARM}
    fewer = WordTokenizer(replace(known.codec, robots=without))
    with patch.object(loop, "words_for_corpus", partial(words_for_corpus, settings=QUICK)):
        out = train(recipe(steps=1), [], tmp_path / "run", features=kit.store(), tokenizer=fewer)
    assert set(load_tokenizer(out).statistics) == set(known.statistics)
    assert json.loads((out / "run.json").read_text())["tokenizer_digest"] == fewer.digest


# -- latents -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["arms26", "joints"])
@pytest.mark.parametrize("horizon", [8, 18, 32])
def test_h_is_what_words_quantise(layout: str, horizon: int) -> None:
    """Decoded words of h are the encoder's own words, without residuals."""
    words = tokenizer(layout)
    corpus = kit.corpus() if layout == "arms26" else synthetic.corpus(layout)
    chunks = corpus.validate(horizon, 12)
    h_NMC = latents(words, chunks)
    slots = -(-horizon // 4)
    assert h_NMC.shape == (12, slots, WordLatents(words).latent_dim) and h_NMC.dtype == np.float32
    np.testing.assert_array_equal(h_NMC[..., -4:].argmax(axis=-1), np.tile(np.arange(slots) % 4, (12, 1)))
    codes = words.encode(chunks)
    alone = Codes(tuple(ids[ids < words.grammar.words] for ids in codes.tokens), words.vocab_size)
    expected = words.decode(alone, chunks.context).delta_BTD.numpy()
    found = decode_latents(words, h_NMC, chunks.context)
    same = np.isclose(found, expected, atol=1e-6).all(axis=(1, 2))
    # A block that is cut short was compared along directions of its own; h has those of whole blocks.
    assert same.mean() > (0.9 if layout == "arms26" or horizon % 16 == 0 else 0.6)
    shuffled = decode_latents(words, h_NMC[::-1].copy(), chunks.context[slice(0, 12)])
    assert np.abs(shuffled - expected).mean() > 10 * np.abs(found - expected).mean()


def test_z_is_what_a_sequence_decodes_to() -> None:
    chunks = kit.corpus().validate(30, 8)
    words = tokenizer()
    codes, z = words.encode(chunks), WordLatents(words)
    found = z.decoded(codes, chunks.context)
    assert found.shape == (8, 8, z.slot_dim) and found.dtype == torch.float32
    motion = found[..., :80].reshape(8, 32, 20)
    robot = words.codec.robots[chunks.context.embodiment[0]]
    delta = words.decode(codes, chunks.context).delta_BTD[:1].double()
    expected = words.codec.motion(robot, delta)[0]
    assert torch.equal(motion[0, 29], motion[0, 31])  # a chunk that ends within a slot holds its last frame
    torch.testing.assert_close(motion[0, :30, moving(robot.statistics)].double(), expected, atol=1e-4, rtol=1e-4)
    others = z.decoded(codes.take(torch.arange(8).flip(0)), chunks.context)
    assert not torch.equal(others, found)


# -- masked ids --------------------------------------------------------------------------------------------------------


def sequences(horizon: int = 24, count: int = 6) -> WordSequences:
    generator = np.random.default_rng(0)
    return WordSequences.of(SMALL, [np.array(random_ids(SMALL, horizon, generator)) for _ in range(count)], horizon)


def everything(found: WordSequences, shows_mask: bool) -> Masking:
    whole = torch.ones_like(found.valid_BL)
    return Masking(whole, whole & shows_mask, whole & (not shows_mask), torch.arange(whole.numel()).view(whole.shape))


def test_every_id_may_stand_where_it_stands_and_words_stand_at_their_frame() -> None:
    found = sequences()
    kept = found.masks_SV[found.allowed_BL].gather(2, found.ids_BL[..., None])[..., 0]
    assert kept[found.valid_BL].all()
    assert not found.masks_SV.all(dim=1).any()
    for ids, frame, valid in zip(found.ids_BL, found.frame_BL, found.valid_BL, strict=True):
        words = valid & (ids < SMALL.words)
        assert frame[words].tolist() == [0, 16]


def test_random_ids_are_of_the_same_book_and_padding_is_never_asked() -> None:
    found = sequences()
    shown, predicted = found.shown(SMALL, everything(found, shows_mask=False))
    assert torch.equal(predicted, found.valid_BL)
    for before, after in zip(found.ids_BL[found.valid_BL].tolist(), shown[found.valid_BL].tolist(), strict=True):
        a, b = SMALL.symbol(before), SMALL.symbol(after)
        assert (a.length, a.level) == (b.length, b.level)
    assert torch.equal(shown[~found.valid_BL], found.ids_BL[~found.valid_BL])


def test_what_the_grammar_forbids_has_no_chance_and_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    head = WordMasking(SMALL.total, 16, 2).eval()
    ids = [np.array(random_ids(SMALL, 24, np.random.default_rng(seed))) for seed in (0, 1)]
    longer = max(ids, key=len)
    alone, both = (WordSequences.of(SMALL, rows, 24) for rows in ([min(ids, key=len)], [min(ids, key=len), longer]))
    n = alone.ids_BL.shape[1]
    assert both.ids_BL.shape[1] > n
    hidden = torch.zeros_like(both.valid_BL)
    hidden[:, 1] = True
    told_alone, told_both = head(alone.ids_BL, hidden[:1, :n], alone), head(both.ids_BL, hidden, both)
    torch.testing.assert_close(told_alone[0], told_both[0, :n], atol=1e-5, rtol=1e-5)
    logits = head.logits(told_alone[0], alone.masks_SV[alone.allowed_BL[0]])
    assert torch.equal(torch.isfinite(logits), alone.masks_SV[alone.allowed_BL[0]])
    found = foretell(head, SMALL, both, everything(both, shows_mask=True))
    assert torch.isfinite(found.loss_n).all() and len(found.loss_n) == int(both.valid_BL.sum())


def test_the_head_learns_what_can_be_foretold() -> None:
    """Sequences whose second word is always the first one plus one."""
    torch.manual_seed(0)
    first = torch.arange(40)
    ids = [np.array([int(w), int(w) + 1]) for w in first]
    found = WordSequences.of(SMALL, ids, 32)
    head = WordMasking(SMALL.total, 32, 2, layers=1, dropout=0.0)
    second = torch.zeros_like(found.valid_BL)
    second[:, 1] = True
    masking = Masking(second, second, torch.zeros_like(second), torch.zeros_like(found.ids_BL))
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        loss = foretell(head, SMALL, found, masking).loss_n.mean()
        loss.backward()
        optimizer.step()
    assert foretell(head, SMALL, found, masking).right_n.float().mean() > 0.9


def test_masking_is_drawn_for_the_longest_sequence() -> None:
    places = masked_places(WordsConfig(codebook_size=SMALL.total), 32)
    assert places == 2 + 8 * 8
    masking = draw_masking((4, places), SMALL.total, torch.Generator().manual_seed(0))
    assert masking.predicted_BM.shape == (4, places)


# -- evaluation --------------------------------------------------------------------------------------------------------


def test_a_run_is_what_eval_takes_as_heads(straight: Path) -> None:
    heads = load_heads(straight)
    chunks = kit.corpus().validate(18, 8)
    h_NMC = torch.from_numpy(latents(tokenizer(), chunks))
    length = heads.action(h_NMC).norm(dim=-1)
    torch.testing.assert_close(length, torch.ones_like(length))
