"""corpus-single: demonstrations of every supported cell, Easy and Hard, with a manifest and a data card.

One arm and one task are marked held out: no tokenizer is ever trained on them, so that what they show is transfer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from xtok.sim.arms import HELD_OUT_ARM
from xtok.sim.recorder import MANIFEST, Request, record
from xtok.sim.suite import cells
from xtok.sim.tasks.names import CORPUS_SINGLE_TASKS, HELD_OUT_TASK
from xtok.whole import write_whole

NAME, CARD = "corpus-single", "README.md"
MEGABYTES = 200  # what the corpus may weigh
EPISODES = 2000
CRF, GOP_FRAMES = 28, 120  # a little smaller than a recording's own: one key frame in most episodes
SOURCES = (
    {"name": "robosuite 1.5.2 (simulation, arm models)", "licence": "MIT"},
    {"name": "MuJoCo 3.3.0 (physics and rendering)", "licence": "Apache-2.0"},
    {"name": "xtok.sim (scenes, scripted experts, words)", "licence": "Apache-2.0"},
)


def corpus_request(episodes: int = EPISODES) -> Request:
    """About `episodes` in all, as many of each level and single-arm cell of the first eight tasks: the corpus that the
    shipped weights know stays what it is when the suite grows.

    Raises:
        ValueError: fewer episodes than there are cells and levels.
    """
    chosen = [(cell.task, cell.arm) for cell in cells(dual=False) if cell.task in CORPUS_SINGLE_TASKS]
    supported = tuple(sorted(chosen, key=lambda cell: cell[1]))
    each = round(episodes / (2 * len(supported)))
    if each < 1:
        raise ValueError(f"{episodes} episodes are less than one for each of {len(supported)} cells on two levels")
    return Request(supported, ("easy", "hard"), each, crf=CRF, gop=GOP_FRAMES)


def make_corpus(
    request: Request,
    out: Path,
    workers: int = 1,
    progress: Callable[[int], Any] | None = None,
    remark: Callable[[str], Any] | None = None,
) -> dict[str, Any]:
    """Record the corpus into `out`, or go on where it was stopped; writes the card, returns the manifest."""
    manifest = record(request, out, workers, progress, remark)
    if manifest.get("name") != NAME:
        manifest = {
            "name": NAME,
            "held_out": {"arm": HELD_OUT_ARM, "task": HELD_OUT_TASK},
            "licence": "Apache-2.0",
            "sources": list(SOURCES),
            **manifest,
        }
        write_whole(out / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    write_whole(out / CARD, card(manifest))
    if manifest["bytes"] > MEGABYTES * 1_000_000 and remark is not None:
        remark(f"the corpus weighs {manifest['bytes'] / 1e6:.0f} MB; it should stay below {MEGABYTES} MB")
    return manifest


def card(manifest: Mapping[str, Any]) -> str:
    """The data card, from the manifest alone."""
    held_out, request = manifest["held_out"], manifest["request"]
    trainable = sum(
        len(cell["seeds"])
        for cell in manifest["cells"]
        if held_out["arm"] != cell["arm"] and held_out["task"] != cell["task"]
    )
    skipped = sum(len(cell["seeds_skipped_expert_failed"]) for cell in manifest["cells"])
    arms = "\n".join(
        f"| `{entry['folder']}` | {arm}{' (held out)' if arm == held_out['arm'] else ''} | {entry['robot_type']} | "
        f"{entry['episodes']} | {entry['frames']} | {entry['hours']:.2f} |"
        for arm, entry in manifest["arms"].items()
    )
    by_task: dict[str, int] = {}
    for cell in manifest["cells"]:
        by_task[cell["task"]] = by_task.get(cell["task"], 0) + len(cell["seeds"])
    tasks = "\n".join(
        f"| {task}{' (held out)' if task == held_out['task'] else ''} | {count} |" for task, count in by_task.items()
    )
    sources = "\n".join(f"- {source['name']}: {source['licence']}" for source in manifest["sources"])
    versions = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items() if version)
    size = f"{request['image_size']} x {request['image_size']} pixels"
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

Arm **{held_out["arm"]}** and task **{held_out["task"]}**: no tokenizer is trained on them.
{trainable} episodes are neither.
Unseen phrasings of the instructions and the looks of the evaluation split are nowhere in this corpus.

## What is in a frame

- `observation.state`: achieved pose of the grip site in the robot's base frame (m, 6D rotation) and measured opening of
  the gripper (0 closed .. 1 open), before the step.
- `action`: the goal that the expert commanded for the step, in the same channels.
- `observation.images.{{scene,front,wrist}}`: {size}, H.264.
- `task_index`: the instruction; `subtask_index`: what the expert was doing (`meta/subtasks.parquet`).
- `meta/episodes`: besides LeRobot's own columns `env_task`, `level`, `env_split`, `seed`, which give the episode again.

## How it was made

`xtok sim corpus -o DIR`; {skipped} seeds were left out because the expert failed. {versions}.

## Sources and licences

{sources}

The corpus itself: {manifest["licence"]}. `manifest.json` has the sha256 of every file.

## Limits

Scripted experts move more regularly than people. Rigid objects, one table, no clutter on Easy. Cameras are small and
without shadows or reflections.
"""
