"""Contracts of hosts: torchrl, openpi, wall-x, the authors' dict and statistics. Only torchrl is installed.

# B chunks, T frames, D channels
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import codec_kit as kit
import test_codec_words_tokenizer as words_kit
from test_codec_channels import shipped, waves
from test_codec_word_channels import chunks, fitted
from xtok.actions.delta import to_delta
from xtok.actions.layout import ARMS26, JOINTS
from xtok.adapters.authors import GROUPS, from_episode_dict, load_statistics, save_statistics, to_episode_dict
from xtok.adapters.openpi import CodesTokenizer
from xtok.adapters.wall_x import ActionCodes
from xtok.codec.tokens import ChannelWordVocabulary
from xtok.codec.tokens.channel_ids import chunk_to_ids, ids_to_chunk, padded, vocabulary_of
from xtok.codec.words.channels import WordChannels

# -- torchrl --------------------------------------------------------------------------------------------------------


def test_torchrl_transform_takes_chunks_to_codes_and_back() -> None:
    pytest.importorskip("torchrl", reason="needs torchrl: pip install 'xtok[torchrl]'")
    from tensordict import TensorDict
    from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
    from torchrl.data.vla import ActionTokenizerBase
    from torchrl.envs.transforms import ActionTokenizerTransform

    from xtok.adapters.torchrl import ChunkTokenizer

    poses = ChunkTokenizer(kit.tokenizer(), horizon=64)
    assert isinstance(poses, ActionTokenizerBase) and poses.vocab_size == kit.CODES
    delta = torch.zeros(2, 3, 64, 26)
    delta[..., [0, 4, 10, 14]] = 0.0
    for first in (3, 13):  # identity rotations
        delta[..., first], delta[..., first + 4] = 1.0, 1.0
    transform = ActionTokenizerTransform(poses, in_key=("vla_action", "chunk"))
    data = transform(TensorDict({("vla_action", "chunk"): delta}, batch_size=[2, 3]))
    tokens = data["vla_action", "tokens"]
    # docs/adapters.md: [..., 64, 26] -> [..., 16, 4]
    assert tokens.shape == (2, 3, 16, 4) and tokens.dtype == torch.long
    back = transform.inv(TensorDict({("vla_action", "tokens"): tokens}, batch_size=[2, 3]))["vla_action", "chunk"]
    assert back.shape == delta.shape and torch.isfinite(back).all()

    generic = ChunkTokenizer(shipped(), horizon=16, action_dim=7)
    buffer = TensorDictReplayBuffer(
        storage=LazyTensorStorage(8), transform=ActionTokenizerTransform(generic), batch_size=4
    )
    actions = torch.from_numpy(waves(8, 16, 7)).float()
    buffer.extend(TensorDict({"action": actions}, batch_size=[8]))
    drawn = buffer.sample()
    assert drawn["vla_action", "tokens"].shape == (4, 5, 4)
    assert (generic.decode(drawn["vla_action", "tokens"]) - drawn["action"]).abs().mean() < 0.05


def test_torchrl_shapes_that_do_not_fit_are_refused() -> None:
    pytest.importorskip("torchrl", reason="needs torchrl: pip install 'xtok[torchrl]'")
    from xtok.adapters.torchrl import ChunkTokenizer

    with pytest.raises(ValueError, match="say action_dim"):
        ChunkTokenizer(shipped(), horizon=16)
    tokenizer = ChunkTokenizer(shipped(), horizon=16, action_dim=7)
    with pytest.raises(ValueError, match=r"expected \[..., 16, 7\]"):
        tokenizer.encode(torch.zeros(2, 15, 7))
    with pytest.raises(ValueError, match="ends after"):
        tokenizer.decode(torch.zeros(2, 4, 4, dtype=torch.long))
    with pytest.raises(ValueError, match="3 levels"):
        tokenizer.decode(torch.zeros(2, 5, 3, dtype=torch.long))


def test_torchrl_takes_motion_words_of_one_length() -> None:
    pytest.importorskip("torchrl", reason="needs torchrl: pip install 'xtok[torchrl]'")
    from tensordict import TensorDict
    from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
    from torchrl.envs.transforms import ActionTokenizerTransform

    from xtok.adapters.torchrl import ChunkTokenizer

    with pytest.raises(ValueError, match=r"with_fixed\(6\)"):
        ChunkTokenizer(fitted(), horizon=16)
    channels = ChunkTokenizer(fitted().with_fixed(6), horizon=16)
    assert channels.action_dim == 4 and channels.vocab_size == 2048
    actions = torch.from_numpy(chunks()).float()
    buffer = TensorDictReplayBuffer(
        storage=LazyTensorStorage(12), transform=ActionTokenizerTransform(channels), batch_size=4
    )
    buffer.extend(TensorDict({"action": actions}, batch_size=[len(actions)]))
    drawn = buffer.sample()
    assert drawn["vla_action", "tokens"].shape == (4, 1 + 1 + 6)
    back = channels.decode(drawn["vla_action", "tokens"])
    assert (back - drawn["action"]).abs().mean() < 0.2 * drawn["action"].abs().mean()

    words = words_kit.tokenizer()
    with pytest.raises(ValueError, match="no robot 'none'"):
        ChunkTokenizer(words.with_fixed(6), horizon=32)
    poses = ChunkTokenizer(words.with_fixed(6), horizon=32, robot_type=words_kit.ONE)
    given = words_kit.chunks()
    mine = given.take(torch.tensor([r for r, name in enumerate(given.context.embodiment) if name == words_kit.ONE]))
    assert mine.context.anchor_BD is not None
    delta = to_delta(ARMS26, mine.target_BTD.double(), mine.context.anchor_BD.double(), mine.context.mask_BD)
    tokens = poses.encode(delta.float().reshape(len(mine), 1, 32, 26))
    assert tokens.shape == (len(mine), 1, 2 * 7)
    direct = words.with_fixed(6).decode(words.with_fixed(6).encode(mine), mine.context).delta_BTD
    assert ((poses.decode(tokens)[:, 0] - direct).abs().amax(dim=(1, 2)) < 1e-5).float().mean() > 0.8
    with pytest.raises(ValueError, match="expected the word of block 0"):
        poses.decode(tokens[..., 1:])


# -- openpi ---------------------------------------------------------------------------------------------------------


class Words:
    """A text tokenizer with sentencepiece's two methods: a byte is a word, after <pad> <bos> <eos>."""

    def encode(self, text: str, *, add_bos: bool = False, add_eos: bool = False) -> list[int]:
        return [1] * add_bos + [3 + byte for byte in text.encode()] + [2] * add_eos

    def vocab_size(self) -> int:
        return 259


