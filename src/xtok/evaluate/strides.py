"""How far apart chunks are cut, so that there are no more of them than wanted and all parts of a set are seen.

# T frames of a chunk
"""

from __future__ import annotations

from collections.abc import Sequence

from xtok.actions.types import ChunkBatch, concatenate
from xtok.data.chunks import count_chunks, iter_chunks
from xtok.data.episode import Episode


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


def spread_chunks(episodes: Sequence[Episode], horizon: int, max_chunks: int) -> ChunkBatch | None:
    """At most so many chunks, evenly over the episodes that are long enough; None where none is."""
    usable = [episode for episode in episodes if len(episode) > horizon]
    if not usable:
        return None
    stride, runs_on = spread_within(usable, horizon, max_chunks)
    return concatenate(list(iter_chunks(usable, horizon, stride, runs_on=runs_on)))
