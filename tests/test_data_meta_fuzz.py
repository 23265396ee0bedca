"""Every field of a LeRobot folder's JSON replaced by what it should not be: it is read, or an error names the file."""

from __future__ import annotations

import copy
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from folders import STATE, write_v21, write_v30
from xtok.data import open_dataset, open_source

EXAMPLES = int(os.environ.get("XTOK_FUZZ", "40")) * 3  # a file
MISSING = object()
ODD: list[Any] = [
    MISSING, None, True, False, -1, 0, 1, 3, 7.5, 1e18, 10**30, float("inf"), float("-inf"), float("nan"), "", "x",
    "20", "é\u2028",
    [], [None], [[]], [[["a"]]], [1, 2], ["a", "b", "c"], [{"a": 1}], {}, {"a": {"b": []}}, {"x": 0, "y": 5},
    {"motors": [1]},
    "{episode_index", "../{episode_index}", "data/{chunk:03d}/{nothing}", "a\0b", "v3.0", "video", "float32",
]  # fmt: skip
# Words that an error may use for what it says, beside the file itself.
CODE = (
    "KeyError",
    "AttributeError",
    "ZeroDivisionError",
    "TypeError",
    "IndexError",
    "OverflowError",
    "damaged or breaks",
)


def documents(root: Path) -> dict[str, list[Any]]:
    """Every JSON file below meta/, as the objects in it."""
    found = {}
    for path in sorted((root / "meta").glob("*.json*")):
        text = path.read_text()
        found[path.name] = (
            [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else [json.loads(text)]
        )
    return found


def places(content: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in JSON, the whole included."""
    yield at
    if isinstance(content, dict | list):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from places(value, (*at, key))


def changed(documents: list[Any], at: tuple[Any, ...], value: Any) -> list[Any]:
    """A copy with one value replaced, or taken out."""
    out = copy.deepcopy(documents)
    if not at:
        return []
    inner: Any = out
    for key in at[:-1]:
        inner = inner[key]
    if value is MISSING:
        del inner[at[-1]]
    else:
        inner[at[-1]] = value
    return out


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("meta")
    rng = np.random.default_rng(0)
    episodes = [{STATE: rng.uniform(-1, 1, (12, 3)).astype(np.float32)} for _ in range(2)]
    names = {STATE: {"motors": ["a", "b", "c"]}}
    more = {
        "total_episodes": 2,
        "total_frames": 24,
        "robot_type": "my_arm",
        "held_out": {"robot": False, "tasks": ["x"]},
    }
    write_v21(root / "v21", episodes, names, **more)
    write_v30(root / "v30", episodes, names, **more)
    return {"v21": root / "v21", "v30": root / "v30"}


def look(folder: Path, name: str) -> None:
    """Open and read all; whatever is wrong is told with the file's name, in words of ours."""

    def raw() -> None:
        source = open_source(folder)
        for position in range(len(source)):
            source.read_episode(position, tuple(source.features))

    for read in (lambda: list(open_dataset(folder)), raw):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read()
        except (ValueError, FileNotFoundError) as error:
            assert name in str(error), f"the error does not name {name}: {error}"
            assert not any(word in str(error) for word in CODE), str(error)


CASES = [(version, name) for version in ("v21", "v30") for name in ("info.json", "episodes.jsonl", "tasks.jsonl")][:4]


@pytest.mark.parametrize(("version", "name"), CASES)
def test_every_field_of_every_file(folders: dict[str, Path], tmp_path: Path, version: str, name: str) -> None:
    whole = documents(folders[version])[name]
    ways = [at for at in places(whole) if at]
    copied = tmp_path / "set"
    shutil.copytree(folders[version], copied)

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(st.sampled_from(ways), st.sampled_from(ODD) | st.text(max_size=5) | st.integers() | st.floats())
    def mutate(at: tuple[Any, ...], value: Any) -> None:
        lines = [json.dumps(each) for each in changed(whole, at, value)]
        (copied / "meta" / name).write_text("\n".join(lines), encoding="utf-8")
        look(copied, name)

    mutate()


@pytest.mark.parametrize("version", ["v21", "v30"])
@pytest.mark.parametrize("value", [MISSING, None, {}, [], 0, "x"])
def test_every_field_of_info_by_the_plainest_values(
    folders: dict[str, Path], tmp_path: Path, version: str, value: Any
) -> None:
    (whole,) = documents(folders[version])["info.json"]
    copied = tmp_path / "set"
    shutil.copytree(folders[version], copied)
    for at in (at for at in places(whole) if at):
        (copied / "meta/info.json").write_text(json.dumps(changed([whole], (0, *at), value)[0]))
        look(copied, "info.json")


NUMBERS: list[Any] = [
    None,
    [-1, 0],
    [0.5, 1.5],
    ["0", "1"],
    [float("nan"), 1.0],
    [10**15, 10**15],
    [[0], [1]],
    [True, False],
]


@pytest.mark.parametrize("values", [MISSING, *NUMBERS])
def test_every_column_of_the_listing_of_v3(folders: dict[str, Path], tmp_path: Path, values: Any) -> None:
    copied = tmp_path / "set"
    shutil.copytree(folders["v30"], copied)
    path = copied / "meta/episodes/chunk-000/file-000.parquet"
    whole = pq.read_table(path)
    for number, column in enumerate(whole.column_names):
        table = whole.drop_columns([column])
        if values is not MISSING:
            table = table.add_column(number, column, pa.array([None, None] if values is None else values))
        pq.write_table(table, path)
        look(copied, "meta/episodes")


@pytest.mark.parametrize("task", [None, ["a", "b"], [], "", 5, 1.5, True, {"a": 1}, [["a"]], [None]])
def test_a_task_that_is_no_text(folders: dict[str, Path], tmp_path: Path, task: Any) -> None:
    copied = tmp_path / "set"
    shutil.copytree(folders["v21"], copied)
    (copied / "meta/tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": task}))
    if task in (None, "", []):  # no words there: those that episodes.jsonl has
        assert open_dataset(copied)[0].instruction == "do it"
    elif task == ["a", "b"]:
        assert (open_dataset(copied)[0].instruction, open_dataset(copied)[0].wordings) == ("a", ("a", "b"))
    else:
        with pytest.raises(ValueError, match=r"tasks.jsonl, line 1: task is .*; expected a text"):
            open_dataset(copied)[0]


