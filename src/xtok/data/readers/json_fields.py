"""JSON that a stranger wrote, asked for field by field: an error tells file, field, what is there, what should be."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_REQUIRED: Any = object()
_SHOWN = 80  # characters of a wrong value in a message
COUNT_MAX = 10**12  # of anything in a data set: beyond any robot's life


class Fields:
    """One JSON object. where: the file, and the line in it, for messages.

    Raises:
        ValueError: it is no object; by every method, a field that is missing or of another kind.
    """

    def __init__(self, content: Any, where: str) -> None:
        if not isinstance(content, dict):
            raise ValueError(f"{where} holds {_shown(content)}; expected an object, {{...}}")
        self._content, self.where = content, where

    def __contains__(self, name: str) -> bool:
        """Whether a field is there and not null."""
        return self._content.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def raw(self, name: str, expected: str, default: Any = _REQUIRED) -> Any:
        """The field as it is. A default also stands for null."""
        value = self._content.get(name)
        if value is None and default is not _REQUIRED:
            return default
        if name not in self._content:
            raise ValueError(f"{self.where} has no {name!r}; expected {expected}; add it there")
        return value

    def text(self, name: str, expected: str = "a text", default: Any = _REQUIRED) -> Any:
        value = self.raw(name, expected, default)
        return value if value is default or isinstance(value, str) else self.refuse(name, value, expected)

    def whole(
        self, name: str, expected: str = "a whole number", low: int = 0, high: int = COUNT_MAX, default: Any = _REQUIRED
    ) -> Any:
        """An integer from low to high; 3.0 is one too, as pandas writes it."""
        value = self.raw(name, expected, default)
        if value is default:
            return value
        number = int(value) if isinstance(value, float) and value.is_integer() else value
        if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
            self.refuse(name, value, expected)
        return number

    def number(self, name: str, expected: str, low: float, high: float, default: Any = _REQUIRED) -> Any:
        """A finite number above low, up to high."""
        value = self.raw(name, expected, default)
        if value is default:
            return value
        if isinstance(value, bool) or not isinstance(value, int | float) or not low < value <= high:
            self.refuse(name, value, expected)
        return float(value)

    def texts(self, name: str, expected: str = "a list of texts", default: Any = _REQUIRED) -> Any:
        """A tuple of texts; one text alone is a list of one."""
        value = self.raw(name, expected, default)
        if value is default:
            return value
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
            self.refuse(name, value, expected)
        return tuple(value)

    def inner(self, name: str, expected: str = "an object, {...}") -> Fields:
        value = self.raw(name, expected)
        return Fields(value, f"{self.where}, {name}") if isinstance(value, dict) else self.refuse(name, value, expected)

    def refuse(self, name: str, value: Any, expected: str) -> Any:
        raise ValueError(f"{self.where}: {name} is {_shown(value)}; expected {expected}; repair it there")


def read_json(path: Path, what: str) -> Any:
    """The content of a JSON file. what: what the file is, for the message.

    Raises:
        ValueError: there is none, or it is no JSON, with line and column.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {path}: {error}; expected {what}; repair it or get it again") from error


def read_json_lines(path: Path, what: str) -> list[tuple[str, Any]]:
    """(where, content) of each line that holds something; where a line is no JSON, the content is the ValueError that
    says so, since the other lines may be sound.

    Raises:
        ValueError: there is no such file, or it is no text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # not splitlines: a text may hold its separators
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {error}; expected {what}; get it again") from error
    out: list[tuple[str, Any]] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            out.append((f"{path}, line {number}", _line(line, path, number, what)))
    return out


def _line(line: str, path: Path, number: int, what: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        column = f", column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        return ValueError(
            f"cannot read {path}, line {number}{column}: {reason}, in {line[:_SHOWN]!r}; expected {what}; "
            "repair or remove that line"
        )


def _shown(value: Any) -> str:
    """A value as a person would look for it in the file, cut to a sane length."""
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
