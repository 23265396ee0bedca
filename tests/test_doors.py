"""docs/decisions/0001-rooms.md, rooms and doors: who may import whom. A room that is not built yet may be absent."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import xtok

SOURCE = Path(xtok.__file__).parent
DOORS: dict[str, set[str]] = {
    "actions": set(),
    "engine": set(),
    "data": {"actions"},
    "codec": {"actions"},
    "semantics": {"actions", "data", "codec", "engine"},  # heads are of the codec's blocks and look at its latents
    "pretrain": {"actions", "data", "codec", "semantics", "engine"},
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
PORCH = (
    *("lock.py", "messages.py", "progress.py", "provenance.py", "ranks.py", "atomic.py", "write_errors.py"),
    "workers.py",
)
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
            assert room in DOORS, f"{path}: no such room in DOORS"
            assert imported_rooms(path) <= DOORS[room] | {room}, path


def test_doors_form_no_circle() -> None:
    left = dict(DOORS)
    while left:
        free = [room for room, doors in left.items() if not doors & left.keys()]
        assert free, f"a circle among {sorted(left)}"
        for room in free:
            del left[room]


def _module(path: Path) -> str:
    parts = ("xtok", *path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module(path): path for path in FILES}


def _imports(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """All that can happen at run time: at the top and inside functions, but not under TYPE_CHECKING."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        yield from _imports(node)


def imported_modules(path: Path) -> set[str]:
    """The modules of xtok that a file imports."""
    found = set()
    for node in _imports(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = [alias.name for alias in node.names]
        for name in names:
            while name and name not in MODULES:
                name = name.rpartition(".")[0]
            found.add(name)
    return found - {"", _module(path)}


def test_modules_form_no_circle() -> None:
    left = {module: imported_modules(path) for module, path in MODULES.items()}
    while left:
        free = [module for module, imported in left.items() if not imported & left.keys()]
        assert free, f"circles among {sorted(left)}, or modules that import those"
        for module in free:
            del left[module]


def test_every_file_beside_the_code_is_package_data() -> None:
    tomllib = pytest.importorskip("tomllib")
    project = SOURCE.parents[1] / "pyproject.toml"
    if not project.is_file():
        pytest.skip("an installed xtok")
    globs = tomllib.loads(project.read_text())["tool"]["setuptools"]["package-data"]["xtok"]
    shipped = {path for pattern in globs for path in SOURCE.glob(pattern)}
    beside = {path for path in SOURCE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert beside - shipped == set()


def test_no_file_holds_two_ideas() -> None:
    assert [str(path) for path in FILES if len(path.read_text().splitlines()) > 400] == []
