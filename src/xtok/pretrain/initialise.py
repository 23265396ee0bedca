"""Start at a good solution: statistics, motion priors and books, in closed form and by k-means. Decision 0003."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from xtok.actions.embodiments import NONE
from xtok.actions.statistics import Statistics
from xtok.actions.types import FRAMES_PER_SLOT, HORIZON_MAX, ChunkBatch, slots
from xtok.codec.base import Codec
from xtok.codec.batch import BatchContext
from xtok.codec.encoder import by_slot
from xtok.codec.gaussian import GaussianCodec
from xtok.codec.gaussian.prior import ACTIVITY_EDGES, fit_generic, fit_prior, no_activity
from xtok.codec.perceiver import PerceiverCodec
from xtok.pretrain.corpus import Corpus, draw_batches
from xtok.pretrain.slotwise import Sample, place_shared, place_slotwise, samples_of
from xtok.progress import Shown, shown, track

CALIBRATION = 40_000  # slots that q0 noise and activity are measured on
VALIDATION_HORIZONS = (8, 32, 64)
OWN_GAIN = 0.97  # detail books of its own must take so much off a robot's validation l1: they are bytes to keep
OWN_VECTORS = 150_000  # slots that the detail books of one robot are placed on
WINDOWS = 4096  # 64-frame windows a robot's prior is taken from


def initialise(
    codec: Codec,
    corpus: Corpus,
    seed: int = 0,
    vectors: int = 150_000,
    iterations: int = 15,
    progress: Shown = True,
    own: Sequence[str] = (),
    fit_shared: bool = True,
) -> None:
    """Fit what is known of each robot, then the codebooks, by k-means. In place; the networks stay as they are.

    Of a Gaussian codec: priors, then the coarse codebook, then (through both) the residual codebooks. Of a perceiver:
    statistics, its linear path if it has one, then codebooks of what its encoder says so far.

    own: robots that get detail books of their own; the shared ones are placed on all the others. strangers=False leaves
    out what serves only robots outside the corpus, where all have books of their own.

    Raises:
        ValueError: a corpus too small for the books, or `own` names a robot that it lacks.
    """
    with shown(progress):
        if isinstance(codec, GaussianCodec):
            _initialise(codec, corpus, seed, vectors, iterations, own, fit_shared)
            return
        codec.eval()
        for statistics in corpus.statistics.values():
            codec.add_statistics(statistics)
        codec.add_statistics(pooled_statistics(list(corpus.statistics.values())))
        if isinstance(codec, PerceiverCodec) and codec.config.linear_path:
            codec.start_linear(_slots(codec, corpus, vectors, torch.Generator().manual_seed(seed)))
        _refit_codebooks(codec, corpus, seed, vectors, iterations, own, fit_shared)


@torch.no_grad()
def _slots(codec: PerceiverCodec, corpus: Corpus, vectors: int, generator: torch.Generator) -> Tensor:
    """Motion of random slots, [N, 4K], zeros where a robot has no such channel."""
    out = []
    for chunks in track(draw_batches(corpus, vectors, generator), "slots for the linear path"):
        motion_BTK, batch_context = _motion(codec, chunks)
        out.append(by_slot(motion_BTK * batch_context.conditions.mask_BK[:, None]).flatten(0, 1).float())
    return torch.cat(out)


def _initialise(
    codec: GaussianCodec, corpus: Corpus, seed: int, vectors: int, iterations: int, own: Sequence[str], fit_shared: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    codec.eval()
    fitted = []
    for name, statistics in track(corpus.statistics.items(), "motion priors", "robot", leave=True):
        windows = corpus.windows(name, WINDOWS, generator)
        if len(windows):
            fitted.append(fit_prior(codec.layout, statistics, windows, codec.config.prior_rank))
            codec.add_robot(fitted[-1])
    if not fitted:
        raise ValueError(f"no episode of the corpus is longer than {HORIZON_MAX} frames; a motion prior needs some")
    codec.generic = fit_generic(codec.layout, fitted)
    for name, statistics in corpus.statistics.items():
        if name not in codec.robots:
            codec.add_statistics(statistics)
    codec.add_statistics(pooled_statistics(list(corpus.statistics.values())))
    _refit_codebooks(codec, corpus, seed, vectors, iterations, own, fit_shared)


def refit_codebooks(
    codec: Codec,
    corpus: Corpus,
    seed: int = 0,
    vectors: int = 150_000,
    iterations: int = 15,
    progress: Shown = True,
    own: Sequence[str] = (),
    fit_shared: bool = True,
) -> None:
    """Place all books anew under the encoder as it is (needed after its weights were averaged)."""
    with shown(progress):
        _refit_codebooks(codec, corpus, seed, vectors, iterations, own, fit_shared)


def _refit_codebooks(
    codec: Codec, corpus: Corpus, seed: int, vectors: int, iterations: int, own: Sequence[str], fit_shared: bool
) -> None:
    generator = torch.Generator().manual_seed(seed + 1)
    codec.eval()
    if not isinstance(codec, GaussianCodec):
        h = torch.cat([h for h, _, _ in _latents(codec, corpus, vectors, generator)])
        (quantizer,) = codec.quantizers
        quantizer.initialise(h, iterations=iterations, seed=seed)
        return
    if codec.config.per_robot:
        for name in track(sorted(codec.robots), "books of each robot", "robot", leave=True):
            fit_per_robot(codec, corpus.of(name), generator, vectors // 2, seed, iterations)
        if not fit_shared and corpus.statistics.keys() <= set(codec.robots):
            return
        slotwise = place_shared(codec, corpus, generator, vectors, seed, iterations)
        codec.generic = replace(fit_generic(codec.layout, list(codec.robots.values())), slotwise=slotwise)
        codec.forget_bases()
        return
    others = corpus.without(own) if own else corpus
    codec.residual.per_robot.clear()  # of a q0 that is no more
    _place_coarse(codec, corpus, generator, vectors // 2, seed, iterations)
    calibrate_all(codec, corpus, generator)
    drawn = track(draw_batches(others, vectors * 2, generator), "what q0 leaves open")
    detail = [codec.residuals(*_motion(codec, chunks)) for chunks in drawn]
    rows = torch.cat([part.flatten(0, 1).float() for part in detail])
    codec.residual.shared.initialise(rows, iterations=iterations, seed=seed)
    for name in track(own, "books of single robots", "robot", leave=True):
        part = corpus.of(name)
        batches = list(draw_batches(part, OWN_VECTORS, generator, longest=True))
        fit_per_robot_residual(codec, part, batches, generator, OWN_VECTORS, seed, iterations)


def _place_coarse(
    codec: GaussianCodec, corpus: Corpus, generator: torch.Generator, vectors: int, seed: int, iterations: int
) -> None:
    h, valid, _ = zip(*_latents(codec, corpus, vectors, generator), strict=True)
    codec.coarse.shared.initialise(torch.cat(h), torch.cat(valid), iterations=iterations, seed=seed)


@torch.no_grad()
def fit_per_robot(
    codec: GaussianCodec, part: Corpus, generator: torch.Generator, vectors: int, seed: int, iterations: int
) -> None:
    """Books of the one robot of `part` by k-means on about so many slots of its chunks.

    Details are coded for the chunk as a whole or slot by slot, whichever has the lower l1 on validation episodes.
    """
    (name,) = part.statistics
    for each in codec.codebooks:
        each.add(name)
    batches = list(draw_batches(part, vectors, generator, longest=True))
    h = torch.cat([codec.latents(*_motion(codec, chunks)).flatten(0, 1).float() for chunks in batches])
    codec.coarse.of(name).initialise(h, iterations=iterations, seed=seed)
    calibrate(codec, name, batches)
    batches += draw_batches(part, vectors, generator)
    fit_per_robot_residual(codec, part, batches, generator, vectors, seed, iterations)


@torch.no_grad()
def fit_per_robot_residual(
    codec: GaussianCodec,
    part: Corpus,
    batches: Sequence[ChunkBatch],
    generator: torch.Generator,
    vectors: int,
    seed: int,
    iterations: int,
) -> float:
    """Detail books of the one robot of `part` under its q0 as it is: for the chunk as a whole or slot by slot.

    batches: chunks of its, on which both are placed. Returns the lower of the two sums of validation l1, by which one
    of them stays.
    """
    (name,) = part.statistics
    book = codec.residual.add(name)
    drawn = track(batches, "what q0 leaves open")
    detail = torch.cat([codec.residuals(*_motion(codec, chunks)).flatten(0, 1).float() for chunks in drawn])
    book.initialise(detail, iterations=iterations, seed=seed)
    by_chunk, l1_by_chunk, books = codec.robots[name], sum(validation_l1(codec, part)), book.books_QVC.clone()

    samples = samples_of(codec, batches)
    place_slotwise(codec, name, samples, generator, vectors, seed, iterations)
    l1_by_slot = sum(validation_l1(codec, part))
    if l1_by_slot > l1_by_chunk:
        codec.add_robot(by_chunk)
        book.books_QVC.copy_(books)
        book.restart_from_books()
    return min(l1_by_chunk, l1_by_slot)


@torch.no_grad()
def own_details_if_better(
    codec: GaussianCodec,
    part: Corpus,
    batches: Sequence[ChunkBatch],
    generator: torch.Generator,
    vectors: int,
    seed: int,
    iterations: int,
) -> None:
    """`fit_per_robot_residual` where they lower l1 on the robot's validation episodes enough; else the shared ones
    stay."""
    (name,) = part.statistics
    if not part.validates(min(VALIDATION_HORIZONS)):
        return
    shared, prior = sum(validation_l1(codec, part)), codec.robots[name]
    if fit_per_robot_residual(codec, part, batches, generator, vectors, seed, iterations) > OWN_GAIN * shared:
        del codec.residual.per_robot[name]
        codec.add_robot(prior)


@torch.no_grad()
def validation_l1(codec: GaussianCodec, part: Corpus) -> list[float]:
    """Of one robot's validation chunks, at each length it has chunks of."""
    out = []
    for horizon in track(VALIDATION_HORIZONS, "l1 on validation episodes"):
        if not part.validates(horizon):
            continue
        chunks = part.validate(horizon, 128)
        motion, batch_context = _motion(codec, chunks)
        decoded = codec.decode(codec.encode(motion, batch_context), batch_context)
        out.append(float((decoded - motion)[..., codec.batch_context(chunks.context).robots[0].channels].abs().mean()))
    return out


