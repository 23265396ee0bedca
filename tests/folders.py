"""LeRobot folders and videos written by hand in the documented layouts, so that readers meet more than our own writer.

# N frames of an episode, W columns of one feature
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

STATE, CAMERA = "observation.state", "observation.images.top"
Arrays = Mapping[str, np.ndarray]  # feature -> [N, W]
Names = Mapping[str, Any] | None
BLOCK_PIXELS = 16  # a block of one brightness a bit survives H.264


def write_v21(
    root: Path, episodes: Sequence[Arrays], names: Names = None, robot_type: str = "my_arm", **info: Any
) -> Path:
    """A v2.1 folder. `names`: feature -> what info.json calls its channels. `info` replaces entries of info.json."""
    for number, arrays in enumerate(episodes):
        _write(root / f"data/chunk-000/episode_{number:06d}.parquet", _table(arrays, number))
    lines = [{"episode_index": i, "tasks": ["do it"], "length": _length(arrays)} for i, arrays in enumerate(episodes)]
    _write_text(root / "meta/episodes.jsonl", "\n".join(json.dumps(line) for line in lines))
    _write_text(root / "meta/tasks.jsonl", json.dumps({"task_index": 0, "task": "do it"}))
    info = {
        "codebase_version": "v2.1",
        "robot_type": robot_type,
        "fps": 10,
        "chunks_size": 1000,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": _features(episodes[0], names),
        **info,
    }
    _write_text(root / "meta/info.json", json.dumps(info))
    return root


def write_v30(
    root: Path, episodes: Sequence[Arrays], names: Names = None, robot_type: str = "my_arm", **info: Any
) -> Path:
    """A v3.0 folder: all episodes in one parquet file and in one mp4, as LeRobot writes them."""
    _write(root / "data/chunk-000/file-000.parquet", pa.concat_tables([_table(e, i) for i, e in enumerate(episodes)]))
    _write(root / "meta/tasks.parquet", pa.table({"task_index": [0], "__index_level_0__": ["do it"]}))
    starts = np.cumsum([0, *map(_length, episodes)]).tolist()
    rows = [
        {
            "episode_index": i,
            "data/chunk_index": 0,
            "data/file_index": 0,
            "dataset_from_index": starts[i],
            "dataset_to_index": starts[i + 1],
            f"videos/{CAMERA}/chunk_index": 0,
            f"videos/{CAMERA}/file_index": 0,
            f"videos/{CAMERA}/from_timestamp": starts[i] / 10,
            f"videos/{CAMERA}/to_timestamp": starts[i + 1] / 10,
            "tasks": ["do it"],
            "length": _length(arrays),
        }
        for i, arrays in enumerate(episodes)
    ]
    _write(root / "meta/episodes/chunk-000/file-000.parquet", pa.Table.from_pylist(rows))
    info = {
        "codebase_version": "v3.0",
        "robot_type": robot_type,
        "fps": 10,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": _features(episodes[0], names),
        **info,
    }
    _write_text(root / "meta/info.json", json.dumps(info))
    return root


def write_video(path: Path, count: int, fps: int = 10, first: int = 0, key_frame_every: int = 7) -> None:
    """An H.264 mp4 whose frame k shows the number `first` + k as blocks of black and white, one a bit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options={"g": str(key_frame_every)})
        stream.width, stream.height, stream.pix_fmt = 8 * BLOCK_PIXELS, 2 * BLOCK_PIXELS, "yuv420p"
        for number in range(first, first + count):
            frame = av.VideoFrame.from_ndarray(_picture(number), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def numbers_shown(frames: np.ndarray) -> list[int]:
    """The numbers that `write_video` wrote into uint8 frames [n, H, W, 3]."""
    centres = frames[:, BLOCK_PIXELS, BLOCK_PIXELS // 2 :: BLOCK_PIXELS, 0] > 127
    return [int(sum(int(bit) << k for k, bit in enumerate(bits))) for bits in centres]


def _picture(number: int) -> np.ndarray:
    bits = np.array([(number >> k) & 1 for k in range(8)], dtype=np.uint8) * 255
    row = np.repeat(bits, BLOCK_PIXELS)
    return np.tile(row[None, :, None], (2 * BLOCK_PIXELS, 1, 3))


def _features(arrays: Arrays, names: Names) -> dict[str, Any]:
    vectors = {
        key: {"dtype": str(array.dtype), "shape": [array.shape[1]], "names": (names or {}).get(key)}
        for key, array in arrays.items()
    }
    scalars = {key: {"dtype": "int64", "shape": [1], "names": None} for key in ("episode_index", "task_index")}
    camera = {"dtype": "video", "shape": [32, 128, 3], "names": ["height", "width", "channel"]}
    return {**vectors, CAMERA: camera, "timestamp": {"dtype": "float32", "shape": [1], "names": None}, **scalars}


def _table(arrays: Arrays, number: int) -> pa.Table:
    N = _length(arrays)
    vectors = {
        key: pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1]) for key, array in arrays.items()
    }
    scalars = {"episode_index": np.full(N, number), "task_index": np.zeros(N, dtype=np.int64)}
    return pa.table({**vectors, "timestamp": (np.arange(N) / 10).astype(np.float32), **scalars})


def _length(arrays: Arrays) -> int:
    return len(next(iter(arrays.values())))


def _write(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
