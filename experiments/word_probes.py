"""What does a motion word tell of sub-task, verb and gripper, beside first-level codes of slots and of a plain RVQ?

    python experiments/word_probes.py DATA... -o word-probes.json [--tokenizer arms26-words] [--slots arms26]

Linear probes, fitted on train episodes and asked on held-out ones. Each seed draws samples and permuted labels anew,
and places a plain RVQ anew (`fit_rvq`: the design of slots by k-means on the train episodes of DATA alone, where word
and slot codes are as they ship). Of a slot: one first code (a word serves four slots). Of a block of 16 frames: one
word, the q0 of its third slot, or the q0 of all four; its gripper opens or closes where some slot's does.

# N chunks, M slots, n blocks
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from xtok import provenance
from xtok.actions.types import ActionTokenizer
from xtok.atomic import atomic_write
from xtok.data import EpisodeDataset, join, open_dataset, select
from xtok.evaluate.gather import Gathered, gather
from xtok.evaluate.labels import STEADY
from xtok.evaluate.probes import Probe, probe_all
from xtok.pretrain import fit_rvq, tokenizer_for

LABELS = ("subtask", "verb", "gripper")
BLOCK = 4  # slots of a word
HORIZON = 16
WORD, SLOTS, RVQ = "words", "slots", "rvq"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+", metavar="DATA")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="F.json")
    parser.add_argument("--tokenizer", default="arms26-words", help="motion words (default: arms26-words)")
    parser.add_argument("--slots", default="arms26", help="a tokenizer of slots (default: arms26)")
    parser.add_argument("--horizon", type=int, default=HORIZON, metavar="T")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    if args.horizon % (4 * BLOCK):
        raise ValueError(f"--horizon is {args.horizon}; expected a multiple of 16, whole words")
    dataset = join([open_dataset(path, layout="arms26") for path in args.data])
    fixed = {WORD: tokenizer_for(dataset, args.tokenizer), SLOTS: tokenizer_for(dataset, args.slots)}
    result = measure(dataset, fixed, args.horizon, args.seeds)
    about = {
        "data": [path.name for path in args.data],
        "horizon": args.horizon,
        "seeds": args.seeds,
        "weights": {name: each.digest for name, each in fixed.items()},
        "git_revision": provenance.git_revision(),
    }
    atomic_write(args.out, json.dumps({**about, **result}, indent=1) + "\n")
    print("\n".join(table(result)))


def measure(
    dataset: EpisodeDataset,
    fixed: Mapping[str, ActionTokenizer],
    horizon: int,
    seeds: Sequence[int],
) -> dict[str, object]:
    """`slot` and `block`: feature -> label -> means over seeds, their spread and the interval over episodes of the
    first; `codes_in_use` of each tokenizer's first level."""
    found: dict[str, dict[str, dict[str, list[Probe]]]] = {"slot": {}, "block": {}}
    used: dict[str, list[int]] = {}
    counts: dict[str, int] = {}
    for seed in seeds:
        tokenizers = {**fixed, RVQ: fit_rvq(dataset.layout, select(dataset, "train"), seed=seed)}
        statistics = next(iter(fixed.values())).statistics  # type: ignore[attr-defined]
        gathered = gather(dataset, tokenizers, statistics, horizon, say=print)
        counts = {"train": int(gathered.train_N.sum()), "test": int((~gathered.train_N).sum())}
        for name, outputs in gathered.outputs.items():
            assert outputs.codes_NMQ is not None
            used.setdefault(name, []).append(len(np.unique(outputs.codes_NMQ[..., 0])))
        for place, probed in (("slot", of_slots(gathered, seed)), ("block", of_blocks(gathered, seed))):
            for feature, by_label in probed.items():
                for label, each in by_label.items():
                    found[place].setdefault(feature, {}).setdefault(label, []).append(each)
    out = {
        place: {f: {label: _json(each) for label, each in by.items()} for f, by in features.items()}
        for place, features in found.items()
    }
    return {"chunks": counts, "codes_in_use": used, **out}


def of_slots(gathered: Gathered, seed: int) -> dict[str, dict[str, Probe]]:
    """Every slot by one first code."""
    M = gathered.labels.text_NM.shape[1]
    features = {}
    for name, outputs in gathered.outputs.items():
        assert outputs.codes_NMQ is not None
        features[name] = outputs.codes_NMQ[..., 0].reshape(-1, 1)
    place_n = np.tile(np.arange(M) % BLOCK, len(gathered.labels))[:, None]
    features["words, place in the block"] = features[WORD] * BLOCK + place_n
    labels = {name: gathered.labels.slot(name).ravel() for name in LABELS}
    episode_n, train_n = (np.repeat(each, M) for each in (gathered.labels.episode_N, gathered.train_N))
    return probe_all(features, labels, episode_n, train_n, seed)


def of_blocks(gathered: Gathered, seed: int) -> dict[str, dict[str, Probe]]:
    """Every 16 frames by one word, by one q0, by four."""
    M = gathered.labels.text_NM.shape[1]
    features = {}
    for name, outputs in gathered.outputs.items():
        assert outputs.codes_NMQ is not None
        first_nS = outputs.codes_NMQ[..., 0].reshape(-1, BLOCK)
        if name == WORD:
            features[name] = first_nS[:, :1]
        else:
            features |= {f"{name}, third slot": first_nS[:, 2:3], f"{name}, four slots": first_nS}
    labels = {name: gathered.labels.slot(name).reshape(-1, BLOCK)[:, 2] for name in LABELS if name != "gripper"}
    labels["gripper"] = events(gathered.labels.slot("gripper").reshape(-1, BLOCK))
    episode_n, train_n = (np.repeat(each, M // BLOCK) for each in (gathered.labels.episode_N, gathered.train_N))
    return probe_all(features, labels, episode_n, train_n, seed)


def events(gripper_nS: np.ndarray) -> np.ndarray:
    """What a gripper does within a block: the first slot's event that is one."""
    moved_nS = (gripper_nS != STEADY) & (gripper_nS != "")
    first_n = np.where(moved_nS.any(axis=1), moved_nS.argmax(axis=1), 0)
    return gripper_nS[np.arange(len(gripper_nS)), first_n]


def _json(probes: Sequence[Probe]) -> dict[str, object]:
    values = np.array([each.accuracy.value for each in probes])
    first = probes[0]
    return {
        "accuracy": round(float(values.mean()), 4),
        "by_seed": [round(float(value), 4) for value in values],
        "interval": [round(first.accuracy.low, 4), round(first.accuracy.high, 4)],
        "balanced": round(float(np.mean([each.balanced for each in probes])), 4),
        "majority": round(first.majority, 4),
        "shuffled": round(float(np.mean([each.shuffled for each in probes])), 4),
        "classes": first.classes,
    }


def table(result: Mapping[str, object]) -> list[str]:
    """Markdown."""
    lines = [f"| one of | {' | '.join(LABELS)} |", "|---|" + "---|" * len(LABELS)]
    for place in ("slot", "block"):
        features = result[place]
        assert isinstance(features, dict)
        for name, by_label in features.items():
            cells = [f"{by_label[label]['accuracy']:.3f}" if label in by_label else "" for label in LABELS]
            lines.append(f"| {place}: {name} | {' | '.join(cells)} |")
        some = next(iter(features.values()))
        for floor in ("shuffled", "majority"):
            cells = [f"{some[label][floor]:.3f}" if label in some else "" for label in LABELS]
            lines.append(f"| {place}: {floor} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
