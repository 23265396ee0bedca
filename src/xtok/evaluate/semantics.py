"""All measures of meaning on arrays: the `semantics` entry of the `xtok eval` JSON.

# N chunks, T frames, M slots, Q levels, E dimensions of the common space, C latent or position channels
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from xtok.evaluate.alignment import align, centred, pooled
from xtok.evaluate.families import arm_families, principal_plane
from xtok.evaluate.labels import CHUNK_LABELS, SLOT_LABELS, Labels
from xtok.evaluate.neighbours import CHUNKS_MAX, code_distances, distances, rank_correlation
from xtok.evaluate.probes import Probe, code_features, probe_all
from xtok.evaluate.retrieval import AMONG_ALL, WITHIN, retrieve
from xtok.evaluate.semantics_result import AlignmentResult, ProbeJson, ProbesJson, RetrievalJson
from xtok.evaluate.substitution import substitute

SEEN, UNSEEN_ARM, UNSEEN_TASK, UNSEEN_BOTH = "seen", "unseen arm", "unseen task", "unseen arm and task"
PROBED = (*SLOT_LABELS, *CHUNK_LABELS)
POINTS_MAX = 600  # of the picture

Say = Callable[[str], None]


@dataclass(frozen=True)
class TokenizerOutputs:
    """One tokenizer's arrays of all chunks: codes_NMQ of those with slots; bag_NW: bag of tokens of those without (and
    of those with, to compare). latent_NMC: h, where it can be had. decoded_NX: decoded motion of the test chunks in the
    units and order of `true_NX`."""

    codes_NMQ: np.ndarray | None = None
    bag_NW: np.ndarray | None = None
    latent_NMC: np.ndarray | None = None
    decoded_NX: np.ndarray | None = None


@dataclass(frozen=True)
class Aligned:
    """Test chunks beside a teacher, both on the unit sphere of the common space, with the features' own masks applied.

    true_NTC, decoded: positions relative to the anchor, m, decoded in several ways; means: of `mean_trajectories`.
    """

    action_NME: np.ndarray
    teacher_NME: np.ndarray
    true_NTC: np.ndarray | None = None
    decoded: Mapping[str, np.ndarray] = field(default_factory=dict)
    means: Mapping[str, np.ndarray] = field(default_factory=dict)


def novelty(labels: Labels, unseen_arms: frozenset[str], unseen_tasks: frozenset[str]) -> np.ndarray:
    """[N] which of SEEN, UNSEEN_ARM, UNSEEN_TASK, UNSEEN_BOTH a chunk is."""
    arm_N, task_N = np.isin(labels.arm_N, list(unseen_arms)), np.isin(labels.task_N, list(unseen_tasks))
    return np.select([arm_N & task_N, arm_N, task_N], [UNSEEN_BOTH, UNSEEN_ARM, UNSEEN_TASK], SEEN)


def probe_codes(
    outputs: Mapping[str, TokenizerOutputs],
    labels: Labels,
    train_N: np.ndarray,
    novelty_N: np.ndarray | None = None,
    seed: int = 0,
    say: Say = lambda _: None,
) -> ProbesJson:
    """Linear probes. "slot": tokenizer -> "q0", "q1-q3", "all", "h" -> label -> figures, of single slots. "chunk": the
    same of whole chunks from a bag of all tokens (FAST has no slots), for the label of the chunk's middle slot."""
    M = labels.text_NM.shape[1]
    slot_labels = {name: labels.slot(name).ravel() for name in PROBED}
    chunk_labels = {name: labels.slot(name)[:, M // 2] for name in PROBED}
    episode_n, train_n = (np.repeat(values, M) for values in (labels.episode_N, train_N))
    group_n = None if novelty_N is None else np.repeat(novelty_N, M)
    out: ProbesJson = {"slot": {}, "chunk": {}}
    for name, arrays in outputs.items():
        say(f"linear probes of {name}")
        features: dict[str, np.ndarray] = {}
        if arrays.codes_NMQ is not None:
            features |= code_features(arrays.codes_NMQ)
        if arrays.latent_NMC is not None:
            features["h"] = arrays.latent_NMC.reshape(-1, arrays.latent_NMC.shape[-1])
        if features:
            out["slot"][name] = _plain(probe_all(features, slot_labels, episode_n, train_n, seed, group_n))
        if arrays.bag_NW is not None:
            bag = {"tokens": arrays.bag_NW}
            probed = probe_all(bag, chunk_labels, labels.episode_N, train_N, seed, novelty_N)
            out["chunk"][name] = _plain(probed)
    return out


def probe_dense(
    features: Mapping[str, np.ndarray],
    labels: Labels,
    train_N: np.ndarray,
    novelty_N: np.ndarray | None = None,
    seed: int = 0,
) -> dict[str, dict[str, ProbeJson]]:
    """The same of dense features of slots, each [N, M, F]: name -> label -> figures."""
    M = labels.text_NM.shape[1]
    flat = {name: values.reshape(-1, values.shape[-1]) for name, values in features.items()}
    slot_labels = {name: labels.slot(name).ravel() for name in PROBED}
    episode_n, train_n = (np.repeat(values, M) for values in (labels.episode_N, train_N))
    group_n = None if novelty_N is None else np.repeat(novelty_N, M)
    return _plain(probe_all(flat, slot_labels, episode_n, train_n, seed, group_n))


def neighbour_ranks(
    outputs: Mapping[str, TokenizerOutputs], true_NX: np.ndarray, arm_N: np.ndarray, test_N: np.ndarray, seed: int = 0
) -> dict[str, dict[str, float | None]]:
    """Tokenizer -> rank correlation of neighbours' distances: "latent" (h) and "codes" before decoding, "decoded" after
    it, "shuffled": decoded motion of other chunks. true_NX: normalised motion of test chunks; test_N: their rows."""
    rng = np.random.default_rng(seed)
    some = np.sort(rng.permutation(len(true_NX))[:CHUNKS_MAX])
    true, arm, rows = true_NX[some], arm_N[some], np.flatnonzero(test_N)[some]
    out: dict[str, dict[str, float | None]] = {}
    for name, arrays in outputs.items():
        found: dict[str, np.ndarray] = {}
        if arrays.latent_NMC is not None:
            found["latent"] = distances(arrays.latent_NMC[rows].reshape(len(rows), -1))
        if arrays.codes_NMQ is not None:
            found["codes"] = code_distances(arrays.codes_NMQ[rows])
        if arrays.decoded_NX is not None:
            decoded = arrays.decoded_NX[some]
            found["decoded"] = distances(decoded)
            found["shuffled"] = distances(decoded[rng.permutation(len(decoded))])
        out[name] = {key: rank_correlation(true, each, group_N=arm) for key, each in found.items()}
    return out


def motion_errors(
    outputs: Mapping[str, TokenizerOutputs],
    true_NX: np.ndarray,
    mask_NX: np.ndarray,
    labels: Labels,
    novelty_N: np.ndarray,
) -> dict[str, dict[str, float]]:
    """Tokenizer -> row -> l1 of decoded motion in half ranges of the robot, over the channels that it has (mask_NX).

    All of test chunks. Rows as in `measure_alignment`: "all", seen and unseen, each arm, each task.
    """
    rows = _rows(labels, novelty_N)
    out: dict[str, dict[str, float]] = {}
    for name, arrays in outputs.items():
        if arrays.decoded_NX is None:
            continue
        error_NX = np.abs(arrays.decoded_NX - true_NX) * mask_NX
        out[name] = {row: float(error_NX[of].sum() / mask_NX[of].sum()) for row, of in rows.items()}
    return out


def measure_alignment(
    aligned: Aligned, labels: Labels, novelty_N: np.ndarray | None = None, seed: int = 0
) -> AlignmentResult:
    """`alignment`, `retrieval`, `families`, `plane` and (where decoded motion is given) `substitution`.

    Rows of alignment and retrieval: "all", each kind of novelty that occurs, each arm and each task. Retrieval within
    task and arm has "motion to moment", its reverse, and "shuffled" partners; so has retrieval among all.
    """
    action, teacher = aligned.action_NME, aligned.teacher_NME
    rows = _rows(labels, novelty_N)
    cell_N = np.char.add(np.char.add(labels.task_N.astype(str), "\n"), labels.arm_N.astype(str))
    a_NE, t_NE = pooled(centred(action)), pooled(centred(teacher))
    shuffled_NE = t_NE[_other_of_its_cell(cell_N, labels.episode_N, seed)]

    def ways(mask: np.ndarray, group_N: np.ndarray | None, candidates: int) -> dict[str, RetrievalJson]:
        group = None if group_N is None else group_N[mask]
        pairs = {"motion to moment": (a_NE, t_NE), "moment to motion": (t_NE, a_NE), "shuffled": (a_NE, shuffled_NE)}
        found = {
            way: retrieve(q[mask], g[mask], labels.episode_N[mask], group, candidates, seed)
            for way, (q, g) in pairs.items()
        }
        return {way: value.to_dict() for way, value in found.items() if value is not None}

    plane_N2, shares = principal_plane(np.concatenate([a_NE, t_NE]))
    some = np.sort(np.random.default_rng(seed).permutation(len(labels))[:POINTS_MAX])
    result: AlignmentResult = {
        "alignment": {
            name: align(action[mask], teacher[mask], labels.episode_N[mask], seed).to_dict()
            for name, mask in rows.items()
            if mask.sum() > 1
        },
        "retrieval": {
            "within task and arm": {name: ways(mask, cell_N, WITHIN) for name, mask in rows.items()},
            "among all": {"all": ways(rows["all"], None, AMONG_ALL)},
        },
        "families": {
            "motion": arm_families(a_NE, labels.arm_N, labels.episode_N).to_dict(),
            "moment": arm_families(t_NE, labels.arm_N, labels.episode_N).to_dict(),
        },
        "plane": {
            "shares": list(shares),
            "motion": np.round(plane_N2[: len(labels)][some], 4).tolist(),
            "moment": np.round(plane_N2[len(labels) :][some], 4).tolist(),
            "task": labels.task_N[some].astype(str).tolist(),
            "arm": labels.arm_N[some].astype(str).tolist(),
        },
    }
    if aligned.true_NTC is not None and aligned.decoded:
        found = substitute(aligned.true_NTC, aligned.decoded, aligned.means, labels.task_N, labels.episode_N, seed)
        result["substitution"] = {task: direction.to_dict() for task, direction in found.items()}
    return result


def _rows(labels: Labels, novelty_N: np.ndarray | None) -> dict[str, np.ndarray]:
    rows = {"all": np.ones(len(labels), dtype=bool)}
    if novelty_N is not None and len(set(novelty_N)) > 1:
        rows |= {kind: novelty_N == kind for kind in (SEEN, UNSEEN_ARM, UNSEEN_TASK, UNSEEN_BOTH) if kind in novelty_N}
    for key, values in (("arm", labels.arm_N), ("task", labels.task_N)):
        if len(names := np.unique(values)) > 1:
            rows |= {f"{key} {name}": values == name for name in names}
    return rows


def _other_of_its_cell(cell_N: np.ndarray, episode_N: np.ndarray, seed: int) -> np.ndarray:
    """A partner for each chunk: another episode's chunk of the same task and arm (any other where there is none)."""
    rng = np.random.default_rng(seed)
    out = np.empty(len(cell_N), dtype=int)
    for n in range(len(cell_N)):
        others = np.flatnonzero((cell_N == cell_N[n]) & (episode_N != episode_N[n]))
        out[n] = rng.choice(others) if len(others) else (n + 1) % len(cell_N)
    return out


def _plain(probes: Mapping[str, Mapping[str, Probe]]) -> dict[str, dict[str, ProbeJson]]:
    return {
        features: {label: probe.to_dict() for label, probe in by_label.items()} for features, by_label in probes.items()
    }
