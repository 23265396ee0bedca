"""Motion words beside FAST along the number of tokens: l1, millimetres, degrees, and how steady words are. JSON out.

python experiments/words_curve.py DATA... -o words-curve.json [--validation] [--total 32768]
    [--words-from DATA... | --shared-from DATA...]

A robot's own words (or those of a book placed on other sets) and own residual books, fitted on train episodes; with
--shared-from words and residual books are placed on other sets alone, and the robot is measured on them; FAST on
tangent channels with a vocabulary of 2,048, fitted on the same ones, on values centred in their range (as `xtok eval`
has it) and on values that are 0 at rest, whichever errs less. Figures are of held-out episodes; with --validation of
every fifth train episode, which is then kept from all fits: all choices are made there. Errors are at M, 2M, 3M and 4M
mean tokens (M = T / 4), read off a sweep of rates (FAST: of scales), log error linear in tokens.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from scipy.fft import dct, idct
from torch import Tensor

from xtok.actions.delta import tangent_mask
from xtok.actions.statistics import Statistics
from xtok.actions.tangent import tangent_centre, tangent_scale
from xtok.actions.types import Actions, ChunkBatch, Codes, Context, concatenate, slots
from xtok.baselines.common import normalised_chunks, to_actions
from xtok.baselines.fast import Cosines, FastTokenizer, finest_scale
from xtok.codec.words import FitSettings, Grammar, Sequences, WordModel, Words, encode, fit, ridge_for
from xtok.codec.words.fit import word_space
from xtok.codec.words.fit_shared import FEWEST, Taught, fit_shared
from xtok.codec.words.fit_shared import measure as measure_robot
from xtok.codec.words.shared import Member, physical_book, whitened_book, with_physical_book, with_whitened_book
from xtok.codec.words.shared_books import SharedBooks
from xtok.data import Episode, iter_chunks, open_dataset, select
from xtok.evaluate.compare import CURVE, Rival, at
from xtok.evaluate.errors import measure
from xtok.evaluate.rate import RatePoint, tokens_mean
from xtok.evaluate.rivals import affordable
from xtok.evaluate.robustness import add_noise
from xtok.evaluate.strides import spread_chunks, stride_within
from xtok.evaluate.sweep import Price, enclose
from xtok.pretrain.corpus import VALIDATION_EVERY, Corpus

Result = TypeVar("Result")
RATES = (0.0, 0.002, 0.006, 0.015, 0.04, 0.1, 0.25, 0.6, 1.5, 4.0)
SIGMAS = (0.004, 0.008)
SPACE = 6_000  # windows that the space of shared words is fitted on
BITS = 11.0  # of a FAST token, vocabulary 2,048
FIGURES = ("l1", "position_mm", "rotation_deg", "joint")


@dataclass(frozen=True)
class Robot:
    """One robot of a set, as motion words see it: its moving tangent channels over half their range, not centred."""

    name: str
    statistics: Statistics
    corpus: Corpus
    train: list[Episode]
    judged: list[Episode]

    @property
    def frames(self) -> int:
        """Recorded ones that everything is fitted on."""
        return sum(len(episode) for episode in self.train)

    @property
    def channels(self) -> Tensor:
        return tangent_mask(self.corpus.layout, torch.from_numpy(self.statistics.moving_D.copy()))

    @property
    def scale_K(self) -> Tensor:
        return tangent_scale(self.corpus.layout, self.statistics)[self.channels]

    @property
    def shift_K(self) -> Tensor:
        return tangent_centre(self.corpus.layout, self.statistics)[self.channels] / self.scale_K

    def motion(self, chunks: ChunkBatch) -> Tensor:
        """[B, T, K], float64."""
        values = torch.from_numpy(normalised_chunks({self.name: self.statistics}, chunks, "tangent"))
        return values[..., self.channels] + self.shift_K

    def actions(self, motion_BTK: Tensor, context: Context) -> Actions:
        values = torch.zeros(*motion_BTK.shape[:2], len(self.channels), dtype=torch.float64)
        values[..., self.channels] = motion_BTK - self.shift_K
        failed = np.zeros(len(motion_BTK), dtype=bool)
        return to_actions({self.name: self.statistics}, context, values.numpy(), failed, "tangent")

    def windows(self, count: int, seed: int) -> Tensor:
        """[N, 64, K] of train motion, played at several speeds and backwards too."""
        generator = torch.Generator().manual_seed(seed)
        return (self.corpus.windows(self.name, count, generator).double() / self.scale_K).float()

    def chunks(self, horizon: int, count: int) -> ChunkBatch | None:
        return spread_chunks(self.judged, horizon, count)


def robots_of(folder: Path, validation: bool) -> list[Robot]:
    """The robots of a set, with episodes to fit on and episodes to judge on."""
    dataset = open_dataset(folder)
    train = [episode for episode in select(dataset, "train") if len(episode) > 8]
    held_out = [] if validation else list(select(dataset, "heldout"))
    found = []
    for name in dataset.embodiments:
        mine = [episode for episode in train if episode.embodiment == name]
        judged = [episode for episode in held_out if episode.embodiment == name]
        corpus = Corpus(dataset.layout, mine, validation=validation)
        if validation:
            judged = mine[VALIDATION_EVERY - 1 :: VALIDATION_EVERY]
            mine = [e for i, e in enumerate(mine) if i % VALIDATION_EVERY != VALIDATION_EVERY - 1]
        found.append(Robot(name, corpus.statistics[name], corpus, mine, judged))
    return found


# -- FAST --------------------------------------------------------------------------------------------------------------


def fast_points(robot: Robot, chunks: ChunkBatch) -> dict[str, list[RatePoint]]:
    """FAST at scales that enclose M to 4M tokens on the judged chunks, by where its values are 0."""
    horizon = chunks.context.horizon
    usable = [episode for episode in robot.train if len(episode) > horizon]
    most = affordable(8000, horizon * int(robot.statistics.mask_D.sum()))
    train = concatenate(list(iter_chunks(usable, horizon, stride_within(usable, horizon, most))))
    return {zero: _sweep(robot, train, chunks, zero) for zero in ("centre", "rest")}


def _sweep(robot: Robot, train: ChunkBatch, chunks: ChunkBatch, zero: str) -> list[RatePoint]:
    shift_K = robot.shift_K if zero == "centre" else torch.zeros_like(robot.shift_K)
    whole, given = (_cosines(robot.motion(part) - shift_K) for part in (train, chunks))
    statistics = {robot.name: robot.statistics}
    points: dict[float, RatePoint] = {}

    def spend(scale: float) -> Price:
        fast = FastTokenizer(statistics, scale).fit_cosines(whole)
        codes = fast.encode_cosines(given)
        # What its tokens decode to: they carry the rounded coefficients and lose nothing more.
        rounded = [np.around(values * scale).clip(fast._low, fast._high) / scale for values in given.flat]
        coefficients = np.stack(rounded).reshape(len(chunks), given.horizon, -1)
        decoded = torch.from_numpy(idct(coefficients, axis=1, norm="ortho")) + shift_K
        points[scale] = judged(robot, chunks, decoded, codes)
        return Price.of(codes)

    low, high = (Price(times * slots(given.horizon) * BITS, times * slots(given.horizon)) for times in (1, CURVE[-1]))
    enclose(spend, low, high, finest_scale(whole))
    for left, right in pairwise(sorted(points)):  # interpolation between far points would flatter us
        spend((left * right) ** 0.5)
    return list(points.values())


def _cosines(motion_BTK: Tensor) -> Cosines:
    found = dct(motion_BTK.numpy(), axis=1, norm="ortho")
    return Cosines(motion_BTK.shape[1], "tangent", tuple(values.reshape(-1) for values in found))


def judged(robot: Robot, chunks: ChunkBatch, decoded_BTK: Tensor, codes: Codes) -> RatePoint:
    """l1: mean absolute error over the moving tangent channels, normalised; the others as `xtok eval` has them."""
    errors = measure(chunks, robot.actions(decoded_BTK, chunks.context), {robot.name: robot.statistics})
    l1 = float((decoded_BTK - robot.motion(chunks)).abs().mean())
    tokens = tokens_mean(codes)
    return RatePoint(tokens * BITS, l1, tokens, None, errors.position_mm, errors.rotation_deg, errors.joint)


# -- words -------------------------------------------------------------------------------------------------------------


def word_points(
    robot: Robot, model: WordModel, chunks: ChunkBatch, rates: Sequence[float], paths: int, beam: int
) -> list[RatePoint]:
    """Errors at each rate; from ids, as a reader of the codes would have them."""
    motion = robot.motion(chunks)
    horizon, points = chunks.context.horizon, []
    for rate in rates:
        ids = encode(model, motion, rate, paths, beam).ids(model.grammar)
        decoded = model.decode(ids, horizon)
        points.append(judged(robot, chunks, decoded, Codes(tuple(ids), model.grammar.total)))
    return points


def steadiness(robot: Robot, model: WordModel, chunks: ChunkBatch, rate: float, paths: int, beam: int) -> dict:
    """Shares of words and of residual tokens that noise changes, by sigma. Residuals are compared where both codings
    have a segment of the same place and length that is as deep."""
    clean = encode(model, robot.motion(chunks), rate, paths, beam)
    out: dict[str, Any] = {"rate": rate, "tokens": float(clean.tokens_B.double().mean())}
    for sigma in SIGMAS:
        noisy = encode(model, robot.motion(add_noise(chunks, sigma, 0)), rate, paths, beam)
        out[str(sigma)] = changed(clean, noisy)
    return out


def changed(clean: Sequences, noisy: Sequences) -> dict[str, float]:
    same = (clean.length_BM == noisy.length_BM)[..., None] & (clean.codes_BMQ >= 0) & (noisy.codes_BMQ >= 0)
    differ = (clean.codes_BMQ != noisy.codes_BMQ)[same].double()
    return {
        "words": float((clean.words_BN != noisy.words_BN).double().mean()),
        "residuals": float(differ.mean()) if len(differ) else float("nan"),
        "compared": int(same.sum()),
    }


# -- one set -----------------------------------------------------------------------------------------------------------


def curve_of(words: list[RatePoint], fast: dict[str, list[RatePoint]], horizon: int) -> list[dict]:
    """Errors at M to 4M tokens and the ratios to FAST's; None outside a sweep."""
    rows = []
    for times in CURVE:
        tokens = times * slots(horizon)
        ours = at(Rival("words", words), "tokens", tokens)
        theirs = [at(Rival("fast", points), "tokens", tokens) for points in fast.values()]
        row: dict = {"times": times, "tokens": tokens}
        for figure in FIGURES:
            mine = getattr(ours, figure)
            his = min((found for each in theirs if (found := getattr(each, figure)) is not None), default=None)
            if mine is not None or his is not None:
                ratio = None if mine is None or not his else mine / his
                row[figure] = {"words": mine, "fast": his, "ratio": ratio}
        if reasons := [each.reason for each in (ours, *theirs) if each.reason]:
            row["reasons"] = reasons
        rows.append(row)
    return rows


