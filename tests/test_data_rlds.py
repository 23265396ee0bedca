"""RLDS sets, written small and Bridge's own."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from reader_kit import frame, rlds_episode, write_rlds, write_text
from xtok.actions.layout import ARMS26
from xtok.data import iter_chunks, open_dataset
from xtok.data.open import open_source

MAPPING = """
layout: arms26
control_hz: 4
right:
  position: {from: "observation/state[0:3]", unit: m}
  rotation: {from: "observation/state[3:6]", form: euler, order: xyz}
  gripper: {from: "observation/state[6]", closed: 0, open: 1}
"""


def test_steps_become_rows(tmp_path: Path) -> None:
    episodes = [rlds_episode(12, 0), rlds_episode(9, 1, b"put it down")]
    source = open_source(write_rlds(tmp_path / "set", episodes))
    assert {name: feature.width for name, feature in source.features.items()} == {"action": 7, "observation/state": 7}
    assert (source.format, source.robot_type, source.control_hz, len(source)) == ("RLDS TFRecord", "my_set", None, 2)
    second = source.read(1, ["observation/state"])
    assert second.instruction == "put it down"
    np.testing.assert_array_equal(second.arrays["observation/state"].ravel(), episodes[1]["steps/observation/state"])


def test_a_set_that_nobody_described_asks_for_a_mapping(tmp_path: Path) -> None:
    folder = write_rlds(tmp_path / "set", [rlds_episode()])
    with pytest.raises(ValueError, match=r"cannot map robot_type 'my_set'(.|\n)*xtok inspect"):
        open_dataset(folder)
    dataset = open_dataset(folder, mapping=write_text(tmp_path / "m.yaml", MAPPING))
    assert (dataset.embodiment, dataset.control_hz, dataset.layout) == ("none:my_set", 4.0, ARMS26)
    np.testing.assert_allclose(dataset[0].timestamps_s, np.arange(12) / 4)


def test_version_folders(tmp_path: Path) -> None:
    write_rlds(tmp_path / "set" / "1.0.0", [rlds_episode()])
    assert len(open_source(tmp_path / "set")) == 1
    write_rlds(tmp_path / "set" / "1.1.0", [rlds_episode()])
    with pytest.raises(ValueError, match="several folders"):
        open_source(tmp_path / "set")


def test_pictures_are_read_when_asked_for(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    colours = [np.full((16, 24, 3), (10 * i, 0, 200), dtype=np.uint8) for i in range(12)]
    pngs = []
    for colour in colours:
        image.fromarray(colour).save(buffer := io.BytesIO(), "PNG")
        pngs.append(buffer.getvalue())
    source = open_source(write_rlds(tmp_path, [rlds_episode(**{"steps/observation/image": pngs})]))
    assert source.cameras == ("observation/image",)
    view = source.read(0, ["action"]).videos["observation/image"]
    np.testing.assert_array_equal(view.frames([3, 3, 11]), np.stack([colours[3], colours[3], colours[11]]))
    with pytest.raises(ValueError, match=r"outside 0\.\.11"):
        view.frames([12])


def test_episodes_that_cannot_be(tmp_path: Path) -> None:
    short = rlds_episode(12)
    short["steps/observation/state"] = np.asarray(short["steps/observation/state"])[:-1]
    folder = write_rlds(tmp_path / "short", [rlds_episode(), short])
    with pytest.raises(
        ValueError, match=r"episode 1: feature 'observation/state' has 83 values; expected 12 steps of 7"
    ):
        open_source(folder).read(1, ["observation/state"])
    broken = rlds_episode(12)
    broken["steps/action"] = np.where(np.arange(84) == 30, np.nan, np.asarray(broken["steps/action"]))
    with pytest.raises(ValueError, match=r"action\[2\], row 4 is nan"):
        open_source(write_rlds(tmp_path / "nan", [broken])).read(0, ["action"])
    with pytest.raises(ValueError, match="no 'steps/is_first'"):
        open_source(write_rlds(tmp_path / "flat", [{"image": [b"x"]}]))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.tfrecord").write_bytes(b"")
    with pytest.raises(ValueError, match="hold no episodes"):
        open_source(tmp_path / "empty")
    (tmp_path / "empty" / "a.tfrecord").write_bytes(frame(b"\x0f"))
    with pytest.raises(ValueError, match="wire type 7"):
        open_source(tmp_path / "empty")


@pytest.mark.realdata
def test_bridge(shared_data: Path) -> None:
    dataset = open_dataset(shared_data / "bridge-v1-octo-debug")
    assert (dataset.embodiment, dataset.control_hz, len(dataset), dataset.layout) == ("bridge_widowx", 5.0, 25, ARMS26)
    assert {len(episode) for episode in dataset} == {10}
    assert {int(episode.mask_D.sum()) for episode in dataset} == {10}
    assert len({episode.instruction for episode in dataset}) == 4
    assert sum(map(len, iter_chunks(dataset, 8))) == 25 * 2
    episode = dataset[0]
    assert len(episode.videos) == 4
    assert episode.videos["observation/image_0"].frames([0, 9]).shape == (2, 64, 64, 3)
    assert episode.videos["observation/image_3"].frames([0]).max() == 0


@pytest.mark.realdata
def test_bridge_agrees_with_its_own_actions(shared_data: Path) -> None:
    """Its actions are commanded steps, so the poses must move about as they say, turned about fixed axes."""
    spatial = pytest.importorskip("scipy.spatial.transform")
    source = open_source(shared_data / "bridge-v1-octo-debug")
    for episode, raw in zip(
        open_dataset(shared_data / "bridge-v1-octo-debug"),
        (source.read(i, ["observation/state", "action"]) for i in range(len(source))),
        strict=True,
    ):
        matrix = spatial.Rotation.from_euler("xyz", raw.arrays["observation/state"][:, 3:6]).as_matrix()
        sixd = matrix[:, :, :2].transpose(0, 2, 1).reshape(-1, 6)
        np.testing.assert_allclose(episode.absolute_ND[:, ARMS26.slices["right_rotation"]], sixd, atol=1e-6)
        moved = np.diff(episode.absolute_ND[:, ARMS26.slices["right_position"]], axis=0).sum(axis=0)
        assert np.linalg.norm(moved - raw.arrays["action"][:-1, :3].sum(axis=0)) < 0.06
