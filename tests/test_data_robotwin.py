"""RoboTwin HDF5 in both generations: poses, words, and pictures: channels swapped, ends padded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from reader_kit import arm_pose, picture, write_robotwin_classic, write_robotwin_v1
from xtok.actions.layout import ARMS26, JOINTS
from xtok.actions.rotation import matrix_from_quaternion, rotation6d_from_matrix
from xtok.data import open_dataset
from xtok.data.media.images import jpeg_comments
from xtok.data.open import open_source

cv2 = pytest.importorskip("cv2")
torch = pytest.importorskip("torch")


def expected_arm(pose: np.ndarray) -> np.ndarray:
    """[N, 9]: position and 6D rotation."""
    sixd = rotation6d_from_matrix(matrix_from_quaternion(torch.from_numpy(pose[:, 3:]))).numpy()
    return np.concatenate([pose[:, :3], sixd], axis=1)


def test_classic_gives_measured_poses(tmp_path: Path) -> None:
    dataset = open_dataset(write_robotwin_classic(tmp_path / "rt"))
    assert (dataset.layout, dataset.embodiment, len(dataset)) == (ARMS26, "none:robotwin", 2)
    assert dataset.control_hz == pytest.approx(250 / 15, rel=1e-4)
    second = dataset[1]
    assert (second.instruction, second.action_source, len(second)) == ("pick up cup 1", "achieved", 12)
    for k, start in ((0, 0), (1, 10)):
        np.testing.assert_allclose(
            second.absolute_ND[:, start : start + 9], expected_arm(arm_pose(12, 10 + k)), atol=1e-6
        )
        np.testing.assert_allclose(second.absolute_ND[:, start + 9], np.linspace(1, 0, 12), atol=1e-6)
    assert np.flatnonzero(second.mask_D).tolist() == list(range(20))


def test_v1_gives_measured_poses_and_its_own_rate(tmp_path: Path) -> None:
    dataset = open_dataset(write_robotwin_v1(tmp_path / "rt"))
    assert (dataset.embodiment, dataset.control_hz, len(dataset)) == ("none:aloha_agilex", 15.0, 2)
    episode = dataset[0]
    assert episode.instruction == "pick up cup 0"
    np.testing.assert_allclose(episode.absolute_ND[:, :9], expected_arm(arm_pose(10, 0))[:9], atol=1e-6)


@pytest.mark.parametrize("write", [write_robotwin_classic, write_robotwin_v1])
def test_joints_are_commands(tmp_path: Path, write: object) -> None:
    dataset = open_dataset(write(tmp_path), layout="joints")  # type: ignore[operator]
    assert dataset.layout == JOINTS and dataset[0].action_source == "commanded"
    assert int(dataset[0].mask_D.sum()) == 14


@pytest.mark.parametrize("write", [write_robotwin_classic, write_robotwin_v1])
def test_pictures_come_in_true_colours(tmp_path: Path, write: object) -> None:
    episode = open_dataset(write(tmp_path))[1]  # type: ignore[operator]
    (view,) = episode.videos.values()
    assert len(view) == 12
    seen = view.frames([7, 0])
    for shown, number in zip(seen, (7, 0), strict=True):
        difference = np.abs(shown.astype(int) - picture(number).astype(int)).mean()
        assert difference < 6, "red and blue are swapped, or the frame is another"
    assert seen[0, -1, -1, 0] > 180 and abs(int(seen[0, -1, -1, 2]) - 70) < 12


def _marked(jpeg: bytes, *comments: bytes) -> bytes:
    """With comments (COM segments) after its start."""
    return jpeg[:2] + b"".join(b"\xff\xfe" + (len(c) + 2).to_bytes(2, "big") + c for c in comments) + jpeg[2:]


def _coded(image: np.ndarray, quality: int = 95) -> bytes:
    """A JPEG of an array that is BGR."""
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _with_pictures(root: Path, write: Any, jpegs: list[bytes]) -> Any:
    write(root, lengths=(len(jpegs),))
    with h5py.File(next(root.rglob("*.hdf5")), "a") as archive:
        name = "observation/head_camera/rgb" if "observation" in archive else "vision/cam_head/colors"
        del archive[name]
        archive.create_dataset(name, data=jpegs, dtype=f"S{max(map(len, jpegs))}")
    (view,) = open_dataset(root)[0].videos.values()
    return view


@pytest.mark.parametrize("write", [write_robotwin_classic, write_robotwin_v1])
def test_colours_go_by_the_mark_in_each_jpeg(tmp_path: Path, write: Any) -> None:
    images = [picture(k) for k in range(6)]
    old = [_coded(image) for image in images]  # RGB that cv2 takes for BGR
    true = [_coded(image[..., ::-1]) for image in images]
    jpegs = [
        old[0], _marked(true[1], b"XPL-RGB1"), _marked(true[2], b"made by hand", b"XPL-RGB1\0"),
        _marked(old[3], b"CREATOR: gd-jpeg v1.0"), old[4], _marked(true[5], b"XPL-RGB1"),
    ]  # fmt: skip
    seen = _with_pictures(tmp_path, write, jpegs).frames([5, 0, 1, 2, 3, 4])
    for shown, number in zip(seen, (5, 0, 1, 2, 3, 4), strict=True):
        assert np.abs(shown.astype(int) - images[number].astype(int)).mean() < 6, number


def test_the_mark_is_found_behind_other_segments(tmp_path: Path) -> None:
    true = _coded(picture(3)[..., ::-1])
    assert true[2:4] == b"\xff\xe0"  # APP0
    end = 4 + int.from_bytes(true[4:6], "big")
    exif = b"\xff\xe1" + (40).to_bytes(2, "big") + b"Exif XPL-NOT" + bytes(26)
    behind = true[:end] + exif + b"\xff" + b"\xff\xfe\x00\x0aXPL-RGB1" + true[end:]  # with a byte of filling
    within = true[:-2] + b"\xff\xfe\x00\x0aXPL-RGB1" + true[-2:]  # after the picture: none of its comments
    assert jpeg_comments(behind) == [b"XPL-RGB1"] and jpeg_comments(within) == []
    assert jpeg_comments(true[:30]) == [] and jpeg_comments(b"\xff\xd8\xff\xfe\x00\x01XPL") == []
    shown = _with_pictures(tmp_path, write_robotwin_v1, [behind]).frames([0])[0]
    assert np.abs(shown.astype(int) - picture(3).astype(int)).mean() < 6


@pytest.mark.parametrize("mark", [b"XPL-RGB2", b"XPL-BGR1", b"XPL", b"xpl-rgb1", b"XPL-RGB1 of another kind"])
def test_a_mark_that_is_not_known_is_told_and_the_old_rule_kept(tmp_path: Path, mark: bytes) -> None:
    view = _with_pictures(tmp_path, write_robotwin_classic, [_marked(_coded(picture(2)), mark)])
    with pytest.warns(
        UserWarning, match=r"head_camera: pictures are marked .*not known.*red and blue swapped, as of old"
    ):
        shown = view.frames([0])[0]
    assert np.abs(shown.astype(int) - picture(2).astype(int)).mean() < 6


def test_padding_is_really_in_the_file(tmp_path: Path) -> None:
    write_robotwin_classic(tmp_path)
    with h5py.File(next(tmp_path.rglob("episode1.hdf5"))) as archive:
        column = archive["observation/head_camera/rgb"]
        assert len({len(bytes(jpeg)) for jpeg in column}) > 1, "JPEGs must differ in length to be padded"


def test_pictures_as_rows_of_bytes_or_plain_arrays(tmp_path: Path) -> None:
    write_robotwin_v1(tmp_path / "rt", lengths=(4,))
    path = next(tmp_path.rglob("*.hdf5"))
    with h5py.File(path, "a") as archive:
        jpegs = [np.frombuffer(bytes(jpeg), dtype=np.uint8) for jpeg in archive["vision/cam_head/colors"]]
        padded = np.zeros((4, max(map(len, jpegs)) + 9), dtype=np.uint8)
        for row, jpeg in zip(padded, jpegs, strict=True):
            row[: len(jpeg)] = jpeg
        archive["vision/cam_left_wrist/colors"] = padded
        archive["vision/cam_third_view/colors"] = np.stack([picture(k) for k in range(4)])
    videos = open_dataset(tmp_path / "rt")[0].videos
    np.testing.assert_array_equal(videos["cam_left_wrist"].frames([2]), videos["cam_head"].frames([2]))
    np.testing.assert_array_equal(videos["cam_third_view"].frames([2])[0], picture(2))  # plain arrays are RGB


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    root = write_robotwin_classic(tmp_path / "cut", pictures=False)
    whole = next(root.rglob("episode1.hdf5"))
    whole.write_bytes(whole.read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"episode1.hdf5.*truncated"):
        open_dataset(root)[1]
    root = write_robotwin_classic(tmp_path / "nan", pictures=False)
    with h5py.File(next(root.rglob("episode0.hdf5")), "a") as archive:
        archive["endpose/left_endpose"][4, 2] = np.nan
    with pytest.raises(ValueError, match=r"left_endpose\[2\], row 4 is nan"):
        open_dataset(root)[0]
    root = write_robotwin_classic(tmp_path / "length", pictures=False)
    with h5py.File(next(root.rglob("episode0.hdf5")), "a") as archive:
        del archive["endpose/left_gripper"]
        archive["endpose/left_gripper"] = np.zeros(5)
    with pytest.raises(ValueError, match="differ in length"):
        open_dataset(root)[0]
    root = write_robotwin_v1(tmp_path / "both")
    write_robotwin_classic(root / "zz", pictures=False)
    with pytest.raises(ValueError, match="another generation"):
        open_dataset(root)[2]
    other = tmp_path / "other"
    other.mkdir()
    with h5py.File(other / "episode0.hdf5", "w") as archive:
        archive["qpos"] = np.zeros((4, 3))
    with pytest.raises(ValueError, match=r"has \['qpos'\]; expected RoboTwin"):
        open_source(other)
    with pytest.raises(ValueError, match="frequency is -3"):
        open_source(write_robotwin_v1(tmp_path / "hz", hz=-3))


def test_links_to_other_files_are_not_followed(tmp_path: Path) -> None:
    root = write_robotwin_classic(tmp_path / "rt", lengths=(9,), pictures=False)
    with h5py.File(tmp_path / "secret.h5", "w") as other:
        other["a"] = np.zeros((9, 3))
        other["rgb"] = np.zeros((9, 4, 4, 3), dtype=np.uint8)
    with h5py.File(next(root.rglob("episode0.hdf5")), "a") as archive:
        archive["endpose/secret"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "a")
        archive["observation/head_camera/rgb"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "rgb")
    source = open_source(root)
    assert "endpose/secret" not in source.features and source.cameras == ()


def test_a_column_of_absurd_size_is_left_alone(tmp_path: Path) -> None:
    root = write_robotwin_classic(tmp_path, lengths=(9,), pictures=False)
    with h5py.File(next(root.rglob("episode0.hdf5")), "a") as archive:  # nothing is stored: 8 TB of fill values
        archive.create_dataset("endpose/huge", shape=(10**6, 10**6), dtype="f8", chunks=(1, 1000))
        archive.create_dataset("observation/big/rgb", shape=(9, 10**5, 10**5, 3), dtype="u1", chunks=(1, 10, 10, 3))
    source = open_source(root)
    assert "endpose/huge" not in source.features
    with pytest.raises(ValueError, match="a picture of 30,000,000,000 bytes"):
        source.read(0, ["endpose/left_gripper"]).videos["big"].frames([0])
