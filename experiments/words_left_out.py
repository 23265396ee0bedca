"""Motion words of a robot left out: words and residual books placed on other robots alone, and it measured for them.

    python experiments/words_left_out.py DATA... -o out.json [--folds 4] [--layout joints]

Robots of DATA fall into folds. Books of a fold are placed on the train episodes of all robots outside it that share no
arm with it (a Panda is a Panda in simulation, beside another arm, and driven by a person); its own robots are measured
for them on their train episodes, and judged on held-out ones beside FAST fitted on the robot (rival fast) and FAST
whose byte pairs are of the robots that the books saw (pooled). Tables: words_tables.py.

A stopped run goes on from what its file holds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from words_curve import (
    GROWING,
    RATES,
    Robot,
    cpu_seconds,
    ints,
    judge,
    names_of_rivals,
    placed,
    rivals,
    robots_of,
    save,
)
from xtok.codec.words import FitSettings, Grammar, ridge_for
from xtok.codec.words.encode import BEAM, PATHS
from xtok.codec.words.fit_shared import Taught, fit_shared, measure
from xtok.codec.words.shared import Member, physical_book, whitened_book
from xtok.codec.words.shared_books import SharedBooks


def arms_of(name: str) -> frozenset[str]:
    """The arms that a robot's name tells."""
    return frozenset(name.split("_")) - {"sim"}


def folds_of(robots: Sequence[Robot], folds: int) -> list[list[Robot]]:
    """Robots of one arm stay together."""
    arms = sorted({arms_of(robot.name) for robot in robots}, key=sorted)
    return [[robot for robot in robots if arms.index(arms_of(robot.name)) % folds == fold] for fold in range(folds)]


def others_of(fold: Sequence[Robot], robots: Sequence[Robot]) -> list[Robot]:
    """Robots that share no arm with a fold."""
    gone = frozenset().union(*(arms_of(robot.name) for robot in fold))
    return [robot for robot in robots if not arms_of(robot.name) & gone]


def ridge_of(robot: Robot) -> float:
    return ridge_for(sum(len(episode) for episode in robot.train))


def shared_of(
    robots: Sequence[Robot], grammar: Grammar, args: argparse.Namespace, seed: int
) -> tuple[torch.Tensor, SharedBooks]:
    """Words and residual books placed on some robots."""
    settings = FitSettings(seed=seed)
    layout = robots[0].corpus.layout
    windows = [robot.windows(args.member_windows, seed) for robot in robots]
    members = [Member(robot.channels, robot.scale_K, x) for robot, x in zip(robots, windows, strict=True)]
    if layout.of_kind("joint"):
        book = whitened_book(members, grammar.words, settings)
    else:
        book = physical_book(layout, members, grammar.words, settings)
    taught = [
        Taught(x, placed(robot, book, x, settings), ridge_of(robot)) for robot, x in zip(robots, windows, strict=True)
    ]
    return book, fit_shared(taught, grammar, settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+", help="sets of one layout")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--validation", action="store_true", help="judge on every fifth train episode")
    parser.add_argument("--layout", help="arms26 or joints; else as each set gives it")
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--judge", default="", help="judge these robots alone, by names with commas; others only teach")
    parser.add_argument("--total", type=int, default=32768, help="ids of the vocabulary")
    parser.add_argument("--words", type=int, default=None, help="of these ids, words (an eighth, at most 2,048)")
    parser.add_argument("--horizons", type=ints, default=[8, 16, 32, 64])
    parser.add_argument("--rates", type=lambda text: [float(t) for t in text.split(",")], default=list(RATES))
    parser.add_argument("--windows", type=int, default=14_000, help="that a robot is measured on")
    parser.add_argument("--member-windows", type=int, default=2_000, help="of each robot that books are placed on")
    parser.add_argument("--chunks", type=int, default=240, help="judged, at most, of each length")
    parser.add_argument("--paths", type=int, default=PATHS)
    parser.add_argument("--beam", type=int, default=BEAM)
    parser.add_argument("--seeds", type=ints, default=[0], help="of placement, or none: rivals alone")
    parser.add_argument("--rivals", type=names_of_rivals, default=["fast", "pooled"])
    parser.add_argument("--vocabularies", type=ints, default=[2048], help="of rivals")
    args = parser.parse_args()
    torch.set_num_threads(1)
    about = {key: value for key, value in vars(args).items() if key not in (*GROWING, "judge")}
    about["data"] = [folder.name for folder in args.data]
    whole = {"settings": about, "results": {}}
    if args.out.exists():
        whole = json.loads(args.out.read_text())
        if whole["settings"] != about:
            parser.error(f"{args.out} was made with {whole['settings']}, this is {about}; give another -o")
    robots = [robot for folder in args.data for robot in robots_of(folder, args.validation, args.layout)]
    if len({robot.corpus.layout.name for robot in robots}) > 1:
        parser.error("sets of two layouts; give --layout")
    wanted = set(args.judge.split(",")) if args.judge else {robot.name for robot in robots}
    grammar = Grammar.of_total(args.total, args.words)
    for fold in folds_of(robots, args.folds):
        judged = [robot for robot in fold if robot.name in wanted]
        others = others_of(fold, robots)
        for seed in args.seeds:
            missing = [r for r in judged if str(seed) not in entry_of(whole, r)["seeds"]]
            if not missing:
                continue
            start = cpu_seconds()
            book, shared = shared_of(others, grammar, args, seed)
            print(f"books of {[r.name for r in others]}: {cpu_seconds() - start:.0f} CPU s", flush=True)
            for robot in missing:
                settings = FitSettings(seed=seed, ridge=ridge_of(robot))
                start = cpu_seconds()
                windows = robot.windows(args.windows, seed)
                model = measure(windows, placed(robot, book, windows, settings), shared, grammar, settings).model
                asked = argparse.Namespace(**{**vars(args), "seed": seed})
                entry = entry_of(whole, robot)
                entry["others"] = [other.name for other in others]
                found = {"measure_cpu_s": round(cpu_seconds() - start, 1), "horizons": judge(robot, model, asked)}
                entry["seeds"][str(seed)] = found
                save(args.out, whole)
        for robot in judged:
            for T in args.horizons:
                chunks = robot.chunks(T, args.chunks)
                if chunks is not None:
                    entry_of(whole, robot)["chunks"][str(T)] = len(chunks)
                    known = entry_of(whole, robot)["rivals"].setdefault(str(T), {})
                    for _ in rivals(robot, args, others, chunks, known):
                        save(args.out, whole)
    save(args.out, whole)


def entry_of(whole: dict, robot: Robot) -> dict:
    """What a file holds of a robot, which has a place in it from now on."""
    return whole["results"].setdefault(robot.name, {"chunks": {}, "rivals": {}, "seeds": {}})


if __name__ == "__main__":
    main()
