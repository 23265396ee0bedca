"""Forward kinematics of a URDF or an MJCF: joints in, poses of named frames out; mujoco reads both.

docs/method.md#actions.

Only the tree of bodies, joints and sites is read. Meshes, textures, actuators and the like are dropped before mujoco
sees the model, because robot data sets almost never ship them.

# N frames in time, F named frames, J joints
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

_URDF_KEPT = {"robot", "link", "joint", "origin", "parent", "child", "axis", "limit"}
_MJCF_KEPT = {"mujoco", "compiler", "default", "worldbody", "body", "joint", "freejoint", "site", "inertial"}
_COMPILER = {"fusestatic": "false", "balanceinertia": "true", "boundmass": "1e-6", "boundinertia": "1e-9"}
_ASSET_ATTRIBUTES = ("material", "mesh", "meshdir", "texturedir", "assetdir")
_MAX_MODEL_CHARS = 8_000_000  # far above any robot; a guard against a wrong file


@dataclass(frozen=True)
class Poses:
    """position_m [N, F, 3] and matrix [N, F, 3, 3], both float64, in the base frame asked for."""

    position_m: np.ndarray
    matrix: np.ndarray


class ForwardKinematics:
    """Poses of `frames` (links, bodies or sites) as a function of joint values.

    Args:
        model: URDF or MJCF, as text or as the path of a file.
        frames: names of the links, bodies or sites wanted.
        base: the frame in which poses are given; None means the root of the model (URDF) or the world (MJCF).

    Attributes:
        joint_names: the joints that move one of the frames; every call must give all of them.
        model_joints: all joints of the model.

    Raises:
        ValueError: the model cannot be read, or has no such frame.
    """

    def __init__(self, model: str | Path, frames: Sequence[str], base: str | None = None) -> None:
        self._mujoco = _import_mujoco()
        text = _read(model)
        self._made_of = (text, tuple(frames), base)
        try:
            self._model = self._mujoco.MjModel.from_xml_string(_strip(text))
        except ValueError as error:
            raise ValueError(f"mujoco cannot read the robot model: {error}; give a URDF or MJCF of a robot") from error
        self._data = self._mujoco.MjData(self._model)
        self.frames = tuple(frames)
        self._root = _root_link(text)
        self._finders = [self._find(name) for name in self.frames]
        self._base = None if base is None else self._find(base)
        moved = self._finders if self._base is None else [*self._finders, self._base]
        self.joint_names = self._joints_above({body for body, _ in moved})
        self.model_joints = tuple(self._model.joint(i).name for i in range(self._model.njnt))

    def __reduce__(self) -> Any:  # for workers: made anew there, since mujoco's handles stay in their process
        return ForwardKinematics, self._made_of

    def __call__(self, joint_names: Sequence[str], q_NJ: np.ndarray) -> Poses:
        """Poses for every row of `q_NJ` (rad; m for sliding joints), whose columns are `joint_names` in any order.

        Raises:
            ValueError: a name the model lacks, a joint that moves a frame but is not given, a repeated name, a
                wrong shape, or a value that is not finite.
        """
        q_NJ = np.asarray(q_NJ, dtype=np.float64)
        addresses = self._addresses(joint_names)
        if q_NJ.ndim != 2 or q_NJ.shape[1] != len(addresses):
            raise ValueError(f"joint values have shape {q_NJ.shape}; expected [N, {len(addresses)}], one column a name")
        if not np.isfinite(q_NJ).all():
            row, column = np.argwhere(~np.isfinite(q_NJ))[0]
            raise ValueError(f"joint {joint_names[column]!r} is not finite in row {row}; repair or drop that frame")

        N, F = len(q_NJ), len(self.frames)
        position, matrix = np.empty((N, F, 3)), np.empty((N, F, 3, 3))
        for row in range(N):
            self._data.qpos[addresses] = q_NJ[row]
            self._mujoco.mj_kinematics(self._model, self._data)
            for column, finder in enumerate(self._finders):
                position[row, column], matrix[row, column] = self._pose(finder)
            if self._base is not None:
                origin, rotation = self._pose(self._base)
                position[row] = (position[row] - origin) @ rotation  # each row p: R^T (p - o)
                matrix[row] = rotation.T @ matrix[row]
        return Poses(position, matrix)

    def qpos_index(self, name: str) -> int:
        """Where a joint stands in mujoco's `qpos` of the full model, for simulators that store whole states."""
        return int(self._model.jnt_qposadr[self._joint(name)])

    @property
    def qpos_width(self) -> int:
        return int(self._model.nq)

    def _joint(self, name: str) -> int:
        joint = self._mujoco.mj_name2id(self._model, self._mujoco.mjtObj.mjOBJ_JOINT, name)
        if joint < 0:
            raise ValueError(f"the robot model has no joint {name!r}; it has {list(self.model_joints)}")
        if self._model.jnt_type[joint] not in (self._mujoco.mjtJoint.mjJNT_HINGE, self._mujoco.mjtJoint.mjJNT_SLIDE):
            raise ValueError(f"joint {name!r} floats or is a ball; only hinges and slides have one value a frame")
        return joint

    def _addresses(self, joint_names: Sequence[str]) -> list[int]:
        addresses = [self.qpos_index(name) for name in joint_names]
        if len(set(joint_names)) != len(joint_names):
            raise ValueError(f"a joint is named twice in {list(joint_names)}")
        if missing := [name for name in self.joint_names if name not in set(joint_names)]:
            raise ValueError(f"joints {missing} move {list(self.frames)} but were not given; add their columns")
        return addresses

    def _find(self, name: str) -> tuple[int, int | None]:
        """(body, site or None) of a frame: where it hangs in the tree, and which site it is if it is one."""
        body = self._mujoco.mj_name2id(self._model, self._mujoco.mjtObj.mjOBJ_BODY, name)
        if body >= 0:
            return body, None
        site = self._mujoco.mj_name2id(self._model, self._mujoco.mjtObj.mjOBJ_SITE, name)
        if site >= 0:
            return int(self._model.site_bodyid[site]), site
        if name == self._root:
            return 0, None  # mujoco merges the root link of a URDF with its world
        known = [self._model.body(i).name for i in range(self._model.nbody)]
        raise ValueError(f"the robot model has no link, body or site {name!r}; its bodies are {known}")

    def _pose(self, finder: tuple[int, int | None]) -> tuple[np.ndarray, np.ndarray]:
        body, site = finder
        if site is None:
            return self._data.xpos[body], self._data.xmat[body].reshape(3, 3)
        return self._data.site_xpos[site], self._data.site_xmat[site].reshape(3, 3)

    def _joints_above(self, bodies: set[int]) -> tuple[str, ...]:
        """Joints between the root and any of `bodies`, in the order of the model."""
        chain: set[int] = set()
        for body in bodies:
            while body > 0 and body not in chain:
                chain.add(body)
                body = int(self._model.body_parentid[body])
        joints = [self._model.joint(i) for i in range(self._model.njnt) if int(self._model.jnt_bodyid[i]) in chain]
        return tuple(joint.name for joint in joints)


