"""Statistics of every robot of a packed corpus, over its train episodes, without holding them in memory.

The first pass, ranges, is done as shards are written. The second counts shard after shard into one histogram over the
range of all; what was counted is kept now and then, so that a kill costs little. The result is that of one pass.

# N frames, D channels, K valid channels
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np

from xtok.actions.histogram import QuantileHistogram
from xtok.actions.layout import LAYOUTS
from xtok.actions.statistics_fit import DeltaRange, count_deltas, delta_range, statistics_of
from xtok.atomic import atomic_write
from xtok.data.packed.format import ABSOLUTE, Kind, PackedSource, StoredStatistics, map_array, read_json, statistics_key
from xtok.data.packed.shard import RangeEntry, read_shard
from xtok.workers import Run

GROUP_FRAMES = 20_000  # deltas of so many frames are in memory at once
KEEP_EVERY = 16  # shards
STATISTICS = ".statistics"  # what has been counted so far


def ranges_of(kind: Kind, layout: str, episodes: Sequence[np.ndarray]) -> DeltaRange | None:
    """The first pass over episodes [N, D], in groups."""
    mask_D = kind.mask(LAYOUTS[layout])
    found = None
    for group in grouped(episodes):
        part = delta_range(LAYOUTS[layout], mask_D, group)
        found = part if found is None else found if part is None else found | part
    return found


def grouped(episodes: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Runs of episodes of GROUP_FRAMES frames, or one that is longer."""
    group: list[np.ndarray] = []
    for episode in episodes:
        if group and sum(map(len, group)) + len(episode) > GROUP_FRAMES:
            yield group
            group = []
        group.append(episode)
    if group:
        yield group


def to_entry(kind: int, found: DeltaRange) -> RangeEntry:
    """kind: its row in the description of the shard."""
    return {"kind": kind, "low": found.low.tolist(), "high": found.high.tolist(), "count": found.count}


@dataclass(frozen=True)
class Part:
    """Train episodes of one kind in one shard: positions in the shard, first rows and lengths from episodes.json."""

    shard: Path
    kind: Kind
    numbers: tuple[int, ...]
    digests: tuple[int, ...] = field(repr=False)
    found: DeltaRange | None = field(repr=False)


@dataclass(frozen=True)
class Count:
    """A part to be counted over the range of all."""

    part: Part
    layout: str
    low: np.ndarray
    high: np.ndarray


def gather(
    out: Path,
    sources: Sequence[PackedSource],
    folders: Sequence[str],
    run: Run,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> dict[str, StoredStatistics]:
    """Key -> Statistics.to_dict() for each robot and layout: of the motion that `open_dataset` gives unasked, and of it
    and the commanded one where a set has both. A robot whose episodes differ in rate, or none of whose episodes has all
    its channels, is left out: training will refuse it, and says why. run: does `count_part` to each of some counts."""
    found: dict[str, StoredStatistics] = {}
    for layout in sorted({unit.layout for source in sources for unit in source.units}):
        parts: dict[str, list[Part]] = {"achieved": [], "commanded": []}
        for source, folder in zip(sources, folders, strict=True):
            for unit in source.units:
                if unit.layout == layout:
                    for number in range(len(unit.shard_frames)):
                        parts[unit.asked] += _parts(out / folder / unit.folder / f"{number:05d}", layout)
        both = parts["achieved"] + parts["commanded"]
        for chosen in (parts["achieved"], both):
            for robot in sorted({part.kind.embodiment for part in chosen}):
                mine = [part for part in chosen if part.kind.embodiment == robot]
                widest = tuple(sorted({channel for part in mine for channel in part.kind.channels}))
                complete = [part for part in mine if part.kind.channels == widest]
                if len({part.kind.control_hz for part in mine}) == 1 and any(part.found for part in complete):
                    key = _key(layout, complete)
                    if key not in found:
                        found[key] = _fit(out, layout, complete, key, run, progress)
    return found


def _fit(
    out: Path,
    layout: str,
    parts: Sequence[Part],
    key: str,
    run: Run,
    progress: Callable[[str, int, int], None],
) -> StoredStatistics:
    """Statistics of one robot, from a file if they were done before a kill."""
    done = out / STATISTICS / f"{key}.json"
    if done.is_file():
        return read_json(done)
    kind = parts[0].kind
    moving = [part for part in parts if part.found is not None]
    total = moving[0].found
    for part in moving[1:]:
        total = total | part.found  # type: ignore[operator]
    assert total is not None
    histogram = total.histogram()
    begun = sorted((out / STATISTICS).glob(f"{key}-*.npy"))
    first = int(begun[-1].stem.rsplit("-", 1)[1]) if begun else 0
    if begun:
        histogram.counts += map_array(begun[-1], histogram.counts.dtype, histogram.counts.shape)
    done.parent.mkdir(exist_ok=True)
    counts = [Count(part, layout, total.low, total.high) for part in moving[first:]]
    what = f"statistics of {kind.embodiment}"
    progress(what, first, len(moving))
    for number, counted in enumerate(run(counts), first + 1):
        histogram.counts += counted
        progress(what, number, len(moving))
        if number % KEEP_EVERY == 0:
            atomic_write(done.parent / f"{key}-{number:08d}.npy", to_npy(histogram.counts))
    mask_D = kind.mask(LAYOUTS[layout])
    fitted = statistics_of(LAYOUTS[layout], kind.embodiment, kind.control_hz, mask_D, histogram, total.count)
    atomic_write(done, json.dumps(fitted.to_dict()))
    for left in done.parent.glob(f"{key}-*.npy"):
        left.unlink()
    return fitted.to_dict()


def count_part(count: Count) -> np.ndarray:
    """int64 [K, bins]."""
    layout = LAYOUTS[count.layout]
    about = read_shard(count.part.shard)
    entries, columns = about["episodes"], np.array(about["columns"])
    ends = np.cumsum([entry["frames"] for entry in entries])
    stored_NK = map_array(count.part.shard / ABSOLUTE, "<f4", (int(ends[-1]), len(columns)))
    episodes = []
    for number in count.part.numbers:
        rows = stored_NK[ends[number] - entries[number]["frames"] : ends[number]]
        absolute_ND = np.zeros((len(rows), layout.width), dtype=np.float32)
        absolute_ND[:, columns] = rows
        episodes.append(absolute_ND)
    histogram = QuantileHistogram(count.low, count.high)
    for group in grouped(episodes):
        count_deltas(histogram, layout, count.part.kind.mask(layout), group)
    return histogram.counts


def to_npy(array: np.ndarray) -> bytes:
    file = BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _parts(shard: Path, layout: str) -> list[Part]:
    about = read_shard(shard)
    found = {r["kind"]: DeltaRange(np.array(r["low"]), np.array(r["high"]), r["count"]) for r in about["ranges"]}
    out = []
    for number, fields in enumerate(about["kinds"]):
        train = [i for i, e in enumerate(about["episodes"]) if e["kind"] == number and not e["flags"]]
        if train:
            digests = tuple(about["episodes"][i]["digest"] for i in train)
            out.append(Part(shard, Kind.of(fields, LAYOUTS[layout]), tuple(train), digests, found.get(number)))
    return out


def _key(layout: str, parts: Sequence[Part]) -> str:
    kind = parts[0].kind
    digest_E = np.array([digest for part in parts for digest in part.digests], dtype=np.uint64)
    return statistics_key(layout, kind.embodiment, kind.control_hz, digest_E)
