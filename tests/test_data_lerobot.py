"""LeRobot folders in three versions, the mapping of names to channels, and what real folders get wrong.

# N frames, W columns of one feature, D channels
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from folders import CAMERA, STATE, write_v21, write_v30
from xtok.actions import embodiments
from xtok.actions.embodiments import Embodiment, Kinematics, get_embodiment, register
from xtok.actions.kinematics import ForwardKinematics, bundled_urdf
from xtok.actions.layout import ARMS26, JOINTS
from xtok.data import Segment, open_dataset

WRITERS = [pytest.param(write_v21, id="v2.1"), pytest.param(write_v30, id="v3.0")]
SO101 = [
    f"{name}.pos" for name in ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]
]
POSE_NAMES = ARMS26.channel_names[10:20]


def states(*lengths: int, width: int = 4) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [{STATE: rng.uniform(-1, 1, (length, width)).astype(np.float32)} for length in lengths]


def poses(length: int) -> np.ndarray:
    state = np.random.default_rng(1).uniform(0, 1, (length, 10)).astype(np.float32)
    state[:, 3:9] = [1, 0, 0, 0, 1, 0]
    return state


def edit_info(root: Path, **entries: Any) -> None:
    """Replace entries of meta/info.json; None removes one."""
    path = root / "meta" / "info.json"
    info = {**json.loads(path.read_text()), **entries}
    path.write_text(json.dumps({key: value for key, value in info.items() if value is not None}))


def corrupt(root: Path, column: int, row: int, value: float) -> Path:
    """Overwrite one value of the state in the first parquet file."""
    path = min(root.glob("data/*/*.parquet"))
    table = pq.read_table(path)
    state = np.array(table[STATE].to_pylist(), dtype=np.float32)
    state[row, column] = value
    array = pa.FixedSizeListArray.from_arrays(pa.array(state.ravel()), state.shape[1])
    pq.write_table(table.set_column(table.column_names.index(STATE), STATE, array), path)
    return path


@pytest.mark.parametrize("write", WRITERS)
def test_unknown_robot_opens_as_joints_without_configuration(tmp_path: Path, write: Any) -> None:
    episodes = states(12, 9, 15)
    dataset = open_dataset(write(tmp_path / "mine", episodes, {STATE: ["a", "b", "c", "d"]}, robot_type="My Arm"))
    assert (dataset.layout, dataset.embodiment, dataset.control_hz) == (JOINTS, "none:my_arm", 10.0)
    assert dataset.episode_indices == (0, 1, 2) and len(dataset) == 3
    for expected, episode in zip(episodes, dataset, strict=True):
        np.testing.assert_array_equal(episode.absolute_ND[:, :4], expected[STATE])
        assert (episode.absolute_ND[:, 4:] == 0).all()
        assert np.flatnonzero(episode.mask_D).tolist() == [0, 1, 2, 3]
        assert (episode.instruction, episode.dataset, episode.action_source) == ("do it", "mine", "achieved")
        np.testing.assert_allclose(episode.timestamps_s, np.arange(len(episode)) / 10, atol=1e-6)
    assert get_embodiment(dataset.embodiment).layouts == ()


@pytest.mark.parametrize("write", WRITERS)
def test_indexing_from_the_end_slices_and_a_clear_refusal(tmp_path: Path, write: Any) -> None:
    dataset = open_dataset(write(tmp_path / "mine", states(12, 9, 15)))
    assert dataset[-1].index == 2 and [episode.index for episode in dataset[1:]] == [1, 2]
    with pytest.raises(IndexError, match="has 3 episodes; asked for 3"):
        dataset[3]


@pytest.mark.parametrize("names", [list(POSE_NAMES), [list(POSE_NAMES)], {"motors": list(POSE_NAMES)}])
def test_arms26_channel_names_open_as_poses(tmp_path: Path, names: Any) -> None:
    state = poses(10)
    dataset = open_dataset(write_v21(tmp_path, [{STATE: state}], {STATE: names}))
    assert dataset.layout == ARMS26 and dataset.embodiment == "none:my_arm"
    np.testing.assert_array_equal(dataset[0].absolute_ND[:, 10:20], state)
    assert np.flatnonzero(dataset[0].mask_D).tolist() == list(range(10, 20))


def test_the_authors_episode_keys_open_as_poses(tmp_path: Path) -> None:
    state, height = poses(10), np.full((10, 1), 0.3, dtype=np.float32)
    arrays = {
        "follow_left_ee_cartesian_pos": state[:, :3],
        "follow_left_ee_rotation_6D": state[:, 3:9],
        "follow_left_gripper": state[:, 9:],
        "observation.height": height,
    }
    episode = open_dataset(write_v21(tmp_path, [arrays]))[0]
    np.testing.assert_array_equal(episode.absolute_ND[:, :10], state)
    np.testing.assert_array_equal(episode.absolute_ND[:, ARMS26.slices["lift_height"]], height)
    assert episode.mask_D.sum() == 11 and episode.absolute_ND[:, ~episode.mask_D].any() == np.False_


def test_a_pose_feature_of_the_wrong_width_is_refused(tmp_path: Path) -> None:
    state = poses(10)
    arrays = {"follow_left_ee_cartesian_pos": state[:, :3], "follow_left_ee_rotation_6D": state[:, 3:7]}
    with pytest.raises(ValueError, match=r"'follow_left_ee_rotation_6D' has 4 columns; 'left_rotation' has 6"):
        open_dataset(write_v21(tmp_path, [arrays]))


def test_a_feature_called_height_makes_no_pose(tmp_path: Path) -> None:
    folder = write_v21(tmp_path, [{**states(10)[0], "observation.height": np.zeros((10, 3), dtype=np.float32)}])
    assert open_dataset(folder).layout == JOINTS


def test_channel_valid_masks_what_an_episode_lacks(tmp_path: Path) -> None:
    valid = np.array([[1] * 9 + [0]] * 10, dtype=np.uint8)
    episode = open_dataset(
        write_v21(tmp_path, [{STATE: poses(10), "channel_valid": valid}], {STATE: list(POSE_NAMES)})
    )[0]
    assert not episode.mask_D[ARMS26.slices["right_gripper"]].any() and episode.mask_D.sum() == 9
    assert (episode.absolute_ND[:, ARMS26.slices["right_gripper"]] == 0).all()


def test_channel_valid_may_not_change_within_an_episode(tmp_path: Path) -> None:
    valid = np.ones((10, 10), dtype=np.uint8)
    valid[4, 9] = 0
    dataset = open_dataset(write_v21(tmp_path, [{STATE: poses(10), "channel_valid": valid}], {STATE: list(POSE_NAMES)}))
    with pytest.raises(ValueError, match=r"episode 0.*'channel_valid' changes"):
        dataset[0]


def test_registered_robot_is_found_by_names_and_its_gripper_scaled(tmp_path: Path) -> None:
    (arrays,) = states(10, width=6)
    shuffled = [SO101[i] for i in (5, 0, 1, 2, 3, 4)]
    dataset = open_dataset(write_v30(tmp_path, [arrays], {STATE: shuffled}, robot_type="so101_follower"))
    assert dataset.embodiment == "so101"
    np.testing.assert_array_equal(dataset[0].absolute_ND[:, :5], arrays[STATE][:, 1:])
    np.testing.assert_allclose(dataset[0].absolute_ND[:, JOINTS.slices["gripper"].start], arrays[STATE][:, 0] / 100)


def test_gripper_that_is_only_commanded_is_read_from_the_action(tmp_path: Path) -> None:
    (arrays,) = states(10, width=6)
    arrays["action"] = np.tile(np.array([[9, 9, 9, 9, 9, 9, 1]], dtype=np.float32), (10, 1))
    names = {STATE: [f"joint_{i}" for i in range(6)], "action": [*(f"joint_{i}_vel" for i in range(6)), "gripper"]}
    episode = open_dataset(write_v21(tmp_path, [arrays], names, robot_type="cr5"))[0]
    np.testing.assert_array_equal(episode.absolute_ND[:, :6], arrays[STATE])
    assert (episode.absolute_ND[:, JOINTS.slices["gripper"].start] == 0).all()  # the CR5 writes 1 for closed
    assert episode.mask_D.sum() == 7


def test_twenty_six_columns_are_not_the_twenty_six_channels(tmp_path: Path) -> None:
    g1 = get_embodiment("g1_inspire")
    assert g1.kinematics is not None
    (arrays,) = states(10, width=26)
    arrays[STATE] = np.abs(arrays[STATE])
    unnamed = open_dataset(write_v21(tmp_path / "unnamed", [arrays]))
    assert unnamed.layout == JOINTS and unnamed[0].mask_D.sum() == 26

    named = write_v21(tmp_path / "named", [arrays], {STATE: [list(g1.joint_names)]}, robot_type="Unitree_G1_Inspire")
    episode = open_dataset(named)[0]
    wrists = ForwardKinematics(bundled_urdf("g1_dual_arm.urdf"), ["left_wrist_yaw_link", "right_wrist_yaw_link"])
    expected = wrists(list(g1.kinematics.joints.values()), arrays[STATE][:, :14])
    np.testing.assert_allclose(episode.absolute_ND[:, 10:13], expected.position_m[:, 1], atol=1e-6)
    columns = expected.matrix[:, 1, :, :2].transpose(0, 2, 1).reshape(10, 6)  # first two columns, one after the other
    np.testing.assert_allclose(episode.absolute_ND[:, 13:19], columns, atol=1e-6)
    np.testing.assert_allclose(episode.absolute_ND[:, 9], arrays[STATE][:, 14:19].mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(episode.absolute_ND[:, 19], arrays[STATE][:, 20:25].mean(axis=1), atol=1e-6)
    np.testing.assert_array_equal(open_dataset(named, layout="joints")[0].absolute_ND[:, :26], arrays[STATE])


def test_a_users_own_robot_and_urdf_give_poses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = dict(embodiments._registry())
    monkeypatch.setattr(embodiments, "_registry", lambda: registry)
    (tmp_path / "arm.urdf").write_text(
        "<robot name='arm'><link name='root'/><link name='hand'/><joint name='slide' type='prismatic'>"
        "<parent link='root'/><child link='hand'/><axis xyz='1 0 0'/>"
        "<limit lower='0' upper='9' effort='1' velocity='1'/></joint></robot>"
    )
    kinematics = Kinematics(str(tmp_path / "arm.urdf"), {"right": "hand"}, {"s": "slide"}, {"right": ("g",)})
    groups = ("right_position", "right_rotation", "right_gripper")
    register(Embodiment("my_slider", pose_groups=groups, gripper_open=10.0, kinematics=kinematics))
    state = np.array([[5, 1], [10, 2]] * 5, dtype=np.float32)
    episode = open_dataset(write_v30(tmp_path / "set", [{STATE: state}], {STATE: ["g", "s"]}), embodiment="my_slider")[
        0
    ]
    assert (episode.layout, episode.embodiment) == (ARMS26, "my_slider")
    np.testing.assert_allclose(episode.absolute_ND[:2, 10:13], [[1, 0, 0], [2, 0, 0]])
    np.testing.assert_allclose(episode.absolute_ND[:2, 19], [0.5, 1.0])
    assert np.flatnonzero(episode.mask_D).tolist() == list(range(10, 20))


def test_known_robot_with_other_channels_opens_unregistered_unless_insisted_on(tmp_path: Path) -> None:
    folder = write_v21(tmp_path, states(10), {STATE: ["a", "b", "c", "d"]}, robot_type="so101")
    assert open_dataset(folder).embodiment == "none:so101"
    with pytest.raises(ValueError, match=r"embodiment 'so101' does not fit.*it wants shoulder_pan.*xtok inspect"):
        open_dataset(folder, embodiment="so101")


@pytest.mark.parametrize(
    ("width", "names", "told"),
    [(61, None, "room for 60: write a mapping"), (7, ["x", "y", "z", "qx", "qy", "qz", "qw"], "which columns are it")],
)
def test_states_that_are_no_joints_are_refused_with_a_way_out(
    tmp_path: Path, width: int, names: Any, told: str
) -> None:
    folder = write_v21(tmp_path, states(10, width=width), {STATE: names})
    with pytest.raises(ValueError, match=rf"cannot map(.|\n)*{told}"):
        open_dataset(folder)


def test_poses_named_in_part_are_refused(tmp_path: Path) -> None:
    folder = write_v21(tmp_path, states(10, width=2), {STATE: list(ARMS26.channel_names[10:12])})
    with pytest.raises(ValueError, match="'right_position' of arms26 is named only in part"):
        open_dataset(folder)


def test_degenerate_rotation_names_its_episode(tmp_path: Path) -> None:
    state = poses(10)
    state[3, 3:9] = 0
    with pytest.raises(ValueError, match="episode 0"):
        open_dataset(write_v21(tmp_path, [{STATE: state}], {STATE: list(POSE_NAMES)}))[0]


def test_subtasks_become_segments(tmp_path: Path) -> None:
    labels = np.array([[0]] * 4 + [[1]] * 6, dtype=np.int64)
    folder = write_v30(tmp_path, [{**states(10)[0], "subtask_index": labels}])
    pq.write_table(pa.table({"subtask_index": [0, 1], "subtask": ["reach", "lift"]}), folder / "meta/subtasks.parquet")
    assert open_dataset(folder)[0].subtasks == (Segment(0, 4, "reach"), Segment(4, 10, "lift"))
    assert open_dataset(write_v30(tmp_path / "plain", states(10)))[0].subtasks == ()


# What real folders get wrong.


def test_wrong_path_template_falls_back_to_the_file_that_is_there(tmp_path: Path) -> None:
    template = "data/chunk-{episode_index:03d}/episode_{episode_index:06d}.parquet"  # as GR1's info.json has it
    folder = write_v21(tmp_path, states(9, 12), data_path=template, codebase_version="v2.0")
    assert [len(episode) for episode in open_dataset(folder)] == [9, 12]


@pytest.mark.parametrize(
    "template",
    [
        "../{episode_index:06d}.parquet",
        "/etc/{episode_index}",
        "{episode_index.__class__}",
        "{secret}",
        "{episode_index:9999d}",
    ],
)
def test_hostile_path_templates_are_refused(tmp_path: Path, template: str) -> None:
    with pytest.raises(ValueError, match="path template"):
        open_dataset(write_v21(tmp_path, states(9), data_path=template))


def test_cameras_and_totals_of_info_are_not_believed(tmp_path: Path) -> None:
    dataset = open_dataset(write_v30(tmp_path, states(9), total_frames=14_983, total_episodes=50))
    assert len(dataset) == 1 and CAMERA not in dataset[0].videos


@pytest.mark.parametrize("write", WRITERS)
def test_truncated_parquet(tmp_path: Path, write: Any) -> None:
    folder = write(tmp_path, states(30))
    path = min(folder.glob("data/*/*.parquet"))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"cannot read .*looks truncated"):
        open_dataset(folder)[0]


@pytest.mark.parametrize("write", WRITERS)
def test_missing_parquet(tmp_path: Path, write: Any) -> None:
    folder = write(tmp_path, states(30))
    min(folder.glob("data/*/*.parquet")).unlink()
    with pytest.raises(ValueError, match=r"missing file .*parquet"):
        open_dataset(folder)[0]


def test_fewer_rows_than_meta_says(tmp_path: Path) -> None:
    folder = write_v21(tmp_path, states(30))
    path = folder / "data/chunk-000/episode_000000.parquet"
    pq.write_table(pq.read_table(path).slice(0, 20), path)
    with pytest.raises(ValueError, match=r"episode 0: .* has 20 rows, meta/ says 30"):
        open_dataset(folder)[0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_name_episode_column_and_row(tmp_path: Path, value: float) -> None:
    folder = write_v21(tmp_path / "mine", states(30), {STATE: ["a", "b", "c", "d"]})
    corrupt(folder, column=2, row=17, value=value)
    with pytest.raises(ValueError, match=r"mine, episode 0, column observation.state\[2\] \(c\), row 17 is"):
        open_dataset(folder)[0]


def test_rows_of_another_width_than_declared(tmp_path: Path) -> None:
    folder = write_v21(tmp_path, states(30))
    features = json.loads((folder / "meta/info.json").read_text())["features"]
    features[STATE]["shape"] = [5]
    edit_info(folder, features=features)
    with pytest.raises(ValueError, match="row 0 has 4 values; expected 5"):
        open_dataset(folder)[0]


def test_names_that_do_not_fill_the_width(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has 3 names for 4 columns"):
        open_dataset(write_v21(tmp_path, states(9), {STATE: ["a", "b", "c"]}))


@pytest.mark.parametrize("key", ["fps", "features", "codebase_version", "data_path"])
def test_missing_entries_of_info(tmp_path: Path, key: str) -> None:
    folder = write_v21(tmp_path, states(9))
    edit_info(folder, **{key: None})
    with pytest.raises(ValueError, match=f"has no '{key}'"):
        open_dataset(folder)


@pytest.mark.parametrize(("key", "value", "message"), [("fps", 0, "fps is 0"), ("codebase_version", "v1.6", "v1.6")])
def test_impossible_entries_of_info(tmp_path: Path, key: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_dataset(write_v21(tmp_path, states(9), **{key: value}))


@pytest.mark.parametrize("file", ["episodes.jsonl", "tasks.jsonl"])
def test_missing_or_broken_meta(tmp_path: Path, file: str) -> None:
    folder = write_v21(tmp_path, states(9))
    (folder / "meta" / file).write_text('{"episode_index": 0,')
    with pytest.raises(ValueError, match=f"cannot read .*{file}"):
        open_dataset(folder)[0]


def test_task_that_is_not_listed(tmp_path: Path) -> None:
    folder = write_v21(tmp_path, states(9))
    (folder / "meta/tasks.jsonl").write_text('{"task_index": 5, "task": "x"}')
    with pytest.raises(ValueError, match=r"task 0 is not in meta/tasks; it lists \[5\]"):
        open_dataset(folder)[0]


def test_no_episodes(tmp_path: Path) -> None:
    folder = write_v21(tmp_path, states(9))
    (folder / "meta/episodes.jsonl").write_text("")
    with pytest.raises(ValueError, match="lists no episodes"):
        open_dataset(folder)
