"""Poses in numpy: what a step of the simulation needs thousands of times. Frames are arms26, a lone arm on the right.

A pose is (position_m [3], rotation [3, 3]). 6D rotations are the first two columns, one after the other, as in
xtok.actions.rotation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xtok.actions.layout import ARMS26

POSITION = ARMS26.slices["right_position"]
ROTATION = ARMS26.slices["right_rotation"]
GRIPPER = ARMS26.slices["right_gripper"]
_PARALLEL = 1e-3  # 6D columns shorter than this, or closer than this, span no rotation


class Pose(NamedTuple):
    """position_m [3] and rotation [3, 3], columns are the frame's axes."""

    position_m: np.ndarray
    rotation: np.ndarray

    def inverse(self) -> Pose:
        return Pose(-self.rotation.T @ self.position_m, self.rotation.T)

    def compose(self, inner: Pose) -> Pose:
        """This pose as a frame, `inner` given in it."""
        return Pose(self.position_m + self.rotation @ inner.position_m, self.rotation @ inner.rotation)


def rotation_z(angle_rad: float) -> np.ndarray:
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def rotation_from_rotvec(rotvec_rad: np.ndarray) -> np.ndarray:
    """Exponential map: axis times angle, rad."""
    angle = float(np.linalg.norm(rotvec_rad))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = rotvec_rad / angle
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * (cross @ cross)


def rotvec_from_rotation(rotation: np.ndarray) -> np.ndarray:
    """Logarithm: axis times angle, rad, with an angle in [0, pi]."""
    axial = 0.5 * np.array(
        [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    )
    sine, cosine = float(np.linalg.norm(axial)), 0.5 * (float(np.trace(rotation)) - 1.0)
    angle = float(np.arctan2(sine, cosine))
    if sine > 1e-6:
        return axial * (angle / sine)
    if cosine > 0:
        return axial
    outer = 0.5 * (rotation + np.eye(3))  # half a turn: the axis is the longest column of a a^T
    column = outer[:, int(np.argmax(np.diag(outer)))]
    return np.pi * column / np.linalg.norm(column)


def rotation6d(rotation: np.ndarray) -> np.ndarray:
    """[3, 3] -> [6]."""
    return np.concatenate((rotation[:, 0], rotation[:, 1]))


def rotation_from_6d(values: np.ndarray) -> np.ndarray:
    """[6] -> [3, 3] by Gram-Schmidt.

    Raises:
        ValueError: columns from which no rotation follows.
    """
    first, second = values[:3], values[3:]
    length = float(np.linalg.norm(first))
    if length > _PARALLEL:
        first = first / length
        second = second - (first @ second) * first
        rest = float(np.linalg.norm(second))
        if rest > _PARALLEL * max(1.0, float(np.linalg.norm(values[3:]))):
            second = second / rest
            return np.stack((first, second, np.cross(first, second)), axis=1)
    raise ValueError(
        f"no rotation follows from the 6D values {values.tolist()}; expected the first two columns of a rotation matrix"
    )


def frame_from_pose(pose: Pose, gripper: float, side: str = "right") -> np.ndarray:
    """A frame [26] of one arm: pose in its base frame, gripper 0 closed .. 1 open, other channels 0."""
    frame_D = np.zeros(ARMS26.width)
    frame_D[ARMS26.slices[f"{side}_position"]] = pose.position_m
    frame_D[ARMS26.slices[f"{side}_rotation"]] = rotation6d(pose.rotation)
    frame_D[ARMS26.slices[f"{side}_gripper"]] = gripper
    return frame_D


def pose_from_frame(frame_D: np.ndarray, side: str = "right") -> tuple[Pose, float]:
    """Inverse of `frame_from_pose`.

    Raises:
        ValueError: a 6D rotation that is none.
    """
    position_m = np.array(frame_D[ARMS26.slices[f"{side}_position"]], dtype=np.float64)
    rotation = rotation_from_6d(frame_D[ARMS26.slices[f"{side}_rotation"]].astype(np.float64))
    return Pose(position_m, rotation), float(frame_D[ARMS26.slices[f"{side}_gripper"]][0])


def quaternion_from_rotation(rotation: np.ndarray) -> np.ndarray:
    """(w, x, y, z) [4], as MuJoCo has it."""
    rotvec = rotvec_from_rotation(rotation)
    half = 0.5 * float(np.linalg.norm(rotvec))
    return np.concatenate(([np.cos(half)], 0.5 * np.sinc(half / np.pi) * rotvec))


def look_at(eye_m: np.ndarray, target_m: np.ndarray) -> np.ndarray:
    """Rotation [3, 3] of a MuJoCo camera (looks along -z, y up) at `eye_m` that sees `target_m` in its middle."""
    back = eye_m - target_m
    back = back / np.linalg.norm(back)
    right = np.cross(np.array([0.0, 0.0, 1.0]), back)
    right = right / np.linalg.norm(right)
    return np.stack((right, np.cross(back, right), back), axis=1)
