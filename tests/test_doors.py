"""DESIGN, rooms and doors: who may import whom. A room that is not built yet may be absent."""

from __future__ import annotations

import ast
from pathlib import Path

import xtok

SOURCE = Path(xtok.__file__).parent
DOORS: dict[str, set[str]] = {
    "actions": set(),
    "data": {"actions"},
    "codec": {"actions"},
    "semantics": {"actions", "data", "codec"},  # its heads are built of the codec's blocks and look at its latents
    "pretrain": {"actions", "data", "codec", "semantics"},
    "baselines": {"actions"},
    "evaluate": {"actions", "data", "baselines"},
    "policy": {"actions"},
    "sim": {"actions", "data", "policy"},
    "vla": {"actions", "data", "codec", "semantics"},
    "adapters": {"codec", "actions", "vla", "pretrain"},  # ActionProcessor.fit places books; decision 0010
}
DOORS["benchmark"] = set(DOORS) - {"adapters"}
DOORS["recipes"] = set(DOORS)
DOORS["cli"] = set(DOORS)
PORCH = ("lock.py", "messages.py", "progress.py", "provenance.py", "whole.py", "write_errors.py")
FILES = sorted(SOURCE.rglob("*.py"))


def imported_rooms(path: Path) -> set[str]:
    """The rooms of xtok that a file imports, at its top or inside its functions."""
    modules: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write it from the root, so that the door can be seen"
            modules += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
    return {name.split(".")[1] for name in modules if name.startswith("xtok.")} & DOORS.keys()


def test_every_room_imports_only_through_its_doors() -> None:
    for path in FILES:
        room = path.relative_to(SOURCE).parts[0]
        if room == "__init__.py":
            assert imported_rooms(path) <= {"actions", "codec", "pretrain"}
        elif room in PORCH:  # no rooms of their own, open to all
            assert imported_rooms(path) == set()
        else:
            assert room in DOORS, f"{path}: no such room in DESIGN"
            assert imported_rooms(path) <= DOORS[room] | {room}, path


def test_doors_form_no_circle() -> None:
    left = dict(DOORS)
    while left:
        free = [room for room, doors in left.items() if not doors & left.keys()]
        assert free, f"a circle among {sorted(left)}"
        for room in free:
            del left[room]


def test_no_file_holds_two_ideas() -> None:
    assert [str(path) for path in FILES if len(path.read_text().splitlines()) > 400] == []
