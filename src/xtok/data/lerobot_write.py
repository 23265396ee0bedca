"""Episodes in poses out as a LeRobot v3.0 folder without video, that LeRobot and `open_dataset` both read.

`observation.state` holds the channels of `arms26` that any episode has, under their names; `action` is the state one
frame later (the last one twice). Where episodes differ in their channels, `channel_valid` says which are real.

# N frames of an episode, W channels written, D channels of the layout
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet

from xtok.actions.layout import ARMS26
from xtok.data.episode import Episode
from xtok.data.mapping import ACTION, CHANNEL_VALID, STATE

_CHUNKS_SIZE, _DATA_MB, _VIDEO_MB = 1000, 100, 500  # LeRobot's defaults
_INDEX = "__index_level_0__"  # what pandas calls an index without a name
_PLACE = {"data/chunk_index": 0, "data/file_index": 0, "meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}


def write_lerobot(root: Path, episodes: Sequence[Episode], robot_type: str) -> None:
    """Write `episodes` (layout arms26, one rate) into the new folder `root`; they are numbered 0, 1, ... again.

    Raises:
        ValueError: no episodes, another layout, several rates, or a folder that is there already.
    """
    _check(root, episodes)
    used_D = np.any([episode.mask_D for episode in episodes], axis=0)
    names = [name for name, used in zip(ARMS26.channel_names, used_D, strict=True) if used]
    tasks = list(dict.fromkeys(episode.instruction for episode in episodes))
    starts = np.cumsum([0, *(len(episode) for episode in episodes)])
    columns = [
        _episode_columns(episode, used_D, number, int(starts[number]), tasks.index(episode.instruction))
        for number, episode in enumerate(episodes)
    ]
    merged = {key: np.concatenate([each[key] for each in columns]) for key in columns[0]}
    rows = [
        {
            "episode_index": number,
            **_PLACE,
            "dataset_from_index": int(starts[number]),
            "dataset_to_index": int(starts[number + 1]),
            "tasks": [episode.instruction],
            "length": len(episode),
            **{f"stats/{key}/{name}": value for key, stats in _stats(each).items() for name, value in stats.items()},
        }
        for number, (episode, each) in enumerate(zip(episodes, columns, strict=True))
    ]
    info = _info(episodes, robot_type, merged, names, len(tasks))
    _write_table(root / "data/chunk-000/file-000.parquet", pyarrow.table({k: _arrow(v) for k, v in merged.items()}))
    _write_table(root / "meta/episodes/chunk-000/file-000.parquet", pyarrow.Table.from_pylist(rows))
    _write_table(root / "meta/tasks.parquet", _tasks_table(tasks))
    (root / "meta/stats.json").write_text(json.dumps(_stats(merged), indent=1) + "\n", encoding="utf-8")
    (root / "meta/info.json").write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")


def _check(root: Path, episodes: Sequence[Episode]) -> None:
    if not episodes:
        raise ValueError("no episodes to write")
    if root.exists():
        raise ValueError(f"{root} is there already; choose a new folder or remove it")
    if layouts := {episode.layout.name for episode in episodes} - {ARMS26.name}:
        raise ValueError(f"episodes have layouts {sorted(layouts)}; only arms26 is written")
    if len(rates := {episode.control_hz for episode in episodes}) > 1:
        raise ValueError(f"episodes run at {sorted(rates)} Hz; a LeRobot folder has one fps")


def _episode_columns(episode: Episode, used_D: np.ndarray, number: int, start: int, task: int) -> dict[str, np.ndarray]:
    N = len(episode)
    state_NW = episode.absolute_ND[:, used_D]
    return {
        STATE: state_NW,
        ACTION: np.concatenate([state_NW[1:], state_NW[-1:]]),
        CHANNEL_VALID: np.tile(episode.mask_D[used_D], (N, 1)),
        "timestamp": (np.arange(N) / episode.control_hz).astype(np.float32),
        "frame_index": np.arange(N),
        "episode_index": np.full(N, number),
        "index": start + np.arange(N),
        "task_index": np.full(N, task),
    }


def _info(
    episodes: Sequence[Episode], robot_type: str, merged: Mapping[str, np.ndarray], names: list[str], tasks: int
) -> dict[str, object]:
    features = {
        key: {
            "dtype": str(values.dtype),
            "shape": [values.shape[1] if values.ndim == 2 else 1],
            "names": names if values.ndim == 2 else None,
        }
        for key, values in merged.items()
    }
    return {
        "codebase_version": "v3.0",
        "robot_type": robot_type,
        "total_episodes": len(episodes),
        "total_frames": sum(len(episode) for episode in episodes),
        "total_tasks": tasks,
        "chunks_size": _CHUNKS_SIZE,
        "data_files_size_in_mb": _DATA_MB,
        "video_files_size_in_mb": _VIDEO_MB,
        "fps": round(episodes[0].control_hz) if episodes[0].control_hz.is_integer() else episodes[0].control_hz,
        "splits": {"train": f"0:{len(episodes)}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": None,
        "features": features,
    }


def _stats(columns: Mapping[str, np.ndarray]) -> dict[str, dict[str, list]]:
    stats = {}
    for key, values in columns.items():
        table = values.reshape(len(values), -1)
        as_float = table.astype(np.float64)
        stats[key] = {
            "min": table.min(axis=0).tolist(),
            "max": table.max(axis=0).tolist(),
            "mean": as_float.mean(axis=0).tolist(),
            "std": as_float.std(axis=0).tolist(),
            "count": [len(table)],
        }
    return stats


def _arrow(values: np.ndarray) -> pyarrow.Array:
    if values.ndim == 1:
        return pyarrow.array(values)
    return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.ravel()), values.shape[1])


def _tasks_table(tasks: list[str]) -> pyarrow.Table:
    """LeRobot looks tasks up by the index of a pandas frame, so the file says in pandas' way that text is the index."""
    text = {"name": None, "field_name": _INDEX, "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    number = dict.fromkeys(("pandas_type", "numpy_type"), "int64")
    columns = [{"name": "task_index", "field_name": "task_index", **number, "metadata": None}, text]
    pandas = {"index_columns": [_INDEX], "column_indexes": [], "columns": columns, "pandas_version": "2.0.0"}
    table = pyarrow.table({"task_index": list(range(len(tasks))), _INDEX: tasks})
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})


def _write_table(path: Path, table: pyarrow.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path)
