"""A batch on its way between processes: all its tensors in one, however many it has.

Each tensor that is sent takes a file descriptor of both processes as long as it lives; thirty a batch would use up what
a process may have.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_ALIGNED = 64  # bytes that tensors begin at multiples of
_Place = tuple[int, int, torch.dtype, tuple[int, ...]]  # first byte, bytes, dtype, shape


@dataclass(frozen=True)
class Parcel:
    """head: what was pickled, but for the values of its tensors, which are in `body`, uint8."""

    head: bytes
    body: Tensor

    def pin_memory(self, *_: object) -> Parcel:
        """Into page-locked memory. DataLoader calls this."""
        return Parcel(self.head, self.body.pin_memory())

    def opened(self) -> Any:
        """What was packed; tensors are views of `body`."""
        return _Unpickler(io.BytesIO(self.head), self.body).load()


def parcel(content: Any) -> Parcel:
    """Anything that can be pickled, with tensors of the CPU in it."""
    head = io.BytesIO()
    pickler = _Pickler(head)
    pickler.dump(content)
    body = torch.empty(pickler.size, dtype=torch.uint8)
    for first, tensor in pickler.tensors:
        flat = tensor.contiguous().view(-1).view(torch.uint8)
        body[first : first + len(flat)] = flat
    return Parcel(head.getvalue(), body)


class _Pickler(pickle.Pickler):
    """Leaves the values of tensors out and says where they will be."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.size = 0
        self.tensors: list[tuple[int, Tensor]] = []

    def persistent_id(self, value: Any) -> _Place | None:
        if not isinstance(value, Tensor):
            return None
        first, size = self.size, value.numel() * value.element_size()
        self.size += -(-size // _ALIGNED) * _ALIGNED
        self.tensors.append((first, value.detach()))
        return first, size, value.dtype, tuple(value.shape)


class _Unpickler(pickle.Unpickler):
    """Of what a process of this run has sent, and nothing else."""

    def __init__(self, file: io.BytesIO, body: Tensor) -> None:
        super().__init__(file)
        self._body = body

    def persistent_load(self, place: _Place) -> Tensor:
        first, size, dtype, shape = place
        return self._body[first : first + size].view(dtype).view(shape)
