"""Mappings proposed for robots that nobody registered: right where names and numbers decide, else asked."""
# ruff: noqa: E501 - tables of cases, a line each

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from folders import STATE
from proposal_kit import WXYZ, XYZ, XYZW, Made, joints, opening, place, pose, state, time, turn, write
from xtok.data import open_dataset
from xtok.data.inspect.survey import survey
from xtok.data.mapping.column_names import read_names
from xtok.data.mapping.mapped import open_mapped
from xtok.data.mapping.propose import Proposal, propose
from xtok.data.open import open_source

LEFT, RIGHT = slice(0, 10), slice(10, 20)


def proposed(folder: Path, layout: str | None = None) -> Proposal:
    return propose(survey(open_source(folder), pictures=False), layout)


def read(folder: Path, proposal: Proposal) -> np.ndarray:
    """Channels of episode 0 through the reading in use."""
    return open_mapped(open_source(folder), proposal.spec("m.yaml"), undecided=True)[0].absolute_ND


def arm(prefix: str, *columns: str) -> list[str]:
    return [f"{prefix}{column}" for column in columns]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("left_hand_pos_x", ("position", "left", "x")),
        ("leftHandPosX", ("position", "left", "x")),
        ("hands/xyz[3]", ("position", None, 3)),
        ("arm_l.eef.pos.z", ("position", "left", "z")),
        ("r_tcp_qw", ("quaternion", "right", "w")),
        ("eef_quat_2", ("quaternion", None, 2)),
        ("rot6d_5", ("6d", None, 5)),
        ("R.ee.rotvec.y", ("axis_angle", "right", "y")),
        ("right_yaw", ("euler", "right", "yaw")),
        ("left_wrist_yaw", ("joint", "left", "yaw")),
        ("waist_roll", ("joint", None, "roll")),
        ("LeftShoulderPitch", ("joint", "left", "pitch")),
        ("joint_3.pos", ("joint", None, 3)),
        ("panda_joint7", ("joint", None, 7)),
        ("hand.left.grip", ("gripper", "left", None)),
        ("left_index_finger_1", ("joint", "left", 1)),
        ("joint_3.vel", ("velocity", None, 3)),
        ("base_x", ("other", None, "x")),
        ("object_x", ("foreign", None, None)),
        ("delta_z", ("difference", None, "z")),
        ("motor_4", ("number", None, 4)),
        ("torque_1", ("effort", None, 1)),
        ("关节_1", ("other", None, 1)),
    ],
)
def test_what_a_name_says(name: str, expected: tuple[str, str | None, str | int | None]) -> None:
    found = read_names({STATE: [name, "l_a", "r_a"]})[STATE, 0]
    assert (found.role, found.side, found.part) == expected


def test_a_lone_letter_is_no_side() -> None:
    assert read_names({STATE: ["r_x", "r_y", "r_z"]})[STATE, 0].side is None


def two_arms(order: tuple[str, str], quaternion: list[str]) -> tuple[Made, dict[str, list[str]]]:
    columns = [*XYZ, *quaternion, "gripper_open"]
    names = [f"{side}_{column}" for side in order for column in columns]
    which = [3, 4, 5, 6] if quaternion == XYZW else [6, 3, 4, 5]

    def made(rng: np.random.Generator) -> dict[str, np.ndarray]:
        both = [np.concatenate([pose(rng)[:, [0, 1, 2, *which]], opening(rng)], axis=1) for _ in order]
        return state(*both)

    return made, {STATE: names}


