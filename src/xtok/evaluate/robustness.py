"""Do the codes hold still when the motion trembles? Token error rate and flipped codes under physical noise.

# B chunks, T frames, D channels, M slots, Q levels
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypedDict

import numpy as np
import torch

from xtok.actions.rotation import matrix_from_rotation6d, matrix_from_rotvec, rotation6d_from_matrix
from xtok.actions.types import ChunkBatch, Codes
from xtok.evaluate.batches import HasFirstCodes, encode
from xtok.evaluate.coded import Coded

try:
    from rapidfuzz.distance import Levenshtein
except ImportError as error:
    raise ImportError("edit distances need rapidfuzz: pip install 'xtok[viz]'") from error

SIGMAS = (0.002, 0.004, 0.006, 0.008)  # the paper publishes .004, .006 and .008; the issue adds .002


class RobustnessFigures(TypedDict):
    """Each by sigma. wer: token error rate. q0_flip, flip_per_level: shares of codes that change, None without a grid
    of slots and levels; q0_flip also of motion words, whose words are first codes."""

    wer: dict[str, float]
    q0_flip: dict[str, float] | None
    flip_per_level: dict[str, list[float]] | None


def run(coded: Coded, seed: int, sigmas: Sequence[float] = SIGMAS) -> RobustnessFigures:
    """Codes of the chunks beside codes of the same chunks with noise."""
    clean = coded.codes
    noisy = {sigma_key(sigma): encode(coded.tokenizer, add_noise(coded.chunks, sigma, seed)) for sigma in sigmas}
    flips = None if clean.grid_BMQ is None else {key: flip_per_level(clean, codes) for key, codes in noisy.items()}
    return {
        "wer": {key: word_error_rate(clean, codes) for key, codes in noisy.items()},
        "q0_flip": first_flips(coded, noisy) if flips is None else {key: levels[0] for key, levels in flips.items()},
        "flip_per_level": flips,
    }


def first_flips(coded: Coded, noisy: Mapping[str, Codes]) -> dict[str, float] | None:
    """Share of slots whose first code changes; None of a tokenizer that has none."""
    tokenizer, horizon = coded.tokenizer, coded.chunks.context.horizon
    if not isinstance(tokenizer, HasFirstCodes):
        return None
    clean_BM = tokenizer.first_codes(coded.codes, horizon)
    return {key: float((clean_BM != tokenizer.first_codes(codes, horizon)).mean()) for key, codes in noisy.items()}


def sigma_key(sigma: float) -> str:
    """How a sigma is written as a key of the result: "0.004"."""
    return f"{sigma:.3f}"


def add_noise(chunks: ChunkBatch, sigma: float, seed: int) -> ChunkBatch:
    """The chunks with Gaussian noise on every valid channel of the targets; the anchors stay clean.

    Physical space, before any normalisation (docs/method.md#published-results): positions in m, rotations by exp(noise)
    in so(3) on the right (rad, seen in the hand's own frame), every other channel in its own unit. The draw depends on
    seed, sigma, and the shape of the set alone: it is the same for every tokenizer.
    """
    context = chunks.context
    generator = torch.Generator().manual_seed(1_000_003 * seed + 1_000 * context.horizon + round(1e6 * sigma))
    noise_BTD = sigma * torch.randn(chunks.target_BTD.shape, generator=generator, dtype=chunks.target_BTD.dtype)
    noisy_BTD = chunks.target_BTD + noise_BTD
    for _, channels in context.layout.of_kind("rotation6d"):
        rows = context.mask_BD[:, channels].all(dim=-1)
        first_three = slice(channels.start, channels.start + 3)  # a rotation has three degrees of freedom
        clean_BT33 = matrix_from_rotation6d(chunks.target_BTD[rows][..., channels])
        noisy_BT33 = clean_BT33 @ matrix_from_rotvec(noise_BTD[rows][..., first_three])
        noisy_BTD[rows, :, channels] = rotation6d_from_matrix(noisy_BT33)
    return replace(chunks, target_BTD=noisy_BTD * context.mask_BD[:, None])


def word_error_rate(clean: Codes, noisy: Codes) -> float:
    """Mean over chunks of edit distance / length of the clean sequence. Above 1 where sequences grow."""
    rates = [
        Levenshtein.distance(before.tolist(), after.tolist()) / len(before)
        for before, after in zip(clean.tokens, noisy.tokens, strict=True)
    ]
    return float(np.mean(rates))


def changed_tokens(clean: np.ndarray, noisy: np.ndarray) -> np.ndarray:
    """Which tokens of `noisy` a best alignment with `clean` replaces or inserts: bool, as long as `noisy`."""
    changed = np.zeros(len(noisy), dtype=bool)
    for edit in Levenshtein.opcodes(clean.tolist(), noisy.tolist()):
        if edit.tag != "equal":
            changed[edit.dest_start : edit.dest_end] = True
    return changed


def flip_per_level(clean: Codes, noisy: Codes) -> list[float]:
    """Share of slots whose code changed, level by level; [Q]."""
    assert clean.grid_BMQ is not None and noisy.grid_BMQ is not None
    return (clean.grid_BMQ != noisy.grid_BMQ).double().mean(dim=(0, 1)).tolist()
