"""Settled before a simulator is imported: the extra is there, rendering is headless, robosuite is quiet."""

from __future__ import annotations

import logging
import os
import warnings

try:
    import gymnasium
except ImportError as error:
    raise ImportError(f"xtok.sim needs its extra: pip install 'xtok[sim]' ({error})") from error

__all__ = ["check_rendering", "gymnasium"]

# Read by mujoco when it is first imported.
os.environ["MUJOCO_GL"] = os.environ.get("MUJOCO_GL") or "egl"
# robosuite greets with warnings on import and logs every controller file; none of it is for our users.
logging.getLogger("robosuite_logs").addFilter(lambda record: False)


def check_rendering(pictures: bool = True) -> None:
    """See that MuJoCo works as MUJOCO_GL has it, before minutes of work that would end with an error of a driver.

    pictures: whether any are to be rendered; a context for them is opened, to see.

    Raises:
        ValueError: it does not; the message says what to do.
    """
    chosen = os.environ["MUJOCO_GL"]
    try:
        import mujoco

        if pictures:
            # Not mujoco.Renderer: one that cannot be made prints a traceback of its own when it is collected.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                context = mujoco.GLContext(16, 16)
                try:
                    context.make_current()
                    model = mujoco.MjModel.from_xml_string("<mujoco/>")
                    mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100).free()
                finally:
                    context.free()
    except Exception as error:  # every backend raises its own
        raise ValueError(rendering_fails(chosen, error)) from error


def rendering_fails(chosen: str | None, error: BaseException) -> str:
    """What to tell of a backend that does not work."""
    others = [name for name in ("egl", "osmesa") if name != chosen]
    return (
        f"MuJoCo cannot render here with MUJOCO_GL={chosen} ({type(error).__name__}: {error}); set "
        f"MUJOCO_GL={' or MUJOCO_GL='.join(others)}, which need no screen (`make sim` installs their libraries)"
    )
