"""Motion words behind the protocol: exact ids, robots, files, repair, streams, rates.

# B chunks, T frames, D channels
"""

from __future__ import annotations

import json
import pickle
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import synthetic
from words_kit import QUICK, SMALL, random_ids
from xtok import Tokenizer, WordTokenizer, load_tokenizer
from xtok.actions.delta import to_delta
from xtok.actions.layout import ARMS26, JOINTS, get_layout
from xtok.actions.rotation import matrix_from_rotation6d
from xtok.actions.types import ActionTokenizer, ChunkBatch, Codes, concatenate
from xtok.codec.words import CodingSettings, WordCodec
from xtok.data import iter_chunks
from xtok.pretrain.corpus import Corpus
from xtok.pretrain.words import Residuals, adapt_words, fit_codec

ONE, TWO = synthetic.ONE_ARM, synthetic.TWO_ARMS


@cache
def tokenizer(layout_name: str = "arms26") -> WordTokenizer:
    """In poses one robot is measured for the shared residual books, the other has its own."""
    layout = get_layout(layout_name)
    corpus = Corpus(layout, synthetic.episodes(layout), validation=False)
    return WordTokenizer(fit_codec(WordCodec(layout, SMALL, None), corpus, {TWO} & set(corpus.statistics), QUICK))


@cache
def chunks(horizon: int = 32, layout_name: str = "arms26") -> ChunkBatch:
    """Unseen episodes; of poses, single and two arms in turn."""
    unseen = [e for e in synthetic.episodes(get_layout(layout_name), count=8) if e.index % 100 >= 6]
    parts = list(iter_chunks(unseen, horizon, 16))
    whole = concatenate([batch[i : i + 1] for batch in parts for i in range(len(batch))])
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))
    return whole.take(order)


def same(a: Codes, b: Codes) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a.tokens, b.tokens, strict=True))


def mm(found: ChunkBatch, decoded: torch.Tensor) -> float:
    where = ARMS26.slices["right_position"]
    return float((decoded - found.target_BTD)[..., where].norm(dim=-1).mean() * 1000)


# -- ids ------------------------------------------------------------------------------------------------------------


def test_it_meets_the_protocol_and_errs_less_for_more_tokens() -> None:
    batch = chunks()
    assert isinstance(tokenizer(), ActionTokenizer)
    points = tokenizer().rate_points()
    assert points[tokenizer().own_rate] is tokenizer()
    codes = [point.encode(batch) for point in points]
    tokens = [sum(map(len, each.tokens)) for each in codes]
    absolute = [point.decode(each, batch.context).absolute_BTD for point, each in zip(points, codes, strict=True)]
    errors = [mm(batch, each) for each in absolute if each is not None]
    assert tokens == sorted(tokens) and tokens[-1] > 2 * tokens[0]
    assert errors[-1] < 0.7 * errors[0]
    assert same(codes[tokenizer().own_rate], tokenizer().encode(batch))


@pytest.mark.parametrize("layout_name", ["arms26", "joints"])
@pytest.mark.parametrize("horizon", [8, 23, 64])
def test_ids_are_those_of_the_chunk_alone_whatever_is_beside_it(layout_name: str, horizon: int) -> None:
    batch = chunks(horizon, layout_name)[:9]
    together = tokenizer(layout_name).encode(batch)
    alone = [tokenizer(layout_name).encode(batch[row : row + 1]).tokens[0] for row in range(len(batch))]
    assert same(together, Codes(tuple(alone), SMALL.total))
    decoded = tokenizer(layout_name).decode(together, batch.context)
    one = tokenizer(layout_name).decode(together[4:5], batch.context[4:5])
    assert torch.equal(one.delta_BTD[0], decoded.delta_BTD[4])


def test_ids_do_not_depend_on_what_a_host_did_to_torch() -> None:
    batch = chunks()[:4]
    expected = tokenizer().encode(batch)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            found = tokenizer().encode(batch)
    finally:
        torch.set_default_dtype(torch.float32)
    assert same(found, expected)
    copied = pickle.loads(pickle.dumps(tokenizer()))
    assert same(copied.encode(batch), expected)


def test_no_module_that_holds_it_can_cast_it() -> None:
    policy = torch.nn.Linear(2, 2)
    policy.tokenizer = tokenizer()  # type: ignore[assignment]
    expected = tokenizer().encode(chunks()[:3])
    policy.bfloat16().to("meta")
    assert same(tokenizer().encode(chunks()[:3]), expected)
    assert not any("tokenizer" in name for name in policy.state_dict())


