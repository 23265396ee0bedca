"""Stop between two steps, never inside one."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# torchrun gives a Ctrl-C on to processes that the terminal has told already: the same request, not a second one.
_ECHO_S = 5.0 if int(os.environ.get("WORLD_SIZE") or 1) > 1 else 0.0


class StopRequest:
    """Truthy once SIGINT or SIGTERM has come; the second time they stop the program where it is."""

    def __init__(self) -> None:
        self.received = False
        self._first_s = 0.0

    def __bool__(self) -> bool:
        return self.received

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now_s = time.monotonic()
        if self.received:  # asked twice: at once, and without the checkpoint
            if now_s - self._first_s > _ECHO_S:
                raise KeyboardInterrupt
            return
        self.received, self._first_s = True, now_s
        # Not print, which may be what the signal has interrupted.
        os.write(2, b"\nxtok: stopping after this step, with a checkpoint; once more to stop at once\n")


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Catch both signals within; the handlers from before come back after. Python lets only the main thread do so."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request._receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
