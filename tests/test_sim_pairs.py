"""Two arms at one table: frames of both, deltas in each arm's own base, words that decide, recordings, experts."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("xtok.sim", reason="needs the extra `sim`", exc_type=ImportError)

from gymnasium.utils.env_checker import check_env

import xtok.sim
from test_sim_env import rollout_hash
from test_sim_tasks import attempt, words_decide
from xtok.actions import ARMS26, get_embodiment
from xtok.data import open_dataset
from xtok.sim.arms import PAIRS
from xtok.sim.env import SimEnv
from xtok.sim.runtime import gymnasium
from xtok.sim.suite import cells
from xtok.sim.tasks import PAIR_TASKS, get_task

MIXED, SMALL = "Panda_UR5e", 32
LEFT, RIGHT = ARMS26.slices["left_position"], ARMS26.slices["right_position"]


@pytest.fixture(scope="module")
def env() -> Iterator[SimEnv]:
    env = gymnasium.make(xtok.sim.env_id("Share", MIXED), image_size=SMALL).unwrapped
    assert isinstance(env, SimEnv)
    yield env
    env.close()


def test_frames_have_both_hands_and_views_both_wrists(env: SimEnv) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Box (action|observation) space m.*")
        check_env(env)
    observation, _ = env.reset(seed=1)
    assert set(observation) == {"scene", "left_wrist", "right_wrist", "state", "instruction", "subtask"}
    for view in ("scene", "left_wrist", "right_wrist"):
        assert observation[view].std() > 8 and 20 < observation[view].mean() < 235, view
    robot = get_embodiment(PAIRS[MIXED].embodiment)
    assert robot.arms == ("left", "right") and env.mask_D.sum() == 20 and np.array_equal(env.mask_D, robot.mask(ARMS26))
    state_D = observation["state"]
    assert state_D[env.mask_D].all() and not state_D[~env.mask_D].any()
    # each pose is in its own arm's base frame: both hands are in front of their arms
    assert all(0.3 < state_D[where.start] < 0.6 and abs(state_D[where.start + 1]) < 0.15 for where in (LEFT, RIGHT))
    for name, mask in env.masks("scene").items():
        assert mask.sum() >= 2, name


def test_a_goal_of_one_arm_moves_that_arm_along_its_own_base_frame(env: SimEnv) -> None:
    env.reset(seed=2)
    before = {side: hand.pose().position_m for side, hand in env.world.hands.items()}
    goal = env.state_D()
    goal[LEFT.start] += 0.06  # forward, as the left arm sees it: towards the right one, so along -y of the world
    for _ in range(10):
        *_, info = env.step(goal[None])
    moved = {side: hand.pose().position_m - before[side] for side, hand in env.world.hands.items()}
    assert np.allclose(moved["left"], [0.0, -0.06, 0.0], atol=0.004)
    assert np.abs(moved["right"]).max() < 0.003
    assert info["lag"]["position_m"] < 0.006
    far = goal.copy()
    far[RIGHT.start + 2] += 0.3
    *_, info = env.step(far[None])
    assert info["lag"]["position_m"] > 0.2, "the lag is that of the arm further behind"


def test_what_concerns_one_hand_asks_for_its_side(env: SimEnv) -> None:
    env.reset(seed=2)
    with pytest.raises(ValueError, match="two hands"):
        env.world.hand()
    left, right = env.world.of("left"), env.world.of("right")
    assert left.hand().position_m[1] > 0 > right.hand().position_m[1]
    assert left.of("right") is right and left.steps == right.steps == env.world.steps
    with pytest.raises(ValueError, match=r"task 'Share' is for 2 arm\(s\), 'Panda' has 1"):
        SimEnv("Share", "Panda")
    with pytest.raises(ValueError, match=r"task 'Lift' is for 1 arm\(s\), 'Panda_UR5e' has 2"):
        SimEnv("Lift", MIXED)
    with pytest.raises(ValueError, match="did you mean 'Panda_UR5e'"):
        SimEnv("Share", "PandaUR5e")


def test_facts_say_which_hand_is_nearer_only_where_it_is_plain(env: SimEnv) -> None:
    env.reset(seed=2)
    told = {fact.name: fact.nearer_hand for fact in env.facts()}  # type: ignore[attr-defined]
    assert told["right_tray"] == "right" and told["one"] is told["two"] is None, "cubes lie in the middle"
    hands = {side: hand.pose().position_m for side, hand in env.world.hands.items()}
    around = np.random.default_rng(0).normal(size=(200, 3))
    around /= np.linalg.norm(around, axis=1, keepdims=True)
    for name, side in told.items():
        parts = env.world.position(name) + env.world.props[name].radius_m * around
        nearer = np.linalg.norm(parts - hands["left"], axis=1) < np.linalg.norm(parts - hands["right"], axis=1)
        assert side is None or (nearer == (side == "left")).all(), name
    expert, held = env.expert(), False
    while not held:
        env.step(expert.goal()[None])
        held = any(fact.held for fact in env.facts())
    assert all(fact.nearer_hand is None for fact in env.facts() if fact.held), "that is asked otherwise"  # type: ignore[attr-defined]


def test_only_the_words_say_which_arm_takes_which_cube(env: SimEnv) -> None:
    env.reset(seed=3)
    asked = env.goal
    other = next(goal for goal in env.goals if goal != asked)
    info = attempt(env, other)
    assert not info["success"] and info["failure"] == "a cube is in the wrong tray"
    env.reset(seed=3)
    assert env.goal == asked and attempt(env)["success"]


def test_an_episode_of_two_arms_repeats_bit_for_bit(env: SimEnv) -> None:
    first = rollout_hash(env, 7)
    rollout_hash(env, 8)
    assert rollout_hash(env, 7) == first != rollout_hash(env, 7, split="eval")


@pytest.mark.slow
@pytest.mark.parametrize("level", ["easy", "hard"])
def test_an_episode_of_two_arms_is_the_same_in_another_environment(level: str) -> None:
    hashes = set()
    for _ in range(2):
        env = SimEnv("Handover", MIXED, level=level, image_size=SMALL)
        hashes.add(rollout_hash(env, 7))
        env.close()
    assert len(hashes) == 1


def test_a_recording_of_two_arms_reads_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from xtok.sim import recorder
    from xtok.sim.workers import close_environment

    request = recorder.Request((("TwoArmLift", MIXED),), ("easy",), 1, image_size=SMALL)
    manifest = recorder.record(request, tmp_path / "out")
    close_environment()
    folder = tmp_path / "out" / manifest["arms"][MIXED]["folder"]
    achieved, commanded = (open_dataset(folder, action_source=source) for source in ("achieved", "commanded"))
    episode, goals = achieved[0], commanded[0]
    assert achieved.embodiment == PAIRS[MIXED].embodiment and episode.mask_D.sum() == 20
    assert len(episode) == len(goals) == manifest["frames"]
    assert set(episode.videos) == {f"observation.images.{view}" for view in ("scene", "left_wrist", "right_wrist")}
    lines = [segment.text for segment in episode.subtasks]
    assert len(lines) == 3 and "both hands" in lines[-1]
    # both hands rise, each in its own frame, and the goals lead
    for where in (LEFT, RIGHT):
        height_N = episode.absolute_ND[:, where.start + 2]
        assert height_N[-1] - height_N.min() > 0.08
        away = np.linalg.norm(goals.absolute_ND[:, where] - episode.absolute_ND[:, where], axis=1)
        assert 0.0 < away.mean() < 0.08


@pytest.mark.parametrize("task", PAIR_TASKS)
def test_stages_of_the_expert_are_those_of_the_task(task: str) -> None:
    built = get_task(task)
    assert built.arms == 2
    goals = built.scene(np.random.default_rng(1)).goals
    lines = [tuple(stage.text for stage in built.stages(goal)) for goal in goals]
    assert len(set(lines)) == len(goals) and all(len(each) >= 2 for each in lines)


@pytest.mark.slow
@pytest.mark.parametrize("cell", [f"{cell.task}-{cell.arm}" for cell in cells(dual=True)])
def test_experts_of_pairs_succeed_and_say_what_they_do(cell: str) -> None:
    env = SimEnv(*cell.split("-"), views=False)
    env.reset(seed=1, options={"split": "eval"})
    expert, lines = env.expert(), []
    while True:
        frame_D = expert.goal()
        lines.append(expert.subtask)
        assert np.isfinite(frame_D).all() and not frame_D[~env.mask_D].any()
        *_, terminated, truncated, info = env.step(frame_D[None])
        if terminated or truncated or expert.done:
            break
    assert info["success"], (info["failure"], info["stage"])
    assert list(dict.fromkeys(lines)) == list(env.subtasks)
    env.close()


@pytest.mark.slow
def test_an_arm_that_was_pushed_off_its_cube_takes_it_again() -> None:
    env = SimEnv("Share", "Panda_Panda", views=False)
    env.reset(seed=14)  # the arms meet on their way
    info = attempt(env)
    env.close()
    assert info["success"], (info["failure"], info["stage"])


@pytest.mark.slow
@pytest.mark.parametrize("task", ["Handover", "TwoArmInsert", "Transport"])
def test_words_decide(task: str) -> None:
    words_decide(task, MIXED, range(1))


@pytest.mark.slow
def test_two_hands_deaf_to_words_succeed_at_chance() -> None:
    """Perfect hands that guess who takes which of two cubes: half, within what 40 episodes allow (three sigma)."""
    env, guess, successes = SimEnv("Share", MIXED, views=False), np.random.default_rng(0), 0
    for seed in range(40):
        env.reset(seed=seed)
        successes += attempt(env, env.goals[int(guess.integers(2))])["success"]
    env.close()
    assert abs(successes / 40 - 0.5) < 3 * np.sqrt(0.25 / 40)
