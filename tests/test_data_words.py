"""Several wordings of one task, wordings that are empty, tasks that change within an episode: all are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from folders import STATE, write_v21, write_v30
from pack_kit import SMALL
from reader_kit import rlds_episode, write_rlds, write_robotwin_classic, write_robotwin_v1
from xtok.data import Segment, open_dataset, open_source
from xtok.data.packed.pack import pack

N = 12


def lerobot(root: Path, labels: Any, tasks: list[Any], listed: Any = ("do it",), write: Any = write_v21) -> Path:
    write(root, [{STATE: np.ones((N, 2), np.float32) * np.arange(N)[:, None]}])
    (path,) = root.glob("data/*/*.parquet")
    table = pq.read_table(path).drop_columns(["task_index"])
    pq.write_table(table if labels is None else table.append_column("task_index", pa.array(labels)), path)
    if write is write_v21:
        lines = [{"task_index": i, "task": task} for i, task in enumerate(tasks)]
        (root / "meta/tasks.jsonl").write_text("\n".join(map(json.dumps, lines)))
        (root / "meta/episodes.jsonl").write_text(json.dumps({"episode_index": 0, "tasks": listed, "length": N}))
    else:
        pq.write_table(pa.table({"task_index": range(len(tasks)), "task": tasks}), root / "meta/tasks.parquet")
    return root


@pytest.mark.parametrize("write", [write_v21, write_v30])
def test_a_task_that_changes_is_kept_with_its_spans(tmp_path: Path, write: Any) -> None:
    root = lerobot(tmp_path, [0] * 5 + [2] * 3 + [1] * 4, ["reach", "lift", "grasp"], write=write)
    with pytest.warns(UserWarning, match=r"changes within the episode \(3 tasks\)"):
        episode = open_dataset(root)[0]
    assert episode.instruction == "reach; grasp; lift"
    assert episode.wordings == ("reach", "grasp", "lift")
    assert episode.subtasks == (Segment(0, 5, "reach"), Segment(5, 8, "grasp"), Segment(8, 12, "lift"))


@pytest.mark.parametrize(
    ("labels", "tasks", "instruction", "spans"),
    [
        ([0] * 6 + [1] * 6, ["", "lift"], "lift", ()),  # no words for half of it
        ([0] * 6 + [1] * 6, ["lift", "lift"], "lift", ()),  # one task under two numbers
        ([0, 1] * 6, ["a", "b"], "a; b", tuple(Segment(i, i + 1, "ab"[i % 2]) for i in range(N))),
        (
            [0] * 4 + [1] * 4 + [0] * 4,
            ["a", "b"],
            "a; b",
            (Segment(0, 4, "a"), Segment(4, 8, "b"), Segment(8, 12, "a")),
        ),
        ([0] * 4 + [1] * 4 + [2] * 4, ["a", None, "b"], "a; b", (Segment(0, 4, "a"), Segment(8, 12, "b"))),
        ([1] * N, ["a", ["", "put it", "place it"]], "put it", ()),
        ([1] * N, ["a", ""], "do it", ()),  # what meta/episodes.jsonl says
        (None, ["lift"], "do it", ()),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_wordings_of_lerobot(tmp_path: Path, labels: Any, tasks: list[Any], instruction: str, spans: Any) -> None:
    episode = open_dataset(lerobot(tmp_path, labels, tasks))[0]
    assert (episode.instruction, episode.subtasks) == (instruction, spans)


def test_tasks_without_numbers(tmp_path: Path) -> None:
    assert open_dataset(lerobot(tmp_path / "a", None, ["lift"], []))[0].instruction == "lift"
    with pytest.warns(UserWarning, match="lists 2 tasks for it; which is when is unknown"):
        episode = open_dataset(lerobot(tmp_path / "b", None, ["a", "b"], ["", "a", "b"][1:]))[0]
    assert (episode.instruction, episode.wordings) == ("a", ("a", "b"))


def test_sub_tasks_of_the_set_stay_beside_a_task_that_changes(tmp_path: Path) -> None:
    root = lerobot(tmp_path, [0] * 6 + [1] * 6, ["one", "two"], write=write_v30)
    path = root / "data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(path).append_column("subtask_index", pa.array([0] * 3 + [1] * 9)), path)
    pq.write_table(pa.table({"subtask_index": [0, 1], "subtask": ["reach", "lift"]}), root / "meta/subtasks.parquet")
    with pytest.warns(UserWarning, match="2 tasks"):
        episode = open_dataset(root)[0]
    assert episode.instruction == "one; two" and episode.subtasks == (Segment(0, 3, "reach"), Segment(3, 12, "lift"))


@pytest.mark.parametrize(
    ("first", "second", "third", "instruction", "wordings"),
    [
        (b"", b"put the cup away", b"", "put the cup away", ()),
        (b"", b"", b"third", "third", ()),
        (b"close it", b"", b"", "close it", ()),
        (b"close it", b"shut it", b"", "close it", ("close it", "shut it")),
        (b" ", b"shut it", b"shut it ", "shut it", ()),
        (b"", b"", b"", "", ()),
    ],
)
def test_rlds_has_several_wordings(
    tmp_path: Path, first: bytes, second: bytes, third: bytes, instruction: str, wordings: tuple[str, ...]
) -> None:
    more = {f"steps/language_instruction_{k}": [text] * N for k, text in ((2, second), (3, third))}
    source = open_source(write_rlds(tmp_path, [rlds_episode(N, text=first, **more)]))
    raw = source.read_episode(0, ["action"])
    assert (raw.instruction, raw.wordings, raw.subtasks) == (instruction, wordings, ())


def test_rlds_words_that_change_from_step_to_step(tmp_path: Path) -> None:
    words = [b"reach"] * 4 + [b""] * 2 + [b"lift"] * 6
    source = open_source(write_rlds(tmp_path, [rlds_episode(N, **{"steps/language_instruction": words})]))
    raw = source.read_episode(0, ["action"])
    assert raw.instruction == "reach; lift" and raw.subtasks == (Segment(0, 4, "reach"), Segment(6, 12, "lift"))
    first = np.zeros(N, dtype=np.int64)
    first[[0, 6]] = 1
    source = open_source(write_rlds(tmp_path / "two", [rlds_episode(N, **{"steps/is_first": first})]))
    assert "is_first is set in steps [0, 6]" in source.read_episode(0, ["action"]).remarks[0].text


@pytest.mark.parametrize(
    ("stored", "instruction", "wordings"),
    [
        ({"seen": ["", "take it", "grab it"], "unseen": ["get it"]}, "take it", ("take it", "grab it", "get it")),
        ({"seen": [], "unseen": ["get it"]}, "get it", ()),
        ({"seen": "take it"}, "take it", ()),
        ({}, "", ()),
    ],
)
def test_robotwin_classic(tmp_path: Path, stored: Any, instruction: str, wordings: tuple[str, ...]) -> None:
    root = write_robotwin_classic(tmp_path, lengths=(9,), pictures=False)
    (path,) = root.rglob("instructions/*.json")
    path.write_text(json.dumps(stored))
    episode = open_dataset(root)[0]
    assert (episode.instruction, episode.wordings) == (instruction, wordings)


@pytest.mark.parametrize(
    ("stored", "instruction", "wordings"),
    [
        (json.dumps(["", "take it", "grab it"]), "take it", ("take it", "grab it")),
        (["", "take it", "grab it"], "take it", ("take it", "grab it")),
        ([json.dumps(["take it"]), "grab it"], "take it", ("take it", "grab it")),
        ("take it", "take it", ()),
        ("[broken", "[broken", ()),
        ("", "", ()),
    ],
)
def test_robotwin_v1(tmp_path: Path, stored: Any, instruction: str, wordings: tuple[str, ...]) -> None:
    root = write_robotwin_v1(tmp_path, lengths=(9,))
    with h5py.File(next(root.rglob("*.hdf5")), "a") as archive:
        del archive["instructions"]
        archive["instructions"] = stored
    episode = open_dataset(root)[0]
    assert (episode.instruction, episode.wordings) == (instruction, wordings)


def test_a_corpus_keeps_all_words(tmp_path: Path) -> None:
    root = write_robotwin_classic(tmp_path / "set", lengths=(9, 12), pictures=False)
    with SMALL:
        pack([root], tmp_path / "corpus", statistics=False)
    for before, after in zip(open_dataset(root), open_dataset(tmp_path / "corpus"), strict=True):
        assert (after.instruction, after.wordings) == (before.instruction, before.wordings)
        assert len(after.wordings) == 2
