"""Tabletop tasks in simulation: record demonstrations, test policies, make questions. Needs xtok[sim]."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from xtok.atomic import atomic_file
from xtok.cli import sim_eval
from xtok.cli.common import say
from xtok.cli.outputs import Writes
from xtok.cli.sim_arguments import LEVELS, add_cell_arguments, add_worker_argument, chosen_cells, progress_bar

if TYPE_CHECKING:
    from xtok.sim.manifest import Manifest

GO_ON = "Give the same command again: whole episodes are kept."


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("sim", help="record, test and ask in simulation", description=__doc__)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (_add_list, _add_show, _add_record, _add_corpus, _add_questions):
        add(commands)
    test = commands.add_parser("eval", help="success and progress of a policy", description=sim_eval.__doc__)
    add_cell_arguments(test)
    sim_eval.add_arguments(test)


# -- list and show ------------------------------------------------------------------------------------------------


def _add_list(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("list", help="supported tasks and arms", description="The cells of the suite.")
    parser.add_argument("--json", metavar="F.json", help="write them as JSON; - for stdout")
    parser.set_defaults(run=run_list, resume_hint="", writes=Writes(files=("json",)))


def run_list(args: argparse.Namespace) -> None:
    from xtok.sim.suite import cells

    keys = ("task", "arm", "dual", "held_out", "expert_success", "episodes")
    rows = [{key: getattr(cell, key) for key in keys} for cell in cells()]
    text = json.dumps(rows, indent=1) + "\n"
    if args.json == "-":
        sys.stdout.write(text)
        return
    print(f"{'task':<14}{'arm':<13}{'dual':<6}{'held out':<10}{'expert':>8}{'episodes':>10}")
    for row in rows:
        marks = ("yes" if row["dual"] else "", "yes" if row["held_out"] else "")
        print(
            f"{row['task']:<14}{row['arm']:<13}{marks[0]:<6}{marks[1]:<10}"
            f"{row['expert_success']:>8.1%}{row['episodes']:>10}"
        )
    if args.json is not None:
        with atomic_file(Path(args.json)) as temporary:
            temporary.write_text(text, encoding="utf-8")
        print(f"wrote {args.json}")


def _add_show(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "show", help="pictures and a film", description="A contact sheet of expert episodes, and a film of them."
    )
    add_cell_arguments(parser)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--image-size", type=int, default=160, metavar="S", help="pixels a side of a view (default: 160)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the episodes (default: 0)")
    writes = Writes(folder="out", touches=("film.mp4",))
    parser.set_defaults(run=run_show, resume_hint="Give the same command again.", writes=writes)


def run_show(args: argparse.Namespace) -> None:
    from xtok.sim.runtime import check_rendering

    check_rendering()
    from xtok.sim.show import show

    cells = chosen_cells(args.tasks, args.arms)
    levels = LEVELS[args.level]
    with progress_bar(len(cells) * len(levels), "episode", "show") as step:
        for path in show(cells, levels, args.out, args.image_size, args.seed, progress=step):
            print(f"wrote {path}")


# -- record and corpus --------------------------------------------------------------------------------------------


def _add_record(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "record",
        help="expert demonstrations as LeRobot v3.0",
        description="Expert demonstrations as LeRobot v3.0 folders, one an arm, with films, words and sub-tasks.",
    )
    add_cell_arguments(parser)
    parser.add_argument(
        "--episodes", type=int, default=10, metavar="N", help="of each task, arm and level (default: 10)"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="DIR/panda, DIR/ur5e, ...")
    parser.add_argument(
        "--split", choices=("train", "eval"), default="train", help="seeds and phrasings (default: train)"
    )
    parser.add_argument("--image-size", type=int, default=96, metavar="S", help="pixels a side (default: 96)")
    parser.add_argument("--no-video", action="store_true", help="poses and words only, which is much faster")
    add_worker_argument(parser)
    parser.set_defaults(run=run_record, resume_hint=GO_ON, writes=Writes(folder="out"))


def run_record(args: argparse.Namespace) -> None:
    from xtok.sim.runtime import check_rendering

    if args.episodes < 1:
        raise ValueError(f"--episodes is {args.episodes}; expected 1 or more")
    check_rendering(not args.no_video)
    from xtok.sim.recorder import Request, record

    request = Request(
        chosen_cells(args.tasks, args.arms),
        LEVELS[args.level],
        args.episodes,
        args.split,
        args.image_size,
        not args.no_video,
    )
    total = args.episodes * len(request.cells) * len(request.levels)
    with progress_bar(total, "episode", "record") as step:
        manifest = record(request, args.out, args.workers, step, say)
    print_manifest(args.out, manifest)


def print_manifest(out: Path, manifest: Manifest) -> None:
    print(f"{out}: {manifest['episodes']} episodes, {manifest['hours']:.2f} hours, {manifest['bytes'] / 1e6:.1f} MB")
    for arm, entry in manifest["arms"].items():
        print(f"  {entry['folder'] + '/':<12} {arm:<10} {entry['episodes']:>5} episodes {entry['frames']:>8} frames")
    if skipped := sum(len(cell["seeds_skipped_expert_failed"]) for cell in manifest["cells"]):
        say(f"{skipped} seeds were skipped because the expert failed; {out}/manifest.json lists them")


def _add_corpus(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "corpus",
        help="demonstrations of every cell, with a data card",
        description="A named corpus with manifest and data card. corpus-s: about 3,000 demonstrations of every cell, "
        "one arm and two, Easy and Hard. corpus-single: about 2,000 of the first eight tasks on the first five arms.",
    )
    parser.add_argument("name", nargs="?", default="corpus-s", metavar="NAME", help="corpus-s (default), corpus-single")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--episodes", type=int, metavar="N", help="in all, about (default: 3000, 2000)")
    parser.add_argument("--no-video", action="store_true", help="poses and words only, which is much faster")
    add_worker_argument(parser)
    parser.set_defaults(run=run_corpus, resume_hint=GO_ON, writes=Writes(folder="out"))


def run_corpus(args: argparse.Namespace) -> None:
    from xtok.sim.runtime import check_rendering

    check_rendering(not args.no_video)
    from xtok.sim.corpus import corpus_request, get_corpus, make_corpus

    corpus = get_corpus(args.name)
    request = corpus_request(corpus, args.episodes, not args.no_video)
    total = request.episodes * len(request.cells) * len(request.levels)
    with progress_bar(total, "episode", corpus.name) as step:
        manifest = make_corpus(corpus, request, args.out, args.workers, step, say)
    print_manifest(args.out, manifest)


# -- questions ----------------------------------------------------------------------------------------------------


def _add_questions(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "questions",
        help="questions on rendered scenes, with exact answers",
        description="Questions on rendered scenes with exact answers: where, what colour, which side, held, how many.",
    )
    add_cell_arguments(parser, level="both")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--count", type=int, default=1000, metavar="N", help="at least so many (default: 1000)")
    parser.add_argument("--split", choices=("train", "eval"), default="train", help="scenes (default: train)")
    parser.add_argument("--image-size", type=int, default=128, metavar="S", help="pixels a side (default: 128)")
    add_worker_argument(parser)
    hint = "Give the same command again: whole scenes are kept."
    parser.set_defaults(run=run_questions, resume_hint=hint, writes=Writes(folder="out"))


def run_questions(args: argparse.Namespace) -> None:
    from xtok.sim.runtime import check_rendering

    check_rendering()
    from xtok.sim.questions import QuestionRequest, make_questions

    request = QuestionRequest(
        chosen_cells(args.tasks, args.arms), LEVELS[args.level], args.count, args.split, args.image_size
    )
    with progress_bar(request.scenes, "scene", "questions") as step:
        manifest = make_questions(request, args.out, args.workers, step)
    print(
        f"{args.out}: {manifest['questions']} questions on {manifest['images']} pictures of {manifest['scenes']} scenes"
    )
    print(f"  {'kind':<10}{'questions':>10}{'chance':>9}{'no picture':>12}{'no words':>10}")
    for kind, row in {**manifest["kinds"], "all": manifest["all"]}.items():
        blind = f"{row['image_blind']:>12.3f}{row['text_blind']:>10.3f}"
        print(f"  {kind:<10}{row['questions']:>10}{row['chance']:>9.3f}{blind}")
