"""What people pass as numbers (tensors, arrays, lists of any dtype) as one exact tensor, or a ValueError that says why.

Nothing is rounded, cut or guessed: float16 and bfloat16 are widened exactly (with a warning: their digits were lost
before), integers become floats, everything else is refused by the shape and dtype that were found and expected.
"""

from __future__ import annotations

import operator
import sys
import warnings
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_COARSE = {torch.float16: "0.5 mm", torch.bfloat16: "4 mm"}  # spacing of values from 0.5 to 1 m
_LARGEST_EXACT = 2**53  # integers beyond are rounded by float64


class CoarseInputWarning(UserWarning):
    """Numbers came in a half-precision dtype: they are coded as they are, and what they lost is lost."""


def floats_of(value: Any, name: str, expected: str, ndim: int | None = None) -> Float[Tensor, ...]:
    """Numbers as float32 (where they were, or where that holds them exactly by their dtype) or float64, detached.

    name, expected: for the message, as "actions" and "[B, T, 26]". The device stays.

    Raises:
        ValueError: no numbers (text, truth values, complex, objects), ragged lists, a meta or sparse tensor, masked
            arrays, integers beyond 2^53, or another rank than `ndim`.
    """
    tensor = _tensor_of(value, name, expected)
    if tensor.dtype == torch.bool:
        raise _refusal(name, f"truth values {_shape(tensor)}", f"numbers {expected}; is it a mask?")
    if tensor.is_complex():
        raise _refusal(name, f"complex numbers ({tensor.dtype}) {_shape(tensor)}", f"real numbers {expected}")
    if tensor.is_floating_point():
        if tensor.element_size() < 2:
            raise _refusal(name, f"{tensor.dtype} {_shape(tensor)}, with a digit or two", f"float32 {expected}")
        if tensor.dtype in _COARSE:
            _warn_coarse(name, tensor.dtype)
            tensor = tensor.float()
        elif tensor.dtype not in (torch.float32, torch.float64):
            tensor = tensor.double()
    else:
        whole = _int64(tensor, name, expected)
        if whole.numel() and int(whole.abs().max()) > _LARGEST_EXACT:
            raise _refusal(name, f"integers up to {int(whole.abs().max())}", f"numbers {expected}")
        tensor = whole.double()
    _check_rank(tensor, name, expected, ndim)
    return tensor


def integers_of(value: Any, name: str, expected: str, ndim: int | None = None) -> Int[Tensor, ...]:
    """Ids as int64.

    Raises:
        ValueError: floats (whole ones too), truth values, ids beyond int64, or what `floats_of` refuses.
    """
    tensor = _tensor_of(value, name, expected)
    if tensor.dtype == torch.bool or tensor.is_floating_point() or tensor.is_complex():
        raise ValueError(f"{name} have shape {_plain(tensor)} and type {tensor.dtype}; expected integers {expected}")
    tensor = _int64(tensor, name, expected)
    if ndim is not None and tensor.ndim != ndim:
        raise ValueError(f"{name} have shape {_plain(tensor)} and type {tensor.dtype}; expected integers {expected}")
    return tensor


def mask_of(value: Any, name: str, expected: str) -> Bool[Tensor, ...]:
    """Truth values; numbers 0 and 1 count as such.

    Raises:
        ValueError: other numbers, or what `floats_of` refuses.
    """
    tensor = _tensor_of(value, name, expected)
    if tensor.dtype == torch.bool:
        return tensor
    if tensor.is_complex() or not ((tensor == 0) | (tensor == 1)).all():
        raise _refusal(name, f"{tensor.dtype} {_shape(tensor)} with other values than 0 and 1", f"a mask {expected}")
    return tensor != 0


def array_of(value: Any, name: str, expected: str, ndim: int | None = None) -> Float[np.ndarray, ...]:
    """`floats_of` as a float64 array."""
    out: np.ndarray = floats_of(value, name, expected, ndim).cpu().double().numpy()
    return out


def whole_of(value: Any, name: str, low: int | None = None, high: int | None = None) -> int:
    """A whole number, from low to high where these are given.

    Raises:
        ValueError: a fraction, a float (whole ones too), a truth value, text, or a number outside the range.
    """
    bounds = "" if low is None else f" from {low} on" if high is None else f" from {low} to {high}"
    try:
        if isinstance(value, (bool, np.bool_)) or (isinstance(value, (np.ndarray, Tensor)) and value.ndim):
            raise TypeError
        if isinstance(value, Tensor) and (value.dtype == torch.bool or value.is_floating_point() or value.is_complex()):
            raise TypeError
        if isinstance(value, np.ndarray) and value.dtype.kind not in "iu":
            raise TypeError
        plain: Any = value.item() if isinstance(value, Tensor) else value
        found = operator.index(plain)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} is {_short(value)}; expected a whole number{bounds}") from None
    if (low is not None and found < low) or (high is not None and found > high):
        raise ValueError(f"{name} is {found}; expected a whole number{bounds}")
    return found


def number_of(value: Any, name: str, expected: str = "a number") -> float:
    """One number; a tensor or array of rank 0 counts.

    Raises:
        ValueError: truth values, text, several numbers, complex ones.
    """
    try:
        if isinstance(value, (bool, np.bool_, str, bytes)) or value is None:
            raise TypeError
        if isinstance(value, (np.ndarray, Tensor)):
            if value.ndim or value.dtype in (torch.bool, np.dtype(bool)):
                raise TypeError
            value = value.item()
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise ValueError(f"{name} is {_short(value)}; expected {expected}") from None


