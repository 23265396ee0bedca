"""The loop: batch, losses, gradient, step; log, validate, checkpoint; the same on one process and on many."""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Generic

import torch
from torch import Tensor, nn
from tqdm import tqdm

from xtok import ranks
from xtok.engine import checkpoint
from xtok.engine.batches import Batch, Batches, told_of_workers
from xtok.engine.failed import keep_failed, load_failed
from xtok.engine.graceful_stop import stop_request
from xtok.engine.metrics import Metrics
from xtok.engine.precision import bfloat16_networks
from xtok.engine.processes import accelerator_for, any_of, first_does, from_first, mean_of
from xtok.engine.random_states import pack_random, seed_rank, unpack_random
from xtok.engine.settings import PLAIN, WORKERS_OF_A_GPU, Launch, Settings
from xtok.engine.sharded import placed_like, shard, unpack_optimizer, whole, whole_tensor
from xtok.engine.stall import Stall
from xtok.engine.task import Task
from xtok.engine.trackers import start_trackers, stop_trackers
from xtok.write_errors import WriteError

CHECKPOINTS = "checkpoints"


class NotFinite(ValueError):
    """A loss or a gradient that is no number. The message names the step and where its batch was kept."""


class Engine(Generic[Batch]):
    """The state of a run. `run` goes to its end (or to `until`), `finish` writes what it was for.

    out: a folder that all processes see: checkpoints/, metrics.jsonl, failed/. waited_s: for batches so far, in this
    process, while nothing was learned.

    Raises:
        ValueError: a global batch that does not split over the processes.
    """

    def __init__(self, task: Task[Batch], settings: Settings, out: Path, launch: Launch = PLAIN) -> None:
        self.task, self.settings, self.out, self.launch = task, settings, out, launch
        self.accelerator = accelerator_for(launch, out, task.cpu_only)
        R, self.step, self.waited_s = self.accelerator.num_processes, 0, 0.0
        if task.batch_size % (R * launch.accumulate):
            raise ValueError(
                f"a global batch of {task.batch_size} does not split evenly over {R} processes in {launch.accumulate} "
                "parts each; choose numbers of which the product divides it"
            )
        self.metrics = Metrics(out, self.accelerator)
        from_first((*task.module.parameters(), *task.module.buffers()), self.accelerator)
        self.module: nn.Module = _Losses(task)
        if not any(parameter.requires_grad for parameter in task.module.parameters()):
            self.optimizer = task.optimizer  # of no steps: DDP refuses what has no gradient
        elif launch.shard and R > 1:
            shard(task, self.module)
            self.optimizer = self.accelerator.prepare(task.optimizer)
        else:
            with warnings.catch_warnings():
                # Its successor is younger than the oldest torch that we run on, and Accelerate does not pass it on.
                warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
                self.module, self.optimizer = self.accelerator.prepare(self.module, task.optimizer)
        self._seen: dict[str, list[float]] = defaultdict(list)
        self._stall = Stall()
        self._batches: Batches[Batch] | None = None
        self._tracking = False
        seed_rank(settings.seed, self.accelerator.process_index)

    # -- a run ----------------------------------------------------------------------------------------------------

    def run(self, until: int | None = None) -> None:
        """Train up to step `until` (default: the last), with a checkpoint there.

        Raises:
            KeyboardInterrupt: SIGINT or SIGTERM came to some process; a checkpoint was written first.
            NotFinite: a loss or a gradient is no number; the step was not taken.
            WriteError: checkpoint or log cannot be written; the checkpoint before is whole.
            ConnectionError: another process of the run is gone.
            ChildProcessError: a process that draws batches is gone.
        """
        settings, last = self.settings, self.settings.steps if until is None else until
        self.task.train()
        self._seen.clear()
        self._stall = Stall()
        shown: dict[str, str] = {}
        low = self.task.low_precision if self.accelerator.mixed_precision == "bf16" else ()
        with (
            self._tracked(),
            self._told_of_full_disks(),
            self._told_of_others(),
            stop_request() as request,
            self._batches_to(last),
            bfloat16_networks(low, self.accelerator.device.type),
            tqdm(
                total=settings.steps,
                initial=self.step,
                desc=self.task.name,
                disable=not self.accelerator.is_main_process,
            ) as bar,
        ):
            while self.step < last:
                for name, value in self.train_step().items():
                    self._seen[name].append(value)
                bar.update()
                if self.step % settings.log_every == 0:
                    shown |= self._log_losses()
                if settings.validate_every and self.step % settings.validate_every == 0:
                    shown |= self._validate()
                bar.set_postfix(shown, refresh=False)
                stop = any_of(bool(request), self.accelerator)
                if stop or self.step == last or self.step % settings.checkpoint_every == 0:
                    self.save()
                if stop:
                    raise KeyboardInterrupt

    @contextmanager
    def _tracked(self) -> Iterator[None]:
        """Trackers are open from the start of a run to its `finish`, or to what interrupts it."""
        if self.launch.trackers and not self._tracking:
            self._tracking = True
            about = self.task.name, self.out, self.step, self.task.config
            first_does(lambda: start_trackers(self.accelerator, *about), self.accelerator)
        try:
            yield
        except BaseException:
            self._stop_trackers()
            raise

    @contextmanager
    def _told_of_full_disks(self) -> Iterator[None]:
        try:
            yield
        except WriteError as error:
            whole = checkpoint.newest(self.out / CHECKPOINTS)
            raise WriteError(
                f"{error}. The checkpoint of step {whole} is whole: once there is room, the run goes on from it"
            ) from error

    def _stop_trackers(self) -> None:
        self._tracking = False
        stop_trackers(self.accelerator)

    def train_step(self) -> dict[str, float]:
        """One step of the optimiser; the losses before it, mean over processes and parts, `total` too.

        Raises:
            NotFinite, ConnectionError, ChildProcessError: see `run`.
        """
        with self._told_of_others(), self._stall.step():
            return self._train_step()

    @contextmanager
    def _told_of_others(self) -> Iterator[None]:
        """An error of talking with other processes of the run says so, wherever in a step it came."""
        try:
            yield
        except RuntimeError as error:
            if self.accelerator.num_processes > 1 and _of_the_group(error):
                raise ConnectionError(
                    f"another process of this run has died or cannot be reached (process "
                    f"{self.accelerator.process_index} was at step {self.step + 1}: {error}). The last checkpoint is "
                    "whole: start all processes again with --resume"
                ) from error
            raise

    def _train_step(self) -> dict[str, float]:
        accelerator, parts = self.accelerator, self.launch.accumulate
        before = torch.get_rng_state()
        batch = self._next_parts()
        weights = self.task.weights(self.step)
        sums: dict[str, Tensor] = {}
        for group, rate in zip(self.optimizer.param_groups, self.task.rates(self.step), strict=True):
            group["lr"] = rate
        self.optimizer.zero_grad()
        for number, part in enumerate(batch):
            last = number == parts - 1
            with nullcontext() if last or self.launch.shard else accelerator.no_sync(self.module):
                with ranks.together(ends=last):
                    losses = self.module(part, self.step)
                losses["total"] = weighted_sum(losses, weights)
                accelerator.backward(losses["total"] / parts if parts > 1 else losses["total"])
            for name, value in losses.items():
                sums[name] = value.detach() + sums[name] if name in sums else value.detach()
        norm = accelerator.clip_grad_norm_(self.module.parameters(), self.settings.gradient_clip)
        found = torch.stack([*(value.double() / parts for value in sums.values()), whole_tensor(norm).double()])
        *values, norm_value = mean_of(found, accelerator).tolist()
        told = dict(zip(sums, values, strict=True))
        self._check_finite({**told, "gradient": norm_value}, before)
        self.optimizer.step()
        self.task.stepped(self.step)
        self.step += 1
        return told

    # -- batches --------------------------------------------------------------------------------------------------

    @contextmanager
    def _batches_to(self, last: int) -> Iterator[None]:
        """Batches come from a loader within, from the step of now on."""
        self._batches = batches = self._loader(range(self.step, last), self._workers)
        try:
            with told_of_workers():
                yield
        finally:
            self._batches = None
            batches.close()

    def _loader(self, steps: range, workers: int) -> Batches[Batch]:
        """This process's parts, of those of all processes."""
        parts = self.launch.accumulate
        first, count = self.accelerator.process_index * parts, self.accelerator.num_processes * parts
        pin = self.accelerator.device.type == "cuda"
        return Batches(self.task.batches, steps, range(first, first + parts), count, workers, pin)

    @property
    def _workers(self) -> int:
        asked = self.launch.workers
        return asked if asked is not None else WORKERS_OF_A_GPU * (self.accelerator.device.type == "cuda")

    def _next_parts(self) -> tuple[Batch, ...]:
        batches = self._batches or self._loader(range(self.step, self.step + 1), 0)
        found = next(batches)
        self._stall.waited(batches.waited_s)
        self.waited_s += batches.waited_s
        return found

    def rerun(self, folder: Path) -> dict[str, float]:
        """Losses of a batch that `run` kept in out/failed/, under the state as it is (`load` first): for one process.
        Codebooks move as in a step, so this engine is not to go on.

        Raises:
            ValueError: no batch is kept there.
        """
        kept, step, random = load_failed(folder)
        torch.set_rng_state(random)
        self.task.train()
        losses = self.module(self.task.restore(kept), step)
        return {name: value.item() for name, value in losses.items()}

    def finish(self) -> Path:
        """What the run was for, written into `out` by the first process."""
        for figures in first_does(self.task.finish, self.accelerator) or ():
            self.metrics.log(self.step, figures.logged, once=True)
        self._stop_trackers()
        return self.out

    # -- told -----------------------------------------------------------------------------------------------------

    def _log_losses(self) -> dict[str, str]:
        means = {name: sum(values) / len(values) for name, values in self._seen.items()}
        self._seen.clear()
        figures, digits = self.task.figures(self.step), self.settings.digits
        logged = means if digits is None else {name: round(value, digits) for name, value in means.items()}
        time = self._stall.told()
        self.metrics.log(self.step, {**logged, **figures.logged, "time": time})
        shown = {name: f"{value:.4f}" for name, value in means.items()}
        return {**shown, **figures.shown, "waited": f"{time['waited']:.0%}"}

    def _validate(self) -> Mapping[str, str]:
        figures = first_does(self.task.validate, self.accelerator)
        if figures is None:
            return {}
        self.metrics.log(self.step, figures.logged)
        return figures.shown

    def _check_finite(self, values: Mapping[str, float], random: Tensor) -> None:
        if bad := [name for name, value in values.items() if not math.isfinite(value)]:
            about = {"step": self.step, "not_finite": bad, "losses": {k: str(v) for k, v in values.items()}}

            def keep() -> Path:
                kept = self.task.keep(self.task.batches.part(self.step, 0, 1))
                return keep_failed(self.out, self.step, kept, about, random)

            where = first_does(keep, self.accelerator)
            raise NotFinite(
                f"step {self.step + 1}: {', '.join(bad)} not finite. Its batch is kept in "
                f"{where or self.out}: look at it, then mend the data or lower the learning rate. Nothing was learned "
                "from it, and the last checkpoint is from before"
            )

    # -- kept -----------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """A checkpoint of this step, whole or not at all. All processes come here, the first one writes."""
        state, task = self.task.state(), self.task
        training = {
            **checkpoint.prefixed("optimizer", checkpoint.pack_optimizer(task.optimizer)),
            **state.get("training", {}),
            **checkpoint.prefixed("random", pack_random(self.accelerator)),
        }
        parts = whole({**state, "training": training})
        if self.accelerator.is_main_process:
            checkpoint.save_checkpoint(self.out / CHECKPOINTS, self.step, parts)

    def load(self) -> None:
        """Go on from the newest checkpoint, of however many processes.

        Raises:
            ValueError: there is none.
        """
        self.step, parts = checkpoint.load_checkpoint(self.out / CHECKPOINTS)
        training, task = parts["training"], self.task
        task.load(placed_like(task.state(), parts))
        unpack_optimizer(task.optimizer, checkpoint.under("optimizer", training))
        states = checkpoint.under("random", training)
        unpack_random(states, self.accelerator, self.settings.seed, self.step)
        self.metrics.forget_after(self.step)


def weighted_sum(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Sum of weight times loss.

    Raises:
        ValueError: a loss without a weight or a weight without a loss.
    """
    if losses.keys() != weights.keys():
        raise ValueError(
            f"losses without a weight: {sorted(losses.keys() - weights.keys())}; "
            f"weights without a loss: {sorted(weights.keys() - losses.keys())}"
        )
    return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()


class _Losses(nn.Module, Generic[Batch]):
    """A task's losses as one forward: what DDP and FSDP wrap, so that all that learns takes part."""

    def __init__(self, task: Task[Batch]) -> None:
        super().__init__()
        self.learned = task.module
        self._task = task

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        return self._task.losses(batch, step)


def _of_the_group(error: RuntimeError) -> bool:
    """Whether an error came of talking with other processes."""
    text = str(error).lower()
    words = ("connection", "gloo", "nccl", "socket", "process group", "peer", "timed out")
    return isinstance(error, torch.distributed.DistError) or any(word in text for word in words)
