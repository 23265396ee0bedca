"""Finished k-means, kept while a run places its codebooks, so that a run that was stopped need not do them again.

# N vectors, C code dimension
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_FOLDER: ContextVar[Path | None] = ContextVar("kept_kmeans", default=None)


@contextmanager
def keep_kmeans(folder: Path) -> Iterator[None]:
    """Within, every k-means is written to `folder` when it is done, and read where the very same one was done."""
    before = _FOLDER.set(folder)
    try:
        yield
    finally:
        _FOLDER.reset(before)


def kept_path(x_NC: Float[Tensor, "N C"], valid_NC: Bool[Tensor, "N C"] | None, *settings: int) -> Path | None:
    """The file of a k-means of these vectors with these settings, or None outside `keep_kmeans`."""
    folder = _FOLDER.get()
    if folder is None:
        return None
    digest = hashlib.sha256(repr((tuple(x_NC.shape), str(x_NC.dtype), settings, torch.__version__)).encode())
    for tensor in (x_NC, valid_NC):
        if tensor is not None:
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return folder / f"{digest.hexdigest()[:32]}.safetensors"
