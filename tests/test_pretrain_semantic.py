"""Alignment and prediction in a run: exact resume, where the gradient goes, what is released, one chunk an episode."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import semantics_kit as kit
import synthetic
from folders import CAMERA, STATE, write_v30, write_video
from ranks_kit import metrics
from teacher_kit import CountingTeacher
from xtok import Tokenizer
from xtok.cli.main import main
from xtok.codec.base import Codec
from xtok.codec.config import GaussianConfig, PerceiverConfig
from xtok.codec.gaussian import GaussianCodec
from xtok.engine import checkpoint
from xtok.pretrain.initialise import initialise
from xtok.pretrain.loop import Trainer, begin_run, resume_run, train
from xtok.pretrain.recipe import MaskedForms, Recipe
from xtok.pretrain.semantic import known_episodes, quiet_loss, semantic_heads, semantic_losses
from xtok.recipes import tiny
from xtok.semantics.align import load_heads
from xtok.semantics.cotemporal import gather_features
from xtok.semantics.extract import finish, plan, write_shard
from xtok.semantics.teacher import TEMPLATE

EXTRA = 4


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    """Priors from small samples; every path opens the synthetic corpus."""
    with kit.quick_training():
        yield


@pytest.fixture(scope="module")
def straight(quick: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "straight"
    return train(
        kit.recipe(text_alignment=True, forms="codes", start=0.0), [Path("somewhere")], out, features=kit.store()
    )


@pytest.fixture(scope="module")
def start(quick: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    codec = GaussianCodec(kit.config())
    initialise(codec, kit.corpus(), vectors=2000, iterations=3, progress=False)
    folder = tmp_path_factory.mktemp("start")
    Tokenizer(codec).save_pretrained(folder)
    return folder


def test_two_steps_and_two_more_after_a_resume_are_four_bit_for_bit(straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "parts"
    begin_run(kit.recipe(text_alignment=True, forms="codes", start=0.0), kit.corpus(), out, features=kit.store()).run(
        until=2
    )
    torch.manual_seed(99)
    train(kit.recipe(text_alignment=True, forms="codes", start=0.0), [], out, resume=True, features=kit.store())
    (step, parts), (_, others) = (checkpoint.load_checkpoint(run / "checkpoints") for run in (straight, out))
    assert step == 4
    assert any(name.startswith("heads_average/align.") for name in parts["training"])
    for part, tensors in parts.items():
        assert [name for name in tensors if not torch.equal(tensors[name], others[part][name])] == []
    for name in ("model.safetensors", "heads.safetensors"):
        assert (out / name).read_bytes() == (straight / name).read_bytes(), name
    assert metrics(out) == metrics(straight)


def test_heads_stay_out_of_the_tokenizer_and_encoding_needs_no_picture(straight: Path) -> None:
    released = load_file(straight / "model.safetensors")
    assert not [name for name in released if name.split(".")[0] in ("align", "predict", "codes", "words", "fusion")]
    kept = load_file(straight / "heads.safetensors")
    assert {name.split(".")[0] for name in kept} == {"align", "predict", "codes", "words"}
    tokenizer = Tokenizer.from_pretrained(straight)
    chunks = kit.corpus().validate(18, 8)
    codes = tokenizer.encode(chunks)
    assert tokenizer.decode(codes, chunks.context).absolute_BTD is not None
    heads = load_heads(straight)
    batch_context = tokenizer.codec.batch_context(chunks.context)
    h = tokenizer.codec.latents(tokenizer.codec.motion(chunks, batch_context), batch_context)
    length = heads.action(h).norm(dim=-1)
    torch.testing.assert_close(length, torch.ones_like(length))


def test_a_run_says_whose_features_it_saw_and_logs_its_losses(straight: Path) -> None:
    assert json.loads((straight / "run.json").read_text())["features_digest"] == "fake"
    lines = [json.loads(line) for line in (straight / "metrics.jsonl").read_text().splitlines()]
    losses = next(line for line in lines if "total" in line)
    assert {"align_global", "align_local", "predict", "words_global", "words_local"} <= losses.keys()
    assert any("substitute_variance" in line for line in lines)


def test_a_run_goes_on_with_the_features_it_was_begun_with(tmp_path: Path) -> None:
    begin_run(kit.recipe(), kit.corpus(), tmp_path / "run", features=kit.store())
    with pytest.raises(ValueError, match="another features_digest"):
        resume_run(kit.recipe(), kit.corpus(), tmp_path / "run", kit.store("other"))


@pytest.mark.parametrize("features", [None, kit.FakeStore(set())])
def test_alignment_without_features_is_refused(tmp_path: Path, features: kit.FakeStore | None) -> None:
    with pytest.raises(ValueError, match="--features STORE"):
        begin_run(kit.recipe(), kit.corpus(), tmp_path / "run", features=features)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grad_scope": "everything", "text_alignment": True}, "grad_scope is 'everything'"),
        ({"same_text": "no"}, "same_text is 'no'"),
        ({"codec": GaussianConfig()}, "semantic_dims is 0"),
        ({"trainable": "all"}, "placed in closed form"),
        ({"codec": PerceiverConfig()}, "perceiver learns 'all'"),
        ({"trainable": "extra", "forms": "actions"}, "more of the encoder"),
        ({"trainable": "extra", "forms": "none", "grad_scope": "latents"}, "grad_scope='extra'"),
        ({"trainable": "extra", "forms": "none", "grad_scope": "nothing"}, "needs text_alignment, align"),
        ({"trainable": "heads", "forms": "none"}, "grad_scope='nothing'"),
        ({"trainable": "heads", "forms": "none", "grad_scope": "nothing", "text_alignment": True}, "no text_alignment"),
        ({"align": False, "cosine": True}, "align=True"),
        ({"text_alignment": True, "codec": GaussianConfig()}, "text_alignment and unlabelled_l2 are about"),
    ],
)
def test_recipes_that_cannot_be_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kit.recipe(**changes)


def heads_alone(**changes: object) -> Recipe:
    alone = {
        "trainable": "heads",
        "forms": "none",
        "grad_scope": "nothing",
        "input_dims": "latents",
        "cosine": True,
        "hard_negative_groups": 2,
    }
    return kit.recipe(**alone, **changes)


@pytest.fixture(scope="module")
def alone(straight: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "run"
    return train(heads_alone(), [], out, features=kit.store(), tokenizer=with_a_negative_zero(straight))


def with_a_negative_zero(folder: Path) -> Tokenizer:
    """Which arithmetic that should change nothing makes positive, and the digest another."""
    tokenizer = Tokenizer.from_pretrained(folder)
    with torch.no_grad():
        tokenizer.codec.networks["semantic_encoder"].out.weight[0, 0] = -0.0
    return tokenizer


def test_heads_of_a_frozen_tokenizer_leave_its_file_as_it_is(straight: Path, alone: Path) -> None:
    given = with_a_negative_zero(straight).digest
    assert given != Tokenizer.from_pretrained(straight).digest
    assert Tokenizer.from_pretrained(alone).digest == given
    assert (alone / "model.safetensors").read_bytes() == (alone / "start" / "model.safetensors").read_bytes()
    before, after = (load_file(run / "heads.safetensors") for run in (straight, alone))
    assert {name.split(".")[0] for name in after} == {"align", "predict"}
    assert not torch.equal(before["align.action_head.0.weight"], after["align.action_head.0.weight"])
    assert (after["align.gain_C"] > 0).sum() > EXTRA, "they look at motion too"
    lines = [json.loads(line) for line in (alone / "metrics.jsonl").read_text().splitlines()]
    losses = next(line for line in lines if "total" in line)
    assert {"align_global", "align_local", "align_cosine", "predict"} <= losses.keys()
    assert "position" not in losses
    assert json.loads((alone / "run.json").read_text())["tokenizer_digest"] == Tokenizer.from_pretrained(alone).digest


def test_heads_alone_go_on_bit_for_bit_and_with_the_same_tokenizer(straight: Path, alone: Path, tmp_path: Path) -> None:
    tokenizer, out = with_a_negative_zero(straight), tmp_path / "parts"
    recipe = replace(heads_alone(), codec=tokenizer.codec.config)
    begin_run(recipe, kit.corpus(), out, features=kit.store(), tokenizer=tokenizer).run(until=2)
    torch.manual_seed(99)
    with pytest.raises(ValueError, match="another tokenizer_digest"):
        resume_run(recipe, kit.corpus(), out, kit.store(), Tokenizer.from_pretrained(straight))
    train(heads_alone(), [], out, resume=True, features=kit.store(), tokenizer=tokenizer)
    assert (out / "heads.safetensors").read_bytes() == (alone / "heads.safetensors").read_bytes()


def test_heads_need_a_tokenizer_and_other_recipes_none(straight: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_pretrained(straight)
    with pytest.raises(ValueError, match="needs --tokenizer"):
        train(heads_alone(), [], tmp_path / "a", features=kit.store())
    with pytest.raises(ValueError, match="places a tokenizer itself"):
        train(kit.recipe(), [], tmp_path / "b", features=kit.store(), tokenizer=tokenizer)


def test_a_robot_that_the_frozen_tokenizer_lacks_is_measured_and_stored(
    straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codec = Tokenizer.from_pretrained(straight).codec
    lost = next(iter(kit.corpus().statistics))
    codec.forget_robot(lost)
    codec.ranges.pop(lost, None)
    tokenizer = Tokenizer(codec)
    recipe, out = replace(heads_alone(), codec=codec.config), tmp_path / "run"
    begin_run(recipe, kit.corpus(), out, features=kit.store(), tokenizer=tokenizer).run(until=2)
    assert f"does not know {lost!r}: measured on" in capsys.readouterr().err
    kept = Tokenizer.from_pretrained(train(heads_alone(), [], out, True, kit.store(), tokenizer))
    assert kept.known_by[lost] == "measured"
    assert lost not in tokenizer.statistics, "the one that was given stays as it is"
    assert kept.foundation == tokenizer.foundation


def test_weights_of_semantics_grow() -> None:
    published = {"codec": tiny().codec, "trainable": "all", "grad_scope": "latents", "input_dims": "latents"}
    recipe = kit.recipe(**published, steps=100, ramp=0.1)
    assert recipe.weights(0)["align_local"] == pytest.approx(0.0125)
    assert recipe.weights(9)["predict"] == recipe.weights(99)["predict"] == pytest.approx(0.2)
    assert recipe.weights(99)["position"] == 1.0
    assert recipe.varied(alignment={"predict": False}).weights(99).keys() == recipe.weights(99).keys() - {"predict"}


# -- where the gradient goes -------------------------------------------------------------------------------------------


def gradient(codec: Codec, **changes: object) -> float:
    """Of the encoder's last layer."""
    recipe, corpus, store = kit.recipe(codec=codec.config, **changes), kit.corpus(), kit.store()
    torch.manual_seed(0)
    heads = torch.nn.ModuleDict(semantic_heads(recipe, codec, corpus, store))
    drawn = corpus.draw(18, 16, torch.Generator().manual_seed(0), one_chunk_each=known_episodes(corpus, store))
    batch_context = codec.batch_context(drawn.chunks.context)
    output = codec(codec.motion(drawn.chunks, batch_context), batch_context)
    losses = semantic_losses(recipe, codec, heads, output, drawn.origins, gather_features(store, drawn.origins, 18))
    assert losses.keys() == {"align_global", "align_local", "predict"} | (
        {"words_global", "words_local"} if recipe.alignment.text_alignment else set()
    )
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    (encoder,) = (network for name, network in codec.networks.items() if "encoder" in name)
    return 0.0 if encoder.out.weight.grad is None else float(encoder.out.weight.grad.abs().sum())


