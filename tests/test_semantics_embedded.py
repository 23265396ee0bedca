"""The embedded teacher: real eyes with a tiny random language model; the real one and the shipped weights are slow."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluate_kit import episode
from teacher_kit import WORDS, tiny_connector, tiny_vlm, write_questions, write_scenes
from xtok.actions.layout import ARMS26
from xtok.cli.main import main
from xtok.data import Episode, Segment

pytest.importorskip("transformers")
pytest.importorskip("efficientnet_lite_pytorch")

from xtok.engine.batches import Batches
from xtok.semantics.embedded.batches import TeacherBatches
from xtok.semantics.embedded.connector import POINTS, point_logits, pointed
from xtok.semantics.embedded.exam import exam, is_right
from xtok.semantics.embedded.lessons import (
    Question,
    exchange,
    film_lessons,
    question_set,
    scene_folder,
    subtask_at,
)
from xtok.semantics.embedded.model import Answer, EmbeddedVLM
from xtok.semantics.embedded.school import School
from xtok.semantics.embedded.train import TeacherRecipe, Training, said_loss
from xtok.semantics.load import load_teacher

RECIPE = TeacherRecipe(
    connector=tiny_connector(), looking=16, speaking=4, pictures=6, spoken=6, warmup=3, learning_rate=3e-3
)


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_questions(tmp_path_factory.mktemp("set") / "questions", scenes=10)


@pytest.fixture(scope="module")
def model() -> EmbeddedVLM:
    return tiny_vlm()


def school(model: EmbeddedVLM, questions: Path) -> School:
    school = School(model)
    school.add(question_set(questions))
    return school


def train(out: Path, questions: Path, until: int, recipe: TeacherRecipe = RECIPE) -> Training:
    model = tiny_vlm()
    out.mkdir(exist_ok=True)
    training = Training(recipe, model, school(model, questions), out)
    if (out / "checkpoints").exists():
        training.load()
    training.run(until=until)
    return training


def test_lessons_are_what_the_set_says_and_mirroring_twice_gives_them_back(questions: Path) -> None:
    for lesson in question_set(questions):
        names = lesson.caption.removeprefix("From left to right: ").split(". ")[0].split(", ")
        points = {q.answer: q.mask for q in lesson.questions if q.mask is not None}
        assert sorted(names, key=lambda name: np.nonzero(points[name])[1].mean()) == names
        assert set(names) <= set(lesson.facts) and "holds nothing" in lesson.facts
        turned = lesson.mirrored()
        assert turned.caption.split(". ")[0].endswith(", ".join(reversed(names)))
        for question, mirror in zip(lesson.questions, turned.questions, strict=True):
            if question.kind == "side":
                assert {question.answer, mirror.answer} == {"left", "right"} and mirror.text == question.text
            else:
                assert (mirror.mask == question.mask[:, ::-1]).all()
        again = turned.mirrored()
        assert again.caption == lesson.caption and (again.picture == lesson.picture).all()
    assert exchange("turn the leftmost lever to the right") == "turn the rightmost lever to the left"


def test_scenes_teach_what_a_set_of_the_same_questions_does(questions: Path, tmp_path: Path) -> None:
    from_set = {lesson.picture.tobytes(): lesson for lesson in question_set(questions)}
    from_scenes = scene_folder(write_scenes(questions, tmp_path / "scenes"))
    assert len(from_scenes) == 10
    for lesson in from_scenes:
        same = from_set[lesson.picture.tobytes()]
        assert [(q.text, q.answer) for q in lesson.questions] == [(q.text, q.answer) for q in same.questions]
    with pytest.raises(ValueError, match=r"no scenes.*xtok teacher scenes"):
        scene_folder(tmp_path)
    with pytest.raises(ValueError, match=r"xtok sim questions"):
        question_set(tmp_path)


def test_films_teach_the_subtask_of_each_frame_and_leave_out_words(monkeypatch: pytest.MonkeyPatch) -> None:
    class Film:
        def frames(self, indices):  # type: ignore[no-untyped-def]
            return np.stack([np.full((8, 8, 3), index, np.uint8) for index in indices])

    plain = episode(ARMS26, 40, 0)
    parts = (Segment(0, 25, "reach for it"), Segment(25, 40, "lift it"))
    both = {"a": Film(), "b": Film()}
    films = [
        Episode(**{**vars(plain), "subtasks": parts, "videos": both, "instruction": f"lift the {what}"})
        for what in ("cube", "peg", "ball")
    ]

    class Set(list):
        name, parts, places = "set", (), ()

    monkeypatch.setattr("xtok.semantics.embedded.lessons.open_dataset", lambda path: Set(films))
    found = list(film_lessons(Path("set"), "train", 3, 0, 9, ["peg"]))
    assert len(found) == 2 and all(len(lessons) == 6 for lessons in found)
    for lesson in found[0]:
        (question,) = lesson.questions
        assert question.answer == subtask_at(films[0], int(lesson.picture[0, 0, 0]))
        assert lesson.caption == f"Now: {question.answer}."
    assert len(list(film_lessons(Path("set"), "train", 3, 0, 1))) == 1


def test_pictures_are_seen_alike_in_any_batch_and_size(model: EmbeddedVLM) -> None:
    rng = np.random.default_rng(0)
    pictures = [np.kron(rng.integers(0, 255, (8, 8, 3)), np.ones((12, 12, 1))).astype(np.uint8) for _ in range(3)]
    states = model.picture_states(model.eyes(pictures), -3)
    assert states.shape == (3, 2, 32)
    alone = model.picture_states(model.eyes(pictures[1:2]), -3)
    assert (alone - states[1:2]).abs().max() < 0.05 * states.abs().max()  # bfloat16
    assert (states[0] - states[1]).abs().max() > 0.05 * states.abs().max()


def test_padding_changes_no_state_of_a_text(model: EmbeddedVLM) -> None:
    together = model.text_states([WORDS[0], "lift", ""], -3)
    assert [len(states) for states in together] == [len(model.language.tokens(t)) for t in (WORDS[0], "lift", "")]
    for text, states in zip((WORDS[0], "lift"), together, strict=False):
        np.testing.assert_allclose(model.text_states([text], -3)[0], states, atol=0.02)


@pytest.mark.parametrize("layer", [0, 2, -3, -1, 4])
def test_layers_are_those_of_transformers(model: EmbeddedVLM, layer: int) -> None:
    ids = torch.tensor([model.language.tokens(WORDS[1])])
    states = model.language.states(model.language.embed(ids), None, layer)
    all_states = model.language.model(ids, output_hidden_states=True).hidden_states
    assert torch.equal(states, all_states[layer])


def test_loss_of_what_is_said_is_that_of_each_row_alone(model: EmbeddedVLM) -> None:
    before, after = [(1, 40, 41), (1,)], [(50, 2), (60, 61, 62, 2)]
    tokens = 0.1 * torch.randn(2, 2, 32)
    both = said_loss(model, before, tokens, after)
    for i in range(2):
        ids = torch.tensor([[*before[i], 0, 0, *after[i]]])
        embeddings = model.language.embed(ids)
        embeddings[0, len(before[i]) : len(before[i]) + 2] = tokens[i].to(embeddings.dtype)
        logits = model.language.model(inputs_embeds=embeddings).logits[0].float()
        first = len(before[i]) + 1
        wanted = torch.nn.functional.cross_entropy(logits[first:-1], torch.tensor(after[i]))
        assert abs(float(wanted - both[i])) < 0.05


def test_the_gradient_passes_the_frozen_language_model(model: EmbeddedVLM) -> None:
    tokens = (0.1 * torch.randn(2, 2, 32)).requires_grad_()
    said_loss(model, [(1,), (1,)], tokens, [(50, 2), (51, 2)]).sum().backward()
    assert tokens.grad is not None and tokens.grad.abs().sum() > 0
    assert all(p.grad is None for p in model.language.parameters())
    assert not any(p.requires_grad for p in (*model.language.parameters(), *model.eyes.parameters()))


def test_pointing_finds_the_likeliest_cell() -> None:
    logits = torch.full((2, POINTS, POINTS), -9.0)
    logits[0, 10, 20] = logits[1, 0, 63] = 9.0
    found = pointed(logits) * POINTS
    np.testing.assert_allclose(found, [[20.5, 10.5], [63.5, 0.5]], atol=1e-3)
    keys = torch.randn(1, 16, POINTS, POINTS)
    assert point_logits(keys, keys[:, :, 5, 6]).flatten().argmax() == 5 * POINTS + 6


def test_learning_lowers_the_losses_and_a_resumed_run_is_the_same_run(questions: Path, tmp_path: Path) -> None:
    straight = train(tmp_path / "straight", questions, 20)
    train(tmp_path / "stopped", questions, 9)
    resumed = train(tmp_path / "stopped", questions, 20)
    for key, value in straight.trained.state_dict().items():
        assert torch.equal(value, resumed.trained.state_dict()[key]), key
    lines = [json.loads(line) for line in (tmp_path / "straight/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 21))
    assert np.mean([line["point"] for line in lines[-5:]]) < 0.9 * np.mean([line["point"] for line in lines[:3]])
    assert {"said", "caption"} <= lines[-1].keys() and "said" not in lines[0]
    with pytest.raises(ValueError, match="another recipe"):
        train(tmp_path / "stopped", questions, 20, replace(RECIPE, seed=1))


def test_parts_of_a_step_are_the_step_whoever_draws_them(model: EmbeddedVLM, questions: Path) -> None:
    source = TeacherBatches.of(RECIPE, school(model, questions))
    for step in (0, 15, 16, 19):
        whole, parts = source.part(step, 0, 1), [source.part(step, index, 3) for index in range(3)]
        for name in ("pictures_B", "rows_R2"):
            np.testing.assert_array_equal(np.concatenate([getattr(p, name) for p in parts]), getattr(whole, name))
        assert torch.equal(torch.cat([part.sight.fine for part in parts]), whole.sight.fine)
        for name, of in (("spoken", "rows_R2"), ("described", "pictures_B")):
            before = np.cumsum([0, *(len(getattr(part, of)) for part in parts)])
            found = [i + first for part, first in zip(parts, before, strict=False) for i in getattr(part, name)]
            assert sorted(found) == sorted(getattr(whole, name)) and bool(found) is (step >= RECIPE.looking)
    loader = Batches(source, range(14, 18), (1,), 2, 1, pin=False)
    try:
        for step in range(14, 18):
            (found,), part = next(loader), source.part(step, 1, 2)
            np.testing.assert_array_equal(found.rows_R2, part.rows_R2)
            assert (found.spoken, found.described) == (part.spoken, part.described)
            assert torch.equal(found.sight.colour, part.sight.colour)
    finally:
        loader.close()


def test_saved_and_loaded_it_answers_the_same(model: EmbeddedVLM, tmp_path: Path) -> None:
    model.save(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xtok.semantics.embedded.model.Language.load", lambda: model.language)
        loaded = EmbeddedVLM.load(tmp_path)
    for key, value in model.connector.state_dict().items():
        assert torch.equal(loaded.connector.state_dict()[key], value.half().float())
    picture = np.zeros((40, 60, 3), np.uint8)
    (answer,) = loaded.ask([picture], ["what is it?"])
    assert 0 <= answer.point[0] <= 60 and 0 <= answer.point[1] <= 40
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"no embedded teacher.*xtok teacher train"):
        EmbeddedVLM.load(tmp_path)


def test_the_exam_counts_what_is_right(questions: Path, model: EmbeddedVLM) -> None:
    mask = np.zeros((10, 10), dtype=bool)
    mask[2, 7] = True
    assert is_right(Question("point", "", "", (), mask), Answer("", (0.75, 0.25)))
    assert not is_right(Question("point", "", "", (), mask), Answer("", (0.25, 0.75)))
    assert is_right(Question("side", "", "left"), Answer("Left.", (0, 0)))
    lessons = question_set(questions)

    class Knows(EmbeddedVLM):
        """Says what is true of the picture, if it is asked in words."""

        def answer(self, sight, questions):  # type: ignore[no-untyped-def]
            found = []
            for row, text in enumerate(questions):
                (lesson,) = [x for i, x in enumerate(lessons) if torch.equal(all_sight.colour[i], sight.colour[row])]
                right = [q for q in lesson.questions if q.text == text]
                found.append(Answer(right[0].answer if right else "", _middle(right[0]) if right else (0.0, 0.0)))
            return found

    all_sight = model.eyes([lesson.picture for lesson in lessons])
    table = exam(Knows(model.connector, model.language, model.eyes), lessons)
    assert table["point"]["questions"] == 20 and table["side"]["questions"] == 10
    assert table["point"]["right"] == table["side"]["right"] == 1
    assert table["all"]["no_words"] == 0 and table["all"]["another_picture"] < 0.5


def _middle(question: Question) -> tuple[float, float]:
    if question.mask is None:
        return 0.0, 0.0
    rows, columns = np.nonzero(question.mask)
    side = len(question.mask)
    return (columns.mean() + 0.5) / side, (rows.mean() + 0.5) / side


def test_commands_ask_and_eval(
    model: EmbeddedVLM,
    questions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("xtok.cli.teacher.load", lambda folder: model)
    model.save(tmp_path / "weights")
    assert main(["teacher", "ask", str(questions / "images/0.png"), "where is the red cube?"]) == 0
    assert "of 96 x 96" in capsys.readouterr().out
    command = ["teacher", "eval", str(questions), "--teacher", str(tmp_path / "weights"), "--json"]
    assert main([*command, str(tmp_path / "exam.json")]) == 0
    written = json.loads((tmp_path / "exam.json").read_text())
    assert written["kinds"]["all"]["questions"] == 30 and len(written["weights"]) == 16
    assert main(["teacher", "eval", str(tmp_path)]) == 2
    assert "xtok sim questions" in capsys.readouterr().err


@pytest.mark.slow
def test_training_from_the_command_line(questions: Path, tmp_path: Path) -> None:
    scenes, out = write_scenes(questions, tmp_path / "scenes"), tmp_path / "run"
    command = ["teacher", "train", str(scenes), "-o", str(out), "--looking", "2", "--speaking", "2"]
    assert main(command) == 0
    assert main(command) == 0  # goes on from its end
    assert (out / "connector.safetensors").stat().st_size < 5e6
    assert load_teacher(str(out)).see([np.zeros((64, 64, 3), np.uint8)]).shape == (1, 576)


@pytest.mark.slow
def test_the_shipped_teacher_sees_and_reads() -> None:
    teacher = load_teacher("embedded")
    red, blue = np.full((96, 96, 3), 120, np.uint8), np.full((96, 96, 3), 120, np.uint8)
    red[40:56, 40:56], blue[40:56, 40:56] = (220, 30, 30), (30, 30, 220)
    seen = teacher.see([red, blue, red])
    assert seen.shape == (3, 576) and np.isfinite(seen.astype(np.float16)).all()
    np.testing.assert_array_equal(seen[0], seen[2])
    assert np.linalg.norm(seen[0] - seen[1]) > 0.01 * np.linalg.norm(seen[0])
    read = teacher.read([*WORDS, WORDS[0]])
    np.testing.assert_allclose(read[0], read[2], atol=0.02 * np.abs(read).max())
