"""Data sets through a frozen teacher into a feature store. Killed at any moment, the same command goes on.

A shard is a few episodes, computed on its own and written whole or not at all, so who computes it changes nothing.

# n samples of a shard, k its distinct texts, V views, W width
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from xtok.atomic import atomic_folder, atomic_write
from xtok.data import Episode, EpisodeDataset, Pictures, open_dataset
from xtok.data.digests import differences, digest_of, folder_digest
from xtok.data.fingerprint import mapping_rules
from xtok.data.open import data_root
from xtok.lock import entries
from xtok.semantics.load import load_teacher
from xtok.semantics.store import (
    FORMAT,
    MANIFEST,
    SETTINGS,
    SHARDS,
    STRIDE_FRAMES,
    FeatureStore,
    MappingJson,
    ShardJson,
    StoredEpisode,
    StoreManifest,
    StoreSettings,
    sample_frames,
)
from xtok.semantics.teacher import VIEWS_MAX, Teacher, check_template, check_views, prompt, read_all

EPISODES_PER_SHARD = 16
CAMERA = "observation.images."  # LeRobot's prefix of every camera


@dataclass(frozen=True)
class Shard:
    """Episodes by data set folder and position in it."""

    number: int
    episodes: tuple[tuple[Path, int], ...]


@dataclass(frozen=True)
class Work:
    """All that computing a shard needs besides the teacher; can be sent to another node with the same file system."""

    out: Path
    views: tuple[str, ...]
    template: str
    layout: str | None
    batch_size: int


@dataclass(frozen=True)
class Done:
    """pictures: seen by the teacher. seconds: in all, reading films included."""

    pictures: int
    seconds: float


@dataclass
class ShardWriter:
    """What a worker does: its copy loads the teacher of that name once, which must be the one that was planned with."""

    work: Work
    teacher: str
    layer: int | None
    digest: str

    def __post_init__(self) -> None:
        self._opened: dict[Path, EpisodeDataset] = {}

    def __call__(self, shard: Shard) -> Done:
        return write_shard(self.work, shard, self._loaded, opened=self._opened)

    @cached_property
    def _loaded(self) -> Teacher:
        found = load_teacher(self.teacher, self.layer)
        if found.digest != self.digest:
            raise ValueError(
                f"--teacher {self.teacher} has other weights here ({found.digest}) than where the command was given "
                f"({self.digest}); put the same ones on every machine"
            )
        return found


def plan(
    data_paths: Sequence[Path],
    teacher: Teacher,
    out: Path,
    template: str,
    views: Sequence[str] | None = None,
    layout: str | None = None,
    batch_size: int = 64,
) -> tuple[Work, list[Shard]]:
    """Open the folder `out` for these settings, or go on in it; returns the work and all shards, done ones too.

    Raises:
        ValueError: `out` holds something else or a store with other settings; two data sets of one name; no film at
            all; more than three cameras and no choice of views.
    """
    check_template(template)
    datasets = {path: open_dataset(path, layout=layout) for path in data_paths}
    names = [dataset.name for dataset in datasets.values()]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"data sets {doubled} share a name, by which episodes are found; rename a folder")
    chosen = tuple(views) if views else _cameras(datasets.values())
    check_views(chosen)
    settings: StoreSettings = {
        "format": FORMAT,
        "teacher": {
            "name": teacher.name,
            "digest": teacher.digest,
            "layer": teacher.layer,
            "width": teacher.width,
        },
        "template": template,
        "views": list(chosen),
        "stride_frames": STRIDE_FRAMES,
        "data": [
            {"name": dataset.name, "episodes": len(dataset), "digest": folder_digest(data_root(path)), **_mapping(path)}
            for path, dataset in datasets.items()
        ],
    }
    _claim(out, settings)
    every = iter([(path, position) for path, dataset in datasets.items() for position in range(len(dataset))])
    groups = iter(lambda: tuple(islice(every, EPISODES_PER_SHARD)), ())
    work = Work(out, chosen, template, layout, batch_size)
    return work, [Shard(number, group) for number, group in enumerate(groups)]


def is_done(work: Work, shard: Shard) -> bool:
    return _folder(work, shard).is_dir()


def write_shard(
    work: Work,
    shard: Shard,
    teacher: Teacher,
    progress: Callable[[Done], Any] = lambda _: None,
    opened: dict[Path, EpisodeDataset] | None = None,
) -> Done:
    """Compute one shard. progress: called after each batch of pictures. opened: data sets kept from shard to shard."""
    began = time.perf_counter()
    opened = {} if opened is None else opened
    index: list[StoredEpisode] = []
    texts: dict[str, int] = {}
    places: list[tuple[int, int]] = []  # sample and view of each picture
    batch: list[np.ndarray] = []
    seen: list[np.ndarray] = []
    rows = 0

    def flush() -> None:
        start = time.perf_counter()
        seen.append(teacher.see(batch))
        progress(Done(len(batch), time.perf_counter() - start))
        batch.clear()

    for path, position in shard.episodes:
        if path not in opened:
            opened[path] = open_dataset(path, layout=work.layout)
        episode = opened[path][position]
        frames = sample_frames(len(episode))
        entry, texts = _entry(episode, shard.number, rows, work.template, texts)
        index.append(entry)
        for v, view in enumerate(work.views):
            video = camera_of(episode, view)
            if video is None:
                continue
            frames_here = frames[frames < len(video)]  # a film may lack its last pictures; those samples are masked
            for row, picture in zip(frames_here, video.frames(frames_here.tolist()), strict=True):
                places.append((rows + int(np.searchsorted(frames, row)), v))
                batch.append(picture)
                if len(batch) == work.batch_size:
                    flush()
        rows += len(frames)
    if batch:
        flush()
    views_nVW = np.zeros((rows, len(work.views), teacher.width), np.float16)
    mask_nV = np.zeros((rows, len(work.views)), dtype=bool)
    if places:
        n, v = np.array(places).T
        views_nVW[n, v], mask_nV[n, v] = _half(np.concatenate(seen), teacher), True
    text_kW = _half(read_all(teacher, list(texts), work.batch_size), teacher)
    with atomic_folder(_folder(work, shard)) as folder:
        for name, array in (("views", views_nVW), ("mask", mask_nV), ("text", text_kW)):
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        about: ShardJson = {"episodes": [each.to_dict() for each in index], "pictures": len(places)}
        (folder / "index.json").write_text(json.dumps(about), encoding="utf-8")
    return Done(len(places), time.perf_counter() - began)


def finish(work: Work, shards: Sequence[Shard]) -> FeatureStore:
    """Write the manifest over shards that are all there."""
    settings: StoreSettings = json.loads((work.out / SETTINGS).read_text(encoding="utf-8"))
    indices: list[ShardJson] = [
        json.loads((_folder(work, s) / "index.json").read_text(encoding="utf-8")) for s in shards
    ]
    episodes = [episode for index in indices for episode in index["episodes"]]
    sizes = [{path.name: path.stat().st_size for path in sorted(_folder(work, s).iterdir())} for s in shards]
    manifest: StoreManifest = {
        "format": FORMAT,
        "digest": digest_of(**settings),
        "settings": settings,
        "episodes": episodes,
        "samples": sum(len(sample_frames(episode["frames"])) for episode in episodes),
        "frames": sum(episode["frames"] for episode in episodes),
        "pictures": sum(index["pictures"] for index in indices),
        "shards": sizes,
        "bytes": sum(sum(each.values()) for each in sizes),
    }
    atomic_write(work.out / MANIFEST, json.dumps(manifest))
    return FeatureStore.open(work.out)


def camera_of(episode: Episode, view: str) -> Pictures | None:
    """The film of a view, under the first of its names ("front|left_wrist") that the episode has."""
    videos = episode.videos
    return next((videos[key] for name in view.split("|") for key in (CAMERA + name, name) if key in videos), None)


def _entry(
    episode: Episode, shard: int, row: int, template: str, known: Mapping[str, int]
) -> tuple[StoredEpisode, dict[str, int]]:
    """The episode's entry, and prompt -> row of all that are `known` and those that it adds."""
    spans = [(segment.start, segment.text) for segment in episode.subtasks] or [(0, "")]
    if spans[0][0] > 0:
        spans.insert(0, (0, ""))
    prompts = tuple(prompt(template, episode.instruction, text) for _, text in spans)
    texts = {text: n for n, text in enumerate(dict.fromkeys((*known, *prompts)))}
    rows = tuple(texts[text] for text in prompts)
    cuts = tuple(start for start, _ in spans)
    return StoredEpisode(episode.dataset, episode.index, shard, row, len(episode), cuts, rows, prompts), texts


