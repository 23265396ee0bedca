"""Fit slot predictors and the books of their details: least squares and k-means. Decision 0007.

# B chunks, T frames, M slots, K channels of a robot, X = 4 K, F features, N samples, A activity bins, C code dimension
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from xtok.actions.types import FRAMES_PER_SLOT, ChunkBatch, slots
from xtok.codec.gaussian import GaussianCodec
from xtok.codec.gaussian.prior import MotionPrior
from xtok.codec.gaussian.slot_predictor import (
    FEATURES,
    PAST,
    GenericSlotPredictor,
    Quantize,
    SlotPredictor,
    Step,
    through,
)
from xtok.codec.quantizer import ResidualQuantizer
from xtok.pretrain.corpus import Corpus, draw_batches
from xtok.progress import track

NOISE = 2e-3  # half ranges: what decoding is taken to err by before there are books
BINS = 8  # of activity
EMPHASIS = 0.33  # 0: an error counts in half ranges, 1: in q0's physical units
_RIDGE, _RIDGE_MOST = 3e-6, 1e3
GENERIC_SLOTS = 0.1  # slots that the generic predictor weighs as much as, where a robot is measured
VIRTUAL_CHANNELS = (4, 8)  # channels of a virtual robot, both ends included
VIRTUAL_ROBOTS = 28


@dataclass(frozen=True)
class Sample:
    """Chunks of one robot and one length: motion in units of its prior, q0's view of it, and their channels."""

    motion_BTK: Float[Tensor, "B T K"]
    seen_BMX: Float[Tensor, "B M x"]
    mask_D: Bool[np.ndarray, " D"]


@dataclass(frozen=True)
class Fitted:
    """detail_NC, weight_N: what books are to be placed on.

    An absolute error counts by the size of the motion, not by its square, so a detail (which is relative to that size)
    weighs as much as its size.
    """

    predictor: SlotPredictor
    detail_NC: Float[Tensor, "N C"]
    weight_N: Float[Tensor, " N"]


@torch.no_grad()
def samples_of(
    codec: GaussianCodec, batches: Sequence[ChunkBatch], book: ResidualQuantizer | None = None
) -> list[Sample]:
    """Chunks of one robot as q0 sees them. book: in place of the one that codes this robot."""
    out = []
    for chunks in track(batches, "chunks as q0 sees them"):
        batch_context = codec.batch_context(chunks.context)
        (robot,) = batch_context.robots
        motion = codec.motion(chunks, batch_context)
        h = codec.latents(motion, batch_context)
        if book is None:
            found = codec.quantize_coarse(h, batch_context).latents_NC.view_as(h)
        else:
            found = book.lookup(book.search(h.flatten(0, 1), 1)).double().view(h.shape)
        seen = codec.coarse_motion(found, robot).unflatten(1, (slots(batch_context.horizon), -1))
        out.append(Sample(motion[..., robot.channels], seen, chunks.context.mask_BD[0].numpy()))
    return out


@dataclass(frozen=True)
class Leaning:
    """Weights that a fit is drawn to, as if so many slots had been seen that ask for them."""

    weight_HFX: Float[Tensor, "H F x"]
    slots: float


def fit_slotwise(
    samples: Sequence[Sample],
    dim: int,
    emphasis_K: Float[Tensor, " K"] | None = None,
    towards: Leaning | None = None,
) -> Fitted:
    """A predictor by least squares, given the past as it was, plus a little noise."""
    K = samples[0].motion_BTK.shape[-1]
    X = FRAMES_PER_SLOT * K
    generator = torch.Generator().manual_seed(0)
    blank = SlotPredictor(torch.zeros(PAST + 1, FEATURES * K, X), torch.eye(X), torch.empty(0), torch.ones(1))
    noise = NOISE / X**0.5  # `blank` codes in units of its total

    def noisy(detail: Tensor) -> tuple[Tensor, Tensor]:
        decoded = detail + noise * torch.randn(detail.shape, generator=generator, dtype=detail.dtype)
        return detail.new_zeros(len(detail), 0, dtype=torch.long), decoded

    return _fit(_steps(blank, samples, X, noisy), dim, emphasis_K, towards)


def refit_slotwise(
    first: Fitted, samples: Sequence[Sample], dim: int, book: ResidualQuantizer, towards: Leaning | None = None
) -> Fitted:
    """The same, given the past as `first` and `book` decode it."""
    steps = _steps(first.predictor, samples, dim, through(book, 1))
    return _fit(steps, dim, first.predictor.emphasis_K, towards)


