"""Which episodes a codec is trained on, and which chunks are cut from them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import synthetic
from xtok.actions.layout import ARMS26
from xtok.data import Episode, Segment, open_dataset, select
from xtok.data.writers.lerobot import EpisodeRecord, write_folder
from xtok.pretrain.corpus import Corpus

CHANNELS = [ARMS26.channel_names[i] for i in range(10, 20)]  # the right arm
FRAMES = 70


def recording(root: Path, held_out: object = None, achieved_and_commanded: bool = True) -> Path:
    """Ten episodes, Lift and Insert in turn; commands are the state, 1 cm off."""
    absolute_ND = synthetic.episodes(ARMS26, 1, FRAMES)[0].absolute_ND[:, 10:20].astype(np.float32)
    commanded_ND = absolute_ND.copy()
    commanded_ND[:, 0] += 0.01
    records = [
        EpisodeRecord(
            {"observation.state": absolute_ND, "action": commanded_ND if achieved_and_commanded else absolute_ND},
            "do it",
            (Segment(0, FRAMES, "do it"),),
            {},
            {"env_task": ("Lift", "Insert")[i % 2]},
        )
        for i in range(10)
    ]
    more: dict[str, object] = {} if held_out is None else {"held_out": held_out}
    if achieved_and_commanded:
        more["action_source"] = {"observation.state": "achieved", "action": "commanded"}
    names = dict.fromkeys(("observation.state", "action"), CHANNELS)
    write_folder(root, records, robot_type="sim_panda", fps=20.0, names=names, **more)
    return root


def test_a_task_that_the_set_holds_out_is_in_no_train_split(tmp_path: Path) -> None:
    marked = open_dataset(recording(tmp_path / "marked", {"robot": False, "tasks": ["Insert"]}))
    assert {episode.task for episode in select(marked, "train")} == {"Lift"}
    assert {episode.task for episode in select(marked, "all")} == {"Lift", "Insert"}
    assert {episode.task for episode in select(marked, "heldout")} == {"Lift", "Insert"}  # every fifth, as ever
    plain = open_dataset(recording(tmp_path / "plain"))
    assert {episode.task for episode in select(plain, "train")} == {"Lift", "Insert"}


def test_a_batch_of_cells_is_of_so_many_robots_and_tasks(tmp_path: Path) -> None:
    corpus = Corpus.open(ARMS26, [recording(tmp_path / "one")])
    (source,) = corpus.train
    task = dict(zip(source.episode_E, source.task_E, strict=True))
    assert set(task.values()) == {"Lift", "Insert"}
    generator, met = torch.Generator().manual_seed(0), set()
    for _ in range(10):
        drawn = corpus.draw(8, 9, generator, one_chunk_each=set(task), cells=1)
        assert len(drawn.chunks) == len(drawn.origins) == 9
        (one,) = {task[key] for key in drawn.origins.episode_B}
        met.add(one)
    assert met == {"Lift", "Insert"}
    both = [task[key] for key in corpus.draw(8, 9, generator, one_chunk_each=set(task), cells=5).origins.episode_B]
    assert sorted(both.count(name) for name in met) == [4, 5]
    known = {key for key in task if task[key] == "Lift"}  # no features of Insert: nothing to be told apart
    assert {task[key] for key in corpus.draw(8, 9, generator, one_chunk_each=known, cells=5).origins.episode_B} == {
        "Lift"
    }
    anything = corpus.draw(8, 40, generator, one_chunk_each=set(), cells=5)
    assert {task[key] for key in anything.origins.episode_B} == {"Lift", "Insert"}, "none with features: all are drawn"


def test_training_refuses_a_robot_that_the_set_holds_out(tmp_path: Path) -> None:
    folder = recording(tmp_path / "kept", {"robot": True, "tasks": []})
    with pytest.raises(ValueError, match="marked as held out"):
        Corpus.open(ARMS26, [folder])
    assert len(select(open_dataset(folder), "train")) == 8  # measuring it is allowed


@pytest.mark.parametrize("mark", [{"robot": "yes", "tasks": []}, {"tasks": []}, "Insert", {"robot": True, "tasks": 3}])
def test_a_malformed_mark_is_told(tmp_path: Path, mark: object) -> None:
    folder = recording(tmp_path / "set")
    path = folder / "meta/info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "held_out": mark}))
    with pytest.raises(ValueError, match="held_out"):
        open_dataset(folder)


def test_achieved_and_commanded_motion_where_a_set_has_both(tmp_path: Path) -> None:
    both, one = recording(tmp_path / "both"), recording(tmp_path / "one", achieved_and_commanded=False)

    def frames(folder: Path, *sources: str) -> int:
        corpus = Corpus.open(ARMS26, [folder], sources)
        return sum(source.frames for source in (*corpus.train, *corpus.validation))

    assert frames(both, "achieved", "commanded") == 2 * frames(both, "achieved") == 2 * 8 * FRAMES
    assert frames(one, "achieved", "commanded") == frames(one, "achieved")
    achieved, commanded = (
        np.concatenate(list(Corpus.open(ARMS26, [both], (s,)).train[0].motion)) for s in ("achieved", "commanded")
    )
    np.testing.assert_allclose(commanded[:, 10] - achieved[:, 10], 0.01, rtol=1e-4)


def test_an_episode_shorter_than_the_longest_chunk_is_held_at_its_end(tmp_path: Path) -> None:
    """So that the fastest tasks are in the priors and books of all lengths; what is held is no moment that was seen."""
    short = [replace(e, absolute_ND=e.absolute_ND[:30], timestamps_s=e.timestamps_s[:30]) for e in one_arm(5)]
    corpus = Corpus(ARMS26, short)
    generator = torch.Generator().manual_seed(0)
    drawn = corpus.draw(64, 200, generator, augment=False)
    last_B = drawn.origins.last_B
    assert (last_B == 29).all()
    assert (drawn.origins.anchor_B <= 29 - 8).all()  # eight frames that were recorded, at least
    target, anchor_B = drawn.chunks.target_BTD, drawn.origins.anchor_B
    for row in range(0, 200, 17):
        recorded = 29 - int(anchor_B[row])
        assert (target[row, recorded:] == target[row, recorded - 1]).all()
        assert not (target[row, : recorded - 1] == target[row, recorded - 1]).all()
    assert len(corpus.windows(synthetic.ONE_ARM, 16, generator)) == 16


def test_a_long_episode_is_never_held() -> None:
    drawn = Corpus(ARMS26, one_arm(5)).draw(64, 100, torch.Generator().manual_seed(0), augment=False)
    assert (drawn.origins.anchor_B + 64 <= drawn.origins.last_B).all()


def test_robots_get_the_shares_that_a_recipe_gives_them() -> None:
    episodes = synthetic.episodes(ARMS26, 6)
    sampling_weights = {synthetic.ONE_ARM: 0.9, synthetic.TWO_ARMS: 0.1}
    drawn = Corpus(ARMS26, episodes, sampling_weights).sample(16, 2000, torch.Generator().manual_seed(0))
    share = sum(name == synthetic.ONE_ARM for name in drawn.context.embodiment) / 2000
    assert 0.87 < share < 0.93
    with pytest.raises(ValueError, match="no share to"):
        Corpus(ARMS26, episodes, {synthetic.ONE_ARM: 1.0})


def one_arm(count: int) -> list[Episode]:
    return synthetic.episodes(ARMS26, count)[:count]
