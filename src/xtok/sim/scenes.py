"""Pictures to learn from: each scene is rendered once, at several moments and from several cameras, with all questions.

OUT/<task>-<arm>-<level>-<number>.parquet, a row a picture. A file is written whole or not at all, so a run that was
stopped goes on with the files that are missing. Nothing is balanced here: who learns draws kinds and answers evenly.

# S side of a picture in pixels
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image

from xtok.atomic import atomic_file
from xtok.sim.arms import PairSpec, get_arm
from xtok.sim.ask import Question, ask
from xtok.sim.env import SimEnv
from xtok.sim.props import COLOURS
from xtok.sim.questions import PAIR_SHARE, STEPS_MAX, VIEWS
from xtok.sim.recorder import seeds
from xtok.sim.suite import is_held_out
from xtok.sim.variation import LEVELS, Level, Split
from xtok.sim.workers import EpisodeSpec, environment

MOMENTS = 4  # of an episode in which the expert acts
WRIST_SHARE = 0.4  # of moments that are also seen from a hand
WRIST_KINDS = ("point", "target")  # all that a hand's camera shows enough of
ROUNDS = 2  # files of a cell and level, so that a run that is stopped early has seen all cells
SPLIT: Split = "train"  # the only one that is learned from


@dataclass(frozen=True)
class SceneFile:
    """A file of OUT: episodes of one cell and level."""

    task: str
    arm: str
    level: Level
    seeds: tuple[int, ...]
    number: int

    @property
    def name(self) -> str:
        return f"{self.task}-{self.arm}-{self.level}-{self.number}.parquet"


def scene_files(cells: Sequence[tuple[str, str]], episodes: int) -> list[SceneFile]:
    """Files of so many episodes of each cell and level: the first of all cells, then the second of all, ...

    Raises:
        ValueError: a held-out arm or task among the cells.
    """
    for task, arm in cells:
        if is_held_out(task, arm):
            raise ValueError(f"{task} with {arm} is held out; nothing is trained on it")
    each = -(-episodes // ROUNDS)
    parts = []
    for task, arm in cells:
        for level in LEVELS:
            chosen = tuple(islice(seeds(task, arm, level, SPLIT), episodes))
            parts += [
                SceneFile(task, arm, level, chosen[number * each : (number + 1) * each], number)
                for number in range(ROUNDS)
            ]
    return sorted((part for part in parts if part.seeds), key=lambda part: part.number)


def write_scenes(part: SceneFile, out: Path, image_size: int) -> int:
    """Render a file's episodes; returns how many pictures it has."""
    rows: list[dict[str, Any]] = []
    for seed in part.seeds:
        spec = EpisodeSpec(part.task, part.arm, part.level, SPLIT, seed)
        for step, env, rng in moments(spec, image_size):
            rows += [{**row, "seed": seed, "step": step} for row in pictures(env, rng)]
    about = {"task": part.task, "arm": part.arm, "level": part.level, "split": SPLIT}
    table = pyarrow.Table.from_pylist([{**row, **about} for row in rows], schema=SCHEMA)
    with atomic_file(out / part.name) as draft:
        pyarrow.parquet.write_table(table, draft, compression="zstd")
    return len(rows)


def moments(spec: EpisodeSpec, image_size: int) -> Iterator[tuple[int, SimEnv, np.random.Generator]]:
    """Steps at which an episode is looked at, with its environment then: its start alone, in every second episode,
    which costs no simulation; else `MOMENTS` while the expert acts.
    """
    env = environment(spec, views=False, image_size=image_size)
    env.reset(seed=spec.seed, options={"split": spec.split})
    rng = np.random.default_rng([spec.seed, len(spec.task), len(spec.arm)])
    if rng.integers(2):
        yield 0, env, rng
        return
    longest = env.max_steps // PAIR_SHARE if isinstance(get_arm(spec.arm), PairSpec) else STEPS_MAX
    wanted = sorted(rng.choice(np.arange(5, longest), MOMENTS, replace=False).tolist())
    expert, over, steps = env.expert(), False, 0
    for moment in wanted:
        while steps < moment and not over:
            _, _, terminated, truncated, _ = env.step(expert.goal()[None])
            over, steps = terminated or truncated, steps + 1
        yield steps, env, rng
        if over:
            return


def pictures(env: SimEnv, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Rows of a moment: both fixed cameras, sometimes a hand's; not those of which nothing can be asked."""
    rendered, facts, aims = env.render_views(), env.facts(), env.aims()
    wrists = [view for view in rendered if view not in VIEWS]
    views = [*VIEWS, *([wrists[int(rng.integers(len(wrists)))]] if rng.random() < WRIST_SHARE else [])]
    for view in views:
        masks, hands = env.seen(view)
        asked = ask(facts, masks, tuple(COLOURS), rng, env.level == "hard", hands, aims)
        if view in wrists:
            asked = [question for question in asked if question.kind in WRIST_KINDS]
        if asked:
            labels, questions = labelled(masks, hands, asked)
            names = [fact.name for fact in facts]
            told = [{**vars(fact), "position_m": np.asarray(fact.position_m).tolist()} for fact in facts]
            yield {
                "picture": png(rendered[view]),
                "labels": png(labels),
                "things": [*names, *hands],
                "facts": json.dumps(told),
                "questions": json.dumps(questions),
                "instruction": env.instruction,
                "subtask": env.subtask,
                "view": view,
            }


def labelled(
    masks: Mapping[str, np.ndarray], hands: Mapping[str, np.ndarray], asked: Sequence[Question]
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """uint8 [S, S]: 1 + the number of the thing (props, then hands) that a pixel shows, 0 for none; and questions,
    those that point by the numbers of the things that are right.
    """
    every = {**masks, **hands}
    labels = np.zeros(next(iter(every.values())).shape, np.uint8)
    for number, mask in enumerate(every.values(), start=1):
        labels[mask] = number
    questions = []
    for question in asked:
        things = None
        if question.mask is not None:
            things = [number - 1 for number in np.unique(labels[question.mask]).tolist()]
        row = {"kind": question.kind, "question": question.text, "answer": question.answer}
        questions.append({**row, "choices": list(question.choices), "things": things})
    return labels, questions


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def thinned(cells: Sequence[tuple[str, str]], arms_each: int) -> list[tuple[str, str]]:
    """At most so many arms of each task, other ones for each, as building a scene takes seconds; tasks in turns."""
    by_task: dict[str, list[str]] = {}
    for task, arm in cells:
        by_task.setdefault(task, []).append(arm)
    starts = {task: turn * arms_each % len(by_task[task]) for turn, task in enumerate(by_task)}
    return [
        (task, arms[(starts[task] + i) % len(arms)])
        for i in range(arms_each)
        for task, arms in by_task.items()
        if i < len(arms)
    ]


SCHEMA = pyarrow.schema(
    {
        "picture": pyarrow.binary(),  # PNG, RGB
        "labels": pyarrow.binary(),  # PNG, 1 + number of the thing
        "things": pyarrow.list_(pyarrow.string()),
        **dict.fromkeys(("facts", "questions"), pyarrow.string()),  # JSON
        **dict.fromkeys(("instruction", "subtask", "view", "task", "arm", "level", "split"), pyarrow.string()),
        "seed": pyarrow.int64(),
        "step": pyarrow.int64(),
    }
)