def test_openpi_tokenize_and_extract() -> None:
    tokenizer = CodesTokenizer(300, text_model=Words(), codec=shipped())
    state, actions = np.linspace(-1, 1, 7), waves(1, 16, 7)[0]
    tokens, token_mask, ar_mask, loss_mask = tokenizer.tokenize(" Pick_up the Block ", state, actions)
    assert tokens.shape == token_mask.shape == ar_mask.shape == loss_mask.shape == (300,)
    prefix = Words().encode("Task: pick up the block, State: 0 42 85 128 170 213 255;\n", add_bos=True)
    assert tokens[: len(prefix)].tolist() == prefix
    length = int(token_mask.sum())
    assert token_mask[:length].all() and not tokens[length:].any() and tokens[length - 1] == 2
    assert not loss_mask[: len(prefix)].any() and loss_mask[len(prefix) : length].all()
    assert (ar_mask == loss_mask).all()
    text_ids, codes = tokens[tokens < 259], tokens[tokens >= 259]
    assert len(codes) == 20 and codes.max() < tokenizer.vocabulary.end == 259 + 4 * 2048 and len(text_ids) == 280
    decoded = tokenizer.extract_actions(tokens[len(prefix) :], action_horizon=16, action_dim=7)
    assert decoded.shape == (16, 7) and np.abs(decoded - actions).mean() < 0.05
    bare = tokenizer.tokenize("pick", state, None)
    alone = Words().encode("Task: pick, State: 0 42 85 128 170 213 255;\n", add_bos=True)
    assert not bare[3].any() and bare[1].sum() == len(alone)


