"""Where a result or a run comes from: versions, git revision, command. Standard library only; any room may use it."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("xtok", "torch", "numpy", "scipy", "tokenizers", "rapidfuzz")


def versions() -> dict[str, str | None]:
    """Installed version of each package that can change a figure; None where absent."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def git_revision() -> str | None:
    """Commit of the checkout that xtok runs from, "+dirty" if it has changes; None for an installed wheel."""
    here = Path(__file__).parent
    try:
        _git(here, "ls-files", "--error-unmatch", Path(__file__).name)  # a venv may lie in somebody else's checkout
        revision = _git(here, "rev-parse", "HEAD")
        return revision + ("+dirty" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def command() -> str:
    """The command line of this process."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()
