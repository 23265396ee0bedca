"""Motion words beside FAST along the number of tokens: l1, millimetres, degrees, rad, and how steady words are.

python experiments/words_curve.py DATA... -o words-curve.json [--validation] [--total 32768] [--words-from DATA...]
python experiments/words_tables.py words-curve.json

A robot's own words (or those of a book placed on other sets) and own residual books, fitted on train episodes, at three
seeds of placement; beside them, once, the rivals of words_rivals.py, fitted on the same episodes, at vocabulary 2,048
and at the words' own total. Figures are of held-out episodes; with --validation of every fifth train episode, which is
then kept from all fits: all choices are made there. Sweeps of rates (FAST: of scales) enclose M, 2M, 3M and 4M mean
tokens (M = T / 4), between which words_tables.py reads errors off, log error linear in tokens.

A file that is there already is gone on with: lengths, seeds, sets and rivals that it has are not made again.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from words_rivals import RIVALS, judged, rival_points
from words_tables import curve_of
from xtok.actions.delta import tangent_mask
from xtok.actions.statistics import Statistics
from xtok.actions.tangent import tangent_centre, tangent_scale
from xtok.actions.types import Actions, ChunkBatch, Codes, Context
from xtok.atomic import atomic_file
from xtok.baselines.common import normalised_chunks, to_actions
from xtok.codec.words import FitSettings, Grammar, Sequences, WordModel, Words, encode, fit, ridge_for
from xtok.codec.words.encode import BEAM, PATHS
from xtok.codec.words.fit import word_space
from xtok.codec.words.robot import words_of
from xtok.codec.words.shared import Member, shared_book
from xtok.data import Episode, open_dataset, select
from xtok.evaluate.rate import RatePoint
from xtok.evaluate.robustness import add_noise
from xtok.evaluate.strides import spread_chunks
from xtok.pretrain.corpus import VALIDATION_EVERY, Corpus

Result = TypeVar("Result")
FAST_VOCABULARY = 2048
GROWING = ("data", "out", "horizons", "seeds", "rivals", "vocabularies")  # a file may be gone on with by more of these
RATES = (0.0, 0.002, 0.006, 0.015, 0.04, 0.1, 0.25, 0.6, 1.5, 4.0)
SIGMAS = (0.004, 0.008)


@dataclass(frozen=True)
class Robot:
    """One robot of a set, as motion words see it: its moving tangent channels over half their range, not centred."""

    name: str
    statistics: Statistics
    corpus: Corpus
    train: list[Episode]
    judged: list[Episode]

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


def robots_of(folder: Path, validation: bool, layout: str | None = None) -> list[Robot]:
    """The robots of a set, with episodes to fit on and episodes to judge on."""
    dataset = open_dataset(folder, layout)
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
        start = cpu_seconds()
        result = function()
        taken.append((cpu_seconds() - start) * 1000 / batch)
    return result, round(min(taken), 4)


def book_of_sets(folders: Sequence[Path], size: int, args: argparse.Namespace, settings: FitSettings) -> Tensor:
    """Words placed on the train episodes of other sets: physical for poses, whitened for joints."""
    robots = [robot for folder in folders for robot in robots_of(folder, args.validation)]
    members = [
        Member(robot.channels, robot.scale_K, robot.windows(args.windows // len(robots), args.seed)) for robot in robots
    ]
    return shared_book(robots[0].corpus.layout, members, size, settings)


def book_of(args: argparse.Namespace) -> Tensor | None:
    """Words of other sets at one seed, or none."""
    if not args.words_from:
        return None
    words = Grammar.of_total(args.total, args.words).words
    return book_of_sets(args.words_from, words, args, FitSettings(seed=args.seed))


def placed(robot: Robot, book: Tensor, windows: Tensor, settings: FitSettings) -> Words:
    """A shared book, as this robot has it."""
    return words_of(word_space(windows, robot.scale_K, settings), robot.statistics, book)


def run(robot: Robot, args: argparse.Namespace, book: Tensor | None) -> dict:
    """Words at one seed, at all lengths that have chunks to judge on."""
    grammar = Grammar.of_total(args.total, args.words)
    frames = sum(len(episode) for episode in robot.train)
    settings = FitSettings(seed=args.seed, ridge=ridge_for(frames))
    start, cpu = time.time(), cpu_seconds()
    windows = robot.windows(args.windows, args.seed)
    drawn = cpu_seconds() - cpu
    words = None if book is None else placed(robot, book, windows, settings)
    model = fit(windows, robot.scale_K, grammar, settings, words)
    out: dict = {
        "channels": model.channels,
        "train_frames": frames,
        "fit_cpu_s": round(cpu_seconds() - cpu, 1),
        "windows_cpu_s": round(drawn, 1),
        "fit_s": round(time.time() - start, 1),
        "speed": speed(robot, model),
    }
    out["horizons"] = judge(robot, model, args)
    return out


def judge(robot: Robot, model: WordModel, args: argparse.Namespace) -> dict:
    """A model's errors and steadiness at all lengths that have chunks to judge on."""
    out: dict = {}
    for horizon in args.horizons:
        chunks = robot.chunks(horizon, args.chunks)
        if chunks is None:
            continue
        points = word_points(robot, model, chunks, args.rates, args.paths, args.beam)
        out[str(horizon)] = {
            "words": [asdict(point) for point in points],
            "steadiness": [steadiness(robot, model, chunks, rate, args.paths, args.beam) for rate in (0.1, 0.6)],
        }
        _tell(robot, horizon, f"words, seed {args.seed}", {"": points})
    return out


