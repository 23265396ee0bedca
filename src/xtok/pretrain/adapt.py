"""A frozen tokenizer for a robot it has never seen: measured in closed form (and by k-means), no gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from xtok.actions.layout import Layout
from xtok.codec import Tokenizer, small
from xtok.codec.model import Codec
from xtok.codec.prior import fit_prior
from xtok.data import Episode
from xtok.pretrain.corpus import Corpus, draw_batches
from xtok.pretrain.initialise import CALIBRATION, WINDOWS, calibrate, initialise, own_books, own_details_if_better
from xtok.pretrain.slotwise import emphasis, measured_books, samples_of

EMPHASIS_BY_CHUNK = 0.5  # the power of `pretrain.slotwise.EMPHASIS`, for robots that closed forms alone measure


def adapt(
    tokenizer: Tokenizer, episodes: Sequence[Episode], vectors: int = 60_000, iterations: int = 10, seed: int = 0
) -> Tokenizer:
    """The same networks and shared books, with the robots of `episodes` (give the train split) added or replaced.

    Each gets statistics and a motion prior. In `joints` it gets books of its own as well, since joints have no meaning
    that robots share. In `arms26` q0's book stays as it is, so its codes keep their meaning; details are coded with
    books of the robot's own, for the chunk as a whole or slot by slot, where its validation episodes ask for them.

    Raises:
        ValueError: no episode of a robot is longer than 64 frames, or too few frames for books.
    """
    return _add(tokenizer, episodes, vectors, iterations, seed, books=True)


def measure(tokenizer: Tokenizer, episodes: Sequence[Episode], vectors: int = 30_000, seed: int = 0) -> Tokenizer:
    """The same tokenizer with the robots of `episodes` added by closed forms alone: no book is placed on their motion.

    Statistics, motion prior and (in `joints`) slot predictor are least squares over the episodes, as ranges are
    quantiles over them; the codes are the shared ones. In `arms26` details weigh errors towards metres and radians.
    Seconds. `adapt` gives a joint robot books of its own.

    Raises:
        ValueError: no episode of a robot is longer than 64 frames.
    """
    return _add(tokenizer, episodes, vectors, 0, seed, books=False)


@torch.no_grad()
def _add(
    tokenizer: Tokenizer, episodes: Sequence[Episode], vectors: int, iterations: int, seed: int, books: bool
) -> Tokenizer:
    codec = tokenizer.shared_codec()
    corpus = Corpus(codec.layout, episodes)
    generator = torch.Generator().manual_seed(seed)
    for name, statistics in corpus.statistics.items():
        windows = corpus.windows(name, WINDOWS, generator)
        codec.forget_robot(name)
        prior = fit_prior(codec.layout, statistics, windows, codec.config.prior_rank)
        codec.add_robot(prior if books else replace(prior, emphasis_K=emphasis(codec, prior, EMPHASIS_BY_CHUNK)))
        part = corpus.of(name)
        if books and codec.config.own_books:
            own_books(codec, part, generator, vectors, seed, iterations)
            continue
        batches = list(draw_batches(part, min(vectors, CALIBRATION), generator, longest=True))
        calibrate(codec, name, batches)
        if books and codec.config.front == "prior":
            batches += draw_batches(part, vectors, generator)
            own_details_if_better(codec, part, batches, generator, vectors, seed, iterations)
        elif codec.generic is not None and codec.generic.slotwise is not None:
            samples = samples_of(codec, batches, codec.intent.shared)
            measured_books(codec, codec.robots[name], samples)
    return Tokenizer(codec, tokenizer.name)


def fit_rvq(
    layout: Layout, episodes: Sequence[Episode], vectors: int = 60_000, iterations: int = 10, seed: int = 0
) -> Tokenizer:
    """The baseline "rvq": our design placed by k-means on these episodes; no network, no masked modelling."""
    codec = Codec(small(layout.name))
    initialise(codec, Corpus(layout, episodes), seed, vectors, iterations, progress=False, strangers=False)
    return Tokenizer(codec, "rvq")
