"""What the report draws besides the figures: one episode before and after, one chunk's tokens under noise, code use.

# N frames drawn, T frames a chunk, L rates (levels of the codec), D channels, M slots, Q levels
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xtok.actions.rotation import geodesic_rad, matrix_from_rotation6d
from xtok.actions.types import Codes, concatenate
from xtok.data.chunks import iter_chunks
from xtok.data.episode import Episode
from xtok.evaluate.batches import decode, encode
from xtok.evaluate.codebook import books_of, code_counts
from xtok.evaluate.coded import Coded
from xtok.evaluate.rate import bits_mean
from xtok.evaluate.robustness import SIGMAS, add_noise

FRAMES_MAX = 512  # of the episode's start: longer ones would be too dense to see anything
JOINTS_MAX = 6  # joints that move most


@dataclass(frozen=True)
class Curve:
    """One channel over time, in `unit`. decoded_LN: at each rate, coarsest first. An error has no original."""

    name: str
    unit: str
    original_N: np.ndarray | None
    decoded_LN: np.ndarray


@dataclass(frozen=True)
class HandPath:
    """Where a hand went: original_N3, decoded_LN3 in mm, in the frame of the robot's base."""

    arm: str
    original_N3: np.ndarray
    decoded_LN3: np.ndarray


@dataclass(frozen=True)
class Trajectory:
    """The start of one episode, coded chunk after chunk, each from its true anchor.

    bits_L: mean bits a chunk at each rate. horizon: frames between two anchors.
    """

    episode: int
    embodiment: str
    control_hz: float
    horizon: int
    bits_L: tuple[float, ...]
    paths: tuple[HandPath, ...]
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class TokenStrip:
    """One chunk's codes, clean and at each sigma. `levels`: Q where they are slots by levels, else None."""

    tokenizer: str
    clean: Codes
    noisy: Mapping[float, Codes]

    @property
    def levels(self) -> int | None:
        return None if self.clean.grid_BMQ is None else self.clean.grid_BMQ.shape[-1]


@dataclass(frozen=True)
class Illustration:
    horizon: int
    trajectory: Trajectory
    strips: tuple[TokenStrip, ...]
    counts: Mapping[str, tuple[np.ndarray, ...]]  # tokenizer with levels -> how often each code occurs, [V] a level


def illustrate(contestants: Mapping[str, Coded], episode: Episode, seed: int) -> Illustration:
    """Drawings of the first tokenizer (tokens: of all those named) on `episode`; code use on all chunks."""
    horizon = next(iter(contestants.values())).chunks.context.horizon
    line = concatenate(list(iter_chunks([episode], horizon, stride=horizon)))[: max(1, FRAMES_MAX // horizon)]
    middle = line[slice(len(line) // 2, len(line) // 2 + 1)]
    noisy = {sigma: add_noise(middle, sigma, seed) for sigma in SIGMAS}
    strips = tuple(
        TokenStrip(
            name,
            encode(coded.tokenizer, middle),
            {sigma: encode(coded.tokenizer, chunk) for sigma, chunk in noisy.items()},
        )
        for name, coded in contestants.items()
    )
    counts = {
        name: tuple(code_counts(each.codes, books_of(each.tokenizer)))
        for name, each in contestants.items()
        if each.codes.grid_BMQ is not None or books_of(each.tokenizer) is not None
    }
    subject = next(iter(contestants.values())).tokenizer
    return Illustration(horizon, _trajectory(Coded(subject, line), episode), strips, counts)


def _trajectory(coded: Coded, episode: Episode) -> Trajectory:
    line = coded.chunks
    decoded = []
    for point, codes in zip(coded.points, coded.rate_codes, strict=True):
        absolute_BTD = decode(point, codes, line.context).absolute_BTD
        assert absolute_BTD is not None, "chunks of an episode have anchors"
        decoded.append(absolute_BTD.flatten(0, 1))
    original_ND, decoded_LND = line.target_BTD.flatten(0, 1), torch.stack(decoded)
    return Trajectory(
        episode=episode.index,
        embodiment=episode.embodiment,
        control_hz=episode.control_hz,
        horizon=line.context.horizon,
        bits_L=tuple(bits_mean(codes) for codes in coded.rate_codes),
        paths=tuple(_paths(episode, original_ND, decoded_LND)),
        curves=tuple(_curves(episode, original_ND, decoded_LND)),
    )


def _paths(episode: Episode, original_ND: Tensor, decoded_LND: Tensor) -> Iterator[HandPath]:
    for group, channels in episode.layout.of_kind("position"):
        if episode.mask_D[channels].all():
            mm_N3, mm_LN3 = 1000 * original_ND[:, channels], 1000 * decoded_LND[..., channels]
            yield HandPath(group.name.removesuffix("_position"), mm_N3.numpy(), mm_LN3.numpy())


def _curves(episode: Episode, original_ND: Tensor, decoded_LND: Tensor) -> list[Curve]:
    layout, mask_D = episode.layout, torch.from_numpy(episode.mask_D)
    curves: list[Curve] = []
    for group in layout.groups:
        channels = layout.slices[group.name]
        if not mask_D[channels].any():
            continue
        original, decoded = original_ND[:, channels], decoded_LND[..., channels]
        label = group.name.replace("_", " ")
        if group.kind == "position":
            arm = label.removesuffix(" position")
            mm_N3, mm_LN3 = 1000 * original, 1000 * decoded
            curves += [_curve(f"{arm} {axis}", "mm", mm_N3[:, i], mm_LN3[..., i]) for i, axis in enumerate("xyz")]
            curves.append(Curve(f"{arm} position error", "mm", None, (mm_LN3 - mm_N3).norm(dim=-1).numpy()))
        elif group.kind == "rotation6d":
            start_33 = matrix_from_rotation6d(original[0])
            turned = [torch.rad2deg(geodesic_rad(matrix_from_rotation6d(x), start_33)) for x in (original, decoded)]
            curves.append(_curve(label, "deg", *turned))
        elif group.kind == "joint":
            curves += _joint_curves(episode, original, decoded, mask_D[channels])
        else:
            unit = "0 to 1" if group.kind == "gripper" else group.unit
            valid = np.flatnonzero(mask_D[channels].numpy())
            for i in valid:
                name = label if len(valid) == 1 else f"{label} {i}"
                curves.append(_curve(name, unit, original[:, i], decoded[..., i]))
    return curves


def _joint_curves(episode: Episode, original_NJ: Tensor, decoded_LNJ: Tensor, mask_J: Tensor) -> list[Curve]:
    """The joints that move most, in the order of the robot."""
    robot = episode.robot
    reach_J = (original_NJ.amax(0) - original_NJ.amin(0)).where(mask_J, torch.tensor(-1.0))
    most = sorted(reach_J.argsort(descending=True, stable=True)[: min(JOINTS_MAX, int(mask_J.sum()))].tolist())
    names = robot.joint_names or tuple(f"joint {i}" for i in range(len(mask_J)))
    unit = episode.joint_unit or robot.joint_unit
    return [_curve(names[i], unit, original_NJ[:, i], decoded_LNJ[..., i]) for i in most]


def _curve(name: str, unit: str, original_N: Tensor, decoded_LN: Tensor) -> Curve:
    return Curve(name, unit, original_N.double().numpy(), decoded_LN.double().numpy())