@pytest.mark.parametrize("order", [("left", "right"), ("right", "left")])
@pytest.mark.parametrize("quaternion", [XYZW, WXYZ])
def test_two_arms_with_clear_names_need_no_question(
    tmp_path: Path, order: tuple[str, str], quaternion: list[str]
) -> None:
    made, names = two_arms(order, quaternion)
    folder = write(tmp_path / "set", made, names)
    proposal = proposed(folder)
    assert proposal.questions == ()
    absolute_ND, raw = read(folder, proposal), made(np.random.default_rng(0))[STATE]
    for k, side in enumerate(order):
        where = LEFT if side == "left" else RIGHT
        np.testing.assert_allclose(absolute_ND[:, where][:, :3], raw[:, 8 * k : 8 * k + 3], atol=1e-6)
        np.testing.assert_allclose(absolute_ND[:, where][:, 9], raw[:, 8 * k + 7], atol=1e-6)
        q = raw[:, 8 * k + 3 : 8 * k + 7].astype(float)
        from scipy.spatial.transform import Rotation

        matrix = Rotation.from_quat(q if quaternion == XYZW else q[:, [1, 2, 3, 0]]).as_matrix()
        np.testing.assert_allclose(absolute_ND[:, where][:, 3:6], matrix[:, :, 0], atol=1e-5)


def test_the_command_of_the_other_arm_is_seen(tmp_path: Path) -> None:
    names = [*arm("left_", *XYZ, *XYZW), *arm("right_", *XYZ, *XYZW)]

    def made(rng: np.random.Generator) -> dict[str, np.ndarray]:
        left, right = pose(rng), pose(rng)
        return {STATE: np.concatenate([left, right], axis=1), "action": np.concatenate([right, left], axis=1)}

    assert (
        "Left of the state goes with right of the action"
        in proposed(write(tmp_path / "a", made, {STATE: names, "action": names})).questions[0]
    )


def test_arms_that_only_the_action_names_are_told_apart_by_it(tmp_path: Path) -> None:
    """The state has two nameless blocks; which is left is seen in the action that it follows."""
    blocks = [f"hand/xyz[{i}]" for i in range(6)] + [f"hand/rotvec[{i}]" for i in range(6)]
    named = [
        *arm("right_", *XYZ, "rotvec_x", "rotvec_y", "rotvec_z"),
        *arm("left_", *XYZ, "rotvec_x", "rotvec_y", "rotvec_z"),
    ]

    def made(rng: np.random.Generator) -> dict[str, np.ndarray]:
        right, left = (np.concatenate([place(rng), turn(rng).as_rotvec()], axis=1) for _ in range(2))
        first, second = right, left  # in the state the right arm comes first
        measured = np.concatenate([first[:, :3], second[:, :3], first[:, 3:], second[:, 3:]], axis=1)
        return {STATE: measured, "action": np.concatenate([right, left], axis=1)}

    folder = write(tmp_path / "set", made, {STATE: blocks, "action": named})
    proposal = proposed(folder)
    assert proposal.questions == () and any("names its sides" in reason for reason in proposal.reasons)
    np.testing.assert_allclose(
        read(folder, proposal)[:, RIGHT][:, :3], made(np.random.default_rng(0))[STATE][:, :3], atol=1e-6
    )


def blocks(rng: np.random.Generator) -> dict[str, np.ndarray]:
    left, right = pose(rng), pose(rng)
    return {
        "action": np.concatenate(
            [opening(rng), opening(rng), left[:, :3], right[:, :3], left[:, 3:], right[:, 3:]], axis=1
        )
    }


def test_interleaved_blocks_without_sides_are_asked(tmp_path: Path) -> None:
    for k, (sides, first) in enumerate([(("left", "right"), LEFT), (("right", "left"), RIGHT)]):
        names = (
            [f"hand.{side}.grip" for side in sides]
            + [f"hands/xyz[{i}]" for i in range(6)]
            + [f"hands/quat[{i}]" for i in range(8)]
        )
        folder = write(tmp_path / str(k), blocks, {"action": names})
        proposal = proposed(folder)
        asked = " ".join(proposal.questions)
        assert "which arm is left" in asked and "wxyz or xyzw" in asked and "which end of" in asked
        assert len(proposal.questions) == 3  # not one for each arm
        raw = blocks(np.random.default_rng(0))["action"]
        np.testing.assert_allclose(
            read(folder, proposal)[:, first][:, :3], raw[:, 2:5], atol=1e-6
        )  # in the grippers' order
        assert proposal.text is not None and "# 1, or:" in proposal.text and "order: wxyz}" in proposal.text
        with pytest.raises(ValueError, match=r"which arm is left(.|\n)*xtok inspect(.|\n)*open_dataset\('out/inspect"):
            open_dataset(folder)


