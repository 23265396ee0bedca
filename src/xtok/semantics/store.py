"""A folder of teacher features at a fixed stride, made once by `xtok features`, read from any place in any order.

STORE/manifest.json: whose features (teacher, layer, prompt, views, data; their digest), index of all episodes.
STORE/shards/00007/: views.npy float16 [n, V, W], mask.npy bool [n, V], text.npy float16 [k, W], index.json. A shard
appears whole or not at all; the manifest comes last, so a folder with one is complete. Arrays are memory-mapped.

# n samples of a shard, k its distinct texts, V views, W width, F frames asked for
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np

from xtok.semantics.teacher import Features

MANIFEST, SETTINGS, SHARDS = "manifest.json", "settings.json", "shards"
FORMAT = 1
STRIDE_FRAMES = 4  # docs/method.md#teacher: the stride of the latents
ARRAYS = ("views", "mask", "text")
Side = Literal["nearest", "after"]


class TeacherJson(TypedDict):
    """Whose features a store holds: `name`, `digest`, `layer` and `width` of its `Teacher`."""

    name: str
    digest: str
    layer: int
    width: int


class MappingJson(TypedDict, total=False):
    """The rules that a data set was read by, where there are any."""

    mapping: str


class DataJson(MappingJson):
    """A data set that was seen."""

    name: str
    episodes: int
    digest: str


class StoreSettings(TypedDict):
    """All that decides a store's features."""

    format: int
    teacher: TeacherJson
    template: str
    views: list[str]
    stride_frames: int
    data: list[DataJson]


class StoredEpisodeJson(TypedDict):
    """A `StoredEpisode` in a file."""

    dataset: str
    index: int
    shard: int
    row: int
    frames: int
    cuts: list[int]
    texts: list[int]
    prompts: list[str]


class ShardJson(TypedDict):
    """The `index.json` of a shard. pictures: that the teacher saw for it."""

    episodes: list[StoredEpisodeJson]
    pictures: int


class StoreManifest(TypedDict):
    """The `manifest.json` of a store. shards: bytes of each file."""

    format: int
    digest: str
    settings: StoreSettings
    episodes: list[StoredEpisodeJson]
    samples: int
    frames: int
    pictures: int
    shards: list[dict[str, int]]
    bytes: int


@dataclass(frozen=True)
class StoredEpisode:
    """Where an episode lies. row: of its first sample in the shard. frames: how many it has. cuts, texts: the text
    row from each cut (a frame) on, until the next cut.
    """

    dataset: str
    index: int
    shard: int
    row: int
    frames: int
    cuts: tuple[int, ...]
    texts: tuple[int, ...]
    prompts: tuple[str, ...]

    @property
    def sample_frames(self) -> np.ndarray:
        return sample_frames(self.frames)

    def to_dict(self) -> StoredEpisodeJson:
        return {
            "dataset": self.dataset,
            "index": self.index,
            "shard": self.shard,
            "row": self.row,
            "frames": self.frames,
            "cuts": list(self.cuts),
            "texts": list(self.texts),
            "prompts": list(self.prompts),
        }

    @classmethod
    def from_dict(cls, content: StoredEpisodeJson) -> StoredEpisode:
        """Inverse of `to_dict`.

        Raises:
            ValueError: other fields.
        """
        expected = {field.name for field in fields(cls)}
        if content.keys() != expected:
            raise ValueError(f"an episode of the index has the fields {sorted(expected)}")
        return cls(
            dataset=content["dataset"],
            index=content["index"],
            shard=content["shard"],
            row=content["row"],
            frames=content["frames"],
            cuts=tuple(content["cuts"]),
            texts=tuple(content["texts"]),
            prompts=tuple(content["prompts"]),
        )


def sample_frames(frames: int) -> np.ndarray:
    """Every fourth frame of an episode, and its last one."""
    return np.unique(np.append(np.arange(0, frames, STRIDE_FRAMES), frames - 1))


