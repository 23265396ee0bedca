"""Closed loop: how often a policy succeeds and how far it gets, with 95 % intervals, on the same seeds for all.

--policy expert, random, module:callable, or replay[:TOKENIZER]: the expert's commands sent through tokenizers and acted
open loop. A replay needs recorded demonstrations of its arms (--data, from `xtok sim record`) where the tokenizer does
not know a robot, and to fit FAST.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xtok.cli.common import say
from xtok.cli.outputs import Writes
from xtok.whole import file_whole

if TYPE_CHECKING:
    from xtok.actions.types import ActionTokenizer, ChunkBatch
    from xtok.codec import Tokenizer
    from xtok.data import Episode
    from xtok.sim.rollout import Coder, Result
    from xtok.sim.workers import EpisodeSpec

REPLAY, THROUGH = "replay", ("xtok", "fast", "bins")
FAST_CHUNKS = 4096  # train chunks that FAST's vocabulary is fitted to
BINS = 256
HOLD_FRAMES = 16  # a short episode is prolonged to so many more than the longest chunk has


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from xtok.cli.sim import add_worker_argument, names

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
    replay.add_argument("--through", type=names, default=list(THROUGH), metavar="A,B", help="default: xtok,fast,bins")
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
    from xtok.cli.sim import LEVELS, chosen_cells, progress_bar
    from xtok.provenance import command, git_revision, versions
    from xtok.sim.runtime import check_rendering

    check_rendering(args.image_size is not None)
    from xtok.sim.rollout import Ledger, check_resume, compare, evaluate, evaluate_replay, plan, summarise

    name, _, tokenizer = args.policy.partition(":")
    is_replay = name == REPLAY
    specs = plan(chosen_cells(args.tasks, args.arms), LEVELS[args.level], args.episodes, args.split)
    settings: dict[str, Any] = {
        "policy": args.policy,
        "cells": sorted({f"{spec.task}-{spec.arm}" for spec in specs}),
        "levels": list(LEVELS[args.level]),
        "episodes": args.episodes,
        "split": args.split,
        "image_size": args.image_size,
        **_decides(args.policy, args.data),
    }
    partial = None if args.json is None else args.json.with_name(f"{args.json.name}.partial.jsonl")
    if partial is not None:
        check_resume(partial, args.resume)  # now, not after minutes of fitting
    coders: dict[str, dict[str, Coder]] = {}
    if is_replay:
        import torch

        coders, about = make_coders(
            specs, tokenizer or None, args.through, args.data, args.horizon, args.adapt == "all"
        )
        settings |= {"horizon": args.horizon, "tokenizers": about}
        torch.set_num_threads(1)  # single chunks from here on, and the workers want the other cores
    ledger = Ledger(partial, settings, args.resume)
    runs = 2 + len(next(iter(coders.values()))) if is_replay else 1
    with progress_bar(len(specs) * runs, "episode", "eval") as step:
        if is_replay:
            stream = evaluate_replay(coders, specs, ledger, args.workers, args.horizon)
        else:
            stream = evaluate(args.policy, specs, ledger, args.workers, args.image_size)
        results: list[Result] = []
        for result in stream:
            results.append(result)
            step(1)
    ledger.close()
    report = {
        "settings": settings,
        "policies": summarise(results),
        "against_raw": compare(results) if is_replay else {},
        "episodes": [vars(result) for result in sorted(results, key=lambda r: (r.policy, r.episode.name))],
        "versions": versions(),
        "git": git_revision(),
        "command": command(),
    }
    print("\n".join(table(report)))
    if args.json is not None and partial is not None:
        with file_whole(args.json) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        partial.unlink()
        print(f"wrote {args.json}")


def _decides(policy: str, data: Path | None) -> dict[str, Any]:
    """What a name alone does not say: the code of a policy of one's own, the demonstrations, the simulator."""
    import hashlib
    from importlib.util import find_spec

    from xtok.data.digests import folder_digest
    from xtok.data.fingerprint import FILMS
    from xtok.sim.staging import packages

    decides: dict[str, Any] = {"simulator": packages()}
    module, colon, _ = policy.partition(":")
    if colon and module != REPLAY:
        found = find_spec(module) if module.replace(".", "").isidentifier() else None
        if found is not None and found.origin is not None and Path(found.origin).is_file():
            decides["policy_code"] = hashlib.sha256(Path(found.origin).read_bytes()).hexdigest()[:16]
    if data is not None and data.is_dir():
        decides["data"] = folder_digest(data, FILMS)
    return decides