def test_openpi_takes_motion_words(tmp_path: Path) -> None:
    fitted().save(tmp_path / "words")
    tokenizer = CodesTokenizer(300, text_model=Words(), codec=tmp_path / "words")
    assert isinstance(tokenizer.codec, WordChannels) and tokenizer.vocabulary.end == 259 + 2048
    lengths = set()
    for actions in chunks():
        tokens, token_mask, _, loss_mask = tokenizer.tokenize("pick", np.zeros(4), actions)
        codes = tokens[tokens >= 259] - 259
        np.testing.assert_array_equal(codes, fitted().encode(actions[None])[0])
        lengths.add(len(codes))
        assert token_mask.sum() == loss_mask.sum() + len(Words().encode("Task: pick, State: 128 128 128 128;\n")) + 1
        decoded = tokenizer.extract_actions(tokens[loss_mask], action_horizon=16, action_dim=4)
        np.testing.assert_array_equal(decoded, fitted().decode([codes], 16)[0])
    assert len(lengths) > 1
    for bad, message in ((codes[1:], "first frame"), (codes[:1], "ends after")):
        with pytest.raises(ValueError, match=message):
            tokenizer.extract_actions(bad + 259, 16, 4)
    with pytest.raises(ValueError, match="no code, but text"):
        tokenizer.extract_actions(np.insert(codes + 259, 1, 7), 16, 4)


def test_openpi_never_gives_zeros_for_bad_tokens_nor_cuts_the_end_off() -> None:
    tokenizer = CodesTokenizer(300, text_model=Words(), codec=shipped())
    tokens = tokenizer.tokenize("pick", np.zeros(7), waves(1, 16, 7)[0])[0]
    codes = np.flatnonzero(tokens >= 259)
    for bad in (tokens[: codes[0]], np.delete(tokens, codes[3]), tokens[: codes[-1]]):
        with pytest.raises(ValueError, match=r"has no code|expected a code of level|ends after"):
            tokenizer.extract_actions(bad, 16, 7)
    with pytest.raises(ValueError, match="max_len is 40"):
        CodesTokenizer(40, text_model=Words(), codec=shipped()).tokenize("pick", np.zeros(7), waves(1, 16, 7)[0])


def test_openpi_signatures() -> None:
    contract = {
        "tokenize": ["self", "prompt", "state", "actions"],
        "extract_actions": ["self", "tokens", "action_horizon", "action_dim"],
    }
    for name, expected in contract.items():
        assert list(inspect.signature(getattr(CodesTokenizer, name)).parameters) == expected
    first = list(inspect.signature(CodesTokenizer).parameters.values())
    assert first[0].name == "max_len" and all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in first[1:])


# -- wall-x ---------------------------------------------------------------------------------------------------------


class Processor:
    """`processor.tokenizer.convert_tokens_to_ids`, with a text vocabulary of 500."""

    def __init__(self, tokens: list[str]) -> None:
        self.ids = {token: 500 + i for i, token in enumerate(tokens)}
        self.tokenizer = SimpleNamespace(convert_tokens_to_ids=lambda token: self.ids.get(token, 0))


@pytest.fixture
def codes() -> ActionCodes:
    mixin = ActionCodes()
    mixin.load_tokenizer({}, normalizer=None)
    return mixin


