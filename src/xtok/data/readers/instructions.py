"""What a set says in words of an episode, all of it: several wordings of one task, or one task after another.

# N frames of the episode
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from xtok.data.episode import Segment
from xtok.data.order import Remark


@dataclass(frozen=True)
class Instructions:
    """instruction: the first wording that says something; of several tasks one after another all of them, "a; b".
    wordings: every different wording, () where there is but one. spans: which task is on when, where it changes."""

    instruction: str
    wordings: tuple[str, ...] = ()
    spans: tuple[Segment, ...] = ()
    remarks: tuple[Remark, ...] = ()


def of_wordings(texts: Sequence[str]) -> Instructions:
    """Several wordings of the same."""
    found = tuple(dict.fromkeys(text.strip() for text in texts if text.strip()))
    return Instructions(found[0] if found else "", found if len(found) > 1 else ())


def of_labels(labels_N: np.ndarray, texts: Mapping[int, Sequence[str]]) -> Instructions:
    """A label a frame. texts: the wordings of each label. Frames whose label has no words are in no span."""
    cuts = [0, *(np.flatnonzero(np.diff(labels_N)) + 1).tolist(), len(labels_N)]
    said = {label: of_wordings(texts[label]) for label in dict.fromkeys(labels_N.tolist())}
    if len(said) == 1:
        return next(iter(said.values()))
    runs = [Segment(a, b, said[int(labels_N[a])].instruction) for a, b in pairwise(cuts)]
    spans: list[Segment] = []
    for run in (run for run in runs if run.text):
        if spans and spans[-1].text == run.text and spans[-1].end == run.start:
            spans[-1] = Segment(spans[-1].start, run.end, run.text)
        else:
            spans.append(run)
    tasks = tuple(dict.fromkeys(span.text for span in spans))
    every = of_wordings([text for label in said for text in texts[label]]).wordings
    if len(tasks) < 2:
        return Instructions(tasks[0] if tasks else "", every)
    text = (
        f"the task changes within the episode ({len(tasks)} tasks): all are in its instruction, its spans are sub-tasks"
    )
    return Instructions("; ".join(tasks), every, tuple(spans), (Remark("tasks", text),))
