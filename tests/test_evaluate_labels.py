"""Labels of slots: the sub-task of the moment, its words, what the gripper does; sets joined keep their own splits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import evaluate_kit as kit
from folders import STATE, write_v30
from xtok.actions.layout import ARMS26
from xtok.data import Segment, iter_chunks, join, open_dataset, select
from xtok.evaluate.labels import CLOSES, OPENS, STEADY, colour, in_short, label_chunks, thing, verb


def episode(frames: int = 24, **changes: object):
    still = replace(kit.episode(ARMS26, frames, 0), **changes)
    opening = np.ones(frames, dtype=np.float32)
    opening[10:18] = 0.2  # closes at frame 10, opens at 18
    absolute_ND = still.absolute_ND.copy()
    absolute_ND[:, ARMS26.slices["right_gripper"].start] = opening
    return replace(still, absolute_ND=absolute_ND)


def test_words_of_a_line() -> None:
    line = "place the first red cube on the blue block"
    assert (verb(line), colour(line), thing(line)) == ("place", "red", "cube")
    assert in_short(line) == "place the cube on the block"
    assert (verb(""), colour("lift it"), thing("lift it")) == ("", "", "")


def test_labels_follow_the_chunks_that_iter_chunks_cuts() -> None:
    segments = (Segment(0, 9, "reach for the red cube"), Segment(9, 24, "grasp the red cube"))
    one = episode(subtasks=segments, task="Lift", instruction="lift the red cube")
    two = replace(episode(frames=30, instruction="wave at the door"), index=7)
    short = replace(episode(frames=5), index=8)
    labels = label_chunks([one, short, two], horizon=10, stride=3)
    (batch,) = iter_chunks([one, two], 10, 3)
    assert len(labels) == len(batch)
    for n in range(len(labels)):  # the first target frame of each chunk is the frame that the labels say
        source = one if labels.episode_N[n] == "waves/0" else two
        np.testing.assert_array_equal(batch.target_BTD[n, 0], source.absolute_ND[labels.start_N[n]])
    # Slots of chunk 0 look at frames 3, 7, and 10 (the last of ten): start 1, third frame of each slot.
    assert labels.verb_NM[0].tolist() == ["reach", "reach", "grasp"]
    assert labels.subtask_NM[0].tolist() == ["reach for the cube", "reach for the cube", "grasp the cube"]
    assert labels.task_N[0] == "Lift" and labels.task_N[-1] == "wave at the door"
    assert set(labels.verb_NM[-1]) == {""} and set(labels.object_NM[-1]) == {
        "door"
    }  # no sub-task: only the instruction
    assert set(labels.colour_NM[0]) == {"red"} and labels.last_N[0] == 23
    assert labels.slot("arm").shape == labels.slot("verb").shape


def test_gripper_events_are_seen_in_the_slot_where_they_happen() -> None:
    labels = label_chunks([episode()], horizon=20, stride=1)
    # The chunk from frame 1: slots of frames 1-4, 5-8, 9-12, 13-16, 17-20.
    assert labels.gripper_NM[0].tolist() == [STEADY, STEADY, CLOSES, STEADY, OPENS]
    # From frame 2: 2-5, 6-9, 10-13: the change is between the frame before the slot and the slot.
    assert labels.gripper_NM[1].tolist()[2] == CLOSES
    handless = replace(episode(), mask_D=np.arange(26) == ARMS26.slices["right_position"].start)
    assert set(label_chunks([handless], 20).gripper_NM.ravel()) == {""}
    with pytest.raises(ValueError, match="longer than 40"):
        label_chunks([episode()], 40)


def test_joined_sets_keep_their_own_held_out_episodes() -> None:
    one, two = kit.dataset(ARMS26, [20] * 7), replace(kit.dataset(ARMS26, [30] * 6), name="more")
    both = join([one, two])
    assert len(both) == 13 and both.name == "waves+more" and len(both[7]) == 30 and len(both[-1]) == 30
    assert [len(e) for e in select(both, "heldout")] == [20, 30]  # the fifth of each, not every fifth of all
    assert len(select(both, "train")) == 11 and join([one]) is one
    assert join([one] * 5).name == "+".join(["waves"] * 5) and join([one] * 7).name == "waves+waves+waves+waves+3 more"
    with pytest.raises(ValueError, match="no data set"):
        join([])


def test_a_set_may_name_its_tasks(tmp_path: Path) -> None:
    states = [{STATE: np.zeros((12, 3), np.float32)} for _ in range(2)]
    folder = write_v30(tmp_path / "set", states)
    assert [episode.task for episode in open_dataset(folder)] == ["", ""]
    meta = folder / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(meta)
    pq.write_table(table.append_column("env_task", pa.array(["Lift", None])), meta)
    assert [episode.task for episode in open_dataset(folder)] == ["Lift", ""]
