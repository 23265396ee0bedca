"""Surveys, traps planted on purpose, proposals, and `xtok inspect` on every real folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from folders import CAMERA, STATE, write_v21, write_v30, write_video
from reader_kit import quaternions, rlds_episode, write_rlds, write_robotwin_v1
from xtok.cli.main import main
from xtok.data import open_dataset, sample_path
from xtok.data.inspect.survey import Survey, survey
from xtok.data.inspect.traps import gripper_inverted, grippers_disagree
from xtok.data.mapping.mapped import open_mapped
from xtok.data.mapping.propose import propose
from xtok.data.open import open_source

N = 40


def motion(width: int, seed: int = 0, size: float = 0.02) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).normal(0, size, (N, width)), axis=0)


def looked_at(tmp_path: Path, arrays: Sequence[dict[str, np.ndarray]], **more: object) -> Survey:
    return survey(open_source(write_v21(tmp_path / "set", arrays, **more)))  # type: ignore[arg-type]


def kinds(looked: Survey) -> dict[str, str]:
    return {trap.kind: trap.text for trap in looked.traps}


def test_a_clean_set_has_no_traps(tmp_path: Path) -> None:
    state = motion(6)
    action = state + np.random.default_rng(9).normal(0, 0.01, state.shape)
    looked = looked_at(tmp_path, [{STATE: state, "action": action}])
    assert kinds(looked).keys() <= {"files"}  # the folder declares a camera that it has not
    assert looked.frames == (N,) and looked.measured_hz == pytest.approx(10, rel=1e-3)


def test_action_equals_state(tmp_path: Path) -> None:
    state = motion(6)
    assert "in 100% of frames" in kinds(looked_at(tmp_path, [{STATE: state, "action": state}]))["action equals state"]


def test_action_is_the_next_state(tmp_path: Path) -> None:
    state = motion(7)
    found = kinds(looked_at(tmp_path, [{STATE: state[:-1], "action": state[1:]}]))
    assert "action is the next state" in found and "action equals state" not in found


def test_action_is_a_velocity(tmp_path: Path) -> None:
    state = motion(6)
    action = np.concatenate([np.diff(state, axis=0, append=state[-1:]) * 10, np.ones((N, 1))], axis=1)
    assert (
        "6 of 6 moving columns"
        in kinds(looked_at(tmp_path, [{STATE: state, "action": action}]))["action is a difference"]
    )


def test_still_channels(tmp_path: Path) -> None:
    state = motion(4)
    state[:, 2] = 0.7
    assert (
        "1 of 4 columns of observation.state never move: 2 = 0.7"
        in kinds(looked_at(tmp_path, [{STATE: state}]))["still channels"]
    )


def test_quaternion_sign_flips(tmp_path: Path) -> None:
    quaternion = quaternions(N)
    assert "quaternion sign flips" not in kinds(looked_at(tmp_path / "a", [{STATE: np.c_[motion(3), quaternion]}]))
    quaternion[13:20] *= -1
    found = kinds(looked_at(tmp_path / "b", [{STATE: np.c_[motion(3), quaternion]}]))
    assert "observation.state[3:7] changes sign 2 times" in found["quaternion sign flips"]


@pytest.mark.parametrize("turn", [2 * np.pi, 360.0])
def test_wrapped_angles(tmp_path: Path, turn: float) -> None:
    angle = np.linspace(0.3, 0.7, N) * turn
    wrapped = (angle + turn / 2) % turn - turn / 2
    found = kinds(looked_at(tmp_path, [{STATE: np.stack([wrapped, np.linspace(0, 1, N)], axis=1)}]))
    assert "0 (1 times) jump by a whole turn" in found["wrapped angles"]


def test_mixed_units(tmp_path: Path) -> None:
    state = np.concatenate([motion(3), motion(3) * 1000], axis=1)
    found = kinds(looked_at(tmp_path / "a", [{STATE: state}]))
    assert "3 columns stay within a turn, others go far beyond (3 to" in found["mixed units"]
    assert "units" in kinds(looked_at(tmp_path / "b", [{STATE: 100 + motion(5) * 100}]))


def test_time_that_jitters_or_is_mislabelled(tmp_path: Path) -> None:
    looked = looked_at(tmp_path, [{STATE: motion(3)}], fps=30)
    assert "stated are 30 Hz, the time stamps say 10 Hz" in kinds(looked)["rate"]


def test_frames_that_repeat(tmp_path: Path) -> None:
    found = kinds(looked_at(tmp_path, [{STATE: np.repeat(motion(3)[: N // 2], 2, axis=0)}]))
    assert "51% of the rows of observation.state equal the row before" in found["repeated frames"]


def test_files_that_disagree_with_their_description(tmp_path: Path) -> None:
    folder = write_v30(tmp_path, [{STATE: motion(3)}], total_frames=14_983)
    found = [trap.text for trap in survey(open_source(folder)).traps if trap.kind == "files"]
    assert found == [
        "meta/info.json claims total_frames 14983; here are 40",
        f"camera {CAMERA!r} is declared; 0 of 1 episodes have its film",
    ]


def test_a_black_camera_and_the_size_of_a_view(tmp_path: Path) -> None:
    folder = write_v21(tmp_path, [{STATE: motion(3)}])
    write_video(folder / f"videos/chunk-000/{CAMERA}/episode_000000.mp4", N, first=85)
    looked = survey(open_source(folder))
    assert looked.views[CAMERA].size == (32, 128) and "black view" not in kinds(looked)
    write_video(folder / f"videos/chunk-000/{CAMERA}/episode_000000.mp4", N, first=0, key_frame_every=1)
    assert survey(open_source(folder)).views[CAMERA].episodes == 1


def test_one_broken_episode_does_not_hide_the_others(tmp_path: Path) -> None:
    folder = write_v21(tmp_path, [{STATE: motion(3, seed)} for seed in range(4)])
    broken = folder / "data/chunk-000/episode_000002.parquet"
    broken.write_bytes(broken.read_bytes()[:100])
    looked = survey(open_source(folder))
    assert looked.positions == (0, 1, 3) and "episode_000002" in kinds(looked)["broken episode"]
    for path in folder.glob("data/*/*.parquet"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="not one of the 4 episodes"):
        survey(open_source(folder))


def test_grippers_the_wrong_way_round() -> None:
    opens = [np.linspace(0, 1, N)] * 5
    assert "5 of 5 demonstrations begin closed" in gripper_inverted("right_gripper", opens)[0].text
    assert gripper_inverted("right_gripper", [1 - opening for opening in opens]) == []
    assert gripper_inverted("right_gripper", [np.zeros(N)] * 5) == []
    taken = np.repeat([0.0, 1.0, 0.2, 0.9, 0.0], 10)  # at rest, wide, on the thing, wide, at rest
    assert gripper_inverted("right_gripper", [taken] * 5) == []
    assert gripper_inverted("right_gripper", [1 - np.repeat([1.0, 0.2, 1.0], 10)] * 5)  # wide, on the thing, wide
    assert "correlation -1.00" in grippers_disagree("action", "state", opens[0], 1 - opens[0])[0].text
    assert grippers_disagree("action", "state", opens[0], opens[0]) == []


def channels(looked: Survey, layout: str | None = None) -> tuple[str, np.ndarray, np.ndarray]:
    """The proposed text, and the first episode through it: what, and which channels."""
    proposal = propose(looked, layout)
    assert proposal.text is not None and proposal.reasons
    episode = open_mapped(looked.source, proposal.spec("m.yaml"), undecided=True)[0]
    return proposal.text, episode.absolute_ND, episode.mask_D


def test_a_pose_is_guessed_from_names(tmp_path: Path) -> None:
    names = [
        f"{side}_{each}" for side in ("left", "right") for each in ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
    ]
    state = np.concatenate([motion(6), np.linspace(1, 0, N)[:, None]] * 2, axis=1)
    text, absolute_ND, mask_D = channels(looked_at(tmp_path, [{STATE: state}] * 3, names={STATE: names}))
    assert "form: euler, order: xyz" in text and int(mask_D.sum()) == 20
    np.testing.assert_allclose(absolute_ND[:, 10:13], state[:, 7:10], atol=1e-6)
    np.testing.assert_allclose(absolute_ND[:, 19], state[:, 13], atol=1e-6)


def test_a_pose_is_guessed_from_names_of_features(tmp_path: Path) -> None:
    position, quaternion = 0.4 + motion(3), quaternions(N)
    arrays = {
        "observation.eef_pos": position,
        "observation.eef_quat": quaternion[:, [1, 2, 3, 0]],
        "observation.gripper": np.linspace(0, 0.08, N)[:, None],
    }
    text, absolute_ND, mask_D = channels(looked_at(tmp_path, [arrays] * 4))
    assert "order: xyzw" in text and "closed: 0.08, open: 0" in text and int(mask_D.sum()) == 10
    assert "undecided:" in text  # neither the order nor which end is open
    np.testing.assert_allclose(absolute_ND[:, 10:13], position, atol=1e-6)


def test_a_pose_is_guessed_from_values(tmp_path: Path) -> None:
    state = np.concatenate([(0.4 + motion(3)) * 1000, quaternions(N), np.linspace(100, 0, N)[:, None]], axis=1)
    text, absolute_ND, _ = channels(looked_at(tmp_path, [{STATE: state}] * 3))
    assert "unit: mm" in text and "order: wxyz" in text and "closed: 0, open: 100" in text
    np.testing.assert_allclose(absolute_ND[:, 10:13], state[:, :3] / 1000, rtol=1e-5)


def test_an_rlds_state_is_guessed_as_a_pose(tmp_path: Path) -> None:
    looked = survey(open_source(write_rlds(tmp_path, [rlds_episode(12, seed) for seed in range(4)])))
    text, absolute_ND, _ = channels(looked)
    assert "at how many Hz was this recorded?" in text and "form: euler" in text
    np.testing.assert_allclose(absolute_ND[:, 10:13], looked.arrays("observation/state")[0][:, :3], rtol=1e-6)


def test_joints_are_what_is_left(tmp_path: Path) -> None:
    names = ["j1", "j2", "j3", "gripper"]
    state = np.concatenate([motion(3), np.linspace(1, 0, N)[:, None]], axis=1)
    text, _, mask_D = channels(looked_at(tmp_path, [{STATE: state}] * 3, names={STATE: names}))
    assert "layout: joints" in text and int(mask_D.sum()) == 4
    assert not mask_D[60] and "which end of gripper is open?" in text  # so it stays as it is, among the joints
    names[3] = "gripper_open"
    folder = write_v21(tmp_path / "open", [{STATE: state}] * 3, names={STATE: names})
    assert channels(survey(open_source(folder)))[2][60]
    with pytest.raises(ValueError, match="looks like poses"):
        propose(survey(open_source(tmp_path / "set")), "arms26")


def test_nothing_that_moves(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="looks like poses or joints"):
        propose(looked_at(tmp_path, [{"next.reward": motion(1)}]))


def test_robotwin_gets_the_mapping_that_ships(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    text, _, mask_D = channels(survey(open_source(write_robotwin_v1(tmp_path))))
    assert "order: wxyz" in text and int(mask_D.sum()) == 20


def test_the_command_writes_a_mapping_and_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {STATE: ["x", "y", "z", "qx", "qy", "qz", "qw", "gripper_open"]}
    state = np.concatenate([0.3 + motion(3), quaternions(N)[:, [1, 2, 3, 0]], np.linspace(1, 0, N)[:, None]], axis=1)
    folder = write_v21(tmp_path / "mine", [{STATE: state, "action": state}] * 6, names)
    assert main(["inspect", str(folder), "-o", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    for part in (
        "mine: LeRobot v2.1, robot 'my_arm', 10 Hz",
        "language  'do it'",
        "! action equals state",
        "order: xyzw",
    ):
        assert part in said
    page = (tmp_path / "out" / "mine.html").read_text()
    assert page.count("<svg") == 5 * 3 and "<script" not in page and "http" not in page
    file = tmp_path / "out" / "mine.yaml"
    assert main(["stats", str(file)]) == 0
    assert main(["stats", str(folder), "--mapping", str(file), "--layout", "joints"]) == 2
    assert main(["inspect", str(file), "-o", str(tmp_path / "again")]) == 0
    assert not (tmp_path / "again" / "mine.yaml").exists()
    assert "read through it: 6 episodes, 240 frames, layout arms26, 10 channels" in capsys.readouterr().out


def test_a_wrong_mapping_is_named_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_v21(tmp_path / "mine", [{STATE: motion(7)}])
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text('layout: joints\njoints: {from: "observation.state[0:9]"}\n')
    assert main(["encode", str(folder), "--mapping", str(wrong), "-o", str(tmp_path / "c.parquet")]) == 2
    assert "wrong.yaml, line 2: 'observation.state' has columns 0 to 6, not 8" in capsys.readouterr().err


def test_the_same_set_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert main(["inspect", str(sample_path()), "-o", str(tmp_path / name)]) == 0
    assert (tmp_path / "a" / "panda.html").read_bytes() == (tmp_path / "b" / "panda.html").read_bytes()
    assert not (tmp_path / "a" / "panda.yaml").exists()  # it names its channels itself


@pytest.mark.realdata
@pytest.mark.parametrize(
    "name",
    ["unitree-g1-inspire", "dobot-cr5-banana", "bridge-v1-octo-debug", "so101-pick-place-tape", "reachy2-apple-storage",
     "sim-gr1-picknplace", "sim-adroit-door"],
)  # fmt: skip
@pytest.mark.parametrize("layout", [None, "joints"])
def test_proposals_read_real_sets_as_they_open_by_themselves(shared_data: Path, name: str, layout: str | None) -> None:
    if (name, layout) == ("bridge-v1-octo-debug", "joints"):
        pytest.skip("Bridge stores no joints")
    looked = survey(open_source(shared_data / name), 3)
    proposal = propose(looked, layout)
    assert not proposal.guessed
    mapped, plain = open_mapped(looked.source, proposal.spec("m.yaml")), open_dataset(shared_data / name, layout)
    assert (mapped.embodiments, mapped.control_hz, mapped.layout) == (plain.embodiments, plain.control_hz, plain.layout)
    for position in looked.positions:
        ours, theirs = mapped[position], plain[position]
        np.testing.assert_array_equal(ours.absolute_ND, theirs.absolute_ND)
        np.testing.assert_array_equal(ours.mask_D, theirs.mask_D)
        assert ours.action_source == theirs.action_source


@pytest.mark.realdata
def test_inspect_opens_every_real_folder(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in sorted(path for path in shared_data.iterdir() if path.is_dir() and path.name != "urdf"):
        assert main(["inspect", str(folder), "--episodes", "4", "-o", str(tmp_path)]) == 0, folder
        assert "read through it" in capsys.readouterr().out
        assert (tmp_path / f"{folder.name}.html").stat().st_size < 500_000
