"""Motion words of one robot from its train motion, by closed forms and k-means: no gradient.

First the words, then what predicts segments and the books of residuals: once on true pasts with noise on them, once on
the pasts that the encoder itself decodes, at mixed rates.

# N windows, S = 64 frames, n rows, T frames, K channels, F features, X values of a segment, C dimensions of a code
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from xtok.actions.steady import exact
from xtok.actions.types import FRAMES_PER_SLOT
from xtok.codec.words.encode import encode
from xtok.codec.words.fit_segments import Samples, fit_coders
from xtok.codec.words.grammar import BLOCK_SLOTS, Grammar
from xtok.codec.words.kmeans import kmeans
from xtok.codec.words.model import TAILS, WordModel, paths
from xtok.codec.words.segment import PAST, Past, features
from xtok.codec.words.smoother import NOISE, WINDOWS
from xtok.codec.words.word import NearestWords, Words, WordSpace, fit_word_space, moved_by_noise

LENGTHS_SHOWN = (
    (64, 0.4),
    (32, 0.3),
    (16, 0.15),
    (8, 0.15),
)  # chunk lengths that words are taken at; shares of windows


@dataclass(frozen=True)
class FitSettings:
    """word_dim, dim: directions of words' distances, and of residual codes. noise: sigma of the sensors that words hold
    still under, in m, rad or the channel's unit. sample, word_sample: vectors that a book is placed on.
    closed: windows that the encoder decodes for the second round. rates: lambdas that are mixed there. windows: of 64
    frames that callers should draw of a robot, and of all robots together for a shared book of words. lengths: chunk
    lengths that residuals are placed at, with shares of the windows; one of them is as long as a window."""

    word_dim: int = 32
    dim: int = 40
    rank: int = 256
    noise: float = NOISE
    ridge: float = 1e-3  # of the predictors, a row; see `ridge_for`
    sample: int = 100_000
    rough_sample: int = 24_000  # in all rounds but the last
    rounds: int = 1  # on what the encoder decodes
    word_iterations: int = 8
    word_sample: int = 24_000
    apart: float = 2.6  # words' distance from each other, over what noise moves the likely motion
    iterations: tuple[int, int] = (7, 4)  # of k-means: the first level, the others
    open_rows: int = 14_000
    closed: int = 14_000
    rates: tuple[float, ...] = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
    past_noise: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03)
    windows: int = 14_000
    lengths: tuple[tuple[int, float], ...] = LENGTHS_SHOWN
    seed: int = 0


DEFAULT = FitSettings()
SHAKEN = 1_000  # windows on which it is measured what noise does


def ridge_for(frames: int) -> float:
    """What holds predictors back that are fitted on so many recorded frames: windows of few frames repeat each other,
    and least squares learns them by heart."""
    return max(1e-3, 20 / max(1, frames))


@exact
def fit(
    windows_NSK: Float[Tensor, "N S K"],
    scale_K: Float[Tensor, " K"],
    grammar: Grammar,
    settings: FitSettings = DEFAULT,
    words: Words | None = None,
) -> WordModel:
    """A robot's own residual books, and its own words unless they are given.

    Args:
        windows_NSK: 64-frame windows of train motion relative to the frame before, normalised; of 16, 32 or 48 frames
            where no longer chunks are coded.
        scale_K: physical units of one normalised unit, for the sensors' noise.

    Raises:
        ValueError: windows of another shape, or too few.
    """
    if windows_NSK.ndim != 3 or windows_NSK.shape[1] not in WINDOWS or len(windows_NSK) < 2:
        raise ValueError(f"windows have shape {list(windows_NSK.shape)}; expected [2 or more, one of {WINDOWS}, K]")
    if max(length for length, _ in settings.lengths) > windows_NSK.shape[1]:
        raise ValueError(f"lengths {settings.lengths} are longer than the windows, {windows_NSK.shape[1]} frames")
    generator = torch.Generator().manual_seed(settings.seed)
    windows = windows_NSK.float()
    if words is None:
        words = own_words(windows, scale_K, grammar.words, settings)
    shown = shown_windows(windows, words, settings, generator)
    rough = replace(settings, sample=settings.rough_sample)
    model = WordModel(grammar, words, fit_coders(open_loop(shown, settings, generator), grammar, rough, generator))
    for number in range(settings.rounds):
        samples = closed_loop(model, windows, settings, generator)
        samples.fill(open_loop(shown, settings, generator))
        last = number == settings.rounds - 1
        coders = fit_coders(samples, grammar, settings if last else rough, generator)
        model = WordModel(grammar, words, coders)
    return model


# -- words -----------------------------------------------------------------------------------------------------------


def own_words(windows_NSK: Tensor, scale_K: Tensor, size: int, settings: FitSettings = DEFAULT) -> NearestWords:
    """A book of words of this robot alone, in its companded principal directions."""
    space = word_space(windows_NSK, scale_K, settings)
    generator = torch.Generator().manual_seed(settings.seed)
    blocks_nFK = blocks_of_windows(space, windows_NSK, settings.word_sample, generator)

    def along(blocks_nFK: Tensor) -> Tensor:
        return space.whole(blocks_nFK.flatten(1))

    apart = settings.apart * moved_by_noise(space, windows_NSK[:SHAKEN], along, generator)
    code_VC = kmeans(along(blocks_nFK), size, settings.word_iterations, generator, apart=apart)
    return NearestWords(space, space.unwhitened(code_VC / space.spread_C))


def word_space(windows_NSK: Tensor, scale_K: Tensor, settings: FitSettings = DEFAULT) -> WordSpace:
    """`fit_word_space` as the settings say."""
    return fit_word_space(windows_NSK, scale_K, settings.rank, settings.word_dim, settings.noise)


def blocks_of_windows(
    space: WordSpace, windows_NSK: Tensor, most: int, generator: torch.Generator
) -> Float[Tensor, "n F K"]:
    """The likely motion of at most so many blocks."""
    blocks_nFK = torch.cat(space.motions(windows_NSK))
    return blocks_nFK[torch.randperm(len(blocks_nFK), generator=generator)[:most]]


# -- what segments are predicted from ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shown:
    """Windows of one length, beside the paths of their words."""

    motion_NTK: Float[Tensor, "N T K"]
    path_NBFK: Float[Tensor, "N B 17 K"]


def shown_windows(windows_NSK: Tensor, words: Words, settings: FitSettings, generator: torch.Generator) -> list[_Shown]:
    """Windows at several chunk lengths: the last block of some has fewer slots, and its word knows less."""
    order = torch.randperm(len(windows_NSK), generator=generator)[: settings.open_rows]
    out, start = [], 0
    for length, share in settings.lengths:
        rows = order[start : start + max(2, round(share * len(order)))]
        start += len(rows)
        if len(rows):
            motion = windows_NSK[rows, :length]
            out.append(_Shown(motion, paths(words, words.encode(motion)).float()))
    return out


def open_loop(shown: Sequence[_Shown], settings: FitSettings, generator: torch.Generator) -> Samples:
    """Segments at random places, behind true pasts with noise on them."""
    samples = Samples()
    for part in shown:
        N, T, _ = part.motion_NTK.shape
        for length in TAILS:
            starts = [s for s in range(T // FRAMES_PER_SLOT) if _fits(s, length, T // FRAMES_PER_SLOT)]
            for slot in _drawn(starts, N, generator):
                rows, place = slot
                samples.add(length, place, *_open(part, rows, place, length, settings, generator))
    return samples


def _fits(slot: int, length: int, M: int) -> bool:
    return slot + length <= min(M, (slot // BLOCK_SLOTS + 1) * BLOCK_SLOTS)


def _drawn(starts: Sequence[int], rows: int, generator: torch.Generator) -> list[tuple[Tensor, int]]:
    """Rows by the slot that a segment begins at: all rows at slots 0 and 1, each row at two random ones behind."""
    every = torch.arange(rows)
    out = [(every, slot) for slot in starts if slot < 2]
    later = [slot for slot in starts if slot >= 2]
    if later:
        for _ in range(2):
            drawn = torch.randint(len(later), (rows,), generator=generator)
            out += [((drawn == number).nonzero()[:, 0], slot) for number, slot in enumerate(later)]
    return out


def _open(
    part: _Shown, rows: Tensor, slot: int, length: int, settings: FitSettings, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    block, in_block = divmod(slot, BLOCK_SLOTS)
    motion = part.motion_NTK[rows]
    start = slot * FRAMES_PER_SLOT
    framed = torch.nn.functional.pad(motion, (0, 0, PAST + 1, 0))  # frame t at 9 + t
    sigma = torch.tensor(settings.past_noise)[
        torch.randint(len(settings.past_noise), (len(rows), 1, 1), generator=generator)
    ]
    first = block * BLOCK_SLOTS * FRAMES_PER_SLOT + PAST  # the frame before the block
    low = min(start, first)
    noisy = framed[:, low : start + PAST + 1].clone()
    true = torch.arange(low, start + PAST + 1) <= PAST  # the anchor is known
    noisy += sigma * torch.randn(noisy.shape, generator=generator) * ~true[:, None]
    past = Past(noisy[:, start - low :], noisy[:, first - low])
    wanted = motion[:, start : start + length * FRAMES_PER_SLOT] - past.last_N1K
    return features(past, part.path_NBFK[rows, block], in_block, length), wanted.flatten(1)


def closed_loop(model: WordModel, windows_NSK: Tensor, settings: FitSettings, generator: torch.Generator) -> Samples:
    """Segments behind what the encoder decodes, one path, at mixed rates."""
    samples = Samples()
    order = torch.randperm(len(windows_NSK), generator=generator)[: settings.closed]
    start = 0
    for length, share in settings.lengths:
        rows = order[start : start + max(1, round(share * len(order)))]
        start += len(rows)
        if len(rows):
            drawn = torch.randint(len(settings.rates), (len(rows),), generator=generator)
            rate = torch.tensor(settings.rates, dtype=torch.float64)[drawn]
            encode(model, windows_NSK[rows, :length], rate, 1, 1, samples.add)
    return samples
