"""Stop between two steps, never inside one."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Truthy once SIGINT or SIGTERM has come; the second time they stop the program where it is."""

    def __init__(self) -> None:
        self.received = False

    def __bool__(self) -> bool:
        return self.received

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received:  # asked twice: at once, and without the checkpoint
            raise KeyboardInterrupt
        self.received = True
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
