"""A robot that a frozen tokenizer has never seen gets codebooks of its own, by k-means: a minute, no gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tqdm import tqdm

from xtok.actions.layout import Layout
from xtok.codec import Tokenizer, small
from xtok.codec.gaussian import GaussianCodec
from xtok.codec.gaussian.prior import fit_prior
from xtok.data import Episode
from xtok.pretrain.corpus import Corpus, draw_batches
from xtok.pretrain.initialise import CALIBRATION, WINDOWS, calibrate, fit_per_robot, initialise, own_details_if_better
from xtok.pretrain.measurement import gaussian_copy
from xtok.progress import is_shown, shown


def adapt(
    tokenizer: Tokenizer,
    episodes: Sequence[Episode],
    vectors: int = 60_000,
    iterations: int = 10,
    seed: int = 0,
    progress: bool = False,
) -> Tokenizer:
    """The same networks and shared books, with the robots of `episodes` (give the train split) added or replaced.

    Each gets statistics and a motion prior. In `joints` it gets books of its own as well, since joints have no meaning
    that robots share. In `arms26` q0's book stays as it is, so its codes keep their meaning; details are coded with
    books of the robot's own, for the chunk as a whole or slot by slot, where its validation episodes ask for them.
    `xtok.pretrain.measure` stops at the prior: seconds, and enough for a first look.

    Raises:
        ValueError: no episode of a robot is longer than 64 frames, too few frames for books, or a perceiver.
    """
    codec = gaussian_copy(tokenizer)
    corpus = Corpus(codec.layout, episodes)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]), torch.no_grad(), shown(progress):
        for name, statistics in corpus.statistics.items():
            stages = ("motion prior", "codebooks") if codec.config.per_robot else ("motion prior", "details")
            with tqdm(desc=f"adapt {name}", total=len(stages), unit="stage", disable=not progress) as bar:
                bar.set_postfix_str(stages[0])
                windows = corpus.windows(name, WINDOWS, generator)
                codec.forget_robot(name)
                codec.ranges.pop(name, None)
                codec.add_robot(fit_prior(codec.layout, statistics, windows, codec.config.prior_rank))
                part = corpus.of(name)
                bar.set_postfix_str(stages[1], refresh=False)
                bar.update()
                if codec.config.per_robot:
                    fit_per_robot(codec, part, generator, vectors, seed, iterations)
                else:
                    batches = list(draw_batches(part, min(vectors, CALIBRATION), generator, longest=True))
                    calibrate(codec, name, batches)
                    batches += draw_batches(part, vectors, generator)
                    own_details_if_better(codec, part, batches, generator, vectors, seed, iterations)
                bar.set_postfix_str("", refresh=False)
                bar.update()
    return Tokenizer(codec, tokenizer.name)


def fit_rvq(
    layout: Layout, episodes: Sequence[Episode], vectors: int = 60_000, iterations: int = 10, seed: int = 0
) -> Tokenizer:
    """The baseline "rvq": our design placed by k-means on these episodes; no network, no masked modelling."""
    codec = GaussianCodec(small(layout.name))
    initialise(codec, Corpus(layout, episodes), seed, vectors, iterations, is_shown(), fit_shared=False)
    return Tokenizer(codec, "rvq")
