"""Tasks: words decide, wrong things are failures, goals are drawn apart from layouts, the suite is whole."""

from __future__ import annotations

from collections import Counter
from math import prod

import numpy as np
import pytest

pytest.importorskip("xtok.sim", reason="needs the extra `sim`", exc_type=ImportError)

from xtok.sim.arms import ARMS, PAIRS, is_held_out
from xtok.sim.env import SimEnv
from xtok.sim.suite import SUPPORTED, cells, get_cell
from xtok.sim.tasks import HELD_OUT_TASKS, TASK_NAMES, Goal, get_task
from xtok.sim.variation import streams

GOALS = {"Lift": 1, "Stack": 2, "PickPlace": 4, "Press": 3, "Turn": 2, "Insert": 2, "Sort": 4, "Tidy": 6}
GOALS |= {"Tower": 6, "PressOrder": 6, "Serve": 12}
GOALS |= {"TwoArmLift": 1, "Handover": 2, "TwoArmInsert": 2, "Transport": 4, "Share": 2}
ORDER_DECIDES = ("Tidy", "Tower", "PressOrder", "Serve")


def attempt(env: SimEnv, goal: Goal | None = None) -> dict:
    """The expert's episode, aimed at one of the scene's goals; the last info."""
    expert = env.expert(goal)
    while True:
        *_, terminated, truncated, info = env.step(expert.goal()[None])
        if terminated or truncated or expert.done:
            return info


def words_decide(task: str, arm: str, seeds: range) -> None:
    """The same scene, every goal that it allows: the expert succeeds at the one that the words name, and only there."""
    env = SimEnv(task, arm, views=False)
    for seed in seeds:
        env.reset(seed=seed)
        asked = env.goal
        assert asked in env.goals and len(env.goals) == GOALS[task]
        for goal in env.goals:
            env.reset(seed=seed)
            info = attempt(env, goal)
            assert info["success"] == (goal == asked), (env.instruction, goal.words, info["failure"])
            assert goal == asked or info["failure"] or info["progress"] < 1
    env.close()


def test_words_decide_press() -> None:
    words_decide("Press", "Panda", range(1))


def test_words_decide_turn() -> None:
    words_decide("Turn", "UR5e", range(1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "arm"), [("Stack", "IIWA"), ("PickPlace", "Panda"), ("Insert", "XArm7"), ("Sort", "UR5e")]
)
def test_words_decide(task: str, arm: str) -> None:
    words_decide(task, arm, range(2))


@pytest.mark.slow
@pytest.mark.parametrize("task", ORDER_DECIDES)
def test_words_decide_the_order(task: str) -> None:
    words_decide(task, "Panda", range(1))


def test_words_decide_the_order_of_buttons_that_stay_down() -> None:
    """Of the six orders one succeeds, and the first button out of turn is a failure."""
    env = SimEnv("PressOrder", "Panda", views=False)
    env.reset(seed=0)
    asked = env.goal
    assert asked is not None
    swapped = next(goal for goal in env.goals if goal.targets[0] != asked.targets[0])
    info = attempt(env, swapped)
    assert not info["success"] and info["failure"] == "a button was pressed before its turn"
    env.reset(seed=0)
    assert attempt(env)["success"] and all(env.world.joint(name) < -0.008 for name in asked.targets)
    env.close()


@pytest.mark.parametrize("task", ORDER_DECIDES)
def test_long_tasks_have_three_to_six_stages_in_an_order_that_words_give(task: str) -> None:
    built = get_task(task)
    scene = built.scene(np.random.default_rng(3))
    lines = {tuple(stage.text for stage in built.stages(goal)) for goal in scene.goals}
    assert len(lines) == len(scene.goals) == GOALS[task] and all(3 <= len(each) <= 6 for each in lines)


@pytest.mark.slow
def test_a_policy_deaf_to_words_succeeds_at_chance() -> None:
    """A perfect hand that guesses among three buttons: a third, within what 60 episodes allow (three sigma)."""
    env, guess, successes = SimEnv("Press", "XArm7", views=False), np.random.default_rng(0), 0
    for seed in range(60):
        env.reset(seed=seed)
        successes += attempt(env, env.goals[int(guess.integers(len(env.goals)))])["success"]
    env.close()
    assert abs(successes / 60 - 1 / 3) < 3 * np.sqrt(2 / 9 / 60)


