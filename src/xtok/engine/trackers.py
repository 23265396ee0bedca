"""Accelerate's trackers by name, beside metrics.jsonl: tensorboard, wandb, trackio and what else it knows."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from xtok.atomic import atomic_write

if TYPE_CHECKING:
    from accelerate import Accelerator

FOLDER = "trackers"  # in a run's: TensorBoard's events, wandb's files, and the run's id
PACKAGES = {"comet_ml": "comet-ml"}  # what pip calls them, where it is not the tracker's name


def check_trackers(names: tuple[str, ...]) -> None:
    """Raises ValueError for a name that Accelerate does not know, ImportError for one that is not installed."""
    if not names:
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    available = sorted(map(str, get_available_trackers()))
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise ValueError(f"no tracker is called {name!r}; expected some of {sorted(LOGGER_TYPE_TO_CLASS)}")
        if name not in available:
            package = PACKAGES.get(name, name)
            raise ImportError(f"tracker {name!r} is not installed: `pip install {package}`; there are {available}")


def start_trackers(accelerator: Accelerator, project: str, out: Path, step: int, config: Mapping[str, object]) -> None:
    """Open those of the launch; the first process does. A resumed run goes on in the records that it began; TensorBoard
    forgets what it was told of later steps than `step`."""
    record = out / FOLDER / "run_id"
    if not record.is_file():
        atomic_write(record, uuid.uuid4().hex[:12] + "\n")
    run = record.read_text(encoding="utf-8").strip()
    accelerator.init_trackers(
        project,
        None if step else settings(config),
        {
            "tensorboard": {"purge_step": step + 1},
            "wandb": {"id": run, "resume": "allow", "dir": str(out / FOLDER)},
            "trackio": {"name": run, "resume": "allow"},
        },
    )


def stop_trackers(accelerator: Accelerator) -> None:
    """Write what they still hold."""
    for tracker in accelerator.trackers:
        tracker.finish()
    accelerator.trackers.clear()


def settings(content: Mapping[str, object], before: str = "") -> dict[str, bool | int | float | str]:
    """Scalars by name, those of mappings as name/key; what has no simple value as text."""
    out: dict[str, bool | int | float | str] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            out |= settings({str(key): each for key, each in value.items()}, f"{before}{name}/")
        else:
            out[f"{before}{name}"] = value if isinstance(value, bool | int | float | str) else str(value)
    return out