@torch.no_grad()
def calibrate_all(codec: GaussianCodec, corpus: Corpus, generator: torch.Generator) -> None:
    """Measure every robot's q0 noise and activity, then the generic prior's from theirs."""
    for name in track(list(codec.robots), "calibration of each robot", "robot", leave=True):
        calibrate(codec, name, list(draw_batches(corpus.of(name), CALIBRATION, generator)))
    codec.generic = fit_generic(codec.layout, list(codec.robots.values()))
    codec.forget_bases()


@torch.no_grad()
def calibrate(codec: GaussianCodec, name: str, batches: Sequence[ChunkBatch]) -> list[Sample]:
    """Measure on chunks of one robot, of all lengths, what its prior cannot know: what q0's book leaves open.

    First how far q0's code is from the motion by slot and channel, then, under that, how large details are by activity.
    Returns the chunks as q0 sees them.
    """
    prior = codec.robots[name]
    error, count = (
        torch.zeros(slots(HORIZON_MAX), len(prior.scale_K), dtype=torch.float64),
        torch.zeros(slots(HORIZON_MAX)),
    )
    samples = samples_of(codec, batches)
    for sample in samples:
        horizon = sample.motion_BTK.shape[1]
        seen_BTK = sample.seen_BMX.flatten(1).unflatten(1, (-1, len(prior.scale_K)))[:, :horizon]
        squared = (seen_BTK - sample.motion_BTK).square().sum(dim=0)
        slot = torch.arange(horizon) // FRAMES_PER_SLOT
        error.index_add_(0, slot, squared)
        count.index_add_(0, slot, torch.full((horizon,), float(len(sample.motion_BTK))))
    noise_MK = (error / count.clamp_min(1)[:, None]).float()
    last = int(count.nonzero().max())
    noise_MK[last + 1 :] = noise_MK[last]  # slots that no chunk reached
    codec.add_robot(replace(prior, noise_MK=noise_MK, activity_A=no_activity(), slotwise=None))

    bins = len(ACTIVITY_EDGES) + 1
    size, hits = torch.zeros(bins, dtype=torch.float64), torch.zeros(bins, dtype=torch.float64)
    for sample in samples:
        measured, basis = codec.basis(name, sample.mask_D, sample.motion_BTK.shape[1])
        seen = sample.seen_BMX.flatten(1)
        moved_B = measured.activity(basis, seen)
        detail_BMC = basis.analyse(sample.motion_BTK.flatten(1) - basis.predict(seen))
        size.index_add_(0, moved_B, detail_BMC.square().mean(dim=(1, 2)))
        hits.index_add_(0, moved_B, torch.ones(len(moved_B), dtype=torch.float64))
    # A few pseudo-counts of the average keep rare bins sane.
    mean = size.sum() / hits.sum()
    activity_A = ((size + 8 * mean) / (hits + 8)).sqrt().clamp_min(1e-3).float()
    codec.add_robot(replace(codec.robots[name], activity_A=activity_A))
    return samples


