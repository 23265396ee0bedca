"""HDF5 of robosuite 1.4 and later, robomimic and LIBERO: what is there is read, what is not is said, never KeyError."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from reader_kit import quaternions
from test_data_formats import SAWYER, sawyer_states
from xtok.actions.layout import ARMS26, JOINTS
from xtok.actions.rotation import matrix_from_quaternion, rotation6d_from_matrix
from xtok.data import open_dataset, open_source

torch = pytest.importorskip("torch")
PANDA = {"env_name": "NutAssemblySquare", "type": 1, "env_kwargs": {"robots": ["Panda"], "control_freq": 20}}
OBS = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos", "robot0_joint_pos", "object")
WIDTHS = {"pos": 3, "quat": 4, "gripper_qpos": 2, "joint_pos": 7, "object": 14, "ori": 3, "states": 2}


def column(name: str, N: int, seed: int) -> np.ndarray:
    width = 7 if name.endswith("joint_states") else next(w for key, w in WIDTHS.items() if name.endswith(key))
    width = 7 if "joint_pos" in name else width
    if "quat" in name:
        return np.roll(quaternions(N, seed), -1, axis=1)  # x, y, z, w
    if "gripper" in name:
        return np.stack([np.linspace(0.04, 0, N), np.linspace(-0.04, 0, N)], axis=1)
    return np.cumsum(np.random.default_rng(seed).normal(0, 0.01, (N, width)), axis=0)


def write_robomimic(
    root: Path,
    obs: tuple[str, ...] = OBS,
    lengths: tuple[int, ...] = (20, 12, 15),
    file: str = "low_dim_v141.hdf5",
    demo: dict[str, Any] | None = None,
    pictures: bool = True,
    **attributes: Any,
) -> Path:
    """attributes: of `data`, as JSON unless they are texts (default: env_args of a Panda)."""
    root.mkdir(parents=True, exist_ok=True)
    with h5py.File(root / file, "w") as archive:
        data = archive.create_group("data")
        for key, value in (attributes or {"env_args": PANDA}).items():
            data.attrs[key] = value if isinstance(value, str | bytes) else json.dumps(value)
        for i, N in enumerate(lengths):
            group = data.create_group(f"demo_{i}")
            group.attrs["num_samples"] = N
            for key, value in (demo or {}).items():
                group.attrs[key] = value if isinstance(value, str) else json.dumps(value)
            group["actions"] = np.random.default_rng(i).uniform(-1, 1, (N, 7))
            group["states"] = np.random.default_rng(i).normal(0, 1, (N, 45))
            group["rewards"] = group["dones"] = np.zeros(N)
            for name in obs:
                group[f"obs/{name}"] = group[f"next_obs/{name}"] = column(name, N, i)
            if pictures:
                group["obs/agentview_image"] = np.full((N, 8, 6, 3), 10 * i, dtype=np.uint8)
        archive["mask/train"] = np.array([b"demo_0", b"demo_2"])
        archive["mask/valid"] = np.array([b"demo_1"])
    return root


@pytest.mark.parametrize("file", ["low_dim_v141.hdf5", "demo.hdf5", "image.hdf5"])
def test_poses_of_robomimic(tmp_path: Path, file: str) -> None:
    dataset = open_dataset(write_robomimic(tmp_path / "square", file=file))
    assert (dataset.layout, dataset.embodiment, dataset.control_hz) == (ARMS26, "none:robosuite_panda", 20.0)
    assert dataset.episode_indices == (0, 1, 2) and [len(episode) for episode in dataset] == [20, 12, 15]
    episode = dataset[1]
    assert (episode.instruction, episode.action_source) == ("nut assembly square", "achieved")
    np.testing.assert_allclose(episode.absolute_ND[:, 10:13], column("pos", 12, 1), atol=1e-6)
    matrix = matrix_from_quaternion(torch.from_numpy(quaternions(12, 1)))
    np.testing.assert_allclose(episode.absolute_ND[:, 13:19], rotation6d_from_matrix(matrix).numpy(), atol=1e-6)
    np.testing.assert_allclose(episode.absolute_ND[:, 19], np.linspace(1, 0, 12), atol=1e-6)
    assert np.flatnonzero(episode.mask_D).tolist() == list(range(10, 20))
    assert episode.videos["agentview_image"].frames([3]).mean() == 10


def test_what_is_not_read_is_said(tmp_path: Path) -> None:
    source = open_source(write_robomimic(tmp_path))
    assert {name: feature.width for name, feature in source.features.items()} == {
        "actions": 7, "obs/object": 14, "obs/robot0_eef_pos": 3, "obs/robot0_eef_quat": 4, "obs/robot0_gripper_qpos": 2,
        "obs/robot0_joint_pos": 7,
    }  # fmt: skip
    assert source.remarks == (
        "not read of each demonstration: dones, next_obs, rewards, states",
        "the groups of mask/ (train, valid) are not used: every fifth is held out",
    )


def test_joints_and_a_mapping(tmp_path: Path) -> None:
    root = write_robomimic(tmp_path / "set")
    episode = open_dataset(root, layout="joints")[2]
    assert episode.layout == JOINTS and episode.mask_D.sum() == 7
    np.testing.assert_allclose(episode.absolute_ND[:, :7], column("joint_pos", 15, 2), atol=1e-6)
    (tmp_path / "m.yaml").write_text('layout: joints\njoints:\n  - {from: "obs/object[0:3]", unit: native}\n')
    assert open_dataset(root, mapping=tmp_path / "m.yaml")[0].mask_D.sum() == 3


def test_libero_and_its_words(tmp_path: Path) -> None:
    obs = ("ee_pos", "ee_ori", "gripper_states", "joint_states")
    said = {"language_instruction": "put the bowl on the plate"}
    root = write_robomimic(tmp_path / "libero", obs, file="put_the_bowl_demo.hdf5", env_args=PANDA, problem_info=said)
    episode = open_dataset(root)[0]
    assert episode.instruction == "put the bowl on the plate" and episode.mask_D.sum() == 10
    words = write_robomimic(tmp_path / "words", demo={"ep_meta": {"lang": "open the drawer"}})
    assert open_dataset(words)[0].instruction == "open the drawer"


def test_a_gripper_whose_ends_are_unknown_is_left_out_and_told(tmp_path: Path) -> None:
    root = write_robomimic(tmp_path, env_info={"robots": "IIWA", "control_freq": 20}, env="Lift")
    with pytest.warns(UserWarning, match="ends of the gripper of robosuite_IIWA are not known"):
        dataset = open_dataset(root)
    assert dataset[0].mask_D.sum() == 9 and dataset[0].instruction == "lift"


def test_two_robots_are_not_guessed_to_be_left_and_right(tmp_path: Path) -> None:
    root = write_robomimic(tmp_path, (*OBS, *(name.replace("robot0", "robot1") for name in OBS[:4])))
    with pytest.warns(UserWarning, match="which of its two robots is the left one is not stored"):
        dataset = open_dataset(root)
    assert dataset.layout == JOINTS and dataset[0].mask_D.sum() == 14
    with pytest.raises(ValueError, match=r"two robots, and which is the left one is not stored: write a mapping"):
        open_dataset(root, layout="arms26")


def test_one_robot_with_two_arms_says_which_is_which(tmp_path: Path) -> None:
    obs = tuple(f"robot0_{side}_{name}" for side in ("left", "right") for name in ("eef_pos", "eef_quat"))
    episode = open_dataset(write_robomimic(tmp_path, obs))[0]
    assert np.flatnonzero(episode.mask_D).tolist() == [*range(9), *range(10, 19)]


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"env_args": "not json"}, "env_args is no JSON object"),
        ({"env_args": [1]}, "env_args is no JSON object"),
        ({"env_args": {"env_kwargs": {"robots": 5}}}, r"env_args, env_kwargs: robots is 5; expected a robot's name"),
        ({"env_args": {"env_kwargs": {"control_freq": "x"}}}, "control_freq is 'x'; expected the control rate"),
        ({"env_args": {"env_kwargs": {"control_freq": -1}}}, "control_freq is -1; expected the control rate"),
        ({"env_args": {"env_kwargs": 3}}, r"env_kwargs is 3; expected an object"),
        ({"env_args": {"env_name": 3}}, r"env_name is 3; expected a text"),
        ({"env": "Lift"}, r"states no control rate.*xtok inspect"),
        ({"env_args": {"env_name": "Lift"}}, r"states no control rate.*xtok inspect"),
    ],
)
def test_attributes_that_cannot_be(tmp_path: Path, attributes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_dataset(write_robomimic(tmp_path, **attributes))


def test_demonstrations_that_cannot_be_read(tmp_path: Path) -> None:
    root = write_robomimic(tmp_path / "odd", lengths=(9,) * 6)
    with h5py.File(root / "low_dim_v141.hdf5", "a") as archive:
        del archive["data/demo_1/obs/robot0_eef_pos"]
        archive["data/demo_2/obs/robot0_eef_pos"][4, 1] = np.nan
        del archive["data/demo_3/obs"]
        del archive["data/demo_4/obs/robot0_eef_quat"]
        archive["data/demo_4/obs/robot0_eef_quat"] = np.ones((5, 4)) / 2
    dataset = open_dataset(root)
    for position, message in (
        (1, "eef_pos' has nothing"),
        (2, "row 4 is nan"),
        (3, "has nothing"),
        (4, "differ in length"),
    ):
        with pytest.raises(ValueError, match=rf"odd, episode {position} .*{message}"):
            dataset[position]
    kept = open_dataset(root, skip_bad=True)
    assert kept.episode_indices == (0, 5) and len(kept.left_out) == 4
    with pytest.raises(ValueError, match="nothing to read"):
        open_dataset(write_robomimic(tmp_path / "none", lengths=()))
    unknown = write_robomimic(tmp_path / "unknown", ("object",))
    with pytest.raises(ValueError, match=r"has actions, obs/object, none of which xtok knows.*xtok inspect"):
        open_dataset(unknown)
    with pytest.raises(ValueError, match="is a file; give the folder"):
        open_dataset(unknown / "low_dim_v141.hdf5")


def test_links_to_other_files_are_not_followed(tmp_path: Path) -> None:
    root = write_robomimic(tmp_path / "set")
    with h5py.File(tmp_path / "secret.h5", "w") as other:
        other["a"] = np.zeros((20, 3))
    with h5py.File(root / "low_dim_v141.hdf5", "a") as archive:
        archive["data/demo_0/obs/secret"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "a")
    assert "obs/secret" not in open_source(root).features


@pytest.mark.parametrize("grip", ["grip_site"])
@pytest.mark.parametrize("about", [{"env_info": {"robots": ["Sawyer"]}, "env": "Lift"},
                                   {"env_args": {"env_name": "Lift", "env_kwargs": {"robots": "Sawyer"}}}])  # fmt: skip
def test_robosuite_with_the_model_in_an_attribute(tmp_path: Path, grip: str, about: dict) -> None:
    tmp_path.mkdir(exist_ok=True)
    with h5py.File(tmp_path / "demo.hdf5", "w") as archive:
        data = archive.create_group("data")
        for key, value in about.items():
            data.attrs[key] = value if isinstance(value, str) else json.dumps(value)
        group = data.create_group("demo_1")
        group.attrs["model_file"] = SAWYER
        group["states"], group["actions"] = sawyer_states(), np.zeros((101, 8))
    dataset = open_dataset(tmp_path)
    assert (dataset.embodiments, dataset.control_hz, len(dataset[0])) == (("sawyer",), 20.0, 21)
    assert dataset[0].instruction == "lift"
    angle = np.arange(21) / 20
    np.testing.assert_allclose(dataset[0].absolute_ND[:, 10], np.cos(angle), atol=1e-6)


def test_the_gripper_names_of_robosuite_1_5(tmp_path: Path) -> None:
    model = SAWYER.replace('name="base"', 'name="robot0_base"').replace("grip_site", "gripper0_right_grip_site")
    for side, finger in (("l", "1"), ("r", "2")):
        model = model.replace(f"r_gripper_{side}_finger_joint", f"gripper0_right_finger_joint{finger}")
    with h5py.File(tmp_path / "demo.hdf5", "w") as archive:
        data = archive.create_group("data")
        data.attrs["env"], data.attrs["env_info"] = "Lift", json.dumps({"robots": ["Panda"]})
        group = data.create_group("demo_1")
        group.attrs["model_file"], group["states"] = model, sawyer_states()
    episode = open_dataset(tmp_path)[0]
    assert episode.embodiment == "panda" and episode.mask_D.sum() == 10
