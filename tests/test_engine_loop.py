"""The engine on one process: parts of a batch, what is kept of a batch that went wrong, what may change on resume."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

import semantics_kit as kit
import synthetic
from xtok.codec.base import Codec
from xtok.codec.quantizer import ResidualQuantizer
from xtok.engine import Launch, NotFinite
from xtok.engine.failed import load_failed
from xtok.engine.metrics import flat
from xtok.pretrain.loop import Trainer, begin_run, resume_run
from xtok.pretrain.recipe import Recipe
from xtok.pretrain.task import CodecBatch, CodecTask
from xtok.recipes import tiny


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    with synthetic.small_samples():
        yield


def steady() -> Recipe:
    """`tiny` without dropout."""
    return tiny().varied(codec=replace(tiny().codec, dropout=0.0), masking={"start": 0.0})


def steady_codec() -> Codec:
    codec = synthetic.fitted_codec("perceiver")
    for module in codec.modules():
        if hasattr(module, "dropout"):
            module.dropout = 0.0
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return codec


def test_parts_of_a_batch_give_its_gradient_and_one_step_of_the_books(tmp_path: Path) -> None:
    trainers = [Trainer(steady(), synthetic.corpus(), steady_codec(), tmp_path, launch=Launch(n)) for n in (1, 4)]
    for trainer in trainers:
        trainer.task.train()
        told = trainer.train_step()
        assert {"position", "mam_codes", "mam_actions", "total"} <= told.keys()
    whole, parts = (trainer.codec.quantizers[0] for trainer in trainers)
    assert torch.equal(parts.hits_QV, whole.hits_QV), "all parts are coded by the books of before the step"
    torch.testing.assert_close(parts.count_QV, whole.count_QV)
    torch.testing.assert_close(parts.sum_QVC, whole.sum_QVC, rtol=1e-4, atol=1e-5)
    assert trainers[1].step == 1
    # The means of parts differ a little from the mean of all where channels are masked.
    a, b = (
        torch.cat([p.grad.flatten() for p in trainer.codec.parameters() if p.grad is not None]) for trainer in trainers
    )
    assert torch.nn.functional.cosine_similarity(a, b, dim=0) > 0.95


@pytest.mark.parametrize("accumulate", [0, 1.5])
def test_parts_are_counted_in_whole_numbers(accumulate: int) -> None:
    with pytest.raises(ValueError, match="expected a whole number"):
        Launch(accumulate=accumulate)


def test_a_batch_must_split(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="8 does not split evenly over 1 processes in 3 parts"):
        Trainer(steady(), synthetic.corpus(), synthetic.fitted_codec("perceiver"), tmp_path, launch=Launch(3))


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_loss_that_is_no_number_stops_the_run_and_keeps_its_batch(where: str, tmp_path: Path) -> None:
    recipe, out = kit.recipe(forms="codes", start=0.0), tmp_path / "run"
    losses, drawn = CodecTask.losses, []

    def spoilt(task: CodecTask, batch: CodecBatch, step: int) -> dict[str, Tensor]:
        found = losses(task, batch, step)
        drawn.append(batch)
        if step == 2:
            name = "mam_codes"
            found[name] = found[name] * torch.nan if where == "loss" else found[name] + _steep(found[name])
        return found

    with patch("xtok.pretrain.semantic.SCALE_CHUNKS", 32):
        trainer = begin_run(recipe, kit.corpus(), out, features=kit.store())
        with (
            patch.object(CodecTask, "losses", spoilt),
            pytest.raises(NotFinite, match="step 3") as told,
        ):
            trainer.run()
        folder = out / "failed/00000002"
        assert str(folder) in str(told.value)
        about = json.loads((folder / "about.json").read_text())
        assert about["step"] == 2
        assert about["not_finite"] == (["mam_codes", "total", "gradient"] if where == "loss" else ["gradient"])
        assert len(about["batch"]["chunks"]) == 8
        assert {"embodiment", "dataset", "episode", "frame"} <= about["batch"]["chunks"][0].keys()
        assert (out / "checkpoints/00000002").is_dir(), "from before that step"

        kept, step, _ = load_failed(folder)
        again = trainer.task.restore(kept)
        batch = drawn[2]
        assert step == 2
        assert torch.equal(again.drawn.chunks.target_BTD, batch.drawn.chunks.target_BTD)
        assert again.drawn.origins.episode_B == batch.drawn.origins.episode_B
        assert again.masking is not None and batch.masking is not None
        assert torch.equal(again.masking.predicted_BM, batch.masking.predicted_BM)

        resumed = resume_run(recipe, kit.corpus(), out, features=kit.store())
        rerun = resumed.rerun(folder)
        resumed = resume_run(recipe, kit.corpus(), out, features=kit.store())
        resumed.task.train()
        assert rerun == {name: value for name, value in resumed.train_step().items() if name != "total"}
        with pytest.raises(ValueError, match="no batch is kept"):
            resumed.rerun(out)


def _steep(like: Tensor) -> Tensor:
    """0 with an infinite gradient."""
    return (like - like.detach()).abs().sqrt()


def test_what_changed_on_resume_is_said_and_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    begin_run(steady(), synthetic.corpus(), out).run(until=2)
    about = json.loads((out / "run.json").read_text())
    assert (about["world_size"], about["accumulate"], about["precision"]) == (1, 1, "fp32")
    assert about["global_batch"] == 8
    capsys.readouterr()
    resume_run(steady(), synthetic.corpus(), out)
    assert "the run had" not in capsys.readouterr().err
    trainer = resume_run(steady(), synthetic.corpus(), out, launch=Launch(2, "bf16"))
    assert "accumulate 1 (now 2), precision fp32 (now bf16)" in capsys.readouterr().err
    trainer.run()
    about = json.loads((out / "run.json").read_text())
    assert about["resumed"] == [{"step": 2, "world_size": 1, "accumulate": 2, "precision": "bf16", "device": "cpu"}]
    assert trainer.step == 4


def test_a_beginning_that_was_stopped_takes_over_each_kmeans_that_was_done(tmp_path: Path) -> None:
    recipe = tiny().varied(codec=synthetic.TINY, steps=0, masking={"forms": "none"})
    nearest, straight, stopped = ResidualQuantizer._nearest, tmp_path / "straight", tmp_path / "stopped"
    begin_run(recipe, synthetic.corpus(), straight).finish()
    calls = 0

    def counting(quantizer: ResidualQuantizer, level: int, *rest: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == stop:
            raise KeyboardInterrupt
        return nearest(quantizer, level, *rest)

    def place(out: Path) -> int:
        nonlocal calls
        calls = 0
        with patch.object(ResidualQuantizer, "_nearest", counting):
            trainer = begin_run(recipe, synthetic.corpus(), out)
        trainer.finish()
        return calls

    stop = 0
    whole = place(tmp_path / "counted")
    stop = whole - 1  # in the last k-means
    with pytest.raises(KeyboardInterrupt):
        place(stopped)
    assert len(list((stopped / "placing").iterdir())) == 1
    stop = 0
    assert place(stopped) < whole
    assert not (stopped / "placing").exists()
    for name in ("model.safetensors", "start/model.safetensors", "metrics.jsonl"):
        assert (stopped / name).read_bytes() == (straight / name).read_bytes(), name


def test_trackers_are_asked_for_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no tracker is called 'board'; expected some of .*tensorboard"):
        begin_run(steady(), synthetic.corpus(), tmp_path / "run", launch=Launch(trackers=("board",)))
    with (
        patch("accelerate.tracking.get_available_trackers", list),
        pytest.raises(ImportError, match="`pip install tensorboard`"),
    ):
        begin_run(steady(), synthetic.corpus(), tmp_path / "run", launch=Launch(trackers=("tensorboard",)))
    assert not (tmp_path / "run").exists(), "told before the work"


def test_tensorboard_has_what_the_log_has_and_forgets_what_a_resumed_run_writes_again(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out, launch = tmp_path / "run", Launch(trackers=("tensorboard",))
    begin_run(steady(), synthetic.corpus(), out, launch=launch).run(until=3)
    (out / "checkpoints/00000003").rename(out / "checkpoints/00000002")  # as if it had been killed in the third step
    trainer = resume_run(steady(), synthetic.corpus(), out, launch=launch)
    trainer.run()
    trainer.finish()
    board = EventAccumulator(str(out / "trackers/tiny"))
    board.Reload()
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    logged = {line["step"]: line["total"] for line in lines if "total" in line}
    shown = {event.step: event.value for event in board.Scalars("total")}
    assert shown == pytest.approx(logged)
    assert len(board.Scalars("total")) == 4
    assert {"usage/0", "perplexity/3", "l1_validation/16", "released_l1_train/8"} <= set(board.Tags()["scalars"])
    (settings,) = (out / "trackers/tiny").glob("*/hparams.yml")
    assert "optimiser/learning_rate: 0.001" in settings.read_text().splitlines()


def test_numbers_of_a_log_go_to_trackers_by_name() -> None:
    content = {"total": 1.5, "usage": [0.5, 1], "l1": {8: 0.25, "16": 2}, "note": "text"}
    assert dict(flat(content)) == {"total": 1.5, "usage/0": 0.5, "usage/1": 1.0, "l1/8": 0.25, "l1/16": 2.0}