def pooled_statistics(parts: list[Statistics]) -> Statistics:
    """Statistics of "none": in each channel the widest range of any robot; one that moves in none gets [-1, 1]."""
    low_D = np.min([np.where(s.moving_D, s.low_D, np.inf) for s in parts], axis=0)
    high_D = np.max([np.where(s.moving_D, s.high_D, -np.inf) for s in parts], axis=0)
    unknown = ~np.any([s.moving_D for s in parts], axis=0)
    first = parts[0]
    return Statistics(
        layout=first.layout,
        layout_digest=first.layout_digest,
        embodiment=NONE,
        control_hz=first.control_hz,
        horizon_max=min(s.horizon_max for s in parts),
        count=sum(s.count for s in parts),
        mask_D=np.ones(len(first.mask_D), dtype=bool),
        low_D=np.where(unknown, -1.0, low_D),
        high_D=np.where(unknown, 1.0, high_D),
    )


@torch.no_grad()
def _latents(
    codec: Codec, corpus: Corpus, vectors: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor, tuple[str, ...]]]:
    for chunks in track(draw_batches(corpus, vectors, generator), "chunks as q0's space has them"):
        motion, batch_context = _motion(codec, chunks)
        h = codec.latents(motion, batch_context)
        yield h.flatten(0, 1).float(), codec.valid(batch_context).flatten(0, 1), batch_context.names


def _motion(codec: Codec, chunks: ChunkBatch) -> tuple[Tensor, BatchContext]:
    batch_context = codec.batch_context(chunks.context)
    return codec.motion(chunks, batch_context), batch_context
