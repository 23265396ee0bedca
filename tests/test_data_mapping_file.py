"""Mapping files: every form against an oracle, every mistake named by its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from folders import STATE, write_v21
from reader_kit import quaternions, write_text
from xtok.actions.embodiments import get_embodiment
from xtok.actions.layout import ARMS26, JOINTS
from xtok.data import iter_chunks, open_dataset, read_mapping
from xtok.data.mapping.rotation_forms import rotation_matrices

spatial = pytest.importorskip("scipy.spatial.transform")
N = 20


def turns(seed: int = 0) -> object:
    return spatial.Rotation.from_quat(quaternions(N, seed), scalar_first=True)


FORMS: dict[tuple[str, str], Callable[[object], np.ndarray]] = {
    ("quaternion", "wxyz"): lambda r: r.as_quat(scalar_first=True),  # type: ignore[attr-defined]
    ("quaternion", "xyzw"): lambda r: r.as_quat(),  # type: ignore[attr-defined]
    ("euler", "xyz"): lambda r: r.as_euler("xyz"),  # type: ignore[attr-defined]
    ("euler", "XYZ"): lambda r: r.as_euler("XYZ"),  # type: ignore[attr-defined]
    ("euler", "zyx"): lambda r: r.as_euler("zyx"),  # type: ignore[attr-defined]
    ("euler", "ZXZ"): lambda r: r.as_euler("ZXZ"),  # type: ignore[attr-defined]
    ("axis_angle", ""): lambda r: r.as_rotvec(),  # type: ignore[attr-defined]
    ("matrix", ""): lambda r: r.as_matrix().reshape(-1, 9),  # type: ignore[attr-defined]
    ("6d", "columns"): lambda r: r.as_matrix()[:, :, :2].transpose(0, 2, 1).reshape(-1, 6),  # type: ignore[attr-defined]
    ("6d", "rows"): lambda r: r.as_matrix()[:, :2].reshape(-1, 6),  # type: ignore[attr-defined]
    ("6d", "interleaved"): lambda r: r.as_matrix()[:, :, :2].reshape(-1, 6),  # type: ignore[attr-defined]
}


@pytest.mark.parametrize(("form", "order"), FORMS)
def test_every_form_gives_the_same_rotation(form: str, order: str) -> None:
    rotation = turns()
    values = FORMS[form, order](rotation)
    expected = rotation.as_matrix()  # type: ignore[attr-defined]
    np.testing.assert_allclose(rotation_matrices(values, form, order, 1.0), expected, atol=1e-12)
    if form in ("euler", "axis_angle"):
        np.testing.assert_allclose(
            rotation_matrices(np.rad2deg(values), form, order, np.pi / 180), expected, atol=1e-12
        )


@pytest.mark.parametrize(("form", "order"), FORMS)
def test_a_mapping_file_reads_a_set_of_every_form(tmp_path: Path, form: str, order: str) -> None:
    values = FORMS[form, order](turns())
    state = np.concatenate(
        [np.random.default_rng(1).normal(0.3, 0.05, (N, 3)) * 1000, values, np.full((N, 1), 25.0)], 1
    )
    folder = write_v21(tmp_path / "set", [{STATE: state}])
    wide = values.shape[1]
    ordered = f", order: {order}" if order else ""
    text = f"""
layout: arms26
left:
  position: {{from: "{STATE}[0:3]", unit: mm}}
  rotation: {{from: "{STATE}[3:{3 + wide}]", form: {form}{ordered}}}
  gripper: {{from: "{STATE}[{3 + wide}]", closed: 100, open: 0}}
"""
    episode = open_dataset(folder, mapping=write_text(tmp_path / "m.yaml", text))[0]
    np.testing.assert_allclose(episode.absolute_ND[:, :3], state[:, :3] / 1000, rtol=1e-6)
    sixd = turns().as_matrix()[:, :, :2].transpose(0, 2, 1).reshape(-1, 6)  # type: ignore[attr-defined]
    np.testing.assert_allclose(episode.absolute_ND[:, 3:9], sixd, atol=1e-6)
    np.testing.assert_allclose(episode.absolute_ND[:, 9], 0.75)
    assert np.flatnonzero(episode.mask_D).tolist() == list(range(10))


def pose_set(tmp_path: Path) -> Path:
    """x, y, z, quaternion (w first), gripper, and a second feature with a command."""
    state = np.concatenate([np.full((N, 3), 0.3), quaternions(N), np.linspace(1, 0, N)[:, None]], axis=1)
    names = {STATE: ["x", "y", "z", "qw", "qx", "qy", "qz", "grip"]}
    return write_v21(tmp_path / "set", [{STATE: state, "action": state + 0.01}], names)


GOOD = """layout: arms26
embodiment: my_arm
pose: achieved
frame: base
right:
  position: {from: "observation.state[x, y, z]", unit: m}
  rotation: {from: "observation.state[3:7]", form: quaternion, order: wxyz}
  gripper: {from: "observation.state[grip]", closed: 0, open: 1}
