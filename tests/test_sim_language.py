"""Words: every task has seen and unseen phrasings, which never meet; words say all that a goal chooses."""

from __future__ import annotations

import string

import numpy as np
import pytest

pytest.importorskip("xtok.sim", reason="needs the extra `sim`", exc_type=ImportError)

from xtok.sim.env import TEXT
from xtok.sim.language import SEEN, UNSEEN, instruction
from xtok.sim.tasks import TASK_NAMES, get_task


def fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def test_every_task_has_several_phrasings_of_both_kinds_and_none_is_both() -> None:
    assert set(SEEN) == set(UNSEEN) == set(TASK_NAMES)
    for task in TASK_NAMES:
        assert len(SEEN[task]) >= 3 and len(UNSEEN[task]) >= 3
        assert not set(SEEN[task]) & set(UNSEEN[task])
        for template in (*SEEN[task], *UNSEEN[task]):
            assert fields(template) == fields(SEEN[task][0]), template


@pytest.mark.parametrize("task", TASK_NAMES)
def test_goals_of_a_scene_read_differently_and_unseen_phrasings_are_never_recorded(task: str) -> None:
    said: dict[str, set[str]] = {"train": set(), "eval": set()}
    for seed in range(30):
        rng = np.random.default_rng(seed)
        scene = get_task(task).scene(rng)
        for split, texts in said.items():
            same = [instruction(task, goal.words, split, np.random.default_rng(seed)) for goal in scene.goals]
            assert len(set(same)) == len(scene.goals), "two goals with the same words"
            assert all(text in TEXT for text in same)
            texts.update(same)
    assert not said["train"] & said["eval"]


@pytest.mark.parametrize("task", TASK_NAMES)
def test_stages_have_lines_that_name_things(task: str) -> None:
    built = get_task(task)
    scene = built.scene(np.random.default_rng(0))
    for goal in scene.goals:
        lines = [stage.text for stage in built.stages(goal)]
        assert len(lines) >= 2 and len(set(lines)) == len(lines)
        assert all(line in TEXT and "{" not in line for line in lines)
    assert task not in ("Tidy", "Tower", "PressOrder", "Serve") or 3 <= len(lines) <= 6
