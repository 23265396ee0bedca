"""The rivals of words_curve.py along the number of tokens: FAST in its forms, on a KLT, and with others' vocabulary.

- fast: rotation vectors, with 0 in the middle of a range and at rest: the sweeps of both, of which tables take the
  better one at each place, as nobody could who has to choose beforehand.
- columns: rotations as 6D columns, likewise. Robots with rotations alone.
- klt: rotation vectors with 0 at rest, on the robot's own principal directions of whole chunks.
- pooled: as fast, but its byte pairs and its range of coefficients are of other robots; of this one it knows the
  ranges of its channels.

Only channels that move are coded: no rival pays for a constant. A vocabulary may be any size.

# T frames, X moving channels of a form, K moving tangent channels
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import pairwise
from operator import add
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.fft import dct, idct
from torch import Tensor

from xtok.actions.tangent import normalise_tangent
from xtok.actions.types import ChunkBatch, Codes, Context, concatenate, slots
from xtok.baselines.common import Form, is_tangent, normalised_chunks, rest_of, to_actions
from xtok.baselines.fast import Cosines, FastTokenizer, finest_scale
from xtok.baselines.klt import Klt, fit_klt
from xtok.data import iter_chunks
from xtok.evaluate.compare import CURVE
from xtok.evaluate.errors import measure
from xtok.evaluate.rate import RatePoint, bits_mean, tokens_mean
from xtok.evaluate.rivals import affordable
from xtok.evaluate.strides import stride_within
from xtok.evaluate.sweep import Price, enclose

if TYPE_CHECKING:
    from words_curve import Robot

RIVALS = ("fast", "columns", "klt", "pooled")
FORMS: dict[str, tuple[Form, ...]] = {
    "fast": ("tangent", "tangent-rest"),
    "columns": ("columns", "columns-rest"),
    "klt": ("tangent-rest",),
    "pooled": ("tangent", "tangent-rest"),
}
TRAIN_CHUNKS = 8000  # as `xtok eval` fits FAST
Sweeps = dict[str, list[RatePoint]]


@dataclass(frozen=True, eq=False)
class Coder:
    """How a rival sees the motion of one robot: as coefficients of its moving channels in a form."""

    robot: Robot
    form: Form
    klt: Klt | None = None

    @cached_property
    def moving_X(self) -> np.ndarray:
        return self.robot.channels.numpy() if is_tangent(self.form) else self.robot.statistics.moving_D

    def coefficients(self, chunks: ChunkBatch) -> Cosines:
        values_BTX = normalised_chunks({self.robot.name: self.robot.statistics}, chunks, self.form)[..., self.moving_X]
        flat = tuple(dct(values_BTX, axis=1, norm="ortho").reshape(len(chunks), -1))
        given = Cosines(chunks.context.horizon, self.form, flat)
        return given if self.klt is None else self.klt.turn(given)

    def motion(self, flat: Sequence[np.ndarray], context: Context) -> Tensor:
        """What coefficients decode to, [B, T, K] as `Robot.motion`; of columns, proper rotations."""
        rows = list(flat) if self.klt is None else self.klt.back(flat)
        robot, statistics = self.robot, {self.robot.name: self.robot.statistics}
        shape = (len(rows), context.horizon)
        values_BTX = np.zeros((*shape, len(self.moving_X)))
        values_BTX[..., self.moving_X] = idct(np.stack(rows).reshape(*shape, -1), axis=1, norm="ortho")
        if is_tangent(self.form):
            centred = torch.from_numpy(values_BTX + rest_of(context.layout, robot.statistics, self.form))
        else:
            actions = to_actions(statistics, context, values_BTX, np.zeros(len(rows), dtype=bool), self.form)
            centred = normalise_tangent(statistics, context, actions.delta_BTD.double())
        return centred[..., robot.channels] + robot.shift_K


def rival_points(
    robot: Robot, chunks: ChunkBatch, rival: str, vocabulary: int, pool: Sequence[Robot] = ()
) -> Iterator[tuple[str, list[RatePoint]]]:
    """One of RIVALS on the judged chunks, at scales that enclose M to 4M tokens: name of a form, its points. Nothing
    where the robot has no such rival: no rotations, no pool, no train episode so long."""
    rotations = bool(chunks.context.layout.of_kind("rotation6d"))
    if rival == "columns" and not rotations:
        return
    horizon = chunks.context.horizon
    members = [each for each in pool if each.name != robot.name and each.corpus.layout == robot.corpus.layout]
    for form in FORMS[rival]:
        coder, reach = Coder(robot, form), 0.0
        if rival == "pooled":
            train = _fitted_on(members, form, horizon)
            # Its alphabet covers values in the ranges of the robot itself: no usual motion saturates.
            rest_X = rest_of(chunks.context.layout, robot.statistics, form)
            reach = (1 + float(np.abs(rest_X).max())) * math.sqrt(horizon)
        else:
            train = _fitted_on([robot], form, horizon)
        if train is None:
            return
        if rival == "klt":
            klt = fit_klt(train)
            coder, train = Coder(robot, form, klt), klt.turn(train)
        yield form, sweep(coder, train, chunks, vocabulary, reach)


def _fitted_on(robots: Sequence[Robot], form: Form, horizon: int) -> Cosines | None:
    """Coefficients of robots' train chunks, an even share of each; None where no episode is so long."""
    share = TRAIN_CHUNKS // max(1, len(robots))
    parts = [
        Coder(robot, form).coefficients(given) for robot in robots for given in train_chunks(robot, horizon, share)
    ]
    return reduce(add, parts) if parts else None


