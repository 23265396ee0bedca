"""ActionProcessor beside FAST on channels of unknown meaning: real recordings normalised to [-1, 1], at D 7 and 14.

    python benchmarks/action_processor.py -o docs/results/action-processor.json     (about three minutes on two cores)

--fast-of F.json takes FAST's points from an earlier result: they are the longest part, and do not depend on our codec.
Both are fitted on the train episodes (index mod 5 != 4) and measured on the held-out ones; ours also unfitted. FAST's
algorithm (decision 0005) is fitted anew at each T, over scales; `ratio` is our l1 over FAST's at the same bits.

# B chunks, T frames, D channels
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xtok.actions.layout import JOINTS
from xtok.baselines.fast import FastTokenizer
from xtok.codec.channels import CHANNELS, ChannelCodec, batch_of, ranges
from xtok.data import open_dataset, select
from xtok.evaluate.compare import l1_ratio_at_equal_bits
from xtok.evaluate.rate import RatePoint, bits_mean
from xtok.pretrain.channels import fit_channels

SETS = {"dobot-cr5-banana": 7, "unitree-g1-inspire": 14}  # CR5: six joints and a gripper; G1: the joints of both arms
HORIZONS = (8, 16, 32, 64)
SCALES = tuple(2.0 ** (k / 2) for k in range(2, 15))
EVALUATED, FITTED = 120, 2000  # chunks


def normalised(folder: Path, channels: int) -> dict[str, list[np.ndarray]]:
    """Episodes of both splits, .1 to 99.9 % of the train split's values to [-1, 1], clipped as FAST's users do."""
    dataset = open_dataset(folder, layout="joints")
    parts = {
        split: [episode.absolute_ND[:, episode.mask_D][:, :channels] for episode in select(dataset, split)]
        for split in ("train", "heldout")
    }
    low, high = np.quantile(np.concatenate(parts["train"]), (0.001, 0.999), axis=0)
    half = np.maximum(high - low, 1e-2) / 2
    return {k: [np.clip((e - low) / half - 1, -1, 1) for e in episodes] for k, episodes in parts.items()}


def chunks_of(episodes: Sequence[np.ndarray], horizon: int, most: int) -> np.ndarray:
    """[B, T, D], evenly over all starts."""
    starts = [(e, s) for e in episodes for s in range(len(e) - horizon + 1)]
    chosen = np.linspace(0, len(starts) - 1, min(most, len(starts))).astype(int)
    return np.stack([starts[i][0][starts[i][1] : starts[i][1] + horizon] for i in chosen])


def fast_points(train_BTD: np.ndarray, test_BTD: np.ndarray) -> list[RatePoint]:
    """FAST on the values as they are: relative to nothing, as its contract passes them."""
    D = test_BTD.shape[2]
    ones_D = np.ones(JOINTS.width)
    statistics = {CHANNELS: replace(ranges(JOINTS), low_D=-ones_D, high_D=ones_D)}
    train, test = (batch_of(JOINTS, x, np.zeros((len(x), D))) for x in (train_BTD, test_BTD))
    points = []
    for scale in SCALES:
        try:
            fast = FastTokenizer(statistics, scale).fit([train])
        except ValueError:  # more symbols than the vocabulary holds
            break
        codes = fast.encode(test)
        decoded = fast.decode(codes, test.context).absolute_BTD
        assert decoded is not None
        points.append(RatePoint(bits_mean(codes), float(np.abs(decoded[..., :D].numpy() - test_BTD).mean())))
    return points


def measure(codec: ChannelCodec, test_BTD: np.ndarray, points: Sequence[RatePoint]) -> dict[str, Any]:
    B, T, D = test_BTD.shape
    grid = codec.encode(test_BTD)
    l1 = float(np.abs(codec.decode(grid.reshape(B, -1), T, D) - test_BTD).mean())
    tokens = grid.shape[1] * grid.shape[2]
    equal = l1_ratio_at_equal_bits(tokens * math.log2(codec.codebook_size), l1, points)
    return {"tokens": tokens, "bits": tokens * math.log2(codec.codebook_size), "l1": l1, "ratio": equal.l1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--fast-of", type=Path, metavar="F.json", help="an earlier result of this benchmark")
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    shipped, result = ChannelCodec.load(), {}
    earlier = None if args.fast_of is None else json.loads(args.fast_of.read_text(encoding="utf-8"))
    for name in args.sets.split(","):
        parts = normalised(args.data / name, SETS[name])
        start = time.process_time()
        fitted = fit_channels(shipped.tokenizer, parts["train"])
        rows: dict[str, Any] = {"channels": SETS[name], "fit_cpu_s": round(time.process_time() - start, 1)}
        for horizon in HORIZONS:
            test_BTD = chunks_of(parts["heldout"], horizon, EVALUATED)
            if earlier is None:
                points = fast_points(chunks_of(parts["train"], horizon, FITTED), test_BTD)
            else:
                points = [RatePoint(**point) for point in earlier[name][str(horizon)]["fast"]]
            rows[str(horizon)] = {
                "fitted": measure(fitted, test_BTD, points),
                "unfitted": measure(shipped, test_BTD, points),
                "fast": [vars(point) for point in points],
            }
            for kind in ("fitted", "unfitted"):
                row = rows[str(horizon)][kind]
                ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
                head = f"{name} D {SETS[name]:2} T {horizon:2} {kind:9}"
                print(f"{head} {row['bits']:4.0f} bits l1 {row['l1']:.5f} x FAST {ratio}")
        result[name] = rows
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
