"""Files and folders that are there whole or not at all, whatever kills the process. Standard library only; any room.

A draft lies beside what it becomes as `.<name>.<process and machine>.tmp`: a kill may leave one, and it is never taken
for the real.
A full disk, a read-only folder and the like are `WriteError`s that name what was to be written, whoever found out.
"""

from __future__ import annotations

import glob
import os
import shutil
import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xtok.write_errors import telling


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` when the block ends well and vanishes when it does not.

    Raises:
        WriteError: it cannot be written: full disk, read-only folder, a path that cannot be.
    """
    with telling(path, surely=True):
        path = _through_link(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = _draft(path, path.parent)
        draft.touch()
    try:
        with telling(path):
            yield draft
        with telling(path, surely=True):
            draft.chmod(0o644)  # safetensors writes for its owner alone
            _flush(draft)
            draft.replace(path)
            _flush(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def atomic_write(path: Path, content: str | bytes) -> None:
    """Write bytes, or text as UTF-8."""
    with atomic_file(path) as draft:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_folder(final: Path, beside: Path | None = None) -> Iterator[Path]:
    """A folder to fill, which becomes `final` when the block ends well and vanishes when it does not.

    It lies in the folder `beside` (default: that of `final`). If another process made `final` meanwhile, that stays.

    Raises:
        WriteError: as `atomic_file`.
    """
    draft = _draft(final, beside or final.parent)
    shutil.rmtree(draft, ignore_errors=True)
    with telling(final, surely=True):
        draft.mkdir(parents=True)
    try:
        with telling(final):
            yield draft
        with telling(final, surely=True):
            for path in draft.rglob("*"):
                _flush(path)
            _flush(draft)
            try:
                draft.rename(final)
            except OSError:
                if not final.is_dir():
                    raise
            _flush(final.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def forget_drafts(path: Path) -> None:
    """Remove what killed runs left beside `path`; for files that no two processes write at once."""
    path = _through_link(path)
    for draft in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        shutil.rmtree(draft) if draft.is_dir() else draft.unlink(missing_ok=True)


def _through_link(path: Path) -> Path:
    """Where a link leads: it is written through, as by a shell, and stays a link."""
    return path.resolve() if path.is_symlink() else path


def _draft(path: Path, folder: Path) -> Path:
    host = zlib.crc32(socket.gethostname().encode())  # processes of two machines may have one number
    return folder / f".{path.name}.{os.getpid()}{host:010d}.tmp"


def _flush(path: Path) -> None:
    """On disk, not only in the cache of the system."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
