"""The parts of gpu_check.py: each measures one thing with the library as its users have it, and returns JSON.

A part is called with the options, the results of the parts before (None where there is none) and `tell(status,
result)`, which writes down what there is; the last status stays. "partial" is gone on with at the next call.

# B chunks, T frames
"""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from xtok import Tokenizer
from xtok.actions.layout import JOINTS, get_layout
from xtok.actions.types import ChunkBatch, Context, concatenate
from xtok.codec.storage import make_codec
from xtok.data import iter_chunks, open_dataset, sample_path
from xtok.engine import Launch
from xtok.engine.processes import accelerator_for
from xtok.engine.settings import Precision
from xtok.pretrain.corpus import Corpus
from xtok.pretrain.initialise import initialise
from xtok.pretrain.loop import Trainer, begin_run, resume_run
from xtok.pretrain.recipe import Alignment, Recipe
from xtok.recipes import paper_arms26, small_perceiver_arms26, tiny
from xtok.semantics.store import FeatureStore

TESTS = Path(__file__).resolve().parents[1] / "tests"
HORIZONS = (8, 13, 32, 64)
MEAN_HORIZON = 36  # of 8 to 64 frames: what a step is measured at, so that all steps are alike
WEIGHTS_MAX = 16_000_000  # bytes
PIECE_S = 15.0  # of training between two looks at the clock, each with a checkpoint
Tell = Callable[..., None]
Before = Mapping[str, Any]


def device() -> torch.device:
    """The GPU, TF32 off, or the CPU where there is none."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def finished() -> float:
    """The time by a clock, in seconds, once the GPU has done all that it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def machine(options: Any, before: Before, tell: Tell) -> None:
    """What is here."""
    gpu: dict[str, Any] | None = None
    if torch.cuda.is_available():
        about = torch.cuda.get_device_properties(0)
        gpu = {"name": about.name, "count": torch.cuda.device_count(), "memory_gb": about.total_memory / 1e9}
        gpu |= {"capability": list(torch.cuda.get_device_capability(0)), "cuda": torch.version.cuda}
    versions = {name: sys.modules[name].__version__ for name in ("torch", "numpy", "safetensors", "xtok")}
    import accelerate

    tell(
        "done",
        {
            "gpu": gpu,
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "versions": {"python": platform.python_version(), "accelerate": accelerate.__version__, **versions},
        },
    )


# -- codes -------------------------------------------------------------------------------------------------------------


def codes(options: Any, before: Before, tell: Tell) -> None:
    """Codes of the shipped tokenizers on the device beside those of the CPU and the golden ones, bit for bit; and by
    how much decoded motion differs, in units of the layout."""
    sys.path.append(str(TESTS))
    from test_codec_golden import GOLDEN, golden_chunks

    golden, found = json.loads(GOLDEN.read_text(encoding="utf-8")), {}
    for layout in ("arms26", "joints"):
        tokenizer, other = Tokenizer.from_pretrained(layout), Tokenizer.from_pretrained(layout)
        other.codec.to(device())
        count = different = 0
        furthest = 0.0
        for T in HORIZONS[:1] if options.smoke else HORIZONS:
            chunks = _chunks(layout, T)[slice(0, 16 if options.smoke else None)]
            here, there = tokenizer.encode(chunks), other.encode(chunks)
            assert here.grid_BMQ is not None and there.grid_BMQ is not None
            count += here.grid_BMQ.numel()
            different += int((here.grid_BMQ != there.grid_BMQ.cpu()).sum())
            a = tokenizer.decode(here, chunks.context).absolute_BTD
            b = other.decode(here, chunks.context).absolute_BTD
            assert a is not None and b is not None
            furthest = max(furthest, float((a - b.cpu()).abs().max()))
        as_golden = {
            horizon: other.encode(golden_chunks(layout, int(horizon))).grid_BMQ.cpu().tolist() == expected
            for horizon, expected in golden[layout]["codes"].items()
        }
        found[layout] = {
            "digest": tokenizer.digest,
            "digest_is_golden": tokenizer.digest == golden[layout]["digest"],
            "golden_codes_equal": as_golden,
            "codes": count,
            "codes_different_from_cpu": different,
            "decoded_largest_difference": furthest,
        }
    equal = all(
        each["digest_is_golden"] and all(each["golden_codes_equal"].values()) and not each["codes_different_from_cpu"]
        for each in found.values()
    )
    tell("done", {"device": device().type, "all_equal": equal, **found})


