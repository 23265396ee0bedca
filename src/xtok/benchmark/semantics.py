"""The `semantics` part of `xtok eval`: arrays of tokenizers, teachers and heads, gathered and measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from xtok.actions.types import ActionTokenizer
from xtok.baselines.common import Form
from xtok.baselines.fast import FastTokenizer
from xtok.codec import storage
from xtok.codec.load import AnyTokenizer
from xtok.data import EpisodeDataset, iter_chunks, select
from xtok.evaluate.batches import target_delta
from xtok.evaluate.compare import FAST
from xtok.evaluate.gather import TEST_CHUNKS, Gathered, gather, positions
from xtok.evaluate.labels import Labels
from xtok.evaluate.result import FastFitJson
from xtok.evaluate.semantics import (
    Aligned,
    measure_alignment,
    motion_errors,
    neighbour_ranks,
    probe_codes,
    probe_dense,
)
from xtok.evaluate.semantics_result import ProbeJson, SemanticsResult, TeacherResult
from xtok.evaluate.strides import stride_within
from xtok.evaluate.substitution import mean_trajectories
from xtok.messages import say
from xtok.semantics.align import HEADS, load_heads
from xtok.semantics.cotemporal import TeacherFeatures, gather_features
from xtok.semantics.latents import decode_latents, latents, origins_of
from xtok.semantics.store import FeatureStore

FAST_CHUNKS = 8000
TEACHER_CHUNKS = 1000  # of each side, for probes of the features themselves
LONG_ENOUGH = 0.9  # share of held-out episodes that a chunk must fit into


def horizon_of(dataset: EpisodeDataset, horizons: Sequence[int], longest: int) -> int:
    """The longest of `horizons` up to `longest` that fits into nine of ten held-out episodes, else the shortest: short
    tasks, presses for one, must not drop out."""
    frames = [len(episode) for episode in select(dataset, "heldout")]
    fit = [T for T in sorted(horizons) if T <= longest and sum(n > T for n in frames) >= LONG_ENOUGH * len(frames)]
    return fit[-1] if fit else min(horizons)


def measure_semantics(
    dataset: EpisodeDataset,
    tokenizers: Mapping[str, AnyTokenizer],
    fast_fit: FastFitJson | None,
    horizon: int,
    features: Path | None = None,
    heads: str | None = None,
    seed: int = 0,
    test_chunks: int | None = None,
) -> SemanticsResult | None:
    """Probes and neighbour ranks of all tokenizers (FAST as `fast_fit` says among them); with `features` and `heads`
    also alignment, retrieval and substitution of the first one. None, with a remark, where a split has no usable
    episode.

    Raises:
        ValueError: features without heads or the other way round.
    """
    if (features is None) != (heads is None):
        raise ValueError("--features and --heads go together: alignment needs a teacher's features and trained heads")
    subject = next(iter(tokenizers.values()))
    contestants: dict[str, ActionTokenizer] = dict(tokenizers)
    train = [episode for episode in select(dataset, "train") if len(episode) > horizon]
    if fast_fit is not None and train:
        fitted = list(iter_chunks(train, horizon, stride_within(train, horizon, FAST_CHUNKS)))
        form: Form = fast_fit["form"] or "tangent"
        contestants[FAST] = FastTokenizer(subject.statistics, fast_fit["headline_scale"], form=form).fit(fitted)
    arms, tasks = unseen(subject, dataset)
    try:
        found = gather(
            dataset,
            contestants,
            subject.statistics,
            horizon,
            {name: partial(latents, each) for name, each in tokenizers.items()},
            arms,
            tasks,
            test_chunks=TEST_CHUNKS if test_chunks is None else test_chunks,
            say=say,
        )
    except ValueError as error:
        say(f"no measures of meaning: {error}")
        return None
    result: SemanticsResult = {
        "horizon": horizon,
        "train_chunks": int(found.train_N.sum()),
        "test_chunks": int((~found.train_N).sum()),
        "unseen": {"arms": sorted(arms), "tasks": sorted(tasks)},
        "errors": motion_errors(
            found.outputs, found.true_NX, found.mask_NX, found.test_labels, found.novelty_N[~found.train_N]
        ),
        "probes": probe_codes(found.outputs, found.labels, found.train_N, found.novelty_N, seed, say),
        "neighbours": neighbour_ranks(found.outputs, found.true_NX, found.test_labels.arm_N, ~found.train_N, seed),
    }
    if features is not None and heads is not None:
        return {**result, **_measure_teacher(subject, found, features, heads, seed)}
    return result


def _measure_teacher(
    tokenizer: AnyTokenizer, found: Gathered, features: Path, heads_name: str, seed: int
) -> TeacherResult:
    """Alignment with the features beside each slot, of the held-out chunks that have them in every slot."""
    store, heads = FeatureStore.open(features), load_heads(storage.resolve(heads_name, extra=[HEADS]))
    chunks, labels = found.test, found.test_labels
    seen = _seen(store, labels, chunks.context.horizon)
    there = heads.fusion.valid(seen).all(dim=1).numpy()
    if there.sum() < 2:
        raise ValueError(f"{features} has features of {int(there.sum())} of the held-out chunks; run `xtok features`")
    if not there.all():
        say(f"{int((~there).sum())} of {len(there)} held-out chunks have no features in some slot and are left out")
    rows = np.flatnonzero(there)
    say(f"alignment of {len(rows)} chunks with {store.teacher['name']}")
    seen = TeacherFeatures(*(part[torch.from_numpy(rows)] for part in vars(seen).values()))
    kept = chunks.take(torch.from_numpy(rows))
    h_NMC = latents(tokenizer, kept)
    with torch.no_grad():
        action, teacher = heads.action(torch.from_numpy(h_NMC)), heads.of(seen)
        told = heads.substitute(heads.fusion(seen)).numpy()
    others = np.random.default_rng(seed).permutation(len(rows))
    decoded = {
        "all levels": tokenizer.decode(tokenizer.encode(kept), kept.context).delta_BTD.numpy(),
        "own h": decode_latents(tokenizer, h_NMC, kept.context),
        "teacher": decode_latents(tokenizer, told, kept.context),
        "shuffled": decode_latents(tokenizer, told[others], kept.context),
    }
    train = found.chunks[slice(0, int(found.train_N.sum()))]
    true, train_true = (positions(each, target_delta(each).numpy()) for each in (kept, train))
    aligned = Aligned(
        action.numpy(),
        teacher.numpy(),
        true,
        {name: positions(kept, delta) for name, delta in decoded.items()},
        mean_trajectories(train_true, found.labels[found.train_N].task_N),
    )
    probes = _probe_teacher(store, found, seed)
    return {
        "teacher": store.teacher,
        "features": store.digest,
        "temperature": float(heads.temperature.detach()),
        "teacher_probes": probes,
        **measure_alignment(aligned, labels[rows], found.novelty_N[~found.train_N][rows], seed),
    }


def _probe_teacher(store: FeatureStore, found: Gathered, seed: int) -> dict[str, dict[str, ProbeJson]]:
    """The same probes of the features themselves: what pictures alone know, and what is merely the prompt read back."""
    rng = np.random.default_rng(seed)
    sides = (np.flatnonzero(found.train_N), np.flatnonzero(~found.train_N))
    rows = np.concatenate([np.sort(rng.permutation(side)[:TEACHER_CHUNKS]) for side in sides])
    seen = _seen(store, found.labels[rows], found.chunks.context.horizon)
    there = (seen.valid_BM & seen.view_mask_BMV.any(dim=-1)).all(dim=1).numpy()
    rows = rows[there]
    if not found.train_N[rows].any():
        say("no train chunk has features of the teacher: what it knows itself is not probed")
        return {}
    say(f"linear probes of {store.teacher['name']}")
    pictures = seen.views_BMVW.sum(dim=2) / seen.view_mask_BMV.sum(dim=2, keepdim=True).clamp_min(1)
    features = {"pictures": pictures.numpy()[there], "words": seen.text_BMW.numpy()[there]}
    return probe_dense(features, found.labels[rows], found.train_N[rows], found.novelty_N[rows], seed)


def _seen(store: FeatureStore, labels: Labels, horizon: int) -> TeacherFeatures:
    """A teacher's features beside each slot of labelled chunks; views that are absent are zero."""
    keys = [(name, int(index)) for name, index in (episode.rsplit("/", 1) for episode in labels.episode_N)]
    return gather_features(store, origins_of(keys, labels.start_N, labels.last_N), horizon).slots


def unseen(tokenizer: AnyTokenizer, dataset: EpisodeDataset) -> tuple[frozenset[str], frozenset[str]]:
    """Robots and tasks of the suite that nothing is trained on."""
    from xtok.sim.arms import ARMS, HELD_OUT_ARMS  # needs an extra
    from xtok.sim.tasks.names import HELD_OUT_TASKS

    arms = {ARMS[name].embodiment for name in HELD_OUT_ARMS}
    return frozenset(arms & set(dataset.embodiments)), frozenset(HELD_OUT_TASKS)