@pytest.mark.parametrize(
    ("names", "made", "asked"),
    [  # what is asked; the rest of the proposal is read as it is
        ([*XYZ, *XYZW, "gripper"], lambda r: state(pose(r), opening(r)), ["which end of gripper"]),
        ([*XYZ, "rx", "ry", "rz"], lambda r: state(place(r), turn(r).as_rotvec()), ["rotation vector or three Euler"]),
        ([*XYZ, *(f"euler_{i}" for i in range(3))], lambda r: state(place(r), turn(r).as_euler("zyx")), ["in which order"]),
        ([*XYZ, *(f"rot6d_{i}" for i in range(6))], lambda r: state(place(r), six(r)), ["two columns of the matrix, or two rows"]),
        ([*XYZ, *(f"r{i}{j}" for i in range(3) for j in range(3))], lambda r: state(place(r), turn(r).as_matrix().reshape(-1, 9)),
         ["row by row, or column"]),
        ([*XYZ, *(f"quat_{i}" for i in range(4))], lambda r: state(pose(r)), ["wxyz or xyzw"]),
        ([*arm("arm0_", *XYZ, *XYZW), *arm("arm1_", *XYZ, *XYZW)], lambda r: state(pose(r), pose(r)), ["which arm is left"]),
        ([*XYZ, *XYZW] * 2, lambda r: state(pose(r), pose(r)), ["several columns of one name", "which arm is left"]),
        ([*XYZ, *XYZW], lambda r: state(place(r, 100), turn(r).as_quat()), ["are they cm or mm"]),
        ([*XYZ, *XYZW, "gripper_width"], lambda r: state(pose(r), np.full((90, 1), 0.04)), ["never moves"]),
        ([*XYZ, *XYZW, "finger_a", "finger_b"], lambda r: state(pose(r), opening(r), 1.2 * opening(np.random.default_rng(9))),
         ["which of finger_a and finger_b", "which end of"]),
        (["j1", "j2", "gripper", "gripper"], lambda r: state(joints(r, 2), opening(r), -opening(r)), ["several columns of one name"]),
        ([*XYZ, *XYZW], lambda r: state(place(r), r.normal(size=(90, 4))), ["named as a quaternion and have length 1 in"]),
        ([*XYZ, *(f"6d[{i}]" for i in range(6))], lambda r: state(place(r), r.normal(size=(90, 6))), ["named as a 6D rotation"]),
        (None, lambda r: state(pose(r)), ["names no columns"]),
        (None, lambda r: state(place(r), six(r)), ["names no columns"]),
        (None, lambda r: state(joints(r, 6, 0.8)), ["joints, or a pose"]),
        ([f"motor_{i}" for i in range(8)], lambda r: state(pose(r), opening(r)), ["names no columns", "which end"]),
        ([*XYZ, *XYZW], lambda r: state(r.uniform(-1, 1, (90, 3)), turn(r).as_quat()), ["moves faster than"]),
    ],
)  # fmt: skip
def test_what_nobody_can_know_is_asked(tmp_path: Path, names: Any, made: Made, asked: list[str]) -> None:
    folder = write(tmp_path / "set", made, {STATE: names})
    proposal = proposed(folder)
    told = " ".join(proposal.questions)
    for part in asked:
        assert part in told
    assert len(proposal.questions) == len(asked), proposal.questions
    assert proposal.text is not None and proposal.text.count('\n  - "') == len(asked)
    with pytest.raises(ValueError, match="xtok inspect"):
        open_dataset(folder)


def six(rng: np.random.Generator) -> np.ndarray:
    """Two columns of the matrix, one after the other."""
    return turn(rng).as_matrix()[:, :, :2].transpose(0, 2, 1).reshape(-1, 6)


