"""The embedded teacher: ask it, examine it, train its connector anew."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from xtok.atomic import atomic_file
from xtok.cli.common import add_workers_argument, say
from xtok.cli.outputs import Writes
from xtok.ranks import launched_rank

if TYPE_CHECKING:
    from xtok.semantics.embedded.model import EmbeddedVLM
    from xtok.semantics.embedded.school import School

SCENES = ".scenes.json"  # how the scenes of a folder were made
FRAMES_EACH, EPISODES_MAX = 4, 120  # of films: frames of an episode, episodes in all


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("teacher", help="the embedded vision-language model", description=__doc__)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_ask(commands)
    _add_eval(commands)
    _add_scenes(commands)
    _add_train(commands)


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--teacher", type=Path, metavar="DIR", help="a folder of `xtok teacher train` (default: the shipped weights)"
    )


def load(folder: Path | None) -> EmbeddedVLM:
    from xtok.semantics.embedded import EmbeddedVLM, shipped

    return EmbeddedVLM.load(folder or shipped())


# -- ask ----------------------------------------------------------------------------------------------------------


def _add_ask(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("ask", help="one question about a picture", description="Ask about a picture.")
    parser.add_argument("picture", type=Path, metavar="PICTURE", help="png or jpeg")
    parser.add_argument(
        "question", metavar="QUESTION", help="'where is the red cube?', 'what does the robot hold?', ..."
    )
    _add_weights(parser)
    parser.set_defaults(run=run_ask, resume_hint="Nothing was written.", writes=None)


def run_ask(args: argparse.Namespace) -> None:
    import numpy as np
    from PIL import Image

    with Image.open(args.picture) as opened:
        picture = np.asarray(opened.convert("RGB"))
    (answer,) = load(args.teacher).ask([picture], [args.question])
    (x, y), (height, width) = answer.point, picture.shape[:2]
    print(f"{answer.text}\n  looks at x {x:.0f}, y {y:.0f} of {width} x {height}")


# -- eval ---------------------------------------------------------------------------------------------------------


def _add_eval(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "eval",
        help="its answers to a set of questions, with controls",
        description="Answers to a set of `xtok sim questions` and, with --films, to what the robot is doing in "
        "held-out episodes; beside them the same with another picture, and without words.",
    )
    parser.add_argument("questions", type=Path, metavar="QUESTIONS", help="made by `xtok sim questions`")
    parser.add_argument("--films", type=Path, nargs="+", default=[], metavar="DATA", help="recorded data sets")
    _add_weights(parser)
    parser.add_argument("--json", type=Path, metavar="F.json", help="write the figures")
    writes = Writes(files=("json",), data=("questions", "films"), tokenizers=("teacher",))
    parser.set_defaults(run=run_eval, resume_hint="Nothing was written; give the same command again.", writes=writes)


def run_eval(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from xtok import provenance
    from xtok.semantics.embedded import shipped
    from xtok.semantics.embedded.exam import exam
    from xtok.semantics.embedded.lessons import film_lessons, question_set
    from xtok.semantics.embedded.model import WEIGHTS, file_digest

    model = load(args.teacher)
    lessons = question_set(args.questions)
    for data in args.films:
        for some in film_lessons(data, "heldout", FRAMES_EACH, 1, max(1, EPISODES_MAX // 8 // len(args.films))):
            lessons += some
    total = sum(len(lesson.questions) for lesson in lessons)
    began = time.perf_counter()
    with tqdm(total=total, unit="question", desc="exam", disable=None) as bar:
        kinds = exam(model, lessons, progress=bar.update)
    result = {
        "weights": file_digest((args.teacher or shipped()) / WEIGHTS),
        "questions": str(args.questions),
        "films": [str(path) for path in args.films],
        "kinds": kinds,
        "seconds": round(time.perf_counter() - began, 1),
        "command": provenance.command(),
        "git_revision": provenance.git_revision(),
    }
    print(f"{'kind':<12}{'questions':>10}{'right':>9}{'other picture':>15}{'no words':>10}")
    for kind, row in kinds.items():
        shares = f"{row['right']:>9.3f}{row['another_picture']:>15.3f}{row['no_words']:>10.3f}"
        print(f"{kind:<12}{row['questions']:>10}{shares}")
    if args.json is not None:
        with atomic_file(args.json) as temporary:
            temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(f"wrote {args.json}")


# -- scenes -------------------------------------------------------------------------------------------------------


def _add_scenes(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "scenes",
        help="training scenes with all their questions",
        description="Scenes of the simulation's training split, one and two arms, without held-out arms and tasks; each "
        "rendered once, at several moments and from several cameras, with every question that can be asked of it. A "
        "file is written whole or not at all, so a stopped run goes on.",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--episodes", type=int, default=36, metavar="N", help="of a cell and level (default: 36)")
    parser.add_argument("--arms-each", type=int, default=4, metavar="N", help="arms a task at most (default: 4)")
    parser.add_argument("--image-size", type=int, default=128, metavar="S", help="pixels a side (default: 128)")
    parser.add_argument("--workers", type=int, default=1, metavar="W", help="processes (default: 1)")
    hint = "Give the same command again: whole files are kept."
    parser.set_defaults(run=run_scenes, resume_hint=hint, writes=Writes(folder="out"))


def run_scenes(args: argparse.Namespace) -> None:
    from functools import partial

    from tqdm import tqdm

    from xtok.sim.runtime import check_rendering  # chooses what renders before MuJoCo is imported

    check_rendering()
    from xtok.sim.scenes import scene_files, thinned, write_scenes
    from xtok.sim.staging import bind
    from xtok.sim.suite import cells
    from xtok.sim.workers import run_jobs

    learned = thinned([(cell.task, cell.arm) for cell in cells() if not cell.held_out], args.arms_each)
    decides = {"cells": [list(cell) for cell in learned], "episodes": args.episodes, "image_size": args.image_size}
    record = args.out / SCENES
    if not record.exists() and any(args.out.glob("*.parquet")):
        raise ValueError(f"{args.out} holds scenes and does not say how they were made; choose a new folder")
    bind(record, decides, f"{args.out} holds scenes")
    files = scene_files(learned, args.episodes)
    jobs = [part for part in files if not (args.out / part.name).is_file()]
    pictures = 0
    with tqdm(total=len(files), initial=len(files) - len(jobs), unit="file", desc="scenes", disable=None) as bar:
        for _, count in run_jobs(partial(write_scenes, out=args.out, image_size=args.image_size), jobs, args.workers):
            pictures += count
            bar.update()
            bar.set_postfix({"pictures": pictures}, refresh=False)
    print(f"{args.out}: {len(files)} files of {len(learned)} cells; next: xtok teacher train {args.out} -o DIR")


# -- train --------------------------------------------------------------------------------------------------------


def _add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "train",
        help="its connector on questions and films of the simulation",
        description="Train the connector: first to look, then to speak through the frozen language model. Stopped at "
        "any moment, the same command goes on from the last checkpoint.",
    )
    parser.add_argument("scenes", type=Path, nargs="+", metavar="SCENES", help="of `xtok teacher scenes`")
    parser.add_argument(
        "--films", type=Path, nargs="+", default=[], metavar="DATA", help="recorded data sets: sub-tasks"
    )
    parser.add_argument(
        "--leave-out", nargs="+", default=[], metavar="WORD", help="no films whose instruction has one of these words"
    )
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="DIR", help="checkpoint, log, then the weights"
    )
    parser.add_argument("--looking", type=int, metavar="N", help="steps of the first part (default: the recipe's)")
    parser.add_argument("--speaking", type=int, metavar="N", help="steps of the second part (default: the recipe's)")
    parser.add_argument("--seed", type=int, default=0)
    add_workers_argument(parser)
    hint = "Give the same command again: it goes on from the last checkpoint."
    touches = ("checkpoints", "failed", "metrics.jsonl", "run.json", "connector.safetensors", "config.json")
    writes = Writes(folder="out", touches=touches, data=("scenes", "films"))
    parser.set_defaults(run=run_train, resume_hint=hint, writes=writes)


def run_train(args: argparse.Namespace) -> None:
    import torch

    from xtok import provenance
    from xtok.engine import Launch
    from xtok.engine.loop import CHECKPOINTS
    from xtok.semantics.embedded import EmbeddedVLM
    from xtok.semantics.embedded.train import RUN, TeacherRecipe, Training

    given = {key: getattr(args, key) for key in ("looking", "speaking") if getattr(args, key) is not None}
    recipe = TeacherRecipe(seed=args.seed, **given)
    torch.manual_seed(recipe.seed)
    model = EmbeddedVLM.new(recipe.connector)
    school = read_lessons(model, args.scenes, args.films, args.leave_out)
    args.out.mkdir(parents=True, exist_ok=True)
    training = Training(recipe, model, school, args.out, Launch(workers=args.workers))
    if any((args.out / CHECKPOINTS).glob("[0-9]*")):
        training.load()
        say(f"going on from step {training.step}")
    about = {
        **training.task.identity,
        "scenes": [str(path) for path in args.scenes],
        "films": [str(path) for path in args.films],
        "pictures": len(school.rows),
        "rows": sum(map(len, school.rows)),
        "versions": provenance.versions(),
        "git_revision": provenance.git_revision(),
        "command": provenance.command(),
    }
    if launched_rank() == 0:
        with atomic_file(args.out / RUN) as temporary:
            temporary.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    training.run()
    training.finish()
    print(f"{args.out}: use it with --teacher {args.out}, examine it with `xtok teacher eval`")


def read_lessons(model: EmbeddedVLM, scenes: list[Path], films: list[Path], leave_out: list[str]) -> School:
    from tqdm import tqdm

    from xtok.semantics.embedded.lessons import film_lessons, scene_folder
    from xtok.semantics.embedded.school import School

    with tqdm(unit="picture", desc="eyes", disable=None) as bar:
        school = School(model, bar.update)
        for folder in scenes:
            school.add(scene_folder(folder))
        for data in films:
            share = max(1, EPISODES_MAX // len(films))
            for lessons in film_lessons(data, "train", FRAMES_EACH, 0, share, leave_out):
                school.add(lessons)
    return school