def test_wall_x_round_trip(codes: ActionCodes) -> None:
    tokens, special = codes.get_special_tokens()
    assert special is None and len(tokens) == codes.vocab_size == 4 * 2048 and tokens[0] == "<|action_token_0|>"
    assert codes.get_all_special_tokens() == (tokens, None)
    processor = Processor(tokens)
    mapper = codes.build_action_mapper(processor)
    assert codes.action_mapper is mapper and mapper[500] == 0 and codes.get_action_token_list(processor)[0] == 500
    samples = [torch.from_numpy(x) for x in waves(2, 16, 7)]
    written = codes.encode_to_tokens(samples, obs_state=None, dof_mask=None, robot_type_ids=None, is_train=False)
    assert [len(row) for row in written] == [20, 20]
    ids = torch.tensor([[3, *(processor.ids[token] for token in written[0]), 4]])  # text before and after
    action, success = codes.decode_action(ids, mapper, 16, 7, "cpu", dof_mask=torch.ones(1, 16, 7))
    assert success and action is not None and np.abs(action - samples[0].numpy()).mean() < 0.05
    for bad in (ids[:, :-3], ids[:, :1], torch.cat([ids[:, :4], ids[:, 5:]], dim=1)):
        assert codes.decode_action(bad, mapper, 16, 7, "cpu") == (None, False)


def test_wall_x_takes_motion_words(tmp_path: Path) -> None:
    fitted().save(tmp_path / "words")
    words = ActionCodes()
    words.load_tokenizer({"action_tokenizer_path": str(tmp_path / "words")}, normalizer=None)
    tokens = words.get_special_tokens()[0]
    assert len(tokens) == words.vocab_size == 2048
    processor = Processor(tokens)
    mapper = words.build_action_mapper(processor)
    samples = [torch.from_numpy(x) for x in chunks()[:3]]
    written = words.encode_to_tokens(samples)
    expected = fitted().encode(chunks()[:3])
    for row, codes in zip(written, expected, strict=True):
        assert row == [f"<|action_token_{code}|>" for code in codes]
    ids = torch.tensor([[3, *(processor.ids[token] for token in written[0]), 4]])
    action, success = words.decode_action(ids, mapper, 16, 4, "cpu")
    assert success and action is not None
    np.testing.assert_array_equal(action, fitted().decode(expected[:1], 16)[0])
    assert words.decode_action(ids[:, :2], mapper, 16, 4, "cpu") == (None, False)
    first, motion = fitted().grammar.offset, fitted().grammar.motion.words
    assert words.get_accuracy_keys() == ["action_accuracy"] + [
        f"action_accuracy_{kind}" for kind in ("first_frame", "word", "residual")
    ]
    labels = torch.tensor([[-100, 500, 500 + first, 500 + first + motion, 500 + first + motion + 1]])
    logits = torch.zeros(1, 5, 500 + words.vocab_size)
    for place, guess in ((0, 500), (1, 500 + first), (2, 500 + first + motion), (3, 1)):
        logits[0, place, guess] = 1.0
    found = words.compute_accuracy(logits, labels, mapper, {})
    assert [float(found[key]) for key in words.get_accuracy_keys()] == [0.75, 1.0, 1.0, 0.5]


def test_wall_x_accuracy_by_level(codes: ActionCodes) -> None:
    processor = Processor(codes.get_special_tokens()[0])
    mapper = codes.build_action_mapper(processor)
    labels = torch.tensor([[-100, 7, 500 + 5, 500 + 2048 + 6, 500 + 4096 + 7, 500 + 6144 + 8]])
    logits = torch.zeros(1, 6, 500 + codes.vocab_size)
    for place, guess in ((1, 505), (2, 1), (3, 500 + 4096 + 7), (4, 500 + 6144 + 8)):
        logits[0, place, guess] = 1.0
    found = codes.compute_accuracy(logits, labels, mapper, {"action_token_list": list(mapper)})
    assert list(found) == codes.get_accuracy_keys()
    assert [float(v) for v in found.values()] == [0.75, 1.0, 0.0, 1.0, 1.0]
    assert codes.compute_accuracy(logits, labels, {}, {}) == {}


