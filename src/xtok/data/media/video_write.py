"""Pictures into H.264 and many small films into one, through PyAV. The other way: video.py.

Films have no B-frames, so a packet's place in time is its place in the file, and joining films copies packets: no
picture is coded twice, and the joined film has the same bytes wherever it is made.

# N frames, H W pixels, C three colours, V 256 values of a byte
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from xtok.data.media.video import _import_av

CRF, GOP_FRAMES = 27, 40  # quality, and frames between key frames: small films that still seek within two seconds
PIXEL_FORMAT = "yuv420p"  # what every player and LeRobot read
_VALUES = 256
# BT.601, studio range, in 1/256: what players assume of small pictures. In integers, since ffmpeg's own conversion may
# give other bytes on other processors.
_YUV_FROM_RGB = np.array([[66, 129, 25], [-38, -74, 112], [112, -94, -18]], dtype=np.int32)
_YUV_OFFSET = np.array([16, 128, 128], dtype=np.int32)


class FilmWriter:
    """Writes one film. `histogram_CV` counts the values of each colour in the pictures as they came, before coding."""

    def __init__(self, container: Any, fps: float, size: tuple[int, int], crf: int, gop: int) -> None:
        self._av, self._container = _import_av(), container
        options = {"crf": str(crf), "g": str(gop), "bf": "0", "threads": "1", "preset": "medium"}
        options["x264-params"] = "mbtree=0"  # with it, x264 gives the same small pictures different bytes now and then
        self._stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000), options=options)
        self._stream.height, self._stream.width = size
        self._stream.pix_fmt = PIXEL_FORMAT
        self.histogram_CV = np.zeros((3, _VALUES), dtype=np.int64)
        self.frames = 0

    def add(self, picture: np.ndarray) -> None:
        """Append one picture, uint8 RGB [H, W, 3]."""
        for colour in range(3):
            self.histogram_CV[colour] += np.bincount(picture[..., colour].ravel(), minlength=_VALUES)
        frame = self._av.VideoFrame.from_ndarray(planes(picture), format=PIXEL_FORMAT)
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def finish(self) -> None:
        self._container.mux(self._stream.encode())


@contextmanager
def film_writer(
    path: Path, fps: float, size: tuple[int, int], crf: int = CRF, gop: int = GOP_FRAMES
) -> Iterator[FilmWriter]:
    """A writer for the new mp4 `path`; the file is whole when the block ends. size: height and width, pixels.

    Raises:
        ValueError: a size that H.264 with halved colour cannot hold.
    """
    if size[0] % 2 or size[1] % 2 or min(size) < 16:
        raise ValueError(f"pictures of {size[0]} x {size[1]} pixels cannot be filmed; give even sizes of 16 or more")
    with _import_av().open(str(path), "w", format="mp4") as container:
        writer = FilmWriter(container, fps, size, crf, gop)
        yield writer
        writer.finish()


def planes(picture: np.ndarray) -> np.ndarray:
    """RGB [H, W, 3] as yuv420p in PyAV's form, uint8 [H * 3 / 2, W]: brightness, then both colours at half the size."""
    H, W, _ = picture.shape
    yuv = (picture.reshape(-1, 3).astype(np.int32) @ _YUV_FROM_RGB.T).reshape(H, W, 3)
    halved = yuv[::2, ::2] + yuv[::2, 1::2] + yuv[1::2, ::2] + yuv[1::2, 1::2]  # four times as large
    y = ((yuv[..., 0] + 128) >> 8) + _YUV_OFFSET[0]
    u, v = (((halved[..., i] + 512) >> 10) + _YUV_OFFSET[i] for i in (1, 2))
    return np.concatenate([plane.ravel() for plane in (y, u, v)]).astype(np.uint8).reshape(H * 3 // 2, W)


class FilmJoiner:
    """Films of one size and rate, one after the other in one mp4, packet by packet."""

    def __init__(self, path: Path) -> None:
        self._av, self._path = _import_av(), path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container = self._av.open(str(path), "w", format="mp4", options={"movflags": "faststart"})
        self._stream: Any = None
        self._extradata: bytes | None = None
        self._frames, self.bytes = 0, 0

    def add(self, film: Path) -> tuple[int, int]:
        """Append a film; returns the frames from which (included) to which (excluded) it lies in the joined one.

        Raises:
            ValueError: a film that is unreadable, or was coded with other settings than the first.
        """
        start = self._frames
        try:
            with self._av.open(str(film)) as source:
                stream = source.streams.video[0]
                if self._stream is None:
                    self._stream = self._container.add_stream_from_template(stream, opaque=True)
                    self._stream.time_base = stream.time_base
                    self._extradata = stream.codec_context.extradata
                elif stream.codec_context.extradata != self._extradata:
                    raise ValueError(f"{film} was coded with other settings than the films before it; record it again")
                ticks = int(1 / (stream.average_rate * stream.time_base))  # of one frame
                for packet in source.demux(stream):
                    if packet.dts is None:  # the end
                        continue
                    packet.pts = packet.dts = self._frames * ticks
                    packet.stream = self._stream
                    self._container.mux(packet)
                    self._frames += 1
        except (self._av.error.FFmpegError, EOFError) as error:
            raise ValueError(f"cannot read {film}: {error}; record the episode again") from error
        self.bytes += film.stat().st_size
        return start, self._frames

    def close(self) -> None:
        self._container.close()


def jpeg(picture: np.ndarray, quality: int = 5) -> bytes:
    """A picture, uint8 RGB [H, W, 3] with even sides, as a JPEG. quality: 2 (best) to 31."""
    av = _import_av()
    codec = av.CodecContext.create("mjpeg", "w")
    codec.height, codec.width = picture.shape[:2]
    codec.pix_fmt, codec.time_base = "yuvj420p", Fraction(1, 25)
    codec.options = {"qmin": str(quality), "qmax": str(quality)}
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuvj420p", dst_color_range="JPEG")
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])
