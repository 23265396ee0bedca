"""Episodes that cannot be read stop a set with an error that names them, or are left out and listed in every output."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from folders import STATE, write_v21, write_v30
from pack_kit import SMALL, contents
from reader_kit import example, frame, rlds_episode, write_rlds, write_robotwin_classic
from test_data_rlds import MAPPING
from xtok.actions.layout import JOINTS
from xtok.cli.main import main
from xtok.codec.gaussian.robot_statistics import load_statistics
from xtok.data import EpisodeDataset, join, open_dataset, open_source, select
from xtok.data.packed.pack import pack
from xtok.data.packed.sources import open_sources
from xtok.data.splits import split_positions
from xtok.pretrain.corpus import Corpus

EPISODES, N = 11, 40


def whole(root: Path) -> Path:
    rng = np.random.default_rng(0)
    steps = [np.cumsum(rng.normal(0, 0.02, (N, 4)), axis=0).astype(np.float32) for _ in range(EPISODES)]
    return write_v21(root, [{STATE: each} for each in steps])


def table_of(root: Path, index: int) -> Path:
    return root / f"data/chunk-000/episode_{index:06d}.parquet"


def change(root: Path, index: int, how: Callable[[np.ndarray], Any]) -> None:
    path = table_of(root, index)
    table = pq.read_table(path)
    rows = how(np.array(table[STATE].to_pylist(), dtype=np.float32))
    table = table.drop_columns([STATE]).append_column(STATE, pa.array(list(map(list, rows))))
    pq.write_table(table, path)


def with_nan(state: np.ndarray) -> np.ndarray:
    state[7, 2] = np.nan
    return state


def no_rows(root: Path, index: int) -> None:
    pq.write_table(pq.read_table(table_of(root, index)).slice(0, 0), table_of(root, index))


FAULTS: dict[str, Callable[[Path, int], object]] = {
    "no rows": no_rows,
    "NaN": lambda root, i: change(root, i, with_nan),
    "infinite": lambda root, i: change(root, i, lambda s: np.where(s == s[3, 1], np.inf, s)),
    "missing": lambda root, i: table_of(root, i).unlink(),
    "cut short": lambda root, i: table_of(root, i).write_bytes(table_of(root, i).read_bytes()[:-60]),
    "empty": lambda root, i: table_of(root, i).write_bytes(b""),
    "wider": lambda root, i: change(root, i, lambda s: np.concatenate([s, s], axis=1)),
    "narrower in one row": lambda root, i: change(root, i, lambda s: [*s[:-1].tolist(), s[-1, :2].tolist()]),
    "no such column": lambda root, i: pq.write_table(
        pq.read_table(table_of(root, i)).drop_columns([STATE]), table_of(root, i)
    ),
    "time backwards": lambda root, i: pq.write_table(
        pq.read_table(table_of(root, i)).drop_columns(["timestamp"])
        .append_column("timestamp", pa.array(-np.arange(N) / 10)).append_column("frame_index", pa.array(range(N))),
        table_of(root, i),
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("index", [0, 3, 4, 10])
def test_one_bad_episode_is_named_and_can_be_left_out(tmp_path: Path, fault: str, index: int) -> None:
    root = whole(tmp_path / "set")
    every = open_dataset(root)
    splits = {name: [every[i].index for i in split_positions(every, name)] for name in ("train", "heldout")}
    FAULTS[fault](root, index)
    with pytest.raises(ValueError, match=rf"set, episode {index}\b.*--skip-bad") as caught:
        list(open_dataset(root))
    assert "open_dataset(..., skip_bad=True)" in str(caught.value)
    kept = open_dataset(root, skip_bad=True)
    assert kept.episode_indices == tuple(i for i in range(EPISODES) if i != index)
    assert [(each.dataset, each.index, each.position) for each in kept.left_out] == [("set", index, index)]
    assert f"episode {index}" in kept.left_out[0].why and "--skip-bad" not in kept.left_out[0].why
    assert [episode.index for episode in kept] == list(kept.episode_indices)
    for name, indices in splits.items():  # nobody else changes sides
        assert [episode.index for episode in select(kept, name)] == [i for i in indices if i != index]


def test_a_sound_set_is_the_same_with_skip_bad(tmp_path: Path) -> None:
    root = whole(tmp_path / "set")
    kept = open_dataset(root, skip_bad=True)
    assert (kept.left_out, kept.places, len(kept)) == ((), (), EPISODES)


def test_a_set_without_one_sound_episode_says_so(tmp_path: Path) -> None:
    root = whole(tmp_path / "set")
    for index in range(EPISODES):
        table_of(root, index).unlink()
    with pytest.raises(ValueError, match=r"not one of the .*episodes.* of set can be read; the first: .*episode 0"):
        open_dataset(root, skip_bad=True)


def test_several_in_one_file_of_v3_and_joined_sets(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    root = write_v30(tmp_path / "v3", [{STATE: rng.normal(0, 1, (9, 2)).astype(np.float32)} for _ in range(6)])
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    rows = pq.read_table(path).to_pylist()
    rows[1]["length"], rows[5]["data/file_index"] = None, None
    pq.write_table(pa.Table.from_pylist(rows), path)
    with pytest.raises(
        ValueError, match=r"episode 1 \(and 1 more\): .*file-000.parquet, row 1: length is null; expected"
    ):
        open_dataset(root)
    kept = open_dataset(root, skip_bad=True)
    other = open_dataset(whole(tmp_path / "set"), embodiment="none:another")
    both = join([kept, other])
    assert [each.index for each in both.left_out] == [1, 5]
    heldout = [both[i].index for i in split_positions(both, "heldout")]
    assert heldout == [4, 4, 9]
    with pytest.raises(ValueError, match="unknown split"):
        split_positions(kept, "test")  # type: ignore[arg-type]


def test_rlds_shards_that_are_cut_off(tmp_path: Path) -> None:
    episodes = [rlds_episode(12, seed) for seed in range(6)]
    root = write_rlds(tmp_path / "set", episodes)
    (shard,) = root.glob("*.tfrecord*")
    (tmp_path / "m.yaml").write_text(MAPPING)
    sound = shard.read_bytes()
    ends = np.cumsum([len(frame(example(each))) for each in episodes])

    def opened(**how: Any) -> EpisodeDataset:
        return open_dataset(root, mapping=tmp_path / "m.yaml", **how)

    shard.write_bytes(sound[: ends[4] + 50])  # the last record is cut off
    with pytest.raises(ValueError, match=r"episode 5: .*ends within record 5.*skip_bad"):
        opened()
    kept = opened(skip_bad=True)
    assert kept.episode_indices == (0, 1, 2, 3, 4) and kept.left_out[0].index == 5
    spoiled = bytearray(sound)
    spoiled[ends[0] + 60] ^= 1  # a byte of record 1's payload
    shard.write_bytes(spoiled)
    kept = opened(skip_bad=True)
    assert kept.episode_indices == (0, 2, 3, 4, 5) and [e.index for e in select(kept, "heldout")] == [4]
    spoiled = bytearray(sound)
    spoiled[60] ^= 1  # of the first record's, by which features are known otherwise
    shard.write_bytes(spoiled)
    assert opened(skip_bad=True).episode_indices == (1, 2, 3, 4, 5)


def test_rlds_shards_keep_numbers_only_where_lengths_are_stated(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    (tmp_path / "m.yaml").write_text(MAPPING)
    for number in range(2):
        data = b"".join(frame(example(rlds_episode(12, 3 * number + i))) for i in range(3))
        (root / f"my_set-train.tfrecord-{number:05d}-of-00002").write_bytes(data[:-30] if number == 0 else data)
    with pytest.raises(ValueError, match=r"ends within record 2.*those after it have no numbers"):
        open_dataset(root, mapping=tmp_path / "m.yaml", skip_bad=True)
    info = {"name": "my_set", "splits": [{"name": "train", "shardLengths": ["3", "3"]}]}
    (root / "dataset_info.json").write_text(json.dumps(info))
    kept = open_dataset(root, mapping=tmp_path / "m.yaml", skip_bad=True)
    assert kept.episode_indices == (0, 1, 3, 4, 5) and [e.index for e in select(kept, "heldout")] == [4]


def test_robotwin_files_that_are_damaged_the_first_too(tmp_path: Path) -> None:
    root = write_robotwin_classic(tmp_path / "set", lengths=(9, 10, 11, 12, 13, 14), pictures=False)
    for index in (0, 3):
        path = next(root.rglob(f"episode{index}.hdf5"))
        path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"set, episode 0: .*truncated.*skip_bad"):
        open_dataset(root)[0]
    kept = open_dataset(root, skip_bad=True)
    assert [len(episode) for episode in kept] == [10, 11, 13, 14] and kept.places == (1, 2, 4, 5)


# Commands and what they write.


@pytest.fixture
def spoiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eleven episodes, of which 1, 4 and 10 cannot be read."""
    monkeypatch.chdir(tmp_path)
    root = whole(tmp_path / "set")
    change(root, 1, with_nan)
    table_of(root, 4).unlink()
    FAULTS["cut short"](root, 10)
    return root


