"""The ten lines of README.md, run as they stand there on folders whose robots no registry knows."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from folders import STATE
from proposal_kit import XYZ, XYZW, joints, opening, pose, state, write

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
FOLDER = '"path/to/lerobot/folder"'


def ten_lines() -> str:
    """The code under the heading, without its indentation."""
    section = README.split("## Your own data in ten lines", 1)[1]
    block = re.search(r"\n\n((?:(?:    .*)?\n)+)", section)
    assert block is not None
    code = textwrap.dedent(block[1]).strip("\n")
    assert code.startswith("import xtok") and code.count(FOLDER) == 1
    assert 8 <= sum(bool(line.strip()) for line in code.splitlines()) <= 11
    return code


def run(folder: Path) -> dict[str, Any]:
    """What the ten lines leave behind: dataset, codes and actions among it."""
    names: dict[str, Any] = {}
    exec(compile(ten_lines().replace(FOLDER, repr(str(folder))), "README.md", "exec"), names)
    return names


def clear_motors(root: Path) -> Path:
    motors = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll"]
    return write(
        root, lambda r: {STATE: joints(r, 5), "action": joints(r, 5)}, {STATE: motors, "action": motors}, episodes=10
    )


def two_arms(root: Path) -> Path:
    names = [f"{side}_{column}" for side in ("left", "right") for column in (*XYZ, *XYZW, "gripper_open")]
    return write(root, lambda r: state(pose(r), opening(r), pose(r), opening(r)), {STATE: names}, episodes=10)


def joints_and_gripper(root: Path) -> Path:
    names = [*(f"joint_{i}.pos" for i in range(1, 7)), "gripper.pos"]
    return write(root, lambda r: state(joints(r, 6, 60), opening(r, 0, 100)), {STATE: names}, episodes=10, v3=True)


@pytest.mark.parametrize(
    ("make", "layout", "channels"),
    [(clear_motors, "joints", 5), (two_arms, "arms26", 20), (joints_and_gripper, "joints", 7)],
)
def test_the_ten_lines_run_on_a_robot_that_nobody_registered(
    tmp_path: Path, make: Any, layout: str, channels: int
) -> None:
    with pytest.warns(UserWarning, match="robot 'nobodys_arm' is not registered"):
        left = run(_renamed(make(tmp_path / "set")))
    dataset, actions, codes = left["dataset"], left["actions"], left["codes"]
    assert (dataset.embodiment, dataset.layout.name) == ("none:nobodys_arm", layout)
    assert codes.grid_BMQ.shape[1:] == (8, 4) and len(codes.grid_BMQ) > 0
    truth_BTD = left["chunks"].target_BTD.numpy()
    mask_D = left["chunks"].context.mask_BD[0].numpy()
    decoded = actions.absolute_BTD.numpy()
    assert int(mask_D.sum()) == channels and decoded.shape == truth_BTD.shape
    # from two levels of four, far nearer than standing still at the anchor
    still = left["chunks"].context.anchor_BD.numpy()[:, None]
    assert np.abs(decoded - truth_BTD)[..., mask_D].mean() < 0.5 * np.abs(still - truth_BTD)[..., mask_D].mean()


def _renamed(folder: Path) -> Path:
    info = folder / "meta/info.json"
    info.write_text(info.read_text().replace('"my_arm"', '"nobodys_arm"'))
    return folder


def test_the_ten_lines_ask_where_they_must(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", lambda r: state(pose(r), opening(r)), {STATE: [*XYZ, *XYZW, "gripper"]})
    with pytest.raises(ValueError, match=r"which end of gripper is open(.|\n)*open_dataset\('out/inspect/set.yaml'\)"):
        run(folder)


@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.parametrize("name", ["so101-pick-place-tape", "dobot-cr5-banana", "sim-gr1-picknplace"])
def test_the_ten_lines_run_on_real_folders(shared_data: Path, name: str) -> None:
    left = run(shared_data / name)
    assert left["codes"].grid_BMQ.shape[1:] == (8, 4) and np.isfinite(left["actions"].absolute_BTD.numpy()).all()


@pytest.mark.realdata
@pytest.mark.slow
def test_the_ten_lines_say_what_three_episodes_cannot_give(shared_data: Path) -> None:
    """Reachy2's sample has three episodes, of which none is held out."""
    with pytest.raises(ValueError, match=r"heldout.*empty"):
        run(shared_data / "reachy2-apple-storage")