def test_deltas_are_coded_as_the_absolute_chunks_are() -> None:
    batch = chunks()[:5]
    anchor_BD, mask_BD = batch.context.anchor_BD, batch.context.mask_BD
    assert anchor_BD is not None
    delta_BTD = to_delta(ARMS26, batch.target_BTD.double(), anchor_BD.double(), mask_BD)
    unanchored = replace(batch.context, anchor_BD=None)
    codes = tokenizer().encode_delta(delta_BTD, unanchored)
    assert same(codes, tokenizer().encode(batch))
    decoded = tokenizer().decode(codes, unanchored)
    assert decoded.absolute_BTD is None
    assert torch.equal(decoded.delta_BTD, tokenizer().decode(codes, batch.context).delta_BTD)


# -- robots ---------------------------------------------------------------------------------------------------------


def test_a_chunk_may_lack_channels_and_gets_none_back() -> None:
    batch = next(iter_chunks([e for e in synthetic.episodes(ARMS26, 7) if e.embodiment == TWO][6:], 32, 32))
    left = torch.zeros(ARMS26.width, dtype=torch.bool)
    left[ARMS26.slices["left_position"]] = left[ARMS26.slices["left_gripper"]] = True
    mask_BD = batch.context.mask_BD & ~left
    lacking = ChunkBatch(torch.where(mask_BD[:, None], batch.target_BTD, 0.0), replace(batch.context, mask_BD=mask_BD))
    decoded = tokenizer().decode(tokenizer().with_rate(0).encode(lacking), lacking.context)
    assert not decoded.delta_BTD[..., left].any()
    assert lacking.context.anchor_BD is not None and decoded.absolute_BTD is not None
    still = lacking.context.anchor_BD[:, None].expand_as(lacking.target_BTD)
    assert mm(lacking, decoded.absolute_BTD) < 0.8 * mm(lacking, still)
    beyond = replace(chunks()[:1].context, mask_BD=torch.ones(1, ARMS26.width, dtype=torch.bool), embodiment=(ONE,))
    with pytest.raises(ValueError, match="has no channels"):
        tokenizer().encode(ChunkBatch(chunks()[:1].target_BTD, beyond))


def test_unknown_robots_other_rates_and_layouts_are_refused() -> None:
    batch = chunks()[:2]
    with pytest.raises(ValueError, match=r"no robot 'Franka'.*xtok adapt"):
        tokenizer().encode(ChunkBatch(batch.target_BTD, replace(batch.context, embodiment=("Franka",) * 2)))
    with pytest.raises(ValueError, match="Hz"):
        tokenizer().encode(ChunkBatch(batch.target_BTD, replace(batch.context, control_hz_B=torch.full((2,), 7.0))))
    with pytest.raises(ValueError, match="layout"):
        tokenizer().encode(chunks(32, "joints")[:2])
    with pytest.raises(ValueError, match="anchor"):
        tokenizer().encode(ChunkBatch(batch.target_BTD, replace(batch.context, anchor_BD=None)))


@pytest.mark.parametrize("residuals", ["own", "shared"])
def test_a_robot_that_is_added_changes_no_id_of_the_others(residuals: Residuals) -> None:
    batch = chunks()[:6]
    more = [replace(e, embodiment="Franka") for e in synthetic.episodes(ARMS26) if e.embodiment == ONE]
    grown = adapt_words(tokenizer(), more, residuals, QUICK)
    assert set(grown.statistics) == {ONE, TWO, "Franka"}
    assert same(grown.encode(batch), tokenizer().encode(batch))
    assert grown.digest != tokenizer().digest and grown.codec.foundation == tokenizer().codec.foundation
    assert torch.equal(grown.codec.book, tokenizer().codec.book)  # type: ignore[arg-type]
    assert grown.known_by == {ONE: "measured", TWO: "own", "Franka": "own" if residuals == "own" else "measured"}


# -- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout_name", ["arms26", "joints"])
def test_a_file_gives_back_the_same_ids_and_motion(tmp_path: Path, layout_name: str) -> None:
    batch = chunks(32, layout_name)[:6]
    chosen = tokenizer(layout_name).with_rate(0.3)
    chosen.save_pretrained(tmp_path)
    found = load_tokenizer(tmp_path)
    assert isinstance(found, WordTokenizer)
    assert found.digest == chosen.digest and found.coding == chosen.coding
    codes = found.encode(batch)
    assert same(codes, chosen.encode(batch))
    assert torch.equal(found.decode(codes, batch.context).delta_BTD, chosen.decode(codes, batch.context).delta_BTD)
    with pytest.raises(ValueError, match=r"motion words.*load_tokenizer"):
        Tokenizer.from_pretrained(tmp_path)


