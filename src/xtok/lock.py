"""One writer at a time: a lock on an output, which tells a second writer who the first one is.

Any room may use it. The lock is the kernel's (flock), so it is free as soon as its process is gone, `kill -9` included;
the file that carries it also says who holds it: `.c.parquet.lock` beside a file, `.xtok.lock` in a folder. filelock,
which others bring along, empties that file at every attempt, so it cannot hold the name of the writer.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from xtok import provenance
from xtok.write_errors import telling

FOLDER_LOCK = ".xtok.lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
_RECORD_S = 0.5  # a writer that has just begun may not have said yet who it is


@dataclass(frozen=True)
class Writer:
    """Who writes. since: local time, ISO."""

    pid: int
    host: str
    since: str
    command: str

    @classmethod
    def me(cls) -> Writer:
        return cls(os.getpid(), socket.gethostname(), datetime.now().isoformat(" ", "seconds"), provenance.command())

    @property
    def is_gone(self) -> bool:
        """Whether that process of this machine is no more; False for another machine, of which we cannot know."""
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} (since {self.since}: {self.command})"


def lock_path(out: Path, folder: bool) -> Path:
    """Where the lock of an output lies, the same one for all names of a file or folder."""
    real = out.resolve()
    return real / FOLDER_LOCK if folder else real.with_name(f".{real.name}.lock")


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, sorted, but for a lock of ours; [] where there is no folder."""
    return sorted(path for path in folder.iterdir() if path.name != FOLDER_LOCK) if folder.is_dir() else []


@contextmanager
def write_lock(out: Path, folder: bool, log: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Hold the lock of an output, whose parents (and the folder itself) are made; those left empty go again.

    log: told of a lock that a killed process left, which is taken over.

    Raises:
        ValueError: another process holds it; the message says which.
        WriteError: nothing can be written there.
    """
    path = lock_path(out, folder)
    made = [each for each in (path.parent, *path.parent.parents) if not os.path.exists(each)]  # noqa: PTH110, never raises
    with telling(out, surely=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = _acquire(path, out, log)
        except BaseException:
            _remove(made)
            raise
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)
        _remove(made)


def _acquire(path: Path, out: Path, log: Callable[[str], None]) -> int:
    while True:
        descriptor, mine = _open(path)
        try:
            if not _flock(descriptor):
                raise ValueError(_refusal(path, out))
            # Whoever held it may have removed the file meanwhile; then this lock is one on nothing.
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                if (before := _record(path)) is not None:
                    log(f"{out}: taking over from {before}, which was killed before it had finished")
                if mine:
                    try:
                        os.ftruncate(descriptor, 0)
                        os.pwrite(descriptor, json.dumps(asdict(Writer.me())).encode(), 0)
                    except OSError:  # a full disk
                        path.unlink()
                        raise
                    return descriptor
                path.unlink()  # another person's, left by a process that is gone
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _open(path: Path) -> tuple[int, bool]:
    """The lock's file, and whether this process may write it."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666), True
    except PermissionError:
        if not path.exists():
            raise
    return os.open(path, os.O_RDONLY), False


def _flock(descriptor: int) -> bool:
    """Whether the lock is ours now. Where there are no locks (some network file systems) the record alone decides."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        held = _parsed(os.pread(descriptor, 1 << 16, 0))
        return held is None or held.is_gone
    return True


def _refusal(path: Path, out: Path) -> str:
    until = time.monotonic() + _RECORD_S
    while (writer := _record(path)) is None and time.monotonic() < until:
        time.sleep(0.02)
    who = "another process" if writer is None else str(writer)
    if writer is not None and writer.is_gone:
        who += ", which is gone, but a process that it started still runs"
    return f"{out} is being written by {who}; wait for it, stop it, or choose another place to write to"


def _record(path: Path) -> Writer | None:
    try:
        return _parsed(path.read_bytes())
    except OSError:
        return None


def _parsed(text: bytes) -> Writer | None:
    try:
        return Writer(**json.loads(text))
    except (ValueError, TypeError):
        return None


def _remove(folders: list[Path]) -> None:
    """Those of the folders that were made for nothing, the innermost first."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return