def speed(robot: Robot, model: WordModel, rate: float = 0.3, horizon: int = 32, batch: int = 256) -> dict:
    """CPU milliseconds a chunk on one thread, in batches: encoding by paths, decoding from ids."""
    motion = robot.windows(batch, 1)[:, :horizon].double()
    out: dict = {"horizon": horizon, "batch": batch, "rate": rate, "channels": model.channels, "encode_ms": {}}
    ids: list[np.ndarray] = []
    for paths in (1, 2, 4, 8, 16):
        ids, taken = _timed(partial(_coded, model, motion, rate, paths), batch)
        off = (model.decode(ids, horizon) - motion).abs().mean()
        tokens = float(np.mean([len(each) for each in ids]))
        out["encode_ms"][str(paths)] = {"ms": taken, "tokens": tokens, "l1": float(off)}
    out["decode_ms"] = _timed(partial(model.decode, ids, horizon), batch)[1]
    return out


def _coded(model: WordModel, motion: Tensor, rate: float, paths: int) -> list[np.ndarray]:
    return encode(model, motion, rate, paths).ids(model.grammar)


def _timed(function: Callable[[], Result], batch: int) -> tuple[Result, float]:
    """What a function gives, and the least of three runs' CPU milliseconds a chunk."""
    taken = []
    for _ in range(3):
        start = _cpu()
        result = function()
        taken.append((_cpu() - start) * 1000 / batch)
    return result, round(min(taken), 4)


