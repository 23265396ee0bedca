"""One line to the person who waits: what is being done unasked, and why. Results alone go to stdout."""

from __future__ import annotations

import sys


def say(message: str) -> None:
    """A remark on stderr."""
    print(f"xtok: {message}", file=sys.stderr)
