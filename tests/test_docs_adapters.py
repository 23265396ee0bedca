"""The how-tos of docs/adapters.md run as they stand, one after the other in one namespace, offline."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "adapters.md"
NEEDS = {"Hugging Face, and FAST users": "transformers", "torchrl": "torchrl", "LeRobot": "lerobot"}


def blocks() -> list[tuple[str, str]]:
    """Heading above each block, and the block."""
    text, out = PAGE.read_text(encoding="utf-8"), []
    for found in re.finditer(r"```python\n(.*?)```", text, flags=re.DOTALL):
        prose = re.sub(r"```.*?```", "", text[: found.start()], flags=re.DOTALL)  # a comment in a block is no heading
        out.append((re.findall(r"^#+ (.*)$", prose, flags=re.MULTILINE)[-1], found[1]))
    return out


def test_every_how_to_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shared: dict[str, Any] = {}
    ran = []
    for heading, code in blocks():
        if find_spec(NEEDS.get(heading, "xtok")) is None:
            continue
        try:
            exec(compile(code, f"{PAGE.name}, {heading}", "exec"), shared)
        except Exception as error:
            raise AssertionError(f"the how-to {heading!r} fails: {error}") from error
        ran.append(heading)
    left_out = {heading for heading, module in NEEDS.items() if find_spec(module) is None}
    assert len(ran) == 12 - len(left_out), ran


def test_how_tos_are_short() -> None:
    for heading, code in blocks():
        lines = [line for line in code.splitlines() if line.strip() and not line.startswith(("import", "from"))]
        assert len(lines) <= 10, f"{heading}: {len(lines)} lines"
