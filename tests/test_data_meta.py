"""meta/ of a LeRobot folder held against itself and the data: episodes listed twice, numbers and totals that lie, files
in other places than meta/ says."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from folders import STATE, write_v21, write_v30
from xtok.data import open_dataset, open_source, select
from xtok.data.inspect.survey import survey

WRITERS = [pytest.param(write_v21, id="v2.1"), pytest.param(write_v30, id="v3.0")]


def states(*lengths: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [{STATE: rng.uniform(-1, 1, (n, 3)).astype(np.float32)} for n in lengths]


def relist(root: Path, change: Any) -> None:
    """Change the list of episodes of either version. change: list of rows -> list of rows."""
    path = root / "meta/episodes.jsonl"
    if path.is_file():
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("\n".join(json.dumps(row) for row in change(rows)))
        return
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    pq.write_table(pa.Table.from_pylist(change(pq.read_table(path).to_pylist())), path)


def told(root: Path) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        open_dataset(root)
    return [str(each.message) for each in caught if "not registered" not in str(each.message)]


def read(root: Path) -> tuple[list[np.ndarray], list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        motion = [episode.absolute_ND[:, :3] for episode in open_dataset(root)]
    return motion, [str(each.message) for each in caught if "not registered" not in str(each.message)]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("other", [{}, {"length": 7}, {"tasks": ["another"]}])
@pytest.mark.parametrize("at", [1, 3])
def test_an_episode_listed_twice_is_named_and_in_no_split(tmp_path: Path, write: Any, other: dict, at: int) -> None:
    root = write(tmp_path / "set", states(*[9] * 6))
    relist(root, lambda rows: [*rows, {**rows[at], **other}])
    with pytest.raises(ValueError, match=rf"set, episode {at}: it is listed twice, in .*meta/episodes.*skip_bad=True"):
        open_dataset(root)
    kept = open_dataset(root, skip_bad=True)
    assert kept.episode_indices == tuple(i for i in range(6) if i != at)
    assert [(each.index, "listed twice" in each.why) for each in kept.left_out] == [(at, True)]
    assert [episode.index for episode in select(kept, "heldout")] == [4]
    assert any("listed twice" in text for text in [trap.text for trap in survey(open_source(root)).traps])


def test_listed_three_times_is_one_fault(tmp_path: Path) -> None:
    root = write_v21(tmp_path / "set", states(9, 9, 9))
    relist(root, lambda rows: [rows[0], *rows, rows[0], rows[2]])
    with pytest.raises(ValueError, match=r"episode 0 \(and 1 more\): it is listed twice"):
        open_dataset(root)


@pytest.mark.parametrize("write", WRITERS)
def test_missing_numbers_and_totals_are_told(tmp_path: Path, write: Any) -> None:
    root = write(tmp_path / "set", states(9, 9, 9), total_episodes=50, total_frames=14_983)
    assert told(root) == [
        "set: meta/info.json claims total_episodes 50; here are 3",
        "set: meta/info.json claims total_frames 14983; here are 27",
    ]
    relist(root, lambda rows: [rows[0], rows[2]])
    assert "set: meta/ lists episodes 0 to 2 without 1 (1)" in told(root)
    assert open_dataset(root).episode_indices == (0, 2)
    assert [trap.text for trap in survey(open_source(root)).traps if "without" in trap.text]
    assert told(write(tmp_path / "right", states(9, 9), total_episodes=2, total_frames=18)) == []


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("length", [0, 8, 10])
def test_a_length_that_the_data_contradict_names_both(tmp_path: Path, write: Any, length: int) -> None:
    root = write(tmp_path / "set", states(9, 9))
    relist(root, lambda rows: [rows[0], {**rows[1], "length": length}])
    dataset = open_dataset(root)
    assert len(dataset[0]) == 9
    with pytest.raises(
        ValueError, match=rf"set, episode 1: .*has 9 rows, meta/ says {length} \(length, in .*meta/episo"
    ):
        dataset[1]


def test_ranges_of_v3_that_contradict_lengths_are_told(tmp_path: Path) -> None:
    root = write_v30(tmp_path / "set", states(9, 9))
    relist(root, lambda rows: [rows[0], {**rows[1], "dataset_to_index": 40}])
    assert told(root) == ["set: dataset_from_index and dataset_to_index contradict length in episodes [1]"]


def test_no_frames_at_all_is_said_so(tmp_path: Path) -> None:
    root = write_v21(tmp_path / "set", states(9, 9))
    path = root / "data/chunk-000/episode_000001.parquet"
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    relist(root, lambda rows: [rows[0], {**rows[1], "length": 0}])
    with pytest.raises(ValueError, match=r"set, episode 1 has no frames: length is 0 in .*line 2"):
        open_dataset(root)[1]


# Files in other places than meta/ says.


def scattered(root: Path, files: list[list[int]], points_to: list[int]) -> list[np.ndarray]:
    """A v3.0 set whose data files hold these episodes, and whose meta/ points to these files."""
    episodes = states(9, 12, 7, 10)
    write_v30(root, episodes)
    path = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    for number, held in enumerate(files):
        part = table.filter(pa.compute.is_in(table["episode_index"], pa.array(held)))
        pq.write_table(part, path.with_name(f"file-{number:03d}.parquet"))
    relist(root, lambda rows: [{**row, "data/file_index": points_to[i]} for i, row in enumerate(rows)])
    return [each[STATE] for each in episodes]


@pytest.mark.parametrize(
    ("files", "points_to"),
    [
        ([[0, 1], [2, 3]], [0, 0, 0, 0]),  # stale: never moved on to the second file
        ([[0, 1], [2, 3]], [1, 1, 0, 0]),  # swapped
        ([[0, 1, 2, 3]], [0, 1, 2, 3]),  # of files that are not there
        ([[3, 0], [2, 1]], [0, 7, 1, 1]),
    ],
)
def test_rows_in_another_file_are_found_and_it_is_told(tmp_path: Path, files: Any, points_to: Any) -> None:
    expected = scattered(tmp_path / "set", files, points_to)
    motion, told = read(tmp_path / "set")
    assert [np.array_equal(a, b) for a, b in zip(motion, expected, strict=True)] == [True] * 4
    assert sum("its rows are in data/chunk-000/file-00" in text for text in told) == 1


def test_rows_that_are_in_several_files_or_in_none_are_said_where(tmp_path: Path) -> None:
    scattered(tmp_path / "several", [[0, 1], [2, 3], [2]], [0, 0, 0, 0])
    with pytest.raises(
        ValueError, match=r"rows of episode 2 are elsewhere: 7 in data/.*file-001.*, 7 in data/.*file-002"
    ):
        open_dataset(tmp_path / "several")[2]
    scattered(tmp_path / "none", [[0, 1], [3]], [0, 0, 0, 0])
    with pytest.raises(
        ValueError, match=r"episode 2: .*file-000.parquet has 0 rows, meta/ says 7 .*no file below data/"
    ):
        open_dataset(tmp_path / "none")[2]
    scattered(tmp_path / "gone", [[0, 1], [3]], [0, 0, 9, 0])
    with pytest.raises(ValueError, match=r"episode 2, which meta/episodes lists: missing file .*file-009.parquet"):
        open_dataset(tmp_path / "gone")[2]


def test_a_damaged_file_is_no_hindrance_to_finding_rows(tmp_path: Path) -> None:
    expected = scattered(tmp_path / "set", [[0, 1], [2, 3], []], [2, 2, 2, 2])
    (tmp_path / "set/data/chunk-000/file-002.parquet").write_bytes(b"PAR1")
    assert [np.array_equal(a, b) for a, b in zip(read(tmp_path / "set")[0], expected, strict=True)] == [True] * 4


def test_files_of_v2_under_each_others_names(tmp_path: Path) -> None:
    episodes = states(9, 9, 12)
    root = write_v21(tmp_path / "set", episodes)
    one, other = (root / f"data/chunk-000/episode_00000{i}.parquet" for i in (0, 1))
    between = root / "between"
    one.rename(between), other.rename(one), between.rename(other)
    motion, told = read(root)
    assert [np.array_equal(a, b[STATE]) for a, b in zip(motion, episodes, strict=True)] == [True] * 3
    assert any("its rows are in data/chunk-000/episode_000001.parquet" in text for text in told)


def test_files_renamed_after_episodes_were_removed(tmp_path: Path) -> None:
    episodes = states(9, 9, 12)
    root = write_v21(tmp_path / "set", episodes)
    (root / "data/chunk-000/episode_000001.parquet").unlink()
    (root / "data/chunk-000/episode_000002.parquet").rename(root / "data/chunk-000/episode_000001.parquet")
    relist(root, lambda rows: [rows[0], {**rows[1], "length": 12}])
    motion, told = read(root)
    np.testing.assert_array_equal(motion[1], episodes[2][STATE])
    assert any("numbers all its rows 2, meta/ lists it as 1" in text for text in told)
    relist(root, lambda rows: [*rows, {**rows[1], "episode_index": 2, "length": 12}])  # now 2 is asked for by its name
    with pytest.raises(ValueError, match=r"rows, meta/ says 12|rows of episode 2 are elsewhere"):
        list(open_dataset(root))[1]


@pytest.mark.parametrize("write", WRITERS)
def test_helper_columns_that_are_missing(tmp_path: Path, write: Any) -> None:
    episodes = states(9, 9)
    root = write(tmp_path / "set", episodes)
    start = 0
    for path in sorted(root.glob("data/*/*.parquet")):
        table = pq.read_table(path).drop_columns(["episode_index", "task_index", "timestamp"])
        pq.write_table(table.append_column("index", pa.array(np.arange(start, start + len(table)))), path)
        start += len(table)
    motion, told = read(root)
    assert [np.array_equal(a, b[STATE]) for a, b in zip(motion, episodes, strict=True)] == [True, True]
    assert any("have no episode_index" in text for text in told)
    assert open_dataset(root)[1].instruction == "do it"  # the one task that there is


def test_without_any_number_rows_of_v3_are_nobodys(tmp_path: Path) -> None:
    root = write_v30(tmp_path / "set", states(9, 9))
    path = root / "data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["episode_index"]), path)
    with pytest.raises(ValueError, match=r"file-000.parquet has no column 'episode_index', and nothing else tells"):
        open_dataset(root)[0]


# Path templates.


@pytest.mark.parametrize(
    "template",
    [
        "data/chunk-{chunk_index:03d}/episode_{episode_index:06d}.parquet",
        "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "data/chunk-{chunk:03}/episode_{episode_idx:06}.parquet",
        "data/chunk-00{chunk_id}/episode_00000{episode:d}.parquet",
        "data/chunk-00{chunk_id:1d}/episode_{episode_id:6d}.parquet",
        "data/chunk-{episode_index:03d}/episode_{episode_index:06d}.parquet",  # GR1's, wrong from episode 1 on
        "data/nowhere/{episode_index}.parquet",  # the one file of that number is found by its name
    ],
)
def test_spellings_of_path_templates(tmp_path: Path, template: str) -> None:
    episodes = states(9, 12)
    root = write_v21(tmp_path, episodes, data_path=template)
    assert [len(episode) for episode in open_dataset(root)] == [9, 12]


def test_spellings_of_v3_and_an_unknown_one(tmp_path: Path) -> None:
    root = write_v30(tmp_path / "v3", states(9, 12), data_path="data/chunk-{chunk:03d}/file-{file:03d}.parquet")
    assert [len(episode) for episode in open_dataset(root)] == [9, 12]
    bad = write_v21(tmp_path / "bad", states(9), data_path="data/{shard:03d}.parquet")
    with pytest.raises(
        ValueError, match=r"info.json: path template .* asks for 'shard'; expected one of chunk, chunk_id"
    ):
        open_dataset(bad)
