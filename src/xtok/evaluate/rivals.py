"""FAST as the one to beat: the best of its forms, chosen on train episodes, at scales that enclose our own rates.

# T frames of a chunk, M = ceil(T / 4)

First a pilot for each form that may be the best: small vocabularies fitted on four of five train episodes, judged on
the fifth. It tells which form errs less at equal bits, and at which scales the rates of interest lie. Rotations are
chosen with 0 at rest, then where 0 is. Then the chosen form is fitted on all train chunks. The evaluated chunks only
say whether the sweep reaches far enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from xtok.actions.statistics import Statistics
from xtok.actions.types import ChunkBatch, Codes, concatenate, slots
from xtok.baselines.common import Form, forms_of, is_at_rest, is_tangent
from xtok.baselines.fast import VOCAB_SIZE, Cosines, FastTokenizer, cosines, finest_scale
from xtok.data.chunks import count_chunks, iter_chunks
from xtok.data.episode import Episode
from xtok.evaluate.coded import Coded
from xtok.evaluate.compare import CURVE, FAST
from xtok.evaluate.errors import measure
from xtok.evaluate.progress import Tell, silent
from xtok.evaluate.rate import RatePoint, bits_mean
from xtok.evaluate.result import FastFitJson
from xtok.evaluate.strides import stride_within
from xtok.evaluate.sweep import Price, Sweep, enclose, grid

PILOT_FITTED, PILOT_JUDGED = 1024, 512  # chunks
# Long chunks of many channels are fitted on fewer, on half as many at least: a form's mean l1 is then 2 % higher (G1's
# poses, T 64) for all forms alike, and three pilots take no longer than two did.
PILOT_COEFFICIENTS = 500_000
JUDGED_EVERY = 5  # one train episode in so many judges the forms, the others fit the pilots
WIDER = 1.5  # a scale beyond the pilot's where evaluated chunks want one
WIDENED = 4  # times, at most
PILOT_MARGIN = 0.07  # pilots, fitted on few chunks, spend a few per cent more than the full fit
# Byte pairs are learnt in time that grows with all coefficients. Beyond so many, chunks overlap so much that they
# teach nothing more: 4,000 chunks in place of 8,000 cost FAST .1 to .7 % of its tokens (poses of G1, T 64).
COEFFICIENTS, CHUNKS_LEAST = 6_000_000, 4000
GRID = 65  # bits at which two forms are held against each other


@dataclass(frozen=True)
class Rates:
    """What a sweep has to enclose: from the subject's coarsest rate to its finest, and from M tokens to 4M."""

    low: Price
    high: Price
    own_bits: float

    @staticmethod
    def of(subject: Coded) -> Rates:
        bits = [bits_mean(codes) for codes in subject.rate_codes]
        M = slots(subject.chunks.context.horizon)
        return Rates(Price(min(bits), M * CURVE[0]), Price(max(bits), M * CURVE[-1]), bits_mean(subject.codes))


@dataclass(frozen=True)
class Pilot:
    """One form on train episodes: what each scale spends, and its rate-distortion curve on the episodes that judge."""

    spent: dict[float, Price]
    points: list[RatePoint]


@dataclass(frozen=True)
class FastFit:
    """coded: the evaluated chunks through the sweep. how: for the JSON."""

    coded: Coded
    form: Form
    how: FastFitJson

    @property
    def sweep(self) -> Sweep:
        assert isinstance(self.coded.tokenizer, Sweep)
        return self.coded.tokenizer


