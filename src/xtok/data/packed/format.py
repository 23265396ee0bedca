"""What lies in a packed corpus, and its descriptions read as a stranger's.

    CORPUS/pack.json               sources, statistics, digest; comes last, so a folder that has one is complete
    CORPUS/NAME/source.json        one data set: robots, rate, what it holds out, licence, units
    CORPUS/NAME/arms26-achieved/   a unit, the set in one layout as achieved or as commanded:
        ends.npy                   int64 [E], frames up to the end of each episode; what sampling searches
        table.npy                  TABLE [E]
        00007/                     a shard, P episodes: absolute.npy float32 [N, K], timestamps.npy [N], episodes.json

Channels that no episode of a shard has are not stored: K of the D. Arrays are memory-mapped.

# E episodes, N frames of a shard, K stored channels, D channels
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xtok.actions.layout import Layout, get_layout
from xtok.actions.types import HORIZON_MAX, HORIZON_MIN
from xtok.data.episode import ActionSource, LeftOut
from xtok.data.splits import Split

FORMAT = 1
MANIFEST, SOURCE, UNFINISHED = "pack.json", "source.json", "packing.json"
ABSOLUTE, TIMESTAMPS, EPISODES = "absolute.npy", "timestamps.npy", "episodes.json"
ENDS, INDEX = "ends.npy", "table.npy"
HELD_OUT, TASK_HELD_OUT = 1, 2  # flags of an episode: by its position, by its task
# kind: row of Unit.kinds. digest: of the episode's stored values, checked when it is read.
TABLE = np.dtype([("index", "<i8"), ("digest", "<u8"), ("kind", "<u4"), ("flags", "u1")])
SPLITS: tuple[Split, ...] = ("train", "heldout", "all")
_SAFE = re.compile(r"[A-Za-z0-9_][\w.+-]{0,119}", re.ASCII)
_JSON_BYTES_MAX = 1 << 28
_COUNT_MAX = 1 << 48  # of episodes, frames, bytes: beyond any robot's life
StoredStatistics = Mapping[str, object]  # Statistics.to_dict(), which is checked when it is asked for
PACK_AGAIN = "copy the corpus again, or remove it and pack anew"


@dataclass(frozen=True)
class Kind:
    """What episodes of one robot and mask share. channels: those that are valid."""

    embodiment: str
    channels: tuple[int, ...]
    control_hz: float

    def mask(self, layout: Layout) -> np.ndarray:
        mask_D = np.zeros(layout.width, dtype=bool)
        mask_D[list(self.channels)] = True
        return mask_D

    @classmethod
    def of(cls, fields: Mapping[str, Any], layout: Layout) -> Kind:
        channels = _channels(fields["channels"], layout)
        hz = fields["control_hz"]
        if not isinstance(hz, float | int) or not 0 < hz < 1e6:
            raise ValueError(f"control_hz is {hz!r}; expected a rate in Hz")
        return cls(_text(fields["embodiment"], "embodiment"), channels, float(hz))


@dataclass(frozen=True)
class Unit:
    """A data set in one layout, achieved or commanded.

    asked: the action_source that `open_dataset` was given for it; action_source: what its episodes are. per_shard:
    episodes of every shard but the last. columns: sets of stored channels; shard_columns: which of them, by shard.
    shard_frames, shard_digests: by shard. starts: split -> how many frames can be anchors of T frames, T 8 to 64.
    digests: file -> SHA-256.
    """

    layout: str
    layout_digest: str
    asked: ActionSource
    action_source: ActionSource
    episodes: int
    frames: int
    bytes: int
    per_shard: int
    kinds: tuple[Kind, ...]
    columns: tuple[tuple[int, ...], ...]
    shard_columns: tuple[int, ...]
    shard_frames: tuple[int, ...]
    shard_digests: tuple[str, ...]
    starts: dict[Split, tuple[int, ...]]
    digests: dict[str, str]

    @property
    def folder(self) -> str:
        return f"{self.layout}-{self.asked}"

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Unit:
        """Raises ValueError (or what Python makes of malformed fields) for what cannot be."""
        layout = get_layout(fields["layout"])
        if fields["layout_digest"] != layout.digest:
            raise ValueError(
                f"layout {layout.name!r} had other channels when it was packed (digest {fields['layout_digest']}, "
                f"now {layout.digest}); pack it again with this xtok"
            )
        for name in ("asked", "action_source"):
            if fields[name] not in ("achieved", "commanded"):
                raise ValueError(f"{name} is {fields[name]!r}; expected 'achieved' or 'commanded'")
        numbers = {name: _count(fields[name], name) for name in ("episodes", "frames", "bytes", "per_shard")}
        shard_frames = tuple(_count(n, "shard_frames") for n in fields["shard_frames"])
        shards = -(-numbers["episodes"] // numbers["per_shard"])
        columns = tuple(_channels(each, layout) for each in fields["columns"])
        shard_columns = tuple(_count(n, "shard_columns", 0, len(columns) - 1) for n in fields["shard_columns"])
        shard_digests = tuple(_text(each, "shard_digests") for each in fields["shard_digests"])
        if not len(shard_frames) == len(shard_columns) == len(shard_digests) == shards:
            raise ValueError(f"{len(shard_frames)} shards for {numbers['episodes']} episodes; expected {shards}")
        if sum(shard_frames) != numbers["frames"]:
            raise ValueError(f"frames is {numbers['frames']}, its shards have {sum(shard_frames)}")
        starts = {split: tuple(_count(n, "starts", 0) for n in fields["starts"][split]) for split in SPLITS}
        if any(len(each) != HORIZON_MAX - HORIZON_MIN + 1 for each in starts.values()):
            raise ValueError(f"starts is not a number for each of {HORIZON_MIN} to {HORIZON_MAX} frames")
        return cls(
            layout=layout.name,
            layout_digest=layout.digest,
            asked=fields["asked"],
            action_source=fields["action_source"],
            **numbers,
            kinds=tuple(Kind.of(each, layout) for each in fields["kinds"]),
            columns=columns,
            shard_columns=shard_columns,
            shard_frames=shard_frames,
            shard_digests=shard_digests,
            starts=starts,
            digests={name: _text(fields["digests"][name], name) for name in (ENDS, INDEX)},
        )


@dataclass(frozen=True)
class PackedSource:
    """One data set of a corpus. joint_units: of robots outside the registry. origin, fingerprint: where it was packed
    from and what lay there, "" where unknown; they are no part of the digest, nor is the licence. left_out: episodes
    that could not be read, by place; they count in splits."""

    name: str
    embodiments: tuple[str, ...]
    control_hz: float
    held_out_robot: bool
    held_out_tasks: tuple[str, ...]
    joint_units: dict[str, str]
    units: tuple[Unit, ...]
    licence: str | None = None
    origin: str = ""
    fingerprint: str = ""
    left_out: tuple[LeftOut, ...] = ()
    format: int = FORMAT

    @property
    def digest(self) -> str:
        """16 hex digits over its contents."""
        told = ("licence", "origin", "fingerprint", "left_out")
        content = {key: value for key, value in asdict(self).items() if key not in told}
        if self.left_out:
            content["left_out"] = [[each.position, each.index] for each in self.left_out]
        return hashlib.sha256(canonical(content)).hexdigest()[:16]

    def unit(self, layout: str, asked: ActionSource) -> Unit | None:
        """That which `open_dataset` reads when it is asked so."""
        for unit in self.units:
            if unit.layout == layout and asked in (unit.asked, unit.action_source):
                return unit
        return None

    @property
    def layouts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(unit.layout for unit in self.units))

    @classmethod
    def load(cls, folder: Path) -> PackedSource:
        """source.json of a folder.

        Raises:
            ValueError: it is missing, damaged, of another version, or says what cannot be.
        """
        fields = read_json(folder / SOURCE)
        with _described(folder / SOURCE):
            check_format(fields, folder / SOURCE)
            hz = fields["control_hz"]
            if not isinstance(hz, float | int) or not 0 < hz < 1e6:
                raise ValueError(f"control_hz is {hz!r}; expected a rate in Hz")
            if not isinstance(fields["held_out_robot"], bool):
                raise ValueError(f"held_out_robot is {fields['held_out_robot']!r}; expected true or false")
            units = tuple(Unit.of(each) for each in fields["units"])
            if not units:
                raise ValueError("it lists no units")
            return cls(
                name=_text(fields["name"], "name"),
                embodiments=tuple(_text(each, "embodiments") for each in fields["embodiments"]),
                control_hz=float(hz),
                held_out_robot=fields["held_out_robot"],
                held_out_tasks=tuple(_text(each, "held_out_tasks") for each in fields["held_out_tasks"]),
                joint_units={
                    _text(k, "joint_units"): _text(v, "joint_units") for k, v in fields["joint_units"].items()
                },
                units=units,
                licence=None if fields["licence"] is None else _text(fields["licence"], "licence"),
                origin=_text(fields["origin"], "origin"),
                fingerprint=_text(fields["fingerprint"], "fingerprint"),
                left_out=tuple(_left_out(each) for each in fields.get("left_out", ())),  # absent in older ones
            )


@dataclass(frozen=True)
class Manifest:
    """pack.json. folders: of the sources, in order. source_digests: theirs. statistics: key -> Statistics.to_dict().
    settings: what the command was given, for going on and for telling whether it is the same."""

    folders: tuple[str, ...]
    source_digests: tuple[str, ...]
    episodes: int
    frames: int
    bytes: int
    statistics: Mapping[str, StoredStatistics]
    settings: Mapping[str, Any]
    format: int = FORMAT

    @property
    def digest(self) -> str:
        """16 hex digits over the contents of all sources, in order: who else has the same has the same corpus."""
        return hashlib.sha256(canonical([FORMAT, list(self.source_digests)])).hexdigest()[:16]

    @classmethod
    def load(cls, corpus: Path) -> Manifest:
        """pack.json of a corpus.

        Raises:
            ValueError: it is missing, damaged, of another version, or says what cannot be.
        """
        if (corpus / UNFINISHED).is_file() and not (corpus / MANIFEST).is_file():
            raise ValueError(f"{corpus} is not finished; give its `xtok pack` command again, which goes on")
        fields = read_json(corpus / MANIFEST)
        with _described(corpus / MANIFEST):
            check_format(fields, corpus / MANIFEST)
            folders = tuple(check_folder(_text(each, "folders")) for each in fields["folders"])
            digests = tuple(_text(each, "source_digests") for each in fields["source_digests"])
            if not folders or len(folders) != len(digests) or len(set(folders)) != len(folders):
                raise ValueError(
                    f"{len(folders)} folders and {len(digests)} digests; expected one of each, all different"
                )
            numbers = {name: _count(fields[name], name) for name in ("episodes", "frames", "bytes")}
            if not all(isinstance(fields[name], dict) for name in ("statistics", "settings")):
                raise ValueError("statistics or settings are no mapping")
            manifest = cls(folders, digests, **numbers, statistics=fields["statistics"], settings=fields["settings"])
            if fields["digest"] != manifest.digest:
                raise ValueError(f"digest is {fields['digest']}; its sources make {manifest.digest}")
            return manifest


def is_packed(root: Path) -> bool:
    """Whether a folder is a packed corpus (also one that is not finished) or one of its sources."""
    return any((root / name).is_file() for name in (MANIFEST, UNFINISHED, SOURCE))


def canonical(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def to_json(record: PackedSource | Manifest) -> str:
    content = asdict(record)
    if isinstance(record, Manifest):
        content["digest"] = record.digest
    return json.dumps(content, indent=1) + "\n"


def read_json(path: Path) -> Any:
    """Raises ValueError where there is no JSON of a sane size."""
    try:
        if path.stat().st_size > _JSON_BYTES_MAX:
            raise ValueError(f"it has {path.stat().st_size:,} bytes")
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {path}: {error}; {PACK_AGAIN}") from error


def check_format(fields: Any, path: Path) -> None:
    if not isinstance(fields, dict) or "format" not in fields:
        raise ValueError("it is no description of a packed corpus")
    if fields["format"] != FORMAT:
        raise ValueError(f"{path.name} has format {fields['format']!r}, this xtok reads {FORMAT}: update xtok")


def check_folder(name: str) -> str:
    """A name of a folder right below the corpus, nothing that leads elsewhere."""
    if not _SAFE.fullmatch(name) or ".." in name:
        raise ValueError(f"{name!r} is no plain name of a folder")
    return name


def map_array(path: Path, dtype: np.dtype | str, shape: tuple[int, ...]) -> np.ndarray:
    """An array as it lies on disk, read-only.

    Raises:
        ValueError: it is missing, cut short, or of another kind or shape than its description says.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.dtype != np.dtype(dtype) or array.shape != shape:
            raise ValueError(f"it holds {array.dtype} {list(array.shape)}")
    except Exception as error:  # numpy lets through what its parser of headers raises, which is of no one family
        raise ValueError(
            f"cannot read {path}: {error}; expected {np.dtype(dtype)} {list(shape)}: {PACK_AGAIN}"
        ) from error
    return array.view(np.ndarray)


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def episode_digest(stored_NK: np.ndarray) -> int:
    """64 bits over an episode's stored values."""
    return int.from_bytes(hashlib.blake2b(np.ascontiguousarray(stored_NK).data, digest_size=8).digest(), "little")


