"""Names for contents: what a folder holds, what settings decide."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from xtok.lock import FOLDER_LOCK

_SHORT = 100  # characters of two values that are told
WHOLE_BYTES, SAMPLE_BYTES = 1 << 20, 1 << 16  # a longer file is known by its size, its first and its last part


def digest_of(**parts: Any) -> str:
    """16 hex digits over JSON of what decides something."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two settings, as JSON has them, in words: "stride (16, now 4)", "data"."""
    before, now = (json.loads(json.dumps(each)) for each in (before, now))
    found = []
    for key in dict.fromkeys((*now, *before)):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += [f"{key}.{each}" for each in differences(old, new)]
        elif old != new:
            both = f"{_short(old)}, now {_short(new)}"
            found.append(f"{key} ({both})" if len(both) < _SHORT else key)
    return found


def _short(value: Any) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)


def folder_digest(root: Path, without: Container[str] = (), times: bool = False) -> str:
    """16 hex digits over all files of a folder: names, sizes and bytes, of long files the first and last 64 KiB.

    without: suffixes of files that do not count. times: of long files also when they were changed last, so that no
    change in the middle goes unseen; the digest is then one of this copy of the folder.
    """
    digest = hashlib.sha256()
    paths = sorted(path for path in root.rglob("*") if path.is_file() and path.suffix not in without)
    for path in tqdm(paths, "looking at the data", unit="file", delay=1, leave=False, disable=None):
        if path.name == FOLDER_LOCK:
            continue
        about = path.stat()
        size = about.st_size
        digest.update(f"{path.relative_to(root).as_posix()}\0{size}\0".encode())
        if times and size > WHOLE_BYTES:
            digest.update(f"{about.st_mtime_ns}\0".encode())
        with path.open("rb") as file:
            if size <= WHOLE_BYTES:
                digest.update(file.read())
                continue
            digest.update(file.read(SAMPLE_BYTES))
            file.seek(-SAMPLE_BYTES, os.SEEK_END)
            digest.update(file.read())
    return digest.hexdigest()[:16]