def members_of(folders: Sequence[Path], args: argparse.Namespace) -> list[tuple[Robot, Tensor]]:
    """The robots of other sets, and windows of their train episodes."""
    robots = [robot for folder in folders for robot in robots_of(folder, args.validation)]
    count = max(args.windows // max(1, len(robots)), min(args.windows, FEWEST))
    found = [(robot, robot.windows(count, args.seed)) for robot in robots]
    return [(robot, windows) for robot, windows in found if len(windows)]


def word_books(members: Sequence[tuple[Robot, Tensor]], size: int, settings: FitSettings) -> dict[str, Tensor]:
    """Words placed on other robots, by layout: physical for poses, whitened for joints."""
    layouts = {robot.corpus.layout.name: robot.corpus.layout for robot, _ in members}
    books = {}
    for name, layout in layouts.items():
        mine = [Member(r.channels, r.scale_K, windows) for r, windows in members if r.corpus.layout.name == name]
        books[name] = (
            whitened_book(mine, size, settings) if name == "joints" else physical_book(layout, mine, size, settings)
        )
    return books


def residual_books(
    members: Sequence[tuple[Robot, Tensor]], books: dict[str, Tensor], grammar: Grammar, settings: FitSettings
) -> SharedBooks:
    """Residual books placed on other robots, of all layouts together."""
    robots = [
        Taught(windows, placed(robot, books, windows, settings), ridge_for(robot.frames)) for robot, windows in members
    ]
    return fit_shared(robots, grammar, settings)


def placed(robot: Robot, books: dict[str, Tensor], windows: Tensor, settings: FitSettings) -> Words:
    """Shared words, as this robot has them."""
    layout = robot.corpus.layout.name
    if layout not in books:
        raise SystemExit(f"{robot.name} has layout {layout!r}; words were placed on {sorted(books)} alone")
    space = word_space(windows[:SPACE], robot.scale_K, settings)
    if books[layout].ndim == 2:
        return with_whitened_book(space, books[layout])
    return with_physical_book(space, books[layout], robot.channels, robot.scale_K)


def run(robot: Robot, args: argparse.Namespace, books: dict[str, Tensor], shared: SharedBooks | None) -> dict:
    grammar = Grammar.of_total(args.total, args.words)
    settings = FitSettings(seed=args.seed, ridge=ridge_for(robot.frames))
    start, cpu = time.time(), _cpu()
    windows = robot.windows(args.windows, args.seed)
    drawn = _cpu() - cpu
    words = placed(robot, books, windows, settings) if books else None
    if shared is None:
        model = fit(windows, robot.scale_K, grammar, settings, words)
    else:
        assert words is not None
        model = measure_robot(windows, words, shared, grammar, settings).model
    out: dict = {
        "robot": robot.name,
        "channels": model.channels,
        "train_frames": robot.frames,
        "fit_cpu_s": round(_cpu() - cpu, 1),
        "windows_cpu_s": round(drawn, 1),
        "fit_s": round(time.time() - start, 1),
        "speed": speed(robot, model),
        "horizons": {},
    }
    for horizon in args.horizons:
        chunks = robot.chunks(horizon, args.chunks)
        if chunks is None:
            continue
        ours = word_points(robot, model, chunks, args.rates, args.paths, args.beam)
        fast = fast_points(robot, chunks) if args.fast else {}
        out["horizons"][str(horizon)] = {
            "chunks": len(chunks),
            "curve": curve_of(ours, fast, horizon),
            "words": [asdict(point) for point in ours],
            "fast": {zero: [asdict(point) for point in points] for zero, points in fast.items()},
            "steadiness": [steadiness(robot, model, chunks, rate, args.paths, args.beam) for rate in (0.1, 0.6)],
        }
        told = " ".join(
            "-"
            if "l1" not in row or row["l1"]["words"] is None
            else f"{row['l1']['words']:.5f}({row['l1']['ratio'] or float('nan'):.2f})"
            for row in out["horizons"][str(horizon)]["curve"]
        )
        print(robot.name, "T", horizon, "l1 at M..4M (of FAST):", told, flush=True)
    return out


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--validation", action="store_true", help="judge on every fifth train episode")
    parser.add_argument("--total", type=int, default=32768, help="ids of the vocabulary")
    parser.add_argument("--words", type=int, default=None, help="of these ids, words (an eighth, at most 2,048)")
    parser.add_argument("--words-from", type=Path, nargs="+", default=[], help="sets to place one book of words on")
    parser.add_argument("--shared-from", type=Path, nargs="+", default=[], help="sets to place all books on")
    parser.add_argument("--horizons", type=lambda text: [int(t) for t in text.split(",")], default=[8, 16, 32, 64])
    parser.add_argument("--rates", type=lambda text: [float(t) for t in text.split(",")], default=list(RATES))
    parser.add_argument("--windows", type=int, default=14_000)
    parser.add_argument("--chunks", type=int, default=240, help="judged, at most, of each length")
    parser.add_argument("--paths", type=int, default=4)
    parser.add_argument("--beam", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-fast", dest="fast", action="store_false")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.words_from and args.shared_from:
        parser.error("--words-from and --shared-from exclude each other: the latter places words too")
    grammar, settings = Grammar.of_total(args.total, args.words), FitSettings(seed=args.seed)
    members = members_of([*args.words_from, *args.shared_from], args)
    books = word_books(members, grammar.words, settings)
    shared = residual_books(members, books, grammar, settings) if args.shared_from else None
    results = {}
    for folder in args.data:
        for robot in robots_of(folder, args.validation):
            results[f"{folder.name}/{robot.name}"] = run(robot, args, books, shared)
            about = {key: value for key, value in vars(args).items() if key not in ("data", "out")}
            for key in ("words_from", "shared_from"):
                about[key] = [folder.name for folder in getattr(args, key)]
            args.out.write_text(json.dumps({"settings": about, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
