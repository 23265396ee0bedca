"""The episodes and tasks that meta/ of a LeRobot folder lists, every entry checked, and where its files are.

v2: meta/{episodes.jsonl, tasks.jsonl}, a parquet file an episode. v3: meta/episodes/*/*.parquet, meta/tasks.parquet,
many episodes a file. An entry that cannot be used is kept with the reason, so that no other moves in its place.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xtok.data.hub import is_snapshot
from xtok.data.media.video import VideoHandle
from xtok.data.order import Remark
from xtok.data.readers.json_fields import Fields, read_json_lines
from xtok.data.readers.lerobot_info import Info
from xtok.data.readers.tables import read_parquet

_FIELD = re.compile(r"\{(\w+)(?::0?(\d?)d?)?\}")
# Names that sets give to the fields of their path templates -> ours.
_SPELLINGS = {
    **dict.fromkeys(("episode_chunk", "chunk_index", "chunk", "chunk_id", "episode_chunk_index"), "chunk"),
    **dict.fromkeys(("episode_index", "episode", "episode_id", "episode_idx"), "episode"),
    **dict.fromkeys(("file_index", "file", "file_id", "file_idx"), "file"),
    **dict.fromkeys(("video_key", "camera", "camera_key", "image_key", "key"), "camera"),
}
_ROW = ("episode_index", "length", "tasks", "env_task", "dataset_from_index", "dataset_to_index")
_PLACE = ("chunk_index", "file_index")


@dataclass(frozen=True)
class EpisodeEntry:
    """What meta/ says of one episode: number and length, parquet file, pictures by camera, its tasks in words, and the
    task's short name, which is no part of LeRobot: `xtok sim record` adds it. rows: first and end in the `index` of all
    frames (v3). where: file and line. fault: why it cannot be used, "" where it can."""

    index: int
    length: int
    parquet: Path
    videos: Mapping[str, VideoHandle]
    task: str = ""
    tasks: tuple[str, ...] = ()
    rows: tuple[int, int] | None = None
    where: str = ""
    fault: str = ""


def read_entries(root: Path, info: Info) -> tuple[EpisodeEntry, ...]:
    """All episodes, by number.

    Raises:
        ValueError: meta/ lists none, or a file there cannot be read at all; a path template that is malformed.
    """
    listed = list(_v3(root, info) if info.is_v3 else _v2(root, info))
    if not listed:
        place = "meta/episodes/*/*.parquet" if info.is_v3 else "meta/episodes.jsonl"
        raise ValueError(
            f"{root} lists no episodes in meta/ ({place}, as codebase_version {info.version!r} has it); record one, "
            "or download the set again"
        )
    return tuple(sorted(_once_each(listed), key=lambda entry: entry.index))


def contradictions(info: Info, entries: Sequence[EpisodeEntry]) -> tuple[Remark, ...]:
    """Where meta/ contradicts itself without harm to any episode."""
    out = []
    sound = [entry for entry in entries if not entry.fault]
    frames = sum(entry.length for entry in sound)
    for key, found, as_well in (("total_episodes", len(entries), len(sound)), ("total_frames", frames, frames)):
        if info.totals.get(key, found) not in (found, as_well):
            out.append(Remark("totals", f"meta/info.json claims {key} {info.totals[key]}; here are {found}"))
    numbers = [entry.index for entry in entries]
    missing = sorted(set(range(min(numbers), min(max(numbers), min(numbers) + 10**6) + 1)) - set(numbers))
    if missing:
        named = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        out.append(
            Remark("numbers", f"meta/ lists episodes {numbers[0]} to {numbers[-1]} without {len(missing)} ({named})")
        )
    spans = [(entry, entry.rows) for entry in entries if entry.rows is not None and not entry.fault]
    odd = [entry.index for entry, (start, end) in spans if end - start != entry.length]
    if odd:
        out.append(
            Remark("lengths", f"dataset_from_index and dataset_to_index contradict length in episodes {odd[:5]}")
        )
    return tuple(out)


def read_tasks(root: Path, info: Info) -> dict[int, tuple[str, ...]]:
    """task_index -> its wordings: one as a rule, several where a set lists them, none where it says null.

    Raises:
        ValueError: the file is missing or malformed.
    """
    if info.is_v3:
        return read_texts(root / "meta" / "tasks.parquet", "task_index")
    expected = 'lines such as {"task_index": 0, "task": "fold the towel"}'
    out: dict[int, tuple[str, ...]] = {}
    for where, content in read_json_lines(root / "meta" / "tasks.jsonl", expected):
        if isinstance(content, ValueError):
            raise content
        fields = Fields(content, where)
        number = fields.whole("task_index", "the number of a task")
        words = fields.texts("task", "a text", default=()) if "task" in fields else fields.raw("task", "a text") or ()
        if out.setdefault(number, words) != words:
            raise ValueError(
                f"{where}: task_index {number} is {words}, and {out[number]} before; give each task a number"
            )
    return out


def read_texts(path: Path, number: str) -> dict[int, tuple[str, ...]]:
    """The two columns of tasks.parquet or subtasks.parquet: a number, and a text under whatever name pandas gave it."""
    table = read_parquet(path)
    text = [name for name in table.column_names if name != number]
    if number not in table.column_names or len(text) != 1:
        raise ValueError(f"{path} has columns {table.column_names}; expected {number!r} and one column of text")
    out = {}
    for row, values in enumerate(table.to_pylist()):
        fields = Fields(values, f"{path}, row {row}")
        out[fields.whole(number)] = fields.texts(text[0], "a text", default=())
    return out


def fill_template(root: Path, template: str, fields: Mapping[str, Any]) -> Path:
    """A path template of info.json, filled by plain substitution: the file is a stranger's, so no str.format.

    fields: some of chunk, episode, file, camera; a template may call them by any name that sets are known to use.

    Raises:
        ValueError: a field that we do not have, anything but {name}, {name:d}, {name:03d}, a path outside the folder.
    """

    def fill(match: re.Match[str]) -> str:
        name, digits = match.groups()
        field = _SPELLINGS.get(name, "")
        if field not in fields:
            known = sorted(spelt for spelt, field in _SPELLINGS.items() if field in fields)
            raise ValueError(
                f"{root}/meta/info.json: path template {template!r} asks for {name!r}; expected one of "
                f"{', '.join(known)}"
            )
        return str(fields[field]).zfill(int(digits or 0))

    filled = _FIELD.sub(fill, template)
    path = Path(os.path.normpath(root / filled))
    if "{" in filled or "}" in filled or "\0" in filled or not path.is_relative_to(os.path.normpath(root)):
        raise ValueError(
            f"{root}/meta/info.json: path template {template!r} is malformed or leaves {root}; repair it there"
        )
    return path


def _v2(root: Path, info: Info) -> Iterable[EpisodeEntry]:
    expected = 'lines such as {"episode_index": 0, "tasks": ["..."], "length": 250}'
    for where, content in read_json_lines(root / "meta" / "episodes.jsonl", expected):
        yield _entry(root, info, where, content, _v2_entry)


def _v3(root: Path, info: Info) -> Iterable[EpisodeEntry]:
    wanted = [*_ROW, *(f"data/{key}" for key in _PLACE)]
    wanted += [f"videos/{c}/{key}" for c in info.videos for key in (*_PLACE, "from_timestamp", "to_timestamp")]
    for path in sorted((root / "meta" / "episodes").glob("*/*.parquet")):
        for row, content in enumerate(read_parquet(path, (), wanted).to_pylist()):
            yield _entry(root, info, f"{path}, row {row}", content, _v3_entry)


def _entry(root: Path, info: Info, where: str, content: Any, read: Any) -> EpisodeEntry:
    """One entry, or the reason why there is none; its number is -1 where even that cannot be told."""
    index = -1
    try:
        if isinstance(content, ValueError):
            raise content
        fields = Fields(content, where)
        index = fields.whole("episode_index", "the number of an episode, 0 or more", high=10**9)
        return read(root, info, index, fields)
    except ValueError as error:
        if "path template" in str(error):
            raise
        return EpisodeEntry(index, 0, Path(), {}, where=where, fault=str(error))


def _v2_entry(root: Path, info: Info, index: int, fields: Fields) -> EpisodeEntry:
    length = _length(fields)
    place = {"episode": index, "chunk": index // info.chunks_size}
    parquet = _path(root, info.data_path, place, f"data/*/episode_{index:06d}.parquet")
    videos = {
        camera: VideoHandle(path, 0.0, length / info.fps, info.fps)
        for camera in (info.videos if info.video_path else ())
        if _has(root, path := _video(root, info, camera, place, f"videos/*/{camera}/episode_{index:06d}.mp4"))
    }
    return EpisodeEntry(index, length, parquet, videos, tasks=_tasks(fields), where=fields.where)


def _v3_entry(root: Path, info: Info, index: int, fields: Fields) -> EpisodeEntry:
    length = _length(fields)
    chunk, file = (fields.whole(f"data/{key}", "the number of a file", high=10**9) for key in _PLACE)
    parquet = fill_template(root, info.data_path, {"chunk": chunk, "file": file, "episode": index})
    start = fields.whole("dataset_from_index", default=None)
    end = fields.whole("dataset_to_index", default=None)
    rows = None if start is None or end is None else (start, end)
    videos, task = _v3_videos(root, info, index, fields), fields.text("env_task", default="")
    return EpisodeEntry(index, length, parquet, videos, task, _tasks(fields), rows, fields.where)


def _v3_videos(root: Path, info: Info, index: int, fields: Fields) -> dict[str, VideoHandle]:
    videos = {}
    for camera in info.videos if info.video_path else ():
        keys = {key: f"videos/{camera}/{key}" for key in (*_PLACE, "from_timestamp", "to_timestamp")}
        if any(key not in fields for key in keys.values()):
            continue
        chunk, file = (fields.whole(keys[key], "the number of a file", high=10**9) for key in _PLACE)
        start, end = (fields.number(keys[key], "seconds", -1.0, 1e12) for key in ("from_timestamp", "to_timestamp"))
        path = _video(root, info, camera, {"chunk": chunk, "file": file, "episode": index}, None)
        if _has(root, path):
            videos[camera] = VideoHandle(path, start, end, info.fps)
    return videos


def _length(fields: Fields) -> int:
    return fields.whole("length", "how many frames the episode has", high=10**9)


def _tasks(fields: Fields) -> tuple[str, ...]:
    return fields.texts("tasks", "a list of texts", default=())


def _has(root: Path, film: Path) -> bool:
    return film.is_file() or is_snapshot(root)  # of a hub's set, a film is fetched when it is looked at


def _video(root: Path, info: Info, camera: str, place: Mapping[str, Any], fallback: str | None) -> Path:
    assert info.video_path is not None, "asked for films of a set that has some"
    return _path(root, info.video_path, {**place, "camera": camera}, fallback)


def _path(root: Path, template: str, place: Mapping[str, Any], fallback: str | None) -> Path:
    """Where a template points, or the one file that matches `fallback` if nothing is there."""
    path = fill_template(root, template, place)
    if fallback is not None and not path.is_file():
        strays = list(root.glob(fallback))
        path = strays[0] if len(strays) == 1 else path
    return path


def _once_each(listed: Sequence[EpisodeEntry]) -> list[EpisodeEntry]:
    """Each number once. Listed twice: which of them is meant cannot be told. Without a number: its place in the list,
    where that number is free, so that the others keep theirs."""
    found: dict[int, EpisodeEntry] = {}
    for entry in (each for each in listed if each.index >= 0):
        first = found.get(entry.index)
        if first is None:
            found[entry.index] = entry
        elif first.fault and "listed twice" in first.fault:
            continue
        else:
            text = f"it is listed twice, in {first.where} and {entry.where}; remove one of them"
            found[entry.index] = replace(first, fault=text)
    for place, entry in enumerate(listed):
        if entry.index < 0:
            number = place
            while number in found:
                number += 1
            found[number] = replace(entry, index=number)
    return list(found.values())