def test_semantics_reach_the_extra_dimensions(start: Path) -> None:
    assert gradient(Tokenizer.from_pretrained(start).codec) > 0
    assert gradient(Tokenizer.from_pretrained(start).codec, input_dims="latents") > 0


def test_semantics_may_reach_all_of_h_or_nothing(start: Path) -> None:
    codec = synthetic.fitted_codec("perceiver")
    assert gradient(codec, trainable="all", grad_scope="latents", input_dims="latents") > 0
    heads = {"trainable": "heads", "grad_scope": "nothing"}
    assert gradient(Tokenizer.from_pretrained(start).codec, **heads) == 0
    words = {"grad_scope": "nothing", "text_alignment": True}
    assert gradient(Tokenizer.from_pretrained(start).codec, **words) > 0, "words alone teach the extra dimensions"


def test_extra_dimensions_follow_the_teacher_and_leave_the_decoding_alone(start: Path, tmp_path: Path) -> None:
    recipe = kit.recipe(steps=30, batch_size=16, warmup_steps=1)
    trainer = Trainer(recipe, kit.corpus(), Tokenizer.from_pretrained(start).codec, tmp_path, kit.store())
    first = {name: sum(trainer.train_step()[name] for _ in range(3)) for name in ("align_local",)}
    trainer.run(until=27)
    assert sum(trainer.train_step()["align_local"] for _ in range(3)) < first["align_local"]
    trainer.finish()
    codec, chunks = Tokenizer.from_pretrained(tmp_path).codec, kit.corpus().validate(18, 64)
    batch_context = codec.batch_context(chunks.context)
    extra = codec.latents(codec.motion(chunks, batch_context), batch_context)[..., -EXTRA:]
    assert extra.norm(dim=-1).max() <= codec.semantic_scale
    assert extra.flatten(0, 1).std(dim=0).min() > 0
    book = codec.coarse.shared.books_QVC[0]
    assert book[:, -EXTRA:].std(dim=0).min() > 0
    codes = codec.encode(codec.motion(chunks, batch_context), batch_context)
    before = codec.decode(codes, batch_context)
    book[:, -EXTRA:] = 0
    torch.testing.assert_close(codec.decode(codes, batch_context), before, rtol=0, atol=0)


