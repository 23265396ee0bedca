"""What xtok does on this GPU, in minutes: codes, speed, training steps, torch.compile; then a training. One JSON.

    python3 scripts/gpu_check.py --minutes 9 -o OUT [--data CORPUS] [--features STORE]

Made for a machine that is lent for ten minutes and has no network. The same command goes on where the last one
stopped: finished parts stay as OUT/results.json has them, failed ones are tried again, the training goes on from its
checkpoint in --work. A part that fails, hangs or crashes is told there with its error, and the others go on: each is a
process of its own, and none has longer than LIMITS_S. OUT also gets weights/, the trained tokenizer, at most 16 MB.
Without a GPU all of it runs on the CPU, and the results say so; --smoke takes tiny models and seconds, and leaves
out torch.compile unless --only names it.

On a machine that is lent by a tool which carries a working tree of at most 64 MiB and hands back 8 files of 16 MiB:

    xtok pack DATA... -o .gpu/corpus             # here, in the root of the repository; `du -sh .gpu`: at most 22 MB
    echo /.gpu/ >> .git/info/exclude

    run command    PYTHONUNBUFFERED=1 python3 scripts/gpu_check.py --minutes 9 --work /tmp/gpu_check -o $OUT \
                   --data .gpu/corpus --pack
        timeout_s  590
        carry      [".gpu"]

It needs no more than Python 3.10, torch and the packages of REQUIRED, and installs nothing: src/ is taken from beside
this file. What is missing is told before anything else, with how to carry it as wheels. A second call on the same
machine, while it is held, is the same command. For a second one on another machine, --pack has put the run into pieces
(OUT/run.tar.00 ...): copy them and results.json to .gpu/state and add `--state .gpu/state`. They are 38 MB for the
small perceiver, so that src/xtok/weights (30 MB) must be moved aside for that call: parts that are done do not need it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import sys
import tarfile
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# What is imported -> what pip calls it.
REQUIRED = {
    "torch": "torch",
    "numpy": "numpy",
    "safetensors": "safetensors",
    "huggingface_hub": "huggingface_hub",
    "yaml": "pyyaml",
    "tqdm": "tqdm",
    "jaxtyping": "jaxtyping",
    "wadler_lindig": "wadler_lindig",
    "accelerate": "accelerate",
    "psutil": "psutil",
    "typing_extensions": "typing_extensions",
    "pyarrow": "pyarrow",
}
LIMITS_S: dict[str, float] = {  # in this order; train has what is left
    "machine": 40,
    "codes": 60,
    "throughput": 60,
    "matmul": 30,
    "step_small": 60,
    "step_paper": 90,
    "compile": 110,
    "train": 1e9,
}
GRACE_S = 8.0  # for a part that was told to stop: a checkpoint of the training
FORMAT = 1
PIECE = 15 << 20  # bytes
RUN_FILES = ("run.json", "metrics.jsonl", "start", "checkpoints", "placing")


@dataclass(frozen=True)
class Options:
    """What parts are told. ends_s: by time.monotonic(), when a part (or all) is to be over. work: of the training."""

    smoke: bool
    data: tuple[Path, ...]
    features: Path | None
    steps: int | None
    steps_a_call: int | None
    work: Path
    out: Path
    ends_s: float

    @property
    def left_s(self) -> float:
        return self.ends_s - time.monotonic()


def missing() -> list[str]:
    """Packages of REQUIRED that this Python lacks, by the names that pip has for them."""
    return [name for module, name in REQUIRED.items() if importlib.util.find_spec(module) is None]


def how_to_carry(names: list[str]) -> str:
    """What to do about missing packages on a machine without a network."""
    minor = f"{sys.version_info[0]}.{sys.version_info[1]}"
    platforms = "".join(f" --platform manylinux{each}_x86_64" for each in ("_2_28", "_2_17", "2014"))
    return (
        f"gpu_check: this Python ({sys.executable}, {minor}) lacks {', '.join(names)}. With a network: "
        f"`pip install {' '.join(names)}`. Without: fetch wheels elsewhere, into an ignored folder of the repository,\n"
        f"    python3 -m pip download --no-deps --only-binary=:all: --python-version {minor} --implementation cp"
        f"{platforms} -d .whl {' '.join(names)}\n"
        "carry .whl along, and put before the command\n"
        "    python3 -m pip install -q --no-index --no-deps --no-compile --target /tmp/site .whl/*.whl && "
        "export PYTHONPATH=/tmp/site || exit;"
    )


def main() -> int:
    args = parsed()
    began_s = time.monotonic()
    if names := missing():
        print(how_to_carry(names), file=sys.stderr)
        return 2
    sys.path[:0] = [str(ROOT / "src"), str(Path(__file__).parent)]
    work = args.work or args.out / "work"
    for folder in (args.out, work):
        folder.mkdir(parents=True, exist_ok=True)
    if args.state is not None:
        take_state(args.state, args.out, work)
    options = Options(
        args.smoke,
        tuple(args.data),
        args.features,
        args.steps,
        args.steps_a_call,
        work,
        args.out,
        began_s + 60 * args.minutes,
    )
    results = Results(args.out / "results.json", options)
    # Before any part, so that all have the imports; nothing here may touch a GPU or start threads of torch's.
    import gpu_parts

    for name, limit_s in LIMITS_S.items():
        if name not in (args.only or [each for each in LIMITS_S if not (args.smoke and each == "compile")]):
            continue
        if results.of(name).get("status") == "done" and name != "machine":  # each call may have another
            print(f"{name}: done in an earlier call", flush=True)
            continue
        if options.left_s < 2 * GRACE_S:
            results.put(name, {"status": "no time", "error": f"{options.left_s:.0f} s were left"})
            continue
        run_part(gpu_parts.PARTS[name], name, limit_s, options, results)
    if args.pack:
        pack_state(work, args.out)
    results.end(time.monotonic() - began_s)
    print(f"wrote {results.path}")
    return 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0, metavar="M", help="in all; it stops before (default: 9)")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="results.json and weights/")
    parser.add_argument("--work", type=Path, help="the training's run (default: OUT/work)")
    parser.add_argument("--data", type=Path, nargs="+", default=[], help="to train on (default: the packaged sample)")
    parser.add_argument("--features", type=Path, metavar="STORE", help="of a teacher, for the paper's recipe")
    parser.add_argument("--steps", type=int, help="of the training (default: what fits the time of the first call)")
    parser.add_argument("--steps-a-call", type=int, metavar="N", help="at most (default: as the time allows)")
    parser.add_argument("--only", nargs="+", choices=tuple(LIMITS_S), metavar="PART", help=f"of {', '.join(LIMITS_S)}")
    parser.add_argument("--pack", action="store_true", help="put the run into OUT too, in pieces, to be carried on")
    parser.add_argument("--state", type=Path, metavar="FOLDER", help="results.json and pieces of an earlier call")
    parser.add_argument("--smoke", action="store_true", help="tiny models and no compiler: does the script run?")
    return parser.parse_args()


class Results:
    """OUT/results.json, whole after every part."""

    def __init__(self, path: Path, options: Options) -> None:
        self.path = path
        settings = {"smoke": options.smoke}
        self.content: dict[str, Any] = {"format": FORMAT, "settings": settings, "calls": [], "parts": {}}
        if path.is_file():
            self.content = json.loads(path.read_text(encoding="utf-8"))
            if (self.content.get("format"), self.content.get("settings")) != (FORMAT, settings):
                raise SystemExit(
                    f"gpu_check: {path} has format and settings {self.content.get('format')}, "
                    f"{self.content.get('settings')}; expected {FORMAT}, {settings}: choose another --out"
                )
        began = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.content["calls"].append({"began": began, "arguments": sys.argv[1:]})

    def of(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.content["parts"].get(name, {})
        return found

    def put(self, name: str, found: Mapping[str, Any]) -> None:
        from xtok.atomic import atomic_write

        self.content["parts"][name] = dict(found)
        atomic_write(self.path, json.dumps(self.content, indent=1) + "\n")
        print(f"{name}: {found['status']} {found.get('error', '')}".rstrip(), flush=True)

    def end(self, took_s: float) -> None:
        from xtok.atomic import atomic_write

        self.content["calls"][-1] |= {"took_s": round(took_s, 1), "machine": self.of("machine").get("result")}
        atomic_write(self.path, json.dumps(self.content, indent=1) + "\n")


def run_part(part: Any, name: str, limit_s: float, options: Options, results: Results) -> None:
    """In a process of its own, since what breaks a GPU's context breaks it for the rest of a process."""
    note = options.work / f"{name}.json"
    note.unlink(missing_ok=True)
    began_s = time.monotonic()
    before = {each: found.get("result") for each, found in results.content["parts"].items()}
    options = replace(options, ends_s=min(options.ends_s, began_s + limit_s))
    child = multiprocessing.get_context("fork").Process(target=_part, args=(part, options, before, note), name=name)
    child.start()
    child.join(max(options.left_s - GRACE_S, 1.0))
    late = child.is_alive()
    for stop in (child.terminate, child.kill):
        if child.is_alive():
            stop()
            child.join(GRACE_S)
    took_s = round(time.monotonic() - began_s, 1)
    found = {"status": "failed", **(json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {})}
    if late:
        found["error"] = f"stopped after {took_s} s; {found.get('error', '')}".rstrip("; ")
    elif child.exitcode and "error" not in found:
        found |= {"status": "failed", "error": f"its process ended with exit code {child.exitcode}"}
    results.put(name, {**found, "took_s": took_s})


