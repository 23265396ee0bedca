"""Measure the expert of every cell and write src/xtok/sim/suite.json.

    python scripts/sim_suite.py --episodes 50 --processes 2
    python scripts/sim_suite.py --episodes 50 --tasks Handover,Share --arms Panda_UR5e      # the other rows stay

Easy, split "train", seeds from 0, no pictures. Every finished episode is a line in --work, so a killed run goes on
where it stopped; delete that folder after a change to tasks, experts or physics. 75 cells: about two hours of one core.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from importlib.metadata import version
from pathlib import Path

from xtok.sim.arms import ARMS, PAIRS
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
    parser.add_argument("--level", choices=("easy", "hard"), default="easy", help="hard is printed, never written")
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
        for line in pool.imap(measure, jobs, chunksize=1):
            print(line, flush=True)
    if options.level == "hard":
        return
    before = json.loads(TARGET.read_text())["cells"] if TARGET.exists() else []
    rows = {(row["task"], row["arm"]): row for row in before}
    for task, arm in names:
        done = episodes_of(paths[task, arm])
        seeds = sorted(seed for seed, row in done.items() if row["success"])
        rate = round(len(seeds) / len(done), 4)
        cell = {"task": task, "arm": arm, "dual": arm in PAIRS, "held_out": is_held_out(task, arm)}
        rows[task, arm] = {**cell, "expert_success": rate, "episodes": len(done), "seeds": seeds}
    made = {"level": "easy", "split": "train", "robosuite": version("robosuite"), "mujoco": version("mujoco")}
    lines = ",\n".join(f"    {json.dumps(row)}" for row in (rows[cell] for cell in every if cell in rows))
    TARGET.write_text(f'{{\n  "made": {json.dumps(made)},\n  "cells": [\n{lines}\n  ]\n}}\n')
    print(f"wrote {TARGET}")


if __name__ == "__main__":
    main()
