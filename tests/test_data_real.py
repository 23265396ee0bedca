"""A census of the real data: episodes, frames, channels, rates, and values a robot can have.

# N frames, D channels
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from xtok.actions.embodiments import get_embodiment
from xtok.actions.layout import ARMS26
from xtok.actions.rotation import matrix_from_rotation6d
from xtok.data import Episode, EpisodeDataset, count_chunks, iter_chunks, open_dataset, select
from xtok.data.readers.robosuite_hdf5 import ROBOTS

pytestmark = pytest.mark.realdata

REACH_M = {"g1_inspire": 0.8, "panda": 0.95, "sawyer": 1.2, "baxter": 1.3}  # from the base frame, generously


@pytest.mark.parametrize(
    ("name", "layout", "embodiment", "episodes", "frames", "valid", "hz"),
    [
        ("unitree-g1-inspire", "arms26", "g1_inspire", 100, 35_965, 20, 30.0),
        ("unitree-g1-inspire", "joints", "g1_inspire", 100, 35_965, 26, 30.0),
        ("dobot-cr5-banana", "joints", "cr5", 81, 18_039, 7, 10.0),
        ("so101-pick-place-tape", "joints", "so101", 50, 14_954, 6, 30.0),
        ("reachy2-apple-storage", "joints", "reachy2", 3, 899, 19, 30.0),
        ("sim-gr1-picknplace", "joints", "gr1", 5, 2_096, 44, 20.0),
        ("sim-adroit-door", "joints", "adroit", 25, 6_729, 28, 100.0),
    ],
)
def test_census(
    shared_data: Path, name: str, layout: str, embodiment: str, episodes: int, frames: int, valid: int, hz: float
) -> None:
    dataset = open_dataset(shared_data / name, layout)
    assert (dataset.layout.name, dataset.embodiment, dataset.control_hz) == (layout, embodiment, hz)
    everything = list(dataset)
    assert (len(everything), sum(map(len, everything))) == (episodes, frames)
    assert {int(episode.mask_D.sum()) for episode in everything} == {valid}
    assert all(not episode.absolute_ND[:, ~episode.mask_D].any() for episode in everything)
    assert all(episode.instruction for episode in everything)


def test_default_layout_takes_poses_where_there_are_any(shared_data: Path) -> None:
    assert open_dataset(shared_data / "unitree-g1-inspire").layout.name == "arms26"
    assert open_dataset(shared_data / "dobot-cr5-banana").layout.name == "joints"


def test_teleoperation_holds_three_robots_in_a_fixed_order(shared_data: Path) -> None:
    dataset = open_dataset(shared_data / "sim-robosuite-teleop")
    assert dataset.embodiments == ("baxter", "panda", "sawyer")
    assert [episode.embodiment for episode in dataset] == ["baxter"] * 4 + ["sawyer"] * 8 + ["panda"] * 6
    assert len(open_dataset(shared_data / "sim-robosuite-teleop" / "0.3.0" / "SawyerLift")) == 2
    assert [int(episode.mask_D.sum()) for episode in dataset] == [20, 20, 18, 18] + [10] * 13 + [9]
    assert sum(len(episode) for episode in dataset if episode.embodiment == "panda") == 3_897
    assert [episode.index for episode in select(dataset, "heldout")] == [4, 9, 14]


@pytest.mark.parametrize("name", ["unitree-g1-inspire", "sim-robosuite-teleop"])
def test_poses_are_ones_that_the_robot_can_take(shared_data: Path, name: str) -> None:
    for episode in open_dataset(shared_data / name, "arms26"):
        for side in ("left", "right"):
            if episode.mask_D[ARMS26.slices[f"{side}_position"]].all():
                check_arm(episode, side)


@pytest.mark.parametrize(
    ("name", "model"), [("panda", "1.0.0/lift/panda"), ("sawyer", "0.3.0/SawyerLift"), ("baxter", "0.3.0/BaxterLift")]
)
def test_gripper_conventions_are_the_limits_of_the_fingers(shared_data: Path, name: str, model: str) -> None:
    text = (shared_data / "sim-robosuite-teleop" / model / "models/model_1.xml").read_text()
    for first, second in ROBOTS[name].fingers.values():
        (low_1, high_1), (low_2, high_2) = (joint_range(text, joint) for joint in (first, second))
        opening = get_embodiment(name).gripper_opening(np.array([low_1 - high_2, high_1 - low_2]))
        np.testing.assert_allclose(opening, [0, 1], atol=1e-6)


def joint_range(mjcf: str, name: str) -> tuple[float, float]:
    (joint,) = [joint for joint in ElementTree.fromstring(mjcf).iter("joint") if joint.get("name") == name]
    low, high = map(float, joint.attrib["range"].split())
    return low, high


def check_arm(episode: Episode, side: str) -> None:
    position_m = episode.absolute_ND[:, ARMS26.slices[f"{side}_position"]]
    assert (np.linalg.norm(position_m, axis=1) < REACH_M[episode.embodiment]).all()
    speed_m_s = np.linalg.norm(np.diff(position_m, axis=0), axis=1) * episode.control_hz
    assert speed_m_s.max() < 2.0
    rotation = torch.from_numpy(episode.absolute_ND[:, ARMS26.slices[f"{side}_rotation"]])
    columns = matrix_from_rotation6d(rotation)[..., :2]
    torch.testing.assert_close(columns.transpose(-1, -2).flatten(1), rotation, atol=1e-5, rtol=0)  # orthonormal already
    gripper = episode.absolute_ND[:, ARMS26.slices[f"{side}_gripper"]]
    assert gripper.min() > -0.3 and gripper.max() < 1.1  # simulated fingers overshoot their limits; nothing is clipped


def test_gr1_keeps_its_five_real_tasks_and_its_one_real_camera(shared_data: Path) -> None:
    dataset = open_dataset(shared_data / "sim-gr1-picknplace")
    assert all("place it in the plate" in episode.instruction for episode in dataset)
    assert {camera for episode in dataset for camera in episode.videos} == {"observation.images.ego_view"}


def test_cr5_time_stamps_jitter_around_the_nominal_rate(shared_data: Path) -> None:
    episode = open_dataset(shared_data / "dobot-cr5-banana")[0]
    steps_s = np.diff(episode.timestamps_s)
    assert steps_s.max() > 0.2 and abs(np.median(steps_s) - 0.1) < 0.01


def test_chunks_of_a_whole_set(shared_data: Path) -> None:
    episodes = select(open_dataset(shared_data / "dobot-cr5-banana"), "heldout")
    assert len(episodes) == 16
    assert sum(map(len, iter_chunks(episodes, 64))) == count_chunks(episodes, 64) == sum(len(e) - 64 for e in episodes)


def test_sets_with_too_few_episodes_have_nothing_held_out(shared_data: Path) -> None:
    dataset: EpisodeDataset = open_dataset(shared_data / "reachy2-apple-storage")
    with pytest.raises(ValueError, match=r"is empty; use 'all' .*--split all"):
        select(dataset, "heldout")
