"""Work for crews that needs no torch, so that a worker begins in a moment; and who works for a process."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from xtok.atomic import atomic_write
from xtok.workers import Workers, crew

DIES, FAILS, SLEEPS = "dies", "fails", "sleeps"


@dataclass
class Recorded:
    """Says who did a unit, and how many the worker did before with the same copy."""

    folder: Path
    done: list[object] = field(default_factory=list)

    def __call__(self, unit: object) -> tuple[object, int, int, str]:
        (self.folder / str(os.getpid())).touch()
        if unit == DIES:
            os.kill(os.getpid(), signal.SIGKILL)
        if unit == FAILS:
            raise FileNotFoundError(f"{unit}: nothing there")
        if unit == SLEEPS:
            time.sleep(600)
        self.done.append(unit)
        return unit, os.getpid(), len(self.done), os.environ.get("OMP_NUM_THREADS", "")


@dataclass
class Written:
    """Writes a file a unit, and gives back more than a pipe holds. ballast: so that the work is more than that too."""

    folder: Path
    ballast: bytes = bytes(1 << 18)

    def __call__(self, number: int) -> bytes:
        content = bytes([number]) * (1 << 18)
        atomic_write(self.folder / f"{number:03d}", content)
        return content


def write_all(folder: Path, units: int) -> None:
    """Those that are missing, by two workers."""
    missing = [number for number in range(units) if not (folder / f"{number:03d}").exists()]
    with crew(Written(folder), Workers(2)) as run:
        for number, content in zip(missing, run(missing), strict=True):
            assert content[0] == number


def workers_seen(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir()]


def is_alive(pid: int) -> bool:
    """Whether there is such a process and it has not ended (one that nobody has asked about yet is no more)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def descendants(pid: int) -> dict[int, str]:
    """Number -> command line of all that a process began, directly or not."""
    parents, lines = {}, {}
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                parents[int(each.name)] = int((each / "stat").read_text().rsplit(")", 1)[1].split()[1])
                lines[int(each.name)] = (each / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
    found, new = set(), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return {each: lines[each] for each in found}


if __name__ == "__main__":
    write_all(Path(sys.argv[1]), int(sys.argv[2]))
