"""The sample data set that ships, and that what we write as LeRobot v3.0 reads back as it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from xtok.actions.layout import ARMS26
from xtok.data import open_dataset, sample_path
from xtok.data.writers.lerobot import write_lerobot

ORDER = (0, 1, 4, 3, 2, 5)  # of the demonstrations by path; scripts/make_sample.py says why
TASKS = ["door", "lift", "stack", "pick place", "nut assembly", "wipe"]
LENGTHS = [261, 412, 532, 1482, 1036, 174]


def test_sample_opens_as_six_panda_demonstrations() -> None:
    dataset = open_dataset(sample_path())
    assert (dataset.layout, dataset.embodiment, dataset.control_hz) == (ARMS26, "panda", 20.0)
    assert [episode.instruction for episode in dataset] == TASKS
    assert [len(episode) for episode in dataset] == LENGTHS
    for episode in dataset:
        has_gripper = episode.instruction != "wipe"
        assert np.flatnonzero(episode.mask_D).tolist() == list(range(10, 20 if has_gripper else 19))
        position_m, rotation = episode.absolute_ND[:, 10:13], episode.absolute_ND[:, 13:19]
        assert (np.linalg.norm(position_m, axis=1) < 0.9).all()  # within a Panda's reach of its base
        assert np.linalg.norm(np.diff(position_m, axis=0), axis=1).max() < 0.02  # a frame is .05 s
        np.testing.assert_allclose(np.linalg.norm(rotation.reshape(-1, 2, 3), axis=2), 1, atol=1e-5)


def test_sample_is_small_and_keeps_its_licence() -> None:
    files = [path for path in sample_path().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 3_000_000
    assert "MIT License" in (sample_path() / "LICENSE").read_text()


def test_sample_has_what_lerobot_v30_asks_for() -> None:
    info = json.loads((sample_path() / "meta/info.json").read_text())
    table = pq.read_table(sample_path() / "data/chunk-000/file-000.parquet")
    episodes = pq.read_table(sample_path() / "meta/episodes/chunk-000/file-000.parquet").to_pydict()
    tasks = pq.read_table(sample_path() / "meta/tasks.parquet")
    assert set(info["features"]) == set(table.column_names)
    assert info["total_frames"] == table.num_rows == sum(LENGTHS)
    assert episodes["dataset_from_index"] == [0, *np.cumsum(LENGTHS)[:-1].tolist()]
    assert episodes["dataset_to_index"] == np.cumsum(LENGTHS).tolist()
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["__index_level_0__"]
    stats = json.loads((sample_path() / "meta/stats.json").read_text())
    state = np.array(table["observation.state"].to_pylist())
    np.testing.assert_allclose(stats["observation.state"]["mean"], state.mean(axis=0), atol=1e-6)


@pytest.mark.realdata
def test_sample_equals_the_demonstrations_it_was_built_from(shared_data: Path) -> None:
    originals = open_dataset(shared_data / "sim-robosuite-teleop" / "1.0.0")
    for ours, original in zip(open_dataset(sample_path()), (originals[i] for i in ORDER), strict=True):
        assert (ours.embodiment, ours.instruction) == (original.embodiment, original.instruction)
        np.testing.assert_allclose(ours.absolute_ND, original.absolute_ND, atol=1e-6)
        np.testing.assert_array_equal(ours.mask_D, original.mask_D)
        np.testing.assert_allclose(ours.timestamps_s, original.timestamps_s, atol=1e-5)


def test_written_episodes_read_back_as_they_were(tmp_path: Path) -> None:
    episodes = list(open_dataset(sample_path()))[::5]
    write_lerobot(tmp_path / "copy", episodes, robot_type="panda")
    for ours, original in zip(open_dataset(tmp_path / "copy"), episodes, strict=True):
        np.testing.assert_array_equal(ours.absolute_ND, original.absolute_ND)
        np.testing.assert_array_equal(ours.mask_D, original.mask_D)
        assert ours.instruction == original.instruction


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    episode = open_dataset(sample_path())[0]
    with pytest.raises(ValueError, match="no episodes"):
        write_lerobot(tmp_path / "new", [], "panda")
    with pytest.raises(ValueError, match="is there already"):
        write_lerobot(tmp_path, [episode], "panda")
    with pytest.raises(ValueError, match="one fps"):
        write_lerobot(tmp_path / "new", [episode, replace(episode, control_hz=30.0)], "panda")
    assert not (tmp_path / "new").exists()