def fit_fast(
    train_episodes: Sequence[Episode],
    subject: Coded,
    statistics: Mapping[str, Statistics],
    max_chunks: int,
    tell: Tell = silent,
) -> FastFit:
    """FAST beside `subject`, its vocabularies fitted on at most `max_chunks` chunks of train episodes (`affordable`).

    Raises:
        ValueError: no train episode longer than T.
    """
    context = subject.chunks.context
    horizon = context.horizon
    usable = [episode for episode in train_episodes if len(episode) > horizon]
    if not usable:
        raise ValueError(f"FAST needs train episodes longer than {horizon} frames; leave it out of the baselines")
    channels = max(int(episode.mask_D.sum()) for episode in usable)
    stride = stride_within(usable, horizon, affordable(max_chunks, horizon * channels))
    train = concatenate(list(iter_chunks(usable, horizon, stride)))
    rates = Rates.of(subject)
    fitted = max(PILOT_FITTED // 2, min(PILOT_FITTED, PILOT_COEFFICIENTS // (horizon * channels)))
    fit_rows, judge_rows = _parts([count_chunks([episode], horizon, stride) for episode in usable], fitted)
    pilots: dict[Form, Pilot] = {}

    def best_of(*forms: Form) -> tuple[Form, dict[str, float]]:
        for form in forms:
            if form not in pilots:
                within = tell.within(0.08 * len(pilots), 0.08 * (len(pilots) + 1))
                parts = train.take(fit_rows), train.take(judge_rows)
                pilots[form] = _pilot(form, *parts, statistics, rates, within)
        return better_form({form: pilots[form].points for form in forms}, rates)

    forms = forms_of(context.layout)
    rotations, _ = best_of(*(form for form in forms if is_at_rest(form)))
    best_of(*(form for form in forms if is_tangent(form) is is_tangent(rotations)))
    form, geometric = best_of(*pilots)  # all over the same bits
    whole = cosines(statistics, [train], form)
    finest = finest_scale(whole)
    scales = grid(pilots[form].spent, rates.low.times(1 - PILOT_MARGIN), rates.high.times(1 + PILOT_MARGIN), finest)

    def fit(scale: float) -> FastTokenizer:
        return FastTokenizer(statistics, scale, form=form, name=FAST).fit_cosines(whole)

    coded = sweep_over(FAST, fit, scales, subject, rates, finest, tell.within(0.25, 1.0))
    sweep = coded.tokenizer
    assert isinstance(sweep, Sweep)
    how: FastFitJson = {
        "chunks": len(train),
        "chunk_stride": stride,
        "scales": list(sweep.by_scale),
        "headline_scale": sweep.headline_scale,
        "form": form,
        "chosen_on_train": {
            "fitted_chunks": len(fit_rows),
            "judged_chunks": len(judge_rows),
            "mean_l1_at_equal_bits": geometric,
            "curves": {form: [point.to_dict() for point in pilot.points] for form, pilot in pilots.items()},
        },
    }
    return FastFit(coded, form, how)


def affordable(max_chunks: int, coefficients: int) -> int:
    """How many chunks of so many coefficients to fit vocabularies on, `max_chunks` at most."""
    return min(max_chunks, max(CHUNKS_LEAST, COEFFICIENTS // coefficients))


def better_form(curves: Mapping[Form, Sequence[RatePoint]], rates: Rates) -> tuple[Form, dict[str, float]]:
    """The form of the lower l1 at equal bits, and of each the geometric mean of l1 over the bits of interest.

    Over the bits that all forms reach; where there are none, each form's nearest end stands for it.
    """
    low = max(rates.low.bits, *(min(point.bits for point in points) for points in curves.values()))
    high = min(rates.high.bits, *(max(point.bits for point in points) for points in curves.values()))
    bits = np.linspace(min(low, high), max(low, high), GRID)
    means = {}
    for form, points in curves.items():
        rising = sorted(points, key=lambda point: point.bits)
        log_l1 = np.log([max(point.l1, 1e-12) for point in rising])
        means[form] = math.exp(float(np.interp(bits, [point.bits for point in rising], log_l1).mean()))
    return min(means, key=lambda form: means[form]), {str(form): mean for form, mean in means.items()}


def sweep_over(
    name: str,
    fit: Callable[[float], FastTokenizer],
    scales: Sequence[float],
    subject: Coded,
    rates: Rates,
    finest: float,
    tell: Tell = silent,
) -> Coded:
    """FAST fitted at `scales`, and beyond them where that is not enough to enclose `rates` on the evaluated chunks."""
    fitted: dict[float, FastTokenizer] = {}
    given: Cosines | None = None
    codes: dict[float, Codes] = {}
    spent: dict[float, Price] = {}

    def add(scale: float) -> None:
        nonlocal given
        tell(f"fitting {name} at scale {scale:.3g}", min(0.98, len(fitted) / (len(scales) + 1)))
        fitted[scale] = fit(scale)
        if given is None:
            given = cosines(fitted[scale].statistics, [subject.chunks], fitted[scale].form)
        codes[scale] = fitted[scale].encode_cosines(given)
        spent[scale] = Price.of(codes[scale])

    for scale in scales:
        add(min(scale, finest))
    for _ in range(WIDENED):
        coarsest, dearest = min(fitted), max(fitted)
        if spent[coarsest].exceeds(rates.low) > 1 and coarsest > 1e-3:
            add(coarsest / WIDER)
        if spent[dearest].falls_short(rates.high) > 1 and dearest < finest:
            add(min(dearest * WIDER, finest))
    under, over = None, None
    if spent[min(fitted)].exceeds(rates.low) > 1:
        under = f"even at scale {min(fitted):.3g} it spends no less"
    if spent[max(fitted)].falls_short(rates.high) > 1:
        full = max(fitted) >= finest
        under_what = f"a vocabulary of {VOCAB_SIZE} has no room for a finer one" if full else "finer ones spend no more"
        over = f"{under_what} than scale {max(fitted):.3g}"
    rising = sorted(fitted)
    headline = min(spent, key=lambda scale: abs(math.log(spent[scale].bits / rates.own_bits)))
    sweep = Sweep(name, {scale: fitted[scale] for scale in rising}, headline, (under, over))
    return Coded(sweep, subject.chunks, subject.train, [codes[scale] for scale in rising])


def _pilot(
    form: Form,
    fit_chunks: ChunkBatch,
    judge: ChunkBatch,
    statistics: Mapping[str, Statistics],
    rates: Rates,
    tell: Tell,
) -> Pilot:
    train, judged = (cosines(statistics, [chunks], form) for chunks in (fit_chunks, judge))
    spent: dict[float, Price] = {}
    points: list[RatePoint] = []

    def spend(scale: float) -> Price:
        tell(f"which scales of {FAST}, {form}", len(spent) / (len(spent) + 4))
        tokenizer = FastTokenizer(statistics, scale, form=form).fit_cosines(train)
        codes = tokenizer.encode_cosines(judged)
        spent[scale] = Price.of(codes)
        errors = measure(judge, tokenizer.decode(codes, judge.context), statistics)
        points.append(
            RatePoint(
                spent[scale].bits,
                errors.l1,
                spent[scale].tokens,
                None,
                errors.position_mm,
                errors.rotation_deg,
                errors.joint,
            )
        )
        return spent[scale]

    enclose(spend, rates.low, rates.high, finest_scale(train))
    return Pilot(spent, sorted(points, key=lambda point: point.bits))


def _parts(counts: Sequence[int], fitted: int = PILOT_FITTED) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows that fit pilots (so many at most) and rows that judge them, of chunks that lie episode after episode; apart
    by episode where there are enough of them, else by their place in time."""
    episode_N = np.repeat(np.arange(len(counts)), counts)
    rows_N = np.arange(len(episode_N))
    if len(counts) >= JUDGED_EVERY:
        judges_N = episode_N % JUDGED_EVERY == JUDGED_EVERY - 1
    else:
        judges_N = rows_N >= len(rows_N) * (JUDGED_EVERY - 1) // JUDGED_EVERY
    if judges_N.all() or not judges_N.any():  # a single chunk
        return torch.from_numpy(rows_N), torch.from_numpy(rows_N)
    return _some(rows_N[~judges_N], fitted), _some(rows_N[judges_N], PILOT_JUDGED)


def _some(rows: np.ndarray, most: int) -> torch.Tensor:
    picked = np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)
    return torch.from_numpy(rows[picked])
