"""The descriptions in a LeRobot v3.0 folder: statistics, info.json, and texts by number.

# N rows, W columns of one feature, C colours, V values of a byte
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}  # those that LeRobot's policies ask for
CHUNKS_SIZE, DATA_MB, VIDEO_MB = 1000, 100, 200  # files a chunk folder; a file larger than this is followed by another
_INDEX = "__index_level_0__"  # what pandas calls an index without a name

Stats = dict[str, dict[str, list]]


def vector_stats(columns: Mapping[str, np.ndarray]) -> Stats:
    """Smallest, largest, mean, spread, count and quantiles of each feature, channel by channel."""
    stats: Stats = {}
    for key, values in columns.items():
        table_NW = values.reshape(len(values), -1)
        as_float = table_NW.astype(np.float64)
        quantiles = np.quantile(as_float, list(QUANTILES.values()), axis=0)
        stats[key] = {
            "min": table_NW.min(axis=0).tolist(),
            "max": table_NW.max(axis=0).tolist(),
            "mean": as_float.mean(axis=0).tolist(),
            "std": as_float.std(axis=0).tolist(),
            "count": [len(table_NW)],
            **dict(zip(QUANTILES, quantiles.tolist(), strict=True)),
        }
    return stats


def picture_stats(histograms: Mapping[str, np.ndarray], frames: int) -> Stats:
    """The same of cameras, exactly, from counts [C, V] of byte values: in 0..1, nested [C, 1, 1] as LeRobot does."""
    stats: Stats = {}
    for key, histogram_CV in histograms.items():
        counts_CV = histogram_CV.astype(np.float64)
        total = counts_CV.sum(axis=1)
        values = np.arange(counts_CV.shape[1]) / 255
        mean = counts_CV @ values / total
        cumulative = counts_CV.cumsum(axis=1) / total[:, None]
        found = {
            "min": [values[np.flatnonzero(row)[0]] for row in counts_CV],
            "max": [values[np.flatnonzero(row)[-1]] for row in counts_CV],
            "mean": mean,
            "std": np.sqrt(np.maximum(counts_CV @ values**2 / total - mean**2, 0)),
            **{name: [values[np.searchsorted(row, q)] for row in cumulative] for name, q in QUANTILES.items()},
        }
        stats[key] = {name: [[[float(value)]] for value in row] for name, row in found.items()}
        stats[key]["count"] = [frames]
    return stats


def describe_vectors(columns: Mapping[str, np.ndarray], names: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Entries of info.json for numeric features."""
    return {
        key: {
            "dtype": str(values.dtype),
            "shape": [values.shape[1] if values.ndim == 2 else 1],
            "names": list(names[key]) if key in names else None,
        }
        for key, values in columns.items()
    }


def describe_camera(size: tuple[int, int], fps: float) -> dict[str, Any]:
    """The entry of info.json for a camera. size: height and width, pixels."""
    film = {"height": size[0], "width": size[1], "codec": "h264", "pix_fmt": "yuv420p", "is_depth_map": False}
    info = {f"video.{key}": value for key, value in (film | {"fps": whole(fps), "channels": 3}).items()}
    return {
        "dtype": "video",
        "shape": [*size, 3],
        "names": ["height", "width", "channels"],
        "info": {**info, "has_audio": False},
    }


def describe_folder(
    robot_type: str, fps: float, episodes: int, frames: int, tasks: int, features: Mapping[str, Any], **more: object
) -> dict[str, Any]:
    """info.json. `more`: entries of our own, which LeRobot leaves alone."""
    filmed = any(feature["dtype"] == "video" for feature in features.values())
    return {
        "codebase_version": "v3.0",
        "robot_type": robot_type,
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": CHUNKS_SIZE,
        "data_files_size_in_mb": DATA_MB,
        "video_files_size_in_mb": VIDEO_MB,
        "fps": whole(fps),
        "splits": {"train": f"0:{episodes}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4" if filmed else None,
        "features": dict(features),
        **more,
    }


def texts_table(texts: Sequence[str], number: str) -> pyarrow.Table:
    """tasks.parquet or subtasks.parquet: LeRobot looks texts up by the index of a pandas frame, so it is stored as one.

    number: "task_index" or "subtask_index".
    """
    text = {"name": None, "field_name": _INDEX, "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    kinds = dict.fromkeys(("pandas_type", "numpy_type"), "int64")
    columns = [{"name": number, "field_name": number, **kinds, "metadata": None}, text]
    pandas = {"index_columns": [_INDEX], "column_indexes": [], "columns": columns, "pandas_version": "2.0.0"}
    table = pyarrow.table({number: list(range(len(texts))), _INDEX: list(texts)})
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})


def arrow(values: np.ndarray) -> pyarrow.Array:
    """A column of an [N] or [N, W] array."""
    if values.ndim == 1:
        return pyarrow.array(values)
    return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.ravel()), values.shape[1])


def write_table(path: Path, table: pyarrow.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path)


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def whole(fps: float) -> int | float:
    """LeRobot wants whole rates as integers."""
    return round(fps) if float(fps).is_integer() else fps
