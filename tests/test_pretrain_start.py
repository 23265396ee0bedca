"""Where a perceiver's training starts: at principal components, or at trained weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file

import synthetic
from xtok import Tokenizer
from xtok.codec.batch import BatchContext
from xtok.codec.encoder import by_frame, by_slot
from xtok.codec.perceiver import PerceiverCodec
from xtok.pretrain import loop
from xtok.pretrain.initialise import initialise
from xtok.pretrain.loop import begin_run, resume_run, train
from xtok.pretrain.recipe import Recipe
from xtok.recipes import get_recipe
from xtok.recipes import tiny as unaided


def tiny() -> Recipe:
    return unaided().varied(codec=synthetic.LINEAR)


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    """Every path opens the synthetic corpus."""
    with (
        synthetic.small_samples(),
        patch.object(loop.Corpus, "open", classmethod(lambda cls, layout, paths, *_: synthetic.corpus(layout.name))),
    ):
        yield


@pytest.fixture(scope="module")
def trained(quick: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tiny(), [], tmp_path_factory.mktemp("runs") / "trained")


def started(code_dim: int) -> PerceiverCodec:
    torch.manual_seed(0)
    codec = PerceiverCodec(replace(tiny().codec, code_dim=code_dim))
    initialise(codec, synthetic.corpus(), vectors=2000, iterations=1, progress=False)
    return codec


def restored(codec: PerceiverCodec, horizon: int) -> tuple[torch.Tensor, torch.Tensor, BatchContext]:
    """Motion through both networks without a quantizer, and itself."""
    chunks = synthetic.corpus().validate(horizon, 16)
    context = codec.batch_context(chunks.context)
    motion_BTK = codec.motion(chunks, context).float()
    with torch.no_grad():
        z_BMC = codec.latents(motion_BTK, context)
        found_BTK = codec.decoder(z_BMC, context.conditions, horizon, codec.config.levels)
    mask_BK = context.conditions.mask_BK[:, None]
    return found_BTK * mask_BK, motion_BTK * mask_BK, context


@pytest.mark.parametrize("horizon", (8, 18, 64))
def test_with_all_components_training_starts_at_the_identity(horizon: int) -> None:
    found, motion, _ = restored(started(code_dim=4 * motion_width()), horizon)
    torch.testing.assert_close(found, motion, atol=1e-5, rtol=0)


def test_fewer_components_leave_more_out() -> None:
    errors = []
    for code_dim in (2, 8, 16):
        found, motion, _ = restored(started(code_dim), 32)
        errors.append(float((found - motion).square().sum()))
    assert errors[0] > 2 * errors[1] > 4 * errors[2] > 0


def motion_width() -> int:
    (weight,) = (p for name, p in PerceiverCodec(tiny().codec).decoder.named_parameters() if name == "out.weight")
    return len(weight)


@pytest.mark.parametrize("horizon", (8, 9, 11, 64))
def test_slots_hold_four_frames_and_give_them_back(horizon: int) -> None:
    x_BTK = torch.randn(2, horizon, 3, generator=torch.Generator().manual_seed(0))
    slots = by_slot(x_BTK)
    assert slots.shape == (2, -(-horizon // 4), 12)
    assert torch.equal(by_frame(slots, horizon), x_BTK)
    assert torch.equal(slots[:, -1, -3:], x_BTK[:, -1])  # the last frame is held


def test_a_run_starts_where_another_ended(trained: Path, tmp_path: Path) -> None:
    recipe = tiny().varied(seed=5)
    out = tmp_path / "more"
    trainer = begin_run(recipe, synthetic.corpus(), out, start_from=trained)
    assert trainer.step == 0
    before, now = load_file(trained / "model.safetensors"), load_file(out / "start" / "model.safetensors")
    assert before.keys() == now.keys()
    assert [name for name in before if not torch.equal(before[name], now[name])] == []
    heads = load_file(trained / "heads.safetensors")
    assert heads
    own = trainer.task.heads.state_dict()
    assert [name for name in heads if not torch.equal(heads[name], own[name])] == []
    averages = trainer.task.heads_average.tensors
    assert [name for name in averages if not torch.equal(averages[name], heads[name])] == []
    for quantizer in trainer.codec.quantizers:
        assert torch.equal(quantizer.sum_QVC / quantizer.weight_QVC, quantizer.books_QVC)
    assert json.loads((out / "run.json").read_text())["start_digest"] == Tokenizer.from_pretrained(trained).digest

    resumed = resume_run(recipe, synthetic.corpus(), out, start_from=trained)
    resumed.run()
    resumed.finish()
    assert Tokenizer.from_pretrained(out).digest != Tokenizer.from_pretrained(trained).digest
    with pytest.raises(ValueError, match="another start_digest"):
        resume_run(recipe, synthetic.corpus(), out, start_from=out)


def test_heads_that_the_weights_lack_begin_anew_and_that_is_told(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "alone"
    Tokenizer.from_pretrained(trained).save_pretrained(alone)
    begin_run(tiny(), synthetic.corpus(), tmp_path / "run", start_from=alone)
    assert "of the heads codes" in capsys.readouterr().err


def test_weights_of_another_configuration_are_refused(trained: Path, tmp_path: Path) -> None:
    wider = replace(tiny(), codec=replace(tiny().codec, hidden=32))
    with pytest.raises(ValueError, match=r"another configuration than recipe 'tiny': hidden 16 \(the recipe: 32\)"):
        begin_run(wider, synthetic.corpus(), tmp_path / "run", start_from=trained)
    with pytest.raises(ValueError, match="trains no networks of a codec"):
        begin_run(get_recipe("small_arms26"), synthetic.corpus(), tmp_path / "run", start_from=trained)
    assert not (tmp_path / "run" / "run.json").exists()
