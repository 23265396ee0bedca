"""The expert: succeeds, moves smoothly, names its sub-tasks, differs from episode to episode."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("xtok.sim", reason="needs the extra `sim`", exc_type=ImportError)

from xtok.sim.arms import ARMS
from xtok.sim.env import SimEnv
from xtok.sim.geometry import (
    GRIPPER,
    POSITION,
    Pose,
    frame_from_pose,
    pose_from_frame,
    rotation_from_rotvec,
    rotvec_from_rotation,
)
from xtok.sim.suite import cells


def demonstrate(env: SimEnv, seed: int, level_split: str = "train") -> tuple[np.ndarray, list[str], dict]:
    """Commanded frames [N, 26], the line of each, and the last info."""
    env.reset(seed=seed, options={"split": level_split})
    expert, frames, lines = env.expert(), [], []
    while True:
        frames.append(expert.goal())
        lines.append(expert.subtask)
        *_, terminated, truncated, info = env.step(frames[-1][None])
        if terminated or truncated or expert.done:
            return np.stack(frames), lines, info


@pytest.mark.parametrize("arm", list(ARMS))
def test_every_arm_lifts(arm: str) -> None:
    env = SimEnv("Lift", arm, views=False)
    assert demonstrate(env, 0)[2]["success"]
    env.close()


@pytest.mark.slow
@pytest.mark.parametrize("level", ["easy", "hard"])
@pytest.mark.parametrize("cell", [f"{cell.task}-{cell.arm}" for cell in cells()][::3])
def test_cells_of_the_suite_succeed_on_both_levels(cell: str, level: str) -> None:
    env = SimEnv(*cell.split("-"), level=level, views=False)
    results = [demonstrate(env, seed, "eval")[2]["success"] for seed in range(4)]
    env.close()
    assert sum(results) >= 3


def test_commands_are_smooth_finite_and_leave_the_arm_little_behind() -> None:
    env = SimEnv("Stack", "Kinova3", views=False)
    frames, lines, info = demonstrate(env, 3)
    assert info["success"] and np.isfinite(frames).all()
    assert not frames[:, ~env.mask_D].any()
    path = frames[:, POSITION]
    assert np.linalg.norm(np.diff(path, axis=0), axis=1).max() < 0.06, "below the speed that the environment follows"
    assert np.linalg.norm(np.diff(path, n=2, axis=0), axis=1).max() < 0.02, "no jolts"
    assert set(np.unique(frames[:, GRIPPER])) <= {0.0, 0.25, 0.5, 0.75, 1.0}
    assert list(dict.fromkeys(lines)) == list(env.subtasks)
    env.close()


def test_asking_twice_before_a_step_gives_the_same_goal() -> None:
    env = SimEnv("Lift", "Panda", views=False)
    env.reset(seed=0)
    expert = env.expert()
    first = expert.goal()
    assert np.array_equal(first, expert.goal())
    env.step(first[None])
    assert not np.array_equal(first, expert.goal())
    env.close()


def test_demonstrations_are_not_one_trajectory() -> None:
    env = SimEnv("Lift", "Panda", views=False)
    demonstrations = [demonstrate(env, seed)[0] for seed in range(4)]
    env.close()
    assert len({len(frames) for frames in demonstrations}) >= 3
    heights = [frames[:, POSITION.start + 2].max().round(3) for frames in demonstrations]
    assert len(set(heights)) >= 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "task",
    [
        "Stack",
        "PickPlace",
        "Press",
        pytest.param("Turn", marks=pytest.mark.xfail(reason="4 of 6 on 2026-11-24: the lever must be let go of")),
        "Insert",
    ],
)
def test_a_replay_survives_the_errors_of_a_tokenizer(task: str) -> None:
    """Recorded commands with 3 mm and .5 degrees of error: the tasks leave that much room."""
    env, won, tried = SimEnv(task, "XArm7", views=False), 0, 0
    for seed in range(6):
        frames, _, info = demonstrate(env, seed)
        if not info["success"]:
            continue
        tried += 1
        env.reset(seed=seed)
        rng = np.random.default_rng(seed)
        for frame_D in [*frames, *[frames[-1]] * 4]:
            pose, gripper = pose_from_frame(frame_D)
            turn = rotation_from_rotvec(rng.normal(0, np.radians(0.5) / np.sqrt(3), 3))
            noisy = Pose(pose.position_m + rng.normal(0, 0.003 / np.sqrt(3), 3), turn @ pose.rotation)
            *_, terminated, _, info = env.step(frame_from_pose(noisy, gripper)[None])
            if terminated:
                break
        won += info["success"]
    env.close()
    assert tried >= 5 and won >= 0.8 * tried


def test_geometry_agrees_with_the_rotations_of_actions() -> None:
    import torch

    from xtok.actions.rotation import matrix_from_rotation6d, matrix_from_rotvec, rotation6d_from_matrix

    rng = np.random.default_rng(0)
    for scale in (1e-9, 0.1, 1.0, 3.0):
        rotvec = rng.normal(size=3)
        rotvec *= scale / np.linalg.norm(rotvec)
        rotation = rotation_from_rotvec(rotvec)
        assert np.allclose(rotation, matrix_from_rotvec(torch.from_numpy(rotvec)).numpy(), atol=1e-9)
        assert np.allclose(rotvec_from_rotation(rotation), rotvec, atol=1e-9)
        frame = frame_from_pose(Pose(rng.normal(size=3), rotation), 0.3)
        sixth = torch.from_numpy(frame[13:19])
        assert np.allclose(rotation6d_from_matrix(torch.from_numpy(rotation)), sixth)
        assert np.allclose(matrix_from_rotation6d(sixth).numpy(), pose_from_frame(frame)[0].rotation)
    half = rotation_from_rotvec(np.array([0.0, np.pi, 0.0]))
    assert np.allclose(np.abs(rotvec_from_rotation(half)), [0, np.pi, 0])
