"""What is being done, and how far it is: told to whoever shows it (a bar at the terminal), by every slow part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Tell:
    """tell(message, share): share 0 to 1 of this part, which is low to high of the whole; prefix before each
    message."""

    show: Callable[[str, float], None]
    low: float = 0.0
    high: float = 1.0
    prefix: str = ""

    def __call__(self, message: str, share: float) -> None:
        self.show(self.prefix + message, self.low + (self.high - self.low) * share)

    def within(self, low: float, high: float, prefix: str = "") -> Tell:
        """A part of this part."""
        width = self.high - self.low
        return Tell(self.show, self.low + width * low, self.low + width * high, self.prefix + prefix)


silent = Tell(lambda message, share: None)
