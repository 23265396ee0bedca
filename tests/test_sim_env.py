"""Environments: the gymnasium contract, episodes that repeat bit for bit, honest lag and grippers, real pictures."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("xtok.sim", reason="needs the extra `sim`", exc_type=ImportError)

import gymnasium
from gymnasium.utils.env_checker import check_env

import xtok.sim
from xtok.actions import ARMS26, get_embodiment
from xtok.sim.arms import ARMS
from xtok.sim.env import SimEnv
from xtok.sim.geometry import GRIPPER, POSITION, ROTATION
from xtok.sim.render import VIEWS

SMALL = 32  # px: enough to see that there is something to see


@pytest.fixture(scope="module")
def env() -> Iterator[SimEnv]:
    env = SimEnv("Stack", "Panda", image_size=SMALL)
    yield env
    env.close()


def rollout_hash(env: SimEnv, seed: int, steps: int = 8, split: str = "train") -> str:
    """Of everything that an episode shows and says."""
    digest = hashlib.sha256()
    observation, _ = env.reset(seed=seed, options={"split": split})
    expert = env.expert()
    for _ in range(steps):
        for key in sorted(observation):
            value = observation[key]
            digest.update(value.encode() if isinstance(value, str) else value.tobytes())
        digest.update(env.world.data.qpos.tobytes() + env.world.data.qvel.tobytes())
        observation, *_ = env.step(expert.goal()[None])
    return digest.hexdigest()


def test_environment_is_registered_and_passes_the_checker_of_gymnasium() -> None:
    assert len([name for name in gymnasium.registry if name.startswith("xtok/")]) == 11 * 13 + 5 * 4
    env = gymnasium.make(xtok.sim.env_id("Lift", "Panda"), image_size=SMALL)
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=".*Box (action|observation) space m.*"
        )  # ours are unbounded on purpose
        check_env(env.unwrapped)
    env.close()


@pytest.mark.parametrize("level", ["easy", "hard"])
def test_an_episode_is_the_same_bit_for_bit_in_another_environment_and_after_other_episodes(level: str) -> None:
    first = SimEnv("Stack", "XArm7", level=level, image_size=SMALL)
    hashes = [rollout_hash(first, 7)]
    rollout_hash(first, 8)
    hashes.append(rollout_hash(first, 7))
    other = rollout_hash(first, 7, split="eval")
    first.close()
    second = SimEnv("Stack", "XArm7", level=level, image_size=SMALL)
    rollout_hash(second, 3, steps=3)
    hashes.append(rollout_hash(second, 7))
    second.close()
    assert len(set(hashes)) == 1
    assert other != hashes[0], "splits must not share episodes"


def test_views_are_neither_black_nor_flat_and_show_the_things(env: SimEnv) -> None:
    observation, _ = env.reset(seed=1)
    for view in VIEWS:
        picture = observation[view]
        assert picture.shape == (SMALL, SMALL, 3) and picture.dtype == np.uint8
        assert picture.std() > 10 and 20 < picture.mean() < 235, view
    for view in ("scene", "front"):
        masks = env.masks(view)
        assert set(masks) == {"one", "two"}
        for name, mask in masks.items():
            assert 3 <= mask.sum() < 200, (view, name)
            # the named colour is what is seen there
            strongest = int(observation[view][mask].mean(axis=0).argmax())
            colour = next(fact.colour for fact in env.facts() if fact.name == name)
            assert colour not in ("red", "green", "blue") or ("red", "green", "blue").index(colour) == strongest


def test_masks_leave_pictures_as_they_were(env: SimEnv) -> None:
    env.reset(seed=1)
    before = env.render_views()
    env.masks("scene")
    after = env.render_views()
    assert all(np.array_equal(before[view], after[view]) for view in VIEWS)


def test_a_far_goal_is_pursued_and_its_distance_told(env: SimEnv) -> None:
    env.reset(seed=2)
    start = env.state_D()
    goal = start.copy()
    goal[POSITION] += [0.12, 0.15, 0.05]
    lags = []
    for _ in range(14):
        *_, info = env.step(goal[None])
        lags.append(info["lag"]["position_m"])
    assert lags[0] > 0.15, "the whole distance counts, not the part of this step"
    assert lags[-1] < 0.003 and lags[-1] < lags[3] < lags[0]
    assert np.allclose(env.state_D()[POSITION], goal[POSITION], atol=0.003)
    assert np.array_equal(info["commanded"][0], goal) and info["achieved"].shape == (1, 26)


def test_a_chunk_in_deltas_moves_as_the_same_chunk_in_absolute_poses() -> None:
    import torch

    from xtok.actions import to_delta

    reached = []
    for kind in ("absolute", "delta"):
        env = SimEnv("Lift", "Panda", views=False, action=kind, horizon=6)
        env.reset(seed=4)
        start = env.state_D()
        chunk = np.repeat(start[None], 6, axis=0)
        chunk[:, POSITION.start] += np.linspace(0.01, 0.06, 6)
        if kind == "delta":
            pair = torch.from_numpy(start)[None], torch.from_numpy(env.mask_D)[None]
            chunk = to_delta(ARMS26, torch.from_numpy(chunk)[None], *pair)[0].numpy()
        *_, info = env.step(chunk)
        assert info["achieved"].shape == (6, 26)
        reached.append(info["achieved"])
        env.close()
    assert np.allclose(*reached, atol=1e-9)


def test_wrong_actions_and_names_are_refused_with_what_would_be_right(env: SimEnv) -> None:
    env.reset(seed=0)
    good = env.state_D()[None]
    bad = good.copy()
    bad[0, POSITION.start] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        env.step(bad)
    with pytest.raises(ValueError, match=r"expected \(1, 26\)"):
        env.step(good[0])
    flat = good.copy()
    flat[0, ROTATION] = 0.0
    with pytest.raises(ValueError, match="no rotation follows"):
        env.step(flat)
    masked = good.copy()
    masked[0, :10] = np.nan  # the left arm, which is not there
    env.step(masked)
    with pytest.raises(ValueError, match="unknown options"):
        env.reset(options={"splt": "eval"})
    with pytest.raises(ValueError, match=r"did you mean 'UR5e'"):
        SimEnv("Lift", "UR5")
    with pytest.raises(ValueError, match="unknown task"):
        SimEnv("Juggle", "UR5e")
    with pytest.raises(ValueError, match="unknown level"):
        SimEnv("Lift", "UR5e", level="harder")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown view"):
        env.masks("left_wrist")


@pytest.mark.parametrize("arm", list(ARMS))
def test_the_gripper_opens_at_1_and_closes_at_0_and_says_so(arm: str) -> None:
    env = SimEnv("Lift", arm, views=False)
    env.reset(seed=0)
    goal = env.state_D()
    goal[POSITION.start + 2] += 0.05  # free of the table
    for command in (0.0, 1.0):
        goal[GRIPPER] = command
        away = []
        for _ in range(30):  # Jaco's fingers take longest
            env.step(goal[None])
            away.append(abs(float(env.state_D()[GRIPPER][0]) - command))
        # Robotiq's pads may slip past each other once they have met with nothing between: .06, and on some CPUs only
        assert min(away) < 0.05 and away[-1] < 0.1
    env.close()
    robot = get_embodiment(ARMS[arm].embodiment)
    assert np.array_equal(env.mask_D, robot.mask(ARMS26)) and robot.control_hz == env.control_hz == 20.0
    assert robot.arms == ("right",) and (robot.gripper_closed, robot.gripper_open) == (0.0, 1.0)


def test_robosuite_says_nothing_and_the_import_is_light() -> None:
    code = (
        "import sys, xtok.sim; assert not {'robosuite', 'mujoco'} & set(sys.modules);"
        "from xtok.sim.env import SimEnv; SimEnv('Lift', 'Panda', image_size=16).reset(seed=0)"
    )
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "" and done.stderr == ""
