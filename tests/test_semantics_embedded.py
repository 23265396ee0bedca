"""The embedded teacher: small eyes and host of a random language model; the shipped weights are slow."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from teacher_kit import WORDS, tiny_network, tiny_vlm, write_questions, write_scenes
from xtok.cli.main import main

pytest.importorskip("transformers")

from xtok.engine.batches import Batches
from xtok.semantics.backbone import Answer, Observation
from xtok.semantics.embedded.batches import NAMED, TeacherBatches, cell_shares
from xtok.semantics.embedded.exam import answers_of, exam, interval, is_right
from xtok.semantics.embedded.eyes import CELLS, SIDE, Sight, things
from xtok.semantics.embedded.lessons import Question, Thing, caption, exchange, named, question_set, scene_folder
from xtok.semantics.embedded.model import EmbeddedVLM
from xtok.semantics.embedded.network import pointed
from xtok.semantics.embedded.recipe import Part
from xtok.semantics.embedded.school import School
from xtok.semantics.embedded.train import (
    TeacherRecipe,
    Training,
    centre_loss,
    pointing_loss,
    spoken_by,
    started_from,
    watched_lessons,
)
from xtok.semantics.load import load_teacher

RECIPE = TeacherRecipe(tiny_network(), Part(12, 6, 3, 4e-3), Part(8, 3, 6, 8e-3), warmup=3, watched=0)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes") / "scenes", 18)


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_questions(tmp_path_factory.mktemp("set") / "questions", 10)


@pytest.fixture(scope="module")
def school(scenes: Path) -> School:
    found = School()
    found.add(scene_folder(scenes))
    return found


@pytest.fixture(scope="module")
def model() -> EmbeddedVLM:
    return tiny_vlm()


def training(out: Path, school: School, recipe: TeacherRecipe = RECIPE) -> Training:
    language = tiny_vlm().language
    torch.manual_seed(0)
    made = Training(recipe, EmbeddedVLM.new(recipe.network, spoken_by(school, language), language), school, out)
    if (out / "checkpoints").exists():
        made.load()
    return made


# -- what is learned from -----------------------------------------------------------------------------------------


def test_scenes_have_things_answers_with_places_captions_and_what_comes_now(scenes: Path, tmp_path: Path) -> None:
    found = list(scene_folder(scenes))
    assert len(found) == 18
    for scene in found:
        by_name = {thing.name: thing for thing in scene.things}
        assert set(by_name) == {*(t.name for t in scene.things if t.kind == "cube"), "gripper"} and len(by_name) == 3
        for row in scene.asked:
            if row.kind == "point":
                assert row.things == (by_name[row.answer].label,)
                x, y = by_name[row.answer].middle
                assert scene.labels[y, x] == by_name[row.answer].label
        kinds = {row.kind for row in scene.asked}
        assert ("caption" in kinds) is ("doing" in kinds) is (scene.view != "wrist")
        if scene.view != "wrist":
            (said,) = [row.answer for row in scene.asked if row.kind == "caption"]
            first, second = sorted((t for t in scene.things if t.kind == "cube"), key=lambda t: t.mean[0])
            held = next(t.name for t in scene.things if t.held)
            assert said == f"from left to right: {first.name}, {second.name}; held: {held}" == caption(scene.things)
    with pytest.raises(ValueError, match=r"no scenes.*xtok teacher scenes"):
        list(scene_folder(tmp_path))
    with pytest.raises(ValueError, match="xtok sim questions"):
        question_set(tmp_path)


def test_mentions_of_a_text_are_the_things_that_it_can_mean() -> None:
    def thing(label: int, colour: str | None, kind: str, held: bool | None = False) -> Thing:
        return Thing(f"{colour} {kind}", kind, colour, held, label, (0, 0), (0.0, 0.0))

    seen = [thing(1, "red", "cube"), thing(2, "red", "cube"), thing(3, "blue", "tray"), thing(4, None, "gripper", None)]
    assert named("put the red blocks into the blue bin", seen) == [(1, 2), (3,)]
    assert named("is the green cube left or right of the tray?", seen) == [(), (3,)]
    assert named("count the red or blue things", seen) == [(1, 2, 3)]
    assert named("is the red cube in the gripper?", seen) == [(1, 2), (4,)]
    assert named("what does the robot hold?", seen) == []
    assert exchange("turn the leftmost lever to the right") == "turn the rightmost lever to the left"
    assert exchange("is it left or right?") == "is it left or right?"


def test_targets_lie_where_the_augmented_picture_shows_the_thing(school: School) -> None:
    """Squares are of one colour each, so the picture itself says where every target has to be."""
    from teacher_kit import COLOURS

    source = TeacherBatches.of(RECIPE, school)
    seen = 0
    for step in range(6):
        batch = source.part(step, 0, 1)
        pixels = batch.pixels.float().permute(0, 2, 3, 1)
        for r, text in enumerate(batch.texts):
            colour = next((name for name in COLOURS if f"where is the {name} cube" in text), None)
            if colour is None or not batch.points_R[r] or batch.cover_RG[r, -1] > 0:
                continue
            picture = pixels[batch.picture_R[r]]
            direction = torch.tensor(COLOURS[colour]).float()
            alike = torch.nn.functional.cosine_similarity(picture - 110, direction - 110, dim=-1) > 0.97
            share = cell_shares((alike & ((picture - 125).abs().amax(-1) > 40))[None].to(torch.uint8), 2)[
                0, 1
            ].flatten()
            if share.max() > 0:
                assert torch.corrcoef(torch.stack([share, batch.cover_RG[r, :-1]]))[0, 1] > 0.9
                assert torch.equal(batch.named_RMG[r, 0], batch.cover_RG[r]) and bool(batch.is_named_RM[r, 0])
                seen += 1
        for r, (text, answer) in enumerate(zip(batch.texts, batch.answers, strict=True)):
            if answer == "nothing":  # asked for what is not there
                assert batch.cover_RG[r, -1] == 1 and batch.cover_RG[r, :-1].sum() == 0
            if "left or right" in text:
                first, second = (batch.named_RMG[r, i, :-1].view(CELLS, CELLS).sum(0) for i in (0, 1))
                axis = torch.arange(CELLS)
                middles = [(share * axis).sum() / share.sum().clamp(min=1e-6) for share in (first, second)]
                assert answer == ("left" if middles[0] < middles[1] else "right")
        assert (batch.kind_BGG >= -1).all() and batch.named_RMG.shape[1] == NAMED
        at = batch.centre_BGG.flatten(1)[batch.place_D2[:, 0], batch.place_D2[:, 1]]
        assert torch.allclose(at, torch.ones_like(at))
    assert seen > 10


def test_parts_of_a_step_are_the_step_whoever_draws_them(school: School) -> None:
    source = TeacherBatches.of(RECIPE, school)
    for step in (0, 15):
        whole, parts = source.part(step, 0, 1), [source.part(step, index, 3) for index in range(3)]
        for name in ("pixels", "kind_BGG", "centre_BGG", "offset_D2", "held_D", "cover_RG", "named_RMG"):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name)), name
        assert sum((part.texts for part in parts), ()) == whole.texts
    loader = Batches(source, range(14, 16), (1,), 2, 1, pin=False)
    try:
        for step in (14, 15):
            (found,), part = next(loader), source.part(step, 1, 2)
            assert found.texts == part.texts and torch.equal(found.pixels, part.pixels)
    finally:
        loader.close()


def test_pictures_of_another_size_are_refused(school: School, scenes: Path) -> None:
    scene = next(scene_folder(scenes))
    with pytest.raises(ValueError, match=f"--image-size {SIDE}"):
        School().add([replace(scene, picture=scene.picture[:64, :64])])
    with pytest.raises(ValueError, match="xtok teacher scenes"):
        School().arrays()


# -- eyes, places -------------------------------------------------------------------------------------------------


def test_things_are_the_likeliest_middles_moved_by_their_offsets() -> None:
    centre = torch.full((1, CELLS, CELLS), -9.0)
    centre[0, 4, 20], centre[0, 4, 21], centre[0, 30, 2] = 5.0, 4.0, 3.0  # the second one belongs to the first
    offset = torch.zeros(1, 2, CELLS, CELLS)
    offset[0, :, 4, 20] = torch.tensor([0.5, -0.25])
    cells = torch.randn(1, 16, CELLS, CELLS)
    found = things(Sight(cells, centre, offset), 2)
    assert found.cell.tolist() == [[4 * CELLS + 20, 30 * CELLS + 2]]
    wanted = torch.tensor([[21.0, 4.25], [2.5, 30.5]]) / CELLS * 2 - 1
    assert torch.allclose(found.place[0], wanted) and torch.equal(found.features[0, 1], cells[0, :, 30, 2])


def test_pointing_finds_the_likeliest_cell_and_says_how_sure() -> None:
    logits = torch.full((3, CELLS * CELLS + 1), -9.0)
    logits[0, 10 * CELLS + 20] = logits[1, 31] = 12.0
    logits[2, 5], logits[2, -1] = 9.0, 12.0  # most likely nowhere
    place, sure = pointed(logits)
    np.testing.assert_allclose(place[:2] * CELLS, [[20.5, 10.5], [31.5, 0.5]], atol=1e-3)
    assert sure[0] > 0.99 and sure[1] > 0.99 and sure[2] < 0.06


def test_losses_are_least_where_the_answer_is_right() -> None:
    cover = torch.zeros(1, CELLS * CELLS + 1)
    cover[0, 7], cover[0, 8] = 1.0, 0.5
    right, near, wrong = (torch.full((1, CELLS * CELLS + 1), -20.0) for _ in range(3))
    right[0, 7], near[0, 8], wrong[0, 9] = 0.0, 0.0, 0.0
    losses = [float(pointing_loss(each.log_softmax(-1), cover)) for each in (right, near, wrong)]
    assert losses[0] < 0.01 and abs(losses[1] - np.log(2)) < 0.01 and losses[2] > 10
    target = torch.zeros(1, CELLS, CELLS)
    target[0, 3, 3] = 1.0
    good, bad = torch.full((1, CELLS, CELLS), -8.0), torch.full((1, CELLS, CELLS), -8.0)
    good[0, 3, 3], bad[0, 9, 9] = 8.0, 8.0
    assert centre_loss(good, target, 1) < 0.01 < centre_loss(bad, target, 1)


def test_pictures_are_seen_alike_in_any_batch_and_size(model: EmbeddedVLM) -> None:
    rng = np.random.default_rng(0)
    pictures = [np.kron(rng.integers(0, 255, (8, 8, 3)), np.ones((12, 12, 1))).astype(np.uint8) for _ in range(3)]
    states = model.picture_states(model.see(pictures), -1)
    assert states.shape == (3, 4 + 3, 32)
    alone = model.picture_states(model.see(pictures[1:2]), -1)
    assert (alone - states[1:2]).abs().max() < 0.05 * states.abs().max()  # bfloat16
    assert (states[0] - states[1]).abs().max() > 1e-4


def test_padding_changes_no_state_of_a_text_and_long_ones_are_refused(model: EmbeddedVLM) -> None:
    together = model.text_states([WORDS[0], "lift"])
    assert [len(states) for states in together] == [len(model.language.tokens(t)) for t in (WORDS[0], "lift")]
    for text, states in zip((WORDS[0], "lift"), together, strict=True):
        np.testing.assert_allclose(model.text_states([text])[0], states, atol=0.05)
    with pytest.raises(ValueError, match="use shorter words"):
        model.text_states(["lift the red cube " * 60])


def test_observations_of_one_batch_are_alike(model: EmbeddedVLM) -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    one, two = Observation({"scene": picture}, "lift"), Observation({"scene": picture, "wrist": picture}, "lift")
    with pytest.raises(ValueError, match="as many pictures"):
        model.prepare([one, two])
    inputs = model.prepare([two, two])
    assert inputs.picture_BV.tolist() == [[0, 1], [2, 3]] and inputs.view_BV.tolist() == [[1, 3]] * 2
    assert model.read(inputs).prefix.keep_BP.shape[1] == 2 * (4 + 3) + 1 + len(model.language.tokens("lift"))


# -- training -----------------------------------------------------------------------------------------------------


def test_learning_lowers_the_losses_and_a_resumed_run_is_the_same_run(school: School, tmp_path: Path) -> None:
    straight = training(tmp_path / "straight", school)
    losses = [straight.train_step() for _ in range(20)]
    stopped = training(tmp_path / "stopped", school)
    stopped.run(until=14)
    resumed = training(tmp_path / "stopped", school)
    resumed.run()
    for key, value in straight.trained.state_dict().items():
        assert torch.equal(value, resumed.trained.state_dict()[key]), key
    assert "said" not in losses[0] and losses[-1].keys() >= {"said", "point", "named"}
    for name, rows in (("kind", losses[:12]), ("centre", losses[:12]), ("named", losses), ("said", losses[12:])):
        assert np.mean([row[name] for row in rows[-4:]]) < 0.95 * np.mean([row[name] for row in rows[:2]]), name
    with pytest.raises(ValueError, match="another recipe"):
        training(tmp_path / "stopped", school, replace(RECIPE, seed=1))
    resumed.finish()
    again = tiny_vlm()
    assert tiny_network().to_dict() == again.network.config.to_dict()


def test_what_is_watched_is_not_learned_from_and_kept_batches_come_back(school: School, tmp_path: Path) -> None:
    recipe = replace(RECIPE, watched=3)
    source = TeacherBatches.of(recipe, school)
    watched = {i for i in range(len(school)) if int(school.episodes[i].rsplit("-", 1)[-1]) % 3 == 2}
    assert watched and not watched & set(source.learned.tolist())
    lessons = watched_lessons(recipe, school)
    assert len(lessons) == len(watched) and all(lesson.questions for lesson in lessons)
    run = training(tmp_path / "run", school, recipe)
    told = run.task.validate().logged["watched"]
    assert isinstance(told, dict) and {"point", "side", "all"} <= told.keys()
    batch = source.part(13, 0, 1)
    back = run.task.restore(run.task.keep(batch))
    assert back.texts == batch.texts and torch.equal(back.cover_RG, batch.cover_RG)


def test_saved_and_loaded_it_answers_the_same(school: School, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = replace(RECIPE, looking=Part(1, 6, 3, 4e-3), answering=Part(1, 3, 6, 2e-3))
    run = training(tmp_path / "run", school, short)
    run.run()
    run.finish()
    model = run.task.model
    monkeypatch.setattr("xtok.semantics.embedded.model.Language.load", lambda layers: model.language)
    loaded = EmbeddedVLM.load(tmp_path / "run")
    for key, value in model.network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[key], value.half().float()), key
    assert loaded.spoken.tolist() == model.spoken.tolist()
    picture = np.zeros((40, 60, 3), np.uint8)
    (answer,) = loaded.answer([Observation({"any": picture}, "what is it?")])
    assert answer.point is not None and 0 <= answer.point[0] <= 60 and 0 <= answer.point[1] <= 40
    assert 0 <= answer.sure <= 1 and 0 <= answer.point_sure <= 1
    fresh = EmbeddedVLM.new(tiny_network(), loaded.spoken.tolist(), model.language)
    assert len(started_from(fresh, tmp_path / "run")) == 16
    assert torch.equal(fresh.network.ask, loaded.network.ask)
    (tmp_path / "run/config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"no embedded teacher.*xtok teacher train"):
        EmbeddedVLM.load(tmp_path / "run")


# -- exam ---------------------------------------------------------------------------------------------------------


def test_the_exam_counts_what_is_right(questions: Path) -> None:
    mask = np.zeros((10, 10), dtype=bool)
    mask[2, 7] = True
    assert is_right(Question("point", "", "", (), mask), Answer("", 1, (7, 2)), (10, 10))
    assert is_right(Question("point", "", "", (), mask), Answer("", 1, (15, 5)), (20, 20))
    assert not is_right(Question("point", "", "", (), mask), Answer("", 1, (2, 7)), (10, 10))
    assert not is_right(Question("point", "", "", (), mask), Answer("red cube", 1), (10, 10))
    assert is_right(Question("side", "", "left"), Answer("Left.", 1), (10, 10))
    lessons = question_set(questions)

    class Knows:
        """Says what is true of the picture, if it is asked in words."""

        def answer(self, observations, tokens_max=12):  # type: ignore[no-untyped-def]
            found = []
            for seen in observations:
                picture = seen.pictures["any"]
                (lesson,) = [x for x in lessons if np.array_equal(x.picture, picture)]
                right = [q for q in lesson.questions if q.text == seen.words]
                place = None
                if right and right[0].mask is not None:
                    y, x = np.nonzero(right[0].mask)
                    place = (float(x.mean()), float(y.mean()))
                found.append(Answer(right[0].answer if right else "", 0.95 if right else 0.1, place, 0.8))
            return found

    table = exam(Knows(), lessons)  # type: ignore[arg-type]
    kinds = table["kinds"]
    assert kinds["point"]["questions"] == 20 and kinds["side"]["questions"] == 10
    assert kinds["point"]["right"] == kinds["side"]["right"] == 1 and kinds["all"]["interval"] == [1, 1]
    assert kinds["all"]["no_words"] == 0 and kinds["all"]["another_picture"] < 0.5 > kinds["all"]["another_question"]
    assert table["sure"]["words 0.9+"] == {"questions": 10, "sure": 0.95, "right": 1.0}
    assert table["sure"]["place 0.7+"]["questions"] == 20


def test_intervals_are_wider_where_questions_hang_together() -> None:
    right = [bool(i % 10 < 7) for i in range(200)]
    alone = interval(list(range(200)), right)
    together = interval([i // 20 for i in range(200)], [bool(i // 20 % 10 < 7) for i in range(200)])
    assert alone[0] < 0.7 < alone[1] and together[1] - together[0] > 2 * (alone[1] - alone[0])


def test_commands_ask_and_eval(
    model: EmbeddedVLM,
    questions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("gymnasium", reason="parts are by what the simulation holds out")
    monkeypatch.setattr("xtok.cli.teacher.load", lambda name: model)
    monkeypatch.chdir(tmp_path)
    assert main(["teacher", "ask", str(questions / "images/0.png"), "where is the red cube?"]) == 0
    out = capsys.readouterr().out
    assert "of 96 x 96" in out and "sure" in out and (tmp_path / "answer.png").stat().st_size > 500
    command = ["teacher", "eval", str(questions), "--json", "exam.json", "--page", "exam.html"]
    assert main(command) == 0
    written = json.loads((tmp_path / "exam.json").read_text())
    assert written["kinds"]["all"]["questions"] == 30 and written["sets"]["questions"]["point"] == [0.5, 0.4, 0.3]
    assert set(written["parts"]) == {"Kinova3", "easy", "hard"}
    assert sum(part["all"]["questions"] for part in written["parts"].values()) == 30
    html = (tmp_path / "exam.html").read_text()
    assert html.count("<figure") >= 6 and "where is the" in html
    assert main(["teacher", "eval", str(tmp_path)]) == 2
    assert "xtok sim questions" in capsys.readouterr().err
    rows = answers_of(model, question_set(questions), controls=False)
    assert len(rows) == 30 and "another_picture" not in rows[0]


@pytest.mark.slow
def test_training_from_the_command_line(scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["teacher", "train", str(scenes), "-o", str(out), "--looking", "2", "--answering", "2"]
    assert main(command) == 0
    assert main(command) == 0  # goes on from its end
    assert (out / "model.safetensors").stat().st_size < 1e7
    assert load_teacher(str(out)).see([np.zeros((64, 64, 3), np.uint8)]).shape == (1, 192)
    after = ["teacher", "train", str(scenes), "-o", str(tmp_path / "more"), "--looking", "1", "--answering", "1"]
    assert main([*after, "--start-from", str(out)]) == 0


@pytest.mark.slow
def test_the_shipped_teacher_sees_reads_and_points() -> None:
    teacher = load_teacher("embedded")
    red, blue = np.full((96, 96, 3), 120, np.uint8), np.full((96, 96, 3), 120, np.uint8)
    red[40:56, 40:56], blue[40:56, 40:56] = (220, 30, 30), (30, 30, 220)
    seen = teacher.see([red, blue, red])
    assert seen.shape == (3, 192) and np.isfinite(seen.astype(np.float16)).all()
    np.testing.assert_array_equal(seen[0], seen[2])
    assert np.linalg.norm(seen[0] - seen[1]) > 0.01 * np.linalg.norm(seen[0])
    read = teacher.read([*WORDS, WORDS[0]])
    np.testing.assert_allclose(read[0], read[2], atol=0.02 * np.abs(read).max())