def test_altered_or_ill_fitting_files_are_refused(tmp_path: Path) -> None:
    tokenizer().save_pretrained(tmp_path)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    tensors, about = load_file(weights), config.read_text()
    name = f"robot.{TWO}.length2.book0.level1.codes_VC"

    def refused(match: str) -> None:
        with pytest.raises(ValueError, match=match):
            WordTokenizer.from_pretrained(tmp_path)

    save_file({**tensors, name: tensors[name] * 1.5}, weights)
    refused("altered")
    save_file({**tensors, name: tensors[name][:, :-1].contiguous()}, weights)
    refused("shape")
    save_file({key: value for key, value in tensors.items() if key != name}, weights)
    refused("has no tensor")
    save_file({**tensors, "robot.x": tensors[name].clone()}, weights)
    refused("nothing uses")
    save_file({**tensors, name: tensors[name].bfloat16()}, weights)
    refused("bfloat16")
    for shared in ("shared.length4.book1.level2.code_VC", f"robot.{ONE}.length4.book1.level2.map_RDc"):
        save_file({**tensors, shared: tensors[shared] + 0.3}, weights)
        refused("multiples of|altered")
        save_file({key: value for key, value in tensors.items() if key != shared}, weights)
        refused("code_VC|has no tensor")
    save_file(tensors, weights)
    for change in ({"format": 9}, {"coding": {"rate": -1}}, {"more": 1}, {"robots": []}):
        config.write_text(json.dumps({**json.loads(about), **change}))
        refused("format|coding|fields|mappings")
    config.write_text(about)
    assert WordTokenizer.from_pretrained(tmp_path).digest == tokenizer().digest


# -- sequences that are not whole -----------------------------------------------------------------------------------


def test_what_does_not_follow_the_grammar_is_named_or_repaired_and_told() -> None:
    batch = chunks(48)[:3]
    codes = tokenizer().encode(batch)
    broken = list(codes.tokens)
    second = [place for place, token in enumerate(broken[1]) if token < SMALL.words][1]
    broken[1] = np.concatenate([broken[1][:second], [SMALL.total - 1], broken[1][second:]])  # a level 4 of length 4
    given = replace(codes, tokens=tuple(broken))
    with pytest.raises(ValueError, match=rf"sequence 1: token {second} .*expected.*repair"):
        tokenizer().decode(given, batch.context)
    with pytest.warns(UserWarning, match="sequence 1 does not follow the grammar"):
        found = tokenizer().decode(given, batch.context, "repair")
    whole = tokenizer().decode(codes, batch.context)
    assert torch.equal(found.delta_BTD, whole.delta_BTD)  # the one token too many was left out
    assert found.complete_BT is not None
    assert found.complete_BT[0].all() and not found.complete_BT[1].any()


def test_a_missing_word_is_that_of_standing_still_and_nothing_comes_of_nothing() -> None:
    batch = chunks(48)[:1]
    codes = tokenizer().encode(batch)
    last = [place for place, token in enumerate(codes.tokens[0]) if token < SMALL.words][-1]
    cut = replace(codes, tokens=(codes.tokens[0][:last],))
    with pytest.warns(UserWarning, match="word of block 2 was missing"):
        found = tokenizer().decode(cut, batch.context, "repair")
    whole = tokenizer().decode(codes, batch.context)
    assert torch.equal(found.delta_BTD[0, :32], whole.delta_BTD[0, :32])
    assert found.complete_BT is not None and found.complete_BT[0, :16].all() and not found.complete_BT[0, 32:].any()
    for nothing in ([], [SMALL.total + 5], [-1, SMALL.total]):
        with pytest.raises(ValueError, match="nothing to decode"):
            tokenizer().decode(Codes((np.array(nothing, dtype=np.int64),), SMALL.total), batch.context, "repair")
    with pytest.raises(ValueError, match="integers"):
        tokenizer().decode(Codes((np.array([0.5]),), SMALL.total), batch.context)
    with pytest.raises(ValueError, match="1 code sequences and 2 chunks"):
        tokenizer().decode(codes, chunks(48)[:2].context)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-3, SMALL.total + 3), max_size=40), st.sampled_from([8, 18, 33, 64]))
