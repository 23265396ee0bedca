"""How far is the decoded motion from the real one: the errors of `xtok.evaluate.errors`, and rows that do not
decode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict

from xtok.actions.statistics import Statistics
from xtok.evaluate.coded import Coded
from xtok.evaluate.errors import measure


def run(coded: Coded, statistics: Mapping[str, Statistics]) -> Iterator[tuple[str, float | None]]:
    """The five errors, and `decode_failures`: rows whose codes held no motion, which count as standing still."""
    yield from asdict(measure(coded.chunks, coded.actions, statistics)).items()
    yield "decode_failures", int(coded.actions.failed_B.sum())
