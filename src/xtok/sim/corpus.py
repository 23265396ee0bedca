"""Corpora: demonstrations of many cells, Easy and Hard, with a manifest and a data card.

Two arms and two tasks are marked held out: no tokenizer is ever trained on them, so that what they show is transfer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from xtok.atomic import atomic_write
from xtok.sim.arms import HELD_OUT_ARMS, get_arm
from xtok.sim.manifest import Manifest, SourceJson
from xtok.sim.recorder import MANIFEST, Request, record
from xtok.sim.suite import Cell, cells
from xtok.sim.tasks.names import CORPUS_SINGLE_TASKS, HELD_OUT_TASKS

CARD = "README.md"
CRF, GOP_FRAMES = 28, 120  # a little smaller than a recording's own: one key frame in most episodes


@dataclass(frozen=True)
class Corpus:
    """A named choice of cells. episodes: about so many in all. megabytes: what it may weigh."""

    name: str
    episodes: int
    megabytes: int
    holds: Callable[[Cell], bool]


_FIRST_ARMS = ("Panda", "UR5e", "IIWA", "Kinova3", "XArm7")
CORPORA: dict[str, Corpus] = {
    corpus.name: corpus
    for corpus in (
        Corpus("corpus-s", episodes=3000, megabytes=250, holds=lambda cell: True),
        # Stays what it was when the suite grows: earlier weights learnt from it.
        Corpus(
            "corpus-single",
            episodes=2000,
            megabytes=200,
            holds=lambda cell: cell.task in CORPUS_SINGLE_TASKS and cell.arm in _FIRST_ARMS,
        ),
    )
}
SOURCES: tuple[SourceJson, ...] = (
    {"name": "robosuite 1.5.2 (simulation, arm models)", "licence": "MIT"},
    {"name": "MuJoCo 3.3.0 (physics and rendering)", "licence": "Apache-2.0"},
    {"name": "xtok.sim (scenes, scripted experts, words)", "licence": "Apache-2.0"},
)


def get_corpus(name: str) -> Corpus:
    """The corpus called `name`.

    Raises:
        ValueError: an unknown name; the message lists all.
    """
    if name in CORPORA:
        return CORPORA[name]
    close = get_close_matches(name, CORPORA, n=1, cutoff=0.4)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"unknown corpus {name!r}{hint} Expected one of {list(CORPORA)}")


def corpus_request(corpus: Corpus, episodes: int | None = None, video: bool = True) -> Request:
    """About `episodes` in all, as many of each of the corpus's cells and levels; without video, motion and words alone.

    Raises:
        ValueError: fewer episodes than there are cells and levels.
    """
    episodes = corpus.episodes if episodes is None else episodes
    chosen = sorted(((cell.task, cell.arm) for cell in cells() if corpus.holds(cell)), key=lambda cell: cell[1])
    each = round(episodes / (2 * len(chosen)))
    if each < 1:
        raise ValueError(f"{episodes} episodes are less than one for each of {len(chosen)} cells on two levels")
    return Request(tuple(chosen), ("easy", "hard"), each, video=video, crf=CRF, gop=GOP_FRAMES)


def make_corpus(
    corpus: Corpus,
    request: Request,
    out: Path,
    workers: int = 1,
    progress: Callable[[int], Any] | None = None,
    remark: Callable[[str], Any] | None = None,
) -> Manifest:
    """Record the corpus into `out`, or go on where it was stopped; writes the card, returns the manifest."""
    manifest = record(request, out, workers, progress, remark)
    if manifest.get("name") != corpus.name:
        tasks = {task for task, _ in request.cells}
        manifest = {
            "name": corpus.name,
            "held_out": {
                "arms": [arm for arm in HELD_OUT_ARMS if arm in request.arms],
                "tasks": [task for task in HELD_OUT_TASKS if task in tasks],
            },
            "licence": "Apache-2.0",
            "sources": _sources(request),
            **manifest,
        }
        atomic_write(out / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    atomic_write(out / CARD, card(manifest))
    if manifest["bytes"] > corpus.megabytes * 1_000_000 and remark is not None:
        remark(f"the corpus weighs {manifest['bytes'] / 1e6:.0f} MB; it should stay below {corpus.megabytes} MB")
    return manifest


def _sources(request: Request) -> list[SourceJson]:
    """What the pictures show and who made it, with licences."""
    arms = {arm.name: arm for name in request.arms for arm in get_arm(name).arms.values()}
    more = ", ".join(name for name, arm in arms.items() if arm.package)
    models = SourceJson(name=f"robosuite_models 1.0.0 (models of {more})", licence="MIT, as its package declares")
    return [*SOURCES, *([models] if more else [])]


def card(manifest: Manifest) -> str:
    """The data card, from the manifest alone."""
    held_out, request = manifest["held_out"], manifest["request"]
    arms_out = {arm for arm in manifest["arms"] if any(one in held_out["arms"] for one in arm.split("_"))}
    trainable = sum(
        len(cell["seeds"])
        for cell in manifest["cells"]
        if cell["arm"] not in arms_out and cell["task"] not in held_out["tasks"]
    )
    skipped = sum(len(cell["seeds_skipped_expert_failed"]) for cell in manifest["cells"])
    arms = "\n".join(
        f"| `{entry['folder']}` | {arm}{' (held out)' if arm in arms_out else ''} | {entry['robot_type']} | "
        f"{entry['episodes']} | {entry['frames']} | {entry['hours']:.2f} |"
        for arm, entry in manifest["arms"].items()
    )
    by_task: dict[str, int] = {}
    for cell in manifest["cells"]:
        by_task[cell["task"]] = by_task.get(cell["task"], 0) + len(cell["seeds"])
    tasks = "\n".join(
        f"| {task}{' (held out)' if task in held_out['tasks'] else ''} | {count} |" for task, count in by_task.items()
    )
    sources = "\n".join(f"- {source['name']}: {source['licence']}" for source in manifest["sources"])
    kept = " and ".join(f"{what} **{', '.join(held_out[what])}**" for what in ("arms", "tasks") if held_out[what])
    versions = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items() if version)
    size = f"{request['image_size']} x {request['image_size']} pixels"
    films = (
        "- `observation.images.{scene,front,wrist}`, with two arms `{scene,left_wrist,right_wrist}`: "
        f"{size}, H.264."
        if request["video"]
        else "- No pictures: it was recorded with `--no-video`."
    )
    return f"""# {manifest["name"]}