def train_chunks(robot: Robot, horizon: int, most: int) -> list[ChunkBatch]:
    """One batch of chunks to fit on; none where no episode is so long."""
    usable = [episode for episode in robot.train if len(episode) > horizon]
    if not usable:
        return []
    most = min(most, affordable(TRAIN_CHUNKS, horizon * int(robot.statistics.moving_D.sum())))
    return [concatenate(list(iter_chunks(usable, horizon, stride_within(usable, horizon, most))))]


def sweep(coder: Coder, train: Cosines, chunks: ChunkBatch, vocabulary: int, reach: float = 0.0) -> list[RatePoint]:
    """FAST at scales that enclose M to 4M tokens, and between each two: interpolation over more would flatter us."""
    given, statistics = coder.coefficients(chunks), {coder.robot.name: coder.robot.statistics}
    points: dict[float, RatePoint] = {}

    def spend(scale: float) -> Price:
        fast = FastTokenizer(statistics, scale, vocabulary, coder.form).fit_cosines(train, reach)
        codes = fast.encode_cosines(given)
        flat = [values for values in fast.decode_cosines(codes) if values is not None]
        points[scale] = judged(coder.robot, chunks, coder.motion(flat, chunks.context), codes)
        return Price(tokens_mean(codes), tokens_mean(codes))  # bits do not count here

    low, high = (Price(tokens, tokens) for tokens in (times * slots(given.horizon) for times in (1, CURVE[-1])))
    enclose(spend, low, high, finest_scale(train, vocabulary))
    for left, right in pairwise(sorted(points)):
        spend((left * right) ** 0.5)
    return list(points.values())


def judged(robot: Robot, chunks: ChunkBatch, decoded_BTK: Tensor, codes: Codes) -> RatePoint:
    """l1: mean absolute error over the moving tangent channels, normalised; the others as `xtok eval` has them."""
    errors = measure(chunks, robot.actions(decoded_BTK, chunks.context), {robot.name: robot.statistics})
    l1 = float((decoded_BTK - robot.motion(chunks)).abs().mean())
    price = bits_mean(codes), tokens_mean(codes)
    return RatePoint(price[0], l1, price[1], None, errors.position_mm, errors.rotation_deg, errors.joint)
