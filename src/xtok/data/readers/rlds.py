"""RLDS sets as TensorFlow Datasets writes them: *.tfrecord* shards, one episode a record. No TensorFlow.

A feature of all steps is one flat list a record, `steps/observation/state` with N * W numbers; how many steps there
are, the flag that every step has tells. Bridge's episode_metadata/has_image_k is 0 for pictures that are there and for
the camera that is black alike, so it is not believed. No rate is stored, and no names of channels, so the known sets
have a mapping that ships.

# N steps of the episode, W columns of one feature
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from xtok.data.features import Feature
from xtok.data.media.images import ImageSequence
from xtok.data.order import Remark
from xtok.data.readers.instructions import Instructions, of_labels, of_wordings
from xtok.data.readers.json_fields import Fields, read_json
from xtok.data.readers.tfrecord import Record, Value, list_whole_records, read_example
from xtok.data.source import RawEpisode, Source, check_finite

_FLAGS = ("is_first", "is_last", "is_terminal")
_NOT_MOTION = {*_FLAGS, "reward", "discount"}
_STEPS = "steps/"
_WIDTH_MAX = 1024  # wider lists are depth pictures or features of pictures
_RECORDS_MAX = 1_000_000  # of one shard
_INFO = "the description that TensorFlow Datasets writes"
_MAGIC = (b"\xff\xd8", b"\x89P")
NOMINAL_FPS = 5.0  # for the length of picture sequences only; ImageSequence are found by frame


def rlds_source(root: Path) -> Source:
    """A folder with TFRecord shards, or one whose only subfolder (the version) has them.

    Raises:
        ValueError: shards of several versions, files none of whose records can be read, or a damaged shard after which
            the numbers of the others cannot be told. Records of a damaged shard are in `Source.broken`.
    """
    shards = _shards(root)
    if len(folders := sorted({str(path.parent) for path in shards})) > 1:
        raise ValueError(f"{root} holds TFRecords in several folders, {folders[:4]}; open one of them")
    records, broken = _records(shards)
    if not records:
        raise ValueError(f"the TFRecord files in {root} hold no episodes; download them again")
    first = _first_readable(records, broken, root.name)
    N = _step_count(first, f"{root.name}, its first episode")
    features = {
        name: Feature(len(values) // N)
        for key, values in first.items()
        if (name := key.removeprefix(_STEPS)) != key and name not in _NOT_MOTION and _is_vector(values, N)
    }
    cameras = tuple(key.removeprefix(_STEPS) for key, values in first.items() if _is_camera(key, values, N))
    name = _set_name(shards[0].parent) or root.name
    return Source(
        root.name, "RLDS TFRecord", name, None, dict(sorted(features.items())), tuple(range(len(records))),
        partial(_read_at, records, root.name, features, cameras, broken), tuple(sorted(cameras)),
        tuple(dict.fromkeys(broken.values())), broken, ships_as=name,
    )  # fmt: skip


def _records(shards: Sequence[Path]) -> tuple[list[Record | None], dict[int, str]]:
    """Every record of the shards in order, None for those that a damaged shard lacks, and why."""
    records: list[Record | None] = []
    broken: dict[int, str] = {}
    lengths = _shard_lengths(shards[0].parent) if shards else {}
    for shard in shards:
        found, damage = list_whole_records(shard)
        records += found
        if not damage:
            continue
        stated = lengths.get(shard.name)
        if stated is None and shard != shards[-1]:
            raise ValueError(f"{damage}; how many episodes it had is not stated, so those after it have no numbers")
        for _ in range(max(1, (stated or 0) - len(found))):
            broken[len(records)] = damage
            records.append(None)
    return records, broken


def _first_readable(records: Sequence[Record | None], broken: Mapping[int, str], dataset: str) -> dict[str, Value]:
    failure: ValueError | None = None
    for record in records:
        try:
            if record is not None and _step_count(example := read_example(record), dataset):
                return example
        except ValueError as error:
            failure = failure or error
    raise failure or ValueError(next(iter(broken.values())))


def _read_at(
    records: Sequence[Record | None],
    dataset: str,
    features: Mapping[str, Feature],
    cameras: Sequence[str],
    broken: Mapping[int, str],
    position: int,
    wanted: Sequence[str],
) -> RawEpisode:
    record = records[position]
    if record is None:
        raise ValueError(f"{dataset}, episode {position}: {broken[position]}")
    return _read_episode(record, position, dataset, features, wanted, cameras)


def _read_episode(
    record: Record,
    index: int,
    dataset: str,
    features: Mapping[str, Feature],
    wanted: Sequence[str],
    cameras: Sequence[str],
) -> RawEpisode:
    where = f"{dataset}, episode {index}"
    example = read_example(record)
    N = _step_count(example, where)
    arrays = {}
    for name in wanted:
        values = example.get(_STEPS + name)
        width = features[name].width
        if not isinstance(values, np.ndarray) or len(values) != N * width:
            found = "nothing" if values is None else f"{len(values)} values"
            raise ValueError(f"{where}: feature {name!r} has {found}; expected {N} steps of {width}")
        arrays[name] = check_finite(values.reshape(N, width).astype(np.float64), name, where)
    videos = {
        camera: ImageSequence(N, NOMINAL_FPS, partial(_read_pictures, record, camera, N), where=f"{where}, {camera}")
        for camera in cameras
        if _is_camera(_STEPS + camera, example.get(_STEPS + camera, []), N)
    }
    said = _instructions(example, N)
    return RawEpisode(
        arrays, index, None, said.instruction, said.spans, videos, wordings=said.wordings,
        remarks=(*said.remarks, *_flags_told(example, N)),
    )  # fmt: skip


def _read_pictures(record: Record, camera: str, N: int, indices: Sequence[int]) -> list[bytes | np.ndarray]:
    pictures = read_example(record).get(_STEPS + camera)
    if not isinstance(pictures, list) or len(pictures) != N:
        raise ValueError(f"{record.path}: camera {camera!r} has no picture a step; download the file again")
    return [pictures[index] for index in indices]


def _instructions(example: Mapping[str, Value], N: int) -> Instructions:
    """Every wording (DROID has three, any of them empty), and the spans of one that changes from step to step."""
    said = [
        [text.decode("utf-8", errors="replace").strip() for text in values]
        for key, values in sorted(example.items())
        if "instruction" in key.rsplit("/", 1)[-1] and isinstance(values, list)
    ]
    every = of_wordings([text for texts in said for text in dict.fromkeys(texts)])
    for texts in said:
        if len(texts) == N and len({text for text in texts if text}) > 1:
            number = {text: i for i, text in enumerate(dict.fromkeys(texts))}
            labels_N = np.array([number[text] for text in texts])
            spans = of_labels(labels_N, {i: [text] for text, i in number.items()})
            return replace(spans, wordings=every.wordings)
    return every


def _flags_told(example: Mapping[str, Value], N: int) -> tuple[Remark, ...]:
    """Steps that call themselves the first without being it: several episodes in one record, or steps out of order."""
    flags = example.get(f"{_STEPS}is_first")
    if not isinstance(flags, np.ndarray) or len(flags) != N:
        return ()
    steps = np.flatnonzero(flags).tolist()
    if steps in ([0], []):
        return ()
    return (
        Remark(
            "order", f"is_first is set in steps {steps[:5]}, expected in step 0 alone; steps are taken as they stand"
        ),
    )


def _step_count(example: Mapping[str, Value], where: str) -> int:
    for flag in _FLAGS:
        if (values := example.get(_STEPS + flag)) is not None and len(values):
            return len(values)
    found = sorted(example)[:8]
    raise ValueError(f"{where} has no 'steps/is_first', which every RLDS step has; it has {found}")


def _is_vector(values: Value, N: int) -> bool:
    return isinstance(values, np.ndarray) and len(values) > 0 and not len(values) % N and len(values) <= N * _WIDTH_MAX


def _is_camera(key: str, values: Value, N: int) -> bool:
    if not key.startswith(_STEPS) or not isinstance(values, list) or len(values) != N:
        return False
    return values[0].startswith(_MAGIC)


def _set_name(folder: Path) -> str | None:
    path = folder / "dataset_info.json"
    if not path.is_file():
        return None
    return Fields(read_json(path, _INFO), str(path)).text("name", "the name of the set")


def _shard_lengths(folder: Path) -> dict[str, int]:
    """Name of a shard -> how many records it should have, as far as dataset_info.json says."""
    path = folder / "dataset_info.json"
    if not path.is_file():
        return {}
    fields = Fields(read_json(path, _INFO), str(path))
    out: dict[str, int] = {}
    splits = fields.raw("splits", "", default=())
    for split in splits if isinstance(splits, list) else ():
        counts = split.get("shardLengths") if isinstance(split, dict) else None
        counts = counts if isinstance(counts, list) else []
        for number, count in enumerate(counts):
            if str(count).isdecimal() and int(count) <= _RECORDS_MAX:
                name = f"{fields.raw('name', '', default='')}-{split.get('name')}"
                out[f"{name}.tfrecord-{number:05d}-of-{len(counts):05d}"] = int(count)
    return out


def _shards(root: Path) -> list[Path]:
    return sorted(root.glob("*.tfrecord*")) or sorted(root.glob("*/*.tfrecord*"))
