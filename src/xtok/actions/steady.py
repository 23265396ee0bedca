"""Run a function the same way whatever its host did to torch: default device, autocast, inference mode, compilers.

Hosts set such state for a whole process or thread (transformers loads on the device "meta" in bfloat16, servers decode
in inference mode). Codes are a format: they may depend on none of it. The default dtype alone is not pinned here, since
torch keeps it for all threads at once: code that decides codes names its dtypes instead.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def steady() -> Iterator[None]:
    """Tensors are made on the CPU, are ordinary ones, and keep their dtype. The gradient mode stays as it is."""
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():  # what is cached in it could never be trained on
            grad = torch.is_grad_enabled()
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.set_grad_enabled(grad))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for device_type in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device_type):
                stack.enter_context(torch.autocast(device_type, enabled=False))
        yield


def eager(function: Callable[P, R]) -> Callable[P, R]:
    """Not traced by torch.compile: compiled code around it breaks off, calls it as it is, and goes on.

    `torch.compiler.disable` would do, but it imports the compiler (two seconds) where nobody compiles.
    """

    held: list[Callable[P, R]] = []

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if "torch._dynamo" not in sys.modules:
            return function(*args, **kwargs)
        if not held:
            held.append(torch.compiler.disable(function))
        return held[0](*args, **kwargs)

    return call


def pinned(function: Callable[P, R]) -> Callable[P, R]:
    """`steady` and `eager`; gradients pass."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with steady():
            return function(*args, **kwargs)

    return eager(call)


def exact(function: Callable[P, R]) -> Callable[P, R]:
    """`steady`, `eager`, and without gradient: for all that reads or writes codes."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with steady(), torch.no_grad():
            return function(*args, **kwargs)

    return eager(call)
