"""TFRecords and RoboTwin files written by hand in the documented layouts, traps included, and mappings of one line.

# N frames of an episode, W columns of one feature
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from xtok.data.readers.tfrecord import masked_crc32c

Values = Sequence[bytes] | np.ndarray


def varint(number: int) -> bytes:
    out = bytearray()
    number &= (1 << 64) - 1
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out + bytes([number]))


def message(number: int, body: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(body)) + body


def example(features: Mapping[str, Values], packed: bool = True) -> bytes:
    """A tf.train.Example. packed: lists of numbers in one field, as TensorFlow writes; False: a field a number."""
    entries = b""
    for name, values in features.items():
        if not isinstance(values, np.ndarray):
            feature = message(1, b"".join(message(1, value) for value in values))
        elif values.dtype.kind == "f":
            numbers = values.astype("<f4")
            one_by_one = b"".join(b"\x0d" + each.tobytes() for each in numbers)
            feature = message(2, message(1, numbers.tobytes()) if packed else one_by_one)
        else:
            body = b"".join(varint(int(each)) for each in values)
            one_by_one = b"".join(b"\x08" + varint(int(each)) for each in values)
            feature = message(3, message(1, body) if packed else one_by_one)
        entries += message(1, message(1, name.encode()) + message(2, feature))
    return message(1, entries)


def frame(payload: bytes) -> bytes:
    head = struct.pack("<Q", len(payload))
    return head + struct.pack("<I", masked_crc32c(head)) + payload + struct.pack("<I", masked_crc32c(payload))


def write_rlds(folder: Path, episodes: Sequence[Mapping[str, Values]], name: str = "my_set") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    data = b"".join(frame(example(episode)) for episode in episodes)
    (folder / f"{name}-train.tfrecord-00000-of-00001").write_bytes(data)
    (folder / "dataset_info.json").write_text(json.dumps({"name": name}))
    return folder


def rlds_episode(N: int = 12, seed: int = 0, text: bytes = b"pick it up", **more: Values) -> dict[str, Values]:
    """Bridge's layout: x, y, z, roll, pitch, yaw, gripper."""
    rng = np.random.default_rng(seed)
    state = np.cumsum(rng.normal(0, 0.01, (N, 7)), axis=0).astype(np.float32)
    state[:, 6] = np.linspace(1, 0, N)
    return {
        "steps/observation/state": state.ravel(),
        "steps/action": np.diff(state, axis=0, append=state[-1:]).ravel(),
        "steps/is_first": np.r_[1, np.zeros(N - 1)].astype(np.int64),
        "steps/reward": np.zeros(N, dtype=np.float32),
        "steps/language_instruction": [text] * N,
        **more,
    }


def quaternions(N: int, seed: int = 0) -> np.ndarray:
    """Unit quaternions [N, 4], w first, that turn a little from frame to frame."""
    rng = np.random.default_rng(seed)
    walk = np.array([1.0, 0.2, -0.1, 0.3]) + np.cumsum(rng.normal(0, 0.02, (N, 4)), axis=0)
    return walk / np.linalg.norm(walk, axis=1, keepdims=True)


def picture(number: int, size: tuple[int, int] = (32, 48)) -> np.ndarray:
    """RGB [H, W, 3]: mostly red, with a brightness that says which frame it is. Larger numbers make longer JPEGs."""
    image = np.zeros((*size, 3), dtype=np.uint8)
    image[..., 0], image[..., 2] = 200, 10 * number
    image[: 4 * number, : 4 * number, 1] = np.random.default_rng(number).integers(0, 60)
    return image


def _jpegs(count: int) -> list[bytes]:
    import cv2

    # RoboTwin gives cv2.imencode an RGB array, which it takes for BGR
    return [
        cv2.imencode(".jpg", picture(number), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes() for number in range(count)
    ]


def arm_pose(N: int, seed: int) -> np.ndarray:
    """[N, 7]: position in metres and a quaternion, w first."""
    rng = np.random.default_rng(seed)
    return np.concatenate([0.3 + np.cumsum(rng.normal(0, 0.005, (N, 3)), axis=0), quaternions(N, seed)], axis=1)


def write_robotwin_classic(root: Path, lengths: Sequence[int] = (9, 12), pictures: bool = True) -> Path:
    data = root / "pick_cup" / "demo_clean" / "data"
    data.mkdir(parents=True, exist_ok=True)
    (data.parent / "instructions").mkdir(exist_ok=True)
    for i, N in enumerate(lengths):
        rng = np.random.default_rng(i)
        with h5py.File(data / f"episode{i}.hdf5", "w") as archive:
            arms = {f"{side}_arm": rng.normal(0, 1, (N, 6)) for side in ("left", "right")}
            grippers = {f"{side}_gripper": np.linspace(1, 0, N) for side in ("left", "right")}
            for key, values in {**arms, **grippers}.items():
                archive[f"joint_action/{key}"] = values
            archive["joint_action/vector"] = rng.normal(0, 1, (N, 14))
            for k, side in enumerate(("left", "right")):
                archive[f"endpose/{side}_endpose"] = arm_pose(N, 10 * i + k)
                archive[f"endpose/{side}_gripper"] = grippers[f"{side}_gripper"]
            if pictures:
                jpegs = _jpegs(N)
                longest = max(map(len, jpegs))
                archive.create_dataset("observation/head_camera/rgb", data=jpegs, dtype=f"S{longest}")
        wordings = {"seen": [f"pick up cup {i}"], "unseen": ["take the cup"]}
        (data.parent / "instructions" / f"episode{i}.json").write_text(json.dumps(wordings))
    return root


def write_robotwin_v1(root: Path, lengths: Sequence[int] = (9, 12), hz: Any = 15, **instruction: Any) -> Path:
    data = root / "demo_clean" / "pick_cup" / "aloha-agilex" / "data"
    data.mkdir(parents=True, exist_ok=True)
    for i, N in enumerate(lengths):
        with h5py.File(data / f"episode_{i:07d}.hdf5", "w") as archive:
            archive["data_format_version"] = "v1.0"
            archive["instructions"] = json.dumps([f"pick up cup {i}", "take it"])
            archive["additional_info/frequency"] = np.int32(hz)
            for k, side in enumerate(("left", "right")):
                pose = arm_pose(N + 1, 10 * i + k)
                joints = np.random.default_rng(i).normal(0, 1, (N + 1, 6))
                opening = np.linspace(1, 0, N + 1)[:, None]
                for group, rows in (("state", slice(0, N)), ("action", slice(1, N + 1))):
                    archive[f"{group}/{side}_ee_poses"] = pose[rows]
                    archive[f"{group}/{side}_arm_joint_states"] = joints[rows]
                    archive[f"{group}/{side}_ee_joint_states"] = opening[rows]
            jpegs = _jpegs(N)
            archive.create_dataset("vision/cam_head/colors", data=jpegs, dtype=f"S{max(map(len, jpegs))}")
    return root


def write_text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
