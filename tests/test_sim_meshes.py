"""Decimation: what is seen gets light, what is felt stays, experts do not notice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("xtok.sim", reason="needs the extra `sim`", exc_type=ImportError)

import mujoco

from xtok.sim.env import SimEnv
from xtok.sim.meshes import FACES, cache_dir, simplify

MESH = int(mujoco.mjtGeom.mjGEOM_MESH)


def felt(env: SimEnv) -> list[tuple]:
    """Everything that contact and dynamics depend on: colliding geoms, masses, inertias."""
    model = env.world.model
    geoms = []
    for geom in range(model.ngeom):
        if model.geom_contype[geom] or model.geom_conaffinity[geom]:
            mesh = model.geom_dataid[geom]
            faces = int(model.mesh_facenum[mesh]) if model.geom_type[geom] == MESH else -1
            geoms.append((int(model.geom_type[geom]), faces, tuple(model.geom_size[geom].round(9))))
    return [*sorted(geoms), tuple(model.body_mass.round(9)), tuple(model.body_inertia.ravel().round(9))]


def seen_faces(env: SimEnv) -> list[int]:
    model = env.world.model
    seen = (model.geom_type == MESH) & (model.geom_group == 1)
    return [int(model.mesh_facenum[mesh]) for mesh in model.geom_dataid[seen]]


@pytest.mark.parametrize("arm", ["UR5e", "XArm7"])
def test_visual_meshes_get_light_and_what_is_felt_stays(arm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    light = SimEnv("Lift", arm, views=False)
    monkeypatch.setenv("XTOK_FULL_MESHES", "1")
    full = SimEnv("Lift", arm, views=False)
    assert felt(light) == felt(full)
    assert max(seen_faces(light)) <= 2 * FACES and sum(seen_faces(full)) > 3 * sum(seen_faces(light))
    paths = []
    for env in (light, full):
        env.reset(seed=0)
        expert = env.expert()
        for _ in range(12):
            env.step(expert.goal()[None])
        paths.append(env.world.data.qpos.copy())
        env.close()
    assert np.allclose(*paths, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["UR5e", "XArm7", "Panda"])
def test_experts_do_as_well_with_light_meshes_as_with_all(arm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    results = {}
    for full in ("0", "1"):
        monkeypatch.setenv("XTOK_FULL_MESHES", full)
        env = SimEnv("Stack", arm, views=False)
        results[full] = []
        for seed in range(6):
            env.reset(seed=seed)
            expert, over = env.expert(), False
            while not (over or expert.done):
                *_, terminated, truncated, info = env.step(expert.goal()[None])
                over = terminated or truncated
            results[full].append(info["success"])
        env.close()
    assert results["0"] == results["1"] and sum(results["0"]) >= 5


def test_simplify_keeps_the_shape_even_where_edges_are_open() -> None:
    """A sphere as CAD exports it, every triangle with corners of its own."""
    grid = np.linspace(0, np.pi, 41), np.linspace(0, 2 * np.pi, 81)
    theta, phi = (axis.ravel() for axis in np.meshgrid(*grid, indexing="ij"))
    points = np.stack((np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)), axis=1)
    corner = (np.arange(40)[:, None] * 81 + np.arange(80)).ravel()
    quads = np.concatenate((corner[:, None] + [0, 81, 82], corner[:, None] + [0, 82, 1]))
    vertices, triangles = points[quads].reshape(-1, 3), np.arange(3 * len(quads)).reshape(-1, 3)
    light, faces = simplify(vertices, triangles, FACES)
    assert len(faces) <= 1.5 * FACES < len(triangles)
    assert np.allclose(np.linalg.norm(light[np.unique(faces)], axis=1), 1.0, atol=0.06)


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XTOK_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own" / "meshes"
    monkeypatch.delenv("XTOK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "xtok" / "meshes"
