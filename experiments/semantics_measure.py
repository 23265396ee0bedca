"""What one trained codec is worth: the one place where the grid and the trials of decision 0009 call evaluations.

python experiments/semantics_measure.py RUN_DIR --data DATA... --features STORE [--split heldout] -o figures.json

Probes are fitted on train episodes (the validation ones left out) and read on those of --split: "validation", every
fifth train episode of a robot, which choices are made by, or "heldout".

# N chunks, T frames, M slots, n = N M slots, E dimensions compared in
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xtok import Tokenizer
from xtok.actions.types import ChunkBatch, concatenate
from xtok.data import Episode, iter_chunks, open_dataset, select
from xtok.data.origins import Origins, Words
from xtok.data.splits import Split
from xtok.evaluate import codebook, reconstruction, robustness
from xtok.evaluate.coded import Coded
from xtok.evaluate.labels import Labels, label_chunks
from xtok.evaluate.probes import code_features, probe_all
from xtok.evaluate.semantics import Aligned, measure_alignment
from xtok.evaluate.semantics_result import RetrievalJson
from xtok.evaluate.strides import stride_within
from xtok.pretrain.corpus import Corpus
from xtok.semantics.align import Alignment, load_heads
from xtok.semantics.cotemporal import FrameFeatures, gather_features
from xtok.semantics.latents import latents

HORIZONS, HORIZON = (8, 16, 32, 64), 32
CHUNKS, ALIGNED = 2000, 1200  # of each side; of those, beside a teacher
SIGMAS = (0.004, 0.006, 0.008)  # docs/method.md#published-results
PROBED = ("subtask", "verb", "colour", "gripper", "task", "arm")


@dataclass(frozen=True)
class Trial:
    """Episodes to fit probes on, and episodes to measure on."""

    train: list[Episode]
    test: list[Episode]


def open_trial(corpus: Corpus, paths: Sequence[Path], split: str) -> Trial:
    """The corpus's own train part beside its validation part, or beside the sets' held-out episodes."""
    validation = {key for source in corpus.validation for key in source.episode_E}
    sets = [open_dataset(path, layout=corpus.layout.name) for path in paths]

    def of(which: Split) -> list[Episode]:
        episodes = [(dataset, e) for dataset in sets for e in select(dataset, which)]
        return [e for dataset, e in episodes if e.task not in dataset.held_out_tasks]

    train = of("train")
    kept = [e for e in train if (e.dataset, e.index) in validation]
    rest = [e for e in train if (e.dataset, e.index) not in validation]
    return Trial(rest, kept if split == "validation" else of("heldout"))


def measure(
    tokenizer: Tokenizer,
    heads: Alignment | None,
    trial: Trial,
    features: FrameFeatures | None,
    seed: int = 0,
    probed: Sequence[str] = PROBED,
) -> dict[str, Any]:
    """l1 by horizon, errors, use and perplexity, WER, flips, probes; with heads and features alignment and retrieval.

    All at T 32 where no horizon is named. l1 is in normalised units, of physical deltas.
    """
    chunks, labels = _cut(trial.test, HORIZON)
    more = {T: chunks if T == HORIZON else _cut(trial.test, T, CHUNKS // 4)[0] for T in HORIZONS}
    l1 = {T: reconstruction.run(Coded(tokenizer, some), tokenizer.statistics) for T, some in more.items()}
    out: dict[str, Any] = {
        "chunks": len(chunks),
        "l1": {str(T): values["l1"] for T, values in l1.items()},
        "position_mm": l1[HORIZON]["position_mm"],
        "rotation_deg": l1[HORIZON]["rotation_deg"],
        **codebook.run(Coded(tokenizer, chunks)),
        **robustness.run(Coded(tokenizer, chunks[: CHUNKS // 4]), seed, SIGMAS),
        "probes": _probes(tokenizer, trial, chunks, labels, seed, probed),
    }
    if heads is not None and features is not None:
        out |= _alignment(tokenizer, heads, chunks, labels, features, seed)
    return out


def _cut(episodes: list[Episode], horizon: int, most: int = CHUNKS) -> tuple[ChunkBatch, Labels]:
    usable = [e for e in episodes if len(e) > horizon]
    stride = stride_within(usable, horizon, most)
    return concatenate(list(iter_chunks(usable, horizon, stride))), label_chunks(usable, horizon, stride)


def _probes(
    tokenizer: Tokenizer, trial: Trial, test: ChunkBatch, test_labels: Labels, seed: int, probed: Sequence[str]
) -> dict[str, dict[str, float]]:
    """ "q0", "q1-q3", "h" -> label -> accuracy on slots of the test episodes, and the commonest class's."""
    train, train_labels = _cut(trial.train, HORIZON)
    both, sides = (train, test), (train_labels, test_labels)
    codes = [grid for chunks in both if (grid := tokenizer.encode(chunks).grid_BMQ) is not None]
    h_NMC = np.concatenate([latents(tokenizer, chunks) for chunks in both])
    M = h_NMC.shape[1]
    given = {**code_features(np.concatenate([grid.numpy() for grid in codes])), "h": h_NMC.reshape(-1, h_NMC.shape[-1])}
    given.pop("all")
    wanted = {name: np.concatenate([each.slot(name).ravel() for each in sides]) for name in probed}
    episode_n = np.repeat(np.concatenate([each.episode_N for each in sides]), M)
    train_n = np.repeat(np.arange(len(train) + len(test)) < len(train), M)
    found = probe_all(given, wanted, episode_n, train_n, seed)
    majority = {label: probe.majority for label, probe in found["q0"].items()}
    accuracy = {name: {label: p.accuracy.value for label, p in of.items()} for name, of in found.items()}
    return {**accuracy, "majority": majority}


