"""What is to be packed: every data set looked at, its shards laid out, and the folder claimed for them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

import numpy as np

from xtok.actions.embodiments import UNREGISTERED_PREFIX, get_embodiment
from xtok.actions.layout import LAYOUTS
from xtok.atomic import atomic_write
from xtok.data.digests import differences
from xtok.data.episode import ActionSource, Episode, EpisodeDataset, LeftOut
from xtok.data.fingerprint import fingerprint
from xtok.data.inspect.licences import find_licence
from xtok.data.open import data_root, open_dataset, open_unchecked
from xtok.data.packed.format import FORMAT, MANIFEST, UNFINISHED, Manifest, PackedSource, check_folder, read_json
from xtok.data.packed.sources import members, open_sources
from xtok.data.source import typed_errors
from xtok.lock import entries

SHARD_BYTES = 1 << 21  # about what a shard holds: what a kill costs, and what workers share out
PER_SHARD_MIN, PER_SHARD_MAX = 8, 1024
Asked = Literal["achieved", "commanded", "both"]


class _ReadingSettings(TypedDict):
    path: str
    layout: str
    embodiment: str | None
    mapping: str | None
    asked: ActionSource


class ReadingSettings(_ReadingSettings, total=False):
    """`Reading` as pack.json has it."""

    left_out: tuple[int, ...]


class UnitSettings(ReadingSettings):
    folder: str
    episodes: int
    per_shard: int


class SourceSettings(TypedDict):
    """data: where it was packed from. contents: its fingerprint."""

    folder: str
    data: str
    contents: str


class _Settings(TypedDict):
    format: int
    sources: list[SourceSettings]
    units: list[UnitSettings]
    statistics: bool


class Settings(_Settings, total=False):
    """What makes two `xtok pack` commands the same; kept in pack.json."""

    left_out: list[dict[str, Any]]  # LeftOut.to_dict()


@dataclass(frozen=True)
class Reading:
    """How a unit is read: arguments of `open_dataset`."""

    path: str
    layout: str
    embodiment: str | None
    mapping: str | None
    asked: ActionSource
    left_out: tuple[int, ...] = ()  # places in the set that cannot be read, found when the corpus was planned

    def open(self) -> EpisodeDataset:
        how = (self.path, self.layout, self.embodiment, self.asked, self.mapping)
        if not self.left_out:
            return open_dataset(*how)
        dataset = open_unchecked(*how)
        return dataset.without([LeftOut(dataset.name, -1, place, "") for place in self.left_out])

    def to_dict(self) -> ReadingSettings:
        fields = cast(ReadingSettings, asdict(self))
        if not self.left_out:
            del fields["left_out"]
        return fields


@dataclass(frozen=True)
class Task:
    """Positions first to first + per_shard of a unit, into its shard. held_out_tasks: of the set. ranges: wanted."""

    unit: Path
    shard: int
    reading: Reading
    per_shard: int
    held_out_tasks: frozenset[str]
    ranges: bool

    @property
    def folder(self) -> Path:
        return self.unit / f"{self.shard:05d}"


@dataclass(frozen=True)
class Plan:
    """What is to be packed: settings (kept in pack.json), sources without their units, and every shard, done or not."""

    out: Path
    settings: Settings
    sources: tuple[PackedSource, ...]
    folders: tuple[str, ...]
    tasks: tuple[tuple[Task, ...], ...]  # of each unit, in the order of settings["units"]

    @property
    def finished(self) -> bool:
        return (self.out / MANIFEST).is_file()

    @property
    def missing(self) -> list[Task]:
        return [task for unit in self.tasks for task in unit if not task.folder.is_dir()]


def plan(
    paths: Sequence[str | Path],
    out: Path,
    layout: Literal["arms26", "joints", "both"] | None = None,
    embodiment: str | None = None,
    mapping: str | Path | None = None,
    action_source: Asked = "both",
    statistics: bool = True,
    skip_bad: bool = False,
) -> Plan:
    """Look at every data set and claim the folder `out`, or go on in it.

    Args:
        layout: as in `open_dataset`; "both" packs a set in every layout that it can be read in.
        action_source: "both" packs the commanded motion too, where a set has it.
        statistics: gather those of every robot's train episodes.
        skip_bad: leave out episodes that cannot be read in every way in which their set is packed; all are read for it.

    Raises:
        ValueError: `out` holds something else, a corpus of other settings, or one whose data have changed since; two
            sets of one name; as `open_dataset`.
    """
    wanted = layout if layout in LAYOUTS else None
    every = [member for path in paths for member in members(path, wanted)]
    if not every:
        raise ValueError("no data set to pack; give one folder or more")
    sources, folders, tasks = [], [], []
    units: list[UnitSettings] = []
    for path in every:
        readings = list(_readings(path, layout, embodiment, mapping, action_source, skip_bad))
        bad = _bad(readings) if skip_bad else []
        readings = [replace(reading, left_out=tuple(each.position for each in bad)) for reading in readings]
        first = readings[0].open()
        left_out = (*(first.left_out if not bad else first.left_out[: -len(bad)]), *bad)
        folder = _folder_name(first.name, path)
        if folder in folders:
            raise ValueError(f"two data sets are called {first.name!r}, by which episodes are found; rename a folder")
        root = data_root(path)
        robots = [name for name in first.embodiments if name.startswith(UNREGISTERED_PREFIX)]
        about = PackedSource(
            name=first.name,
            embodiments=first.embodiments,
            control_hz=first.control_hz,
            held_out_robot=first.held_out_robot,
            held_out_tasks=tuple(sorted(first.held_out_tasks)),
            joint_units={
                **{name: get_embodiment(name).joint_unit for name in robots},
                **{name: unit for reading in readings for name, unit in reading.open().joint_units.items()},
            },
            units=(),
            licence=find_licence(root),
            origin=str(path),
            fingerprint=fingerprint(path, mapping).digest,
            left_out=tuple(sorted(left_out, key=lambda each: each.position)),
        )
        sources.append(about)
        folders.append(folder)
        for reading in readings:
            dataset = reading.open()
            per_shard = _per_shard(dataset[0])
            units.append({"folder": folder, "episodes": len(dataset), "per_shard": per_shard, **reading.to_dict()})
            unit = out / folder / f"{reading.layout}-{reading.asked}"
            shards = range(-(-len(dataset) // per_shard))
            tasks.append(tuple(Task(unit, i, reading, per_shard, dataset.held_out_tasks, statistics) for i in shards))
    settings: Settings = {
        "format": FORMAT,
        "sources": [
            {"folder": f, "data": s.origin, "contents": s.fingerprint} for f, s in zip(folders, sources, strict=True)
        ],
        "units": units,
        "statistics": statistics,
    }
    if told := [each.to_dict() for source in sources for each in source.left_out]:
        settings["left_out"] = told
    with typed_errors(f"what is in {out}"):
        _claim(out, settings)
    return Plan(out, settings, tuple(sources), tuple(folders), tuple(tasks))


def _bad(readings: Sequence[Reading]) -> list[LeftOut]:
    """What cannot be read in one of several ways, so that all have the same episodes."""
    found: dict[int, LeftOut] = {}
    for reading in readings:
        dataset = open_unchecked(reading.path, reading.layout, reading.embodiment, reading.asked, reading.mapping)
        before = len(dataset.left_out)
        for each in dataset.without_bad().left_out[before:]:
            found.setdefault(each.position, each)
    return [found[position] for position in sorted(found)]


def _readings(
    path: Path,
    layout: str | None,
    embodiment: str | None,
    mapping: str | Path | None,
    action_source: Asked,
    skip_bad: bool = False,
) -> Iterator[Reading]:
    """The ways in which a set is to be read; at least one."""
    where = None if mapping is None else str(mapping)
    layouts: list[str | None] = [layout] if layout != "both" else list(LAYOUTS)
    failures: list[ValueError] = []
    found = False
    for name in layouts:
        try:
            asked: ActionSource = "commanded" if action_source == "commanded" else "achieved"
            dataset = (open_unchecked if skip_bad else open_dataset)(path, name, embodiment, asked, where)
        except ValueError as error:
            failures.append(error)
            continue
        found = True
        reading = Reading(str(path), dataset.layout.name, embodiment, where, asked)
        yield reading
        dataset = dataset.without_bad() if skip_bad and action_source == "both" else dataset
        if action_source == "both" and "commanded" in dataset.action_sources and dataset[0].action_source == asked:
            yield replace(reading, asked="commanded")
    if not found:
        raise failures[0]


def _per_shard(episode: Episode) -> int:
    size = len(episode) * int(episode.mask_D.sum()) * 4
    return int(np.clip(SHARD_BYTES // max(size, 1), PER_SHARD_MIN, PER_SHARD_MAX))


def _folder_name(name: str, path: Path) -> str:
    plain = re.sub(r"[^A-Za-z0-9_.+-]+", "_", name.replace("..", "_")).lstrip(".+-")[:100]
    try:
        return check_folder(plain)
    except ValueError:
        raise ValueError(f"{path} is called {name!r}, which gives no name for a folder; rename it") from None


def _claim(out: Path, settings: Settings) -> None:
    """Begin in an empty folder, or find the same settings there.

    Raises:
        ValueError: another corpus, something else, or data that have changed since.
    """
    plain = json.loads(json.dumps(settings))
    if (out / MANIFEST).is_file():
        open_sources(out)
        before = Manifest.load(out).settings
    elif (out / UNFINISHED).is_file():
        before = read_json(out / UNFINISHED)
    elif inside := _inside(out):
        raise ValueError(f"{out} holds something else ({inside}, ...); choose a new folder")
    else:
        out.mkdir(parents=True, exist_ok=True)
        for left in entries(out):
            left.unlink()
        atomic_write(out / UNFINISHED, json.dumps(settings, indent=1) + "\n")
        return
    if before == plain:
        return
    told = {s["folder"]: s for s in before.get("sources", [])}
    for source in settings["sources"]:
        old = told.get(source["folder"])
        read_alike = _how(before.get("units", [])) == _how(plain["units"])
        if old is None or old["data"] != source["data"] or not read_alike:
            continue
        if old["contents"] != source["contents"]:
            raise ValueError(
                f"{source['data']} has changed since {out} was begun (contents {old['contents']}, now "
                f"{source['contents']}; they include the mapping that it is read by): put it back as it was, or remove "
                f"{out} and pack anew"
            )
    what = " and ".join(_different(before, plain))
    raise ValueError(f"{out} was begun with other {what}; give that command, or choose a new folder")


def _how(units: Sequence[Mapping[str, object]]) -> list[tuple[Any, ...]]:
    """How sets are read: arguments, not contents."""
    return [tuple(unit.get(key) for key in ("folder", "layout", "embodiment", "mapping", "asked")) for unit in units]


def _different(before: Mapping[str, object], now: Mapping[str, Any]) -> list[str]:
    """What differs, in words. Lists of sets and units are compared one by one where they are of one length."""

    def numbered(settings: Mapping[str, object]) -> dict[str, object]:
        return {
            key: dict(enumerate(value)) if isinstance(value, list) and len(value) == len(now[key]) else value
            for key, value in settings.items()
            if key in now
        }

    return differences(numbered(before), numbered(now)) or ["settings"]


def _inside(out: Path) -> str:
    """Something in a folder that no killed `xtok pack` left, or ""."""
    if out.is_file():
        return "a file"
    names = [path.name for path in entries(out)]
    return next((name for name in names if not re.fullmatch(rf"\.{UNFINISHED}\.\d+\.tmp", name)), "")