def _part(part: Any, options: Options, before: Mapping[str, Any], note: Path) -> None:
    from xtok.atomic import atomic_write

    told: dict[str, Any] = {"status": "failed"}

    def tell(status: str, result: Mapping[str, Any]) -> None:
        told.update(status=status, result=dict(result))
        atomic_write(note, json.dumps(told))

    try:
        part(options, before, tell)
    except BaseException as error:  # also the KeyboardInterrupt of a training that was told to stop
        told["error"] = f"{type(error).__name__}: {error}"[:2000]
        told["traceback"] = traceback.format_exc()[-4000:]
        atomic_write(note, json.dumps(told))


def pack_state(work: Path, out: Path) -> None:
    """The run as out/run.tar.00, .01 ..., none larger than PIECE."""
    if not (work / "run" / "run.json").is_file():
        return
    whole = work / "run.tar"
    with tarfile.open(whole, "w") as tar:
        for name in RUN_FILES:
            if (work / "run" / name).exists():
                tar.add(work / "run" / name, f"run/{name}")
    for old in out.glob("run.tar.[0-9]*"):
        old.unlink()
    with whole.open("rb") as file:
        number = 0
        while piece := file.read(PIECE):
            (out / f"run.tar.{number:02d}").write_bytes(piece)
            number += 1
    whole.unlink()


def take_state(state: Path, out: Path, work: Path) -> None:
    """Inverse of `pack_state`, with the results; what is here already stays."""
    if not (state / "results.json").is_file():
        raise SystemExit(f"gpu_check: no results.json in {state}; --state takes what an earlier call put into OUT")
    if not (out / "results.json").is_file():
        (out / "results.json").write_bytes((state / "results.json").read_bytes())
    pieces = sorted(state.glob("run.tar.[0-9]*"))
    if pieces and not (work / "run" / "run.json").is_file():
        whole = work / "run.tar"
        whole.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
        with tarfile.open(whole) as tar:
            tar.extractall(work, filter="data")
        whole.unlink()


if __name__ == "__main__":
    sys.exit(main())
