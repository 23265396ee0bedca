"""What the engine must know of a run: its length and rhythm, and how it is run here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class Settings:
    """Part of what a run is: a resumed run has the same.

    steps: of the optimiser. *_every: steps between two lines of losses, two validations (0: none), two checkpoints.
    gradient_clip: largest norm of the gradient. digits: that losses are written with in metrics.jsonl; None: all.
    """

    steps: int
    seed: int = 0
    log_every: int = 20
    validate_every: int = 0
    checkpoint_every: int = 500
    gradient_clip: float = 1.0
    digits: int | None = None


@dataclass(frozen=True)
class Launch:
    """How a run is run here; a resumed run may choose anew, beside another number of processes.

    accumulate: parts that a process takes its share of the global batch in, one after another, for less memory.
    precision: of the networks. auto: what `accelerate launch` was told, else bf16 on a GPU and fp32 on a CPU.
    trackers: names of Accelerate's, beside metrics.jsonl: tensorboard, wandb, trackio, ...
    workers: processes that draw batches ahead, for each process that trains; 0: it draws them itself. None: 2 on a GPU,
        0 on a CPU, where drawing takes hundredths of a step.
    shard: parameters, gradients and optimiser are spread over the processes (FSDP2), for what one device cannot hold.

    Raises:
        ValueError: values that cannot be.
    """

    accumulate: int = 1
    precision: Precision = "auto"
    trackers: tuple[str, ...] = ()
    shard: bool = False
    workers: int | None = None

    def __post_init__(self) -> None:
        if type(self.accumulate) is not int or self.accumulate < 1:
            raise ValueError(f"accumulate is {self.accumulate!r}; expected a whole number, 1 or more")
        if self.precision not in ("auto", "fp32", "bf16"):
            raise ValueError(f"precision is {self.precision!r}; expected 'auto', 'fp32' or 'bf16'")
        if self.workers is not None and (type(self.workers) is not int or self.workers < 0):
            raise ValueError(f"workers is {self.workers!r}; expected a whole number, 0 or more")


WORKERS_OF_A_GPU = 2
PLAIN = Launch()