def test_wall_x_signatures() -> None:
    contract = {
        "load_tokenizer": ["self", "config", "normalizer", "device"],
        "get_val_tokenizer": ["self", "config"],
        "get_special_tokens": ["self"],
        "build_action_mapper": ["self", "processor"],
        "get_action_token_list": ["self", "processor"],
        "decode_action": [
            "self",
            "output_ids",
            "action_mapper",
            "action_horizon",
            "action_dim",
            "device",
            "proprioception",
            "dof_mask",
            "robot_type_id",
            "state",
        ],
        "compute_accuracy": ["self", "logits", "labels", "action_mapper", "action_token_id_set"],
        "get_accuracy_keys": ["self"],
        "encode_to_tokens": ["self", "actions", "obs_state", "dof_mask", "robot_type_ids", "is_train"],
    }
    for name, expected in contract.items():
        assert list(inspect.signature(getattr(ActionCodes, name)).parameters) == expected, name
    for name in ("vocab_size", "uses_dof_mask_for_unnorm", "needs_action_crop", "tokenizer_type", "action_mapper"):
        assert isinstance(inspect.getattr_static(ActionCodes, name), property), name


def test_wall_x_says_what_is_missing() -> None:
    mixin = ActionCodes()
    assert mixin.vocab_size == 0
    with pytest.raises(RuntimeError, match="call load_tokenizer"):
        mixin.encode_to_tokens([torch.zeros(16, 7)])
    mixin.load_tokenizer({}, None)
    with pytest.raises(ValueError, match="does not know the action tokens"):
        mixin.build_action_mapper(Processor([]))


# -- ids of channels --------------------------------------------------------------------------------------------------


def test_motion_words_of_channels_have_ids_and_strings_of_their_own() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    text = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<unk>": 0, "pick": 1}, unk_token="<unk>"))
    grammar = fitted().grammar
    vocabulary = ChannelWordVocabulary.append_to(text, grammar)
    assert (vocabulary.offset, vocabulary.size) == (2, 2048)
    strings = vocabulary.tokens()
    assert strings[0] == "<xtok_s1_0>" and strings[grammar.offset] == "<xtok_w_0>" and len(set(strings)) == 2048
    sequences = fitted().encode(chunks())
    ids = vocabulary.ids(sequences)
    assert text.token_to_id(strings[sequences[0][0]]) == ids[0][0]
    again = vocabulary.codes([[1, *row, 0] for row in ids])
    assert all(np.array_equal(a, b) for a, b in zip(again, sequences, strict=True))
    state = grammar.after(sequences[0].tolist()[:1], 16)
    allowed = vocabulary.allowed(state, size=3000)
    assert allowed[ids[0][1]] and not allowed[:2].any() and not allowed[2050:].any()
    with pytest.raises(ValueError, match="expected 0 to 2047"):
        vocabulary.ids([[2048]])
    with pytest.raises(ValueError, match="no groups"):
        vocabulary_of(fitted(), 2, marker=True)


def test_rows_of_several_lengths_are_filled_up_with_text_and_masked() -> None:
    vocabulary = vocabulary_of(fitted(), 10)
    ids = chunk_to_ids(fitted(), vocabulary, chunks())
    tokens_BL, mask_BL = padded(ids, vocabulary)
    assert mask_BL.sum(dim=1).tolist() == [len(row) for row in ids] and not mask_BL.all()
    assert not tokens_BL[~mask_BL].any()
    decoded = ids_to_chunk(fitted(), vocabulary, tokens_BL.tolist(), 16, 4)
    np.testing.assert_array_equal(decoded, fitted().decode(fitted().encode(chunks()), 16))
    with pytest.raises(ValueError, match="with offset 0"):
        padded(ids, vocabulary_of(fitted(), 0))