def _chunks(layout: str, horizon: int) -> ChunkBatch:
    """All of the packaged sample (arms26), or smooth motion of "cr5" drawn for the purpose (joints)."""
    if layout == "arms26":
        return concatenate(list(iter_chunks(open_dataset(sample_path()), horizon, stride=8)))
    import codec_kit
    from xtok.actions.embodiments import get_embodiment

    absolute = torch.from_numpy(codec_kit.smooth_joints(horizon, count=64, seed=horizon))
    mask_BD = torch.from_numpy(get_embodiment("cr5").mask(JOINTS)).expand(len(absolute), -1)
    absolute = torch.where(mask_BD[:, None], absolute, 0.0)
    rate = Tokenizer.from_pretrained(layout).statistics["cr5"].control_hz
    context = Context(
        JOINTS, absolute[:, 0], mask_BD, torch.full((len(absolute),), rate), ("cr5",) * len(absolute), horizon
    )
    return ChunkBatch(absolute[:, 1:], context)


def throughput(options: Any, before: Before, tell: Tell) -> None:
    """Frames a second, encoded and decoded, chunks of 32 frames at once by the number of them: device and CPU."""
    T, sizes = 32, (1, 4) if options.smoke else (1, 16, 256, 4096)
    sample = concatenate(list(iter_chunks(open_dataset(sample_path()), T, stride=8)))
    found: dict[str, Any] = {}
    for where in dict.fromkeys((device().type, "cpu")):
        tokenizer = Tokenizer.from_pretrained("arms26")
        tokenizer.codec.to(where)
        found[where] = {"encode": {}, "decode": {}}
        for B in sizes:
            chunks = concatenate([sample] * -(-B // len(sample)))[slice(0, B)]
            codes = tokenizer.encode(chunks)
            calls = {
                "encode": lambda t=tokenizer, c=chunks: t.encode(c),
                "decode": lambda t=tokenizer, c=chunks, k=codes: t.decode(k, c.context),
            }
            for what, call in calls.items():
                found[where][what][str(B)] = round(B * T / _median_s(call, 0.1 if options.smoke else 1.0))
            tell("partial", {"frames_per_second": found})
    tell("done", {"tokenizer": "arms26", "horizon": T, "frames_per_second": found})


def _median_s(call: Callable[[], object], budget_s: float, most: int = 50) -> float:
    """Of the calls that fit the budget, after one that warms up; at least one."""
    call()
    took: list[float] = []
    while not took or (sum(took) < budget_s and len(took) < most):
        start = finished()
        call()
        took.append(finished() - start)
    return median(took)


# -- training steps ----------------------------------------------------------------------------------------------------


def matmul(options: Any, before: Before, tell: Tell) -> None:
    """TFLOP/s of a large product of random matrices: what shares of the peak are shares of."""
    n, found = 256 if options.smoke else 8192 if device().type == "cuda" else 1024, {}
    most = 10_000  # a GPU's clocks need a while to rise
    for dtype in (torch.bfloat16, torch.float32):
        a, b = (torch.randn(n, n, device=device()).to(dtype) for _ in range(2))
        found[str(dtype).removeprefix("torch.")] = 2 * n**3 / _median_s(lambda a=a, b=b: a @ b, 1.0, most) / 1e12
    tell("done", {"device": device().type, "size": n, "tflops": found})


def small_recipe(options: Any) -> Recipe:
    """The published model at a size for CPUs; its weights take half the bytes."""
    base = tiny() if options.smoke else small_perceiver_arms26()
    return base.varied(codebooks={"half": True})


def step_small(options: Any, before: Before, tell: Tell) -> None:
    """The small perceiver's, with masked codes."""
    tell("done", _step(small_recipe(options).varied(masking={"start": 0.0}), None, options, before))


def step_paper(options: Any, before: Before, tell: Tell) -> None:
    """With the heads of align and predict where there are features; they are left out, and that is told, where not."""
    recipe = tiny() if options.smoke else paper_arms26()
    left_out = []
    if options.features is None and recipe.alignment.wanted:
        left_out = sorted(recipe.alignment.keys)
        recipe = recipe.varied(alignment=Alignment())
    found = _step(recipe.varied(masking={"start": 0.0}), options.features, options, before)
    tell("done", {**found, "losses_left_out_for_want_of_features": left_out})


def _step(recipe: Recipe, features: Path | None, options: Any, before: Before) -> dict[str, Any]:
    """Steps a second at the mean horizon, in bf16, and what they use of the machine."""
    trainer = _trainer(recipe.varied(data={"horizons": (MEAN_HORIZON, MEAN_HORIZON)}), options, features)
    took = _timed(trainer, finished)
    trainer.run(until=3)
    with FlopCounterMode(display=False) as counter:
        trainer.run(until=4)
    trainer.run(until=6)
    count = round((0.5 if options.smoke else 15.0) / took[-1])
    if cuda := torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    took.clear()
    waited_s = trainer.waited_s
    trainer.run(until=trainer.step + min(max(count, 3), 300))
    step_s, flops = median(took), counter.get_total_flops()
    peak = ((before.get("matmul") or {}).get("tflops") or {}).get("bfloat16")
    return {
        "recipe": recipe.name,
        "device": device().type,
        "precision": "bf16",
        "parameters": sum(p.numel() for p in trainer.task.module.parameters()),
        "batch_size": recipe.data.batch_size,
        "horizon": MEAN_HORIZON,
        "steps_measured": len(took),
        "steps_per_second": 1 / step_s,
        "frames_per_second": recipe.data.batch_size * MEAN_HORIZON / step_s,
        "tflop_per_step": flops / 1e12,  # of matrix products and attention, forward and backward
        "share_of_matmul_peak": None if peak is None else flops / step_s / 1e12 / peak,
        "share_waited_for_batches": (trainer.waited_s - waited_s) / sum(took),
        "peak_memory_gb": torch.cuda.max_memory_allocated() / 1e9 if cuda else None,
        "peak_memory_of_process_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def _timed(trainer: Trainer, clock: Callable[[], float]) -> list[float]:
    """Gets the seconds of every step from now on. No checkpoints: of the paper's model they take gigabytes."""
    took: list[float] = []
    step = trainer.train_step

    def timed() -> dict[str, float]:
        start = clock()
        found = step()
        took.append(clock() - start)
        return found

    trainer.train_step, trainer.save = timed, lambda: None  # type: ignore[method-assign]
    return took


def _trainer(
    recipe: Recipe, options: Any, features: Path | None = None, precision: Precision = "bf16", compiled: bool = False
) -> Trainer:
    """For steps alone, with codebooks that are placed no better than a measurement needs."""
    launch, out = Launch(precision=precision), options.work / "steps"
    recipe = recipe.varied(steps=10_000, log_every=10_000, validate_every=0)
    corpus, store = _corpus(recipe, options), None if features is None else FeatureStore.open(features)
    codec = make_codec(recipe.codec).to(accelerator_for(launch).device)
    initialise(codec, corpus, recipe.seed, vectors=4 * recipe.codec.codebook_size, iterations=1, progress=False)
    trainer = Trainer(recipe, corpus, codec, out, store, launch)
    for network in trainer.task.low_precision if compiled else ():
        network.compile(dynamic=True)  # horizons are drawn
    return trainer


def _corpus(recipe: Recipe, options: Any) -> Corpus:
    data = options.data or (sample_path(),)
    return Corpus.open(get_layout(recipe.codec.layout), data, recipe.data.action_sources)


def compile_step(options: Any, before: Before, tell: Tell) -> None:
    """torch.compile of the networks against none: two trainers of one recipe take blocks of steps in turns, over the
    same batches of mixed horizons; the ratio is the median over the blocks. In the precision that runs have: bf16 on a
    GPU; fp32 on a CPU, of CPU time there, so that other programs do not count."""
    clock = finished if device().type == "cuda" else time.process_time
    recipe = small_recipe(options).varied(masking={"start": 0.0})
    block, most = (1, 2) if options.smoke else (8, 12)
    trainers = {name: _trainer(recipe, options, None, "auto", name == "compiled") for name in ("plain", "compiled")}
    steps = {name: _timed(trainer, clock) for name, trainer in trainers.items()}
    took: dict[str, list[float]] = {name: [] for name in trainers}
    first_s: dict[str, float] = {}
    while len(took["compiled"]) < most and (options.left_s > 2 * PIECE_S or len(took["compiled"]) < 2):
        for name, trainer in trainers.items():
            start = time.perf_counter()
            trainer.run(until=trainer.step + block)
            took_s = sum(steps[name])
            steps[name].clear()
            if name in first_s:
                took[name].append(took_s / block)
            else:
                first_s[name] = time.perf_counter() - start  # compiles, in processes of its own too
        if not took["compiled"]:
            continue
        ratios = [p / c for p, c in zip(took["plain"], took["compiled"], strict=True)]
        result = {
            "recipe": recipe.name,
            "device": device().type,
            "threads": torch.get_num_threads(),
            "steps_in_a_block": block,
            "blocks": len(ratios),
            "first_block_s": first_s,
            "steps_per_second": {name: 1 / median(each) for name, each in took.items()},
            "compiled_over_plain": median(ratios),
            "compiled_over_plain_by_block": ratios,
        }
        tell("partial", result)
    tell("done", result)


# -- a training --------------------------------------------------------------------------------------------------------


def train(options: Any, before: Before, tell: Tell) -> None:
    """The small perceiver for the time that is left, then its weights. At another call it goes on.

    The number of steps is chosen at the first call, so that the learning rate has come down when the time is over.
    """
    run = options.work / "run"
    earlier = before.get("train") or {}
    began_s = time.monotonic()
    recipe = small_recipe(options)
    speed = (before.get("step_small") or {}).get("steps_per_second")
    steps = options.steps or earlier.get("steps") or _fitting(recipe, speed, options)
    recipe = recipe.varied(steps=steps)
    begin = resume_run if (run / "run.json").is_file() else begin_run
    trainer = begin(recipe, _corpus(recipe, options), run)
    placed_s = earlier.get("placed_s") or time.monotonic() - began_s
    result = {
        "recipe": recipe.name,
        "device": trainer.accelerator.device.type,
        "steps": steps,
        "from_step": trainer.step,
        "placed_s": placed_s,
    }
    keep_s = 1.5 * placed_s + 10.0  # for the codebooks that are placed once more, and the files
    first, began_s, waited_s = trainer.step, time.monotonic(), trainer.waited_s
    count, last = 20, min(steps, first + (options.steps_a_call or steps))
    while trainer.step < last and options.left_s > keep_s:
        trainer.run(until=min(last, trainer.step + count))
        spent_s = time.monotonic() - began_s
        rate = (trainer.step - first) / spent_s
        result |= {
            "step": trainer.step,
            "steps_per_second": rate,
            "share_waited_for_batches": (trainer.waited_s - waited_s) / spent_s,
            "last": _last(run, "total"),
        }
        tell("partial", result)
        count = max(int(rate * min(PIECE_S, options.left_s - keep_s)), 1)
    result["step"] = trainer.step
    trainer.finish()
    result["released"] = _last(run, "released_l1_validation")
    result["weights"] = _weights(run, options.out / "weights")
    tell("done" if trainer.step == steps else "partial", result)


def _fitting(recipe: Recipe, speed: float | None, options: Any) -> int:
    """Steps that the time left has room for; the recipe's own where no speed was measured."""
    if options.smoke or speed is None:
        return recipe.steps
    return max(int(0.8 * speed * max(options.left_s - 60.0, 0.0)), 100)


def _last(run: Path, key: str) -> dict[str, Any] | None:
    """The newest line of the log that has a key."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return next((line for line in map(json.loads, reversed(lines)) if key in line), None)


def _weights(run: Path, folder: Path) -> dict[str, Any]:
    """Copy the tokenizer, and see that it opens and is small enough."""
    folder.mkdir(exist_ok=True)
    for name in ("model.safetensors", "config.json"):
        shutil.copyfile(run / name, folder / name)
    size = (folder / "model.safetensors").stat().st_size
    if size > WEIGHTS_MAX:
        raise ValueError(f"the weights take {size} bytes; expected {WEIGHTS_MAX} at most")
    return {"bytes": size, "digest": Tokenizer.from_pretrained(folder).digest}


PARTS: dict[str, Callable[[Any, Before, Tell], None]] = {
    "machine": machine,
    "codes": codes,
    "throughput": throughput,
    "matmul": matmul,
    "step_small": step_small,
    "step_paper": step_paper,
    "compile": compile_step,
    "train": train,
}
