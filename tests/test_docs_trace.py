"""The code of docs/trace.md runs as it stands, one block after the other in one namespace, offline."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "trace.md"


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_trace_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shared: dict[str, Any] = {}
    for number, code in enumerate(blocks()):
        exec(compile(code, f"{PAGE.name}, block {number}", "exec"), shared)
    assert len(blocks()) >= 6 and not list(tmp_path.iterdir())


def test_what_the_trace_names_is_there() -> None:
    """Names in backticks that look like functions or classes of the package are in its source."""
    source = "\n".join(path.read_text() for path in (PAGE.parents[1] / "src" / "xtok").rglob("*.py"))
    prose = re.sub(r"```.*?```", "", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    named = {name.split(".")[-1] for name in re.findall(r"`([A-Za-z_.]+)`", prose)}
    files = {path.stem for path in (PAGE.parents[1] / "src" / "xtok").rglob("*")}
    missing = [name for name in sorted(named) if not re.search(rf"\b{name}\b", source) and name not in files]
    assert missing == []
