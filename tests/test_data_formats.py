"""Arrow streams, robosuite demonstrations and the Adroit npz, written small, and what their files can get wrong.

# S stored states, N frames
"""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pytest

from xtok.actions.layout import ARMS26, JOINTS
from xtok.data import open_dataset
from xtok.data.readers.registry import find_reader
from xtok.data.readers.robosuite_hdf5 import resample

SAWYER = """
<mujoco><compiler angle="radian"/><worldbody>
  <body name="base" pos="0 0 1" quat="0.7071067811865476 0 0 0.7071067811865476"><body name="arm">
    <joint name="right_j0" axis="0 0 1"/><geom type="mesh" mesh="absent"/><site name="grip_site" pos="1 0 0"/>
    <body name="l"><joint name="r_gripper_l_finger_joint" type="slide" axis="0 1 0" range="-0.0115 0.020833"/></body>
    <body name="r"><joint name="r_gripper_r_finger_joint" type="slide" axis="0 1 0" range="-0.020833 0.0115"/></body>
  </body></body>
  <body name="cube"><joint name="cube" type="free"/></body>
</worldbody></mujoco>
"""


def sawyer_states(count: int = 101) -> np.ndarray:
    """[S, 1 + 10 + 9]: .01 s apart, the arm turns at 1 rad/s, the gripper opens from closed to open."""
    time_s = np.arange(count) * 0.01
    states = np.zeros((count, 20))
    opening = np.linspace(0, 1, count)
    states[:, 0], states[:, 1] = 5 + time_s, time_s
    states[:, 2], states[:, 3] = -0.0115 + 0.032333 * opening, 0.0115 - 0.032333 * opening
    return states


def write_demo(
    folder: Path, states: np.ndarray, env: str = "SawyerNutAssembly", model: str = SAWYER, number: int = 1
) -> Path:
    (folder / "models").mkdir(parents=True, exist_ok=True)
    (folder / "models" / "model_1.xml").write_text(model)
    with h5py.File(folder / "demo.hdf5", "a") as archive:
        archive.require_group("data").attrs["env"] = env
        group = archive["data"].create_group(f"demo_{number}")
        group.attrs["model_file"] = "model_1.xml"
        group["states"] = states
    return folder


def test_robosuite_gives_poses_in_the_base_frame_at_20_hz(tmp_path: Path) -> None:
    dataset = open_dataset(write_demo(tmp_path / "task", sawyer_states()).parent)
    episode = dataset[0]
    assert (dataset.embodiments, dataset.control_hz, dataset.layout) == (("sawyer",), 20.0, ARMS26)
    assert episode.instruction == "nut assembly" and len(episode) == 21
    angle = np.arange(21) / 20
    expected = np.stack([np.cos(angle), np.sin(angle), np.zeros(21)], axis=1)  # the base's own turn and height drop out
    np.testing.assert_allclose(episode.absolute_ND[:, 10:13], expected, atol=1e-6)
    np.testing.assert_allclose(episode.absolute_ND[:, 13:16], expected, atol=1e-6)  # first column of the rotation
    np.testing.assert_allclose(episode.absolute_ND[:, 19], np.linspace(0, 1, 21), atol=1e-4)
    np.testing.assert_allclose(episode.timestamps_s, angle)
    assert np.flatnonzero(episode.mask_D).tolist() == list(range(10, 20))


def test_robot_without_fingers_has_no_gripper_channel(tmp_path: Path) -> None:
    model = SAWYER.replace("r_gripper_l_finger_joint", "a").replace("r_gripper_r_finger_joint", "b")
    episode = open_dataset(write_demo(tmp_path, sawyer_states(), model=model))[0]
    assert not episode.mask_D[19] and episode.mask_D.sum() == 9 and (episode.absolute_ND[:, 19] == 0).all()


def test_demonstrations_are_sorted_by_path_and_number(tmp_path: Path) -> None:
    for number, count in ((10, 61), (2, 41)):
        write_demo(tmp_path / "b", sawyer_states(count), number=number)
    write_demo(tmp_path / "a", sawyer_states(81))
    assert [len(episode) for episode in open_dataset(tmp_path)] == [17, 9, 13]


