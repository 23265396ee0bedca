"""One line to the person who waits: what is being done unasked, and why. Results alone go to stdout."""

from __future__ import annotations

import sys

from xtok.ranks import launched_rank


def say(message: str) -> None:
    """A remark on stderr, above a progress bar if there is one. Of several processes of a run the first one speaks."""
    if launched_rank():
        return
    shown = sys.modules.get("tqdm")
    if shown is None:
        print(f"xtok: {message}", file=sys.stderr)
    else:
        shown.tqdm.write(f"xtok: {message}", file=sys.stderr)
