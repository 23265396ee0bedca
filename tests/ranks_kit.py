"""Runs of several processes for the tests: this file is what torchrun starts, each process on one thread."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

STEPS = 50
TIMEOUT_S = 240
# Of the perceiver. With 0, two codes are equally near but for last bits at step 43, and the order of sums chooses.
SEED = 1


def torchrun(processes: int, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """`main` below, in so many processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(launcher if processes > 1 else []), __file__, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True) as run:
        try:
            stdout, stderr = run.communicate(timeout=TIMEOUT_S)
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)  # the processes that it started, too
    if check:
        assert run.returncode == 0, stderr[-4000:]
    return subprocess.CompletedProcess(command, run.returncode, stdout, stderr)


def recipe(name: str) -> Any:
    """Without dropout, of which each process has its own random numbers; "kills" has it, and a checkpoint often."""
    import semantics_kit as kit
    from xtok.recipes import tiny

    base = tiny()
    common = {"steps": STEPS, "validate_every": 25, "checkpoint_every": 25}
    codec = replace(base.codec, dropout=0.0)
    if name == "perceiver":
        return base.varied(codec=codec, masking={"start": 0.1}, seed=SEED, **common)
    if name == "kills":
        return base.varied(masking={"start": 0.1}, **{**common, "checkpoint_every": 7})
    if name == "heads":
        published = {"trainable": "all", "grad_scope": "latents", "input_dims": "latents", "forms": "both"}
        return kit.recipe(codec=codec, cosine=True, **published, **common)
    assert name == "semantic"
    gaussian = replace(kit.config(), dropout=0.0)
    return kit.recipe(codec=gaussian, text_alignment=True, unlabelled_l2=True, forms="codes", start=0.0, **common)


def teacher(out: Path) -> None:
    """The embedded teacher with the words of a tiny language model."""
    from teacher_kit import tiny_network, tiny_vlm, write_scenes
    from xtok.semantics.embedded.lessons import scene_folder
    from xtok.semantics.embedded.model import EmbeddedVLM
    from xtok.semantics.embedded.school import School
    from xtok.semantics.embedded.train import TeacherRecipe, Training, spoken_by

    small = {"looking": 12, "answering": 8, "pictures": 6, "warmup": 3, "watched": 0, "log_every": 1}
    school, language = School(), tiny_vlm().language
    school.add(scene_folder(write_scenes(out / f"scenes-{os.environ.get('RANK', 0)}", 12)))
    model = EmbeddedVLM.new(tiny_network(), spoken_by(school, language), language)
    Training(TeacherRecipe(network=tiny_network(), learning_rate=3e-3, **small), model, school, out).run()


def host(out: Path, options: Sequence[str]) -> None:
    """A small transformer that learns to give numbers back, on the engine alone; --shard spreads it."""
    from host_task import HostTask
    from xtok.engine import Engine, Launch, Settings

    engine = Engine(
        HostTask(out), Settings(10, log_every=1, checkpoint_every=5), out, Launch(shard="--shard" in options)
    )
    if "--resume" in options:
        engine.load()
    engine.run(until=5 if "--half" in options else None)
    engine.finish()


def main(name: str, out: str, *options: str) -> None:
    """Begin (or --resume) a run of one of the recipes, to step `--until=N` or to its end."""
    import torch

    torch.set_num_threads(1)
    if name == "host":
        host(Path(out), options)
        return
    if name == "teacher":
        teacher(Path(out))
        return
    import semantics_kit as kit
    import synthetic
    from xtok.engine import Launch
    from xtok.pretrain.loop import begin_run, resume_run

    given = dict(option.lstrip("-").split("=") for option in options if "=" in option)
    launch = Launch(accumulate=int(given.get("accumulate", 1)))
    alone = name in ("perceiver", "kills")
    features = None if alone else kit.store()
    corpus = synthetic.corpus() if alone else kit.corpus()
    with synthetic.small_samples():
        begin = resume_run if "--resume" in options else begin_run
        trainer = begin(recipe(name), corpus, Path(out), features=features, launch=launch)
        if "XTOK_SLOW" in os.environ:  # seconds a step, for who wants to be in the middle of it
            step = trainer.train_step
            trainer.train_step = lambda: (time.sleep(float(os.environ["XTOK_SLOW"])), step())[1]
        trainer.run(until=int(given["until"]) if "until" in given else None)
        trainer.finish()


def result(out: Path) -> dict[str, object]:
    """All that a run says and leaves but for how long it took, to be compared bit for bit."""
    files = {name: (out / name).read_bytes() for name in ("model.safetensors", "heads.safetensors")}
    lines = [{key: value for key, value in line.items() if key != "time"} for line in metrics(out)]
    return {**files, "metrics": lines}


def metrics(out: Path) -> list[dict[str, Any]]:
    """Lines of the log but for how long steps took, which no two runs have in common."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "time"} for line in lines]


if __name__ == "__main__":
    main(*sys.argv[1:])
