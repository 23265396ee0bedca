"""Why a file could not be written, in words with a way out: full disk, read-only folder, limit, a path that cannot be.

Standard library only; any room may use it. Libraries raise their own errors for these, some without a path; here they
become one typed error, so that nobody takes a full disk for damaged data.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ELSEWHERE = "or choose another place to write to"
# What only writing can run into, so that it needs no proof that the error came from the file being written.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_NUMBER = re.compile(r"(?:os error|errno)[ =]*(\d+)", re.IGNORECASE)  # safetensors, pyarrow, h5py
_CUT_SHORT = re.compile(r"\d+ requested and \d+ written")  # numpy


class WriteError(OSError):
    """Something could not be written. The message says what, why, and what helps."""


def errno_of(error: BaseException) -> int | None:
    """The system's number of an error, wherever a library keeps it; None for an error that is not the system's."""
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number > 0:
        return number
    if found := _NUMBER.search(str(error)):
        return int(found[1])
    if isinstance(error, OSError) and _CUT_SHORT.search(str(error)):
        return errno.ENOSPC
    return None


def write_error(error: BaseException, path: Path, surely: bool = False) -> WriteError | None:
    """What to tell of an error that came up while `path` was written; None where it is of another kind.

    surely: the error is known to come from the writing, so that a denied permission is one of the output.
    """
    if isinstance(error, WriteError):
        return error
    number = errno_of(error)
    if number is None or not (surely or number in _FULL):
        return None
    return WriteError(f"cannot write {path}: {_reason(number, path, error)}")


@contextmanager
def telling(path: Path, surely: bool = False) -> Iterator[None]:
    """Errors of writing within become `WriteError`s that name `path`; all others come through as they are."""
    try:
        yield
    except Exception as error:
        found = write_error(error, path, surely)
        if found is None or found is error:
            raise
        raise found from error


def _reason(number: int, path: Path, error: BaseException) -> str:
    there = _nearest(path)
    if number == errno.ENOSPC:
        free = shutil.disk_usage(there).free
        return f"the disk of {there} is full ({free / 1e6:.1f} MB left); free some space there, {ELSEWHERE}"
    if number == errno.EDQUOT:
        return f"your quota on the disk of {there} is used up; free some of it, {ELSEWHERE}"
    if number == errno.EFBIG:
        return (
            "a file may not grow that large here (a limit of the file system, or the shell's `ulimit -f`); raise it, "
            + ELSEWHERE
        )
    if number == errno.EROFS:
        return f"{there} is on a read-only file system; mount it for writing, {ELSEWHERE}"
    if number in (errno.EACCES, errno.EPERM):
        return f"you may not write in {there} (permission denied); `chmod u+w` it if it is yours, {ELSEWHERE}"
    if number in (errno.ENOTDIR, errno.EEXIST):
        return f"{there} is a file where a folder is needed; move it away, {ELSEWHERE}"
    if number == errno.EISDIR:
        return "that is a folder; give the name of a file in it"
    if number == errno.ENAMETOOLONG:
        return "the name is too long for this file system; choose a shorter one"
    if number in (errno.EMFILE, errno.ENFILE):
        return "too many files are open; raise the limit (`ulimit -n 4096`) and try again"
    return f"{os.strerror(number)} ({error}); see whether the disk is there and sound, {ELSEWHERE}"


def _nearest(path: Path) -> Path:
    """The folder that a path is or would be made in, or what stands in the way: the nearest that exists."""
    path = path.absolute()
    if not os.path.isdir(path):  # noqa: PTH112, Path.is_dir raises where a parent may not be looked into
        path = path.parent
    while not os.path.exists(path) and path != path.parent:  # noqa: PTH110
        path = path.parent
    return path
