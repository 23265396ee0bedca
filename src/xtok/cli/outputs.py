"""What a command writes, looked at before its work begins: no output is an input, none is written by two at once, and
what cannot be written is told at once and not after hours.

Each command says with `Writes` which of its arguments are outputs and which are inputs; `main` does the rest.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xtok.atomic import forget_drafts
from xtok.lock import write_lock
from xtok.ranks import launched_rank
from xtok.write_errors import telling

TOKENIZER_FILES = ("model.safetensors", "config.json", "heads.safetensors")
STORE_FILES = ("manifest.json", "settings.json", "shards")
SHIPPED = Path(__file__).resolve().parent.parent / "weights"
ELSEWHERE = "choose another place to write to"
_YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class Writes:
    """The outputs and inputs of a command, as names of its arguments.

    files: each a file. beside: suffixes of what lies beside those while they are made. folder: one folder; touches: the
    names in it that the command may replace or remove, None for all of it. lock: one of its files, where runs that
    write different ones may share the folder. data: data sets, corpora, stores and other files. tokenizers: names, X or
    NAME=X; shipped: one that is not named is a shipped one. within_data: the folder may lie in a folder of data.
    """

    files: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    folder: str | None = None
    touches: tuple[str, ...] | None = None
    data: tuple[str, ...] = ("data", "mapping", "statistics")
    tokenizers: tuple[str, ...] = ("tokenizer",)
    shipped: bool = False
    within_data: bool = False
    lock: str | None = None


@dataclass(frozen=True)
class Output:
    """option: as a person writes it. touched: what may be replaced or removed. lock: the file or folder to lock."""

    option: str
    path: Path
    is_folder: bool
    touched: tuple[Path, ...]
    lock: tuple[Path, bool]


@dataclass(frozen=True)
class Input:
    path: Path
    kind: Literal["data", "file", "named"]
    names: tuple[str, ...] = ()  # of "named": what is read in a folder that may hold other things too


@contextmanager
def guarded(args: argparse.Namespace, log: Callable[[str], None]) -> Iterator[None]:
    """Check the outputs of a command and hold their locks.

    Raises:
        ValueError: an output is an input, of the wrong kind, or being written by another process.
        WriteError: it cannot be written.
    """
    outputs = outputs_of(args)
    if (writes := writes_of(args)) is not None:
        check(outputs, inputs_of(args, writes), writes.within_data)
    with ExitStack() as stack:
        for output in () if launched_rank() else outputs:  # of several processes of a run the first one writes
            stack.enter_context(write_lock(*output.lock, log))
            for path in output.touched:
                forget_drafts(path)  # of runs that were killed: nobody else writes here now
        yield


def writes_of(args: argparse.Namespace) -> Writes | None:
    """What the command of a command line declared."""
    return args.writes(args) if callable(args.writes) else args.writes


def outputs_of(args: argparse.Namespace) -> list[Output]:
    """Every output that a command line asks for."""
    found: list[Output] = []
    if (writes := writes_of(args)) is None:
        return found
    for name in writes.files:
        value = getattr(args, name)
        if value is not None and str(value) != "-":
            path = Path(value)
            touched = (path, *(path.with_name(path.name + suffix) for suffix in writes.beside))
            found.append(Output(_option(name), path, False, touched, (path, False)))
    if writes.folder is not None:
        path = Path(getattr(args, writes.folder))
        names = writes.touches
        touched = (path,) if names is None else tuple(path / name for name in names)
        lock = (path, True) if writes.lock is None else (path / writes.lock, False)
        found.append(Output(_option(writes.folder), path, True, touched, lock))
    return found


def inputs_of(args: argparse.Namespace, writes: Writes) -> list[Input]:
    """Every file and folder that a command line reads; ids of the hub are none."""
    found: list[Input] = []
    for name in writes.data:
        for path in _paths(getattr(args, name, None)):
            found += [Input(path, "named", STORE_FILES)] if name == "features" and path.is_dir() else _data(path)
    for name in writes.tokenizers:
        value = getattr(args, name, None)
        named = [each[1] if isinstance(each, tuple) else each for each in value] if isinstance(value, list) else [value]
        for each in named:
            if each is not None and Path(each).is_dir():
                found.append(Input(Path(each), "named", TOKENIZER_FILES))
            elif each is not None or writes.shipped:
                folders = [SHIPPED / str(each)] if each is not None else SHIPPED.iterdir()
                found += [Input(folder, "named", TOKENIZER_FILES) for folder in folders if folder.is_dir()]
    return found


def check(outputs: Sequence[Output], inputs: Sequence[Input], within_data: bool = False) -> None:
    """Raises ValueError for an output of the wrong kind, one that is an input, and two that are the same."""
    for i, output in enumerate(outputs):
        with telling(output.path, surely=True):
            _check_kind(output)
        for other in outputs[:i]:
            if _same(output.path, other.path):
                raise ValueError(f"{other.option} and {output.option} are both {output.path}; give each its own")
        for each in inputs:
            if (why := _clash(output, each, within_data)) is not None:
                raise ValueError(f"{output.option} {output.path} {why}; nothing was written, {ELSEWHERE}")


def _check_kind(output: Output) -> None:
    path = output.path
    if path.is_absolute() and path.parts[1:2] in (("dev",), ("proc",)) and path.parts[2:3] != ("shm",):
        raise ValueError(f"{output.option} {path} is no file but a device or the like; give the name of a file")
    if output.is_folder and os.path.lexists(path) and not path.is_dir():
        raise ValueError(f"{output.option} {path} is a file; it must name a folder, a new one or one to go on in")
    if output.is_folder or not path.exists():
        return
    if path.is_dir():
        raise ValueError(f"{output.option} {path} is a folder; give a file, such as {path / _example(output)}")
    if not path.is_file():
        raise ValueError(f"{output.option} {path} is no file but a device or the like; give the name of a file")
    if not os.access(path, os.W_OK):
        raise ValueError(f"{output.option} {path} is read-only; `chmod u+w` it to have it replaced, or {ELSEWHERE}")


def _clash(output: Output, given: Input, within_data: bool) -> str | None:
    """Why writing the output would harm an input, or None."""
    out = output.path
    if _same(out, given.path):
        return f"is {given.path} itself, which is being read"
    if given.kind == "named":
        for file in (given.path / name for name in given.names):
            if _holds(file, out) or any(_same(path, file) or _holds(path, file) for path in output.touched):
                return f"would replace {file}, which is being read"
        return None
    if any(_same(path, given.path) or _holds(path, given.path) for path in output.touched):
        return f"would replace {given.path}, which is being read"
    if not given.path.is_dir():
        return None
    if not within_data and _holds(given.path, out):
        return f"lies in {given.path}, which is being read: its contents would change"
    if not output.is_folder and out.is_file() and (twin := _twin(out, given.path)) is not None:
        return f"is the same file as {twin}, which is being read"
    return None


def _data(path: Path) -> list[Input]:
    """What a DATA stands for: itself, and of a mapping file the data and the robot model that it names."""
    if not path.exists():
        return []
    found = [Input(path, "data" if path.is_dir() else "file")]
    if path.suffix not in _YAML or path.is_dir():
        return found
    from xtok.data.mapping.file import read_mapping

    try:
        spec = read_mapping(path)
    except (ValueError, OSError):  # told by the command itself
        return found
    if spec.data is not None:
        found += _data(spec.folder / spec.data)
    if spec.kinematics is not None:
        found += _data(spec.folder / spec.kinematics.urdf)
    return found


def _paths(value: object) -> list[Path]:
    if value is None:
        return []
    return [Path(str(each)) for each in (value if isinstance(value, list) else [value])]


def _same(a: Path, b: Path) -> bool:
    """One file or folder by whatever name: relative, symbolic link, hard link."""
    if os.path.exists(a) and os.path.exists(b):  # noqa: PTH110, Path.exists raises where one may not look
        return os.path.samefile(a, b)  # noqa: PTH121
    return a.resolve() == b.resolve()


def _holds(folder: Path, path: Path) -> bool:
    """Whether a path lies in a folder or below."""
    real = folder.resolve()
    return real in path.resolve().parents


def _twin(path: Path, folder: Path) -> Path | None:
    """The file below a folder that is this one by a link."""
    me = path.stat()
    for root, _, names in os.walk(folder):
        for name in names:
            other = Path(root, name)
            if os.path.exists(other) and os.path.samestat(me, other.stat()):  # noqa: PTH110
                return other
    return None


def _option(name: str) -> str:
    return "-o" if name == "out" else f"--{name.replace('_', '-')}"


def _example(output: Output) -> str:
    return {"-o": "out.parquet", "--json": "figures.json", "--report": "report.html"}.get(output.option, "out")
