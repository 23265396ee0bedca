"""One bar on stderr for a command that takes minutes, from its first second: what is being done, and how far it is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from xtok.cli.common import say

if TYPE_CHECKING:
    from xtok.evaluate.progress import Tell

WHOLE = 1000  # steps of the bar
LINE_EVERY_S = 10.0  # where stderr is no terminal: a line now and then
BAR = "{desc}  {percentage:3.0f} %|{bar:24}| {elapsed}"


@contextmanager
def progress_bar(name: str) -> Iterator[Tell]:
    """Yields a function of a message and of the share that is done."""
    from tqdm import tqdm

    with tqdm(total=WHOLE, desc=f"{name}: starting", bar_format=BAR, disable=None, leave=False) as bar:
        from xtok.evaluate.progress import Tell  # takes seconds, so the bar stands there already

        spoken_s = time.monotonic()
        if bar.disable:
            say("starting")

        def show(message: str, share: float) -> None:
            nonlocal spoken_s
            bar.n = max(bar.n, round(WHOLE * share))  # never back, whatever a part foresaw
            bar.set_description_str(f"{name}: {message}")
            if bar.disable and time.monotonic() - spoken_s >= LINE_EVERY_S:
                say(f"{100 * share:.0f} %, {message}")
                spoken_s = time.monotonic()

        yield Tell(show)
