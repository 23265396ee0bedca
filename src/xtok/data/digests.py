"""Names for contents: what a folder holds, what settings decide."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Container
from pathlib import Path
from typing import Any

WHOLE_BYTES, SAMPLE_BYTES = 1 << 20, 1 << 16  # a longer file is known by its size, its first and its last part


def digest_of(**parts: Any) -> str:
    """16 hex digits over JSON of what decides something."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def folder_digest(root: Path, without: Container[str] = ()) -> str:
    """16 hex digits over all files of a folder: names, sizes and bytes, of long files the first and last 64 KiB.

    without: suffixes of files that do not count.
    """
    digest = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.is_file() and path.suffix not in without):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(root).as_posix()}\0{size}\0".encode())
        with path.open("rb") as file:
            if size <= WHOLE_BYTES:
                digest.update(file.read())
                continue
            digest.update(file.read(SAMPLE_BYTES))
            file.seek(-SAMPLE_BYTES, os.SEEK_END)
            digest.update(file.read())
    return digest.hexdigest()[:16]