{manifest["episodes"]} demonstrations of scripted experts in simulation, {manifest["hours"]:.2f} hours,
{manifest["bytes"] / 1e6:.1f} MB. LeRobot v3.0, one folder an arm, 20 frames a second. {len(request["cells"])} cells of
task and arm, {request["episodes"]} episodes of each on {" and ".join(request["levels"])}.

| folder | arm | robot_type | episodes | frames | hours |
|---|---|---|---|---|---|
{arms}

| task | episodes |
|---|---|
{tasks}

## Held out

No tokenizer is trained on {kept or "anything here"}. {trainable} episodes are of neither.
Unseen phrasings of the instructions and the looks of the evaluation split are nowhere in this corpus.

## What is in a frame

- `observation.state`: achieved pose of each grip site in its own arm's base frame (m, 6D rotation) and measured opening
  of each gripper (0 closed .. 1 open), before the step.
- `action`: the goal that the expert commanded for the step, in the same channels.
{films}
- `task_index`: the instruction; `subtask_index`: what the expert was doing (`meta/subtasks.parquet`).
- `meta/episodes`: besides LeRobot's own columns `env_task`, `level`, `env_split`, `seed`, which give the episode again.

## How it was made

`xtok sim corpus {manifest["name"]} -o DIR`; {skipped} seeds were left out because the expert failed. {versions}.

## Sources and licences

{sources}

The corpus itself: {manifest["licence"]}. `manifest.json` has the sha256 of every file.

## Limits

Scripted experts move more regularly than people. Rigid objects, one table, no clutter on Easy. Cameras are small and
without shadows or reflections.
"""