def table(report: Mapping[str, Any]) -> list[str]:
    """Lines for the terminal: each policy in all, then task by task."""
    lines = [f"{'policy':<18}{'success':>9}{'95 %':>16}{'progress':>10}{'bits/chunk':>12}{'of raw':>8}{'95 %':>16}"]
    first = [name for name in ("expert", "raw") if name in report["policies"]]
    policies = {name: report["policies"][name] for name in (*first, *report["policies"])}
    for policy, groups in policies.items():
        row = groups["all"]
        versus = report["against_raw"].get(policy, {}).get("all", {}).get("ratio")
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


def _interval(estimate: Mapping[str, float]) -> str:
    return f"[{estimate['low']:.3f}, {estimate['high']:.3f}]"


# -- tokenizers ---------------------------------------------------------------------------------------------------


def make_coders(
    specs: Sequence[EpisodeSpec],
    tokenizer_name: str | None,
    through: Sequence[str],
    data: Path | None,
    horizon: int,
    adapt_all: bool,
) -> tuple[dict[str, dict[str, Coder]], dict[str, Any]]:
    """Arm -> name -> coder, and for the report arm -> name -> what it is."""
    from xtok.codec import Tokenizer

    if unknown := set(through) - set(THROUGH):
        raise ValueError(f"unknown --through {sorted(unknown)}; expected some of {list(THROUGH)}")
    tokenizer = Tokenizer.from_pretrained(tokenizer_name or "arms26")
    coders: dict[str, dict[str, Coder]] = {}
    about: dict[str, Any] = {}
    for arm in dict.fromkeys(spec.arm for spec in specs):
        coders[arm], about[arm] = _arm_coders(arm, tokenizer, through, data, horizon, adapt_all)
    return coders, about


def _arm_coders(
    arm: str, tokenizer: Tokenizer, through: Sequence[str], data: Path | None, horizon: int, adapt_all: bool
) -> tuple[dict[str, Coder], dict[str, Any]]:
    from xtok.data import iter_chunks
    from xtok.pretrain import adapt, measure
    from xtok.sim.arms import get_arm
    from xtok.sim.rollout import Coder

    robot = get_arm(arm).embodiment
    must_adapt = adapt_all or robot not in tokenizer.statistics
    train, held_out = _demonstrations(arm, data) if must_adapt or "fast" in through or data else ([], [])
    if must_adapt:
        say(f"measuring {robot} on {len(train)} train episodes of {data}")
        # A robot that no training saw is served by what training left: closed forms, no book placed on its motion.
        tokenizer = (adapt if adapt_all else measure)(tokenizer, train)
    coders = {point.name: Coder(point) for point in tokenizer.rate_points()} if "xtok" in through else {}
    about: dict[str, Any] = {"digest": tokenizer.digest, "adapted": must_adapt, "robot": robot}
    if {"fast", "bins"} & set(through):
        if not held_out:
            raise ValueError(
                f"fast and bins are set to the bits that xtok spends on recorded episodes of {arm}; give --data"
            )
        (chunks,) = iter_chunks(held_out, horizon, horizon, batch_size=1 << 20, short="skip")
        baselines, how = _baselines(tokenizer, through, train, chunks)
        coders, about = coders | baselines, about | how
    return coders, about


