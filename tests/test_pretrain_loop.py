"""A run of pretraining: exact resume, interruption, refusals, and that it learns."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file

import synthetic
from ranks_kit import metrics
from xtok import Tokenizer
from xtok.actions.embodiments import NONE_SLOT
from xtok.codec.perceiver import PerceiverCodec
from xtok.engine import Launch, checkpoint
from xtok.engine.average import WeightAverage
from xtok.engine.precision import bfloat16_networks
from xtok.pretrain import loop
from xtok.pretrain.condition_dropout import draw_levels, drop_conditions
from xtok.pretrain.initialise import initialise
from xtok.pretrain.loop import Trainer, begin_run, resume_run, train
from xtok.recipes import RECIPES, get_recipe, tiny


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    """Priors from small samples; every path opens the synthetic corpus."""
    with (
        synthetic.small_samples(),
        patch.object(loop.Corpus, "open", classmethod(lambda cls, layout, paths, *_: synthetic.corpus(layout.name))),
    ):
        yield


@pytest.fixture(scope="module")
def straight(quick: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four steps of `tiny` in one go."""
    return train(tiny(), [Path("somewhere")], tmp_path_factory.mktemp("runs") / "straight")


def assert_same_state(a: Path, b: Path) -> None:
    """Networks, books, EMA state, heads, optimiser, average and random states."""
    (step, parts), (other_step, others) = (checkpoint.load_checkpoint(run / "checkpoints") for run in (a, b))
    assert step == other_step == 4
    assert parts.keys() == others.keys() == {"model", "heads", "training"}
    for part, tensors in parts.items():
        assert tensors.keys() == others[part].keys()
        assert [name for name in tensors if not torch.equal(tensors[name], others[part][name])] == []


