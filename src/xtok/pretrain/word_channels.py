"""Motion words for D channels that nobody described, from chunks alone: no state, no robot, no gradient.

# N windows, S frames of a window (whole blocks), T frames, D channels, Q levels of first frames, F = D + 1 features
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from xtok.actions.entrance import array_of
from xtok.actions.steady import exact
from xtok.actions.types import HORIZON_MAX, HORIZON_MIN
from xtok.codec.channel_input import AnyChannels, fitting_data, pad_last_frame
from xtok.codec.words import CodingSettings, FitSettings, fit, ridge_for
from xtok.codec.words.channel_grammar import ChannelGrammar
from xtok.codec.words.channels import WordChannels
from xtok.codec.words.fit_segments import place_levels
from xtok.codec.words.robot import rounded, rounded_level
from xtok.codec.words.state import StateBook
from xtok.codec.words.word import BLOCK_FRAMES

TOTAL = 2048
RATE = 0.2  # of a token, summed over a chunk's values
REACH = 0.2  # how far the range goes beyond what was seen, of its width, on both sides
DEPTHS = (0.6, 0.4)  # shares of windows that are placed relative to first frames of 1, 2, ... codes
DRIFT_RIDGE = 1e-3  # a frame: what holds the drift back at none
ITERATIONS = (10, 10)
BROADER = 0.3  # of the first frames' spread: how far those are moved that places stand for which were not seen
NEAREST_SHOWN = 3  # first frames that windows are placed relative to: one of the nearest
_LEAST = 1e-3  # width of the range of a channel along which nothing moves


def fit_word_channels(
    sequences: Sequence[Float[np.ndarray, "N D"]],
    total: int = TOTAL,
    rate: float = RATE,
    grammar: ChannelGrammar | None = None,
    settings: FitSettings | None = None,
    seed: int = 0,
) -> WordChannels:
    """Motion words, residual books and first frames of these channels' own, on CPUs in about half a minute.

    sequences: chunks or whole episodes [N, D] in about [-1, 1], of the train split; longer ones are cut anywhere.
    Chunks up to the length of the longest can be coded; give chunks of the length that you use, they are coded best.
    total: ids in all. rate: what a token has to save. grammar: book sizes, in place of total.

    Raises:
        ValueError: no sequences, different widths, more than 26 channels, NaN or inf, a total outside 2,048 to 32,768,
            or too little motion for books.
    """
    data = _checked(sequences)
    longest = min(HORIZON_MAX, max(len(sequence) for sequence in data))
    grammar = ChannelGrammar.of_total(total) if grammar is None else grammar
    starts = sum(max(1, len(sequence) - longest + 1) for sequence in data)
    if starts < 2 or sum(len(sequence) for sequence in data) < grammar.states[0]:
        raise ValueError(
            f"there are {sum(len(sequence) for sequence in data)} frames in {len(data)} sequences; {grammar.states[0]} "
            "first frames need as many at the very least: give more chunks, or a smaller vocabulary"
        )
    settings = settings or FitSettings(lengths=lengths_for(longest), ridge=ridge_for(starts))
    settings = replace(settings, seed=seed)
    frames = max(BLOCK_FRAMES, -(-longest // BLOCK_FRAMES) * BLOCK_FRAMES)
    windows_NSD = torch.from_numpy(_windows(data, longest, frames, settings.windows, seed))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        book, relative_NSD = _first_frames(windows_NSD, grammar, settings.sample, seed)
        ones_D = torch.ones(windows_NSD.shape[2])
        model = rounded(fit(relative_NSD.float(), ones_D, grammar.motion, settings))
    low_D = np.min([sequence.min(axis=0) for sequence in data], axis=0)
    high_D = np.max([sequence.max(axis=0) for sequence in data], axis=0)
    reach_D = REACH * (high_D - low_D) + _LEAST
    return WordChannels(book, model, low_D - reach_D, high_D + reach_D, longest, CodingSettings(rate=rate))


def _checked(sequences: Sequence[np.ndarray]) -> list[np.ndarray]:
    """As float64. Their range is looked at over all of them: one chunk may well lie far out as a whole."""
    arrays = [array_of(each, f"sequence {i}", "[N, D] in [-1, 1]", 2) for i, each in enumerate(sequences)]
    for number, array in enumerate(arrays):
        if not np.isfinite(array).all():
            raise ValueError(f"sequence {number} holds NaN or inf; repair or drop the frame")
    data = fitting_data(arrays, 1)
    AnyChannels().checked(np.concatenate(data))
    return data


def lengths_for(longest: int) -> tuple[tuple[int, float], ...]:
    """Chunk lengths that residuals are placed at, with shares of the windows: mostly the longest that is coded. Whole
    blocks are among them, so that segments of every length are met."""
    lengths = [(max(longest, HORIZON_MIN), 0.6)]
    lengths += [(T, share) for T, share in ((32, 0.25), (16, 0.15), (8, 0.15)) if longest > T]
    if longest <= BLOCK_FRAMES - 4:
        lengths.append((BLOCK_FRAMES, 0.1))
    total = sum(share for _, share in lengths)
    return tuple((T, share / total) for T, share in lengths)


@exact
def _first_frames(
    windows_NSD: Float[Tensor, "N S D"], grammar: ChannelGrammar, sample: int, seed: int
) -> tuple[StateBook, Float[Tensor, "N S D"]]:
    """Books of first frames, and the windows relative to where chunks usually go from what these decode to."""
    generator = torch.Generator().manual_seed(seed)
    N, S, D = windows_NSD.shape
    first_ND = windows_NSD[:, 0]
    seen_ND = first_ND[:sample]
    placed_ND = torch.cat([seen_ND, _broader(seen_ND, generator)])
    levels = place_levels(placed_ND.float(), list(grammar.states), ITERATIONS, generator)
    levels = tuple(rounded_level(level) for level in levels)
    book = StateBook(levels, torch.zeros(D + 1, HORIZON_MAX, D))
    depths = book.candidates(first_ND, NEAREST_SHOWN)
    shares = torch.tensor([*DEPTHS, *[DEPTHS[-1]] * len(depths)][: len(depths)])
    drawn_N = torch.multinomial(shares, N, replacement=True, generator=generator)
    # Not always the nearest: frames that nobody has seen lie further from codes than those that made them.
    rank_N = torch.randint(min(depth.shape[1] for depth in depths), (N,), generator=generator)
    codes_NQ = torch.stack(depths, dim=2)[torch.arange(N), rank_N, drawn_N]
    state_ND = book.decode(codes_NQ)
    book = replace(book, drift_FSD=_drift(state_ND, windows_NSD).half().float(), _double={})
    return book, windows_NSD - book.base(state_ND, S)


def _broader(first_ND: Float[Tensor, "N D"], generator: torch.Generator) -> Float[Tensor, "N D"]:
    """The same frames moved about along their main directions: other episodes will begin where none of these do."""
    away_ND = first_ND - first_ND.mean(dim=0)
    variance_D, axes_DD = torch.linalg.eigh(away_ND.T @ away_ND / len(away_ND))
    noise_ND = torch.randn(first_ND.shape, generator=generator).double() * variance_D.clamp_min(0).sqrt()
    return first_ND + BROADER * noise_ND @ axes_DD.T


def _drift(state_ND: Float[Tensor, "N D"], windows_NSD: Float[Tensor, "N S D"]) -> Float[Tensor, "F S D"]:
    """Least squares of how frames differ from the decoded first one; behind the windows' end it stays."""
    N, S, D = windows_NSD.shape
    features_NF = torch.cat([state_ND, state_ND.new_ones(N, 1)], dim=1)
    away_NX = (windows_NSD - state_ND[:, None]).flatten(1)
    gram_FF = features_NF.T @ features_NF + DRIFT_RIDGE * N * torch.eye(D + 1, dtype=torch.float64)
    drift_FSD = torch.linalg.solve(gram_FF, features_NF.T @ away_NX).unflatten(1, (S, D))
    return drift_FSD[:, torch.arange(HORIZON_MAX).clamp_max(S - 1)]


def _windows(data: Sequence[np.ndarray], longest: int, frames: int, most: int, seed: int) -> Float[np.ndarray, "N S D"]:
    """Windows of `longest` frames that start anywhere, their last frame held to the end of a block."""
    rng = np.random.default_rng(seed)
    room = [max(1, len(sequence) - longest + 1) for sequence in data]
    ends = np.cumsum(room)
    chosen = np.arange(ends[-1]) if ends[-1] <= most else np.sort(rng.choice(ends[-1], most, replace=False))
    places = np.searchsorted(ends, chosen, side="right")
    starts = chosen - (ends - room)[places]
    cut = [data[i][s : s + longest] for i, s in zip(places, starts, strict=True)]
    whole = np.stack([pad_last_frame(window[None], frames)[0] for window in cut])
    return whole[rng.permutation(len(whole))]
