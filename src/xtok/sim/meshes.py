"""Fewer triangles for what is only looked at. Collision meshes stay as they are: grasps depend on them.

Rendering on a CPU costs by the triangle, not by the pixel: robosuite's arms bring up to 400,000. Every visual mesh is
simplified once and kept in a cache folder (XTOK_CACHE, or xtok under XDG_CACHE_HOME).
"""

from __future__ import annotations

import copy
import hashlib
import os
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np

from xtok.atomic import atomic_file

FACES = 300  # a visual mesh keeps about this many triangles
VISUAL_GROUP = "1"
FELT_GROUP = "3"  # neither drawn nor, as group 0 would be, counted into the inertia of its body
_VERSION = "2"  # change it when the result of the same input changes


def cache_dir() -> Path:
    """Where simplified meshes are kept."""
    own = os.environ.get("XTOK_CACHE")
    if own:
        return Path(own) / "meshes"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "xtok" / "meshes"


def decimate_visual_meshes(xml: str, faces: int = FACES) -> str:
    """The same MJCF with simplified copies of the meshes that only visual geoms show.

    Set XTOK_FULL_MESHES=1 to leave everything as robosuite has it.
    """
    if os.environ.get("XTOK_FULL_MESHES") == "1":
        return xml
    root = ET.fromstring(xml)
    asset = root.find("asset")
    if asset is None:
        return xml
    meshes = {mesh.get("name"): mesh for mesh in asset.iter("mesh")}
    done: set[str] = set()
    parents = {child: parent for parent in root.iter() for child in parent}
    for geom in list(root.iter("geom")):
        name = geom.get("mesh")
        if name is None or geom.get("group") != VISUAL_GROUP:
            continue
        file = meshes[name].get("file", "")
        if Path(file).suffix.lower() not in (".stl", ".obj"):
            continue
        if name not in done:
            light = copy.deepcopy(meshes[name])
            light.set("name", f"{name}__light")
            light.set("file", str(_simplified(Path(file), faces)))
            asset.append(light)
            done.add(name)
        if not _only_seen(geom):  # one geom for both: split it, and leave what is felt as it was, out of sight
            felt, geom = geom, copy.deepcopy(geom)
            felt.set("group", FELT_GROUP)
            geom.set("name", f"{geom.get('name', name)}__seen")
            geom.set("contype", "0")
            geom.set("conaffinity", "0")
            geom.set("mass", "0")
            parents[felt].append(geom)
        geom.set("mesh", f"{name}__light")
    return ET.tostring(root, encoding="unicode")


def _only_seen(geom: ET.Element) -> bool:
    return geom.get("contype") == "0" and geom.get("conaffinity") == "0"


def _simplified(file: Path, faces: int) -> Path:
    """The cached light copy of a mesh, made if it is not there."""
    digest = hashlib.sha256(f"{_VERSION} {faces} ".encode() + file.read_bytes()).hexdigest()[:24]
    path = cache_dir() / f"{digest}.stl"
    if path.exists():
        return path
    import trimesh

    mesh = trimesh.load_mesh(file)
    vertices, triangles = simplify(np.asarray(mesh.vertices), np.asarray(mesh.faces), faces)
    with atomic_file(path) as draft:  # several workers may start at once
        trimesh.Trimesh(vertices, triangles, process=False).export(draft, file_type="stl")
    return path


def simplify(vertices: np.ndarray, triangles: np.ndarray, faces: int) -> tuple[np.ndarray, np.ndarray]:
    """About `faces` triangles or fewer of nearly the same shape. vertices [V, 3] m, triangles [F, 3] indices.

    Quadric collapse stops at open edges, and CAD exports are full of cracks; so vertices are welded on a grid first,
    coarser and coarser until the collapse gets through.
    """
    import fast_simplification

    if len(triangles) <= faces:
        return vertices, triangles
    extent = float(np.ptp(vertices, axis=0).max())
    best: tuple[np.ndarray, np.ndarray] = vertices, triangles
    for cells in (4096, 256, 128, 64, 48, 32, 24, 16):
        welded = _weld(vertices, triangles, extent / cells)
        if len(welded[1]) > faces:
            light = fast_simplification.simplify(
                welded[0].astype(np.float32), welded[1].astype(np.int32), target_count=faces
            )
            welded = np.asarray(light[0]), np.asarray(light[1])
        if len(welded[1]) < len(best[1]):
            best = welded
        if len(best[1]) <= 1.5 * faces:
            break
    return best


def _weld(vertices: np.ndarray, triangles: np.ndarray, cell_m: float) -> tuple[np.ndarray, np.ndarray]:
    """One vertex a grid cell; triangles that collapse, and copies of others, are dropped."""
    cell = np.round((vertices - vertices.min(axis=0)) / cell_m).astype(np.int64)
    _, first, index = np.unique(cell, axis=0, return_index=True, return_inverse=True)
    merged = index.reshape(-1)[triangles]
    distinct = (merged[:, 0] != merged[:, 1]) & (merged[:, 1] != merged[:, 2]) & (merged[:, 0] != merged[:, 2])
    merged = merged[distinct]
    _, keep = np.unique(np.sort(merged, axis=1), axis=0, return_index=True)
    return vertices[first], merged[np.sort(keep)]
