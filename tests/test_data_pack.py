"""A packed corpus is what the folders were: episodes, splits, statistics, training chunks; whatever packed it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

from folders import STATE, write_v21
from pack_kit import EPISODES, FRAMES, SMALL, contents, recording
from xtok.actions.layout import ARMS26
from xtok.cli.main import EXIT_USER_ERROR, main
from xtok.codec.gaussian.robot_statistics import RobotStatistics, load_statistics
from xtok.data import EpisodeDataset, open_dataset, open_source, select
from xtok.data.episode import Episode
from xtok.data.origins import words_of
from xtok.data.packed.episodes import PackedEpisode
from xtok.data.packed.pack import finish, gather, index_source, pack, plan, write_shard
from xtok.data.packed.sample import PackedCorpus
from xtok.data.packed.sources import members, open_sources
from xtok.data.packed.statistics import count_part
from xtok.data.splits import split_positions
from xtok.pretrain import corpus as corpora
from xtok.pretrain.corpus import Corpus, fit_statistics_of


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("sets")
    return [recording(root / "panda"), recording(root / "ur5e", "sim_ur5e", 0.2), recording(root / "more", shift_m=0.1)]


@pytest.fixture(scope="module")
def corpus(folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "corpus"
    with SMALL:
        pack(folders, out)
    return out


def assert_same(ours: Episode, theirs: Episode) -> None:
    for field in fields(Episode):
        mine, other = getattr(ours, field.name), getattr(theirs, field.name)
        if isinstance(other, np.ndarray):
            np.testing.assert_array_equal(mine, other)
            assert mine.dtype == other.dtype, field.name
        elif field.name != "videos":
            assert mine == other, field.name
    assert len(ours) == len(theirs)


def assert_same_set(ours: EpisodeDataset, theirs: EpisodeDataset) -> None:
    assert len(ours) == len(theirs) > 0
    for name in ("name", "layout", "embodiments", "control_hz", "episode_indices", "held_out_tasks", "held_out_robot"):
        assert getattr(ours, name) == getattr(theirs, name), name
    for mine, other in zip(ours, theirs, strict=True):
        assert_same(mine, other)


def test_every_episode_comes_back_as_it_was(corpus: Path, folders: list[Path]) -> None:
    for folder in folders:
        for asked in ("achieved", "commanded"):
            theirs = open_dataset(folder, action_source=asked)
            ours = open_dataset(corpus / folder.name, action_source=asked)
            assert_same_set(ours, theirs)
            assert ours.action_sources == theirs.action_sources == ("achieved", "commanded")
        for split in ("train", "heldout", "all"):
            keys = [
                [(e.dataset, e.index) for e in select(open_dataset(at), split)] for at in (folder, corpus / folder.name)
            ]
            assert keys[0] == keys[1]


def test_the_whole_corpus_is_its_sets_joined(corpus: Path, folders: list[Path]) -> None:
    joined = open_dataset(corpus)
    assert [part.name for part in joined.parts] == [folder.name for folder in folders]
    assert members(corpus) == [corpus / folder.name for folder in folders]
    held_out = split_positions(joined, "heldout")
    assert [(joined[i].dataset, joined[i].index) for i in held_out] == [
        (folder.name, index) for folder in folders for index in (4, 9)
    ]
    assert [(e.dataset, e.index) for e in select(joined, "heldout")] == [
        (joined[i].dataset, joined[i].index) for i in held_out
    ]


def test_a_changed_copy_is_a_plain_episode(corpus: Path) -> None:
    stored = open_dataset(corpus / "panda")[1]
    assert isinstance(stored, PackedEpisode)
    copied = replace(stored, instruction="else")
    assert type(copied) is Episode and copied.instruction == "else"
    np.testing.assert_array_equal(copied.absolute_ND, stored.absolute_ND)
    with pytest.raises(AttributeError):
        stored.nothing  # noqa: B018


@pytest.mark.parametrize("sources", [("achieved",), ("achieved", "commanded")])
@pytest.mark.parametrize("in_memory", [True, False])
def test_training_sees_the_same_chunks(
    corpus: Path, folders: list[Path], sources: tuple, in_memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = Corpus.open(ARMS26, folders, sources)
    if not in_memory:
        monkeypatch.setattr("xtok.pretrain.motion.IN_MEMORY_BYTES", 0)
    with patch.object(corpora, "fit_statistics", side_effect=AssertionError("they were gathered when it was packed")):
        ours = Corpus.open(ARMS26, [corpus], sources)
    assert ours.digest == theirs.digest
    assert {name: s.digest for name, s in ours.statistics.items()} == {
        name: s.digest for name, s in theirs.statistics.items()
    }
    for horizon, part in ((8, "train"), (33, "train"), (64, "validation")):
        drawn = [c.draw(horizon, 40, torch.Generator().manual_seed(1), part=part) for c in (ours, theirs)]
        assert torch.equal(drawn[0].chunks.target_BTD, drawn[1].chunks.target_BTD)
        assert drawn[0].origins.episode_B == drawn[1].origins.episode_B
        words = [d.origins.words_at(d.origins.anchor_B[:, None].float()) for d in drawn]
        assert torch.equal(words[0], words[1])


def test_statistics_of_a_part_are_fitted_anew(corpus: Path, folders: list[Path]) -> None:
    """Those in the corpus are of sim_panda in two sets; of one set alone they would be wrong."""
    ours, theirs = (select(open_dataset(at), "train") for at in (corpus / "panda", folders[0]))
    assert fit_statistics_of(ARMS26, ours).digest == fit_statistics_of(ARMS26, theirs).digest
    assert fit_statistics_of(ARMS26, ours).digest != Corpus.open(ARMS26, [corpus]).statistics["sim_panda"].digest


def test_order_and_stops_change_no_byte(corpus: Path, folders: list[Path], tmp_path: Path) -> None:
    with SMALL:
        work = plan(folders, tmp_path / "again")
        assert len(work.missing) == sum(len(unit) for unit in work.tasks) == 6 * 4
        for task in work.missing[1::2]:
            write_shard(task)
        work = plan(folders, tmp_path / "again")
    for task in reversed(work.missing):
        write_shard(task)
    with pytest.raises(ValueError, match="is not finished"):
        open_dataset(tmp_path / "again")
    sources = [index_source(work, i) for i in range(3)]
    finish(work, sources, gather(work.out, sources, work.folders, partial(map, count_part)))
    assert contents(tmp_path / "again") == contents(corpus)
    before = contents(corpus)
    with SMALL:
        assert pack(folders, corpus).digest == json.loads(before["pack.json"])["digest"]  # nothing left to do
    assert contents(corpus) == before


@pytest.mark.slow
def test_the_number_of_workers_changes_no_byte(corpus: Path, folders: list[Path], tmp_path: Path) -> None:
    with SMALL:
        pack(folders, tmp_path / "two", workers=2)
    assert contents(tmp_path / "two") == contents(corpus)


def test_counting_goes_on_after_a_stop(folders: list[Path], corpus: Path, tmp_path: Path) -> None:
    with SMALL:
        work = plan(folders, tmp_path / "counted")
    for task in work.missing:
        write_shard(task)
    sources = [index_source(work, i) for i in range(3)]
    seen = 0

    def stopped(counts):  # type: ignore[no-untyped-def]
        nonlocal seen
        for one in counts:
            seen += 1
            if seen == 9:
                raise KeyboardInterrupt
            yield count_part(one)

    with patch("xtok.data.packed.statistics.KEEP_EVERY", 2):
        with pytest.raises(KeyboardInterrupt):
            gather(work.out, sources, work.folders, stopped)
        before = seen
        finish(work, sources, gather(work.out, sources, work.folders, partial(map, count_part)))
    assert before == 9
    assert contents(work.out) == contents(corpus)


def test_a_corpus_can_be_packed_again(corpus: Path, tmp_path: Path) -> None:
    with SMALL:
        again = pack([corpus / "ur5e", corpus / "panda", corpus / "more"], tmp_path / "again")
        same = pack([corpus], tmp_path / "same")
    assert same.digest == json.loads((corpus / "pack.json").read_text())["digest"] != again.digest
    assert sorted(again.source_digests) == sorted(same.source_digests)


def test_sets_of_several_layouts(corpus: Path, tmp_path: Path) -> None:
    state = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    arm = write_v21(tmp_path / "my arm", [{STATE: state}] * 6, robot_type="odd_arm")
    pack([corpus / "panda", arm], tmp_path / "two", action_source="achieved")
    with pytest.raises(ValueError, match="--layout"):
        open_dataset(tmp_path / "two")
    assert open_dataset(tmp_path / "two", layout="joints").name == "my arm"
    assert_same_set(open_dataset(tmp_path / "two" / "my_arm"), open_dataset(arm))
    assert members(tmp_path / "two", "arms26") == [tmp_path / "two" / "panda"]
    assert open_dataset(tmp_path / "two", layout="arms26").action_sources == ("achieved",)
    with pytest.raises(ValueError, match="was packed as arms26 achieved; asked for is arms26 commanded"):
        open_dataset(tmp_path / "two" / "panda", action_source="commanded")
    with pytest.raises(ValueError, match="joints"):
        members(corpus, "joints")


def test_a_mapping_decides_and_native_units_stay(tmp_path: Path) -> None:
    state = np.random.default_rng(0).uniform(-90, 90, size=(40, 3)).astype(np.float32)
    folder = write_v21(tmp_path / "arm", [{STATE: state}] * 5, robot_type="odd")
    mapping = tmp_path / "arm.yaml"
    mapping.write_text(
        f"data: arm\nlayout: joints\nembodiment: 'none:crank'\njoints:\n  - {{from: '{STATE}[0:2]', unit: native}}\n"
    )
    pack([mapping], tmp_path / "packed")
    assert_same_set(open_dataset(tmp_path / "packed"), open_dataset(mapping))
    about = open_sources(tmp_path / "packed")[0].about
    assert about.joint_units == {"none:crank": "native"}
    with pytest.raises(ValueError, match="no features to map"):
        open_dataset(tmp_path / "packed", mapping=mapping)
    mapping.write_text(mapping.read_text().replace("[0:2]", "[0:1]"))
    with pytest.raises(ValueError, match="has changed since"):
        pack([mapping], tmp_path / "packed")
    assert folder.is_dir()


def test_a_robot_that_is_held_out_is_left_out_of_training(corpus: Path, tmp_path: Path) -> None:
    kept = recording(tmp_path / "kept", "sim_kinova3", robot_held_out=True)
    pack([corpus / "panda", kept], tmp_path / "packed", action_source="achieved")
    with pytest.warns(UserWarning, match="not trained on kept"):
        trained = Corpus.open(ARMS26, [tmp_path / "packed"])
    assert set(trained.statistics) == {"sim_panda"}
    with pytest.raises(ValueError, match="marked as held out"):
        Corpus.open(ARMS26, [tmp_path / "packed" / "kept"])
    assert open_dataset(tmp_path / "packed").embodiments == ("sim_panda", "sim_kinova3")
    sampler = PackedCorpus.open(tmp_path / "packed")
    assert set(sampler.draw(16, 200, torch.Generator().manual_seed(0)).chunks.context.embodiment) == {"sim_panda"}
    pack([kept], tmp_path / "alone")
    with pytest.raises(ValueError, match="every robot"):
        Corpus.open(ARMS26, [tmp_path / "alone"])


def test_every_anchor_is_as_likely_as_any_other(corpus: Path) -> None:
    sampler = PackedCorpus.open(corpus)
    horizon, generator = 64, torch.Generator().manual_seed(0)
    lengths = [[FRAMES[i % 3] for i in range(EPISODES) if i % 5 != 4 and i % 2 == 0] for _ in range(3)]
    anchors = sum(max(0, n - horizon) for each in lengths for n in each)
    assert sampler.starts(horizon) == anchors
    seen: Counter[tuple[int, int, int]] = Counter()
    drawn = 200 * anchors
    for _ in range(4):
        found = sampler.draw(horizon, drawn // 4, generator)
        seen.update(zip(found.unit_B.tolist(), found.episode_B.tolist(), found.anchor_B.tolist(), strict=True))
    assert len(seen) == anchors
    assert max(abs(count - 200) for count in seen.values()) < 6 * np.sqrt(200)


def test_sampled_chunks_are_frames_of_their_episodes(corpus: Path, folders: list[Path]) -> None:
    sampler = PackedCorpus.open(corpus, action_sources=("achieved", "commanded"))
    sets = [open_dataset(folder, action_source=asked) for folder in folders for asked in ("achieved", "commanded")]
    found = sampler.draw(20, 60, torch.Generator().manual_seed(2), "heldout")
    for b in range(60):
        episode = sets[found.unit_B[b]][int(found.episode_B[b])]
        assert found.episode_B[b] % 5 == 4
        rows = episode.absolute_ND[found.anchor_B[b] : found.anchor_B[b] + 21]
        np.testing.assert_array_equal(found.chunks.context.anchor_BD[b], rows[0])
        np.testing.assert_array_equal(found.chunks.target_BTD[b], rows[1:])
        np.testing.assert_array_equal(found.chunks.context.mask_BD[b], episode.mask_D)
        assert found.chunks.context.embodiment[b] == episode.embodiment
    with pytest.raises(ValueError, match="horizon is 65"):
        sampler.draw(65, 1, torch.Generator())


def test_origins_say_where_chunks_of_a_corpus_were_cut(corpus: Path) -> None:
    sampler = PackedCorpus.open(corpus)
    found = sampler.draw(16, 12, torch.Generator().manual_seed(5))
    origins = found.origins
    assert torch.equal(sampler.sample(16, 12, torch.Generator().manual_seed(5)).target_BTD, found.chunks.target_BTD)
    frames_BM = (origins.anchor_B + 1)[:, None].float()
    for b, (name, index) in enumerate(origins.episode_B):
        episode = next(each for each in open_dataset(corpus / name) if each.index == index)
        assert origins.last_B[b] == len(episode) - 1
        at = int(origins.anchor_B[b]) + 1
        np.testing.assert_array_equal(found.chunks.target_BTD[b, 0], episode.absolute_ND[at])
        assert origins.words_at(frames_BM)[b, 0] == words_of(episode).at(frames_BM[b])[0]


def test_a_stream_goes_on_at_its_number_and_is_shared_out(corpus: Path) -> None:
    sampler = PackedCorpus.open(corpus)

    def first(count: int, **how: int) -> list[torch.Tensor]:
        stream = sampler.batches(16, 8, **how)
        return [next(stream).chunks.target_BTD for _ in range(count)]

    every = first(6, seed=3)
    assert all(map(torch.equal, first(3, seed=3, first=3), every[3:]))
    assert all(map(torch.equal, first(3, seed=3, first=1, step=2), every[1::2]))
    assert not torch.equal(first(1, seed=4)[0], every[0]) and not torch.equal(every[0], every[1])


def test_other_commands_say_what_a_corpus_is(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(corpus)]) == 0
    said = capsys.readouterr().out
    assert "ur5e: sim_ur5e, 20 Hz, task Insert held out" in said and "every file is as it was packed" in said
    assert main(["stats", str(corpus), "-o", str(tmp_path / "s.json")]) == 0
    fitted = load_statistics(tmp_path / "s.sim_ur5e.json")
    assert isinstance(fitted, RobotStatistics)
    assert fitted.statistics.digest == Corpus.open(ARMS26, [corpus]).statistics["sim_ur5e"].digest
    with pytest.raises(ValueError, match="no features to map"):
        open_source(corpus)
    assert main(["stats", str(corpus), "--embodiment", "panda"]) == EXIT_USER_ERROR
    assert "robots are decided" in capsys.readouterr().err
