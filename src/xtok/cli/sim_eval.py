"""Closed loop: how often a policy succeeds and how far it gets, with 95 % intervals, on the same seeds for all.

--policy expert, random, module:callable, or replay[:TOKENIZER]: the expert's commands sent through tokenizers and acted
open loop. A replay needs recorded demonstrations of its arms (--data, from `xtok sim record`) where the tokenizer does
not know a robot, and to fit FAST.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from xtok.atomic import atomic_file
from xtok.cli.common import hidden_alias
from xtok.cli.outputs import Writes
from xtok.cli.sim_arguments import LEVELS, add_worker_argument, chosen_cells, names, progress_bar

if TYPE_CHECKING:
    from xtok.benchmark.closed_loop import ClosedLoopReport
    from xtok.sim.intervals import EstimateJson

TOKENIZERS = ("xtok", "fast", "bins")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--policy", required=True, metavar="P", help="expert, random, replay[:TOKENIZER], module:callable"
    )
    parser.add_argument(
        "--episodes", type=int, default=20, metavar="N", help="of each task, arm and level (default: 20)"
    )
    parser.add_argument("--split", choices=("eval", "train"), default="eval", help="seeds and words (default: eval)")
    parser.add_argument("--json", type=Path, metavar="F.json", help="write all figures and episodes")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was stopped (needs --json)")
    parser.add_argument("--image-size", type=int, metavar="S", help="pixels a side, for a policy that wants pictures")
    replay = parser.add_argument_group("replay")
    replay.add_argument(
        "--tokenizers", type=names, default=list(TOKENIZERS), metavar="A,B", help="default: xtok,fast,bins"
    )
    hidden_alias(replay, "--through", "tokenizers", type=names)
    replay.add_argument("--data", type=Path, metavar="DIR", help="a folder of `xtok sim record`")
    replay.add_argument("--horizon", type=int, default=32, metavar="T", help="frames a chunk (default: 32)")
    replay.add_argument(
        "--adapt",
        choices=("unknown", "all"),
        default="unknown",
        help="robots that the tokenizer does not know by closed forms (default), or all with books of their own",
    )
    add_worker_argument(parser)
    hint = "With --json, give the same command again with --resume."
    writes = Writes(files=("json",), beside=(".partial.jsonl",), tokenizers=())
    parser.set_defaults(run=run, resume_hint=hint, writes=writes)


def run(args: argparse.Namespace) -> None:
    from xtok.sim.runtime import check_rendering

    check_rendering(args.image_size is not None)
    from xtok.benchmark.closed_loop import ClosedLoopRequest, prepare, report

    partial = None if args.json is None else args.json.with_name(f"{args.json.name}.partial.jsonl")
    request = ClosedLoopRequest(
        policy=args.policy,
        cells=chosen_cells(args.tasks, args.arms),
        levels=LEVELS[args.level],
        episodes=args.episodes,
        split=args.split,
        image_size=args.image_size,
        ledger=partial,
        resume=args.resume,
        tokenizers=args.tokenizers,
        data=args.data,
        horizon=args.horizon,
        adapt_all=args.adapt == "all",
    )
    loop = prepare(request)
    results = []
    with progress_bar(loop.rollouts, "episode", "eval") as step:
        for result in loop.run(args.workers):
            results.append(result)
            step(1)
    found = report(loop, results)
    print("\n".join(table(found)))
    if args.json is not None and partial is not None:
        with atomic_file(args.json) as temporary:
            temporary.write_text(json.dumps(found.to_json(), indent=1) + "\n", encoding="utf-8")
        partial.unlink()
        print(f"wrote {args.json}")


def table(report: ClosedLoopReport) -> list[str]:
    """Lines for the terminal: each policy in all, then task by task."""
    lines = [f"{'policy':<18}{'success':>9}{'95 %':>16}{'progress':>10}{'bits/chunk':>12}{'of raw':>8}{'95 %':>16}"]
    first = [name for name in ("expert", "raw") if name in report.policies]
    policies = {name: report.policies[name] for name in (*first, *report.policies)}
    for policy, groups in policies.items():
        row = groups["all"]
        against = report.against_raw.get(policy)
        versus = None if against is None else against["all"]["ratio"]
        bits = row.get("bits_a_chunk")
        lines.append(
            f"{policy:<18}{row['success']['value']:>9.1%}{_interval(row['success']):>16}{row['progress']['value']:>10.3f}"
            f"{'-' if bits is None else f'{bits:.0f}':>12}"
            + ("" if not versus or versus["value"] is None else f"{versus['value']:>8.3f}{_interval(versus):>16}")
        )
    tasks = list(next(iter(policies.values()))["tasks"])
    lines.append(f"{'successes by task':<18}" + "".join(f"{task:>13}" for task in tasks))
    for policy, groups in policies.items():
        figures = (groups["tasks"][task] for task in tasks)
        lines.append(f"{policy:<18}" + "".join(f"{f['successes']}/{f['episodes']}".rjust(13) for f in figures))
    return lines


def _interval(estimate: EstimateJson) -> str:
    return f"[{estimate['low']:.3f}, {estimate['high']:.3f}]"
