"""Pictures that a data set keeps one by one, as JPEG, PNG or plain arrays, behind the same door as films.

# n frames asked for, N frames of the episode, H W pixels
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from xtok.data.media.video import _import_av

_MARK, _TRUE_RGB = b"XPL", b"XPL-RGB1"  # comments that RoboTwin puts into its JPEGs
_CODECS = {b"\xff\xd8": "mjpeg", b"\x89P": "png"}
PIXELS_MAX = 50_000_000  # no camera of a robot has more; a guard against a picture that unpacks to gigabytes


@dataclass(frozen=True)
class ImageSequence:
    """A camera's pictures of one episode. read: frames -> what is stored of them, read when asked for.

    swapped: the pictures were coded from RGB as if it were BGR (RoboTwin did), so red and blue change places, but for
    JPEGs that say of themselves that they are true RGB (later versions of RoboTwin mark each so).
    """

    count: int
    fps: float
    read: Callable[[Sequence[int]], list[bytes | np.ndarray]] = field(repr=False)
    swapped: bool = False
    where: str = ""

    def __len__(self) -> int:
        return self.count

    def frames(self, indices: Sequence[int]) -> np.ndarray:
        """uint8 RGB [n, H, W, 3], in the order of `indices`; repeats are allowed.

        Raises:
            ValueError: no indices, an index outside the episode, or bytes that are no picture.
        """
        if not len(indices):
            raise ValueError("no frame indices given; ask for one or more")
        if outside := [index for index in indices if not 0 <= index < self.count]:
            raise ValueError(f"frames {outside[:5]} are outside 0..{self.count - 1} of {self.where}")
        pictures = [self._picture(stored, i) for stored, i in zip(self.read(indices), indices, strict=True)]
        if len({picture.shape for picture in pictures}) > 1:
            raise ValueError(f"{self.where}: pictures differ in size; expected one size a camera")
        return np.stack(pictures)

    def _picture(self, stored: bytes | np.ndarray, index: int) -> np.ndarray:
        try:
            picture = decode_picture(stored) if isinstance(stored, bytes) else stored
        except ValueError as error:
            raise ValueError(f"{self.where}, frame {index}: {error}") from error
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise ValueError(f"{self.where}, frame {index}: {picture.dtype} {picture.shape}; expected uint8 [H, W, 3]")
        return (
            picture[..., ::-1] if self.swapped and isinstance(stored, bytes) and not self._is_rgb(stored) else picture
        )

    def _is_rgb(self, stored: bytes) -> bool:
        """Whether a JPEG is marked as true RGB. A mark that is not known is told."""
        marks = [comment for comment in jpeg_comments(stored) if comment.upper().startswith(_MARK)]
        if unknown := [mark for mark in marks if mark != _TRUE_RGB]:
            taken = "true RGB, as they are marked too" if _TRUE_RGB in marks else "red and blue swapped, as of old"
            warnings.warn(
                f"{self.where}: pictures are marked {unknown[0][:40]!r}, which is not known (true RGB is "
                f"{_TRUE_RGB!r}); taken as {taken}",
                stacklevel=4,
            )
        return _TRUE_RGB in marks


def jpeg_comments(data: bytes) -> list[bytes]:
    """The comments (COM segments) before the picture itself, zeros at their end left away."""
    found = []
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if kind == 0xFF:  # filling
            at += 1
            continue
        if kind == 0x01 or 0xD0 <= kind <= 0xD8:  # these have no length
            at += 2
            continue
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        if kind in (0xDA, 0xD9) or size < 2 or at + 2 + size > len(data):
            break
        if kind == 0xFE:
            found.append(data[at + 4 : at + 2 + size].rstrip(b"\0"))
        at += 2 + size
    return found


def decode_picture(data: bytes) -> np.ndarray:
    """uint8 RGB [H, W, 3] of a JPEG or PNG; zeros after its end, with which HDF5 fills up, do not matter.

    Raises:
        ValueError: another format, a picture that is cut off or broken, or one of more than 50 million pixels.
    """
    codec_name = _CODECS.get(data[:2])
    if codec_name is None:
        raise ValueError(f"bytes that begin with {data[:4]!r} are no picture; expected JPEG or PNG")
    data = data.rstrip(b"\0")
    if codec_name == "mjpeg" and not data.endswith(b"\xff\xd9"):
        raise ValueError("the JPEG has no end; it looks truncated, get the file again")
    av = _import_av()
    codec = av.CodecContext.create(codec_name, "r")
    codec.thread_count = 1
    codec.options = {"max_pixels": str(PIXELS_MAX), "err_detect": "explode"}
    try:
        frames = codec.decode(av.Packet(data if codec_name == "mjpeg" else data + b"\0" * 8))
        frames = frames or codec.decode(None)
    except (av.error.FFmpegError, EOFError) as error:
        raise ValueError(f"cannot decode the picture: {error}; it looks damaged, get the file again") from error
    if len(frames) != 1:
        raise ValueError("the picture is empty or holds several; it looks damaged, get the file again")
    return frames[0].to_ndarray(format="rgb24")
