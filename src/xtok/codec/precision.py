"""A frozen codec keeps its float32 whatever module holds it, and says so when something wrote to it all the same.

Books, closed forms and networks decide codes; in bfloat16 two codes of five change. A policy that holds the codec is
cast, moved, wrapped and loaded as a whole, so the codec looks after itself:

- casts (`.half()`, `.to(dtype)`, a parent's `_apply`) move it to the device and leave its dtype;
- a state dict in another precision is refused, unless it is a rounded copy of what is here: then this stays;
- what reaches a tensor behind the module's back (`param.data = ...`, an initialiser) is found before the next code.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import Self

TRAINING_STATE = ("count_QV", "sum_QVC", "weight_QVC", "hits_QV", "resets_Q")  # of books; it codes nothing
REMEDY = (
    "load the tokenizer anew, Tokenizer.from_pretrained(...), after the policy is built and cast, and keep it out of "
    "the policy's sub-modules (or, in transformers, name it in _keep_in_fp32_modules_strict)"
)


class KeepsPrecision(nn.Module):
    """A module whose tensors keep their dtype, float32 or int64, for good."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def keep(tensor: Tensor) -> Tensor:
            out = fn(tensor)
            return out if out.dtype == tensor.dtype else tensor.to(out.device)

        out: Self = super()._apply(keep, recurse)
        return out

    def in_float32(self) -> Self:
        """Whatever the default dtype was when it was made."""
        out: Self = super()._apply(lambda t: t.float() if t.is_floating_point() else t)
        return out

    def _load_from_state_dict(self, state_dict: dict[str, object], prefix: str, *args: Any, **kwargs: Any) -> None:
        rounded = []
        for name, here in self.state_dict(keep_vars=True).items():
            given = state_dict.get(prefix + name)
            if not isinstance(given, Tensor) or not here.is_floating_point() or given.dtype == here.dtype:
                continue
            if _equal(given, here):
                state_dict[prefix + name] = here.detach().clone()
            elif _equal(given, here.detach().to(given.dtype)):
                state_dict[prefix + name] = here.detach().clone()
                rounded.append(f"{prefix}{name} ({given.dtype})")
            else:
                raise ValueError(
                    f"{prefix}{name} in the state dict is {given.dtype}, and not a copy of what is here: the codec is "
                    f"float32, since rounding its books changes codes. Save it in float32, or {REMEDY}"
                )
        if rounded:
            warnings.warn(
                f"{rounded[0]} and {len(rounded) - 1} more in the state dict are rounded copies of what the codec "
                "holds; the exact ones stay, so codes are unchanged",
                stacklevel=2,
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def fill(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Give a module that has shapes only (built on "meta") these tensors; what is not named is zero.

    Not by `load_state_dict`: hosts replace how modules register and initialise parameters while a model is loading.

    Raises:
        KeyError: tensors that the module does not have.
    """
    left = dict(tensors)
    for path, owner in module.named_modules():
        owner._is_hf_initialized = True  # transformers, asked to initialise a policy that holds it, leaves it alone
        for held in (owner._parameters, owner._buffers):
            for leaf, empty in held.items():
                if empty is None:
                    continue
                found = left.pop(f"{path}.{leaf}" if path else leaf, None)
                if found is None:
                    found = torch.from_numpy(_zeros(empty))
                held[leaf] = nn.Parameter(found, empty.requires_grad) if isinstance(empty, nn.Parameter) else found
    if left:
        raise KeyError(f"there is no {sorted(left)[0]} ({len(left)} such tensors)")


def tensors_in(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by name."""
    for path, owner in module.named_modules():
        for held in (owner._parameters, owner._buffers):
            for leaf, tensor in held.items():
                if tensor is not None:
                    yield (f"{path}.{leaf}" if path else leaf), tensor


def fingerprint(module: nn.Module, without: tuple[str, ...] = ()) -> tuple[tuple[int, int, int], ...]:
    """Changes when a tensor is replaced, moved or written to (except through `.data` in place). Cheap.

    without: last parts of names that do not count.
    """
    return tuple(
        (id(tensor), tensor.data_ptr() if not tensor.is_meta else 0, -1 if tensor.is_inference() else tensor._version)
        for owner in module.modules()
        for held in (owner._parameters, owner._buffers)
        for leaf, tensor in held.items()
        if tensor is not None and leaf not in without
    )


def check_exact(module: nn.Module) -> None:
    """Look whether the tensors can decide codes.

    Raises:
        ValueError: one that is not float32, or has no values.
    """
    for name, tensor in tensors_in(module):
        if tensor.is_meta:
            raise ValueError(f"the codec's {name} is on the device 'meta' and has no values any more; {REMEDY}")
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise ValueError(
                f"the codec's {name} is {tensor.dtype}; books and networks are float32, since rounding changes codes. "
                f"It cannot be mended here, its digits are lost: {REMEDY}"
            )


class Seal:
    """What a frozen codec was when it was first used. Copies and pickles of it take it along."""

    def __init__(self) -> None:
        self._seen: object = None
        self._content: str | None = None

    def look(self, module: nn.Module) -> bool:
        """Whether its tensors are other objects than at the last look, of the same content.

        Raises:
            ValueError: other content, another precision, or none.
        """
        if (seen := fingerprint(module, TRAINING_STATE)) == self._seen:
            return False
        check_exact(module)
        content = _content(module)
        if self._content not in (None, content):
            raise ValueError(
                "the codec's weights are not those that this tokenizer began with: an initialiser, an optimizer or "
                f"a checkpoint wrote to them. If that was meant, Tokenizer(codec) makes a new tokenizer; else {REMEDY}"
            )
        self._content, self._seen = content, seen
        return True

    def __getstate__(self) -> dict[str, str | None]:
        return {"_seen": None, "_content": self._content}  # a copy has tensors of its own


def _content(module: nn.Module) -> str:
    found = hashlib.sha256()
    for name, tensor in tensors_in(module):
        if name.rsplit(".", 1)[-1] not in TRAINING_STATE:
            found.update(f"{tuple(tensor.shape)}".encode())  # no names: wrappers change them
            found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def _equal(given: Tensor, here: Tensor) -> bool:
    if given.shape != here.shape or given.is_meta or here.is_meta:
        return False
    return torch.equal(given.detach().cpu().double(), here.detach().cpu().double())


def _zeros(like: Tensor) -> Any:
    return np.zeros(tuple(like.shape), dtype=np.int64 if like.dtype == torch.int64 else np.float32)