def test_numbers_decide_where_they_can(tmp_path: Path) -> None:
    def interleaved(rng: np.random.Generator) -> dict[str, np.ndarray]:
        return state(place(rng), turn(rng).as_matrix()[:, :, :2].reshape(-1, 6))

    six_names = [*XYZ, *(f"rot6d_{i}" for i in range(6))]
    proposal = proposed(write(tmp_path / "a", interleaved, {STATE: six_names}))
    assert proposal.questions == () and "order: interleaved" in str(proposal.text)

    def around(rng: np.random.Generator) -> dict[str, np.ndarray]:  # a rotation vector that goes on at its opposite
        angle = np.linspace(0.5, 1.6, 90)[:, None] * np.pi
        return state(place(rng), (np.where(angle > np.pi, angle - 2 * np.pi, angle)) * np.array([0.6, 0.0, 0.8]))

    proposal = proposed(write(tmp_path / "b", around, {STATE: [*XYZ, "rx", "ry", "rz"]}))
    assert proposal.questions == () and "form: axis_angle" in str(proposal.text)

    def long(rng: np.random.Generator) -> dict[str, np.ndarray]:  # longer than a rotation vector can be
        return state(place(rng), np.array([3.0, 1.5, 0.0]) + 0.1 * np.sin(time()))

    proposal = proposed(write(tmp_path / "c", long, {STATE: [*XYZ, "rx", "ry", "rz"]}))
    assert "form: euler" in str(proposal.text) and "in which order" in proposal.questions[0]


@pytest.mark.parametrize("order", ["wxyz", "xyzw"])
@pytest.mark.parametrize("frame", ["base", "hand"])
def test_an_angular_velocity_decides_the_order_of_a_quaternion(tmp_path: Path, order: str, frame: str) -> None:
    def made(rng: np.random.Generator) -> dict[str, np.ndarray]:
        rotation = turn(rng, 1.5)
        # scipy's composition: the small turn that leads from one frame to the next, in either frame
        step = rotation[1:] * rotation[:-1].inv() if frame == "base" else rotation[:-1].inv() * rotation[1:]
        omega = 10 * np.concatenate([step.as_rotvec(), step.as_rotvec()[-1:]])
        quaternion = rotation.as_quat()
        return state(place(rng), quaternion if order == "xyzw" else quaternion[:, [3, 0, 1, 2]], omega)

    names = [*XYZ, *(f"quat_{i}" for i in range(4)), *(f"ang_vel_{axis}" for axis in "xyz")]
    proposal = proposed(write(tmp_path / "set", made, {STATE: names}))
    assert proposal.questions == () and f"order: {order}" in str(proposal.text)
    assert any("as the angular velocity beside it says" in reason for reason in proposal.reasons)


