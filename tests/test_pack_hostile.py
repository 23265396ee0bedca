"""A packed corpus that is damaged, or whose descriptions lie: one typed error that says what, where and what to do."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pack_kit import SMALL, recording
from xtok.cli.main import EXIT_USER_ERROR, main
from xtok.data import open_dataset
from xtok.data.packed.format import PackedSource, canonical, file_digest
from xtok.data.packed.pack import pack, plan, write_shard
from xtok.data.packed.sample import PackedCorpus
from xtok.data.packed.sources import open_sources

UNIT = "panda/arms26-achieved"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hostile")
    with SMALL:
        pack([recording(root / "panda")], root / "corpus", action_source="achieved")
    return root / "corpus"


@pytest.fixture
def corpus(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "corpus"))


def read_all(corpus: Path) -> None:
    """All that any command does with a corpus: its episodes, its words, its chunks."""
    for episode in open_dataset(corpus):
        assert episode.absolute_ND.shape == (len(episode), 26) and episode.timestamps_s.shape == (len(episode),)
    PackedCorpus.open(corpus).draw(16, 64, torch.Generator().manual_seed(0))


def change(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def relabel(corpus: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """A lie in source.json told well: digests above it fit."""
    change(corpus / "panda/source.json", edit)
    try:
        digest = PackedSource.load(corpus / "panda").digest
    except ValueError:
        return  # it is refused for itself

    def sign(manifest: dict[str, Any]) -> None:
        manifest["source_digests"] = [digest]
        manifest["digest"] = hashlib.sha256(canonical([1, [digest]])).hexdigest()[:16]

    change(corpus / "pack.json", sign)


def test_an_untouched_corpus_is_read(corpus: Path) -> None:
    read_all(corpus)


@pytest.mark.parametrize("name", ["absolute.npy", "timestamps.npy", "episodes.json"])
@pytest.mark.parametrize("keep", [0, 0.3, 0.99, None])
def test_a_shard_that_is_cut_short_or_missing(corpus: Path, name: str, keep: float | None) -> None:
    path = corpus / UNIT / "00001" / name
    whole = path.read_bytes()
    path.unlink()
    if keep is not None:
        path.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(ValueError, match=rf"00001/{name}.*copy the corpus again, or remove it and pack anew"):
        read_all(corpus)


@pytest.mark.parametrize("name", ["ends.npy", "table.npy"])
def test_an_index_that_is_cut_short(corpus: Path, name: str) -> None:
    path = corpus / UNIT / name
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match=name):
        read_all(corpus)


def test_one_bit_in_one_shard(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = corpus / UNIT / "00002" / "absolute.npy"
    content = bytearray(path.read_bytes())
    content[-200] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"00002/absolute.npy: episode \d is not as it was packed"):
        read_all(corpus)
    assert main(["inspect", str(corpus)]) == EXIT_USER_ERROR
    assert "another SHA-256" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m.update(format=2), "pack.json has format 2, this xtok reads 1: update xtok"),
        (lambda m: m.pop("format"), "no description"),
        (lambda m: m.update(digest="0" * 16), "digest is 0000"),
        (lambda m: m.update(source_digests=["0" * 16]), "digest"),
        (lambda m: m.update(folders=["../../etc"]), "no plain name of a folder"),
        (lambda m: m.update(folders=["/etc"]), "no plain name of a folder"),
        (lambda m: m.update(folders=["pan\x00da"]), "no plain name of a folder"),
        (lambda m: m.update(folders=[".."]), "no plain name of a folder"),
        (lambda m: m.update(folders=["nowhere"]), "cannot read .*nowhere"),
        (lambda m: m.update(folders=["panda", "panda"]), "all different"),
        (lambda m: m.update(folders=7), "iterable"),
        (lambda m: m.update(frames=-1), "frames is -1"),
        (lambda m: m.update(bytes=1e30), "bytes is 1e"),
        (lambda m: m.pop("episodes"), "it has no 'episodes'"),
        (lambda m: m.update(statistics=[]), "no mapping"),
    ],
)
def test_a_manifest_that_lies(corpus: Path, edit: Callable[[dict[str, Any]], Any], message: str) -> None:
    change(corpus / "pack.json", edit)
    with pytest.raises(ValueError, match=message):
        read_all(corpus)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda u: u.update(episodes=10**12), "shards for 1000000000000 episodes"),
        (lambda u: u.update(episodes=10**12, per_shard=10**12, shard_frames=[1], shard_columns=[0]), "shards"),
        (lambda u: u.update(frames=10**12), "its shards have"),
        (lambda u: u.update(shard_frames=[10**12] * 4, frames=4 * 10**12), r"absolute.npy.*\[1000000000000, 10\]"),
        (lambda u: u.update(per_shard=0), "per_shard is 0"),
        (lambda u: u.update(per_shard=2), "shards"),
        (lambda u: u.update(layout="legs"), "unknown layout"),
        (lambda u: u.update(layout="../arms26"), "unknown layout"),
        (lambda u: u.update(asked="/etc/passwd"), "asked is"),
        (lambda u: u.update(layout_digest="0"), "other channels"),
        (lambda u: u.update(columns=[[3, 99]]), "channels is 99"),
        (lambda u: u.update(columns=[[5, 3]]), "in order"),
        (lambda u: u.update(columns=[[3, 4]]), "absolute.npy"),
        (lambda u: u.update(shard_columns=[0, 0, 0, 7]), "shard_columns is 7"),
        (lambda u: u["kinds"][0].update(control_hz=0), "control_hz is 0"),
        (lambda u: u.update(kinds=[]), "is of kind 0"),
        (lambda u: u["kinds"][0].update(channels=[True]), "channels is True"),
        (lambda u: u["starts"].update(train=[1]), "starts"),
        (lambda u: u.pop("starts"), "it has no 'starts'"),
    ],
)
def test_a_source_that_lies(corpus: Path, edit: Callable[[dict[str, Any]], Any], message: str) -> None:
    relabel(corpus, lambda source: edit(source["units"][0]))
    with pytest.raises(ValueError, match=message):
        read_all(corpus)


def test_a_source_changed_without_the_manifest(corpus: Path) -> None:
    change(corpus / "panda/source.json", lambda source: source.update(held_out_tasks=[]))
    with pytest.raises(ValueError, match=r"source\.json has digest"):
        read_all(corpus)


def test_ends_that_point_outside(corpus: Path) -> None:
    path = corpus / UNIT / "ends.npy"
    ends = np.load(path)
    ends[3:] = 10**9
    np.save(path, ends)
    relabel(corpus, lambda source: source["units"][0]["digests"].update({"ends.npy": file_digest(path)}))
    with pytest.raises(ValueError, match="lies outside its shard"):
        read_all(corpus)


@pytest.mark.parametrize("header", ["(10**18, 10)", "(-1, 10)", "__import__('os').system('true')", "(" * 500])
def test_an_array_whose_header_lies(corpus: Path, header: str) -> None:
    """No memory is asked for, nothing is run."""
    path = corpus / UNIT / "00000" / "absolute.npy"
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {header}, }}".encode()
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(4000))
    with pytest.raises(ValueError, match=r"00000/absolute.npy.*expected float32"):
        read_all(corpus)


def test_anchors_that_are_not_there(corpus: Path) -> None:
    """An index that promises long episodes must not be searched for ever."""
    relabel(corpus, lambda source: source["units"][0]["starts"].update(train=[0] * 56 + [10]))
    path = corpus / UNIT / "table.npy"
    table = np.load(path)
    table["flags"] = 1
    np.save(path, table)
    with pytest.raises(ValueError, match="contradict each other"):
        PackedCorpus.open(corpus).draw(64, 4, torch.Generator().manual_seed(0))


def test_random_damage_is_seen_or_harmless(packed: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    files = sorted(path.relative_to(packed) for path in packed.rglob("*") if path.is_file())
    refused = 0
    for number in range(int(os.environ.get("XTOK_FUZZ", "20"))):
        corpus = Path(shutil.copytree(packed, tmp_path / str(number)))
        path = corpus / files[int(rng.integers(len(files)))]
        content = bytearray(path.read_bytes())
        at, kind = int(rng.integers(len(content))), int(rng.integers(4))
        if kind == 0:
            content = content[:at]
        elif kind == 1:
            content[at] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            content[at : at + 16] = rng.integers(256, size=16, dtype=np.uint8).tobytes()
        else:
            content[at:at] = bytes(64)
        path.write_bytes(content)
        try:
            read_all(corpus)
        except ValueError:
            refused += 1
        shutil.rmtree(corpus)
    assert refused > 0


def test_a_pickle_is_not_opened(corpus: Path) -> None:
    path = corpus / UNIT / "00000" / "absolute.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"absolute\.npy"):
        read_all(corpus)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "null", "[]", '{"format": 1}'])
def test_descriptions_that_are_none(corpus: Path, text: str) -> None:
    for name in ("pack.json", "panda/source.json"):
        path = corpus / name
        whole = path.read_bytes()
        path.write_text(text)
        with pytest.raises(ValueError, match=name.rsplit("/", 1)[-1]):
            read_all(corpus)
        path.write_bytes(whole)


def test_a_corpus_that_is_not_finished_or_is_none(corpus: Path, tmp_path: Path) -> None:
    (corpus / "pack.json").rename(corpus / "packing.json")
    for path in (corpus, corpus / "panda"):
        with pytest.raises(ValueError, match="is not finished; give its `xtok pack` command again"):
            read_all(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no packed corpus in"):
        open_sources(tmp_path / "empty")


def test_a_source_can_be_carried_away_by_itself(corpus: Path, tmp_path: Path) -> None:
    shutil.move(corpus / "panda", tmp_path / "panda")
    read_all(tmp_path / "panda")


def test_where_a_corpus_may_be_written(tmp_path: Path) -> None:
    data = recording(tmp_path / "panda")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("precious")
    with pytest.raises(ValueError, match=r"holds something else \(mine.txt"):
        pack([data], tmp_path / "other")
    assert (tmp_path / "other" / "mine.txt").read_text() == "precious"
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / ".packing.json.123.tmp").write_text("{")  # of a run killed in its first moment
    pack([data], tmp_path / "left", action_source="achieved")
    with pytest.raises(ValueError, match="begun with other units"):
        pack([data], tmp_path / "left", action_source="both")
    with pytest.raises(ValueError, match="two data sets are called 'panda'"):
        pack([data, recording(tmp_path / "b" / "panda")], tmp_path / "two")
    with pytest.raises(ValueError, match="workers is 0"):
        pack([data], tmp_path / "w", workers=0)


def test_data_that_changed_between_stop_and_resume(tmp_path: Path) -> None:
    data = recording(tmp_path / "panda")
    with SMALL:
        work = plan([data], tmp_path / "corpus")
        write_shard(work.missing[0])
        shutil.rmtree(data)
        recording(data, shift_m=0.1)
        with pytest.raises(ValueError, match=r"panda has changed since .* was begun .*put it back"):
            pack([data], tmp_path / "corpus")
