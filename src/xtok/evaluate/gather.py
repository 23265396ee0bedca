"""Arrays for the measures of meaning: labelled chunks of both splits, through every tokenizer.

# N chunks (train first, then test), T frames, D channels, M slots, Q levels, C latent channels
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from xtok.actions.statistics import Statistics, normalise_batch
from xtok.actions.types import ActionTokenizer, ChunkBatch, concatenate
from xtok.data.chunks import iter_chunks
from xtok.data.episode import Episode, EpisodeDataset
from xtok.data.splits import select
from xtok.evaluate.batches import HasFirstCodes, decode, encode, target_delta
from xtok.evaluate.errors import motion
from xtok.evaluate.labels import Labels, label_chunks
from xtok.evaluate.probes import bag_of_tokens
from xtok.evaluate.semantics import TokenizerOutputs, novelty
from xtok.evaluate.strides import stride_within

TRAIN_CHUNKS, TEST_CHUNKS = 4000, 6000

Latents = Callable[[ChunkBatch], np.ndarray]


@dataclass(frozen=True)
class Gathered:
    """chunks and labels of all N; train_N: those that probes may be fitted on. novelty_N: seen or unseen arm and task.
    held: tokenizer -> its arrays. true_NX: normalised motion of the test chunks, masked channels 0."""

    chunks: ChunkBatch
    labels: Labels
    train_N: np.ndarray
    novelty_N: np.ndarray
    outputs: dict[str, TokenizerOutputs]
    true_NX: np.ndarray

    @property
    def test(self) -> ChunkBatch:
        return self.chunks[slice(int(self.train_N.sum()), len(self.chunks))]

    @property
    def test_labels(self) -> Labels:
        return self.labels[~self.train_N]

    @property
    def mask_NX(self) -> np.ndarray:
        """Of `true_NX`: channels that the robot has."""
        mask_ND = self.test.context.mask_BD.numpy()
        return np.tile(mask_ND, self.true_NX.shape[1] // mask_ND.shape[1])


def gather(
    dataset: EpisodeDataset,
    tokenizers: Mapping[str, ActionTokenizer],
    statistics: Mapping[str, Statistics],
    horizon: int,
    latents: Mapping[str, Latents] | None = None,
    unseen_arms: Collection[str] = (),
    unseen_tasks: Collection[str] = (),
    train_chunks: int = TRAIN_CHUNKS,
    test_chunks: int = TEST_CHUNKS,
    say: Callable[[str], None] = lambda _: None,
) -> Gathered:
    """Chunks of train and held-out episodes with their labels, codes and decoded motion.

    Args:
        latents: tokenizer -> function from chunks to its h, [N, M, C]; evaluations themselves see codes only.
        unseen_arms, unseen_tasks: train episodes of these fit no probe and no mean; held-out ones are told apart.
        train_chunks, test_chunks: at most so many; the stride between chunks follows (or one chunk an episode).

    Raises:
        ValueError: no train or no held-out episode longer than the horizon.
    """
    train = [
        episode
        for episode in select(dataset, "train")
        if episode.embodiment not in unseen_arms and episode.task not in unseen_tasks
    ]
    parts = [
        _cut(episodes, horizon, most, which)
        for which, episodes, most in (
            ("train", train, train_chunks),
            ("held-out", select(dataset, "heldout"), test_chunks),
        )
    ]
    chunks = concatenate([part[0] for part in parts])
    both = [part[1] for part in parts]
    labels = Labels(**{key: np.concatenate([getattr(each, key) for each in both]) for key in vars(both[0])})
    train_N = np.arange(len(labels)) < len(both[0])
    test = chunks[slice(len(both[0]), len(chunks))]
    outputs = {}
    for name, tokenizer in tokenizers.items():
        say(f"T {horizon}: codes of {len(chunks)} chunks through {name}")
        outputs[name] = _hold(tokenizer, chunks, test, statistics, (latents or {}).get(name))
    return Gathered(
        chunks,
        labels,
        train_N,
        novelty(labels, frozenset(unseen_arms), frozenset(unseen_tasks)),
        outputs,
        _normalised(test, target_delta(test), statistics),
    )


def positions(chunks: ChunkBatch, delta_NTD: np.ndarray) -> np.ndarray:
    """[N, T, C]: positions of all hands (or joints, in a layout without), relative to the anchor; masked channels 0."""
    layout = chunks.context.layout
    groups = layout.of_kind("position") or layout.of_kind("joint")
    picked = np.concatenate([np.arange(where.start, where.stop) for _, where in groups])
    return np.where(chunks.context.mask_BD.numpy()[:, None, picked], delta_NTD[..., picked], 0.0)


def _cut(episodes: Sequence[Episode], horizon: int, most: int, which: str) -> tuple[ChunkBatch, Labels]:
    usable = [episode for episode in episodes if len(episode) > horizon]
    if not usable:
        raise ValueError(
            f"no {which} episode is longer than {horizon} frames; the measures of meaning need both splits: give more "
            "episodes or a shorter horizon"
        )
    stride = stride_within(usable, horizon, most)
    return concatenate(list(iter_chunks(usable, horizon, stride))), label_chunks(usable, horizon, stride)


def _hold(
    tokenizer: ActionTokenizer,
    chunks: ChunkBatch,
    test: ChunkBatch,
    statistics: Mapping[str, Statistics],
    latents: Latents | None,
) -> TokenizerOutputs:
    codes = encode(tokenizer, chunks)
    decoded = decode(tokenizer, codes[slice(len(chunks) - len(test), len(chunks))], test.context)
    grid = codes.grid_BMQ
    tokens = codes.tokens
    first = tokenizer.first_codes(codes, chunks.context.horizon) if isinstance(tokenizer, HasFirstCodes) else None
    if grid is not None:  # the same id of two levels is two words
        offsets = np.arange(grid.shape[-1]) * codes.vocab_size
        tokens = tuple((each + offsets).ravel() for each in grid.numpy())
    vocab_size = codes.vocab_size * (1 if grid is None else grid.shape[-1])
    return TokenizerOutputs(
        codes_NMQ=first if grid is None else grid.numpy(),
        bag_NW=bag_of_tokens(tokens, vocab_size),
        latent_NMC=None if latents is None else latents(chunks),
        decoded_NX=_normalised(test, motion(test.context.layout, decoded), statistics),
    )


def _normalised(chunks: ChunkBatch, delta_NTD: Tensor, statistics: Mapping[str, Statistics]) -> np.ndarray:
    normal = normalise_batch(statistics, chunks.context, delta_NTD)
    return (normal * chunks.context.mask_BD[:, None]).flatten(1).double().numpy()
