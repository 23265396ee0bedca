"""Backbones of a policy, one protocol: tiny random models of three Hugging Face families, and the embedded one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from teacher_kit import save_tiny, tiny_vlm

pytest.importorskip("transformers")

from xtok.semantics.backbone import Observation
from xtok.semantics.huggingface_backbone import HuggingFaceBackbone, load_backbone, point_in, state_in_words

FAMILIES = ("qwen2.5-vl", "smolvlm", "paligemma")
WORDS = "lift the red cube"


@pytest.fixture(scope="module", autouse=True)
def offline() -> None:
    import huggingface_hub.constants as constants

    constants.HF_HUB_OFFLINE = True


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {family: str(save_tiny(family, tmp_path_factory.mktemp(family))) for family in FAMILIES}


@pytest.fixture(scope="module", params=(*FAMILIES, "embedded"))
def backbone(request: pytest.FixtureRequest, folders: dict[str, str]) -> Any:
    if request.param == "embedded":
        return tiny_vlm()
    found = load_backbone(folders[request.param])
    found.module.eval()
    return found


def observation(seed: int, words: str = WORDS, state: bool = False) -> Observation:
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    return Observation({"scene": picture}, words, rng.normal(size=26) if state else None)


def appended(backbone: Any, rows: int, count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, count, backbone.width, generator=torch.Generator().manual_seed(seed))


def test_a_prefix_has_states_keys_and_values_of_every_layer(backbone: Any) -> None:
    read = backbone.read(backbone.prepare([observation(0), observation(1, WORDS + " now")]))
    prefix = read.prefix
    B, P = prefix.keep_BP.shape
    assert B == len(prefix) == 2 and len(prefix.states) == backbone.layers + 1
    assert all(state.shape == (B, P, backbone.width) for state in prefix.states)
    assert len(prefix.keys_values) == backbone.layers
    for keys, values in prefix.keys_values:
        assert keys.shape == values.shape == (B, backbone.heads, P, backbone.head_width)


def test_what_is_appended_at_once_is_what_is_appended_one_by_one(backbone: Any) -> None:
    with torch.no_grad():
        read = backbone.read(backbone.prepare([observation(0)]))
        before = [keys.clone() for keys, _ in read.prefix.keys_values]
        tail, keep = appended(backbone, 1, 3), torch.ones(1, 3, dtype=torch.bool)
        whole, longer = backbone.extend(read, tail, keep)
        step, some = [], read
        for i in range(3):
            state, some = backbone.extend(some, tail[:, i : i + 1], keep[:, :1])
            step.append(state)
    np.testing.assert_allclose(torch.cat(step, 1), whole, atol=2e-4)
    assert longer.prefix.keep_BP.shape[1] == read.prefix.keep_BP.shape[1] + 3
    assert all(torch.equal(a, b) for a, (b, _) in zip(before, read.prefix.keys_values, strict=True))


def test_rows_do_not_depend_on_padding_and_later_places_are_not_seen(backbone: Any) -> None:
    with torch.no_grad():
        rows = [observation(0), observation(1, WORDS + " and put it into the tray")]
        both, alone = (backbone.read(backbone.prepare(some)) for some in (rows, rows[:1]))
        keep = torch.ones(2, 2, dtype=torch.bool)
        tail = appended(backbone, 1, 2).expand(2, -1, -1)
        together, _ = backbone.extend(both, tail, keep)
        single, _ = backbone.extend(alone, tail[:1], keep[:1])
        np.testing.assert_allclose(together[:1], single, atol=3e-4)
        other = tail.clone()
        other[:, 1] *= -2
        changed, _ = backbone.extend(both, other, keep)
    assert torch.allclose(changed[:, 0], together[:, 0], atol=1e-5)
    assert (changed[:, 1] - together[:, 1]).abs().max() > 1e-4


def test_words_pictures_and_state_reach_what_is_appended(backbone: Any) -> None:
    def state_of(seen: Observation) -> torch.Tensor:
        with torch.no_grad():
            read = backbone.read(backbone.prepare([seen]))
            return backbone.extend(read, appended(backbone, 1, 1), torch.ones(1, 1, dtype=torch.bool))[0]

    plain = observation(0, state=True)
    others = (
        Observation(plain.pictures, "lift the blue cube", plain.state),
        Observation(observation(1).pictures, WORDS, plain.state),
        Observation(plain.pictures, WORDS, -np.asarray(plain.state)),
    )
    for other in others:
        assert (state_of(other) - state_of(plain)).abs().max() > 1e-6


def test_gradients_pass_the_prefix_unless_it_is_detached(backbone: Any) -> None:
    from dataclasses import replace

    backbone.module.zero_grad()
    read = backbone.read(backbone.prepare([observation(0)]))
    keep = torch.ones(1, 1, dtype=torch.bool)
    tail = appended(backbone, 1, 1).requires_grad_()
    keys = read.prefix.keys_values[0][0]
    assert keys.requires_grad
    backbone.extend(read, tail, keep)[0].sum().backward()
    assert sum(float(p.grad.abs().sum()) for p in backbone.module.parameters() if p.grad is not None) > 0
    cut = replace(backbone.read(backbone.prepare([observation(0)])), prefix=read.prefix.detached())
    assert not cut.prefix.keys_values[0][0].requires_grad


def test_answers_are_words_and_how_sure(backbone: Any) -> None:
    first, again = backbone.answer([observation(0), observation(0)], tokens_max=3)
    assert isinstance(first.text, str) and 0 <= first.sure <= 1
    assert first.text == again.text


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("trained", ["frozen_vision", "lora", "none"])
def test_only_what_is_chosen_is_trained(folders: dict[str, str], family: str, trained: Any) -> None:
    if trained == "lora":
        pytest.importorskip("peft")
    chosen = HuggingFaceBackbone(folders[family], trained, lora_rank=2)
    names = [name for name, p in chosen.module.named_parameters() if p.requires_grad]
    is_vision = [any(part in name for part in ("vision_tower.", "vision_model.", "visual.")) for name in names]
    assert not any(is_vision)
    if trained == "lora":
        assert names and all("lora_" in name for name in names)
        read = chosen.read(chosen.prepare([observation(0)]))
        read.prefix.states[-1].sum().backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in chosen.module.parameters())
    else:
        assert bool(names) is (trained == "frozen_vision")


def test_errors_say_what_to_do(folders: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="no image-text model"):
        load_backbone("no/such-model")
    with pytest.raises(ValueError, match="expected 'full'"):
        HuggingFaceBackbone(folders["smolvlm"], "some")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no LoRA"):
        load_backbone("embedded", "lora")


def test_places_are_read_from_words() -> None:
    assert point_in("<loc0512><loc0256> cube", 64, 128) == (16, 64)
    assert point_in('{"point_2d": [12, 30.5], "label": "cube"}', 64, 64) == (12, 30.5)
    assert point_in("on the left", 64, 64) is None
    assert state_in_words(np.array([-2.0, 0.0, 1.0])) == "0 128 255"
