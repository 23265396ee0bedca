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
from test_codec_channels import shipped, waves
from xtok.actions.layout import ARMS26, JOINTS
from xtok.adapters.authors import GROUPS, from_episode_dict, load_statistics, save_statistics, to_episode_dict
from xtok.adapters.openpi import CodesTokenizer
from xtok.adapters.wall_x import ActionCodes

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