@pytest.mark.parametrize(
    ("names", "made", "lines"),
    [
        ([*XYZ, "roll", "pitch", "yaw"], lambda r: state(place(r, 1000), turn(r).as_euler("xyz", degrees=True)),
         ["unit: mm}", "form: euler, order: xyz, unit: deg"]),
        (["x_cm", "y_cm", "z_cm", *WXYZ], lambda r: state(place(r, 100), turn(r).as_quat()[:, [3, 0, 1, 2]]), ["unit: cm}", "order: wxyz"]),
        ([*XYZ, "rotvec_x", "rotvec_y", "rotvec_z"], lambda r: state(place(r), turn(r).as_rotvec()), ["form: axis_angle, unit: rad"]),
        (["shoulder_pan", "elbow", "wrist_deg"], lambda r: state(joints(r, 3)), ["unit: rad}"]),
        (arm("j", "1_deg", "2_deg"), lambda r: state(joints(r, 2, 80)), ["unit: deg}"]),
        (["joint_1.pos", "joint_2.pos", "gripper.pos"], lambda r: state(joints(r, 2, 60), opening(r, 0, 100)), ["[0:3]\", unit: native}"]),
        (["j1", "j2", "gripper_width"], lambda r: state(joints(r, 2), opening(r, 0, 0.08)), ["grippers:", "closed: 0, open: 0.08"]),
        (["j1", "j2", "gripper_closed"], lambda r: state(joints(r, 2), opening(r, 1, 0)), ["closed: 1, open: 0"]),
        ([*(f"j{i}" for i in range(3)), *XYZ, *XYZW], lambda r: state(joints(r, 3), pose(r)), ["[3:6]", "[6:10]", "order: xyzw"]),
        (["left_x", "left_y", "left_z", "left_qx", "left_qy", "left_qz", "left_qw"], lambda r: state(pose(r)), ["left:\n"]),
        (None, lambda r: state(joints(r, 7, 2.6)), ["layout: joints", "unit: rad}"]),  # no hand is 2.6 m from its base
        (None, lambda r: state(joints(r, 19, 0.5)), ["layout: joints", "unit: native}"]),
    ],
)  # fmt: skip
def test_what_names_and_numbers_say_is_not_asked(tmp_path: Path, names: Any, made: Made, lines: list[str]) -> None:
    folder = write(tmp_path / "set", made, {STATE: names})
    proposal = proposed(folder)
    assert proposal.questions == ()
    for line in lines:
        assert line in str(proposal.text)
    with pytest.warns(UserWarning, match="not registered.*xtok inspect"):
        dataset = open_dataset(folder)
    assert dataset.embodiment == "none:my_arm"
    np.testing.assert_array_equal(dataset[0].absolute_ND, read(folder, proposal))


HUMANOID = [f"{side}_{joint}" for side in ("left", "right") for joint in
            ("shoulder_pitch", "shoulder_roll", "shoulder_yaw", "elbow", "wrist_roll", "wrist_yaw", "hand_index_0", "hand_thumb_1")]  # fmt: skip


def test_a_humanoid_has_joints_and_no_pose(tmp_path: Path) -> None:
    names = [*HUMANOID, "waist_yaw", "head_pitch"]
    proposal = proposed(write(tmp_path / "set", lambda r: state(joints(r, 18)), {STATE: names}))
    assert proposal.questions == () and '"observation.state[0:18]", unit: rad' in str(proposal.text)


def test_velocities_and_forces_are_left_out_by_name_and_number(tmp_path: Path) -> None:
    names = [f"joint_{i}.{what}" for what in ("pos", "vel", "torque") for i in range(3)]

    def made(rng: np.random.Generator) -> dict[str, np.ndarray]:
        moved = joints(rng, 3)
        return state(moved, np.gradient(moved, axis=0) * 10, joints(rng, 3, 9.0))

    proposal = proposed(write(tmp_path / "a", made, {STATE: names}))
    assert '"observation.state[0:3]"' in str(proposal.text) and any("joint_2.vel" in each for each in proposal.reasons)
    # of a base that nothing else tells, a velocity stays
    names = ["joint_0.pos", "joint_1.pos", "x.vel", "theta.vel"]
    proposal = proposed(write(tmp_path / "b", lambda r: state(joints(r, 4)), {STATE: names}))
    text = str(proposal.text)
    assert "observation.state[0:2]" in text and "observation.state[2:4]" in text and not proposal.questions


@pytest.mark.parametrize("rests_closed", [False, True])
@pytest.mark.parametrize(("closed", "opened"), [(0, 1), (1, 0), (0, 100), (100, 0), (0, 50), (-1, 1), (0.8, 0)])
def test_where_a_gripper_rests_says_nothing(tmp_path: Path, rests_closed: bool, closed: float, opened: float) -> None:
    """Both readings stand there, and the data themselves stay as they are."""

    def made(rng: np.random.Generator) -> dict[str, np.ndarray]:
        return state(joints(rng, 6, 60), opening(rng, closed, opened, rests_closed))

    names = [*(f"joint_{i}.pos" for i in range(1, 7)), "gripper.pos"]
    folder = write(tmp_path / "a", made, {STATE: names})
    proposal = proposed(folder)
    assert proposal.questions == () and any("which end of gripper.pos is open" in note for note in proposal.notes)
    low, high = sorted((closed, opened))
    for ends in ((low, high), (high, low)):
        assert f"closed: {ends[0]:.4g}, open: {ends[1]:.4g}" in str(proposal.text)
    np.testing.assert_allclose(read(folder, proposal)[:, 6], made(np.random.default_rng(0))[STATE][:, 6], atol=1e-5)

    def hand(rng: np.random.Generator) -> dict[str, np.ndarray]:
        return state(pose(rng), opening(rng, closed, opened, rests_closed))

    proposal = proposed(write(tmp_path / "b", hand, {STATE: [*XYZ, *XYZW, "gripper.pos"]}))
    assert ["which end" in question for question in proposal.questions] == [True]


