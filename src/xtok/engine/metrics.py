"""What a run tells while it goes on: lines of JSON in metrics.jsonl, and the trackers that were asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelerate import Accelerator

METRICS = "metrics.jsonl"


class Metrics:
    """Written by the first process alone."""

    def __init__(self, out: Path, accelerator: Accelerator) -> None:
        self.path, self._accelerator = out / METRICS, accelerator

    def log(self, step: int, content: Mapping[str, object]) -> None:
        """content: JSON. Numbers in it, in lists and mappings too, also go to the trackers."""
        if not self._accelerator.is_main_process:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **content}) + "\n")
        if self._accelerator.trackers:
            self._accelerator.log(dict(flat(content)), step=step)

    def forget_after(self, step: int) -> None:
        """Lines that a resumed run will write again; a line cut short by a crash, too."""
        if self._accelerator.is_main_process and self.path.exists():
            lines = [line for line in self.path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
            kept = [line for line in lines if json.loads(line)["step"] <= step]
            self.path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")


def flat(content: Mapping[str, object], before: str = "") -> Iterator[tuple[str, float]]:
    """Numbers by name; those in lists and mappings as name/place."""
    for name, value in content.items():
        if isinstance(value, int | float):
            yield f"{before}{name}", float(value)
        elif isinstance(value, Mapping):
            yield from flat({str(key): each for key, each in value.items()}, f"{before}{name}/")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield from flat({str(i): each for i, each in enumerate(value)}, f"{before}{name}/")
