"""The embedded vision-language model: ask it, examine it, train it anew."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xtok.atomic import atomic_file, atomic_write
from xtok.cli.common import add_workers_argument, say
from xtok.cli.outputs import Writes
from xtok.cli.sim_arguments import ALL, names
from xtok.ranks import launched_rank

if TYPE_CHECKING:
    from xtok.semantics.backbone import Backbone
    from xtok.semantics.embedded.school import School

SCENES = ".scenes.json"  # how the scenes of a folder were made


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("teacher", help="the embedded vision-language model", description=__doc__)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_ask(commands)
    _add_eval(commands)
    _add_scenes(commands)
    _add_train(commands)


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--teacher",
        default="embedded",
        metavar="X",
        help="a folder of `xtok teacher train`, or a Hugging Face image-text model by id or folder (default: the "
        "shipped weights)",
    )


def load(name: str) -> Backbone:
    from xtok.semantics.huggingface_backbone import load_backbone

    backbone: Backbone = load_backbone(name, "none")
    return backbone


# -- ask ----------------------------------------------------------------------------------------------------------


def _add_ask(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "ask",
        help="one question about a picture",
        description="Ask about a picture. What is said, where that is, how sure the model is of either; the place is "
        "drawn into a copy.",
    )
    parser.add_argument("picture", type=Path, metavar="PICTURE", help="png or jpeg")
    parser.add_argument(
        "question", metavar="QUESTION", help="'where is the red cube?', 'what does the robot hold?', ..."
    )
    _add_weights(parser)
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("answer.png"), metavar="F.png", help="the copy (default: answer.png)"
    )
    parser.set_defaults(
        run=run_ask, resume_hint="Nothing was written.", writes=Writes(files=("out",), data=("picture",))
    )


def run_ask(args: argparse.Namespace) -> None:
    import numpy as np
    from PIL import Image

    from xtok.semantics.backbone import Observation
    from xtok.semantics.exam_page import drawn

    with Image.open(args.picture) as opened:
        picture = np.asarray(opened.convert("RGB"))
    (answer,) = load(args.teacher).answer([Observation({"any": picture}, args.question)])
    height, width = picture.shape[:2]
    print(f"{answer.text} (sure {answer.sure:.2f})")
    if answer.point is None:
        return
    x, y = answer.point
    with atomic_file(args.out) as draft:
        drawn(picture, answer.point, answer.point_sure).save(draft, "PNG")
    print(f"  at x {x:.0f}, y {y:.0f} of {width} x {height} (sure {answer.point_sure:.2f}); drawn in {args.out}")


# -- eval ---------------------------------------------------------------------------------------------------------


def _add_eval(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "eval",
        help="its answers to sets of questions, with controls",
        description="Answers to sets of `xtok sim questions`; beside them the same with another picture, without "
        "words, and with another question; by difficulty, held-out arms and held-out tasks apart.",
    )
    parser.add_argument("questions", type=Path, nargs="+", metavar="QUESTIONS", help="made by `xtok sim questions`")
    _add_weights(parser)
    parser.add_argument("--json", type=Path, metavar="F.json", help="write the figures")
    parser.add_argument(
        "--page", type=Path, metavar="F.html", help="write a page of questions, answered right and wrong"
    )
    writes = Writes(files=("json", "page"), data=("questions",), tokenizers=("teacher",))
    parser.set_defaults(run=run_eval, resume_hint="Nothing was written; give the same command again.", writes=writes)


def run_eval(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from xtok import provenance
    from xtok.semantics.embedded.exam import CONDITIONS, answers_of, shares, table_of
    from xtok.semantics.embedded.lessons import question_set

    model = load(args.teacher)
    lessons, blind = [], {}
    for folder in args.questions:
        lessons += question_set(folder)
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        blind[folder.name] = {kind: _blind(row) for kind, row in {**manifest["kinds"], "all": manifest["all"]}.items()}
    total = sum(len(lesson.questions) for lesson in lessons)
    with tqdm(total=total, unit="question", desc="exam", disable=None) as bar:
        rows = answers_of(model, lessons, progress=bar.update)
    found = table_of(rows)
    parts: dict[str, dict[str, Any]] = {}
    for name, of in _parts(rows, lessons).items():
        kinds = sorted({row["question"].kind for row in of})
        parts[name] = {
            kind: shares([row for row in of if kind in (row["question"].kind, "all")]) for kind in (*kinds, "all")
        }
    result = {
        "teacher": args.teacher,
        "sets": blind,
        **found,
        "parts": parts,
        "command": provenance.command(),
        "git_revision": provenance.git_revision(),
    }
    shown = {"right": "right", **{name: name.replace("_", " ") for name in CONDITIONS[1:]}}
    print(
        f"{'kind':<14}{'questions':>10}{'right':>8}{'interval':>14}"
        + "".join(f"{text:>18}" for text in [*shown.values()][1:])
    )
    for kind, row in found["kinds"].items():
        low, high = row["interval"]
        line = f"{kind:<14}{row['questions']:>10}{row['right']:>8.3f}{f'{low:.2f} to {high:.2f}':>14}"
        print(line + "".join(f"{row[name]:>18.3f}" for name in CONDITIONS[1:]))
    for name, shares_of in parts.items():
        print(
            f"{name}: "
            + ", ".join(f"{kind} {row['right']:.2f} ({row['questions']})" for kind, row in shares_of.items())
        )
    print(f"{found['seconds_an_answer'] * 1e3:.0f} ms an answer, in batches")
    if args.json is not None:
        atomic_write(args.json, json.dumps(result, indent=None) + "\n")
        print(f"wrote {args.json}")
    if args.page is not None:
        from xtok.semantics.exam_page import page

        atomic_write(args.page, page(rows, lessons))
        print(f"wrote {args.page}")


def _blind(row: dict[str, Any]) -> list[float]:
    """Chance; from the words alone; from the picture alone: what the set's own guessers get."""
    return [row["chance"], row["image_blind"], row["text_blind"]]