"""


def test_columns_by_name_number_and_span(tmp_path: Path) -> None:
    folder = pose_set(tmp_path)
    named = open_dataset(folder, mapping=write_text(tmp_path / "a.yaml", GOOD))[0]
    numbered = GOOD.replace("[x, y, z]", "[0, 1:3]").replace("[grip]", "[7]")
    np.testing.assert_array_equal(
        open_dataset(folder, mapping=write_text(tmp_path / "b.yaml", numbered))[0].absolute_ND, named.absolute_ND
    )
    commanded = GOOD.replace("achieved", "commanded").replace("observation.state[x, y, z]", "action[0:3]")
    episode = open_dataset(folder, mapping=write_text(tmp_path / "c.yaml", commanded))[0]
    assert episode.action_source == "commanded"
    np.testing.assert_allclose(episode.absolute_ND[:, 10], 0.31)


def test_a_mapping_file_stands_for_its_data(tmp_path: Path) -> None:
    folder = pose_set(tmp_path)
    file = write_text(tmp_path / "m.yaml", f"data: {folder.name}\n{GOOD}")
    ours, theirs = open_dataset(file), open_dataset(folder, mapping=file)
    np.testing.assert_array_equal(ours[0].absolute_ND, theirs[0].absolute_ND)
    assert sum(map(len, iter_chunks(ours, 8))) == N - 8
    with pytest.raises(ValueError, match="a mapping without 'data: FOLDER'"):
        open_dataset(write_text(tmp_path / "no.yaml", GOOD))
    with pytest.raises(ValueError, match="no folder at"):
        open_dataset(write_text(tmp_path / "gone.yaml", f"data: gone\n{GOOD}"))


def test_the_frame_of_the_data_is_brought_to_the_base(tmp_path: Path) -> None:
    folder = pose_set(tmp_path)
    frame = """frame:
  name: world
  base_position_m: [0.1, 0.2, 0.0]
  base_rotation: {form: euler, order: xyz, unit: deg, value: [0, 0, 90]}
"""
    moved = open_dataset(folder, mapping=write_text(tmp_path / "w.yaml", GOOD.replace("frame: base\n", frame)))[0]
    plain = open_dataset(folder, mapping=write_text(tmp_path / "b.yaml", GOOD))[0]
    base = spatial.Rotation.from_euler("z", 90, degrees=True)
    position = base.inv().apply(plain.absolute_ND[:, 10:13] - [0.1, 0.2, 0.0])
    np.testing.assert_allclose(moved.absolute_ND[:, 10:13], position, atol=1e-6)
    columns = plain.absolute_ND[:, 13:19].reshape(-1, 3)
    np.testing.assert_allclose(moved.absolute_ND[:, 13:19].reshape(-1, 3), base.inv().apply(columns), atol=1e-6)


JOINT_MAPPING = """layout: joints
embodiment: my_robot
joints:
  - {from: "observation.state[0:2]", unit: deg}
  - {from: "observation.state[2]", unit: native}
grippers:
  - {from: action, closed: 1, open: -1}
"""


def test_joints_in_degrees_and_a_commanded_gripper(tmp_path: Path) -> None:
    state, command = np.linspace(-90, 90, 3 * N).reshape(N, 3), np.linspace(1, -1, N)[:, None]
    folder = write_v21(tmp_path / "set", [{STATE: state, "action": command}])
    dataset = open_dataset(folder, mapping=write_text(tmp_path / "m.yaml", JOINT_MAPPING))
    episode = dataset[0]
    assert (dataset.layout, dataset.embodiment) == (JOINTS, "none:my_robot")
    assert dataset.joint_unit("none:my_robot") == episode.joint_unit == "native"
    assert get_embodiment("none:my_robot").joint_unit == "rad"  # another set of that robot may be in radians
    np.testing.assert_allclose(episode.absolute_ND[:, :2], np.deg2rad(state[:, :2]), rtol=1e-6)
    np.testing.assert_allclose(episode.absolute_ND[:, 2], state[:, 2], rtol=1e-6)
    np.testing.assert_allclose(episode.absolute_ND[:, 60], np.linspace(0, 1, N), atol=1e-6)
    assert int(episode.mask_D.sum()) == 4


SLIDER = """<robot name="r"><link name="root"/><link name="hand"/>
<joint name="turn" type="revolute"><parent link="root"/><child link="mid"/><axis xyz="0 0 1"/>
<limit lower="-9" upper="9" effort="1" velocity="1"/></joint><link name="mid"/>
<joint name="slide" type="prismatic"><parent link="mid"/><child link="hand"/><axis xyz="1 0 0"/>
<limit lower="-9" upper="9" effort="1" velocity="1"/></joint></robot>"""
KINEMATIC = """layout: arms26
kinematics:
  urdf: arm.urdf
  joints: {from: observation.state, unit: rad, names: [slide, turn]}
  frames: {right: hand}
