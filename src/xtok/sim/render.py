"""The views of a world, rendered by a mujoco.Renderer of our own with everything off that costs and shows little.

S side of the square images, pixels.
"""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Sequence

import mujoco
import numpy as np

from xtok.sim.geometry import look_at, quaternion_from_rotation
from xtok.sim.runtime import rendering_fails

VIEWS = ("scene", "front", "wrist")  # of an episode with one arm
PAIR_VIEWS = ("scene", "left_wrist", "right_wrist")  # with two
CAMERAS = {
    "scene": "scene",
    "front": "front",
    "wrist": "robot0_eye_in_hand",
    "left_wrist": "robot0_eye_in_hand",
    "right_wrist": "robot1_eye_in_hand",
}
# eye and the point it looks at, m, world; the middle of the table is (0, 0, .8)
Eyes = dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]]
EYES: Eyes = {
    "scene": ((0.56, -0.42, 1.34), (0.0, 0.0, 0.85)),
    "front": ((0.72, 0.0, 1.22), (0.0, 0.0, 0.86)),
}
PAIR_EYES: Eyes = {
    "scene": ((-0.86, -0.20, 1.38), (0.0, 0.0, 0.85)),  # from where left is the left arm
    "front": ((-0.98, 0.0, 1.22), (0.0, 0.0, 0.87)),
}
_OFF = (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION, mujoco.mjtRndFlag.mjRND_SKYBOX)
_SEEN_GROUP = 1  # visual geoms


def aim(model: mujoco.MjModel, view: str, eye_m: np.ndarray, target_m: np.ndarray) -> None:
    """Put a fixed camera of the model at `eye_m` and point it at `target_m`, world metres."""
    camera = model.camera(CAMERAS[view]).id
    model.cam_pos[camera] = eye_m
    model.cam_quat[camera] = quaternion_from_rotation(look_at(eye_m, target_m))


class Views:
    """The renderer of one compiled model.

    Raises:
        ValueError: there is nothing to render with; the message says what to do.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, size: int) -> None:
        self._data = data
        model.vis.quality.offsamples = 0  # multisampling: software rendering pays for every sample
        try:
            self._renderer = mujoco.Renderer(model, size, size)
        except Exception as error:  # every backend raises its own
            raise ValueError(
                f"{rendering_fails(os.environ.get('MUJOCO_GL'), error)}; import xtok.sim before mujoco or robosuite"
            ) from error
        if not _OPEN:
            # after mujoco's own hook, so before it: closing a renderer once EGL is gone prints errors
            atexit.unregister(_close_all)
            atexit.register(_close_all)
        _OPEN.add(self)
        self._option = mujoco.MjvOption()
        self._option.geomgroup[:] = 0
        self._option.geomgroup[_SEEN_GROUP] = 1
        self._option.sitegroup[:] = 0
        for flag in _OFF:
            self._renderer.scene.flags[flag] = 0

    def render(self, views: Sequence[str] = VIEWS) -> dict[str, np.ndarray]:
        """uint8 [S, S, 3] a view."""
        return {view: self._draw(view).copy() for view in views}

    def segment(self, view: str) -> np.ndarray:
        """Int [S, S]: the geom that a pixel shows, -1 for none."""
        self._renderer.enable_segmentation_rendering()
        try:
            ids = self._draw(view)
        finally:
            self._renderer.disable_segmentation_rendering()
        is_geom = ids[..., 1] == int(mujoco.mjtObj.mjOBJ_GEOM)
        return np.where(is_geom, ids[..., 0], -1)

    def close(self) -> None:
        _OPEN.discard(self)
        self._renderer.close()

    def _draw(self, view: str) -> np.ndarray:
        self._renderer.update_scene(self._data, CAMERAS[view], self._option)
        return self._renderer.render()


_OPEN: weakref.WeakSet[Views] = weakref.WeakSet()


def _close_all() -> None:
    for views in list(_OPEN):
        views.close()
