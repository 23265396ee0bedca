"""What a run tells while it goes on: lines of JSON in metrics.jsonl, and the trackers that were asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xtok.atomic import atomic_write
from xtok.write_errors import telling

if TYPE_CHECKING:
    from accelerate import Accelerator

METRICS = "metrics.jsonl"


class Metrics:
    """Written by the first process alone."""

    def __init__(self, out: Path, accelerator: Accelerator) -> None:
        self.path, self._accelerator = out / METRICS, accelerator

    def log(self, step: int, content: Mapping[str, object], once: bool = False) -> None:
        """content: JSON. Numbers in it, in lists and mappings too, also go to the trackers. once: not a second time,
        where a run that had come to its end is gone on with.

        Raises:
            WriteError: it cannot be written; a line that was cut short is left out when the run goes on.
        """
        if not self._accelerator.is_main_process:
            return
        line = json.dumps({"step": step, **content})
        if not (once and self.path.exists() and line in self.path.read_text(encoding="utf-8").splitlines()):
            with telling(self.path), self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        if self._accelerator.trackers:
            self._accelerator.log(dict(flat(content)), step=step)

    def forget_after(self, step: int) -> None:
        """Lines that a resumed run will write again; what a crash or a full disk cut short, too."""
        if self._accelerator.is_main_process and self.path.exists():
            text = self.path.read_text(encoding="utf-8")
            kept = "".join(line + "\n" for line in text.split("\n") if _step_of(line) <= step)
            if kept != text:
                atomic_write(self.path, kept)


def _step_of(line: str) -> float:
    """Of a line of the log; infinity for one that is not whole."""
    try:
        content: Any = json.loads(line)
    except ValueError:
        return math.inf
    return content["step"] if isinstance(content, dict) and "step" in content else math.inf


def flat(content: Mapping[str, object], before: str = "") -> Iterator[tuple[str, float]]:
    """Numbers by name; those in lists and mappings as name/place."""
    for name, value in content.items():
        if isinstance(value, int | float):
            yield f"{before}{name}", float(value)
        elif isinstance(value, Mapping):
            yield from flat({str(key): each for key, each in value.items()}, f"{before}{name}/")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield from flat({str(i): each for i, each in enumerate(value)}, f"{before}{name}/")