def test_any_ids_at_all_decode_to_finite_motion_or_are_refused(ids: list[int], horizon: int) -> None:
    context = chunks(horizon)[:1].context
    codes = Codes((np.array(ids, dtype=np.int64),), SMALL.total)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = tokenizer().decode(codes, context, "repair")
        except ValueError as error:
            assert "nothing to decode" in str(error)
            return
    assert found.absolute_BTD is not None and torch.isfinite(found.absolute_BTD).all()


@pytest.mark.parametrize("horizon", [8, 18, 33, 64])
def test_every_sequence_that_the_mask_allows_decodes_to_true_rotations(horizon: int) -> None:
    generator = np.random.default_rng(horizon)
    batch = chunks(horizon)[:1]
    ids = tuple(np.array(random_ids(SMALL, horizon, generator)) for _ in range(64))
    context = batch.take(torch.zeros(64, dtype=torch.long)).context
    found = tokenizer().decode(Codes(ids, SMALL.total), context)
    assert found.absolute_BTD is not None and torch.isfinite(found.absolute_BTD).all()
    assert found.complete_BT is not None and found.complete_BT.all()
    for group, where in ARMS26.of_kind("rotation6d"):
        if context.mask_BD[0, where].all():
            turned = matrix_from_rotation6d(found.absolute_BTD[..., where].double())
            apart = turned @ turned.transpose(-1, -2) - torch.eye(3)
            assert apart.abs().max() < 1e-5, group.name


# -- streams and prices ---------------------------------------------------------------------------------------------


def test_a_stream_shows_a_block_at_its_word_and_ends_where_decode_does() -> None:
    batch = chunks(40)[:1]
    codes = tokenizer().encode(batch)
    stream = tokenizer().stream(batch.context)
    with pytest.raises(ValueError, match="no word"):
        stream.actions()
    shown = []
    for token in codes.tokens[0].tolist():
        assert token in stream.allowed
        stream.push(token)
        shown.append((stream.known, stream.settled))
    assert shown[0][0] == 16 and shown[-1][0] == 40
    assert shown == sorted(shown)
    whole = tokenizer().decode(codes, batch.context)
    assert stream.complete and torch.equal(stream.actions().absolute_BTD, whole.absolute_BTD)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a stream is one chunk"):
        tokenizer().stream(chunks(40)[:2].context)


@pytest.mark.parametrize("residuals", [0, 3, 9])
def test_the_fixed_form_gives_all_chunks_of_one_length_as_many_tokens(residuals: int) -> None:
    batch = chunks(40)[:8]
    fixed = tokenizer().with_fixed(residuals)
    codes = fixed.encode(batch)
    assert {len(ids) for ids in codes.tokens} == {3 * (1 + residuals)}
    assert torch.isfinite(tokenizer().decode(codes, batch.context).delta_BTD).all()  # ids mean the same


def test_a_rate_is_found_for_so_many_tokens() -> None:
    batch = chunks(32)[:12]
    cheapest, dearest = (
        np.mean([len(x) for x in tokenizer().with_rate(r).encode(batch).tokens]) for r in (100.0, 1e-4)
    )
    for tokens in (cheapest + 1, (cheapest + dearest) / 2):
        found = tokenizer().with_tokens(tokens, batch).encode(batch)
        assert np.mean([len(ids) for ids in found.tokens]) == pytest.approx(tokens, abs=0.5)
    with pytest.raises(ValueError, match="at least"):
        tokenizer().with_tokens(cheapest / 2, batch)
    with pytest.raises(ValueError, match="at most"):
        tokenizer().with_tokens(dearest * 2, batch)


@pytest.mark.parametrize(
    "wrong", [{"rate": -1.0}, {"rate": float("nan")}, {"residuals": 33}, {"paths": 0}, {"beam": 1.5}]
)
def test_settings_out_of_bounds_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CodingSettings(**wrong)  # type: ignore[arg-type]


def test_words_of_joints_are_shared_along_directions_and_of_poses_in_metres() -> None:
    assert tokenizer("joints").codec.space == "whitened" and tokenizer("joints").layout == JOINTS
    assert tokenizer().codec.space == "physical"
    assert tokenizer().codec.book is not None and len(tokenizer().codec.book) == SMALL.words