@pytest.mark.parametrize("turned", [1, -1])
def test_mirrored_and_equal_fingers_are_one_gripper(tmp_path: Path, turned: int) -> None:
    def made(rng: np.random.Generator) -> dict[str, np.ndarray]:
        width = opening(rng, 0, 0.04)
        return state(pose(rng), width, turned * width)

    names = [*XYZ, *XYZW, "left_finger_width", "right_finger_width"]
    folder = write(tmp_path / "set", made, {STATE: names})
    proposal = proposed(folder)
    assert proposal.questions == ()

    assert ("[7:9]" in str(proposal.text)) is (turned == 1) and np.ptp(read(folder, proposal)[:, 19]) == pytest.approx(
        1, abs=0.01
    )


def test_state_and_action_that_have_what_the_other_lacks(tmp_path: Path) -> None:
    joint_names, pose_names = [f"joint_{i}" for i in range(6)], [*XYZ, *XYZW]
    made: Made = lambda r: {STATE: pose(r), "action": joints(r, 6)}  # noqa: E731
    proposal = proposed(write(tmp_path / "a", made, {STATE: pose_names, "action": joint_names}))
    assert "pose: achieved" in str(proposal.text) and "observation.state[0:3]" in str(proposal.text)
    made = lambda r: {STATE: joints(r, 6), "action": pose(r)}  # noqa: E731
    proposal = proposed(write(tmp_path / "b", made, {STATE: joint_names, "action": pose_names}))
    assert "pose: commanded" in str(proposal.text) and proposal.questions == ()
    # changes of a pose are no poses: the joints that are measured are read
    made = lambda r: {STATE: joints(r, 6), "action": 0.02 * r.normal(size=(90, 7))}  # noqa: E731
    names = {STATE: joint_names, "action": [*XYZ, "roll", "pitch", "yaw", "gripper"]}
    proposal = proposed(write(tmp_path / "c", made, names))
    assert "layout: joints" in str(proposal.text) and 'from: "action[6]"' in str(proposal.text)
    # and asked where nothing else is there
    made = lambda r: {"action": 0.02 * r.normal(size=(90, 6))}  # noqa: E731
    proposal = proposed(write(tmp_path / "d", made, {"action": [*XYZ, "roll", "pitch", "yaw"]}))
    assert "how far it shall move" in " ".join(proposal.questions)


def test_a_state_without_names_takes_those_of_the_action_that_it_follows(tmp_path: Path) -> None:
    def made(rng: np.random.Generator) -> dict[str, np.ndarray]:
        asked = pose(rng)
        return {STATE: asked + rng.normal(0, 1e-4, asked.shape) * np.r_[1, 1, 1, 0, 0, 0, 0], "action": asked}

    folder = write(tmp_path / "set", made, {"action": arm("left_", *XYZ, *XYZW)})
    proposal = proposed(folder)
    assert proposal.questions == () and "left:" in str(proposal.text) and "pose: achieved" in str(proposal.text)


