"""Forward kinematics against arithmetic, against pinocchio, and against broken models.

# N rows, F frames, J joints
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xtok.actions.kinematics import ForwardKinematics, bundled_urdf, strip_urdf

# Two links of 1 m and .5 m that turn about z, then a slide along x; with a mesh that does not exist.
PLANAR_URDF = """
<robot name="planar">
  <link name="root"/>
  <link name="upper"><visual><geometry><mesh filename="absent.stl"/></geometry></visual></link>
  <link name="lower"/><link name="tip"/>
  <joint name="shoulder" type="revolute"><parent link="root"/><child link="upper"/>
    <origin xyz="0 0 0.2"/><axis xyz="0 0 1"/><limit lower="-3" upper="3" effort="1" velocity="1"/></joint>
  <joint name="elbow" type="revolute"><parent link="upper"/><child link="lower"/>
    <origin xyz="1 0 0"/><axis xyz="0 0 1"/><limit lower="-3" upper="3" effort="1" velocity="1"/></joint>
  <joint name="slide" type="prismatic"><parent link="lower"/><child link="tip"/>
    <origin xyz="0.5 0 0"/><axis xyz="1 0 0"/><limit lower="0" upper="1" effort="1" velocity="1"/></joint>
</robot>
"""
MJCF = """
<mujoco><compiler angle="radian" meshdir="/absent"/>
  <asset><mesh name="m" file="absent.stl"/><texture name="t" type="2d" file="absent.png"/>
    <material name="p" texture="t"/></asset>
  <worldbody>
    <geom type="plane" size="1 1 1" material="p"/>
    <body name="base" pos="[1, 2, 0.5]"><body name="arm"><joint name="turn" axis="0 0 1" range="-1 1" limited="true"/>
      <geom type="mesh" mesh="m"/><site name="grip" pos="1 0 0" material="p"/></body></body>
    <body name="cube"><joint name="cube_free" type="free"/><geom type="box" size=".1 .1 .1"/></body>
  </worldbody>
  <actuator><motor joint="turn"/></actuator>
