"""FAST's call contract: shapes, errors, save and load, AutoProcessor, push to a hub that is a fake.

# B chunks, T frames, D channels
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from test_codec_channels import fitted, waves
from test_codec_word_channels import QUICK
from test_codec_word_channels import fitted as fitted_words

transformers = pytest.importorskip("transformers", reason="needs transformers: pip install 'xtok[hf]'")

from xtok.adapters.huggingface import ActionProcessor  # noqa: E402


@cache
def processor() -> ActionProcessor:
    return ActionProcessor()


def test_the_contract_of_fast() -> None:
    proc, x_BTD = ActionProcessor(layout="generic"), waves(3, 20, 7)
    tokens = proc(x_BTD)
    assert isinstance(tokens, list) and {type(t) for row in tokens for t in row} == {int}
    assert [len(row) for row in tokens] == [proc.tokens_per_chunk(20)] * 3 == [24] * 3
    assert all(0 <= t < proc.vocab_size for row in tokens for t in row)
    again = proc.decode(tokens, time_horizon=20, action_dim=7)
    assert isinstance(again, np.ndarray) and again.shape == (3, 20, 7)
    np.testing.assert_array_equal(proc.decode(tokens), again)  # as FAST: the shape of the last call
    single = proc(x_BTD[1])  # [T, D]
    assert single == [tokens[1]]
    assert proc(torch.from_numpy(x_BTD[:1]).float())[0] == proc(x_BTD[:1].astype(np.float32))[0]  # LeRobot's way
    assert isinstance(proc, transformers.ProcessorMixin) and proc.attributes == [] and proc.get_attributes() == []


def test_nothing_is_remembered_that_was_never_told() -> None:
    tokens = processor()(waves(1, 20, 7))
    with pytest.raises(ValueError, match="decode needs time_horizon=T and action_dim=D"):
        ActionProcessor().decode(tokens)


def test_what_cannot_be_is_a_typed_error_never_zeros() -> None:
    proc = processor()
    with pytest.raises(ValueError, match="27 channels; this contract carries 1 to 26"):
        proc(waves(1, 20, 27))
    tokens = proc(waves(1, 20, 7))[0]
    for bad, message in (
        (tokens[:-1], "ends after 23 of 24"),
        ([*tokens, 0], "1 too many"),
        ([*tokens[:5], 2048, *tokens[6:]], "id 2048 at position 5"),
    ):
        with pytest.raises(ValueError, match=message):
            proc.decode([bad], time_horizon=20, action_dim=7)
    with pytest.warns(UserWarning, match="dropped"):
        proc.decode([tokens[:-1]], time_horizon=20, action_dim=7, on_invalid="repair")
    with pytest.raises(ValueError, match="layout is 'arms26'"):
        ActionProcessor(layout="arms26")
    with pytest.raises(TypeError, match="not \\['text'\\]"):
        proc(waves(1, 20, 7), text="pick")


def test_fit_is_for_one_width_and_says_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="action_dim is 3"):
        ActionProcessor.fit(list(waves(3, 64, 5)), action_dim=3)
    proc = ActionProcessor(fitted())
    assert proc.action_dim == 5 and len(proc(waves(1, 16, 5))[0]) == 20


def test_save_load_and_auto_processor(tmp_path: Path) -> None:
    proc, x_BTD = ActionProcessor(fitted()), waves(2, 20, 5)
    proc.save_pretrained(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        "model.safetensors",
        "config.json",
        "channels.json",
        "processor_config.json",
    }
    saved = json.loads((tmp_path / "processor_config.json").read_text())
    assert saved["processor_class"] == "ActionProcessor" and saved["tokenizer_digest"] == fitted().tokenizer.digest
    for again in (ActionProcessor.from_pretrained(tmp_path), transformers.AutoProcessor.from_pretrained(str(tmp_path))):
        assert type(again) is ActionProcessor and again(x_BTD) == proc(x_BTD)
    assert "ActionProcessor" in repr(proc)
    with pytest.raises(FileNotFoundError, match="no tokenizer folder"):
        ActionProcessor.from_pretrained(tmp_path / "absent")


# -- motion words ------------------------------------------------------------------------------------------------------


def test_the_contract_of_fast_with_motion_words() -> None:
    proc, x_BTD = ActionProcessor(fitted_words()), waves(6, 16, 4)
    tokens = proc(x_BTD)
    assert proc.form == "words" and proc.action_dim == 4 and proc.vocab_size == 2048
    assert {type(t) for row in tokens for t in row} == {int} and len({len(row) for row in tokens}) > 1
    assert all(0 <= t < proc.vocab_size for row in tokens for t in row)
    again = proc.decode(tokens, time_horizon=16, action_dim=4)
    assert again.shape == (6, 16, 4) and again.dtype == np.float32
    np.testing.assert_array_equal(proc.decode(tokens), again)
    assert proc(x_BTD[1]) == [tokens[1]]


def test_what_words_have_not_is_said() -> None:
    proc = ActionProcessor(fitted_words())
    tokens = proc(waves(1, 16, 4))
    with pytest.raises(ValueError, match="motion words have none"):
        proc.decode(tokens, levels=2)
    with pytest.raises(ValueError, match="as many tokens as a chunk needs"):
        proc.tokens_per_chunk(16)
    assert ActionProcessor(fitted_words().with_fixed(3)).tokens_per_chunk(16) == 5
    with pytest.raises(ValueError, match="sequence 0: it ends after"):
        proc.decode([tokens[0][:1]])
    with pytest.raises(ValueError, match="actions have 5 channels; this was fitted on 4"):
        proc.decode(tokens, action_dim=5)
    with pytest.warns(UserWarning, match="was repaired"):
        proc.decode([tokens[0][:1]], on_invalid="repair")


def test_fit_gives_codes_and_words_where_asked_for() -> None:
    proc = ActionProcessor.fit(waves(80, 16, 3), form="words", time_horizon=16, total=2048, settings=QUICK)
    assert proc.form == "words" and proc.codec.horizon_max == 16 and proc.action_dim == 3
    with pytest.raises(ValueError, match="form is 'fast'; expected 'words' or 'codes'"):
        ActionProcessor.fit(waves(80, 16, 3), form="fast")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="books of 2048 codes need 2048"):
        ActionProcessor.fit(waves(80, 16, 3))


def test_saved_words_open_by_every_way(tmp_path: Path) -> None:
    proc, x_BTD = ActionProcessor(fitted_words().with_rate(0.3)), waves(3, 16, 4)
    proc.save_pretrained(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"model.safetensors", "channels.json", "processor_config.json"}
    saved = json.loads((tmp_path / "processor_config.json").read_text())
    assert saved["form"] == "words" and saved["tokenizer_digest"] == fitted_words().digest
    for again in (ActionProcessor.from_pretrained(tmp_path), transformers.AutoProcessor.from_pretrained(str(tmp_path))):
        assert type(again) is ActionProcessor and again(x_BTD) == proc(x_BTD)


class FakeHub:
    """What transformers' PushToHubMixin asks of HfApi, into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create_repo(self, repo_id: str, **_: Any) -> SimpleNamespace:
        (self.folder / repo_id).mkdir(parents=True, exist_ok=True)
        return SimpleNamespace(repo_id=repo_id)

    def create_commit(self, repo_id: str, operations: list[Any], **_: Any) -> str:
        for operation in operations:
            with operation.as_file() as file:
                (self.folder / repo_id / operation.path_in_repo).write_bytes(file.read())
        return "done"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub in a folder: pushed files land there, downloads are read from there."""
    import huggingface_hub
    from transformers.utils import hub as module

    fake = FakeHub(tmp_path / "hub")
    card = SimpleNamespace(save=lambda path: Path(path).write_text("a card\n"))
    monkeypatch.setattr(module, "hf_api", lambda: fake)
    monkeypatch.setattr(module, "create_and_tag_model_card", lambda *_, **__: card)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda repo_id, **_: str(tmp_path / "hub" / str(repo_id)))
    return tmp_path / "hub"


@pytest.mark.parametrize("way", ["push_to_hub", "save_pretrained"])
def test_pushed_files_are_whole_and_come_back(way: str, hub: Path, tmp_path: Path) -> None:
    proc, x_BTD = ActionProcessor(fitted()), waves(2, 20, 5)
    if way == "push_to_hub":
        proc.push_to_hub("me/codes")
    else:
        proc.save_pretrained(tmp_path / "local", push_to_hub=True, repo_id="me/codes")
    pushed = {path.name for path in (hub / "me/codes").iterdir()}
    assert pushed >= {"model.safetensors", "config.json", "channels.json", "processor_config.json"}
    for options in ({}, {"revision": "main", "token": "x"}):
        assert ActionProcessor.from_pretrained("me/codes", **options)(x_BTD) == proc(x_BTD)
