"""Data sets into a packed corpus. Killed at any moment, the same command goes on and ends with the same bytes.

A shard is a fixed run of episodes, read and written on its own, whole or not at all: who writes it, and when, changes
nothing. Statistics take two passes (`xtok.actions.statistics`): ranges as shards are written, counts afterwards.

# E episodes, N frames, K stored channels, D channels
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from xtok.actions.layout import LAYOUTS
from xtok.actions.types import HORIZON_MAX, HORIZON_MIN
from xtok.atomic import atomic_folder, atomic_write
from xtok.data.episode import ActionSource, Episode, EpisodeDataset
from xtok.data.packed.format import (
    ABSOLUTE,
    ENDS,
    EPISODES,
    HELD_OUT,
    INDEX,
    MANIFEST,
    SOURCE,
    SPLITS,
    TABLE,
    TASK_HELD_OUT,
    TIMESTAMPS,
    UNFINISHED,
    Kind,
    Manifest,
    PackedSource,
    StoredStatistics,
    Unit,
    canonical,
    episode_digest,
    file_digest,
    to_json,
)
from xtok.data.packed.plan import Plan, Reading, Task, plan
from xtok.data.packed.sample import belongs
from xtok.data.packed.shard import EpisodeEntry, ShardDescription, read_shard
from xtok.data.packed.statistics import STATISTICS, Count, count_part, gather, ranges_of, to_entry, to_npy
from xtok.data.splits import is_heldout
from xtok.workers import Workers, crew


def pack(
    paths: Sequence[str | Path],
    out: str | Path,
    workers: int | Workers = 1,
    progress: Callable[[str, int, int], None] = lambda *_: None,
    **how: Any,
) -> Manifest:
    """Pack data sets into the folder `out`, or go on with it. `how`: as `plan`. progress: told what, how many, of how
    many. Several workers import the calling module: `xtok.workers.crew`.

    Raises:
        ValueError: as `plan` and `crew`; or an episode that cannot be read or has degenerate rotations.
    """
    workers = Workers(workers) if isinstance(workers, int) else workers
    work = plan(paths, Path(out), **how)
    if work.finished:
        clean(work.out)
        return Manifest.load(work.out)
    total, missing = sum(map(len, work.tasks)), work.missing
    progress("shards", total - len(missing), total)
    with crew(Packer(), workers) as run:
        for done, _ in enumerate(run(missing), total - len(missing) + 1):
            progress("shards", done, total)
        sources = [index_source(work, number) for number in range(len(work.folders))]
        statistics = gather(work.out, sources, work.folders, run, progress) if work.settings["statistics"] else {}
    return finish(work, sources, statistics)


class Packer:
    """What a worker does: shards, then counts. It keeps the set that it opened last."""

    def __init__(self) -> None:
        self._opened: tuple[Reading, EpisodeDataset] | None = None

    def __call__(self, unit: Task | Count) -> np.ndarray | None:
        if isinstance(unit, Count):
            return count_part(unit)
        if self._opened is None or self._opened[0] != unit.reading:
            self._opened = unit.reading, unit.reading.open()
        write_shard(unit, self._opened[1])
        return None


def write_shard(task: Task, dataset: EpisodeDataset | None = None) -> None:
    """Read some episodes and write their shard. dataset: the task's reading, where it is open already.

    Raises:
        ValueError: an episode that cannot be read, or whose rotations are degenerate.
    """
    if task.folder.is_dir():
        return
    dataset = task.reading.open() if dataset is None else dataset
    first = task.shard * task.per_shard
    episodes = [dataset[i] for i in range(first, min(first + task.per_shard, len(dataset)))]
    places = [dataset.place(first + i) for i in range(len(episodes))]
    write_episodes(task.folder, episodes, places, task.held_out_tasks, task.ranges)


def write_episodes(
    folder: Path, episodes: Sequence[Episode], places: Sequence[int], held_out_tasks: frozenset[str], ranges: bool
) -> None:
    """One shard; places: of its episodes among all that the set lists."""
    layout = episodes[0].layout
    frames = [episode.absolute_ND for episode in episodes]
    absolute_ND = np.concatenate(frames)
    used_D = np.any([episode.mask_D for episode in episodes], axis=0) | absolute_ND.any(axis=0)
    columns = np.flatnonzero(used_D)
    times_N = np.concatenate([episode.timestamps_s for episode in episodes])
    if (times_N.astype(np.float32) == times_N).all():
        times_N = times_N.astype(np.float32)
    kinds: dict[Kind, int] = {}
    entries: list[EpisodeEntry] = []
    for place, episode, path_ND in zip(places, episodes, frames, strict=True):
        channels = tuple(np.flatnonzero(episode.mask_D).tolist())
        kind = Kind(episode.embodiment, channels, float(episode.control_hz))
        flags = HELD_OUT * is_heldout(place) | TASK_HELD_OUT * (episode.task in held_out_tasks)
        entry: EpisodeEntry = {
            "index": episode.index,
            "frames": len(path_ND),
            "kind": kinds.setdefault(kind, len(kinds)),
            "flags": flags,
            "digest": episode_digest(path_ND[:, columns]),
            "instruction": episode.instruction,
            "task": episode.task,
            "subtasks": [(each.start, each.end, each.text) for each in episode.subtasks],
        }
        if episode.wordings:
            entry["wordings"] = list(episode.wordings)
        entries.append(entry)
    about: ShardDescription = {
        "action_source": episodes[0].action_source,
        "columns": columns.tolist(),
        "timestamps": times_N.dtype.str,
        "kinds": [asdict(kind) for kind in kinds],
        "episodes": entries,
        "ranges": [],
        "files": {},
    }
    if ranges:
        where = f"{episodes[0].dataset}, episodes {episodes[0].index} to {episodes[-1].index}"
        for kind, number in kinds.items():
            train = [f for f, e in zip(frames, entries, strict=True) if e["kind"] == number and not e["flags"]]
            try:
                found = ranges_of(kind, layout.name, train)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
            if found is not None:
                about["ranges"].append(to_entry(number, found))
    with atomic_folder(folder) as temporary:
        np.save(temporary / ABSOLUTE, np.ascontiguousarray(absolute_ND[:, columns], dtype="<f4"), allow_pickle=False)
        np.save(temporary / TIMESTAMPS, times_N, allow_pickle=False)
        about["files"] = {name: file_digest(temporary / name) for name in (ABSOLUTE, TIMESTAMPS)}
        (temporary / EPISODES).write_bytes(canonical(about))


def index_source(work: Plan, number: int) -> PackedSource:
    """Write index files and source.json of a source whose shards are all there."""
    folder = work.folders[number]
    units = [
        index_unit([task.folder for task in tasks], tasks[0].unit, asked=about["asked"], layout=about["layout"])
        for tasks, about in zip(work.tasks, work.settings["units"], strict=True)
        if about["folder"] == folder
    ]
    source = replace(work.sources[number], units=tuple(units))
    atomic_write(work.out / folder / SOURCE, to_json(source))
    return source


def index_unit(shards: Sequence[Path], folder: Path, asked: ActionSource, layout: str) -> Unit:
    """Write the index over shards and describe them."""
    kinds: dict[Kind, int] = {}
    columns: dict[tuple[int, ...], int] = {}
    shard_columns, shard_frames, shard_digests, lengths, tables, size = [], [], [], [], [], 0
    for shard in shards:
        about = read_shard(shard)
        mine = [Kind.of(each, LAYOUTS[layout]) for each in about["kinds"]]
        numbers = [kinds.setdefault(kind, len(kinds)) for kind in mine]
        table_E = np.zeros(len(about["episodes"]), dtype=TABLE)
        for row, entry in zip(table_E, about["episodes"], strict=True):
            row["index"], row["digest"], row["flags"] = entry["index"], entry["digest"], entry["flags"]
            row["kind"] = numbers[entry["kind"]]
        tables.append(table_E)
        lengths.append(np.array([entry["frames"] for entry in about["episodes"]], dtype=np.int64))
        shard_columns.append(columns.setdefault(tuple(about["columns"]), len(columns)))
        shard_frames.append(int(lengths[-1].sum()))
        shard_digests.append(file_digest(shard / EPISODES))
        size += sum(path.stat().st_size for path in shard.iterdir())
    table_E, length_E = np.concatenate(tables), np.concatenate(lengths)
    arrays = {ENDS: np.cumsum(length_E).astype("<i8"), INDEX: table_E}
    for name, array in arrays.items():
        atomic_write(folder / name, to_npy(array))
    starts = {
        split: tuple(
            int(np.maximum(length_E[belongs(table_E["flags"], split)] - horizon, 0).sum())
            for horizon in range(HORIZON_MIN, HORIZON_MAX + 1)
        )
        for split in SPLITS
    }
    return Unit(
        layout=layout,
        layout_digest=LAYOUTS[layout].digest,
        asked=asked,
        action_source=about["action_source"],
        episodes=len(length_E),
        frames=int(length_E.sum()),
        bytes=size + sum((folder / name).stat().st_size for name in arrays),
        per_shard=len(tables[0]),
        kinds=tuple(kinds),
        columns=tuple(columns),
        shard_columns=tuple(shard_columns),
        shard_frames=tuple(shard_frames),
        shard_digests=tuple(shard_digests),
        starts=starts,
        digests={name: file_digest(folder / name) for name in arrays},
    )


def finish(work: Plan, sources: Sequence[PackedSource], statistics: Mapping[str, StoredStatistics]) -> Manifest:
    """Write the manifest over sources that are all there."""
    units = [unit for source in sources for unit in source.units]
    manifest = Manifest(
        folders=work.folders,
        source_digests=tuple(source.digest for source in sources),
        episodes=sum(unit.episodes for unit in units),
        frames=sum(unit.frames for unit in units),
        bytes=sum(unit.bytes for unit in units),
        statistics=statistics,
        settings=work.settings,
    )
    atomic_write(work.out / MANIFEST, to_json(manifest))
    clean(work.out)
    return manifest


def clean(out: Path) -> None:
    """Remove what a finished corpus does not need, and what killed runs left."""
    (out / UNFINISHED).unlink(missing_ok=True)
    shutil.rmtree(out / STATISTICS, ignore_errors=True)
    for left in out.rglob(".*.tmp"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
