"""Episodes cut into chunks: target = pose[t : t + T], anchor = pose[t - 1]. docs/method.md#actions.

In many public sets action[t] equals state[t], so a chunk is never taken as action minus state of one frame.

# B chunks of a batch, N frames of an episode, T frames of a chunk, D channels, W windows of an episode
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Literal

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from xtok.actions.types import HORIZON_MAX, HORIZON_MIN, ChunkBatch, Context
from xtok.data.episode import Episode

Short = Literal["raise", "skip"]


def iter_chunks(
    episodes: Iterable[Episode],
    horizon: int,
    stride: int = 1,
    batch_size: int = 256,
    short: Short = "raise",
    runs_on: bool = False,
) -> Iterator[ChunkBatch]:
    """All chunks of `horizon` frames, episode after episode and in order of time, `stride` frames apart.

    Every batch but the last holds `batch_size` chunks, of neighbouring episodes where one ends. `short` says what
    to do with episodes of fewer than T + 1 frames. runs_on: the stride goes on from one episode into the next, so that
    a long one shows all parts of short episodes; else every episode starts with its first frame.

    Raises:
        ValueError: a horizon outside [8, 64], a stride or batch size under 1, several layouts at once, no episode,
            or (short="raise") an episode too short for one chunk.
    """
    usable = _usable(episodes, horizon, stride, short)
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected 1 or more")
    return _batches(usable, horizon, stride, batch_size, runs_on)


def count_chunks(episodes: Iterable[Episode], horizon: int, stride: int = 1, short: Short = "raise") -> int:
    """How many chunks `iter_chunks` would give; same arguments, same errors."""
    return sum(_window_count(episode, horizon, stride) for episode in _usable(episodes, horizon, stride, short))


def _usable(given: Iterable[Episode], horizon: int, stride: int, short: Short) -> list[Episode]:
    if not HORIZON_MIN <= horizon <= HORIZON_MAX:
        raise ValueError(f"horizon is {horizon} frames; expected {HORIZON_MIN} to {HORIZON_MAX}")
    if stride < 1:
        raise ValueError(f"stride is {stride}; expected 1 or more")
    if short not in ("raise", "skip"):
        raise ValueError(f"short is {short!r}; expected 'raise' or 'skip'")
    episodes = list(given)  # a dataset reads from disk each time it is walked
    if len(layouts := sorted({episode.layout.name for episode in episodes})) > 1:
        raise ValueError(f"episodes have layouts {layouts}; chunk one layout at a time")
    if not episodes:
        raise ValueError("no episodes to cut into chunks; check the split and the folder")

    too_short = [episode for episode in episodes if len(episode) <= horizon]
    if too_short and short == "raise":
        first = too_short[0]
        raise ValueError(
            f"{len(too_short)} of {len(episodes)} episodes are too short for a chunk of {horizon} frames and its "
            f"anchor: dataset {first.dataset!r}, episode {first.index} has {len(first)} frames, needs {horizon + 1}; "
            "choose a shorter horizon or short='skip'"
        )
    if too_short:
        message = f"skipped {len(too_short)} of {len(episodes)} episodes with fewer than {horizon + 1} frames"
        warnings.warn(message, stacklevel=3)
    return [episode for episode in episodes if len(episode) > horizon]


def _window_count(episode: Episode, horizon: int, stride: int) -> int:
    return -(-(len(episode) - horizon) // stride)


def _batches(
    episodes: list[Episode], horizon: int, stride: int, batch_size: int, runs_on: bool
) -> Iterator[ChunkBatch]:
    first = 0
    pieces: list[tuple[Episode, np.ndarray]] = []  # windows [W, T + 1, D] that wait for a full batch
    waiting = 0
    for episode in episodes:
        windows = sliding_window_view(episode.absolute_ND, horizon + 1, axis=0)[first::stride].transpose(0, 2, 1)
        if runs_on:
            first = (first - (len(episode) - horizon)) % stride
        while len(windows):
            taken, windows = windows[: batch_size - waiting], windows[batch_size - waiting :]
            pieces.append((episode, taken))
            waiting += len(taken)
            if waiting == batch_size:
                yield _collate(pieces, horizon)
                pieces, waiting = [], 0
    if pieces:
        yield _collate(pieces, horizon)


def _collate(pieces: list[tuple[Episode, np.ndarray]], horizon: int) -> ChunkBatch:
    sizes = [len(windows) for _, windows in pieces]
    windows = torch.from_numpy(np.concatenate([windows for _, windows in pieces]))  # a copy: the views never leave
    names = [[episode.embodiment] * size for (episode, _), size in zip(pieces, sizes, strict=True)]
    context = Context(
        layout=pieces[0][0].layout,
        anchor_BD=windows[:, 0].clone(),
        mask_BD=torch.from_numpy(np.repeat([episode.mask_D for episode, _ in pieces], sizes, axis=0)),
        control_hz_B=torch.from_numpy(np.repeat([np.float32(episode.control_hz) for episode, _ in pieces], sizes)),
        embodiment=tuple(chain.from_iterable(names)),
        horizon=horizon,
    )
    return ChunkBatch(windows[:, 1:].contiguous(), context)
