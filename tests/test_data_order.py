"""Rows out of order; time that stands still, runs back, repeats or contradicts the rate: put right, told or refused.

# N rows of an episode
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from folders import STATE, write_v21, write_v30
from test_data_formats import write_stream
from xtok.data import open_dataset, open_source
from xtok.data.inspect.survey import survey
from xtok.data.order import find_order, rate_remark

N = 40
MOTION = np.cumsum(np.random.default_rng(0).normal(0, 0.02, (N, 3)), axis=0).astype(np.float32)
FRAMES, TIMES = np.arange(N), np.arange(N) / 10
SHUFFLED = np.random.default_rng(1).permutation(N)


def folder(root: Path, rows: np.ndarray | None = None, write: Any = write_v21, **columns: Any) -> Path:
    """A set of one episode with these columns (None: left out), its rows then taken in another order."""
    write(root, [{STATE: MOTION}])
    (path,) = root.glob("data/*/*.parquet")
    table = pq.read_table(path)
    for name, values in {"frame_index": FRAMES, **columns}.items():
        if name in table.column_names:
            table = table.drop_columns([name])
        if values is not None:
            table = table.append_column(name, pa.array(values))
    pq.write_table(table if rows is None else table.take(rows), path)
    return root


def read(root: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Motion, time stamps, and what was told."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        episode = open_dataset(root)[0]
    return (
        episode.absolute_ND[:, :3],
        episode.timestamps_s,
        [str(each.message) for each in told if "not registered" not in str(each.message)],
    )


def stamps(**at: Any) -> np.ndarray:
    times = TIMES.copy()
    for row, value in at.items():
        times[int(row[1:])] = value
    return times


@pytest.mark.parametrize("write", [write_v21, write_v30])
@pytest.mark.parametrize("rows", [SHUFFLED, np.arange(N)[::-1], np.r_[20:N, 0:20], np.r_[1, 0, 2:N]])
@pytest.mark.parametrize("without", ["", "timestamp", "frame_index"])
def test_rows_in_another_order_are_sorted_and_it_is_told(tmp_path: Path, write: Any, rows: Any, without: str) -> None:
    motion, times, told = read(folder(tmp_path, rows, write, **({without: None} if without else {})))
    np.testing.assert_array_equal(motion, MOTION)
    np.testing.assert_allclose(times, TIMES, atol=1e-6)
    assert sum("were sorted by it" in text for text in told) == 1


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        ({"timestamp": np.zeros(N)}, "all 0"),
        ({"timestamp": np.full(N, 1.7e9)}, "all 1.7e"),
        ({"timestamp": stamps(r7=np.nan)}, "not a number in 1 rows, the first row 7"),
        ({"timestamp": [None, *TIMES[1:]]}, "not a number in 1 rows, the first row 0"),
        ({"timestamp": None}, "there is no timestamp"),
        ({"timestamp": np.array(["x"] * N)}, "not a number in 40 rows"),
        ({"timestamp": np.zeros(N), "frame_index": None}, "all 0"),
        ({"timestamp": None, "frame_index": None}, "neither frame_index nor timestamp"),
    ],
)
def test_time_stamps_that_say_nothing_are_counted_from_frames(tmp_path: Path, columns: Any, kind: str) -> None:
    motion, times, told = read(folder(tmp_path, **columns))
    np.testing.assert_array_equal(motion, MOTION)
    np.testing.assert_allclose(times, TIMES)
    assert any(kind in text for text in told), told


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        ({"frame_index": FRAMES + (FRAMES >= 20) * 5}, "jumps from 19 to 25 and 5 frames are missing"),
        ({"frame_index": 3 * FRAMES}, "78 frames are missing"),
        ({"timestamp": stamps(r5=0.4)}, "1 time stamps equal the one before, the first in row 5"),
        ({"timestamp": TIMES + (FRAMES >= 20) * 9.0}, "9.1 s pass between rows 19 and 20"),
        ({"timestamp": TIMES * 1000}, "they look like milliseconds"),
        ({"timestamp": TIMES * 1e9}, "they look like nanoseconds"),
        ({"timestamp": TIMES / 3}, "stated are 10 Hz, the time stamps say 30 Hz"),
        ({"timestamp": TIMES * 2}, "the time stamps say 5 Hz"),
        ({"frame_index": np.zeros(N, int)}, "frame_index is the same in all rows"),
        ({"frame_index": np.r_[0, 0:N - 1]}, "the time stamps give the order"),
        ({"frame_index": FRAMES + 0.5}, "the time stamps give the order"),
        ({"frame_index": [None, *FRAMES[1:].tolist()]}, "the time stamps give the order"),
    ],
)  # fmt: skip
def test_what_does_no_harm_is_read_and_told(tmp_path: Path, columns: Any, kind: str) -> None:
    motion, _, told = read(folder(tmp_path, **columns))
    np.testing.assert_array_equal(motion, MOTION)
    assert sum(kind in text for text in told) == 1, told


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"timestamp": TIMES[::-1]}, "time runs backwards from frame 0 to 1"),
        ({"timestamp": TIMES[SHUFFLED]}, "contradict each other, and which is right cannot be told"),
        ({"timestamp": stamps(r9=0.2)}, "time runs backwards from frame 8 to 9"),
        ({"timestamp": TIMES - (FRAMES >= 20) * 1.0}, "time runs backwards from frame 19 to 20"),
        ({"frame_index": np.repeat(np.arange(N // 2), 2), "timestamp": np.repeat(np.arange(N // 2), 2) / 10},
         r"frame 0 is stored twice \(rows 0 and 1; 20 frames are\)"),
        ({"frame_index": np.r_[0, 0:N - 1], "timestamp": np.zeros(N)}, "frame 0 is stored twice"),
        ({"frame_index": np.r_[0, 0:N - 1], "timestamp": TIMES[::-1]}, "frame_index repeats and time runs backwards"),
        ({"frame_index": None, "timestamp": np.r_[TIMES[:20], TIMES[:20]]}, "time runs backwards at row 20"),
        ({"frame_index": np.full(N, np.nan), "timestamp": np.zeros(N)}, "frame_index is not a number in 40 rows"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused(tmp_path: Path, columns: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"set, episode 0: .*{message}.*skip_bad=True"):
        open_dataset(folder(tmp_path / "set", **columns))[0]


def test_jitter_a_number_that_goes_on_over_episodes_and_one_frame_are_nothing_odd(tmp_path: Path) -> None:
    steps_s = np.random.default_rng(2).choice([0.049, 0.098, 0.1, 0.105, 0.353], N, p=[0.05, 0.4, 0.4, 0.1, 0.05])
    _, times, told = read(folder(tmp_path / "jitter", timestamp=np.cumsum(steps_s)))
    assert told == []
    np.testing.assert_allclose(times, np.cumsum(steps_s))
    assert read(folder(tmp_path / "global", frame_index=FRAMES + 900, timestamp=TIMES + 90))[2] == []
    write_v21(tmp_path / "one", [{STATE: MOTION[:1]}])
    assert read(tmp_path / "one")[2] == []


def test_pictures_follow_the_sorted_rows(tmp_path: Path) -> None:
    root = folder(tmp_path, SHUFFLED, other=np.arange(N) * 1.0)
    raw = open_source(root).read_episode(0, [STATE])
    np.testing.assert_allclose(raw.timestamps_s, TIMES, atol=1e-6)  # frame k of a film is row k again


def test_told_once_a_kind_and_counted_by_inspect(tmp_path: Path) -> None:
    write_v21(tmp_path, [{STATE: MOTION}] * 3)
    for path in tmp_path.glob("data/*/*.parquet"):
        table = pq.read_table(path).drop_columns(["timestamp"])
        pq.write_table(table.append_column("timestamp", pa.array(np.zeros(N))), path)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        list(open_dataset(tmp_path))
    assert sum("all 0" in str(each.message) for each in told) == 1
    traps = [trap.text for trap in survey(open_source(tmp_path)).traps if trap.kind == "time stamps"]
    assert len(traps) == 1 and "(3 of 3 episodes)" in traps[0]


def test_a_mapping_that_states_the_rate_ends_the_doubt(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", timestamp=TIMES / 2)
    text = 'layout: joints\ncontrol_hz: 20\njoints:\n  - {from: "observation.state", unit: rad}\n'
    (tmp_path / "m.yaml").write_text(text)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert open_dataset(root, mapping=tmp_path / "m.yaml")[0].control_hz == 20
    assert told == []


def test_arrow_streams_are_put_in_order_too(tmp_path: Path) -> None:
    write_stream(tmp_path / "plain", np.arange(180).reshape(30, 6) / 100.0)
    write_stream(tmp_path / "mixed", np.arange(180).reshape(30, 6) / 100.0)
    (path,) = (tmp_path / "mixed").glob("*.arrow")
    table = pa.ipc.open_stream(path.read_bytes()).read_all()
    rows = np.random.default_rng(0).permutation(30)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.take(rows))
    plain = open_dataset(tmp_path / "plain")
    with pytest.warns(UserWarning, match="not in the order of timestamp"):
        mixed = list(open_dataset(tmp_path / "mixed"))
    assert mixed[0].control_hz == plain.control_hz
    for one, other in zip(plain, mixed, strict=True):
        np.testing.assert_array_equal(one.absolute_ND, other.absolute_ND)


def test_the_rate_is_measured_by_the_usual_step() -> None:
    assert rate_remark(np.array([0, 0.1, 0.2, 5.0]), 10) is None
    assert rate_remark(np.zeros(9), 10) is None and rate_remark(np.array([0.0]), 10) is None
    assert rate_remark(np.arange(9) / 11.5, 10) is not None and rate_remark(np.arange(9) / 10.9, 10) is None
    assert find_order(np.array([4.0]), np.array([np.nan]), 1, "x").time_s_N is None