def test_resampling_survives_repeats_and_uneven_steps() -> None:
    time_s = np.array([0.01, 0.02, 0.02, 0.044, 0.1, 0.112, 0.112, 0.17])
    grid_s, values = resample(time_s, np.stack([3 * time_s, -time_s], axis=1), "here")
    np.testing.assert_allclose(grid_s, [0, 0.05, 0.1, 0.15])
    np.testing.assert_allclose(values, np.stack([3 * (grid_s + 0.01), -(grid_s + 0.01)], axis=1), atol=1e-12)


def test_resampled_rotations_agree_with_slerp(tmp_path: Path) -> None:
    spatial = pytest.importorskip("scipy.spatial.transform")
    states = sawyer_states()
    kept = np.r_[0, np.sort(np.random.default_rng(0).choice(np.arange(1, 100), 60, replace=False)), 100]
    episode = open_dataset(write_demo(tmp_path, states[kept]))[0]
    turns = spatial.Rotation.from_euler("z", states[kept, 1:2])
    slerped = spatial.Slerp(states[kept, 0], turns)(5 + episode.timestamps_s).as_matrix()
    np.testing.assert_allclose(
        episode.absolute_ND[:, 13:19], slerped[:, :, :2].transpose(0, 2, 1).reshape(-1, 6), atol=1e-6
    )


def test_robosuite_files_that_cannot_be_read(tmp_path: Path) -> None:
    broken = sawyer_states()
    broken[30, 2] = np.nan
    with pytest.raises(ValueError, match="demo_1: column 'states', row 30 is not finite"):
        open_dataset(write_demo(tmp_path / "nan", broken))[0]
    backwards = sawyer_states()
    backwards[50:, 0] -= 2
    with pytest.raises(ValueError, match="row 50: time runs backwards"):
        open_dataset(write_demo(tmp_path / "time", backwards))[0]
    with pytest.raises(ValueError, match=r"its model wants 1 \+ 10 and more"):
        open_dataset(write_demo(tmp_path / "width", sawyer_states()[:, :8]))[0]
    with pytest.raises(ValueError, match="robot 'Lift'; expected one of"):
        open_dataset(write_demo(tmp_path / "robot", sawyer_states(), env="Lift"))
    whole = write_demo(tmp_path / "cut", sawyer_states()) / "demo.hdf5"
    whole.write_bytes(whole.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"cannot read .*looks truncated"):
        open_dataset(whole.parent)
    missing = write_demo(tmp_path / "model", sawyer_states())
    (missing / "models" / "model_1.xml").unlink()
    with pytest.raises(ValueError, match="no robot model at"):
        open_dataset(missing)[0]


@pytest.mark.parametrize(
    ("arguments", "message"), [({"layout": "joints"}, "gives poses"), ({"embodiment": "panda"}, "not of")]
)
def test_robosuite_opened_as_what_it_is_not(tmp_path: Path, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_dataset(write_demo(tmp_path, sawyer_states()), **arguments)


def write_stream(
    folder: Path, state: np.ndarray, name: str = "pick_place_tape", steps: tuple[int, ...] = (12, 18)
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    frames = np.concatenate([np.arange(count) for count in steps])
    columns = {
        "observation.state": pa.array(state.tolist()),
        "timestamp": frames / 30,
        "episode_index": np.repeat(np.arange(len(steps)), steps),
    }
    table = pa.table(columns)
    with (
        pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema) as writer,
    ):
        writer.write_table(table)
    (folder / "dataset_info.json").write_text(json.dumps({"dataset_name": name}))
    return folder


def test_known_arrow_stream_opens_as_its_robot(tmp_path: Path) -> None:
    state = np.random.default_rng(0).uniform(0, 100, (30, 6))
    dataset = open_dataset(write_stream(tmp_path, state))
    assert (dataset.embodiment, dataset.control_hz, dataset.layout) == ("so101", 30.0, JOINTS)
    first, second = dataset
    assert (len(first), len(second), second.index) == (12, 18, 1)
    np.testing.assert_allclose(second.absolute_ND[:, :5], state[12:, :5], rtol=1e-6)
    np.testing.assert_allclose(second.absolute_ND[:, JOINTS.slices["gripper"].start], state[12:, 5] / 100, rtol=1e-6)


def test_unknown_arrow_stream_opens_as_joints(tmp_path: Path) -> None:
    dataset = open_dataset(write_stream(tmp_path, np.zeros((30, 6)), name="Fold Towels"))
    assert dataset.embodiment == "none:fold_towels" and dataset[0].mask_D.sum() == 6


def test_arrow_streams_that_cannot_be_read(tmp_path: Path) -> None:
    state = np.zeros((30, 6))
    state[14, 3] = np.inf
    with pytest.raises(ValueError, match=r"episode 1, column observation.state\[3\] \(wrist_flex\), row 2 is inf"):
        open_dataset(write_stream(tmp_path / "inf", state))[1]
    with pytest.raises(ValueError, match="has 7 values; so101 has 6"):
        open_dataset(write_stream(tmp_path / "width", np.zeros((30, 7))))
    with pytest.raises(ValueError, match="timestamps do not advance"):
        open_dataset(write_stream(tmp_path / "time", np.zeros((2, 6)), steps=(1, 1)))
    cut = write_stream(tmp_path / "cut", np.zeros((30, 6)))
    file = cut / "data-00000-of-00001.arrow"
    file.write_bytes(file.read_bytes()[:700])
    with pytest.raises(ValueError, match=r"cannot read .*looks truncated"):
        open_dataset(cut)
    nameless = write_stream(tmp_path / "nameless", np.zeros((30, 6)))
    (nameless / "dataset_info.json").unlink()
    with pytest.raises(ValueError, match="cannot read the set's name"):
        open_dataset(nameless)


def write_npz(folder: Path, *actions: np.ndarray) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "demos.npz", **{f"actions_{i:02d}": array for i, array in enumerate(actions)})
    return folder