def _parts(rows: list[dict[str, Any]], lessons: list[Any]) -> dict[str, list[dict[str, Any]]]:
    """Rows by difficulty, without what is held out; held-out arms and tasks by name."""
    from xtok.sim.arms import is_held_out
    from xtok.sim.tasks.names import HELD_OUT_TASKS

    parts: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        lesson = lessons[row["lesson"]]
        names = [lesson.arm] if is_held_out(lesson.arm) else []
        names += [lesson.task] if lesson.task in HELD_OUT_TASKS else []
        for name in names or [lesson.level]:
            parts.setdefault(name, []).append(row)
    return dict(sorted(parts.items()))


# -- scenes -------------------------------------------------------------------------------------------------------


def _add_scenes(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "scenes",
        help="training scenes with all their questions",
        description="Scenes of the simulation's training split, one and two arms, without held-out arms and tasks; "
        "each rendered once, at several moments and from several cameras, with every question that can be asked of it. "
        "A file is written whole or not at all, so a stopped run goes on.",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--tasks", type=names, default=[ALL], metavar="A,B", help="default: all but held-out ones")
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

    every = [(cell.task, cell.arm) for cell in cells() if not cell.held_out]
    if unknown := set(args.tasks) - {ALL} - {task for task, _ in every}:
        raise ValueError(
            f"no task {min(unknown)!r} to learn from; expected some of {sorted({task for task, _ in every})}"
        )
    learned = thinned([cell for cell in every if ALL in args.tasks or cell[0] in args.tasks], args.arms_each)
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
        help="eyes and host, on scenes of the simulation",
        description="Train the network: first to look, then to answer. Stopped at any moment, the same command goes on "
        "from the last checkpoint.",
    )
    parser.add_argument("scenes", type=Path, nargs="+", metavar="SCENES", help="of `xtok teacher scenes`")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="DIR", help="checkpoint, log, then the weights"
    )
    parser.add_argument("--start-from", type=Path, metavar="DIR", help="weights of another run to go on from")
    parser.add_argument("--looking", type=int, metavar="N", help="steps of the first part (default: the recipe's)")
    parser.add_argument("--answering", type=int, metavar="N", help="steps of the second part (default: the recipe's)")
    parser.add_argument("--seed", type=int, default=0)
    add_workers_argument(parser)
    hint = "Give the same command again: it goes on from the last checkpoint."
    touches = ("checkpoints", "failed", "metrics.jsonl", "run.json", "model.safetensors", "config.json")
    writes = Writes(folder="out", touches=touches, data=("scenes", "start_from"))
    parser.set_defaults(run=run_train, resume_hint=hint, writes=writes)


def run_train(args: argparse.Namespace) -> None:
    from dataclasses import replace

    import torch

    from xtok import provenance
    from xtok.engine import Launch
    from xtok.engine.loop import CHECKPOINTS
    from xtok.semantics.embedded import EmbeddedVLM
    from xtok.semantics.embedded.language import Language
    from xtok.semantics.embedded.train import RUN, TeacherRecipe, Training, for_school, spoken_by, started_from

    recipe = TeacherRecipe(seed=args.seed)
    for part in ("looking", "answering"):
        if (steps := getattr(args, part)) is not None:
            recipe = replace(recipe, **{part: replace(getattr(recipe, part), steps=steps)})
    school = read_scenes(args.scenes)
    recipe = for_school(recipe, school)
    torch.manual_seed(recipe.seed)
    language = Language.load(recipe.network.read_layer)
    model = EmbeddedVLM.new(recipe.network, spoken_by(school, language), language)
    start = None if args.start_from is None else started_from(model, args.start_from)
    args.out.mkdir(parents=True, exist_ok=True)
    training = Training(recipe, model, school, args.out, Launch(workers=args.workers))
    if any((args.out / CHECKPOINTS).glob("[0-9]*")):
        training.load()
        say(f"going on from step {training.step}")
    about = {
        **training.task.identity,
        "scenes": [str(path) for path in args.scenes],
        "start_from": start,
        "pictures": len(school),
        "rows": sum(map(len, school.asked)),
        "versions": provenance.versions(),
        "git_revision": provenance.git_revision(),
        "command": provenance.command(),
    }
    if launched_rank() == 0:
        atomic_write(args.out / RUN, json.dumps(about, indent=1) + "\n")
    training.run()
    training.finish()
    print(f"{args.out}: use it with --teacher {args.out}, examine it with `xtok teacher eval`")


def read_scenes(folders: list[Path]) -> School:
    from tqdm import tqdm

    from xtok.semantics.embedded.lessons import scene_folder
    from xtok.semantics.embedded.school import School

    school = School()
    with tqdm(unit="picture", desc="scenes", disable=None) as bar:
        for folder in folders:
            school.add(scene_folder(folder), bar.update)
    return school