def test_messages_say_file_field_what_is_there_and_what_should_be(folders: dict[str, Path], tmp_path: Path) -> None:
    copied = tmp_path / "set"
    (whole,) = documents(folders["v21"])["info.json"]

    def told(*at: Any, value: Any) -> str:
        shutil.rmtree(copied, ignore_errors=True)
        shutil.copytree(folders["v21"], copied)
        (copied / "meta/info.json").write_text(json.dumps(changed([whole], (0, *at), value)[0]))
        with pytest.raises(ValueError) as caught:
            open_dataset(copied)
        return str(caught.value).removeprefix(f"{copied}/")

    assert told("fps", value=float("inf")).startswith("meta/info.json: fps is Infinity; expected the control rate")
    assert told("fps", value="20").startswith(
        "meta/info.json: fps is '20'; expected the control rate, a positive number"
    )
    assert told("chunks_size", value=0).startswith("meta/info.json: chunks_size is 0; expected how many episodes")
    assert told("features", STATE, "dtype", value=MISSING).startswith(
        f"meta/info.json, features, {STATE} has no 'dtype'"
    )
    assert told("features", STATE, "shape", value=None).startswith(f"meta/info.json, features, {STATE}: shape is null;")
    assert told("features", STATE, "names", value=5).startswith(f"meta/info.json, features, {STATE}: names is 5")
    assert "or {name: column}; repair it there" in told("features", STATE, "names", value={"a": 1.5})


def test_half_a_line_is_named_by_its_number(folders: dict[str, Path], tmp_path: Path) -> None:
    copied = tmp_path / "set"
    shutil.copytree(folders["v21"], copied)
    path = copied / "meta/episodes.jsonl"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n\r\n") + b'\r\n{"episode_index": 2, "tas')
    with pytest.raises(ValueError, match=r"episodes.jsonl, line 4, column 22: Unterminated string.*\"tas'.*skip_bad"):
        open_dataset(copied)
    kept = open_dataset(copied, skip_bad=True)
    assert kept.episode_indices == (0, 1) and [each.index for each in kept.left_out] == [2]
    assert "line 4" in kept.left_out[0].why
    path = copied / "meta/tasks.jsonl"
    path.write_text(
        '\ufeff{"task_index": 0, "task": "a\u2028b"}\n\n{"task_index": 1, "ta'
    )  # a byte order mark, a separator
    with pytest.raises(ValueError, match=r"tasks.jsonl, line 3, column 19"):
        open_source(copied).read_episode(0, [STATE])


def test_one_name_a_column_in_every_form_that_sets_use(folders: dict[str, Path], tmp_path: Path) -> None:
    copied = tmp_path / "set"
    shutil.copytree(folders["v21"], copied)
    (whole,) = documents(folders["v21"])["info.json"]
    abc = ("a", "b", "c")
    forms: list[tuple[Any, tuple[str, ...] | None]] = [
        (["a", "b", "c"], abc), ([["a", "b", "c"]], abc), ({"motors": ["a", "b", "c"]}, abc),
        ({"c": 2, "a": 0, "b": 1}, abc),
        ({"left": {"motors": ["a"]}, "right": {"motors": ["b", "c"]}}, abc),
        ({"left": ["a"], "right": ["a", "c"]}, ("left.a", "right.a", "right.c")),
        ([0, 1, 2], None), ([3, 4, 5], ("3", "4", "5")), (None, None), ([], None), ({}, None),
    ]  # fmt: skip
    for names, expected in forms:
        (copied / "meta/info.json").write_text(json.dumps(changed([whole], (0, "features", STATE, "names"), names)[0]))
        assert open_source(copied).features[STATE].names == expected, names
