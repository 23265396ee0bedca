"""Damaged, cut and absurd files: every reader and the mapping file answer with the one typed error, or read them.

How many are tried: XTOK_FUZZ a reader (default 40). `XTOK_FUZZ=2000 pytest -s tests/test_data_hostile.py` counts.
"""

from __future__ import annotations

import os
import resource
import shutil
import time
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xtok.data.readers.adroit_npz
import xtok.data.readers.tables
from folders import CAMERA, STATE, write_v21, write_v30, write_video
from reader_kit import quaternions, rlds_episode, write_rlds, write_robotwin_classic, write_robotwin_v1
from test_data_formats import sawyer_states, write_demo, write_npz, write_stream
from test_data_mapping_file import GOOD
from test_data_robomimic import write_robomimic
from xtok.data import open_dataset, read_mapping
from xtok.data.inspect.survey import survey
from xtok.data.mapping.file import parse_mapping
from xtok.data.mapping.yaml_lines import parse_yaml
from xtok.data.open import open_source
from xtok.data.readers.hdf5 import open_hdf5
from xtok.data.readers.tfrecord import parse_example
from xtok.data.source import Source

EXAMPLES = int(os.environ.get("XTOK_FUZZ", "40"))
SECONDS_MAX = 10.0  # of a processor, not of a clock
PYTHON_BYTES_MAX, PROCESS_BYTES_MAX = 200_000_000, 400_000_000
TRIED: Counter[str] = Counter()


@pytest.fixture(scope="module", autouse=True)
def census() -> Iterator[None]:
    yield
    print("\ntried:", ", ".join(f"{name} {count}" for name, count in sorted(TRIED.items())))


N = 12


def _v21(root: Path) -> None:
    write_v21(root, [{STATE: np.cumsum(np.ones((N, 4)), axis=0)}] * 2)
    write_video(root / f"videos/chunk-000/{CAMERA}/episode_000000.mp4", N)


def _rlds(root: Path) -> None:
    write_rlds(root, [rlds_episode(N, seed) for seed in range(2)])


WRITERS: dict[str, Callable[[Path], object]] = {
    "LeRobot v2.1": _v21,
    "LeRobot v3.0": lambda root: write_v30(root, [{STATE: np.ones((N, 4))}] * 2),
    "Arrow": lambda root: write_stream(root, np.ones((30, 6))),
    "npz": lambda root: write_npz(root, np.ones((9, 28)), np.ones((5, 28))),
    "robosuite": lambda root: write_demo(root, sawyer_states(21)),
    "robomimic": lambda root: write_robomimic(root, lengths=(5, 6)),
    "RLDS": _rlds,
    "RoboTwin classic": lambda root: write_robotwin_classic(root, lengths=(5,)),
    "RoboTwin v1.0": lambda root: write_robotwin_v1(root, lengths=(5,)),
}


def read_all(source: Source) -> int:
    """Every feature of every episode, and a picture of each camera; returns how many episodes."""
    for position in range(len(source)):
        raw = source.read_episode(position, tuple(source.features))
        assert all(np.isfinite(array).all() and array.ndim == 2 for array in raw.arrays.values())
        for view in raw.videos.values():
            view.frames([0])
    return len(source)


def attempt(kind: str, action: Callable[[], object]) -> None:
    """The action ends well or with a ValueError that says something, soon, and without much memory."""
    TRIED[kind] += 1
    before_s, before_kb = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        action()
    except ValueError as error:
        assert len(str(error)) > 10
    assert time.process_time() - before_s < SECONDS_MAX, "too slow"
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
    assert grown * 1024 < PROCESS_BYTES_MAX, f"{kind}: the process grew by {grown:,} kB"


