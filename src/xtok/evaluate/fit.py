"""Baselines on the same footing: fitted at one T on train episodes, normalised with the same statistics.

# T frames of a chunk
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xtok.actions.statistics import Statistics, normalise_batch
from xtok.actions.types import ActionTokenizer, ChunkBatch
from xtok.baselines.bins import BinTokenizer
from xtok.baselines.fast import VOCAB_SIZE, FastTokenizer
from xtok.data.chunks import count_chunks, iter_chunks
from xtok.data.episode import Episode
from xtok.evaluate.batches import encode, target_delta
from xtok.evaluate.rate import FAST, bits_mean, rate_points
from xtok.evaluate.sweep import Sweep, sweep_around

BINS = "bins"
BASELINES = (FAST, BINS)


def fit_baselines(
    names: Sequence[str],
    train_episodes: Sequence[Episode],
    chunks: ChunkBatch,
    subject: ActionTokenizer,
    statistics: Mapping[str, Statistics],
    max_chunks: int,
) -> tuple[dict[str, ActionTokenizer], dict[str, Any] | None]:
    """Baselines by name, and how FAST was fitted (None without it): its scales, and the chunks of its vocabulary.

    FAST comes as a sweep of scales around the bits that `subject` spends on `chunks`: from those of its coarsest rate
    point to those of its finest, with the scale nearest to the subject's own bits in front. `chunks` only say which
    scales are of interest; vocabularies are fitted on at most `max_chunks` chunks of `train_episodes`.

    Raises:
        ValueError: an unknown baseline, or (fast) no train episode longer than T.
    """
    if unknown := set(names) - set(BASELINES):
        raise ValueError(f"unknown baselines {sorted(unknown)}; expected some of {list(BASELINES)}")
    fitted: dict[str, ActionTokenizer] = {}
    how = None
    if FAST in names:
        fitted[FAST], how = _fit_fast(train_episodes, chunks, subject, statistics, max_chunks)
    if BINS in names:
        fitted[BINS] = BinTokenizer(statistics)
    return fitted, how


def stride_within(episodes: Sequence[Episode], horizon: int, max_chunks: int) -> int:
    """The smallest stride between chunk starts that gives at most `max_chunks` chunks (or one an episode)."""
    stride = 1
    while (count := count_chunks(episodes, horizon, stride)) > max(max_chunks, len(episodes)):
        stride = max(stride + 1, stride * count // max_chunks)
    return stride


def spread_within(episodes: Sequence[Episode], horizon: int, max_chunks: int) -> tuple[int, bool]:
    """Stride, and whether it runs on from episode to episode (see `iter_chunks`): so it does where it would show no
    more than the beginning of some, in which hands start from rest."""
    stride = stride_within(episodes, horizon, max_chunks)
    windows = [count_chunks([episode], horizon) for episode in episodes]
    return (stride, False) if stride <= min(windows) else (-(-sum(windows) // max_chunks), True)


def _fit_fast(
    train_episodes: Sequence[Episode],
    chunks: ChunkBatch,
    subject: ActionTokenizer,
    statistics: Mapping[str, Statistics],
    max_chunks: int,
) -> tuple[Sweep, dict[str, Any]]:
    horizon = chunks.context.horizon
    usable = [episode for episode in train_episodes if len(episode) > horizon]
    if not usable:
        raise ValueError(f"FAST needs train episodes longer than {horizon} frames; leave it out of the baselines")
    stride = stride_within(usable, horizon, max_chunks)
    train = list(iter_chunks(usable, horizon, stride))
    bits = [bits_mean(encode(point, chunks)) for point in rate_points(subject)]

    def fit(scale: float) -> FastTokenizer:
        return FastTokenizer(statistics, scale).fit(train)

    # No coefficient of an orthonormal transform exceeds its channel's norm over time; beyond this scale there may be
    # more of them than the vocabulary has room for.
    norms = [normalise_batch(statistics, batch.context, target_delta(batch)).norm(dim=1).max() for batch in train]
    scale_max = (VOCAB_SIZE / 2 - 1) / float(max(norms))
    own_bits = bits_mean(encode(subject, chunks))
    sweep = sweep_around(FAST, fit, chunks, (min(bits), max(bits)), own_bits, scale_max)
    how = {
        "chunks": sum(len(batch) for batch in train),
        "chunk_stride": stride,
        "scales": list(sweep.by_scale),
        "headline_scale": sweep.headline_scale,
    }
    return sweep, how
