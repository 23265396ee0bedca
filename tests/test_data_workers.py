"""Data sets of every format go to worker processes of every start method."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from folders import CAMERA, STATE, write_v21, write_v30, write_video
from pack_kit import SMALL, recording
from reader_kit import rlds_episode, write_rlds, write_robotwin_classic, write_robotwin_v1
from test_data_formats import sawyer_states, write_demo, write_npz, write_stream
from test_data_rlds import MAPPING
from test_data_robomimic import write_robomimic
from xtok.actions.embodiments import Embodiment, _registry, register
from xtok.actions.layout import ARMS26, JOINTS
from xtok.actions.statistics_fit import fit_statistics
from xtok.codec.tokenizer import Tokenizer
from xtok.data import EpisodeDataset, PackedCorpus, iter_chunks, join, open_dataset
from xtok.data.packed.pack import pack

N = 12
URDF = (
    "<robot name='arm'><link name='root'/><link name='hand'/><joint name='slide' type='prismatic'><parent link='root'/>"
    "<child link='hand'/><axis xyz='1 0 0'/><limit lower='0' upper='9' effort='1' velocity='1'/></joint></robot>"
)


def _v21(root: Path) -> EpisodeDataset:
    write_v21(root, [{STATE: np.cumsum(np.ones((N, 4)), axis=0)}] * 3)
    write_video(root / f"videos/chunk-000/{CAMERA}/episode_000000.mp4", N)
    return open_dataset(root)


def _mapped(root: Path) -> EpisodeDataset:
    write_rlds(root, [rlds_episode(N, seed) for seed in range(2)])
    (root / "m.yaml").write_text(MAPPING)
    return open_dataset(root, mapping=root / "m.yaml")


def _kinematics(root: Path) -> EpisodeDataset:
    write_v21(root / "set", [{STATE: np.linspace(0, 1, N)[:, None].astype(np.float32)}])
    (root / "arm.urdf").write_text(URDF)
    (root / "m.yaml").write_text(
        "layout: arms26\nembodiment: my_slider\nkinematics:\n  urdf: arm.urdf\n"
        '  joints: {from: "observation.state[0:1]", unit: rad, names: [slide]}\n  frames: {right: hand}\n'
    )
    return open_dataset(root / "set", mapping=root / "m.yaml")


def _native(root: Path) -> EpisodeDataset:
    write_v21(root / "set", [{STATE: np.ones((N, 2), np.float32) * 50}], robot_type="odd_one")
    (root / "m.yaml").write_text('layout: joints\njoints:\n  - {from: "observation.state", unit: native}\n')
    return open_dataset(root / "set", mapping=root / "m.yaml")


def _poses(root: Path) -> EpisodeDataset:
    state = np.random.default_rng(1).uniform(0, 1, (N, 10)).astype(np.float32)
    state[:, 3:9] = [1, 0, 0, 0, 1, 0]
    return open_dataset(write_v30(root, [{STATE: state}], {STATE: list(ARMS26.channel_names[10:20])}))


def _packed(root: Path) -> EpisodeDataset:
    with SMALL:
        pack([recording(root / "set")], root / "corpus", statistics=False)
    return open_dataset(root / "corpus")


def _bad(root: Path) -> EpisodeDataset:
    write_v21(root, [{STATE: np.ones((N, 4)) * i} for i in range(6)])
    (root / "data/chunk-000/episode_000001.parquet").unlink()
    return open_dataset(root, skip_bad=True)


def _joined(root: Path) -> EpisodeDataset:
    return join(
        [_bad(root / "a"), open_dataset(write_v30(root / "b", [{STATE: np.ones((N, 4))}] * 2), embodiment="none:b")]
    )


OPENERS: dict[str, Callable[[Path], EpisodeDataset]] = {
    "LeRobot v2.1": _v21,
    "LeRobot poses": _poses,
    "mapping": _mapped,
    "kinematics": _kinematics,
    "native units": _native,
    "Arrow": lambda root: open_dataset(write_stream(root, np.random.default_rng(0).normal(0, 1, (30, 6)))),
    "npz": lambda root: open_dataset(_npz(root)),
    "robosuite": lambda root: open_dataset(write_demo(root, sawyer_states())),
    "robomimic": lambda root: open_dataset(write_robomimic(root)),
    "RoboTwin classic": lambda root: open_dataset(write_robotwin_classic(root)),
    "RoboTwin v1.0": lambda root: open_dataset(write_robotwin_v1(root)),
    "packed": _packed,
    "left out": _bad,
    "joined": _joined,
}


def _npz(root: Path) -> Path:
    write_npz(root, np.ones((9, 28)), np.ones((5, 28)))
    return root


@pytest.mark.parametrize("kind", OPENERS)
def test_a_pickled_set_is_the_same_set(tmp_path: Path, kind: str) -> None:
    dataset = OPENERS[kind](tmp_path)
    before = list(dataset)  # what reading has cached goes along or is left behind
    for copied in (pickle.loads(pickle.dumps(OPENERS[kind](tmp_path / "new"))), pickle.loads(pickle.dumps(dataset))):
        assert copied.episode_indices == dataset.episode_indices and copied.places == dataset.places
        for one, other in zip(before, copied, strict=True):
            np.testing.assert_array_equal(one.absolute_ND, other.absolute_ND)
            np.testing.assert_array_equal(one.timestamps_s, other.timestamps_s)
            assert (one.instruction, one.subtasks, one.embodiment) == (
                other.instruction,
                other.subtasks,
                other.embodiment,
            )
            again = pickle.loads(pickle.dumps(one))
            np.testing.assert_array_equal(again.absolute_ND, one.absolute_ND)
            for camera, view in one.videos.items():
                np.testing.assert_array_equal(other.videos[camera].frames([1]), view.frames([1]))
    assert len(pickle.dumps(dataset)) < 200_000, "tables, arrays or maps went along"


class Frames(torch.utils.data.Dataset):
    """What a user writes around a set."""

    def __init__(self, dataset: EpisodeDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, str, str]:
        episode = self.dataset[position]
        return torch.from_numpy(np.array(episode.absolute_ND)), episode.instruction, episode.robot.joint_unit


@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_workers_of_every_start_method_read_every_format(tmp_path: Path, start: str) -> None:
    sets = [OPENERS[kind](tmp_path / kind.replace(" ", "-")) for kind in OPENERS]
    every = torch.utils.data.ConcatDataset([Frames(each) for each in sets])
    loader = torch.utils.data.DataLoader(every, batch_size=None, num_workers=1, multiprocessing_context=start)
    expected = [(episode, episode.robot.joint_unit) for each in sets for episode in each]
    count = 0
    for (frames, instruction, unit), (episode, own_unit) in zip(loader, expected, strict=True):
        assert np.array_equal(frames.numpy(), episode.absolute_ND) and instruction == episode.instruction
        assert unit == own_unit
        count += 1
    assert count == len(every) > 30


ENCODE = """
import pickle, sys
from xtok.data import iter_chunks
dataset, tokenizer = pickle.load(open(sys.argv[1], "rb"))
print(tokenizer.encode(next(iter(iter_chunks(dataset, horizon=8)))).grid_BMQ.tolist())
"""

UNPICKLE = """
import pickle, sys
from xtok.actions.embodiments import embodiment_names
for path in sys.argv[1:]:
    dataset = pickle.load(open(path, "rb"))
    for episode in dataset:
        robot = episode.robot
        print(robot.name, robot.joint_unit, *robot.joint_names, dataset.joint_unit(robot.name))