@pytest.mark.parametrize(
    "names",
    [
        {"x": 0, "y": 1, "z": 2, "qx": 3, "qy": 4, "qz": 5, "qw": 6},
        {"qw": 6, "qz": 5, "qy": 4, "qx": 3, "z": 2, "y": 1, "x": 0},
        {"motors": [*XYZ, *XYZW]},
        {"axes": [*XYZ, *XYZW]},
        {"position": XYZ, "orientation": XYZW},
        [[*XYZ, *XYZW]],
        [XYZ, XYZW],
    ],
)
def test_every_form_of_names_is_read(tmp_path: Path, names: Any) -> None:
    folder = write(tmp_path / "set", lambda r: state(pose(r)), {STATE: names})
    proposal = proposed(folder)
    assert proposal.questions == () and "form: quaternion, order: xyzw" in str(proposal.text)


@pytest.mark.parametrize(
    "names",
    [
        {"x": 0, "y": 2},
        {"a": "b"},
        [*XYZ],
        {"motors": 7},
        [1.5] * 7,
        {"x": 0, "y": 1, "z": 2, "qx": 3, "qy": 4, "qz": 5, "qw": 9},
    ],
)
def test_names_that_cannot_be_read_are_told(tmp_path: Path, names: Any) -> None:
    folder = write(tmp_path / "set", lambda r: state(pose(r)), {STATE: names})
    assert any("Its names cannot be read" in question for question in proposed(folder).questions)
    with pytest.raises(ValueError, match="cannot be read"):
        open_dataset(folder)
    mapping = tmp_path / "m.yaml"
    mapping.write_text('layout: joints\njoints: {from: "observation.state[0:7]", unit: native}\n')
    assert len(open_dataset(folder, mapping=mapping)) == 6  # by number it goes


def test_one_name_for_a_whole_vector_names_no_column(tmp_path: Path) -> None:
    proposal = proposed(write(tmp_path / "set", lambda r: state(joints(r, 19)), {STATE: ["state"]}))
    assert proposal.questions == () and "[0:19]" in str(proposal.text)


def test_a_name_that_stands_twice_is_not_taken_for_one(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "set", lambda r: state(joints(r, 2), opening(r), opening(r)), {STATE: ["a", "b", "grip", "grip"]}
    )
    mapping = tmp_path / "m.yaml"
    mapping.write_text('layout: joints\njoints: {from: "observation.state[a, grip]", unit: rad}\n')
    with pytest.raises(ValueError, match=r"line 2: .* several columns called 'grip' \(2 and 3\)"):
        open_dataset(folder, mapping=mapping)
    registered = write(tmp_path / "cr5", lambda r: state(joints(r, 6)), {STATE: ["joint_0", "joint_0", *(f"joint_{i}" for i in range(1, 5))]},
                       robot_type="cr5")  # fmt: skip
    with pytest.raises(ValueError, match="several columns called 'joint_0'"):
        open_dataset(registered)


def test_layout_joints_answers_whether_columns_are_joints(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", lambda r: state(joints(r, 6, 0.8)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert open_dataset(folder, layout="joints").layout.name == "joints"


def test_close_names_of_robots_are_named_and_no_others(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", lambda r: state(pose(r)), robot_type="so102")
    with pytest.raises(ValueError, match="if it is one of so101") as caught:
        open_dataset(folder)
    assert len(str(caught.value)) < 900 and "sim_kinova3" not in str(caught.value)


def test_a_known_robot_with_other_columns_does_not_take_its_statistics(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", lambda r: state(joints(r, 4)), {STATE: ["a", "b", "c", "d"]}, robot_type="so101")
    with pytest.warns(UserWarning, match="known with other channels"):
        assert open_dataset(folder).embodiment == "none:so101"


def test_robots_named_in_other_scripts_are_told_apart(tmp_path: Path) -> None:
    found = []
    for name in ("机械臂", "ロボット", "Roboter Ä"):
        folder = write(tmp_path / name, lambda r: state(joints(r, 3)), {STATE: ["j1", "j2", "j3"]}, robot_type=name)
        with pytest.warns(UserWarning, match=name):
            dataset = open_dataset(folder)
        found.append(dataset.embodiment)
        assert dataset.name == name
    assert found == ["none:机械臂", "none:ロボット", "none:roboter_ä"]
