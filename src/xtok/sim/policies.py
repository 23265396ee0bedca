"""The simulation's own policies (expert, random walk, replay), and an expert's commands sent through a tokenizer.

# N goals of an episode, H goals of one act, T frames of a chunk, D channels of arms26
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np
import torch

from xtok.actions.layout import ARMS26
from xtok.actions.rotation import matrix_from_rotation6d, rotation6d_from_matrix
from xtok.actions.types import HORIZON_MIN, ActionTokenizer, ChunkBatch, Context
from xtok.policy import Observation, Policy

if TYPE_CHECKING:
    from xtok.sim.env import SimEnv


class ExpertPolicy:
    """The scripted expert, which looks into the simulation."""

    def __init__(self, env: SimEnv) -> None:
        self._env = env

    def reset(self, instruction: str) -> None:
        self._expert = self._env.expert()

    def act(self, observation: Observation) -> np.ndarray:
        return np.asarray(self._expert.goal())[None]


class RandomPolicy:
    """Wanders: from the present pose a smooth random walk of `frames` goals, so a fair floor for learned policies."""

    def __init__(self, seed: int, mask_D: np.ndarray, frames: int = 16, step_m: float = 0.01) -> None:
        self._seed, self._mask_D, self._frames, self._step_m = seed, mask_D, frames, step_m

    def reset(self, instruction: str) -> None:
        self._rng = np.random.default_rng(self._seed)

    def act(self, observation: Observation) -> np.ndarray:
        goals = np.tile(np.asarray(observation["state"], dtype=np.float64), (self._frames, 1))
        ramp = np.arange(1, self._frames + 1)[:, None]
        for group in ARMS26.groups:
            where = ARMS26.slices[group.name]
            if not self._mask_D[where].all():
                continue
            if group.kind == "position":
                goals[:, where] += ramp * self._rng.normal(scale=self._step_m, size=group.size)
            elif group.kind == "gripper":
                goals[:, where] = float(self._rng.integers(2))
        return goals


class ReplayPolicy:
    """Commands known in advance, open loop, `frames` at a time; after the last one it is held."""

    def __init__(self, goals_ND: np.ndarray, frames: int = 32) -> None:
        self._goals_ND, self._frames = goals_ND, frames

    def reset(self, instruction: str) -> None:
        self._next = 0

    def act(self, observation: Observation) -> np.ndarray:
        chunk = self._goals_ND[self._next : self._next + self._frames]
        self._next += self._frames
        return chunk if len(chunk) else self._goals_ND[-1:]


Factory = Callable[["SimEnv", int], Policy]  # environment and seed of the episode -> policy


def factory(name: str) -> Factory:
    """How to make the policy called `name`: "expert", "random", or "module:callable" of your own.

    The callable gets the environment and the seed of the episode, and is called once an episode; it keeps what is
    expensive to load.

    Raises:
        ValueError: nothing of that name.
    """
    if name == "expert":
        return lambda env, seed: ExpertPolicy(env)
    if name == "random":
        return lambda env, seed: RandomPolicy(seed, env.mask_D)
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ValueError(f"unknown policy {name!r}; expected 'expert', 'random', 'replay' or 'module:callable'")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot load policy {name!r}: {error}; give an importable module:callable") from error


@dataclass(frozen=True)
class Demonstration:
    """What an expert commanded in one episode. start_D: the pose before it. goals_ND: absolute, one a step."""

    start_D: np.ndarray = field(repr=False)
    goals_ND: np.ndarray = field(repr=False)
    mask_D: np.ndarray = field(repr=False)
    embodiment: str
    control_hz: float


@dataclass(frozen=True)
class Coded:
    """Commands after a tokenizer, and what they cost."""

    goals_ND: np.ndarray = field(repr=False)
    bits: float
    chunks: int
    chunks_failed: int  # could not be decoded: the pose before them is held


def through(tokenizer: ActionTokenizer, demonstration: Demonstration, horizon: int = 32, whole: bool = False) -> Coded:
    """The commands cut into chunks of `horizon` frames, encoded, and decoded again.

    A chunk's anchor is the command one step before it (the first: the pose at the start). The last chunk is shorter,
    but padded by holding its last goal to 8 frames, or with `whole` to the full horizon, for tokenizers of one length.
    """
    goals_ND = demonstration.goals_ND
    N = len(goals_ND)
    known_ND = np.concatenate([demonstration.start_D[None], goals_ND])
    goals, bits, chunks, failed = [], 0.0, 0, 0
    for start in range(0, N, horizon):
        frames = min(horizon, N - start)
        T = horizon if whole else max(frames, HORIZON_MIN)
        target_TD = known_ND[np.minimum(np.arange(start + 1, start + 1 + T), N)]
        batch = _batch(demonstration, known_ND[start], target_TD)
        codes = tokenizer.encode(batch)
        decoded = tokenizer.decode(codes, batch.context)
        assert decoded.absolute_BTD is not None  # there is an anchor
        is_failed = bool(decoded.failed_B[0])
        motion_TD = np.tile(known_ND[start], (T, 1)) if is_failed else decoded.absolute_BTD[0].double().numpy()
        goals.append(motion_TD[:frames])
        bits += len(codes.tokens[0]) * math.log2(codes.vocab_size)
        chunks, failed = chunks + 1, failed + is_failed
    return Coded(_orthonormal(np.concatenate(goals), demonstration.mask_D), bits, chunks, failed)


def _batch(demonstration: Demonstration, anchor_D: np.ndarray, target_TD: np.ndarray) -> ChunkBatch:
    mask_D = demonstration.mask_D
    context = Context(
        layout=ARMS26,
        anchor_BD=torch.from_numpy(np.where(mask_D, anchor_D, 0.0).astype(np.float32))[None],
        mask_BD=torch.from_numpy(mask_D)[None],
        control_hz_B=torch.tensor([demonstration.control_hz], dtype=torch.float32),
        embodiment=(demonstration.embodiment,),
        horizon=len(target_TD),
    )
    return ChunkBatch(torch.from_numpy(np.where(mask_D, target_TD, 0.0).astype(np.float32))[None], context)


def _orthonormal(goals_ND: np.ndarray, mask_D: np.ndarray) -> np.ndarray:
    """6D rotations made exact again, as the controller would read them anyway."""
    goals_ND = goals_ND.copy()
    for _, where in ARMS26.of_kind("rotation6d"):
        if mask_D[where].all():
            matrix = matrix_from_rotation6d(torch.from_numpy(goals_ND[:, where]))
            goals_ND[:, where] = rotation6d_from_matrix(matrix).numpy()
    return goals_ND