def _steps(predictor: SlotPredictor, samples: Sequence[Sample], dim: int, quantize: Quantize) -> list[Step]:
    found = (predictor.analyse(s.motion_BTK, s.seen_BMX, dim, quantize) for s in track(samples, "slot predictor"))
    return [step for each in found for step in each.steps]


def _fit(steps: Sequence[Step], dim: int, emphasis_K: Tensor | None, towards: Leaning | None) -> Fitted:
    by_history = [[step for step in steps if step.history == h] for h in range(PAST + 1)]
    if empty := [h for h, part in enumerate(by_history) if not part]:
        raise ValueError(f"no chunk of the sample has {empty[0] + 1} whole slots; draw longer ones as well")
    features = [torch.cat([step.features_BF for step in part]) for part in by_history]
    wanted = [torch.cat([step.wanted_BX for step in part]) for part in by_history]
    weight_HFX = steady_weights(features, wanted, towards)
    predicted = [f @ w.double() for f, w in zip(features, weight_HFX, strict=True)]
    left_NX = torch.cat([w - p for w, p in zip(wanted, predicted, strict=True)])
    covariance = (left_NX.T @ left_NX / len(left_NX)).float()
    plain = SlotPredictor(weight_HFX, covariance, torch.empty(0), torch.ones(1), emphasis_K)
    activity_N = torch.cat([plain.activity(p, f) for p, f in zip(predicted, features, strict=True)])
    edge_A = torch.quantile(_some(activity_N), torch.linspace(0, 1, BINS + 1, dtype=torch.float64)[1:-1])
    bin_N = torch.bucketize(activity_N, edge_A.float().double())
    energy_N = (left_NX * plain.emphasis_X).square().sum(dim=1)
    energy_N = energy_N / energy_N.mean().clamp_min(1e-12)
    energy_A = torch.zeros(BINS, dtype=torch.float64).index_add_(0, bin_N, energy_N)
    hits_A = torch.bincount(bin_N, minlength=BINS)
    # A few pseudo-counts of the average keep rare bins sane.
    size_A = ((energy_A + 8 * energy_N.mean()) / (hits_A + 8)).sqrt().clamp_min(1e-4).float()
    predictor = replace(plain, edge_A=edge_A.float(), size_A=size_A)
    size_N = size_A.double()[bin_N]
    detail_NC = predictor.to_detail(left_NX / size_N[:, None], dim)
    return Fitted(predictor, detail_NC.float(), (size_N / size_N.mean()).float())


def steady_weights(
    features: Sequence[Tensor], wanted: Sequence[Tensor], towards: Leaning | None = None
) -> Float[Tensor, "H F x"]:
    """Least squares by history, with as much ridge as it takes for an error not to grow from slot to slot.

    Motion that can be foretold all but exactly (simulated, few episodes) is extrapolated so boldly that one wrong code
    would run away. Ridge leads to holding the last frame, which carries an error on and never enlarges it.
    """
    X = wanted[0].shape[1]
    ridge = _RIDGE
    while True:
        weight_HFX = torch.stack(
            [least_squares(f, w, ridge, towards, h) for h, (f, w) in enumerate(zip(features, wanted, strict=True))]
        ).float()
        steady = SlotPredictor(weight_HFX, torch.eye(X), torch.empty(0), torch.ones(1)).carried_error() <= 1.0
        if steady or ridge > _RIDGE_MOST:
            return weight_HFX
        ridge *= 10


def least_squares(
    features_NF: Tensor, wanted_NX: Tensor, ridge: float = _RIDGE, towards: Leaning | None = None, history: int = 0
) -> Float[Tensor, "F x"]:
    gram = features_NF.T @ features_NF
    eye = torch.eye(len(gram), dtype=gram.dtype)
    ask = features_NF.T @ wanted_NX
    if towards is not None:  # so many slots whose features are as large as these, and independent
        more = towards.slots * gram.diagonal().mean() / len(features_NF)
        gram, ask = gram + more * eye, ask + more * towards.weight_HFX[history].to(ask)
    return torch.linalg.solve(gram + ridge * len(features_NF) * eye, ask)