right:
  gripper: {from: "observation.state[0]", closed: 0, open: 1}
"""


def test_joints_become_poses_by_a_urdf_beside_the_file(tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    write_text(tmp_path / "arm.urdf", SLIDER)
    state = np.stack([np.linspace(0.2, 0.8, N), np.linspace(0, 1, N)], axis=1)
    folder = write_v21(tmp_path / "set", [{STATE: state}])
    episode = open_dataset(folder, mapping=write_text(tmp_path / "m.yaml", KINEMATIC))[0]
    expected = state[:, :1] * np.stack([np.cos(state[:, 1]), np.sin(state[:, 1]), np.zeros(N)], axis=1)
    np.testing.assert_allclose(episode.absolute_ND[:, 10:13], expected, atol=1e-6)
    assert int(episode.mask_D.sum()) == 10
    with pytest.raises(ValueError, match=r"m.yaml, line 2: .*no link, body or site 'paw'"):
        open_dataset(folder, mapping=write_text(tmp_path / "m.yaml", KINEMATIC.replace("right: hand", "right: paw")))[0]
    with pytest.raises(ValueError, match=r"m.yaml, line 2: .*no URDF 'leg.urdf'"):
        open_dataset(folder, mapping=write_text(tmp_path / "m.yaml", KINEMATIC.replace("arm.urdf", "leg.urdf")))[0]


WRONG: list[tuple[str, str, int, str]] = [  # in GOOD: what, by what, in which line, and what is said of it
    ("layout: arms26", "layout: arms62", 1, "did you mean 'arms26'"),
    ("embodiment: my_arm", "embodyment: my_arm", 2, "unknown key 'embodyment'; did you mean 'embodiment'"),
    ("pose: achieved", "pose: acheived", 3, "did you mean 'achieved'"),
    ("pose: achieved", "pose:", 3, "wants a word, not nothing"),
    ("frame: base", "frame: base\ncontrol_hz: fast", 5, "wants a number, not 'fast'"),
    ("frame: base", "frame: base\ncontrol_hz: -3", 5, "expected a rate in Hz"),
    ("frame: base", "frame: base\nframe: world", 5, "stands here twice \\(before in line 4\\)"),
    ("frame: base", "frame: base\njoints: {from: action}", 5, "does not go with layout arms26"),
    ("unit: m}", "unit: furlong}", 6, "expected one of m, cm, mm"),
    ("[x, y, z]", "[x, y, q]", 6, "no column 'q'; its columns are x, y, z"),
    ("[x, y, z]", "[x, y]", 6, "2 columns for right position, which has 3"),
    ("[x, y, z]", "[x, y, z", 6, "expected FEATURE"),
    ("observation.state[x, y, z]", "observation.stat[x, y, z]", 6, "no feature 'observation.stat'; it has"),
    ("observation.state[3:7]", "observation.state[3:6]", 7, "3 columns for a rotation of form quaternion, which has 4"),
    ("observation.state[3:7]", "observation.state[6:12]", 7, "has columns 0 to 7, not 11"),
    ("observation.state[3:7]", "observation.state[7:3]", 7, "is empty"),
    ("observation.state[3:7]", "observation.state[4:8]", 7, "as a quaternion, the columns have length .* in row 0"),
    (", order: wxyz", "", 7, "wants its 'order': wxyz or xyzw"),
    ("order: wxyz", "order: wxzy", 7, "expected one of wxyz, xyzw"),
    ("form: quaternion, order: wxyz", "form: euler, order: xxy", 7, "expected three axes"),
    ("order: wxyz}", "order: wxyz, unit: deg}", 7, "has no 'unit'"),
    ("closed: 0, open: 1", "closed: 1, open: 1", 8, "'open' equals 'closed'"),
    ("closed: 0, open: 1", "closed: 0", 8, "lacks 'open'"),
    ("closed: 0, open: 1", "closed: 0, open: 0.1", 8, "go far beyond closed 0 and open 0.1"),
    ("right:", "right: {position: 3}\nleft:", 5, "lacks 'rotation'"),
    ("right:", "right: &a", 5, "anchors and aliases are not read"),
    ("pose: achieved", "pose: !!python/object:os.system achieved", 3, "the tag .* is not read"),
    ("pose: achieved", "pose: [achieved", 4, "no YAML"),
    ("pose: achieved", "pose: achieved\n---", 4, "a second document"),
    ("pose: achieved", "pose: " + "[" * 30 + "]" * 30, 3, "nested too deeply"),
]  # fmt: skip


@pytest.mark.parametrize(("right", "wrong", "line", "says"), WRONG)
def test_a_mistake_is_named_by_its_line(tmp_path: Path, right: str, wrong: str, line: int, says: str) -> None:
    assert right in GOOD
    path = write_text(tmp_path / "m.yaml", GOOD.replace(right, wrong, 1))
    with pytest.raises(
        ValueError, match=rf"m\.yaml, line {line}: .*{says}" if "far beyond" not in says else says
    ) as info:
        open_dataset(pose_set(tmp_path), mapping=path)[0]
    assert f"m.yaml, line {line}" in str(info.value)


def test_units_that_cannot_be(tmp_path: Path) -> None:
    state = np.concatenate([np.full((N, 3), 300.0), np.linspace(-90, 90, 3 * N).reshape(N, 3)], axis=1)
    folder = write_v21(tmp_path / "set", [{STATE: state}])
    text = """layout: arms26
