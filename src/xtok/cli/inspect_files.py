"""Where `xtok inspect` puts a mapping and a page, so that it overwrites neither another set's nor what you have edited.

The first line of a mapping holds a digest of the rest: while it fits, the file is as written and may be replaced.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

_HEAD = "# proposed by `xtok inspect` ({digest} as written); docs/data.md explains every key"
_WRITTEN = re.compile(r"# proposed by `xtok inspect` \(([0-9a-f]{16}) as written\)")
_PAGE = '<meta name="xtok-data" content="{}">'


@dataclass(frozen=True)
class Files:
    """page, mapping: may be written over. edited: the mapping that somebody has changed, beside which `mapping` gets
    another name; None where nobody has.
    """

    mapping: Path
    page: Path
    edited: Path | None = None


def files_for(out: Path, name: str, data: str) -> Files:
    """Paths in the folder `out` for the set `name`. data: its folder (absolute) or hub id, as `reference` has it."""
    stem = next(stem for stem in _stems(name, data) if not _is_of_another(out, stem, data))
    page, mapping = out / f"{stem}.html", out / f"{stem}.yaml"
    if not mapping.exists() or as_written(mapping):
        return Files(mapping, page)
    number = 1
    while (new := out / f"{stem}.new{'' if number == 1 else number}.yaml").exists() and not as_written(new):
        number += 1
    return Files(new, page, mapping)


def mapping_text(text: str, data: str) -> str:
    """What is written: the head with its digest, the data, the mapping."""
    rest = f"data: {json.dumps(data, ensure_ascii=False)}\n{text}"
    return f"{_HEAD.format(digest=_digest(rest))}\n{rest}"


def page_mark(data: str) -> str:
    """What a page says of the set that it is of."""
    return _PAGE.format(html.escape(data, quote=True))


def as_written(path: Path) -> bool:
    """Whether a mapping is as `xtok inspect` wrote it."""
    try:
        head, _, rest = path.read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return False
    match = _WRITTEN.match(head)
    return match is not None and match[1] == _digest(rest)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _stems(name: str, data: str) -> Iterator[str]:
    """The set's name; where another set has it, with its folder's, then with a digest of its path."""
    yield name
    parent = re.sub(r"[\\/:@]+", "-", Path(data).parent.name)
    if parent and f"{parent}-{name}" != name:
        yield f"{parent}-{name}"
    yield f"{name}-{_digest(data)[:8]}"


def _is_of_another(out: Path, stem: str, data: str) -> bool:
    mapping, page = out / f"{stem}.yaml", out / f"{stem}.html"
    if mapping.exists():
        told = _data_of(mapping)
        return told is not None and told != data and str((out / told).resolve()) != data
    try:
        return page.exists() and page_mark(data) not in page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return True


def _data_of(mapping: Path) -> str | None:
    """What a mapping says that it is of, None where it does not say or cannot be read: then it may be of this set."""
    try:
        content = yaml.safe_load(mapping.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    told = content.get("data") if isinstance(content, dict) else None
    return told if isinstance(told, str) else None