def _some(x_N: Tensor, most: int = 100_000) -> Tensor:
    """Every n-th value: torch.quantile takes 16 million at most, and needs far fewer."""
    return x_N[:: max(1, len(x_N) // most)]


def draw_details(parts: Sequence[Fitted], count: int, generator: torch.Generator) -> Float[Tensor, "N C"]:
    """Details in proportion to their weights, for k-means."""
    detail_NC, weight_N = torch.cat([p.detail_NC for p in parts]), torch.cat([p.weight_N for p in parts])
    return detail_NC[torch.multinomial(weight_N, count, replacement=True, generator=generator)]


def place_slotwise(
    codec: GaussianCodec,
    name: str,
    samples: Sequence[Sample],
    generator: torch.Generator,
    vectors: int,
    seed: int,
    iterations: int,
) -> Fitted:
    """Slot predictor and detail books of one robot: first on its past as it was, then as the books decode it."""
    dim, book = codec.config.code_dim, codec.residual.of(name)
    fitted = fit_slotwise(samples, dim, emphasis(codec, codec.robots[name]))
    book.initialise(draw_details([fitted], vectors, generator), iterations=iterations, seed=seed)
    fitted = refit_slotwise(fitted, samples, dim, book)
    # Books come last: they are bound to the directions of the predictor that they are used with.
    book.initialise(draw_details([fitted], vectors, generator), iterations=iterations, seed=seed)
    codec.add_robot(replace(codec.robots[name], slotwise=fitted.predictor))
    return fitted


def emphasis(codec: GaussianCodec, prior: MotionPrior, power: float = EMPHASIS) -> Float[Tensor, " K"] | None:
    """Between half ranges, in which l1 is counted, and metres and radians, in which a robot misses a thing.

    Where a wrist hardly turns, half its range is a few degrees, and bits would go to hundredths of a degree.
    """
    if codec.config.coarse_space != "physical":
        return None
    return prior.coarse_unit_K.pow(-power).float()


@dataclass(frozen=True)
class Virtual:
    """Some channels of a robot, as if they were a robot of their own."""

    name: str
    mask_D: Bool[np.ndarray, " D"]


def virtual_robots(codec: GaussianCodec, seed: int, count: int = VIRTUAL_ROBOTS) -> list[Virtual]:
    """Robots of few joints out of those of the corpus, in equal numbers: shared books are for robots not seen yet.

    Whole robots if they are small enough, else runs of neighbouring channels (an arm, a finger) and random ones.
    """
    random = np.random.default_rng(seed)
    low, high = VIRTUAL_CHANNELS
    names = sorted(codec.robots)
    out = []
    for i in range(count):
        name = names[i % len(names)]
        full_D = codec.robots[name].statistics.moving_D
        channels = np.flatnonzero(full_D)
        size = min(int(random.integers(low, high + 1)), len(channels))
        if i < len(names) and len(channels) <= high:
            chosen = channels
        elif (i // len(names)) % 2:
            chosen = random.choice(channels, size, replace=False)
        else:
            start = int(random.integers(0, len(channels) - size + 1))
            chosen = channels[start : start + size]
        mask_D = np.zeros_like(full_D)
        mask_D[chosen] = True
        out.append(Virtual(name, mask_D))
    return out


@torch.no_grad()
def place_shared(
    codec: GaussianCodec, corpus: Corpus, generator: torch.Generator, vectors: int, seed: int, iterations: int
) -> GenericSlotPredictor:
    """Shared books of q0 and details on virtual robots, and the slot predictor of robots that were not measured."""
    robots = virtual_robots(codec, seed)
    each = max(256, 2 * vectors // len(robots))
    drawn = [
        [
            narrowed(chunks, robot.mask_D)
            for chunks in draw_batches(corpus.of(robot.name), each, generator, longest=True)
        ]
        for robot in track(robots, "chunks of virtual robots", "robot")
    ]
    latents = torch.cat([_latents(codec, chunks) for batches in drawn for chunks in batches])
    chosen = torch.randperm(len(latents), generator=generator)[:vectors]
    codec.coarse.shared.initialise(latents[chosen], iterations=iterations, seed=seed)
    samples = [samples_of(codec, batches, codec.coarse.shared) for batches in drawn]
    dim, book = codec.config.code_dim, codec.residual.shared
    fitted = [fit_slotwise(part, dim) for part in track(samples, "predictors of virtual robots", "robot")]
    book.initialise(draw_details(fitted, vectors, generator), iterations=iterations, seed=seed)
    pairs = list(zip(fitted, samples, strict=True))
    fitted = [refit_slotwise(first, part, dim, book) for first, part in track(pairs, "the same as decoded", "robot")]
    book.initialise(draw_details(fitted, vectors, generator), iterations=iterations, seed=seed)
    spectrum_C = torch.stack([rms(part.detail_NC) for part in fitted]).square().mean(dim=0).sqrt()
    return _generic(samples, fitted, book, spectrum_C)


def narrowed(chunks: ChunkBatch, mask_D: Bool[np.ndarray, " D"]) -> ChunkBatch:
    """Chunks with these channels only."""
    kept_D = torch.from_numpy(mask_D.copy())
    context = replace(chunks.context, mask_BD=chunks.context.mask_BD & kept_D)
    return ChunkBatch(torch.where(kept_D, chunks.target_BTD, 0.0), context)


def _latents(codec: GaussianCodec, chunks: ChunkBatch) -> Float[Tensor, "N C"]:
    batch_context = codec.batch_context(chunks.context)
    return codec.latents(codec.motion(chunks, batch_context), batch_context).flatten(0, 1).float()


def rms(x_NC: Tensor) -> Float[Tensor, " C"]:
    return x_NC.square().mean(dim=0).sqrt()


def _generic(
    samples: Sequence[Sequence[Sample]], fitted: Sequence[Fitted], book: ResidualQuantizer, spectrum_C: Tensor
) -> GenericSlotPredictor:
    """One predictor for every channel of every virtual robot, as their decoded past tells it."""
    features: list[list[Tensor]] = [[] for _ in range(PAST + 1)]
    wanted: list[list[Tensor]] = [[] for _ in range(PAST + 1)]
    for part, found in zip(samples, fitted, strict=True):
        K, dim = found.predictor.channels, len(spectrum_C)
        for step in _steps(found.predictor, part, dim, through(book, 1)):
            features[step.history].append(step.features_BF.view(-1, FEATURES, K).mT.flatten(0, 1))
            wanted[step.history].append(step.wanted_BX.view(-1, FRAMES_PER_SLOT, K).mT.flatten(0, 1))
    inputs, outputs = [torch.cat(f) for f in features], [torch.cat(w) for w in wanted]
    weight = torch.stack([least_squares(f, w) for f, w in zip(inputs, outputs, strict=True)])
    left = torch.cat([w - f @ p for f, w, p in zip(inputs, outputs, weight, strict=True)])
    covariance = left.T @ left / len(left)
    edge_A = torch.stack([part.predictor.edge_A for part in fitted]).mean(dim=0)
    size_A = torch.stack([part.predictor.size_A for part in fitted]).log().mean(dim=0).exp()
    return GenericSlotPredictor(weight.float(), covariance.float(), edge_A, size_A, spectrum_C)


def measured_books(codec: GaussianCodec, prior: MotionPrior, samples: Sequence[Sample]) -> Float[Tensor, " C"]:
    """Add a robot with a slot predictor of its own and the shared detail books, stretched to how its details spread.

    Nothing is placed on its data: a code has the shared books' shape, in the units of the robot. Returns the stretch.
    The predictor leans on that of any robot, which weighs as much as a few slots.
    """
    assert codec.generic is not None and codec.generic.slotwise is not None
    dim, shared, book = codec.config.code_dim, codec.residual.shared, codec.residual.add(prior.statistics.embodiment)
    spectrum_C = codec.generic.slotwise.spectrum_C.clamp_min(1e-9)
    towards = Leaning(codec.generic.slotwise.for_channels(len(prior.scale_K)).weight_HFX, GENERIC_SLOTS)

    def stretch(to: Fitted) -> Float[Tensor, " C"]:
        own_C = rms(to.detail_NC)
        by_C = torch.where(own_C > 0, (own_C / spectrum_C).clamp(0.05, 20.0), 1.0)
        book.books_QVC.copy_(shared.books_QVC * by_C)
        book.restart_from_books()
        return by_C

    fitted = fit_slotwise(samples, dim, towards=towards)
    stretch(fitted)
    fitted = refit_slotwise(fitted, samples, dim, book, towards)
    stretch_C = stretch(fitted)
    codec.add_robot(replace(prior, slotwise=fitted.predictor))
    return stretch_C