@pytest.mark.parametrize("mam", ["none", "codes"])
def test_the_extra_dimensions_can_learn_alone(start: Path, tmp_path: Path, mam: MaskedForms) -> None:
    recipe = kit.recipe(forms=mam, start=0.0, trainable="extra")
    trainer = Trainer(recipe, kit.corpus(), Tokenizer.from_pretrained(start).codec, tmp_path, kit.store())
    masked = {"mam_codes"} if mam == "codes" else set()
    assert trainer.train_step().keys() == {"align_global", "align_local", "predict", "total"} | masked
    trainer.run()
    trainer.finish()
    codec, chunks = Tokenizer.from_pretrained(tmp_path).codec, kit.corpus().validate(18, 16)
    assert codec.networks["semantic_encoder"].out.weight.any()
    batch_context = codec.batch_context(chunks.context)
    motion = codec.motion(chunks, batch_context)
    plain = Tokenizer.from_pretrained(start).codec
    h, before = (c.latents(motion, c.batch_context(chunks.context))[..., :-EXTRA] for c in (codec, plain))
    torch.testing.assert_close(h, before, rtol=0, atol=0)


def test_masked_codes_alone_can_teach_the_extra_dimensions(start: Path, tmp_path: Path) -> None:
    recipe = kit.recipe(forms="codes", start=0.0, align=False, predict=False)
    trainer = Trainer(recipe, kit.corpus(), Tokenizer.from_pretrained(start).codec, tmp_path)
    assert trainer.train_step().keys() == {"mam_codes", "total"}
    assert trainer.codec.networks["semantic_encoder"].out.weight.any()