def bundled_urdf(name: str) -> str:
    """The text of a URDF that ships with xtok (kinematics only, see its header for origin and licence).

    Raises:
        ValueError: if no such file ships.
    """
    folder = files("xtok.actions") / "urdf"
    shipped = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".urdf"))
    if name not in shipped:
        raise ValueError(f"no URDF {name!r} ships with xtok; there are {shipped}. Give the path of yours instead")
    return (folder / name).read_text(encoding="utf-8")


def strip_urdf(text: str) -> str:
    """A URDF reduced to its kinematics: links without inertia or geometry, joints with origin, axis and limits."""
    root = _parse(text)
    _prune(root, _URDF_KEPT)
    for link in root.iter("link"):
        link[:], link.text = [], None
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode")


def _import_mujoco() -> Any:
    try:
        import mujoco
    except ImportError as error:
        raise ImportError("forward kinematics needs mujoco: pip install 'xtok[kinematics]'") from error
    except Exception as error:  # it looks at MUJOCO_GL when it is imported, and at drivers, though none is wanted here
        raise ImportError(
            f"forward kinematics cannot import mujoco: {error}; unset MUJOCO_GL (it is "
            f"{os.environ.get('MUJOCO_GL')!r}), nothing is rendered here"
        ) from error
    return mujoco


def _read(model: str | Path) -> str:
    if isinstance(model, str) and "<" in model:
        return model
    path = Path(model)
    if not path.is_file():
        raise ValueError(f"no robot model at {path}; expected the path or the text of a URDF or MJCF file")
    return path.read_text(encoding="utf-8")


def _parse(text: str) -> ElementTree.Element:
    if len(text) > _MAX_MODEL_CHARS or "<!ENTITY" in text:
        raise ValueError("the robot model is over 8 MB or defines XML entities; expected a plain URDF or MJCF")
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"the robot model is not well-formed XML: {error}; expected a URDF or MJCF") from error


def _root_link(text: str) -> str | None:
    """Name of a URDF's root link (the one that is no joint's child), None for an MJCF."""
    root = _parse(text)
    if root.tag != "robot":
        return None
    children = {child.get("link") for child in root.iter("child")}
    return next((link.get("name") for link in root.iter("link") if link.get("name") not in children), None)


def _strip(text: str) -> str:
    """The model with nothing but kinematics, and a compiler that accepts bodies without mass."""
    root = _parse(text)
    if root.tag == "robot":
        root = _parse(strip_urdf(text))
        root.insert(0, _compiler_block())
    elif root.tag == "mujoco":
        _prune(root, _MJCF_KEPT)
        for element in root.iter():
            _repair_attributes(element)
        compiler = root.find("compiler")
        if compiler is None:
            compiler = ElementTree.SubElement(root, "compiler")
        compiler.attrib.update({**_COMPILER, "inertiafromgeom": "false"})
    else:
        raise ValueError(f"the robot model starts with <{root.tag}>; expected <robot> (URDF) or <mujoco> (MJCF)")
    return ElementTree.tostring(root, encoding="unicode")


def _compiler_block() -> ElementTree.Element:
    block = ElementTree.Element("mujoco")
    ElementTree.SubElement(block, "compiler", _COMPILER)
    return block


def _prune(element: ElementTree.Element, kept: set[str]) -> None:
    element[:] = [child for child in element if child.tag in kept]
    for child in element:
        _prune(child, kept)


def _repair_attributes(element: ElementTree.Element) -> None:
    for name in _ASSET_ATTRIBUTES:
        element.attrib.pop(name, None)
    for name, value in element.attrib.items():
        if value.startswith("["):  # robosuite 1.0's Wipe wrote Python lists: pos="[0, 0, 0.005]"
            element.set(name, value.strip("[]").replace(",", " "))