def test_adroit_commands_open_as_joints(tmp_path: Path) -> None:
    actions = np.random.default_rng(0).uniform(-1, 1, (20, 28))
    dataset = open_dataset(write_npz(tmp_path, actions, actions[:9]))
    assert (dataset.embodiment, dataset.control_hz, len(dataset)) == ("adroit", 100.0, 2)
    assert dataset[0].action_source == "commanded"
    np.testing.assert_allclose(dataset[0].absolute_ND[:, :28], actions, rtol=1e-6)


def test_adroit_files_that_cannot_be_read(tmp_path: Path) -> None:
    broken = np.zeros((20, 28))
    broken[7, 5] = np.nan
    with pytest.raises(ValueError, match=r"episode 0, column actions\[5\], row 7 is nan"):
        open_dataset(write_npz(tmp_path / "nan", broken))[0]
    with pytest.raises(ValueError, match=r"shape \(20, 24\); expected \[N, 28\]"):
        open_dataset(write_npz(tmp_path / "width", np.zeros((20, 24))))[0]
    with pytest.raises(ValueError, match="joint commands only"):
        open_dataset(write_npz(tmp_path / "layout", np.zeros((20, 28))), layout="arms26")
    cut = write_npz(tmp_path / "cut", np.zeros((20, 28))) / "demos.npz"
    cut.write_bytes(cut.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"cannot read .*looks truncated"):
        open_dataset(cut.parent)


@pytest.mark.parametrize(
    ("files", "reader"),
    [
        ("meta/info.json a.arrow", "LeRobot"),
        ("a.arrow demo.hdf5", "ArrowStream"),
        ("task/demo.hdf5 s.tfrecord-0 episode_1.hdf5", "Robosuite"),
        ("s.tfrecord-0 episode_1.hdf5 a.npz", "Rlds"),
        ("1.0.0/s.tfrecord-0 data/episode_1.hdf5 a.npz", "RoboTwin"),
        ("1.0.0/s.tfrecord-0 a.npz", "Rlds"),
        ("a.npz any.hdf5", "AdroitNpz"),
    ],
)
def test_the_plainest_sign_tells_the_format(tmp_path: Path, files: str, reader: str) -> None:
    for name in files.split():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert type(find_reader(tmp_path)).__name__ == reader


def test_folders_with_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no folder at .*expected a LeRobot"):
        open_dataset(tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"nothing to read .*notes.txt.*expected a LeRobot"):
        open_dataset(tmp_path)
    (tmp_path / "mine" / "meta").mkdir(parents=True)
    (tmp_path / "mine" / "meta" / "info.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds 1 data sets \(mine\); open one of them"):
        open_dataset(tmp_path)
    with pytest.raises(ValueError, match="unknown layout 'arms14'"):
        open_dataset(write_npz(tmp_path / "npz", np.zeros((20, 28))), layout="arms14")