class FeatureStore:
    """Random access to stored features. Nothing is read but the manifest until `lookup` is called."""

    def __init__(self, path: Path, manifest: StoreManifest) -> None:
        self.path = path
        self.manifest = manifest
        self.teacher: TeacherJson = manifest["settings"]["teacher"]
        self.width: int = self.teacher["width"]
        self.views: tuple[str, ...] = tuple(manifest["settings"]["views"])
        self.stride_frames: int = manifest["settings"]["stride_frames"]
        self.digest: str = manifest["digest"]
        self._episodes = {(e["dataset"], e["index"]): StoredEpisode.from_dict(e) for e in manifest["episodes"]}
        self._mapped: dict[tuple[int, str], np.ndarray] = {}

    @classmethod
    def open(cls, path: str | Path) -> FeatureStore:
        """The store in the folder `path`.

        Raises:
            ValueError: no store, one that is not finished, or one with files missing, cut or of another size.
        """
        path = Path(path)
        if not (path / MANIFEST).is_file():
            if (path / SETTINGS).is_file():
                raise ValueError(f"{path} is not finished; give its `xtok features` command again")
            raise ValueError(f"no feature store in {path}; make one with `xtok features DATA --teacher T -o {path}`")
        try:
            manifest: StoreManifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
            if manifest["format"] != FORMAT:
                raise ValueError(f"format is {manifest['format']}, this xtok reads {FORMAT}")
            store = cls(path, manifest)
            shards = manifest["shards"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"cannot read {path / MANIFEST}: {error}; make the store again") from error
        for number, sizes in enumerate(shards):
            for name, size in sizes.items():
                file = path / SHARDS / f"{number:05d}" / name
                if not file.is_file() or file.stat().st_size != size:
                    raise ValueError(f"{file} is missing or not of {size} bytes; remove {path} and make it again")
        return store

    def __getstate__(self) -> dict[str, Any]:
        """Arrays are mapped anew where it is unpickled."""
        return {**self.__dict__, "_mapped": {}}

    def __contains__(self, key: object) -> bool:
        return key in self._episodes

    def __len__(self) -> int:
        return len(self._episodes)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """Episode keys: (dataset, index)."""
        return iter(self._episodes)

    def episode(self, dataset: str, index: int) -> StoredEpisode:
        """What is stored of an episode.

        Raises:
            ValueError: nothing is.
        """
        try:
            return self._episodes[dataset, index]
        except KeyError:
            names = sorted({name for name, _ in self._episodes})
            raise ValueError(
                f"{self.path} has no episode {index} of {dataset!r} (it has {len(self)} of {names[:8]}); "
                "run `xtok features` on that data set too"
            ) from None

    def lookup(self, dataset: str, index: int, frames: Any, side: Side = "nearest") -> Features:
        """Features at frames of an episode, any real numbers within it, shape [...].

        Views are those of the nearest sample (at a tie the later one), or with side="after" of the first sample at or
        after the frame; text is that of the sub-task at the frame itself, exactly.

        Returns:
            views [..., V, W], view_mask [..., V], text [..., W], in float32.

        Raises:
            ValueError: an unknown episode, or a frame outside it.
        """
        episode = self.episode(dataset, index)
        frames_F = np.asarray(frames, dtype=np.float64)
        if frames_F.size and not (frames_F.min() >= 0 and frames_F.max() <= episode.frames - 1):
            raise ValueError(
                f"frames {frames_F.min():g} to {frames_F.max():g} of episode {index} of {dataset!r}; it has "
                f"0 to {episode.frames - 1}"
            )
        samples = episode.sample_frames
        after = np.searchsorted(samples, frames_F, side="left")
        if side == "nearest":
            before = np.maximum(after - 1, 0)
            after = np.where(frames_F - samples[before] < samples[after] - frames_F, before, after)
        rows = episode.row + after
        text = np.asarray(episode.texts)[np.searchsorted(episode.cuts, np.floor(frames_F), side="right") - 1]
        shard = episode.shard
        return Features(
            self._array(shard, "views")[rows].astype(np.float32),
            np.asarray(self._array(shard, "mask")[rows]),
            self._array(shard, "text")[text].astype(np.float32),
        )

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        """Every distinct prompt in it."""
        return tuple(dict.fromkeys(text for e in self._episodes.values() for text in e.prompts))

    def _array(self, shard: int, name: str) -> np.ndarray:
        if (shard, name) not in self._mapped:
            file = self.path / SHARDS / f"{shard:05d}" / f"{name}.npy"
            self._mapped[shard, name] = np.load(file, mmap_mode="r", allow_pickle=False)
        return self._mapped[shard, name]