def rivals(
    robot: Robot, args: argparse.Namespace, pool: Sequence[Robot], chunks: ChunkBatch, known: dict
) -> Iterator[None]:
    """What `known` lacks of rival@vocabulary -> form -> points, one after another; yields when there is something to
    save. They are the same at any seed."""
    for vocabulary in args.vocabularies or sorted({FAST_VOCABULARY, args.total}):
        for name in args.rivals:
            key, start = f"{name}@{vocabulary}", cpu_seconds()
            if key in known:
                continue
            sweeps = dict(rival_points(robot, chunks, name, vocabulary, pool))
            known[key] = {form: [asdict(point) for point in points] for form, points in sweeps.items()}
            _tell(robot, chunks.context.horizon, f"{key}, {cpu_seconds() - start:.0f} s", sweeps)
            yield


def _tell(robot: Robot, horizon: int, what: str, sweeps: Mapping[str, Sequence[RatePoint]]) -> None:
    if sweeps:
        found = " ".join("-" if each is None else f"{each:.5f}" for each in curve_of(sweeps, horizon, "l1"))
        print(f"{robot.name} T {horizon} l1 at M..4M of {what}: {found}", flush=True)


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def ints(text: str) -> list[int]:
    return [] if text == "none" else [int(part) for part in text.split(",")]


def names_of_rivals(text: str) -> list[str]:
    names = [] if text == "none" else text.split(",")
    if wrong := set(names) - set(RIVALS):
        raise argparse.ArgumentTypeError(
            f"unknown rivals {sorted(wrong)}; expected some of {','.join(RIVALS)}, or none"
        )
    return names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is fitted, judged and compared with, here and in words_left_out.py."""
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--validation", action="store_true", help="judge on every fifth train episode")
    parser.add_argument("--total", type=int, default=32768, help="ids of the vocabulary")
    parser.add_argument("--words", type=int, default=None, help="of these ids, words (an eighth, at most 2,048)")
    parser.add_argument("--horizons", type=ints, default=[8, 16, 32, 64])
    parser.add_argument("--rates", type=lambda text: [float(t) for t in text.split(",")], default=list(RATES))
    parser.add_argument("--windows", type=int, default=14_000, help="of each robot that is judged")
    parser.add_argument("--chunks", type=int, default=240, help="judged, at most, of each length")
    parser.add_argument("--paths", type=int, default=PATHS)
    parser.add_argument("--beam", type=int, default=BEAM)
    parser.add_argument("--seeds", type=ints, help="of placement, or none: rivals alone")
    parser.add_argument("--rivals", type=names_of_rivals, help=f"some of {','.join(RIVALS)}, or none")
    parser.add_argument("--vocabularies", type=ints, help="of rivals (default: 2048 and --total)")


def opened(parser: argparse.ArgumentParser, args: argparse.Namespace, growing: Collection[str]) -> dict:
    """What the file of a stopped run holds, or the beginning of one. growing: what may be another than it was."""
    about = {key: _by_name(value) for key, value in vars(args).items() if key not in growing}
    if not args.out.exists():
        return {"settings": about, "results": {}}
    whole = json.loads(args.out.read_text())
    if whole["settings"] != about:
        parser.error(f"{args.out} was made with {whole['settings']}, this is {about}; give another -o")
    return whole


def _by_name(value: Any) -> Any:
    """Folders without where they are."""
    if isinstance(value, list):
        return [_by_name(each) for each in value]
    return value.name if isinstance(value, Path) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.set_defaults(seeds=[0, 1, 2], rivals=list(RIVALS))
    parser.add_argument("--words-from", type=Path, nargs="+", default=[], help="sets to place one book of words on")
    parser.add_argument("--pool", type=Path, nargs="+", default=[], help="sets of other robots, for the rival pooled")
    args = parser.parse_args()
    torch.set_num_threads(1)
    whole = opened(parser, args, GROWING)
    books: dict[int, Tensor | None] = {}
    pooled = args.pool if "pooled" in args.rivals else []
    pool = [robot for folder in pooled for robot in robots_of(folder, args.validation)]
    for folder in args.data:
        for robot in robots_of(folder, args.validation):
            judges = {T: chunks for T in args.horizons if (chunks := robot.chunks(T, args.chunks)) is not None}
            name = f"{folder.name}/{robot.name}"
            if not judges:
                print(f"{name}: no episode to judge on is longer than {min(args.horizons)} frames", flush=True)
                continue
            entry = whole["results"].setdefault(name, {"chunks": {}, "rivals": {}, "seeds": {}})
            entry["chunks"] |= {str(T): len(chunks) for T, chunks in judges.items()}
            for seed in args.seeds:
                known = entry["seeds"].setdefault(str(seed), {"horizons": {}})
                horizons = [T for T in judges if str(T) not in known["horizons"]]
                if horizons:
                    asked = argparse.Namespace(**{**vars(args), "seed": seed, "horizons": horizons})
                    if seed not in books:
                        books[seed] = book_of(asked)
                    found = run(robot, asked, books[seed])
                    entry["seeds"][str(seed)] = found | {"horizons": known["horizons"] | found["horizons"]}
                    save(args.out, whole)
            for T, chunks in judges.items():
                for _ in rivals(robot, args, pool, chunks, entry["rivals"].setdefault(str(T), {})):
                    save(args.out, whole)
    save(args.out, whole)


def save(path: Path, whole: dict) -> None:
    with atomic_file(path) as draft:
        draft.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()