def caller() -> int:
    """The stack level, for a warning, of the first caller outside this package: each place is then warned of once."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in ("xtok", "torch"):
        level, frame = level + 1, frame.f_back
    return level


# -- inside ------------------------------------------------------------------------------------------------------------


def _tensor_of(value: Any, name: str, expected: str) -> Tensor:
    if isinstance(value, Tensor):
        return _dense(value, name, expected)
    if value is None or isinstance(value, (str, bytes, dict, set, frozenset)):
        raise _refusal(name, _kind(value), f"numbers {expected}")
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise _refusal(name, f"a masked array {value.shape}", f"numbers {expected}; fill or drop what is masked")
    if isinstance(value, (list, tuple)):
        value = _without_tensors(value, name, expected)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy before 1.24 only warned of ragged lists
            array = np.asarray(value)
    except Exception as error:  # whatever an object's own __array__ raises, too
        ragged = isinstance(value, (list, tuple)) and "inhomogeneous" in str(error)
        found = "lists of different lengths" if ragged else f"{_kind(value)} that is no array ({type(error).__name__})"
        raise _refusal(name, found, f"numbers {expected}") from None
    return _from_numpy(array, value, name, expected)


def _from_numpy(array: np.ndarray, value: Any, name: str, expected: str) -> Tensor:
    if array.dtype.kind == "V" and array.dtype.name == "bfloat16":  # of ml_dtypes, as jax passes them
        return torch.from_numpy(array.astype(np.float32)).bfloat16()
    if array.dtype.kind == "O" and array.size:
        numbers = (int, float, np.integer, np.floating)
        if any(not isinstance(each, numbers) or isinstance(each, bool) for each in array.ravel().tolist()):
            odd = next(e for e in array.ravel().tolist() if not isinstance(e, numbers) or isinstance(e, bool))
            raise _refusal(name, f"{_kind(value)} with {_short(odd)} in it", f"numbers {expected}")
        whole = all(isinstance(each, (int, np.integer)) for each in array.ravel().tolist())
        try:
            array = array.astype(np.int64 if whole else np.float64)
        except OverflowError:
            raise _refusal(name, "integers beyond 64 bits", f"numbers {expected}") from None
    if array.dtype.kind not in "biufc":
        raise _refusal(name, f"{_kind(value)} of dtype {array.dtype}, shape {list(array.shape)}", f"numbers {expected}")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    if array.dtype.kind == "c":
        raise _refusal(name, f"complex numbers ({array.dtype}) {list(array.shape)}", f"real numbers {expected}")
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise _refusal(name, f"integers up to {array.max()}", f"numbers {expected}")
    # torch takes neither foreign byte orders, nor negative strides, nor read-only memory (without a warning).
    plain = np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True)
    if plain.dtype.kind == "u":
        plain = plain.astype(np.int64)
    return torch.from_numpy(plain)


def _dense(tensor: Tensor, name: str, expected: str) -> Tensor:
    tensor = tensor.detach()
    if tensor.is_meta:
        raise _refusal(name, f"a tensor {_shape(tensor)} on the device 'meta', without values", f"numbers {expected}")
    if tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized:
        what = "quantized" if tensor.is_quantized else "nested" if tensor.is_nested else str(tensor.layout)
        raise _refusal(name, f"a tensor that is {what}", f"a dense one {expected}: .dequantize() or .to_dense()")
    return tensor.resolve_conj().resolve_neg()


def _without_tensors(value: list[Any] | tuple[Any, ...], name: str, expected: str, depth: int = 0) -> list[Any]:
    """Tensors inside lists as arrays, which numpy can stack."""
    if depth > 8:
        raise _refusal(name, "lists within lists without end", f"numbers {expected}")
    out: list[Any] = []
    for each in value:
        if isinstance(each, Tensor):
            dense = _dense(each, name, expected).cpu()
            if dense.dtype == torch.bfloat16:  # numpy has none
                _warn_coarse(name, dense.dtype)
                dense = dense.float()
            each = dense.double().numpy() if dense.is_floating_point() and dense.element_size() < 2 else dense.numpy()
        elif isinstance(each, (list, tuple)):
            each = _without_tensors(each, name, expected, depth + 1)
        out.append(each)
    return out


def _warn_coarse(name: str, dtype: torch.dtype) -> None:
    warnings.warn(
        f"{name} came as {dtype}: values from 0.5 to 1 m stand {_COARSE[dtype]} apart there, so they were rounded "
        "before they came here. They are coded as they are; keep float32 from the data to the tokenizer",
        CoarseInputWarning,
        stacklevel=caller(),
    )


def _int64(tensor: Tensor, name: str, expected: str) -> Tensor:
    if tensor.dtype == torch.uint64 and tensor.numel():
        largest = int(tensor.cpu().numpy().max())
        if largest > torch.iinfo(torch.int64).max:
            raise _refusal(name, f"integers up to {largest}", f"numbers {expected}")
    return tensor.to(torch.int64)


def _check_rank(tensor: Tensor, name: str, expected: str, ndim: int | None) -> None:
    if ndim is not None and tensor.ndim != ndim:
        raise ValueError(f"{name} have shape {_plain(tensor)}; expected {expected}")


def _refusal(name: str, found: str, expected: str) -> ValueError:
    return ValueError(f"{name}: found {found}; expected {expected}")


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _short(value: Any) -> str:
    if isinstance(value, (np.ndarray, Tensor)) and value.ndim:
        return f"an array of shape {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _plain(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


def _shape(tensor: Tensor) -> str:
    return str(list(tensor.shape))