def test_what_nobody_taught_keeps_quiet() -> None:
    h_BMC = torch.zeros(3, 2, 6)
    h_BMC[..., -2:] = torch.tensor([0.3, 0.4])  # of length .5
    valid_BM = torch.tensor([[True, True], [False, False], [False, True]])
    assert float(quiet_loss(h_BMC, 2, 0.5, valid_BM)) == pytest.approx(1.0)
    h_BMC[1] = 0  # the one that nothing was seen of
    assert float(quiet_loss(h_BMC, 2, 0.5, valid_BM)) == 0
    assert float(quiet_loss(h_BMC, 2, 0.5, valid_BM | True)) == 0


def test_before_training_the_extra_dimensions_are_zero_and_cost_nothing(start: Path) -> None:
    codec = Tokenizer.from_pretrained(start).codec
    torch.manual_seed(0)
    plain = GaussianCodec(kit.config(semantic_dims=0))
    initialise(plain, kit.corpus(), vectors=2000, iterations=3, progress=False)
    chunks = kit.corpus().validate(18, 16)
    codes = [
        c.encode(c.motion(chunks, batch_context), batch_context)
        for c in (codec, plain)
        for batch_context in [c.batch_context(chunks.context)]
    ]
    assert torch.equal(*codes)


# -- batches -----------------------------------------------------------------------------------------------------------


