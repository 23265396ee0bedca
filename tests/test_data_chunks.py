"""Chunks are pose[t : t + T] with anchor pose[t - 1], all of them, in order; splits go by episode.

# N frames, T frames of a chunk, D channels
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xtok.actions.layout import ARMS26, JOINTS, Layout
from xtok.actions.types import concatenate
from xtok.data import Episode, EpisodeDataset, count_chunks, iter_chunks, select, split_indices


def episode(
    length: int, index: int = 0, layout: Layout = JOINTS, embodiment: str = "none", hz: float = 10.0
) -> Episode:
    absolute_ND = np.zeros((length, layout.width), dtype=np.float32)
    absolute_ND[:, 0] = 1000 * index + np.arange(length)  # so that a value says which frame it is
    mask_D = np.zeros(layout.width, dtype=bool)
    mask_D[: index + 1] = True
    return Episode(absolute_ND, layout, mask_D, embodiment, hz, "", "made up", index, np.arange(length) / hz)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(9, 40), min_size=1, max_size=5),
    horizon=st.just(8),
    stride=st.integers(1, 12),
    batch_size=st.integers(1, 50),
)
def test_every_chunk_once_in_order_whatever_the_batch(
    lengths: list[int], horizon: int, stride: int, batch_size: int
) -> None:
    episodes = [
        episode(length, index, embodiment=f"none:{index}", hz=10.0 + index) for index, length in enumerate(lengths)
    ]
    batches = list(iter_chunks(episodes, horizon, stride, batch_size))
    everything = concatenate(batches)
    expected = [(i, t) for i, length in enumerate(lengths) for t in range(1, length - horizon + 1, stride)]
    assert len(everything) == count_chunks(episodes, horizon, stride) == len(expected)
    assert all(len(batch) == batch_size for batch in batches[:-1]) and 0 < len(batches[-1]) <= batch_size
    anchors = everything.context.anchor_BD
    assert anchors is not None
    for row, (i, t) in enumerate(expected):
        assert anchors[row, 0] == 1000 * i + t - 1
        assert everything.target_BTD[row, :, 0].tolist() == [1000 * i + t + k for k in range(horizon)]
        assert everything.context.embodiment[row] == f"none:{i}"
        assert everything.context.control_hz_B[row] == 10.0 + i
        assert everything.context.mask_BD[row].sum() == i + 1


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(9, 40), min_size=1, max_size=6), stride=st.integers(1, 70))
def test_a_stride_that_runs_on_counts_through_all_episodes(lengths: list[int], stride: int) -> None:
    episodes = [episode(length, index) for index, length in enumerate(lengths)]
    anchors = concatenate(list(iter_chunks(episodes, 8, stride, 7, runs_on=True))).context.anchor_BD
    assert anchors is not None
    every = [1000 * i + t for i, length in enumerate(lengths) for t in range(length - 8)]
    assert anchors[:, 0].tolist() == every[::stride]


def test_dtypes_and_that_episodes_are_copied() -> None:
    one = episode(20)
    (batch,) = iter_chunks([one], 8)
    assert batch.target_BTD.dtype == torch.float32 and batch.context.mask_BD.dtype == torch.bool
    assert batch.context.control_hz_B.dtype == torch.float32 and batch.context.horizon == 8
    batch.target_BTD[:] = -1
    assert one.absolute_ND[5, 0] == 5
    assert batch.context.anchor_BD is not None and batch.context.anchor_BD[1, 0] == 1  # no view of the targets either


def test_short_episodes_raise_or_are_skipped_with_a_count() -> None:
    episodes = [episode(8, 3), episode(9, 4)]
    with pytest.raises(ValueError, match=r"1 of 2 episodes are too short.*'made up', episode 3 has 8 frames, needs 9"):
        iter_chunks(episodes, 8)
    with pytest.warns(UserWarning, match="skipped 1 of 2 episodes"):
        batches = list(iter_chunks(episodes, 8, short="skip"))
    assert [len(batch) for batch in batches] == [1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert count_chunks(episodes[1:], 8, short="skip") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"horizon": 7}, "horizon is 7 frames; expected 8 to 64"),
        ({"horizon": 65}, "expected 8 to 64"),
        ({"horizon": 8, "stride": 0}, "stride is 0"),
        ({"horizon": 8, "batch_size": 0}, "batch_size is 0"),
        ({"horizon": 8, "short": "ignore"}, "short is 'ignore'"),
    ],
)
def test_arguments_out_of_range(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        iter_chunks([episode(70)], **arguments)


def test_layouts_do_not_mix_and_nothing_is_not_a_data_set() -> None:
    with pytest.raises(ValueError, match=r"layouts \['arms26', 'joints'\]"):
        iter_chunks([episode(20), episode(20, layout=ARMS26)], 8)
    with pytest.raises(ValueError, match="no episodes"):
        iter_chunks([], 8)


@given(n=st.integers(0, 200))
def test_splits_partition_by_every_fifth(n: int) -> None:
    heldout, train = split_indices(n, "heldout"), split_indices(n, "train")
    assert heldout == list(range(4, n, 5))
    assert sorted(heldout + train) == split_indices(n, "all") == list(range(n))


def test_select_reads_the_split_and_refuses_an_empty_one() -> None:
    def dataset(count: int) -> EpisodeDataset:
        return EpisodeDataset("set", JOINTS, ("none",), 10.0, tuple(range(count)), lambda i: episode(9, i))

    assert [one.index for one in select(dataset(11), "heldout")] == [4, 9]
    with pytest.raises(ValueError, match=r"split 'heldout' of dataset 'set' \(4 episodes\) is empty"):
        select(dataset(4), "heldout")
    with pytest.raises(ValueError, match="unknown split 'test'"):
        select(dataset(11), "test")  # type: ignore[arg-type]


def test_one_embodiment_or_a_clear_refusal() -> None:
    several = EpisodeDataset("set", JOINTS, ("a", "b"), 10.0, (), lambda i: episode(9))
    with pytest.raises(ValueError, match=r"holds \['a', 'b'\]"):
        _ = several.embodiment


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask_D": np.ones(3, dtype=bool)}, r"mask \(3,\)"),
        ({"timestamps_s": np.zeros(4)}, r"timestamps \(4,\)"),
        ({"control_hz": 0.0}, "control rate is 0.0"),
        ({"absolute_ND": np.full((9, 64), np.nan, dtype=np.float32)}, "'joint.0' is not finite in row 0"),
    ],
)
def test_impossible_episodes(change: dict, message: str) -> None:
    from dataclasses import replace

    with pytest.raises(ValueError, match=message):
        replace(episode(9), **change)