def test_two_steps_and_two_more_after_a_resume_are_four_bit_for_bit(straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "parts"
    begin_run(tiny(), synthetic.corpus(), out).run(until=2)
    torch.manual_seed(99)
    train(tiny(), [], out, resume=True, launch=Launch(workers=2))  # of which no batch and no dropout hangs
    assert_same_state(straight, out)
    for name in ("model.safetensors", "heads.safetensors"):
        assert (out / name).read_bytes() == (straight / name).read_bytes(), name
    assert metrics(out) == metrics(straight)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_checkpoint_to_go_on_from(straight: Path, tmp_path: Path, number: int) -> None:
    recipe, step, out = replace(tiny(), checkpoint_every=1000), Trainer.train_step, tmp_path / "run"
    before = signal.getsignal(number)

    def interrupted(trainer: Trainer) -> dict[str, float]:
        if trainer.step == 2:
            os.kill(os.getpid(), number)
        return step(trainer)

    with patch.object(Trainer, "train_step", interrupted), pytest.raises(KeyboardInterrupt):
        begin_run(recipe, synthetic.corpus(), out).run()
    assert signal.getsignal(number) == before
    assert checkpoint.load_checkpoint(out / "checkpoints")[0] == 3
    resume_run(recipe, synthetic.corpus(), out).run()
    assert_same_state(straight, out)


def test_a_run_leaves_its_origin_its_figures_and_a_tokenizer_without_heads(straight: Path) -> None:
    about = json.loads((straight / "run.json").read_text())
    assert about["recipe"]["codec"]["codebook_size"] == 32
    assert about["data"] == ["somewhere"]
    assert about["data_digest"] == synthetic.corpus().digest
    assert about["versions"]["torch"] == torch.__version__
    lines = [json.loads(line) for line in (straight / "metrics.jsonl").read_text().splitlines()]
    losses = [line for line in lines if "total" in line]
    assert [line["step"] for line in losses] == [1, 2, 3, 4]
    assert "mam_codes" not in losses[0]  # it starts after a quarter of four steps
    assert {"mam_codes", "mam_actions", "usage", "perplexity"} <= losses[1].keys()
    assert len(losses[1]["usage"]) == 4
    watched = next(line for line in lines if "l1_validation" in line)
    assert watched["l1_train"].keys() == watched["l1_validation"].keys() == {"8", "16"}
    assert {"released_l1_train", "released_l1_validation"} <= lines[-1].keys()
    assert not any(name.startswith("codes.") for name in load_file(straight / "model.safetensors"))
    assert all(name.startswith("codes.") for name in load_file(straight / "heads.safetensors"))


def test_half_is_what_is_released_and_what_is_gone_on_from(straight: Path, tmp_path: Path) -> None:
    recipe = tiny().varied(codebooks={"half": True})
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(recipe, [], whole)
    begin_run(recipe, synthetic.corpus(), parts).run(until=2)
    train(recipe, [], parts, resume=True)
    assert_same_state(whole, parts)
    for name in ("model.safetensors", "start/model.safetensors"):
        assert (whole / name).stat().st_size < 0.6 * (straight / name).stat().st_size
    dtypes = [value.dtype for value in load_file(whole / "model.safetensors").values()]
    assert dtypes.count(torch.float16) > len(dtypes) / 2


def test_training_lowers_the_error(tmp_path: Path) -> None:
    torch.manual_seed(0)
    codec = PerceiverCodec(tiny().codec)  # from noise: all that it can do it has to learn
    initialise(codec, synthetic.corpus(), vectors=2000, iterations=3, progress=False)
    recipe = tiny().varied(
        codec=codec.config,
        steps=40,
        data={"batch_size": 32},
        optimiser={"learning_rate": 1e-2},
        masking={"forms": "none"},
    )
    trainer = Trainer(recipe, synthetic.corpus(), codec, tmp_path)
    before = {T: trainer.l1(chunks) for T, chunks in trainer.watched["validation"].items()}
    trainer.run()
    for T, chunks in trainer.watched["validation"].items():
        assert trainer.l1(chunks) < 0.7 * before[T]


@pytest.mark.parametrize("name", ["small_arms26", "small_joints"])
def test_a_recipe_of_closed_forms_ends_in_a_tokenizer(name: str, tmp_path: Path) -> None:
    recipe = get_recipe(name)
    config = replace(recipe.codec, hidden=16, heads=2, codebook_size=32, code_dim=8, prior_rank=16)
    short = recipe.varied(codec=config, codebooks={"vectors": 2000, "iterations": 2})
    out = train(short, [], tmp_path / "run")
    tokenizer = Tokenizer.from_pretrained(out)
    chunks = synthetic.corpus(recipe.codec.layout).validate(18, 8)
    decoded = tokenizer.decode(tokenizer.encode(chunks), chunks.context)
    assert torch.isfinite(decoded.delta_BTD).all()
    metrics_of_run = (out / "metrics.jsonl").read_text()
    assert "released_l1_validation" in metrics_of_run
    train(short, [], out, resume=True)  # nothing is left to do; the same weights are released again
    assert Tokenizer.from_pretrained(out).digest == tokenizer.digest


def test_what_cannot_be_begun_or_resumed_is_refused(tmp_path: Path) -> None:
    recipe, corpus = tiny(), synthetic.corpus()
    with pytest.raises(ValueError, match="no run to go on with"):
        resume_run(recipe, corpus, tmp_path / "run")
    begin_run(recipe, corpus, tmp_path / "run")
    with pytest.raises(ValueError, match="--resume"):
        begin_run(recipe, corpus, tmp_path / "run")
    with pytest.raises(ValueError, match="another recipe"):
        resume_run(replace(recipe, seed=5), corpus, tmp_path / "run")
    other = synthetic.Corpus(corpus.layout, synthetic.episodes(corpus.layout, count=5))
    with pytest.raises(ValueError, match="another data_digest"):
        resume_run(recipe, other, tmp_path / "run")


def test_a_checkpoint_is_whole_or_absent(tmp_path: Path) -> None:
    parts = {"model": {"a": torch.arange(3)}, "training": {"optimizer/0.step": torch.tensor(1.0)}}
    checkpoint.save_checkpoint(tmp_path, 1, parts)

    def killed(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with patch.object(checkpoint, "save_file", killed), pytest.raises(KeyboardInterrupt):
        checkpoint.save_checkpoint(tmp_path, 2, parts)
    step, found = checkpoint.load_checkpoint(tmp_path)
    assert step == 1
    assert torch.equal(found["model"]["a"], torch.arange(3))
    checkpoint.save_checkpoint(tmp_path, 3, parts)
    assert [path.name for path in tmp_path.iterdir()] == ["00000003"]
    with pytest.raises(ValueError, match="without --resume"):
        checkpoint.load_checkpoint(tmp_path / "elsewhere")


def test_conditions_are_withheld_in_their_shares() -> None:
    codec, corpus = synthetic.fitted_codec(), synthetic.corpus()
    given = codec.batch_context(corpus.sample(8, 4000, torch.Generator().manual_seed(0)).context).conditions
    dropped = drop_conditions(given, tiny(), torch.Generator().manual_seed(0))
    no_state = (dropped.state_BD == 0).all(dim=1)
    no_robot = dropped.slot_B == NONE_SLOT
    assert no_state.float().mean() == pytest.approx(0.2, abs=0.03)
    # docs/method.md#encoder-quantizer-decoder: dropped .2, swapped to "none" .1
    assert no_robot.float().mean() == pytest.approx(0.3, abs=0.03)
    for combination in (no_state & no_robot, no_state & ~no_robot, ~no_state & no_robot, ~no_state & ~no_robot):
        assert combination.any()
    assert torch.equal(dropped.state_BD[~no_state], given.state_BD[~no_state])
    assert torch.equal(dropped.slot_B[~no_robot], given.slot_B[~no_robot])
    assert torch.equal(dropped.mask_BK, given.mask_BK)


def test_networks_run_in_bfloat16_and_books_do_not() -> None:
    codec, corpus = synthetic.fitted_codec().eval(), synthetic.corpus()
    chunks = corpus.sample(16, 8, torch.Generator().manual_seed(0))
    batch_context = codec.batch_context(chunks.context)
    motion = codec.motion(chunks, batch_context)
    before = codec(motion, batch_context)
    encoder = codec.networks["semantic_encoder"]
    with bfloat16_networks([encoder], "cpu"):
        assert encoder(motion.float(), batch_context.conditions).dtype == torch.bfloat16
        within = codec(motion, batch_context)
    assert within.h_BMC.dtype == torch.float64
    assert torch.equal(within.codes_BMQ, before.codes_BMQ)  # networks that add zero, so only distances could differ
    assert "forward" not in vars(encoder)
    assert torch.equal(codec(motion, batch_context).motion_BTK, before.motion_BTK)


def test_levels_are_drawn() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_levels(tiny().varied(masking={"level_dropout": 0.5}), generator) for _ in range(4000)]
    shares = [drawn.count(levels) / 4000 for levels in (1, 2, 3, 4)]
    assert shares == pytest.approx([0.125, 0.125, 0.125, 0.625], abs=0.03)
    assert {draw_levels(tiny().varied(masking={"level_dropout": 0.0}), generator) for _ in range(50)} == {4}


def test_average_is_the_mean_of_the_steps_so_far() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    average = WeightAverage(layer, decay=0.5)
    with torch.no_grad():
        for step, value in enumerate([1.0, 2.0, 3.0]):
            layer.weight.fill_(value)
            average.update(10 * step + 100)
    start = average.tensors["weight"] - (3 / 2 + 2 / 4 + 1 / 8)
    assert 0 < abs(float(start)) < 1 / 8  # what is left of the random start
    average.copy_to_module()
    assert torch.equal(layer.weight, average.tensors["weight"])


def test_schedule_and_weights_of_a_recipe() -> None:
    recipe = tiny().varied(
        steps=100, optimiser={"warmup_steps": 10, "learning_rate": 1.0}, masking={"forms": "both", "start": 0.1}
    )
    rates = [recipe.optimiser.rate_at(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0, abs=0.05)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 1e-3
    assert recipe.weights(9).keys() == {"position", "rotation", "commitment", "dct", "velocity"}
    assert recipe.weights(10).keys() == recipe.weights(9).keys() | {"mam_codes", "mam_actions"}
    assert recipe.varied(masking={"forms": "codes"}).mam_forms(50) == {"mam_codes"}
    assert recipe.varied(masking={"forms": "none"}).mam_forms(99) == frozenset()
    with pytest.raises(ValueError, match=r"masking\.forms is 'all'"):
        recipe.varied(masking={"forms": "all"})


def test_recipes_are_found_by_name() -> None:
    for name in RECIPES:
        assert get_recipe(name).name == name
        json.dumps(get_recipe(name).to_dict())
    with pytest.raises(ValueError, match="small_arms26"):
        get_recipe("smal_arms26")