@pytest.mark.parametrize("task", TASK_NAMES)
def test_goals_are_uniform_and_their_things_hold_no_place_or_colour_of_their_own(task: str) -> None:
    built, chosen, seeds = get_task(task), Counter[int](), 600
    left: list[bool] = []
    for seed in range(seeds):
        random = streams(task, "Panda", "easy", "train", seed)
        scene = built.scene(random.layout)
        index = int(random.goal.integers(len(scene.goals)))
        chosen[index] += 1
        left.append(scene.placements[scene.goals[index].targets[0]].y_m > 0)
    share = 1 / len(scene.goals)
    assert len(scene.goals) == GOALS[task]
    assert all(
        abs(count / seeds - share) < 4 * np.sqrt(share * (1 - share) / seeds) + 1e-9 for count in chosen.values()
    )
    assert len(scene.goals) == 1 or abs(np.mean(left) - 0.5) < 0.1, "the side of the table tells what is meant"


def test_things_of_a_scene_have_different_colours_where_colour_is_the_word() -> None:
    for task in ("Stack", "Press", "Insert", "Tidy", "Tower", "PressOrder", "Handover", "TwoArmInsert"):
        for seed in range(50):
            scene = get_task(task).scene(np.random.default_rng(seed))
            assert len(set(scene.colours.values())) == len(scene.colours)


def test_progress_counts_stages_in_order_and_success_ends_the_episode() -> None:
    env = SimEnv("Lift", "Panda", views=False)
    env.reset(seed=1)
    expert, progress, lines = env.expert(), [], []
    terminated = False
    while not terminated:
        lines.append(env.subtask)
        _, reward, terminated, _, info = env.step(expert.goal()[None])
        progress.append(info["progress"])
        assert reward == float(info["success"]) == float(terminated)
    env.close()
    assert progress == sorted(progress) and set(progress) <= {0, 1 / 3, 2 / 3, 1} and progress[-1] == 1
    assert list(dict.fromkeys(lines)) == list(env.subtasks)


def test_an_episode_that_goes_nowhere_is_cut_off() -> None:
    env = SimEnv("Press", "Panda", views=False)
    env.reset(seed=1)
    still, steps, truncated = env.state_D()[None], 0, False
    while not truncated:
        _, reward, terminated, truncated, info = env.step(still)
        steps += 1
        assert not terminated and reward == 0
    env.close()
    assert steps == env.max_steps and not info["success"]


def test_a_button_that_both_fingers_press_is_not_held() -> None:
    env = SimEnv("Press", "ViperX", views=False)  # Panda's fingertips press with one of them
    pressed, seed = False, 0
    while not pressed and seed < 40:
        env.reset(seed=(seed := seed + 1))
        expert, over = env.expert(), False
        while not over:
            _, _, terminated, truncated, _ = env.step(expert.goal()[None])
            over = terminated or truncated
            pressed |= any(env.world.held(fact.name) for fact in env.facts())
            assert not any(fact.held for fact in env.facts())
    env.close()
    assert pressed


def test_the_suite_has_its_cells_with_good_seeds_and_arms_and_tasks_held_out() -> None:
    table = cells()
    assert len(cells(dual=False)) >= 49 and {cell.task for cell in table} == set(TASK_NAMES)
    assert {cell.arm for cell in cells(dual=False)} == set(ARMS)
    pairs = cells(dual=True)
    assert len(pairs) >= 8 and len({cell.task for cell in pairs}) >= 4 and len({cell.arm for cell in pairs}) >= 3
    assert all(cell.arm in PAIRS for cell in pairs)
    assert any(PAIRS[cell.arm].left != PAIRS[cell.arm].right for cell in pairs), "no pair of two kinds"
    for cell in table:
        assert cell.expert_success >= SUPPORTED and len(cell.seeds) == round(cell.expert_success * cell.episodes)
        assert cell.held_out == (is_held_out(cell.arm) or cell.task in HELD_OUT_TASKS)
    assert get_cell("Stack", "UR5e").arm == "UR5e"
    with pytest.raises(ValueError, match=r"did you mean one of .*Stack-UR5e"):
        get_cell("Stack", "UR5")
    assert prod(GOALS.values()) > 1