def _cameras(datasets: Any) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for dataset in datasets:
        found |= dict.fromkeys(camera.removeprefix(CAMERA) for camera in dataset[0].videos)
    if not found:
        raise ValueError("the data sets hold no film, so there is nothing to see; record with pictures")
    if len(found) > VIEWS_MAX:
        raise ValueError(
            f"the data sets have cameras {list(found)}; choose up to {VIEWS_MAX} with --views (A|B: camera A, "
            "or B in data sets that have no A)"
        )
    return tuple(found)


def _half(features: np.ndarray, teacher: Teacher) -> np.ndarray:
    with np.errstate(over="ignore"):
        half = features.astype(np.float16)
    if not np.isfinite(half).all():
        raise ValueError(f"layer {teacher.layer} of {teacher.name} has values beyond float16; choose another --layer")
    return half


def _index(work: Work, shard: Shard) -> ShardJson:
    return json.loads((_folder(work, shard) / "index.json").read_text(encoding="utf-8"))


def _folder(work: Work, shard: Shard) -> Path:
    return work.out / SHARDS / f"{shard.number:05d}"


def _mapping(path: Path) -> MappingJson:
    """The mapping that a set is read by, which decides words and sub-tasks too; nothing where there is none."""
    rules = mapping_rules(path)
    return {"mapping": rules} if rules else {}


def _claim(out: Path, settings: StoreSettings) -> None:
    path = out / SETTINGS
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        if different := differences(before, settings):
            raise ValueError(f"{out} holds a store of another {' and '.join(different)}; choose a new folder")
        for left in (out / SHARDS).glob(".*.tmp"):  # of a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        return
    if inside := entries(out):
        raise ValueError(f"{out} holds something else ({inside[0].name}, ...); choose a new folder")
    (out / SHARDS).mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(settings, indent=1) + "\n")
