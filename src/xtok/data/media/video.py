"""Chosen frames of an mp4, exact to the frame, through PyAV.

# n frames asked for, H W pixels
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xtok.data.hub import fetch_missing


@dataclass(frozen=True)
class VideoHandle:
    """A camera's pictures of one episode; nothing is opened before `frames` is called.

    path: the mp4. from_timestamp, to_timestamp: seconds in that file (v3.0 keeps many episodes in one). fps: frames
    a second, so that frame k of the episode is shown at from_timestamp + k / fps.
    """

    path: Path
    from_timestamp: float
    to_timestamp: float
    fps: float

    def __len__(self) -> int:
        return round((self.to_timestamp - self.from_timestamp) * self.fps)

    def frames(self, indices: Sequence[int]) -> np.ndarray:
        """uint8 RGB [n, H, W, 3], in the order of `indices` (frames of the episode).

        Raises:
            ValueError: an index outside the episode, or a file that is missing, truncated or no video.
        """
        return read_frames(self, indices)


def read_frames(video: VideoHandle, indices: Sequence[int]) -> np.ndarray:
    """uint8 RGB [n, H, W, 3] of an episode's frames, in the order of `indices`; repeats are allowed.

    Decoding starts at the key frame before the first frame asked for, and a frame is known by its time stamp, so
    neither key frames nor other episodes in the same file shift the count.

    Raises:
        ValueError: no indices, an index outside the episode, or a file that is missing, truncated or no video.
    """
    if not len(indices):
        raise ValueError("no frame indices given; ask for one or more")
    if outside := [index for index in indices if not 0 <= index < len(video)]:
        raise ValueError(f"frames {outside[:5]} are outside 0..{len(video) - 1} of {video.path}")
    wanted = set(indices)
    found: dict[int, np.ndarray] = {}
    for index, picture in _decoded(video, min(wanted), max(wanted)):
        if index in wanted:
            found[index] = picture
    if missing := sorted(wanted - set(found)):
        raise ValueError(
            f"{video.path} ends or skips before frames {missing[:5]}; it looks truncated, download it again"
        )
    return np.stack([found[index] for index in indices])


def _decoded(video: VideoHandle, first: int, last: int) -> Iterator[tuple[int, np.ndarray]]:
    av = _import_av()
    fetch_missing(video.path)
    if not video.path.is_file():
        raise ValueError(f"missing file {video.path}; download the data set again")
    try:
        with av.open(str(video.path)) as container:
            if not container.streams.video:
                raise ValueError(f"{video.path} holds no video stream; expected an mp4 of one camera")
            stream = container.streams.video[0]
            origin_s = float((stream.start_time or 0) * stream.time_base) + video.from_timestamp
            start_s = origin_s + max(first - 1, 0) / video.fps  # one frame early: rounding must not skip a key frame
            container.seek(int(start_s / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                index = round((frame.time - origin_s) * video.fps)
                if index > last:
                    return
                yield index, frame.to_ndarray(format="rgb24")
    except (av.error.FFmpegError, EOFError) as error:
        raise ValueError(
            f"cannot read {video.path}: {error}; it looks truncated or is no video, download it again"
        ) from error


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError("reading video needs PyAV: pip install 'xtok[video]'") from error
    return av