</mujoco>
"""


def planar_tip(shoulder: np.ndarray, elbow: np.ndarray, slide: np.ndarray) -> np.ndarray:
    both, reach = shoulder + elbow, 0.5 + slide
    x, y = np.cos(shoulder) + reach * np.cos(both), np.sin(shoulder) + reach * np.sin(both)
    return np.stack([x, y, np.full_like(x, 0.2)], axis=1)


def test_planar_arm_agrees_with_trigonometry_in_any_order_of_joints() -> None:
    forward = ForwardKinematics(PLANAR_URDF, ["tip", "lower"])
    assert forward.joint_names == ("shoulder", "elbow", "slide")
    q_NJ = np.random.default_rng(0).uniform([-3, -3, 0], [3, 3, 1], (20, 3))
    poses = forward(["slide", "shoulder", "elbow"], q_NJ[:, [2, 0, 1]])
    assert poses.position_m.shape == (20, 2, 3) and poses.matrix.shape == (20, 2, 3, 3)
    np.testing.assert_allclose(poses.position_m[:, 0], planar_tip(*q_NJ.T), atol=1e-12)
    np.testing.assert_allclose(poses.matrix[:, 0, 0, 0], np.cos(q_NJ[:, 0] + q_NJ[:, 1]), atol=1e-12)


def test_base_frame_turns_and_moves_the_poses() -> None:
    q_NJ = np.random.default_rng(1).uniform(-1, 1, (5, 3))
    names = ("shoulder", "elbow", "slide")
    in_root = ForwardKinematics(PLANAR_URDF, ["upper", "tip"], base="root")(names, q_NJ)
    in_upper = ForwardKinematics(PLANAR_URDF, ["tip"], base="upper")(names, q_NJ)
    upper_R, upper_p = in_root.matrix[:, 0], in_root.position_m[:, 0]
    expected = np.einsum("nji,nj->ni", upper_R, in_root.position_m[:, 1] - upper_p)
    np.testing.assert_allclose(in_upper.position_m[:, 0], expected, atol=1e-12)
    np.testing.assert_allclose(upper_R @ in_upper.matrix[:, 0], in_root.matrix[:, 1], atol=1e-12)


def test_mjcf_with_absent_assets_and_list_like_positions_is_repaired() -> None:
    forward = ForwardKinematics(MJCF, ["grip"])
    poses = forward(["turn"], np.array([[0.0], [np.pi / 2]]))
    np.testing.assert_allclose(poses.position_m[:, 0], [[2, 2, 0.5], [1, 3, 0.5]], atol=1e-12)
    assert forward.qpos_width == 8 and forward.qpos_index("turn") == 0


@pytest.mark.parametrize(
    ("names", "q", "message"),
    [
        (["shoulder", "elbow"], np.zeros((1, 2)), r"joints \['slide'\] move"),
        (["shoulder", "elbow", "knee"], np.zeros((1, 3)), "no joint 'knee'"),
        (["shoulder", "elbow", "elbow"], np.zeros((1, 3)), "named twice"),
        (["shoulder", "elbow", "slide"], np.zeros((1, 2)), r"expected \[N, 3\]"),
        (["shoulder", "elbow", "slide"], np.array([[0, 0, 0], [0, np.nan, 0]]), "'elbow' is not finite in row 1"),
    ],
)
def test_calls_that_do_not_fit_are_refused(names: list[str], q: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ForwardKinematics(PLANAR_URDF, ["tip"])(names, q)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("<robot><link name='a'>", "not well-formed"),
        ("<html></html>", "expected <robot>"),
        ("no/such/file.urdf", "no robot model at"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><robot/>", "XML entities"),
        (
            "<robot name='r'><link name='a'/><joint name='j' type='fixed'><parent link='z'/></joint></robot>",
            "mujoco cannot",
        ),
        (PLANAR_URDF, "no link, body or site 'hand'"),
    ],
)
def test_models_that_cannot_be_used_are_refused(model: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ForwardKinematics(model, ["hand"])


def test_a_floating_joint_is_no_column() -> None:
    with pytest.raises(ValueError, match="floats or is a ball"):
        ForwardKinematics(MJCF, ["grip"])(["turn", "cube_free"], np.zeros((1, 2)))


def test_bundled_urdf_refuses_names_that_do_not_ship() -> None:
    with pytest.raises(ValueError, match=r"no URDF 'x.urdf' ships.*g1_dual_arm.urdf"):
        bundled_urdf("x.urdf")


def test_bundled_g1_agrees_with_pinocchio() -> None:
    check_against_pinocchio(bundled_urdf("g1_dual_arm.urdf"), ["left_wrist_yaw_link", "right_wrist_yaw_link"])


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("g1_dual_arm", ["left_wrist_yaw_link", "right_wrist_yaw_link"]),
        ("g1", ["left_palm_link", "right_palm_link"]),
        ("so101_new_calib", ["gripper_link", "lower_arm_link"]),
    ],
)
def test_urdfs_of_the_data_agree_with_pinocchio(shared_data: Path, name: str, frames: list[str]) -> None:
    check_against_pinocchio((shared_data / "urdf" / f"{name}.urdf").read_text(), frames)


@pytest.mark.realdata
def test_bundled_g1_is_the_stripped_original(shared_data: Path) -> None:
    original = (shared_data / "urdf" / "g1_dual_arm.urdf").read_text()
    assert bundled_urdf("g1_dual_arm.urdf").endswith(strip_urdf(original) + "\n")


def check_against_pinocchio(urdf: str, frames: list[str]) -> None:
    pin = pytest.importorskip("pinocchio")
    model = pin.buildModelFromXML(urdf)
    data = model.createData()
    forward = ForwardKinematics(urdf, frames)
    q_NJ = np.random.default_rng(2).uniform(-1.5, 1.5, (50, len(forward.joint_names)))
    poses = forward(forward.joint_names, q_NJ)
    columns = [model.joints[model.getJointId(name)].idx_q for name in forward.joint_names]
    for row, q_J in enumerate(q_NJ):
        q = pin.neutral(model)
        q[columns] = q_J
        pin.framesForwardKinematics(model, data, q)
        for column, frame in enumerate(frames):
            placement = data.oMf[model.getFrameId(frame)]
            np.testing.assert_allclose(poses.position_m[row, column], placement.translation, atol=1e-9)
            np.testing.assert_allclose(poses.matrix[row, column], placement.rotation, atol=1e-9)