@st.composite
def damage(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """A way to spoil bytes: cut, overwrite, insert, drop, or repeat a stretch. Places are shares of the length."""
    how = draw(st.sampled_from(["cut", "flip", "overwrite", "insert", "drop", "zero", "text"]))
    place, stretch = draw(st.floats(0, 1)), draw(st.floats(0, 0.2))
    junk = draw(st.binary(min_size=1, max_size=24))
    word, value = (
        draw(st.sampled_from([b"{", b"null", b"-1", b"1e999", b"[]", b'""', b"99999999999999"])),
        draw(st.integers(1, 255)),
    )

    def spoil(data: bytes) -> bytes:
        at = int(place * max(len(data) - 1, 0))
        end = at + 1 + int(stretch * len(data))
        if how == "cut":
            return data[:at]
        if how == "flip":
            return data[:at] + bytes([data[at] ^ value]) + data[at + 1 :] if data else data
        if how == "overwrite":
            return data[:at] + junk + data[at + len(junk) :]
        if how == "insert":
            return data[:at] + junk + data[at:]
        if how == "drop":
            return data[:at] + data[end:]
        if how == "zero":
            return data[:at] + bytes(min(end, len(data)) - at) + data[end:]
        return data[:at] + word + data[at + len(word) :]

    return spoil


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("whole")
    for kind, write in WRITERS.items():
        write(root / kind.replace(" ", "-"))
    return {kind: root / kind.replace(" ", "-") for kind in WRITERS}


@pytest.mark.parametrize("kind", WRITERS)
def test_the_whole_files_are_read(wholes: dict[str, Path], kind: str) -> None:
    assert read_all(open_source(wholes[kind])) >= 1


@pytest.mark.parametrize("kind", WRITERS)
def test_a_damaged_file_gives_a_typed_error(wholes: dict[str, Path], kind: str, tmp_path: Path) -> None:
    files = sorted(path for path in wholes[kind].rglob("*") if path.is_file())
    copy = tmp_path / "copy"
    shutil.copytree(wholes[kind], copy)

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=EXAMPLES <= 40)
    @given(st.integers(0, len(files) - 1), damage())
    def spoil(which: int, spoiled: Callable[[bytes], bytes]) -> None:
        victim = copy / files[which].relative_to(wholes[kind])
        whole = files[which].read_bytes()
        victim.write_bytes(spoiled(whole))
        try:
            attempt(kind, lambda: read_all(open_source(copy)))
            attempt(f"{kind}, surveyed", lambda: survey(open_source(copy)))
        finally:
            victim.write_bytes(whole)

    spoil()


@pytest.mark.parametrize("kind", WRITERS)
def test_every_file_missing_in_turn(wholes: dict[str, Path], kind: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(wholes[kind], copy)
    for path in sorted(path for path in copy.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        path.unlink()
        attempt(f"{kind}, file missing", lambda: read_all(open_source(copy)))
        path.write_bytes(whole)


@settings(max_examples=EXAMPLES * 10, deadline=None, derandomize=EXAMPLES <= 40)
@given(st.binary(max_size=300))
def test_random_bytes_as_a_protobuf(data: bytes) -> None:
    attempt("protobuf of random bytes", lambda: parse_example(data))


LINES = GOOD.splitlines()
SCALARS = st.sampled_from(
    ["", "3", "-1", "nan", "1e999", "[", "]", "{", "&a x", "*a", "!!python/name:os.system", "- 1", "\t", "arms26",
     "joints", "? a", "|", ">-", "observation.state[0:999999999]", '"observation.state[0:3]"', "{from: action}", "0x10",
     "~", "<<: 1", "%TAG"]
) | st.text(max_size=12)  # fmt: skip


@settings(max_examples=EXAMPLES * 5, deadline=None, derandomize=EXAMPLES <= 40, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, len(LINES) - 1), st.integers(0, 60), SCALARS), min_size=1, max_size=4))
def test_a_spoiled_mapping_gives_a_typed_error(wholes: dict[str, Path], edits: list[tuple[int, int, str]]) -> None:
    lines = list(LINES)
    for line, column, text in edits:
        lines[line] = lines[line][:column] + text + lines[line][column + len(text) :]

    def use() -> None:
        spec = parse_mapping(parse_yaml("\n".join(lines), "m.yaml"), Path())
        open_dataset(wholes["LeRobot v2.1"], mapping=spec)[0]

    attempt("mapping file", use)


@settings(max_examples=EXAMPLES * 5, deadline=None, derandomize=EXAMPLES <= 40)
@given(st.text(max_size=200))
def test_any_text_as_a_mapping(text: str) -> None:
    attempt("mapping of random text", lambda: parse_mapping(parse_yaml(text, "m.yaml"), Path()))


