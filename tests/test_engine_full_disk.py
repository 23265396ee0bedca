"""A disk that fills up in the middle of a training: the last checkpoint stays whole, the error says what to do, and the
run goes on to the same bits once there is room."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ranks_kit
import synthetic
from xtok.engine.checkpoint import load_checkpoint
from xtok.engine.metrics import METRICS
from xtok.pretrain.loop import begin_run, resume_run
from xtok.recipes import tiny
from xtok.write_errors import WriteError

FILLER = "filler"
Fill = Callable[[int], None]  # leaves so many bytes for a file to be written


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    with synthetic.small_samples():
        yield


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that met nothing."""
    out = tmp_path_factory.mktemp("straight") / "run"
    trainer = begin_run(tiny(), synthetic.corpus(), out)
    trainer.run()
    return trainer.finish()


def check(folder: Path, fill: Fill, empty: Callable[[], None], left: int, what: str, straight: Path) -> None:
    out = folder / "run"
    trainer = begin_run(tiny(), synthetic.corpus(), out)
    trainer.run(until=2)
    fill(left)
    try:
        with pytest.raises(WriteError) as told:
            trainer.run()
        said = str(told.value)
    finally:
        empty()
    assert f"cannot write {out / what}" in said and "The checkpoint of step 2 is whole" in said
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["00000002"]
    assert load_checkpoint(out / "checkpoints")[1].keys() == {"model", "heads", "training"}
    trainer = resume_run(tiny(), synthetic.corpus(), out)
    trainer.run()
    trainer.finish()
    assert ranks_kit.result(out) == ranks_kit.result(straight)


WHERE = [(0, METRICS), (60 << 10, "checkpoints/00000004")]  # a line of the log cannot be written; a checkpoint cannot


@pytest.mark.parametrize(("left", "what"), WHERE)
def test_a_limit_of_files(left: int, what: str, tmp_path: Path, straight: Path) -> None:
    """What a full disk is to a library, for any user."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(left: int) -> None:
        size = (tmp_path / "run" / METRICS).stat().st_size + 20  # the line is cut short
        resource.setrlimit(resource.RLIMIT_FSIZE, (left or size, before[1]))

    check(tmp_path, fill, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before), left, what, straight)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(folder)]
    try:
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("only root may mount a small disk")
    except FileNotFoundError:
        pytest.skip("no mount here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)  # -l: weights that were read are still mapped


@pytest.mark.parametrize(("left", "what"), WHERE)
def test_a_real_full_disk(left: int, what: str, disk: Path, straight: Path) -> None:
    def fill(left: int) -> None:
        about = os.statvfs(disk)
        (disk / FILLER).write_bytes(bytes(about.f_bavail * about.f_frsize - left))
        if not left:  # what is left of the last page, too
            with (disk / "run" / METRICS).open("a") as file:
                file.write(" " * (-file.tell() % about.f_frsize))

    check(disk, fill, (disk / FILLER).unlink, left, what, straight)


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_line_that_was_cut_short_anywhere_is_left_out(cut: int, tmp_path: Path) -> None:
    out = tmp_path / "run"
    trainer = begin_run(tiny(), synthetic.corpus(), out)
    whole = [json.dumps({"step": step, "l1": {"8": 0.5, "16": 0.25}, "q": [1, 2]}) for step in (0, 0)]
    (out / METRICS).write_text(whole[0] + "\n" + whole[1][:-cut] if cut < len(whole[1]) else whole[0] + "\n")
    trainer.metrics.forget_after(0)
    assert (out / METRICS).read_text() == whole[0] + "\n"