def _demonstrations(arm: str, data: Path | None) -> tuple[list[Episode], list[Episode]]:
    """Commanded goals of an arm's recorded train and held-out episodes (every fifth), short ones prolonged.

    Episodes of held-out tasks are left out: no tokenizer is ever fitted to them.
    """
    from xtok.data import open_dataset, select
    from xtok.data.tables import read_parquet
    from xtok.sim.recorder import folder_name
    from xtok.sim.tasks.names import HELD_OUT_TASKS

    if data is None:
        raise ValueError(
            f"the tokenizer does not know {arm}, or FAST is to be fitted; record demonstrations "
            f"(xtok sim record --arms {arm} --no-video --episodes 50 -o DIR) and give --data DIR"
        )
    dataset = open_dataset(data / folder_name(arm), action_source="commanded")
    root = data / folder_name(arm)
    tasks = read_parquet(root / "meta/episodes/chunk-000/file-000.parquet", ["episode_index", "env_task"]).to_pydict()
    kept_back = {i for i, task in zip(*tasks.values(), strict=True) if task in HELD_OUT_TASKS}  # nothing learns from it
    train, held_out = (
        [_prolonged(episode) for episode in select(dataset, split) if episode.index not in kept_back]
        for split in ("train", "heldout")
    )
    if not train or not held_out:
        raise ValueError(f"{root} has too few episodes of other tasks than {HELD_OUT_TASKS}; record 5 or more")
    return train, held_out


def _prolonged(episode: Episode) -> Episode:
    """An episode long enough for the longest chunk: its last goal is held, as the robot itself would hold it."""
    import numpy as np

    from xtok.actions.types import HORIZON_MAX

    if len(episode) > HORIZON_MAX:
        return episode
    missing = HORIZON_MAX + HOLD_FRAMES - len(episode)
    absolute_ND = np.concatenate([episode.absolute_ND, np.repeat(episode.absolute_ND[-1:], missing, axis=0)])
    timestamps_s = np.arange(len(absolute_ND)) / episode.control_hz
    return replace(episode, absolute_ND=absolute_ND, timestamps_s=timestamps_s, subtasks=(), videos={})


def _baselines(
    tokenizer: Tokenizer, through: Sequence[str], train: Sequence[Episode], chunks: ChunkBatch
) -> tuple[dict[str, Coder], dict[str, Any]]:
    """FAST (the better of its forms) and bins at the bits nearest to those of each level of ours, and 256 bins."""
    from xtok.baselines.bins import BinTokenizer
    from xtok.evaluate.coded import Coded
    from xtok.evaluate.fit import fit_baselines
    from xtok.evaluate.rate import bits_mean
    from xtok.sim.rollout import Coder

    subject = Coded(tokenizer, chunks)
    levels = [bits_mean(codes) for codes in subject.rate_codes]
    coders: dict[str, Coder] = {}
    about: dict[str, Any] = {"xtok_bits_on_held_out_chunks": [round(bits, 2) for bits in levels]}
    if "fast" in through:
        say(f"fitting FAST on {len(train)} train episodes")
        fitted = fit_baselines(["fast"], train, subject, tokenizer.statistics, FAST_CHUNKS)
        fast = fitted.coded["fast"]
        points = {point: bits_mean(codes) for point, codes in zip(fast.points, fast.rate_codes, strict=True)}
        about["fast"] = fitted.fast
        for level, bits in enumerate(levels, start=1):
            point = min(points, key=lambda point: abs(points[point] - bits))
            coders[f"fast~{level}"] = Coder(point, whole=True)
            about[f"fast~{level}"] = {"bits_on_held_out_chunks": round(points[point], 2), **_kind(point)}
    if "bins" in through:
        mask_D = chunks.context.mask_BD[0]
        values = chunks.context.horizon * int(mask_D.sum())
        nearest = max(2, round(2 ** (levels[-1] / values)))
        for bins in sorted({nearest, BINS}):
            coders[f"bins-{bins}"] = Coder(BinTokenizer(tokenizer.statistics, bins))
    return coders, about


def _kind(point: ActionTokenizer) -> dict[str, Any]:
    return {"scale": float(getattr(point, "scale", float("nan"))), "form": getattr(point, "form", None)}
