"""Easy and Hard: what differs between episodes, what must not, and that splits stay apart."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("xtok.sim", reason="needs the extra `sim`", exc_type=ImportError)

from xtok.sim.env import SimEnv
from xtok.sim.tasks import TASK_NAMES, get_task
from xtok.sim.variation import SURFACES, clutter, scene_props, streams


@pytest.fixture(scope="module")
def hard() -> Iterator[SimEnv]:
    env = SimEnv("Press", "Panda", level="hard", image_size=32)
    yield env
    env.close()


def test_streams_follow_from_the_name_of_the_episode_alone() -> None:
    def draw(*name: str, seed: int = 5) -> list[float]:
        made = streams(*name, seed=seed)
        return [stream.random() for stream in (made.layout, made.goal, made.words, made.style, made.robot, made.look)]

    name = ("Stack", "Panda", "easy", "train")
    assert draw(*name) == draw(*name)
    assert len(set(draw(*name))) == 6
    others = [("Lift", *name[1:]), ("Stack", "UR5e", *name[2:]), (*name[:2], "hard", "train"), (*name[:3], "eval")]
    first_draws = [draw(*other)[0] for other in (name, *others)] + [draw(*name, seed=6)[0]]
    assert len(set(first_draws)) == len(first_draws)


def test_hard_changes_table_lights_cameras_background_and_clutter(hard: SimEnv) -> None:
    model = hard.world.model
    seen: dict[str, set] = {}
    for seed in range(8):
        hard.reset(seed=seed)
        looks = {
            "height": round(hard.world.table_top_m, 6),
            "surface": int(model.geom("table_visual").matid[0]),
            "light": tuple(model.light_diffuse[0].round(6)),
            "camera": tuple(model.cam_pos[model.camera("scene").id].round(6)),
            "wall": tuple(model.mat_rgba[model.material("walls_mat").id].round(6)),
            "clutter": tuple(fact.name for fact in hard.facts() if fact.colour is None),
        }
        for key, value in looks.items():
            seen.setdefault(key, set()).add(value)
        assert 0.77 <= hard.world.table_top_m <= 0.83
    assert all(len(values) >= 3 for values in seen.values()), {key: len(values) for key, values in seen.items()}


def test_splits_of_hard_have_table_tops_of_their_own(hard: SimEnv) -> None:
    model = hard.world.model
    tops: dict[str, set[str]] = {"train": set(), "eval": set()}
    for split, found in tops.items():
        for seed in range(6):
            hard.reset(seed=seed, options={"split": split})
            found.add(model.material(int(model.geom("table_visual").matid[0])).name.removeprefix("surface-"))
    assert tops["train"] <= set(SURFACES["train"]) and tops["eval"] <= set(SURFACES["eval"])
    assert not tops["train"] & tops["eval"]


@pytest.mark.parametrize("task", TASK_NAMES)
def test_layouts_always_find_room(task: str) -> None:
    built = get_task(task)
    props = {prop.name: prop for prop in scene_props("hard", built.props())}
    for seed in range(300):
        rng = np.random.default_rng(seed)
        scene = built.scene(rng)
        extra = clutter("hard", props, scene.placements, rng)
        assert 2 <= len(extra) <= 4 and set(scene.placements) == {prop.name for prop in built.props()}


def test_manner_of_the_expert_differs_from_seed_to_seed(hard: SimEnv) -> None:
    lengths = set()
    for seed in range(4):
        hard.reset(seed=seed)
        expert = hard.expert()
        first = [expert.goal()]
        for _ in range(5):
            hard.step(first[-1][None])
            first.append(expert.goal())
        lengths.add(float(np.linalg.norm(first[5] - first[0]).round(9)))
    assert len(lengths) == 4
