"""The one training loop: on Accelerate, from a laptop to a cluster, for any `Task`. Decision 0018."""

from __future__ import annotations

from xtok.engine.batches import BatchSource
from xtok.engine.loop import Engine, NotFinite
from xtok.engine.settings import PLAIN, Launch, Settings
from xtok.engine.task import Kept, Parts, Task

__all__ = ["PLAIN", "BatchSource", "Engine", "Kept", "Launch", "NotFinite", "Parts", "Settings", "Task"]