def statistics_key(layout: str, embodiment: str, control_hz: float, digest_E: np.ndarray) -> str:
    """The same for the same episodes in any order: statistics of theirs are found by it."""
    head = canonical([layout, embodiment, control_hz, len(digest_E)])
    return hashlib.sha256(head + np.sort(digest_E.astype("<u8")).tobytes()).hexdigest()[:32]


@contextmanager
def _described(path: Path) -> Iterator[None]:
    """Errors in a description, told with its path and what to do."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        advice = "" if "again" in what or "update" in what else f"; {PACK_AGAIN}"
        raise ValueError(f"{path}: {what}{advice}") from error


def _count(value: Any, name: str, low: int = 1, high: int = _COUNT_MAX) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; expected a whole number from {low} to {high}")
    return value


def _left_out(fields: Mapping[str, Any]) -> LeftOut:
    index, position = (_count(fields[name], name, 0) for name in ("index", "position"))
    return LeftOut(_text(fields["dataset"], "dataset"), index, position, _text(fields["why"], "why"))


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is {value!r}; expected a text")
    return value


def _channels(values: Any, layout: Layout) -> tuple[int, ...]:
    channels = tuple(_count(each, "channels", 0, layout.width - 1) for each in values)
    if list(channels) != sorted(set(channels)) or not channels:
        raise ValueError(f"channels are {list(channels)[:8]}; expected some of layout {layout.name!r}, in order")
    return channels