def test_commands_stop_with_the_way_out(spoiled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (
        ["stats"],
        ["encode", "-o", "c.parquet"],
        ["adapt", "-o", "mine", "--books", "shared"],
        ["pack", "-o", "p"],
    ):
        assert main([command[0], str(spoiled), *command[1:]]) == 2
        told = capsys.readouterr().err
        assert "episode 1" in told and "--skip-bad" in told, command


def test_encode_stats_and_eval_list_what_they_left_out(spoiled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(spoiled)
    assert main(["stats", data, "--skip-bad", "-o", "s.json"]) == 0
    told = capsys.readouterr().err
    assert "left out 3 of 11 episodes:" in told and told.count("set, episode") == 3
    stats = json.loads(Path("s.json").read_text())
    assert [each["episode"] for each in stats["left_out"]] == [1, 4, 10]
    assert load_statistics("s.json").embodiment == "none:my_arm"
    common = ["--skip-bad", "--statistics", "s.json"]
    assert main(["encode", data, *common, "-o", "c.parquet"]) == 0
    header = json.loads(pq.read_schema("c.parquet").metadata[b"xtok.codes"])
    assert [(e["dataset"], e["episode"], e["position"]) for e in header["left_out"]] == [
        ("set", 1, 1), ("set", 4, 4), ("set", 10, 10),
    ]  # fmt: skip
    assert all(each["why"] for each in header["left_out"])
    assert main(["decode", "c.parquet", "-o", "a.parquet"]) == 0
    assert main(["encode", data, *common, "-o", "h.parquet", "--split", "heldout"]) == 0
    assert set(pq.read_table("h.parquet")["episode_index"].to_pylist()) == {9}  # 4 is gone, and none came in its place
    arguments = ["--horizons", "8", "--chunks", "8", "--baselines", "fast", "--json", "e.json"]
    assert main(["eval", "--data", data, *common, *arguments]) == 0
    assert [each["episode"] for each in json.loads(Path("e.json").read_text())["left_out"]] == [1, 4, 10]


def test_a_code_file_of_a_sound_set_is_as_it_was(spoiled: Path) -> None:
    sound = str(whole(Path("sound")))
    for name, more in (("a.parquet", []), ("b.parquet", ["--skip-bad"])):
        assert main(["encode", sound, "-o", name, *more]) == 0
    assert b"left_out" not in pq.read_schema("a.parquet").metadata[b"xtok.codes"]
    assert Path("a.parquet").read_bytes() == Path("b.parquet").read_bytes()


def test_a_corpus_keeps_the_splits_and_lists_what_it_lacks(spoiled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with SMALL:
        assert main(["pack", str(spoiled), "-o", "corpus", "--skip-bad"]) == 0
    assert "left out: set, episode 4" in capsys.readouterr().out
    manifest = json.loads(Path("corpus/pack.json").read_text())
    assert [each["episode"] for each in manifest["settings"]["left_out"]] == [1, 4, 10]
    packed, plain = open_dataset("corpus"), open_dataset(spoiled, skip_bad=True)
    assert (packed.episode_indices, packed.places) == (plain.episode_indices, plain.places)
    assert packed.left_out == plain.left_out
    for name in ("train", "heldout"):
        assert [e.index for e in select(packed, name)] == [e.index for e in select(plain, name)]
        for one, other in zip(select(packed, name), select(plain, name), strict=True):
            np.testing.assert_array_equal(one.absolute_ND, other.absolute_ND)
    (unit,) = next(iter(open_sources("corpus"))).units()
    assert (unit.table_E["flags"] == [0] * 7 + [1]).all()  # of all, episode 9 is held out
    with SMALL:
        assert main(["pack", str(spoiled), "-o", "again", "--skip-bad", "--workers", "2"]) == 0
        assert main(["pack", "corpus", "-o", "twice"]) == 0
    assert {k: v for k, v in contents(Path("again")).items() if "json" not in k} == {
        k: v for k, v in contents(Path("corpus")).items() if "json" not in k
    }
    assert open_dataset("twice").places == plain.places and open_dataset("twice").left_out == plain.left_out


def test_a_corpus_with_left_out_that_does_not_fit_is_refused(spoiled: Path) -> None:
    pack([spoiled], "corpus", skip_bad=True)
    path = Path("corpus/set/source.json")
    content = json.loads(path.read_text())
    for value in (
        [{"index": "x"}],
        5,
        [{"dataset": "set", "index": 1, "position": -1, "why": ""}],
        content["left_out"][:1],
    ):
        path.write_text(json.dumps({**content, "left_out": value}))
        with pytest.raises(ValueError, match=r"source.json"):
            open_dataset("corpus")


def test_training_lists_what_it_left_out(spoiled: Path) -> None:
    with pytest.raises(ValueError, match=r"episode 1.*--skip-bad"):
        Corpus.open(JOINTS, [spoiled])
    assert [each.index for each in Corpus.open(JOINTS, [spoiled], skip_bad=True).left_out] == [1, 4, 10]


def test_inspect_reads_on_and_names_them(spoiled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(spoiled), "-o", "i"]) == 0
    out = capsys.readouterr().out
    assert out.count("broken episode: set, episode") >= 3
    assert open_source(spoiled).broken == {}