# -- the authors' dict and statistics ---------------------------------------------------------------------------------


def test_the_nine_keys_hold_26_channels_in_order() -> None:
    assert [ARMS26.slices[group].stop - ARMS26.slices[group].start for group in GROUPS.values()] == [
        3, 6, 1, 3, 6, 1, 3, 1, 2,
    ]  # fmt: skip
    assert list(GROUPS.values()) == [group.name for group in ARMS26.groups]


@pytest.mark.parametrize("complete", [False, True])
def test_episodes_go_out_and_come_back(complete: bool) -> None:
    episode = kit.episodes("heldout")[0]
    parts = to_episode_dict(episode.absolute_ND, episode.mask_D, complete)
    assert len(parts) == (9 if complete else 3)
    assert parts["follow_right_ee_rotation_6D"].shape == (len(episode), 6)
    again = from_episode_dict(parts)
    np.testing.assert_array_equal(again.mask_D, episode.mask_D)
    np.testing.assert_array_equal(again.absolute_ND, np.where(episode.mask_D, episode.absolute_ND, 0))


def test_episodes_that_do_not_fit_are_refused() -> None:
    episode = kit.episodes("heldout")[0]
    parts = to_episode_dict(episode.absolute_ND, episode.mask_D)
    for change, message in (
        ({"follow_left_tail": np.zeros((5, 1))}, "unknown keys"),
        ({"height": np.zeros((len(episode) - 1, 1))}, "frames; expected one number"),
        ({"height": np.ones((len(episode), 2))}, "expected \\[N, 1\\]"),
        ({"follow_right_gripper": np.full(len(episode), np.nan)}, "right_gripper"),
        ({"follow_right_ee_rotation_6D": np.zeros((len(episode), 6)) + 1.0}, "right_rotation"),
    ):
        with pytest.raises(ValueError, match=message):
            from_episode_dict(parts | change)
    with pytest.raises(ValueError, match="zero from end to end"):
        from_episode_dict({"height": np.zeros((5, 1))})
    with pytest.raises(ValueError, match="valid in part"):
        to_episode_dict(episode.absolute_ND, np.arange(26) == 10)


def test_statistics_go_out_and_come_back(tmp_path: Path) -> None:
    known = {"panda": kit.tokenizer().statistics["panda"]}
    path = tmp_path / "statistics.json"
    save_statistics(known, path)
    content = json.loads(path.read_text())["panda"]
    assert set(content) == {"follow_right_ee_cartesian_pos", "follow_right_ee_rotation_6D", "follow_right_gripper"}
    again = load_statistics(path, control_hz=known["panda"].control_hz)["panda"]
    np.testing.assert_array_equal(again.mask_D, known["panda"].mask_D)
    np.testing.assert_allclose(again.low_D, known["panda"].low_D)
    np.testing.assert_allclose(again.high_D, known["panda"].high_D, atol=1e-12)
    kit.tokenizer().with_ranges(again)  # of use to a tokenizer
    for text, message in (
        ("{", "not JSON"),
        ("[]", "expected {robot"),
        ('{"panda": {"tail": {}}}', "unknown part 'tail'"),
        ('{"panda": {"height": {"min": [0, 1], "delta": [1, 1]}}}', "min \\(2,\\)"),
        ('{"panda": {"height": {"min": [0], "delta": [-1]}}}', "low must be finite and not above high"),
        ('{"panda": {"height": {"min": ["x"], "delta": [0]}}}', "'min' is amiss"),
        ('{"panda": {"height": {"min": [0]}}}', "'delta' is amiss"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            load_statistics(path, control_hz=20.0)
    with pytest.raises(ValueError, match="this form holds arms26"):
        save_statistics({"x": _joints()}, path)


def _joints() -> object:
    from xtok.codec.channels import ranges

    return ranges(JOINTS)
