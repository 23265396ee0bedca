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
from collections.abc import Sequence

import torch

from words_curve import (
    GROWING,
    Robot,
    add_arguments,
    cpu_seconds,
    judge,
    opened,
    placed,
    rivals,
    robots_of,
    save,
)
from xtok.codec.words import FitSettings, Grammar, ridge_for
from xtok.codec.words.fit_shared import Taught, fit_shared, measure
from xtok.codec.words.shared import Member, shared_book
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
    windows = [robot.windows(args.member_windows, seed) for robot in robots]
    members = [Member(robot.channels, robot.scale_K, x) for robot, x in zip(robots, windows, strict=True)]
    book = shared_book(robots[0].corpus.layout, members, grammar.words, settings)
    taught = [
        Taught(x, placed(robot, book, x, settings), ridge_of(robot)) for robot, x in zip(robots, windows, strict=True)
    ]
    return book, fit_shared(taught, grammar, settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.set_defaults(seeds=[0], rivals=["fast", "pooled"], vocabularies=[2048])
    parser.add_argument("--layout", help="arms26 or joints; else as each set gives it")
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--judge", default="", help="judge these robots alone, by names with commas; others only teach")
    parser.add_argument("--member-windows", type=int, default=2_000, help="of each robot that books are placed on")
    args = parser.parse_args()
    torch.set_num_threads(1)
    # Of a robot that was judged no other lengths are judged later, and which sets teach decides the books.
    whole = opened(parser, args, set(GROWING) - {"data", "horizons"} | {"judge"})
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
