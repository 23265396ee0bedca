"""HDF5 files opened so that a damaged one is an error, never an endless loop."""

from __future__ import annotations

import mmap
from functools import lru_cache
from pathlib import Path
from typing import Any

# A global heap collection, where strings of variable length are: signature, version 1, three zeros, its size.
_HEAP = b"GCOL\x01\x00\x00\x00"
_HEAD_BYTES = 16  # of a collection, and of an object in it: index (2), references (2), zeros (4), size (8)
_SMALL_BYTES = 16 << 20  # looked through at each opening; larger files once, not for each of their episodes


def open_hdf5(file: Path) -> Any:
    """An h5py file for reading.

    Raises:
        ImportError: h5py is not installed.
        ValueError: no HDF5, a truncated file, or one whose strings libhdf5 would search for without end.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f"reading {file.suffix} files needs h5py: pip install 'xtok[readers]'") from error
    try:
        status = file.stat()
        check = _check_heaps_once if status.st_size > _SMALL_BYTES else _check_heaps
        check(file, status.st_size, status.st_mtime_ns)
        return h5py.File(file, "r")
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error}; it looks truncated or is no HDF5, copy it again") from error


def _check_heaps(file: Path, size: int, mtime_ns: int) -> None:
    """libhdf5 (1.14, 2.0) steps through a heap by the sizes in it, and for ever where one is zero or wraps around."""
    if size == 0:
        return
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = content.find(_HEAP)
        while at >= 0:
            end = min(at + int.from_bytes(content[at + 8 : at + 16], "little"), size)
            step = at + _HEAD_BYTES
            while step + _HEAD_BYTES <= end:
                index = int.from_bytes(content[step : step + 2], "little")
                length = int.from_bytes(content[step + 8 : step + 16], "little")
                taken = _HEAD_BYTES + -(-length // 8) * 8 if index else length  # index 0: what is free, to the end
                if not _HEAD_BYTES <= taken <= end - step:
                    raise ValueError(f"{file} is damaged at byte {step}, where strings are kept; copy it again")
                step += taken
            at = content.find(_HEAP, at + len(_HEAP))


_check_heaps_once = lru_cache(maxsize=1024)(_check_heaps)
