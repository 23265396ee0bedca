"""Checkpoints: safetensors in a folder that appears whole or not at all. No pickle, so nothing in one can run.

A checkpoint is `RUN_DIR/checkpoints/<step>/` with one file of tensors for each part: model, heads, training.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from xtok.atomic import atomic_folder, atomic_write
from xtok.engine.task import Parts
from xtok.write_errors import telling


def save_checkpoint(folder: Path, step: int, parts: Parts) -> Path:
    """Write `parts` as checkpoint `step`, then drop older ones. Killed at any moment, a whole checkpoint remains.

    Raises:
        WriteError: it cannot be written; the one before stays.
    """
    with telling(folder, surely=True):
        folder.mkdir(parents=True, exist_ok=True)
    for draft in folder.glob(".*.tmp"):  # of a run that was killed: room for this one
        shutil.rmtree(draft)
    target = folder / f"{step:08d}"
    if not target.exists():
        with atomic_folder(target) as draft:
            for name, tensors in parts.items():
                whole = {key: t.detach().cpu().contiguous() for key, t in tensors.items()}
                save_file(whole, draft / f"{name}.safetensors")
    for other in folder.iterdir():
        if other != target:
            shutil.rmtree(other)
    return target


def load_checkpoint(folder: Path) -> tuple[int, dict[str, dict[str, Tensor]]]:
    """Step and parts of the newest checkpoint.

    Raises:
        ValueError: there is none.
    """
    if (step := newest(folder)) is None:
        raise ValueError(f"no checkpoint in {folder}; start the run without --resume")
    return step, {path.stem: load_file(path) for path in (folder / f"{step:08d}").glob("*.safetensors")}


def newest(folder: Path) -> int | None:
    """Step of the newest checkpoint, None where there is none."""
    return max((int(path.name) for path in folder.glob("[0-9]*") if path.is_dir()), default=None)


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Its state as flat tensors, `<parameter>.<name>`. Hyperparameters are the recipe's and are not kept."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": tensor for index, values in state.items() for name, tensor in values.items()}


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Inverse of `pack_optimizer`, in place."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{key}": tensor for key, tensor in tensors.items()}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inverse of `prefixed`: the tensors of one prefix."""
    start = f"{prefix}/"
    return {key.removeprefix(start): tensor for key, tensor in tensors.items() if key.startswith(start)}


def write_json(path: Path, content: Any) -> None:
    """Whole or not at all."""
    atomic_write(path, json.dumps(content, indent=2) + "\n")
