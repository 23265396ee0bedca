"""Settled before a simulator is imported: the extra is there, rendering is headless, robosuite is quiet."""

from __future__ import annotations

import logging
import os

try:
    import gymnasium
except ImportError as error:
    raise ImportError(f"xtok.sim needs its extra: pip install 'xtok[sim]' ({error})") from error

__all__ = ["gymnasium"]

# Read by mujoco when it is first imported.
os.environ.setdefault("MUJOCO_GL", "egl")
# robosuite greets with warnings on import and logs every controller file; none of it is for our users.
logging.getLogger("robosuite_logs").addFilter(lambda record: False)