assert "only_here" not in embodiment_names()
"""


def test_a_robot_that_only_this_process_registered_goes_along(tmp_path: Path) -> None:
    register(Embodiment("only_here", joint_names=("a", "b"), joint_unit="native"))
    try:
        write_v21(tmp_path / "set", [{STATE: np.ones((N, 2))}], {STATE: ["a", "b"]}, robot_type="only_here")
        with SMALL:
            pack([tmp_path / "set"], tmp_path / "corpus", statistics=False)
        one, packed = open_dataset(tmp_path / "set"), open_dataset(tmp_path / "corpus")
        sets = {"set": one, "packed": packed, "joined": join([one, packed])}
        for name, dataset in sets.items():
            (tmp_path / name).with_suffix(".pickle").write_bytes(pickle.dumps(dataset))
    finally:
        del _registry()["only_here"]
    pickles = [str((tmp_path / name).with_suffix(".pickle")) for name in sets]
    done = subprocess.run([sys.executable, "-c", UNPICKLE, *pickles], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["only_here native a b native"] * 4


def test_a_worker_codes_a_robot_that_only_its_parent_registered(tmp_path: Path) -> None:
    register(Embodiment("only_here", joint_names=("a", "b"), joint_unit="native"))
    try:
        motion = np.cumsum(np.random.default_rng(0).normal(0, 0.01, (40, 2)), axis=0)
        dataset = open_dataset(
            write_v21(tmp_path / "set", [{STATE: motion}], {STATE: ["a", "b"]}, robot_type="only_here")
        )
        episode = dataset[0]
        ranges = fit_statistics(JOINTS, "only_here", 10.0, episode.mask_D, [episode.absolute_ND])
        tokenizer = Tokenizer.from_pretrained("joints").with_ranges(ranges)
        (tmp_path / "both.pickle").write_bytes(pickle.dumps((dataset, tokenizer)))
        grid_BMQ = tokenizer.encode(next(iter(iter_chunks(dataset, horizon=8)))).grid_BMQ
    finally:
        del _registry()["only_here"]
    command = [sys.executable, "-c", ENCODE, str(tmp_path / "both.pickle")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert grid_BMQ is not None and done.stdout.strip() == str(grid_BMQ.tolist())


def test_a_packed_corpus_draws_the_same_in_another_process(tmp_path: Path) -> None:
    _packed(tmp_path)
    corpus = PackedCorpus.open(tmp_path / "corpus")
    copied = pickle.loads(pickle.dumps(corpus))
    one, other = (next(iter(each.batches(horizon=8, batch_size=16, seed=3))) for each in (corpus, copied))
    assert torch.equal(one.chunks.target_BTD, other.chunks.target_BTD)