right:
  position: {from: "observation.state[0:3]", unit: UNIT}
  rotation: {from: "observation.state[3:6]", form: euler, order: xyz, unit: ANGLE}
"""

    def opened(unit: str, angle: str) -> object:
        filled = text.replace("UNIT", unit).replace("ANGLE", angle)
        return open_dataset(folder, mapping=write_text(tmp_path / "m.yaml", filled))[0]

    opened("mm", "deg")
    with pytest.raises(ValueError, match=r"line 3: a hand 300 m from the base, read as m"):
        opened("m", "deg")
    with pytest.raises(ValueError, match=r"line 4: an angle reaches 14.3 full turns; is it deg\?"):
        opened("mm", "rad")
    joints = 'layout: joints\njoints: {from: "observation.state[3:6]"}\n'
    with pytest.raises(ValueError, match=r"line 2: a joint at 90 rad, read as rad; is it deg"):
        open_dataset(folder, mapping=write_text(tmp_path / "j.yaml", joints))[0]


def test_what_goes_with_a_mapping_and_what_does_not(tmp_path: Path) -> None:
    folder, path = pose_set(tmp_path), write_text(tmp_path / "m.yaml", GOOD)
    with pytest.raises(ValueError, match="is for layout 'arms26', asked for is 'joints'"):
        open_dataset(folder, layout="joints", mapping=path)
    with pytest.raises(ValueError, match="set 'embodiment' and 'pose' there"):
        open_dataset(folder, embodiment="panda", mapping=path)
    with pytest.raises(ValueError, match=r"cannot read .*absent.yaml"):
        read_mapping(tmp_path / "absent.yaml")
    with pytest.raises(ValueError, match="is empty"):
        read_mapping(write_text(tmp_path / "e.yaml", "# nothing\n"))
    with pytest.raises(ValueError, match="over 64000 bytes"):
        read_mapping(write_text(tmp_path / "big.yaml", "#" * 70_000))


def test_a_registered_robot_keeps_its_name_only_with_its_channels(tmp_path: Path) -> None:
    folder = write_v21(
        tmp_path / "set",
        [{STATE: np.concatenate([np.full((N, 3), 0.3), quaternions(N)], axis=1)}],
        robot_type="so101_follower",
    )
    text = GOOD.replace("embodiment: my_arm\n", "").replace("[x, y, z]", "[0:3]")
    text = "\n".join(line for line in text.splitlines() if "gripper" not in line)
    assert open_dataset(folder, mapping=write_text(tmp_path / "m.yaml", text)).embodiment == "none:so101_follower"
    assert ARMS26.name == "arms26"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from("xyzXYZ"), min_size=3, max_size=3).map("".join),
    st.lists(st.floats(-3, 3), min_size=3, max_size=3),
)
def test_euler_orders_agree_with_scipy(order: str, angles: list[float]) -> None:
    one_case = order in (order.lower(), order.upper())
    values = np.array([angles])
    if not one_case or order[0] == order[1] or order[1] == order[2]:
        return
    expected = spatial.Rotation.from_euler(order, angles).as_matrix()
    np.testing.assert_allclose(rotation_matrices(values, "euler", order, 1.0)[0], expected, atol=1e-9)
