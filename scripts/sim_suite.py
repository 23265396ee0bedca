"""Measure the expert of every cell and write src/xtok/sim/suite.json.

    python scripts/sim_suite.py --episodes 50 --processes 2
    python scripts/sim_suite.py --episodes 50 --tasks Handover,Share --arms Panda_UR5e      # the other rows stay
    python scripts/sim_suite.py --episodes 10 --level hard --report docs/results/sim-experts.json

Split "train", seeds from 0, no pictures. suite.json holds Easy alone; --report takes either level. Both are written
again after every cell. Every finished episode is a line in --work, so a killed run goes on where it stopped; delete
that folder after a change to tasks, experts or physics. 75 cells: about two hours of one core.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from xtok.atomic import atomic_write
from xtok.sim.arms import ARMS, PAIRS
from xtok.sim.intervals import wilson
from xtok.sim.suite import is_held_out
from xtok.sim.tasks.names import PAIR_TASKS, SINGLE_TASKS, TASK_NAMES

TARGET = Path(__file__).parents[1] / "src/xtok/sim/suite.json"


def episodes_of(path: Path) -> dict[int, dict]:
    """Finished episodes of a cell by seed; a half-written last line is dropped."""
    found = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        found[row["seed"]] = row
    return found


def measure(job: tuple[str, str, str, int, Path]) -> str:
    """Run what is missing of one cell; returns a line to print."""
    task, arm, level, episodes, path = job
    done = episodes_of(path)
    missing = [seed for seed in range(episodes) if seed not in done]
    if missing:
        from xtok.sim.env import SimEnv

        env = SimEnv(task, arm, level=level, views=False)
        with path.open("a") as file:
            for seed in missing:
                env.reset(seed=seed)
                expert = env.expert()
                info, steps, over = {"success": False, "failure": ""}, 0, False
                while not (over or expert.done):
                    *_, terminated, truncated, info = env.step(expert.goal()[None])
                    steps, over = steps + 1, terminated or truncated
                row = {"seed": seed, "success": bool(info["success"]), "steps": steps, "failure": info["failure"]}
                file.write(json.dumps(row) + "\n")
                file.flush()
        env.close()
        done = episodes_of(path)
    good = sum(row["success"] for row in done.values())
    steps = sum(row["steps"] for row in done.values()) / len(done)
    return f"{task:12s} {arm:11s} {good}/{len(done)}  {steps:.0f} steps"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--level", choices=("easy", "hard"), default="easy", help="suite.json takes easy alone")
    parser.add_argument("--report", type=Path, metavar="F.json", help="also write rates, intervals and failures there")
    parser.add_argument("--tasks", default=",".join(TASK_NAMES))
    parser.add_argument("--arms", default=",".join((*ARMS, *PAIRS)))
    parser.add_argument("--work", type=Path, default=Path("out/sim-suite"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    every = [(task, arm) for task in SINGLE_TASKS for arm in ARMS]
    every += [(task, pair) for task in PAIR_TASKS for pair in PAIRS]
    names = [cell for cell in every if cell[0] in options.tasks.split(",") and cell[1] in options.arms.split(",")]
    paths = {name: options.work / f"{options.level}-{'-'.join(name)}.jsonl" for name in names}
    jobs = [(*name, options.level, options.episodes, paths[name]) for name in names]
    with multiprocessing.get_context("spawn").Pool(options.processes, maxtasksperchild=1) as pool:
        for name, line in zip(names, pool.imap(measure, jobs, chunksize=1), strict=True):
            print(line, flush=True)
            done = episodes_of(paths[name])
            if options.level == "easy":
                merge_suite(name, done, every)
            if options.report is not None:
                merge_report(options.report, options.level, name, done)


def merge_suite(name: tuple[str, str], done: dict[int, dict], order: list[tuple[str, str]]) -> None:
    """Put a cell's row into suite.json, in the order of the suite."""
    before = json.loads(TARGET.read_text())["cells"] if TARGET.exists() else []
    rows = {(row["task"], row["arm"]): row for row in before}
    task, arm = name
    seeds = sorted(seed for seed, row in done.items() if row["success"])
    cell = {"task": task, "arm": arm, "dual": arm in PAIRS, "held_out": is_held_out(task, arm)}
    rows[name] = {
        **cell, "expert_success": round(len(seeds) / len(done), 4), "episodes": len(done), "seeds": seeds,
    }  # fmt: skip
    made = {"level": "easy", "split": "train", "robosuite": version("robosuite"), "mujoco": version("mujoco")}
    lines = ",\n".join(f"    {json.dumps(rows[cell])}" for cell in order if cell in rows)
    atomic_write(TARGET, f'{{\n  "made": {json.dumps(made)},\n  "cells": [\n{lines}\n  ]\n}}\n')


def merge_report(path: Path, level: str, name: tuple[str, str], done: dict[int, dict]) -> None:
    """Put a cell's figures of a level into the report: success with Wilson's 95 % interval, steps, why it failed."""
    rows = json.loads(path.read_text()) if path.exists() else {}
    good = sum(row["success"] for row in done.values())
    why = Counter(row["failure"] or "not done in time" for row in done.values() if not row["success"])
    rows.setdefault(level, {})["-".join(name)] = {
        "episodes": len(done),
        "successes": good,
        "success": wilson(good, len(done)).rounded(),
        "steps": round(sum(row["steps"] for row in done.values()) / len(done), 1),
        "failures": dict(sorted(why.items())),
        "seeds_failed": sorted(seed for seed, row in done.items() if not row["success"]),
    }
    text = {part: {cell: rows[part][cell] for cell in sorted(rows[part])} for part in sorted(rows)}
    body = ",\n".join(
        f' "{part}": {{\n'
        + ",\n".join(f"  {json.dumps(cell)}: {json.dumps(row)}" for cell, row in cells.items())
        + "\n }"
        for part, cells in text.items()
    )
    atomic_write(path, f"{{\n{body}\n}}\n")


if __name__ == "__main__":
    main()
