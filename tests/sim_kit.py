"""A toy environment that keeps the contract of xtok.sim.env without a simulator, for tests in milliseconds; and a
program that records with it, to be killed.

# D channels of arms26, S pixels
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xtok.actions.layout import ARMS26
from xtok.sim import recorder, rollout, workers

GRIPPER = ARMS26.slices["right_gripper"].start
POSITION = ARMS26.slices["right_position"]
ROTATION = ARMS26.slices["right_rotation"]
MASK = np.zeros(26, dtype=bool)
MASK[10:20] = True
IMAGE = 32


@dataclass(frozen=True)
class ToyCell:
    task: str = "Lift"
    arm: str = "Panda"
    dual: bool = False
    held_out: bool = False
    expert_success: float = 1.0
    episodes: int = 50
    seeds: tuple[int, ...] = (3, 4, 6)


@dataclass(frozen=True)
class ToyFact:
    name: str
    kind: str
    colour: str | None
    position_m: np.ndarray
    held: bool


class ToyEnv:
    """Reach a point, then close the hand. The expert fails on seeds that are 4 mod 5."""

    control_hz, max_steps, mask_D, embodiment, subtask = 20.0, 60, MASK, "sim_panda", "reach"

    def __init__(self, task: str, arm: str, level: str = "easy", views: bool = True, image_size: int = IMAGE) -> None:
        self.task, self.arm, self.level, self._size = task, arm, level, image_size
        self.views = ("scene", "front", "wrist") if views else ()

    def reset(self, seed: int, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        self.seed, self._rng = seed, np.random.default_rng([seed, options["split"] == "eval", self.level == "hard"])
        self.instruction = f"reach {'it' if options['split'] == 'train' else 'the thing'}"
        self._target = self._rng.uniform(-0.2, 0.2, 3)
        self._state = np.zeros(26)
        self._state[ROTATION] = [1, 0, 0, 0, 1, 0]
        self._state[GRIPPER] = 1.0
        self._steps = 0
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        for goal in action:
            self._state[POSITION] += np.clip(goal[POSITION] - self._state[POSITION], -0.02, 0.02)
            self._state[ROTATION] = goal[ROTATION]
            self._state[GRIPPER] += np.clip(goal[GRIPPER] - self._state[GRIPPER], -0.2, 0.2)
        self._steps += 1
        near = bool(np.linalg.norm(self._state[POSITION] - self._target) < 0.01)
        closed = near and bool(self._state[GRIPPER] < 0.1)
        info = {"success": closed, "progress": (near + closed) / 2, "stage": near + closed, "commanded": action}
        return self._observation(), float(closed), closed, self._steps >= self.max_steps, info

    def expert(self) -> ToyExpert:
        return ToyExpert(self)

    def state_D(self) -> np.ndarray:
        return self._state.copy()

    def facts(self) -> list[ToyFact]:
        rng = np.random.default_rng(self.seed)
        return [
            ToyFact("red cube", "cube", "red", np.array([0.5, -0.1, 0.0]), bool(rng.integers(2))),
            ToyFact("blue cube", "cube", "blue", np.array([0.5, 0.1, 0.0]), False),
            ToyFact("green bin", "bin", "green", np.array([0.6, 0.2, 0.0]), False),
        ]

    def masks(self, view: str) -> dict[str, np.ndarray]:
        masks = {fact.name: np.zeros((self._size, self._size), dtype=bool) for fact in self.facts()}
        for number, mask in enumerate(masks.values()):
            mask[4:12, 2 + 10 * number : 9 + 10 * number] = True
        return masks

    def seen(self, view: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        return self.masks(view), {}

    def aims(self) -> None:
        return None

    def render_views(self) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(self.seed)
        ramp = np.add.outer(np.arange(self._size), np.arange(self._size))
        pictures = {}
        for view in ("scene", "front", "wrist"):
            picture = np.stack([ramp * 2, ramp + self._steps, np.full_like(ramp, rng.integers(256))], axis=-1)
            pictures[view] = np.clip(picture, 0, 255).astype(np.uint8)
        return pictures

    def close(self) -> None: ...

    def _observation(self) -> dict[str, Any]:
        pictures = self.render_views() if self.views else {}
        return {**pictures, "state": self._state.astype(np.float32), "instruction": self.instruction}


class ToyExpert:
    subtask, done = "reach", False

    def __init__(self, env: ToyEnv) -> None:
        self._env, self._blind = env, env.seed % 5 == 4

    def goal(self) -> np.ndarray:
        env = self._env
        goal = env._state.copy()
        aim = env._target * (0 if self._blind else 1)
        goal[POSITION] += np.clip(aim - goal[POSITION], -0.015, 0.015)
        at_it = np.linalg.norm(aim - env._state[POSITION]) < 0.005
        self.subtask = "close the hand" if at_it else "reach"
        goal[GRIPPER] = 0.0 if at_it else 1.0
        return goal


def toy_environment(spec: workers.EpisodeSpec, views: bool, image_size: int = IMAGE) -> ToyEnv:
    return ToyEnv(spec.task, spec.arm, spec.level, views, image_size)


def toy_cell(task: str, arm: str) -> ToyCell:
    return ToyCell(task, arm)


PATCHES: tuple[tuple[Any, str, Any], ...] = (
    (recorder, "environment", toy_environment),
    (rollout, "environment", toy_environment),
    (recorder, "get_cell", toy_cell),
    (rollout, "get_cell", toy_cell),
)

if __name__ in ("__main__", "__mp_main__"):  # worker processes import this program under the second name
    for module, name, value in PATCHES:
        setattr(module, name, value)

if __name__ == "__main__":
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    cells = (("Lift", "Panda"), ("Stack", "UR5e"))
    recorder.record(recorder.Request(cells, ("easy",), 6, image_size=IMAGE), folder, workers=count)