@torch.no_grad()
def _alignment(
    tokenizer: Tokenizer, heads: Alignment, chunks: ChunkBatch, labels: Labels, features: FrameFeatures, seed: int
) -> dict[str, Any]:
    rows = np.sort(np.random.default_rng(seed).permutation(len(chunks))[:ALIGNED])
    keys = [tuple(name.rsplit("/", 1)) for name in labels.episode_N[rows]]
    rows = rows[[(dataset, int(index)) in features for dataset, index in keys]]
    if not len(rows):
        return {}
    some = concatenate([chunks[slice(row, row + 1)] for row in rows.tolist()])
    seen = gather_features(features, origins_of(labels[rows]), HORIZON).slots
    action = heads.action(torch.from_numpy(latents(tokenizer, some)))
    found = measure_alignment(Aligned(action.numpy(), heads.of(seen).numpy()), labels[rows], seed=seed)
    among = found["retrieval"]
    within = {way: _short(value) for way, value in among["within task and arm"]["all"].items()}
    return {
        "alignment": {
            "diagonal": found["alignment"]["all"]["diagonal"]["value"],
            **{k: found["alignment"]["all"][k] for k in ("mid_peak", "off_diagonal", "contrast", "shuffled", "floor")},
        },
        "retrieval_within_task_and_arm": within,
        "retrieval_among_all": {way: _short(value) for way, value in among["among all"]["all"].items()},
        "temperature": float(heads.temperature),
        "view_weights": heads.fusion.view_logit_V.softmax(dim=0).tolist(),
    }


def _short(retrieval: RetrievalJson) -> dict[str, float]:
    return {"r1": retrieval["r1"]["value"], "times_chance": retrieval["times_chance"], "r5": retrieval["r5"]}


def origins_of(labels: Labels) -> Origins:
    """Chunks as `iter_chunks` cuts them: at the recorded rate, forwards, within their episodes."""
    keys = [name.rsplit("/", 1) for name in labels.episode_N]
    anchor_B = torch.from_numpy(labels.start_N.astype(np.int64)) - 1
    nothing = Words(torch.tensor([0]), torch.tensor([0]))
    return Origins(
        tuple((dataset, int(index)) for dataset, index in keys),
        anchor_B,
        torch.ones(len(anchor_B)),
        anchor_B + HORIZON,  # the last frame that is known to be there
        torch.zeros(len(anchor_B), dtype=torch.bool),
        (nothing,) * len(anchor_B),
    )


def summary(figures: dict[str, Any]) -> str:
    """One line for a log."""
    l1, probes, aligned = figures["l1"], figures["probes"], figures.get("alignment", {})
    cells = {
        "l1": "/".join(f"{value:.5f}" for value in l1.values()),
        "q0 use": f"{figures['usage'][0]:.2f}",
        "perplexity": "/".join(f"{p:.0f}" for p in figures["perplexity"]),
        "q0 flips": f"{figures['flip_per_level']['0.004'][0]:.3f}",
        **{
            f"{label} q0/q1-3/h": "/".join(f"{probes[name][label]:.3f}" for name in ("q0", "q1-q3", "h"))
            for label in ("subtask", "verb", "gripper")
            if label in probes["q0"]
        },
    }
    if aligned:
        within = figures["retrieval_within_task_and_arm"].get("motion to moment", {"times_chance": float("nan")})
        cells |= {
            "diagonal": f"{aligned['diagonal']:.3f}",
            "mid": f"{aligned['mid_peak']:.3f}",
            "contrast": f"{aligned['contrast']:.3f}",
            "R@1 x chance": f"{within['times_chance']:.1f}",
        }
    return "; ".join(f"{name} {value}" for name, value in cells.items())


def main() -> None:
    from xtok.semantics.store import FeatureStore

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--features", type=Path)
    parser.add_argument("--split", choices=("validation", "heldout"), default="validation")
    parser.add_argument("-o", "--out", type=Path)
    args = parser.parse_args()
    tokenizer = Tokenizer.from_pretrained(args.run)
    trial = open_trial(Corpus.open(tokenizer.layout, args.data), args.data, args.split)
    features = None if args.features is None else FeatureStore.open(args.features)
    figures = measure(tokenizer, None if features is None else load_heads(args.run), trial, features)
    print(summary(figures))
    if args.out is not None:
        args.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
