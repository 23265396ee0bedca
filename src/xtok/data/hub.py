"""Data sets of the Hugging Face hub by id, "owner/name" or "owner/name@revision". Nothing is fetched before it is
needed.

Of a LeRobot set `open_dataset` fetches meta/ alone; tables and films come one by one when an episode or its pictures
are asked for. What is in the local cache is used without the network (HF_HUB_OFFLINE=1 never tries it).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_ID = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?:@([\w./-]{1,120}))?")
_CACHED = re.compile(r"datasets--(.+)")
_LEROBOT = "meta/info.json"


def is_hub_id(path: str | Path) -> bool:
    """Whether it reads like "owner/name" or "owner/name@revision" and is no path that exists."""
    return _ID.fullmatch(str(path)) is not None and ".." not in str(path) and not Path(path).exists()


def fetch_dataset(hub_id: str | Path) -> Path:
    """The folder of a snapshot in the local cache.

    Raises:
        ValueError: no such set, no access to it, or no network and nothing cached.
    """
    match = _ID.fullmatch(str(hub_id))
    assert match is not None, "is_hub_id comes first"
    repo_id, revision = match.groups()
    hub = _import_hub()
    from huggingface_hub.utils import EntryNotFoundError, LocalEntryNotFoundError

    try:
        try:
            hub.hf_hub_download(repo_id, _LEROBOT, repo_type="dataset", revision=revision)
            patterns: list[str] | None = ["meta/*"]
        except LocalEntryNotFoundError:  # also an EntryNotFoundError, but it says that nobody could be asked
            patterns = None
        except EntryNotFoundError:
            patterns = None
        return Path(hub.snapshot_download(repo_id, repo_type="dataset", revision=revision, allow_patterns=patterns))
    except Exception as error:  # of requests, httpx, the file system or the hub, which are no one family
        raise ValueError(
            f"cannot get {repo_id!r} from the Hugging Face hub: {(str(error) or repr(error)).splitlines()[0]}; "
            "check the id, your network and `hf auth login`, or give the path of a folder"
        ) from error


def is_snapshot(root: Path) -> bool:
    """Whether a folder is a snapshot in the hub's cache, whose missing files can be fetched."""
    return _place(root / "file") is not None


def set_name(root: Path) -> str:
    """What a folder's set is called: the folder's name; of a snapshot, whose folder is a revision, the hub's."""
    place = _place(root / "file")
    return root.name if place is None or place[2] != "file" else place[0].rpartition("/")[2]


def fetch_missing(path: Path) -> None:
    """Fetch one file of a snapshot that is not there yet; any other path is left as it is.

    Raises:
        ValueError: the hub has no such file, or cannot be asked.
    """
    place = None if path.is_file() else _place(path)
    if place is None:
        return
    repo_id, revision, name = place
    try:
        _import_hub().hf_hub_download(repo_id, name, repo_type="dataset", revision=revision, cache_dir=_cache(path))
    except Exception as error:
        raise ValueError(f"cannot get {name} of {repo_id!r} from the Hugging Face hub: {error}") from error


def _place(path: Path) -> tuple[str, str, str] | None:
    """(repository, revision, name) of a path in the cache: .../datasets--owner--name/snapshots/REVISION/NAME."""
    parts = path.parts
    for i in range(len(parts) - 3):
        match = _CACHED.fullmatch(parts[i])
        if match and parts[i + 1] == "snapshots":
            return match[1].replace("--", "/", 1), parts[i + 2], "/".join(parts[i + 3 :])
    return None


def _cache(path: Path) -> Path:
    parts = path.parts
    return Path(*parts[: next(i for i, part in enumerate(parts) if _CACHED.fullmatch(part))])


def _import_hub() -> Any:
    import huggingface_hub

    return huggingface_hub
