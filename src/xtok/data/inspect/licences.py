"""The licence of a data set, where its folder states one."""

from __future__ import annotations

import json
import re
from pathlib import Path

_LENGTH_MAX = 200
_SAID = re.compile(r"\blicen[cs]e[ds]?(?:[ \t]*:|[ \t]+)[ \t]*(\S.*)", re.IGNORECASE)
_NAMES = re.compile(r"\bMIT\b|Apache License|Apache-2\.0|BSD \d-Clause|CC0|CC[ -]BY[\w.\- ]*|Creative Commons [\w -]+")
_READ_MAX = 1 << 22


def find_licence(root: Path) -> str | None:
    """As meta/info.json, a card's front matter, SOURCE.md, LICENSE or the manifest.json of `xtok sim corpus` say."""
    for path in (root / "meta" / "info.json", root / "manifest.json", root.parent / "manifest.json"):
        if found := _of_json(path):
            return found
    head, *rest = _text(root / "README.md").split("\n---", 1)
    for line in head.splitlines() if head.startswith("---") and rest else ():
        key, _, value = line.partition(":")
        if key.lower() in ("license", "licence") and value.strip():
            return _short(value)
    if match := _SAID.search(_text(root / "SOURCE.md")):
        return _short(match[1])
    for name in ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE"):
        text = _text(root / name)
        if match := _NAMES.search(text):
            return match[0]
        if text.strip():
            return _short(text.strip().splitlines()[0])
    return None


def _of_json(path: Path) -> str | None:
    try:
        content = json.loads(_text(path))
    except (ValueError, RecursionError):
        return None
    said = (content.get("license") or content.get("licence")) if isinstance(content, dict) else None
    return _short(said) if isinstance(said, str) and said.strip() else None


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_READ_MAX).decode("utf-8", errors="replace")
    except OSError:
        return ""


def _short(text: str) -> str:
    return text.strip().strip("\"'")[:_LENGTH_MAX]
