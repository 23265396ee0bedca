"""Expert episodes as LeRobot v3.0 folders, one a robot. Killed at any moment, it goes on where it was.

Each episode is filmed into a folder of its own in DIR/.staging, written whole or not at all. When enough have succeeded
they are joined into DIR/<arm>, and the staging folder goes; DIR has the same bytes however often it was stopped and
however many workers there were: the episodes are the first N seeds on which the expert succeeds.

# N frames of an episode, D channels of arms26, W channels that the robot has, C colours, V values of a byte
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xtok.actions.layout import ARMS26
from xtok.atomic import atomic_folder, atomic_write
from xtok.data.episode import Segment
from xtok.data.features import ACTION, STATE
from xtok.data.media.video_write import CRF, GOP_FRAMES, film_writer
from xtok.data.writers.lerobot import EpisodeRecord, Film, write_folder
from xtok.provenance import versions
from xtok.sim.arms import get_arm, is_held_out
from xtok.sim.manifest import ArmJson, FileJson, Manifest
from xtok.sim.staging import STAGING, open_staging
from xtok.sim.suite import get_cell
from xtok.sim.tasks.names import HELD_OUT_TASKS
from xtok.sim.workers import EVAL_SEED, EpisodeSpec, environment, run_jobs

if TYPE_CHECKING:
    from xtok.sim.variation import Level, Split

CAMERA = "observation.images."
ACTION_SOURCES = {STATE: "achieved", ACTION: "commanded"}
MANIFEST = "manifest.json"
_FAILED = ".failed"
_TRIES = 3  # seeds tried for each episode wanted, before a cell is given up


@dataclass(frozen=True)
class Request:
    """What to record. cells: (task, arm). episodes: of each cell and level. image_size: pixels. video: False for none.

    crf, gop: quality of H.264 and frames between key frames.
    """

    cells: tuple[tuple[str, str], ...]
    levels: tuple[Level, ...]
    episodes: int
    split: Split = "train"
    image_size: int = 96
    video: bool = True
    crf: int = CRF
    gop: int = GOP_FRAMES

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @property
    def arms(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(arm for _, arm in self.cells))


@dataclass(frozen=True)
class Job:
    episode: EpisodeSpec
    image_size: int
    video: bool
    crf: int
    gop: int


@dataclass
class Track:
    """The frames of an episode as it is lived. state_ND: before the step; goal_ND: what the step was asked for."""

    state_ND: list[np.ndarray] = field(default_factory=list)
    goal_ND: list[np.ndarray] = field(default_factory=list)
    subtask_N: list[str] = field(default_factory=list)
    success: bool = False

    def segments(self) -> tuple[Segment, ...]:
        texts = self.subtask_N
        cuts = [i for i in range(len(texts)) if i == 0 or texts[i] != texts[i - 1]]
        ends = [*cuts[1:], len(texts)]
        return tuple(Segment(start, end, texts[start]) for start, end in zip(cuts, ends, strict=True))


def seeds(task: str, arm: str, level: Level, split: Split) -> Iterator[int]:
    """Seeds of a cell in the order in which they are tried: on Easy its listed good ones, then those after them."""
    if split == "eval":
        yield from range(EVAL_SEED, 2 * EVAL_SEED)
        return
    listed = get_cell(task, arm).seeds if level == "easy" else ()
    yield from listed
    yield from range(max(listed, default=-1) + 1, EVAL_SEED)


def record_episode(job: Job, staging: Path) -> bool:
    """Let the expert act one episode and store it in `staging` under its name; returns whether it succeeded.

    An episode that failed leaves only a mark, so that it is not tried again.
    """
    spec = job.episode
    env = environment(spec, job.video, job.image_size)
    observation, _ = env.reset(seed=spec.seed, options={"split": spec.split})
    expert, track, mask_D = env.expert(), Track(), env.mask_D
    size = (job.image_size, job.image_size)
    with atomic_folder(staging / spec.name) as folder:
        with ExitStack() as stack:
            views = env.views if job.video else ()
            films = {
                view: stack.enter_context(
                    film_writer(folder / f"{view}.mp4", env.control_hz, size, crf=job.crf, gop=job.gop)
                )
                for view in views
            }
            over = False
            while not over:
                goal_D = expert.goal()
                for view, film in films.items():
                    film.add(observation[view])
                track.state_ND.append(np.asarray(observation["state"]))
                track.subtask_N.append(expert.subtask)
                observation, _, terminated, truncated, info = env.step(goal_D[None])
                track.goal_ND.append(np.asarray(info["commanded"])[-1])
                over = terminated or truncated
        track.success = bool(info["success"])
        if track.success:
            about = {
                "instruction": env.instruction,
                "control_hz": env.control_hz,
                "robot_type": env.embodiment,
                "segments": [asdict(segment) for segment in track.segments()],
                "channels": [name for name, used in zip(ARMS26.channel_names, mask_D, strict=True) if used],
                "size": size,
                "histograms": {view: film.histogram_CV.tolist() for view, film in films.items()},
            }
            arrays = {STATE: track.state_ND, ACTION: track.goal_ND}
            np.savez(folder / "frames.npz", **{k: np.stack(v)[:, mask_D].astype(np.float32) for k, v in arrays.items()})
            (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")
        else:
            for path in folder.iterdir():
                path.unlink()
            (folder / _FAILED).touch()
    return track.success


def record(request: Request, out: Path, workers: int = 1, progress: Any = None, remark: Any = None) -> Manifest:
    """Record into the folder `out`, or go on where a run with the same request was stopped; returns the manifest.

    progress: called with the number of episodes that are newly there. remark: called with a text for the user.

    Raises:
        ValueError: an unknown cell, a folder of another request, or a cell whose expert fails too often.
    """
    progress, remark = progress or (lambda _: None), remark or (lambda _: None)
    for task, arm in request.cells:
        get_cell(task, arm)
    if (done := out / MANIFEST).is_file():
        manifest: Manifest = json.loads(done.read_text(encoding="utf-8"))
        if manifest["request"] != json.loads(request.to_json()):
            raise ValueError(f"{out} holds a finished recording of another request; choose a new folder or remove it")
        shutil.rmtree(out / STAGING, ignore_errors=True)
        progress(request.episodes * len(request.cells) * len(request.levels))
        return manifest
    staging = open_staging(out, asdict(request), "a recording")
    taken, failed = _act(request, staging, workers, progress)
    for arm in request.arms:
        if not (out / folder_name(arm)).exists():
            remark(f"joining the episodes of {arm}")
            _join(request, arm, [spec for spec in taken if spec.arm == arm], staging, out / folder_name(arm))
    manifest = _manifest(request, taken, failed, out)
    atomic_write(done, json.dumps(manifest, indent=1) + "\n")
    shutil.rmtree(staging)
    return manifest


def folder_name(arm: str) -> str:
    return arm.lower()


def _act(
    request: Request, staging: Path, workers: int, progress: Any
) -> tuple[list[EpisodeSpec], dict[tuple[str, str, Level], list[int]]]:
    """Record until every cell has its episodes; returns them in their final order, and failed seeds by cell."""
    cells = [(task, arm, level) for task, arm in request.cells for level in request.levels]
    tried: dict[tuple[str, str, Level], list[int]] = {cell: [] for cell in cells}
    good: dict[EpisodeSpec, bool] = {}
    source = {cell: seeds(*cell, request.split) for cell in cells}
    work = partial(record_episode, staging=staging)

    def specs(cell: tuple[str, str, Level]) -> list[EpisodeSpec]:
        return [EpisodeSpec(*cell, request.split, seed) for seed in tried[cell]]

    while True:
        wanted: list[EpisodeSpec] = []
        for cell in cells:
            missing = request.episodes - sum(good[spec] for spec in specs(cell))
            if missing and len(tried[cell]) >= _TRIES * request.episodes + 20:
                raise ValueError(
                    f"the expert succeeded on {request.episodes - missing} of {len(tried[cell])} seeds of "
                    f"{'-'.join(cell)}, {request.episodes} are wanted; leave that cell out, or ask for fewer episodes"
                )
            new = [next(source[cell]) for _ in range(missing)]
            tried[cell] += new
            wanted += [EpisodeSpec(*cell, request.split, seed) for seed in new]
        if not wanted:
            break
        jobs = []
        for spec in wanted:
            if (folder := staging / spec.name).is_dir():
                good[spec] = not (folder / _FAILED).exists()
                progress(int(good[spec]))
            else:
                jobs.append(Job(spec, request.image_size, request.video, request.crf, request.gop))
        for job, success in run_jobs(work, jobs, workers):
            good[job.episode] = success
            progress(int(success))
    taken = [spec for cell in cells for spec in specs(cell) if good[spec]]
    return taken, {cell: [spec.seed for spec in specs(cell) if not good[spec]] for cell in cells}


def _join(request: Request, arm: str, episodes: Sequence[EpisodeSpec], staging: Path, target: Path) -> None:
    first = json.loads((staging / episodes[0].name / "about.json").read_text(encoding="utf-8"))
    tasks = {task for task, _ in request.cells}
    names = dict.fromkeys((STATE, ACTION), first["channels"])
    with atomic_folder(target, beside=staging) as folder:
        folder.rmdir()  # write_folder makes it
        write_folder(
            folder,
            (_load(spec, staging) for spec in episodes),
            robot_type=get_arm(arm).embodiment,
            fps=first["control_hz"],
            names=names,
            action_source=ACTION_SOURCES,
            held_out={"robot": is_held_out(arm), "tasks": [task for task in HELD_OUT_TASKS if task in tasks]},
        )


def _load(spec: EpisodeSpec, staging: Path) -> EpisodeRecord:
    folder = staging / spec.name
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    with np.load(folder / "frames.npz", allow_pickle=False) as arrays:
        vectors = {key: arrays[key] for key in (STATE, ACTION)}
    films = {
        CAMERA + view: Film(folder / f"{view}.mp4", tuple(about["size"]), np.array(histogram, dtype=np.int64))
        for view, histogram in about["histograms"].items()
    }
    segments = tuple(Segment(**segment) for segment in about["segments"])
    more: dict[str, str | int] = {
        "env_task": spec.task,
        "level": spec.level,
        "env_split": spec.split,
        "seed": spec.seed,
    }
    return EpisodeRecord(vectors, about["instruction"], segments, films, more)


def _manifest(
    request: Request,
    taken: Sequence[EpisodeSpec],
    failed: dict[tuple[str, str, Level], list[int]],
    out: Path,
) -> Manifest:
    arms: dict[str, ArmJson] = {}
    for arm in request.arms:
        info = json.loads((out / folder_name(arm) / "meta/info.json").read_text(encoding="utf-8"))
        arms[arm] = {
            "folder": folder_name(arm),
            "robot_type": info["robot_type"],
            "episodes": info["total_episodes"],
            "frames": info["total_frames"],
            "hours": round(info["total_frames"] / info["fps"] / 3600, 4),
        }
    files: dict[str, FileJson] = {
        str(path.relative_to(out)): {"bytes": path.stat().st_size, "sha256": digest(path)}
        for arm in request.arms
        for path in sorted((out / folder_name(arm)).rglob("*"))
        if path.is_file()
    }
    return {
        "request": json.loads(request.to_json()),
        "action_source": ACTION_SOURCES,
        "episodes": sum(arm["episodes"] for arm in arms.values()),
        "frames": sum(arm["frames"] for arm in arms.values()),
        "hours": round(sum(arm["hours"] for arm in arms.values()), 4),
        "bytes": sum(file["bytes"] for file in files.values()),
        "arms": arms,
        "cells": [
            {
                "task": task,
                "arm": arm,
                "level": level,
                "held_out": get_cell(task, arm).held_out,
                "seeds": [spec.seed for spec in taken if spec.cell == (task, arm, level)],
                "seeds_skipped_expert_failed": seeds_failed,
            }
            for (task, arm, level), seeds_failed in failed.items()
        ],
        "versions": tools(),
        "files": files,
    }


def tools() -> dict[str, str | None]:
    """Versions of all that decides what is recorded; None where a package is absent."""
    found = versions()
    for name in ("robosuite", "mujoco", "gymnasium", "av", "pyarrow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def digest(path: Path) -> str:
    """sha256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()
