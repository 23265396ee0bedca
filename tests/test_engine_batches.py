"""Batches are of their step alone, whoever draws them, in whatever share, ahead or not; workers that meet signals."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

import semantics_kit as kit
import synthetic
from host_task import HostTask
from pack_kit import SMALL, recording
from ranks_kit import metrics
from xtok.actions.layout import ARMS26
from xtok.data.packed.pack import pack
from xtok.engine import BatchSource, Engine, Launch, Settings
from xtok.engine.batches import Batches
from xtok.engine.checkpoint import load_checkpoint
from xtok.engine.parcel import parcel
from xtok.engine.stall import Stall
from xtok.pretrain.batches import CodecBatches
from xtok.pretrain.corpus import Corpus
from xtok.pretrain.motion import OnDisk
from xtok.pretrain.recipe import Recipe
from xtok.pretrain.semantic import known_episodes
from xtok.recipes import tiny

STEPS = range(3, 9)
SETTINGS = Settings(6, log_every=2, checkpoint_every=3)


def recipe() -> Recipe:
    """All that a batch can have: both forms of masking, a teacher, groups of hard negatives."""
    heads = {"trainable": "all", "grad_scope": "latents", "input_dims": "latents"}
    base = kit.recipe(forms="both", start=0.0, codec=tiny().codec, **heads)
    return base.varied(data={"batch_size": 12}, alignment={"hard_negative_groups": 2})


def with_teacher() -> CodecBatches:
    corpus, store = kit.corpus(), kit.store()
    return CodecBatches(recipe(), corpus, store, known_episodes(corpus, store))


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> CodecBatches:
    """Motion that is read where it lies."""
    root = tmp_path_factory.mktemp("packed")
    with SMALL:
        pack([recording(root / "set")], root / "corpus")
    with patch("xtok.pretrain.motion.IN_MEMORY_BYTES", 0):
        corpus = Corpus.open(ARMS26, [root / "corpus"])
    assert all(isinstance(source.motion, OnDisk) for source in corpus.train)
    return CodecBatches(tiny().varied(data={"batch_size": 12}), corpus, None, frozenset())


def tensors(value: Any) -> list[Tensor]:
    """All of a batch, in one order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for each in value for tensor in tensors(each)]
    if is_dataclass(value):
        return [tensor for field in fields(value) for tensor in tensors(getattr(value, field.name))]
    return []


def assert_same(one: Sequence[Any], other: Sequence[Any]) -> None:
    a, b = tensors(list(one)), tensors(list(other))
    assert len(a) == len(b) > 10
    for x, y in zip(a, b, strict=True):
        assert x.dtype == y.dtype and torch.equal(x, y)


@pytest.fixture(params=["with a teacher", "packed"])
def source(request: pytest.FixtureRequest, packed: CodecBatches) -> CodecBatches:
    return packed if request.param == "packed" else with_teacher()


def test_parts_are_slices_of_the_batch(source: CodecBatches) -> None:
    for step in STEPS:
        whole = source.part(step, 0, 1)
        for count in (2, 3, 12):
            parts = [source.part(step, index, count) for index in range(count)]
            size = 12 // count
            for index, part in enumerate(parts):
                rows = slice(size * index, size * (index + 1))
                assert len(part.drawn.chunks) == size
                assert_same([part.drawn], [whole.drawn[rows]])
                assert torch.equal(part.delta_BTD, whole.delta_BTD[rows])
                assert torch.equal(part.withheld_2B, whole.withheld_2B[:, rows])
                assert part.levels == whole.levels
                for name in ("masking", "hidden_BTK"):
                    mine, all_rows = getattr(part, name), getattr(whole, name)
                    assert (mine is None) is (all_rows is None)
                    assert all_rows is None or (
                        tensors(mine)
                        and all(torch.equal(x, y) for x, y in zip(tensors(mine), tensors(all_rows[rows]), strict=True))
                    )
                assert (part.seen is None) is (whole.seen is None)
                for x, y in zip(tensors(part.seen), tensors(whole.seen), strict=True):
                    assert torch.equal(x, y[rows])
                assert sorted(row for group in part.groups.values() for row in group) == list(range(size))