def test_known_episodes_give_one_chunk_each_while_there_are_others() -> None:
    corpus, store = kit.corpus(), kit.store()
    known = known_episodes(corpus, store)
    assert known == store.keys - {("fake", n) for n in range(12) if ("fake", n) not in store.keys}
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        drawn = corpus.draw(16, 8, generator, one_chunk_each=known)
        by_robot: dict[str, list[tuple[str, int]]] = {}
        for robot, key in zip(drawn.chunks.context.embodiment, drawn.origins.episode_B, strict=True):
            by_robot.setdefault(robot, []).append(key)
        for keys in by_robot.values():  # five train episodes a robot
            assert len(set(keys)) == min(len(keys), 5)


def test_origins_say_where_a_chunk_was_read() -> None:
    corpus = kit.corpus()
    episodes = {(e.dataset, e.index): e for e in kit.episodes()}
    drawn = corpus.draw(16, 64, torch.Generator().manual_seed(0))
    origins = drawn.origins
    assert {True, False} == set(origins.reversed_B.tolist())
    for row, key in enumerate(origins.episode_B):
        anchor, rate = int(origins.anchor_B[row]), float(origins.rate_B[row])
        step = 16 if origins.reversed_B[row] else 0  # a chunk played backwards begins at the far end
        at = anchor + rate * step
        low = int(at)
        path = torch.from_numpy(episodes[key].absolute_ND[low : low + 2])
        expected = path[0] + (path[-1] - path[0]) * (at - low)
        assert drawn.chunks.context.anchor_BD is not None
        torch.testing.assert_close(drawn.chunks.context.anchor_BD[row], expected, rtol=1e-4, atol=1e-4)
        assert int(origins.last_B[row]) == len(episodes[key]) - 1


def test_a_recipe_without_heads_sees_the_same_chunks(start: Path, tmp_path: Path) -> None:
    seen: dict[str, list[Tensor]] = {}
    for name, recipe in {
        "all": kit.recipe(forms="codes", start=0.0),
        "codes": kit.recipe(forms="codes", start=0.0, align=False, predict=False),
    }.items():
        trainer = Trainer(recipe, kit.corpus(), Tokenizer.from_pretrained(start).codec, tmp_path, kit.store())
        draw = trainer.corpus.draw
        drawn = seen.setdefault(name, [])

        def remember(*given: object, draw: object = draw, drawn: list[Tensor] = drawn, **known: object) -> object:
            found = draw(*given, **known)  # type: ignore[operator]
            drawn.append(found.chunks.target_BTD)
            return found

        with patch.object(trainer.corpus, "draw", remember):
            trainer.run()
    assert len(seen["all"]) == len(seen["codes"]) > 0
    steps = list(zip(seen["all"], seen["codes"], strict=True))
    assert all(torch.equal(a, b) for a, b in steps)


def test_train_takes_features_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "tiny", "--data", "d", "--features", str(tmp_path), "-o", str(tmp_path / "run")]) != 0
    assert "xtok features" in capsys.readouterr().err


def test_a_store_as_xtok_features_makes_it_teaches_a_run(tmp_path: Path) -> None:
    teacher = CountingTeacher()
    states = [{STATE: np.zeros((kit.FRAMES, 3), np.float32)} for _ in range(12)]
    data = write_v30(tmp_path / "fake", states)  # the films of `kit.episodes`
    write_video(data / f"videos/{CAMERA}/chunk-000/file-000.mp4", count=12 * kit.FRAMES)
    work, shards = plan([data], teacher, tmp_path / "store", TEMPLATE)
    for shard in shards:
        write_shard(work, shard, teacher)
    store = finish(work, shards)
    assert (store.views, store.width, len(store)) == (("top",), 4, 12)
    out = train(kit.recipe(steps=2), [], tmp_path / "run", features=store)
    assert json.loads((out / "run.json").read_text())["features_digest"] == store.digest
    drawn = kit.corpus().draw(40, 16, torch.Generator().manual_seed(0))  # to the ends of the episodes
    seen = gather_features(store, drawn.origins, 40)
    assert torch.equal(seen.slots.valid_BM.all(dim=1), ~drawn.origins.reversed_B)
    heads = load_heads(out)
    found = heads.of(seen.slots).norm(dim=-1)
    torch.testing.assert_close(found, torch.ones_like(found))
