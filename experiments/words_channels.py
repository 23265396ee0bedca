"""Motion words of channels that nobody described beside FAST: what ActionProcessor's contract passes, and nothing else.

    python experiments/words_channels.py DATA... -o out.json [--validation]

Every robot of a set is taken as channels: joints and gripper of a set of joints; position and gripper of the right hand
of a set of poses, once as they are and once as differences from frame to frame (the gripper as it is), as many
environments take them. 1 and 99 % of the train split's values are put at -1 and 1 and nothing is clipped, as FAST's
users do. Both are fitted on the same chunks of the train split; judged are held-out chunks (every fifth episode), or
with --validation every fifth train episode. FAST's algorithm (decision 0005) on the raw channels, over scales, at
vocabularies of 2,048 and 1,024; `tokens_of_words` has ours, by ids in all, at FAST's errors, read off between two rates
(logarithm of the error).

# B chunks, T frames, D channels
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from scipy.fft import dct, idct

from xtok.baselines.fast import Cosines, FastTokenizer
from xtok.codec.channels import ChannelCodec
from xtok.data import Episode, open_dataset, select
from xtok.pretrain.channels import fit_channels
from xtok.pretrain.corpus import VALIDATION_EVERY
from xtok.pretrain.word_channels import fit_word_channels

SCALES = (5.0, 7.0, 10.0, 14.0, 20.0)
USUAL = 10.0  # FAST's own scale
RATES = (0.06, 0.12, 0.25, 0.5, 1.0)
VOCABULARIES = (2048, 1024)
Point = dict[str, float]


def channels_of(folder: Path) -> Iterator[tuple[str, dict[str, list[np.ndarray]]]]:
    """Name, and episodes [N, D] by split, of every robot of a set and every way to take its channels."""
    dataset = open_dataset(folder)
    names = list(dataset.layout.channel_names)
    for robot in dataset.embodiments:
        parts = {split: [e for e in select(dataset, split) if e.embodiment == robot] for split in ("train", "heldout")}
        if dataset.layout.name == "joints":
            yield f"{folder.name}/{robot}", {k: [e.absolute_ND[:, e.mask_D] for e in v] for k, v in parts.items()}
            continue
        columns = [names.index(f"right_position.{axis}") for axis in range(3)] + [names.index("right_gripper")]
        if not all(e.mask_D[columns].all() for v in parts.values() for e in v):
            continue
        yield f"{folder.name}/{robot}/poses", {k: [e.absolute_ND[:, columns] for e in v] for k, v in parts.items()}
        yield f"{folder.name}/{robot}/deltas", {k: [_deltas(e, columns) for e in v] for k, v in parts.items()}


def _deltas(episode: Episode, columns: Sequence[int]) -> np.ndarray:
    x_ND = episode.absolute_ND[:, columns].astype(np.float64)
    return np.concatenate([np.diff(x_ND[:, :3], axis=0), x_ND[1:, 3:]], axis=1)


def normalised(parts: dict[str, list[np.ndarray]], horizon: int, validation: bool) -> dict[str, list[np.ndarray]]:
    """Episodes to fit on and to judge, those that have a chunk; ranges are of those to fit on."""
    train = [e.astype(np.float64) for e in parts["train"] if len(e) >= horizon]
    judged = [e.astype(np.float64) for e in parts["heldout"] if len(e) >= horizon]
    if validation:
        judged = train[VALIDATION_EVERY - 1 :: VALIDATION_EVERY]
        train = [e for i, e in enumerate(train) if i % VALIDATION_EVERY != VALIDATION_EVERY - 1]
    if not train or not judged:
        return {}
    low, high = np.quantile(np.concatenate(train), (0.01, 0.99), axis=0)
    half = np.maximum(high - low, 1e-6) / 2
    return {"train": [(e - low) / half - 1 for e in train], "judged": [(e - low) / half - 1 for e in judged]}


def chunks_of(episodes: Sequence[np.ndarray], horizon: int, most: int) -> np.ndarray:
    """[B, T, D], evenly over all starts."""
    starts = [(e, s) for e in episodes for s in range(len(e) - horizon + 1)]
    chosen = np.linspace(0, len(starts) - 1, min(most, len(starts))).astype(int)
    return np.stack([starts[i][0][starts[i][1] : starts[i][1] + horizon] for i in chosen])


def fast_points(train_BTD: np.ndarray, judged_BTD: np.ndarray, vocabulary: int) -> list[Point]:
    """FAST on the values as they are."""
    given, points = _cosines(judged_BTD), []
    for scale in SCALES:
        try:
            fast = FastTokenizer({}, scale, vocabulary).fit_cosines(_cosines(train_BTD))
        except ValueError:  # more symbols than the vocabulary holds
            break
        ids = fast.encode_cosines(given).tokens
        # What its tokens decode to: they carry the rounded coefficients and lose nothing more.
        rounded = [np.around(values * scale).clip(fast._low, fast._high) / scale for values in given.flat]
        decoded = idct(np.stack(rounded).reshape(judged_BTD.shape), axis=1, norm="ortho")
        points.append(_point(decoded - judged_BTD, float(np.mean([len(i) for i in ids])), scale=scale))
    return points


def _cosines(x_BTD: np.ndarray) -> Cosines:
    found = dct(x_BTD, axis=1, norm="ortho")
    return Cosines(x_BTD.shape[1], "tangent", tuple(values.reshape(-1) for values in found))


def _point(off_BTD: np.ndarray, tokens: float, **more: float) -> Point:
    return {"tokens": tokens, "l1": float(np.abs(off_BTD).mean()), **more}


def at_error(points: Sequence[Point], l1: float) -> float | None:
    """Tokens at an error; None outside the points."""
    for cheap, dear in pairwise(sorted(points, key=lambda point: point["tokens"])):
        if dear["l1"] <= l1 <= cheap["l1"] and dear["l1"] < cheap["l1"]:
            share = np.log(cheap["l1"] / l1) / np.log(cheap["l1"] / dear["l1"])
            return float(cheap["tokens"] + share * (dear["tokens"] - cheap["tokens"]))
    return None


def run(data: dict[str, list[np.ndarray]], args: argparse.Namespace) -> dict:
    train_BTD = chunks_of(data["train"], args.horizon, 14_000)
    judged_BTD = chunks_of(data["judged"], args.horizon, args.chunks)
    out: dict = {"channels": train_BTD.shape[2], "train_chunks": len(train_BTD), "judged_chunks": len(judged_BTD)}
    for vocabulary in VOCABULARIES:
        out[f"fast_{vocabulary}"] = fast_points(train_BTD[:: -(-len(train_BTD) // 8000)], judged_BTD, vocabulary)
    for total in args.totals:
        out[f"words_{total}"] = ours = words_points(train_BTD, judged_BTD, total, args)
        for vocabulary in VOCABULARIES:
            for point in out[f"fast_{vocabulary}"]:
                point[f"tokens_of_words_{total}"] = at_error(ours["points"], point["l1"]) or float("nan")
    if args.codes:
        codec = fit_channels(ChannelCodec.load().tokenizer, list(train_BTD), seed=args.seed)
        grid = codec.encode(judged_BTD).reshape(len(judged_BTD), -1)
        off_BTD = codec.decode(grid, args.horizon, train_BTD.shape[2]) - judged_BTD
        out["codes"] = _point(off_BTD, float(grid.shape[1]))
        for total in args.totals:
            found = at_error(out[f"words_{total}"]["points"], out["codes"]["l1"])
            out["codes"][f"tokens_of_words_{total}"] = found or float("nan")
    return out


def words_points(train_BTD: np.ndarray, judged_BTD: np.ndarray, total: int, args: argparse.Namespace) -> dict:
    """Errors at each rate, from ids, as a reader of the tokens would have them; what fitting and encoding took."""
    start = _cpu()
    words = fit_word_channels(list(train_BTD), total, seed=args.seed)
    out: dict = {"fit_cpu_s": round(_cpu() - start, 1), "default_rate": words.coding.rate, "points": []}
    start = _cpu()
    for rate in sorted({*args.rates, words.coding.rate}):
        ids = words.with_rate(rate).encode(judged_BTD)
        off_BTD = words.decode(ids, args.horizon) - judged_BTD
        out["points"].append(_point(off_BTD, float(np.mean([len(i) for i in ids])), rate=rate))
    out["encode_cpu_ms"] = round((_cpu() - start) * 1000 / len(judged_BTD) / len(out["points"]), 2)
    return out


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--validation", action="store_true", help="judge on every fifth train episode")
    parser.add_argument("--totals", type=lambda text: [int(t) for t in text.split(",")], default=[2048, 8192, 32768])
    parser.add_argument("--horizon", type=int, default=16)
    parser.add_argument("--rates", type=lambda text: [float(t) for t in text.split(",")], default=list(RATES))
    parser.add_argument("--chunks", type=int, default=240, help="judged, at most")
    parser.add_argument("--only", default="", help="robots whose name holds this")
    parser.add_argument("--codes", action="store_true", help="the Gaussian codec too, fitted on the same chunks")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for folder in args.data:
        for name, parts in channels_of(folder):
            if args.only not in name or not (data := normalised(parts, args.horizon, args.validation)):
                continue
            results[name] = found = run(data, args)
            about = {key: value for key, value in vars(args).items() if key not in ("data", "out")}
            args.out.write_text(json.dumps({"settings": about, "results": results}, indent=1) + "\n")
            usual = [point for point in found["fast_2048"] if point["scale"] == USUAL]
            ours = {total: [round(p[f"tokens_of_words_{total}"], 2) for p in usual] for total in args.totals}
            told = [(round(p["tokens"], 2), round(p["l1"], 4)) for p in usual]
            print(name, f"D {found['channels']}: tokens and l1 of FAST at scale 10", told, "ours", ours, flush=True)


if __name__ == "__main__":
    main()
