"""The batch of a step that went wrong, kept as files to look at and to run again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from xtok.atomic import atomic_folder
from xtok.engine.task import Kept

FAILED = "failed"
_RANDOM = "random"


def keep_failed(out: Path, step: int, kept: Kept, about: Mapping[str, object], random: Tensor) -> Path:
    """Write out/failed/<step>/: batch.safetensors, and about.json that says what was wrong and whose batch it is.

    random: state of torch's random numbers before the step.
    """
    folder = out / FAILED / f"{step:08d}"
    if not folder.exists():
        with atomic_folder(folder) as draft:
            tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in kept.tensors.items()}
            save_file({**tensors, _RANDOM: random}, draft / "batch.safetensors")
            text = json.dumps({**about, "batch": kept.about}, indent=1)
            (draft / "about.json").write_text(text + "\n", encoding="utf-8")
    return folder


def load_failed(folder: Path) -> tuple[Kept, int, Tensor]:
    """The batch, its step, and the random numbers of before.

    Raises:
        ValueError: none is kept there.
    """
    if not (folder / "about.json").is_file():
        raise ValueError(f"no batch is kept in {folder}; a run that meets a loss that is no number keeps one there")
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    tensors = load_file(folder / "batch.safetensors")
    random = tensors.pop(_RANDOM)
    return Kept(tensors, about["batch"]), int(about["step"]), random
