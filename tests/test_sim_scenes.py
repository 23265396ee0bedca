"""Scenes to learn from: what is drawn of an episode, and how it is stored."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

pytest.importorskip("gymnasium", reason="the simulation needs its extra: pip install 'xtok[sim]'")

from sim_kit import ToyEnv, toy_environment
from xtok.sim import scenes
from xtok.sim.ask import Question
from xtok.sim.scenes import MOMENTS, SceneFile, labelled, moments, scene_files, thinned, write_scenes
from xtok.sim.workers import EpisodeSpec


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "environment", toy_environment)


def test_files_go_through_all_cells_before_they_go_on_and_never_hold_what_is_held_out() -> None:
    files = scene_files([("Lift", "Panda"), ("Stack", "UR5e")], 6)
    assert [(part.task, part.level, part.number) for part in files[:4]] == [
        ("Lift", "easy", 0),
        ("Lift", "hard", 0),
        ("Stack", "easy", 0),
        ("Stack", "hard", 0),
    ]
    of_lift = [part for part in files if part.task == "Lift" and part.level == "hard"]
    assert [part.seeds for part in of_lift] == [(0, 1, 2), (3, 4, 5)]
    with pytest.raises(ValueError, match="held out"):
        scene_files([("Insert", "Panda")], 2)


def test_arms_differ_from_task_to_task() -> None:
    cells = [(task, arm) for task in ("a", "b", "c") for arm in "123456"]
    assert thinned(cells, 2) == [("a", "1"), ("b", "3"), ("c", "5"), ("a", "2"), ("b", "4"), ("c", "6")]
    assert len(thinned(cells, 9)) == 18


def test_half_of_the_episodes_are_looked_at_once_and_half_while_the_expert_acts() -> None:
    steps = [[step for step, _, _ in moments(EpisodeSpec("Lift", "Panda", "easy", "train", s), 64)] for s in range(40)]
    still = [found for found in steps if found == [0]]
    acting = [found for found in steps if found != [0]]
    assert 10 < len(still) < 30
    assert all(found == sorted(set(found)) and 1 <= len(found) <= MOMENTS for found in acting)


def test_a_file_has_pictures_labels_and_questions_that_point_at_them(tmp_path: Path) -> None:
    part = SceneFile("Lift", "Panda", "easy", (0, 1, 2, 3, 4), 0)
    count = write_scenes(part, tmp_path, 64)
    rows = pq.read_table(tmp_path / part.name).to_pylist()
    assert len(rows) == count >= 10 and {row["split"] for row in rows} == {"train"}
    assert {"scene", "front"} <= {row["view"] for row in rows}
    for row in rows:
        labels = np.asarray(Image.open(io.BytesIO(row["labels"])))
        facts, questions = json.loads(row["facts"]), json.loads(row["questions"])
        assert [fact["name"] for fact in facts] == row["things"][: len(facts)]
        for question in questions:
            if question["things"] is not None:
                assert all((labels == number + 1).any() for number in question["things"])
                assert facts[question["things"][0]]["name"] == question["answer"]
        if row["view"] == "wrist":
            assert {question["kind"] for question in questions} <= {"point", "target"}
    again = tmp_path / "again"
    again.mkdir()
    write_scenes(part, again, 64)
    assert (again / part.name).read_bytes() == (tmp_path / part.name).read_bytes()


def test_labels_are_numbers_of_props_and_hands() -> None:
    one, two, hand = (np.zeros((8, 8), dtype=bool) for _ in range(3))
    one[:2], two[3:5], hand[6:] = True, True, True
    asked = [Question("point", "find a cube", "cube", mask=one | two), Question("side", "left or right?", "left")]
    labels, questions = labelled({"one": one, "two": two}, {"gripper": hand}, asked)
    assert sorted(set(labels.ravel().tolist())) == [0, 1, 2, 3] and (labels[hand] == 3).all()
    assert questions[0]["things"] == [0, 1] and questions[1]["things"] is None
    assert ToyEnv("Lift", "Panda").aims() is None