def test_a_batch_hangs_on_seed_and_step_alone(source: CodecBatches) -> None:
    batches = {step: source.part(step, 0, 1) for step in STEPS}
    for step in reversed(STEPS):
        torch.manual_seed(step)
        assert_same([source.part(step, 0, 1)], [batches[step]])
    other = replace(source, recipe=replace(source.recipe, seed=1)).part(3, 0, 1)
    anchors = [batch.drawn.origins.anchor_B.tolist() for batch in (*batches.values(), other)]
    assert len({tuple(each) for each in anchors}) == len(anchors), "no two alike"


@pytest.mark.parametrize("workers", [1, 2])
def test_order_and_bytes_hang_on_no_number_of_workers(workers: int, source: CodecBatches) -> None:
    loader = Batches(source, STEPS, (2, 3), 4, workers, pin=False)
    try:
        for step in STEPS:
            found = next(loader)
            assert_same(found, [source.part(step, 2, 4), source.part(step, 3, 4)])
            assert found[0].drawn.origins.episode_B == source.part(step, 2, 4).drawn.origins.episode_B
        with pytest.raises(StopIteration):
            next(loader)
    finally:
        loader.close()
    assert multiprocessing.active_children() == []


def test_a_source_goes_to_processes_that_are_not_forked(source: CodecBatches) -> None:
    dumped = pickle.dumps(source)
    assert_same([pickle.loads(dumped).part(5, 0, 1)], [source.part(5, 0, 1)])


def test_a_packed_corpus_is_not_copied_for_a_worker(packed: CodecBatches) -> None:
    before = len(pickle.dumps(packed))
    packed.part(0, 0, 1)  # maps files
    frames = sum(source.frames for source in packed.corpus.train)
    assert len(pickle.dumps(packed)) - before < 1000
    assert len(pickle.dumps(packed.corpus.train[0].motion)) < frames * ARMS26.width * 4 / 2


# -- the engine -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Troubled:
    """The batches of `HostTask`, but for one step."""

    source: BatchSource[Tensor]
    step: int = 2
    error: Exception | None = None
    sleep_s: float = 0.0

    def part(self, step: int, index: int, count: int) -> Tensor:
        if step == self.step:
            if self.error is not None:
                raise self.error
            time.sleep(self.sleep_s)
        return self.source.part(step, index, count)


def engine(out: Path, workers: int, accumulate: int = 1, **trouble: Any) -> Engine[Tensor]:
    out.mkdir(exist_ok=True)
    task = HostTask(out)
    if trouble:
        task.batches = Troubled(task.batches, **trouble)
    return Engine(task, SETTINGS, out, Launch(workers=workers, accumulate=accumulate))


@pytest.fixture(autouse=True)
def all_workers_end() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_run_with_workers_is_the_run_without(accumulate: int, tmp_path: Path) -> None:
    for workers in (0, 2):
        run = engine(tmp_path / str(workers), workers, accumulate)
        run.run()
        run.finish()
    (_, one), (_, other) = (load_checkpoint(tmp_path / name / "checkpoints") for name in ("0", "2"))
    for part, held in one.items():
        assert held.keys() == other[part].keys()
        assert [name for name in held if not torch.equal(held[name], other[part][name])] == []
    assert metrics(tmp_path / "0") == metrics(tmp_path / "2")


def test_it_goes_on_at_its_step_with_other_workers(tmp_path: Path) -> None:
    engine(tmp_path / "straight", 0).run()
    engine(tmp_path / "parts", 2).run(until=4)
    resumed = engine(tmp_path / "parts", 1)
    resumed.load()
    resumed.run()
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "straight")
    assert len(metrics(tmp_path / "parts")) == 3


class Unsendable(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} {two}")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [(ValueError("shard 7 is damaged"), ValueError, "^shard 7 is damaged$"), (Unsendable(1, 2), Exception, "1 2")],
)
def test_what_goes_wrong_in_a_worker_is_told_as_it_is(
    workers: int, error: Exception, kind: type[Exception], words: str, tmp_path: Path
) -> None:
    run = engine(tmp_path / "run", workers, error=error)
    with pytest.raises(kind, match=words) as told:
        run.run()
    assert run.step == 2, "the batches before it were learned from"
    assert "in part" in str(told.value.__cause__), "where in the worker"