WIDTHS = st.integers(1, 12)


@settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES <= 40, suppress_health_check=list(HealthCheck))
@given(WIDTHS, st.floats(-1e6, 1e6), st.sampled_from([0.0, 1e-9, 1.0, 1e3]), st.booleans())
def test_any_numbers_are_surveyed_and_proposed_for(
    tmp_path_factory: pytest.TempPathFactory, width: int, offset: float, size: float, still: bool
) -> None:
    from xtok.data.mapping.mapped import open_mapped
    from xtok.data.mapping.propose import propose

    state = offset + size * np.random.default_rng(width).normal(0, 1, (5, width))
    state = np.repeat(state[:1], 5, axis=0) if still else state
    folder = write_v21(tmp_path_factory.mktemp("any"), [{STATE: state, "action": state * 2}])

    def look() -> None:
        looked = survey(open_source(folder))
        proposal = propose(looked)
        assert proposal.text is not None
        open_mapped(looked.source, proposal.spec("m.yaml"))[0]

    attempt("survey and proposal", look)


def peak_bytes(action: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        action()
    except ValueError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


def test_bombs_do_not_unpack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xtok.data.readers.adroit_npz, "UNPACKED_MAX", 20_000_000)
    bomb = tmp_path / "npz" / "demos.npz"
    bomb.parent.mkdir()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("actions_00.npy", bytes(20_000_001))
    assert bomb.stat().st_size < 200_000
    assert peak_bytes(lambda: open_source(bomb.parent)) < 1_000_000
    with pytest.raises(ValueError, match="unpacks to 20,000,001 bytes"):
        open_source(bomb.parent)
    lying = tmp_path / "lying" / "demos.npz"
    lying.parent.mkdir()
    with zipfile.ZipFile(lying, "w") as archive, archive.open("actions_00.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f8", "fortran_order": False, "shape": (10**15, 28)})
    attempt("bomb", lambda: open_source(lying.parent))

    laughs = "a: &a [x, x]\n" + "\n".join(f"b{i}: &b{i} [*a, *a]" for i in range(50))
    assert peak_bytes(lambda: parse_yaml(laughs, "m.yaml")) < 5_000_000
    assert peak_bytes(lambda: parse_yaml("[" * 60_000, "m.yaml")) < PYTHON_BYTES_MAX
    deep = tmp_path / "deep"
    write_v21(deep, [{STATE: np.ones((N, 4))}])
    (deep / "meta" / "info.json").write_text("[" * 200_000)
    attempt("bomb", lambda: open_source(deep))
    with pytest.raises(ValueError, match="cannot read"):
        open_source(deep)
    TRIED["bomb"] += 3


def test_a_long_mapping_ends_soon(tmp_path: Path) -> None:
    for text in ("a " * 30_000, "[" + "1, " * 20_000 + "]", "layout: " + " " * 60_000 + "x", "? " * 30_000):
        path = tmp_path / "m.yaml"
        path.write_text(text)
        attempt("mapping, long", lambda: read_mapping(path))  # noqa: B023


def test_a_table_that_claims_a_hundred_million_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_v21(tmp_path, [{STATE: quaternions(N)}])
    monkeypatch.setattr(xtok.data.readers.tables, "ROWS_MAX", 5)
    with pytest.raises(ValueError, match="has 12 rows; expected a table of robot data"):
        open_dataset(folder)[0]


def test_a_heap_of_strings_that_libhdf5_would_step_through_for_ever_is_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "strings.hdf5"
    with h5py.File(path, "w") as file:
        file["instructions"] = np.array(["lift the cube", "take it"], dtype=h5py.string_dtype())
    with open_hdf5(path) as file:
        assert file["instructions"].asstr()[0] == "lift the cube"
    whole = path.read_bytes()
    heap = whole.index(b"GCOL")
    # An object of index 0 and size 0, and one of 2^64 - 1 bytes.
    for at, spoiled in ((heap + 16, bytes(16)), (heap + 24, b"\xff" * 8)):
        path.write_bytes(whole[:at] + spoiled + whole[at + len(spoiled) :])
        with pytest.raises(ValueError, match=rf"damaged at byte {heap + 16}, where strings are kept"):
            open_hdf5(path)
