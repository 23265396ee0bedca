"""Smooth random motion and a small honest tokenizer for the tests of the evaluations.

# B chunks, N frames of an episode, T frames, D channels, M slots, Q levels
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from xtok.actions.delta import from_delta, to_delta
from xtok.actions.layout import ARMS26, JOINTS, Layout
from xtok.actions.rotation import matrix_from_rotvec, rotation6d_from_matrix
from xtok.actions.statistics import Statistics, denormalise, normalise
from xtok.actions.statistics_fit import fit_statistics
from xtok.actions.types import FRAMES_PER_SLOT, Actions, ActionTokenizer, ChunkBatch, Codes, Context, concatenate
from xtok.data.chunks import iter_chunks
from xtok.data.episode import Episode, EpisodeDataset

CONTROL_HZ = 20.0
ROBOT = {"arms26": "Franka", "joints": "cr5"}


def motion(layout: Layout, frames: int, seed: int) -> np.ndarray:
    """[N, D] float32: a few slow sines a channel; arms26: the right arm; joints: six and a gripper."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(frames) / CONTROL_HZ
    waves_NK = sum(
        rng.normal(size=7) / k * np.sin(2 * np.pi * 0.15 * k * time_s[:, None] + rng.uniform(0, 6, 7))
        for k in (1, 2, 3)
    )
    absolute_ND = np.zeros((frames, layout.width), dtype=np.float32)
    if layout == ARMS26:
        absolute_ND[:, layout.slices["right_position"]] = 0.2 * waves_NK[:, :3]
        turn_N33 = matrix_from_rotvec(torch.from_numpy(0.5 * waves_NK[:, 3:6]))
        absolute_ND[:, layout.slices["right_rotation"]] = rotation6d_from_matrix(turn_N33).numpy()
        absolute_ND[:, layout.slices["right_gripper"]] = waves_NK[:, 6:] > 0
    else:
        absolute_ND[:, :6] = waves_NK[:, :6]
        absolute_ND[:, 60] = waves_NK[:, 6] > 0
    return absolute_ND


def mask(layout: Layout) -> np.ndarray:
    valid = np.zeros(layout.width, dtype=bool)
    for name in ("right_position", "right_rotation", "right_gripper") if layout == ARMS26 else ():
        valid[layout.slices[name]] = True
    if layout == JOINTS:
        valid[[*range(6), 60]] = True
    return valid


def episode(layout: Layout, frames: int, index: int) -> Episode:
    return Episode(
        absolute_ND=motion(layout, frames, seed=index),
        layout=layout,
        mask_D=mask(layout),
        embodiment=ROBOT[layout.name],
        control_hz=CONTROL_HZ,
        instruction="wave",
        dataset="waves",
        index=index,
        timestamps_s=np.arange(frames) / CONTROL_HZ,
    )


def dataset(layout: Layout, lengths: Sequence[int]) -> EpisodeDataset:
    return EpisodeDataset(
        name="waves",
        layout=layout,
        embodiments=(ROBOT[layout.name],),
        control_hz=CONTROL_HZ,
        episode_indices=tuple(range(len(lengths))),
        load=lambda i: episode(layout, lengths[i], i),
    )


def chunks(layout: Layout, horizon: int, episodes: int = 2, stride: int = 5) -> ChunkBatch:
    return concatenate(list(iter_chunks([episode(layout, 120, i) for i in range(episodes)], horizon, stride)))


def statistics(layout: Layout) -> dict[str, Statistics]:
    robot = ROBOT[layout.name]
    motions = [motion(layout, 120, seed) for seed in range(3)]
    return {robot: fit_statistics(layout, robot, CONTROL_HZ, mask(layout), motions)}


@dataclass
class StepTokenizer:
    """The mean of the first valid channel over each slot of four frames, in `levels` digits of base 16, coarse first.

    Range -2 to 2 in normalised units. Every other channel is held at its anchor: crude, but a true code with levels.
    """

    statistics: dict[str, Statistics]
    levels: int = 3
    name: str = "step"
    vocab_size: int = 16

    def encode(self, chunks: ChunkBatch) -> Codes:
        context = chunks.context
        assert context.anchor_BD is not None
        delta_BTD = to_delta(context.layout, chunks.target_BTD, context.anchor_BD, context.mask_BD)
        normal_BTD = normalise(self.statistics[context.embodiment[0]], delta_BTD)
        first = int(context.mask_BD[0].int().argmax())
        mean_BM = torch.stack([part.mean(1) for part in normal_BTD[..., first].split(FRAMES_PER_SLOT, dim=1)], dim=1)
        rest_BM = ((mean_BM.double() + 2) / 4).clamp(0, 1 - 1e-9)
        digits = []
        for _ in range(self.levels):
            rest_BM = rest_BM * self.vocab_size
            digits.append(rest_BM.floor())
            rest_BM = rest_BM - digits[-1]
        return Codes.from_grid(torch.stack(digits, dim=-1).long(), self.vocab_size)

    def decode(self, codes: Codes, context: Context) -> Actions:
        if codes.grid_BMQ is None:
            raise ValueError("sequences of another length than were encoded")
        assert context.anchor_BD is not None
        place_Q = float(self.vocab_size) ** -torch.arange(1, self.levels + 1, dtype=torch.float64)
        value_BM = (codes.grid_BMQ * place_Q).sum(-1) + place_Q[-1] / 2
        mean_BT = (4 * value_BM - 2).repeat_interleave(FRAMES_PER_SLOT, dim=1)[:, : context.horizon]
        still_BTD = context.anchor_BD[:, None].expand(-1, context.horizon, -1)
        delta_BTD = to_delta(context.layout, still_BTD, context.anchor_BD, context.mask_BD)
        first = int(context.mask_BD[0].int().argmax())
        one_channel_BTD = torch.zeros_like(delta_BTD)
        one_channel_BTD[..., first] = mean_BT.to(delta_BTD.dtype)
        physical_BTD = denormalise(self.statistics[context.embodiment[0]], one_channel_BTD)
        delta_BTD[..., first] = physical_BTD[..., first].to(delta_BTD.dtype)
        absolute_BTD = from_delta(context.layout, delta_BTD, context.anchor_BD, context.mask_BD)
        return Actions(delta_BTD, absolute_BTD, torch.zeros(len(codes), dtype=torch.bool))

    def rate_points(self) -> list[ActionTokenizer]:
        return [StepTokenizer(self.statistics, levels) for levels in range(1, self.levels + 1)]