def test_a_worker_that_dies_is_told_and_waited_for_by_nobody(tmp_path: Path) -> None:
    run = engine(tmp_path / "run", 1, sleep_s=60)
    step = run.train_step

    def then_killed() -> dict[str, float]:
        found = step()
        if run.step == 2:
            (worker,) = multiprocessing.active_children()
            os.kill(worker.pid or 0, signal.SIGKILL)
        return found

    run.train_step = then_killed  # type: ignore[method-assign]
    with pytest.raises(ChildProcessError, match=r"a process that draws batches has died.*--resume.*--workers 0"):
        run.run()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_is_one_request_and_workers_leave_it_to_the_run(number: int, tmp_path: Path) -> None:
    run = engine(tmp_path / "run", 2)
    step = run.train_step

    def then_stopped() -> dict[str, float]:
        if run.step == 1:  # as a terminal and a scheduler do: to all processes of a group
            pids = [os.getpid(), *(worker.pid for worker in multiprocessing.active_children())]
            assert len(pids) == 3
            subprocess.run(["kill", f"-{number}", *map(str, pids)], check=True)
        return step()

    run.train_step = then_stopped  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert run.step == 2
    assert load_checkpoint(tmp_path / "run/checkpoints")[0] == 2
    resumed = engine(tmp_path / "run", 2)
    resumed.load()
    resumed.run()
    engine(tmp_path / "straight", 0).run()
    assert metrics(tmp_path / "run") == metrics(tmp_path / "straight")


LEFT_ALONE = """
import multiprocessing, sys, time
from pathlib import Path
from test_engine_batches import engine
run = engine(Path(sys.argv[1]), 2)
step = run.train_step
def told():
    print(*(worker.pid for worker in multiprocessing.active_children()), flush=True)
    time.sleep(600)
run.train_step = told
run.run()
"""


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", LEFT_ALONE, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stdout is not None
        workers = [int(pid) for pid in run.stdout.readline().split()]
        run.kill()
    assert len(workers) == 2
    until = time.monotonic() + 60
    while alive := [pid for pid in workers if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < until, alive
        time.sleep(0.1)


def test_the_log_tells_what_share_of_the_time_went_by_waiting(tmp_path: Path) -> None:
    now = iter([0.0, 3.0, 3.0, 4.0])  # two steps of 3 s and 1 s
    stall = Stall()
    with patch("time.perf_counter", lambda: next(now)):
        for waited_s in (0.5, 0.3):
            with stall.step():
                stall.waited(waited_s)
    assert stall.told() == {"waited": 0.2, "step_s": 2.0}
    run = engine(tmp_path / "run", 0, step=3, sleep_s=0.2)
    run.run()
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert lines[1]["time"]["step_s"] >= 0.1 and lines[1]["time"]["waited"] > lines[0]["time"]["waited"]


def test_a_checkpoint_of_a_sequence_of_draws_is_refused(tmp_path: Path) -> None:
    run = engine(tmp_path / "run", 0)
    with patch("xtok.engine.loop.pack_random", lambda _: {"run": torch.Generator().get_state()}):
        run.save()
    assert load_checkpoint(tmp_path / "run/checkpoints")[0] == 0
    with pytest.raises(ValueError, match=r"begun by an earlier version.*another folder"):
        engine(tmp_path / "run", 0).load()


@pytest.mark.parametrize("workers", [-1, 1.5, True])
def test_workers_are_counted_in_whole_numbers(workers: Any) -> None:
    with pytest.raises(ValueError, match="expected a whole number, 0 or more"):
        Launch(workers=workers)


def test_a_batch_travels_as_one_tensor(source: CodecBatches) -> None:
    batch = source.part(3, 0, 1)
    strange = (torch.zeros(0, 3), torch.tensor(7), torch.arange(6).view(2, 3).T, torch.ones(2, 2, dtype=torch.bfloat16))
    sent = parcel((batch, strange, [torch.tensor([True])]))
    assert len(sent.head) < 20_000, "values are in the body"
    found = sent.opened()
    assert_same(found, [batch, strange, [torch.tensor([True])]])
    storages = {tensor.untyped_storage().data_ptr() for tensor in tensors(found) if tensor.numel()}
    assert storages == {sent.body.untyped_storage().data_ptr()}
    assert all(tensor.data_ptr() % tensor.element_size() == 0 for tensor in tensors(found))
    assert found[0].groups == batch.groups and found[0].levels == batch.levels
    assert synthetic.ONE_ARM in found[0].drawn.chunks.context.embodiment or source.features is None
