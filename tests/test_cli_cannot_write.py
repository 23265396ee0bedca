"""Full disks, limits and read-only folders are told as what they are, with the path and a way out; never as damage."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

import cli_kit
from xtok.atomic import atomic_file, atomic_folder, atomic_write
from xtok.cli.main import EXIT_USER_ERROR, main
from xtok.data import sample_path
from xtok.data.source import typed_errors
from xtok.write_errors import WriteError, errno_of, write_error

BIG = 1 << 22  # bytes, more than the limit below
LIMIT = 1 << 16


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cli_kit.joints(tmp_path_factory.mktemp("data") / "set", 0, episodes=6, frames=130)


@pytest.fixture
def limit() -> Iterator[None]:
    """No file may grow beyond LIMIT: what a full disk is to a library, for any user and on any file system."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def torch_file(path: Path) -> None:
    save_file({"a": torch.zeros(BIG // 4)}, path)


def parquet_file(path: Path) -> None:
    pq.write_table(pa.table({"a": np.random.default_rng(0).random(BIG // 8)}), path)


def parquet_stream(path: Path) -> None:
    table = pa.table({"a": np.random.default_rng(0).random(BIG // 8)})
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table)


def numpy_file(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(BIG // 8))


def numpy_archive(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(BIG // 8))


def text(path: Path) -> None:
    path.write_text("x" * BIG)


def picture(path: Path) -> None:
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 255, (1000, 1000, 3), np.uint8)
    Image.fromarray(noise).save(path, format="png")


def film(path: Path) -> None:
    from xtok.data.media.video_write import film_writer

    noise = np.random.default_rng(0).integers(0, 255, (60, 128, 128, 3), np.uint8)
    with film_writer(path, 20, (128, 128), crf=0) as writer:
        for frame in noise:
            writer.add(frame)


WRITERS: list[Callable[[Path], None]] = [
    torch_file,
    parquet_file,
    parquet_stream,
    numpy_file,
    numpy_archive,
    text,
    picture,
    film,
]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of a zip that cannot be closed
@pytest.mark.parametrize("write", WRITERS)
def test_whoever_writes_the_error_names_the_file_and_a_way_out(
    write: Callable[[Path], None], limit: None, tmp_path: Path
) -> None:
    out = tmp_path / ("out.mp4" if write is film else "out")
    out.write_text("as before")
    with pytest.raises(WriteError) as told, atomic_file(out) as draft:
        write(draft)
    said = str(told.value)
    assert f"cannot write {out}: " in said
    assert "choose another place" in said or "free some space" in said
    assert out.read_text() == "as before" and [path.name for path in tmp_path.iterdir()] == [out.name]


def test_a_folder_too(limit: None, tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"cannot write .*shard"), atomic_folder(tmp_path / "shard") as draft:
        torch_file(draft / "a")
    assert list(tmp_path.iterdir()) == []


def test_readers_do_not_take_it_for_damage(limit: None, tmp_path: Path) -> None:
    with pytest.raises(WriteError), typed_errors("some data"):
        atomic_write(tmp_path / "a", b"x" * BIG)


def test_an_error_of_reading_within_stays_what_it_is(tmp_path: Path) -> None:
    for error in (FileNotFoundError(errno.ENOENT, "no such file", "data.parquet"), ValueError("bad"), KeyError("a")):
        with pytest.raises(type(error)) as told, atomic_file(tmp_path / "out"):
            raise error
        assert told.value is error
    denied = PermissionError(errno.EACCES, "denied", "/data/episode.parquet")
    with pytest.raises(PermissionError) as told_2, atomic_file(tmp_path / "out"):
        raise denied  # of the data: nothing is wrong with the output
    assert told_2.value is denied


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "is full"),
        (errno.EDQUOT, "quota"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "chmod u+w"),
        (errno.EPERM, "permission denied"),
        (errno.ENOTDIR, "a file where a folder is needed"),
        (errno.EISDIR, "is a folder"),
        (errno.ENAMETOOLONG, "too long"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EIO, "see whether the disk is there"),
    ],
)
def test_every_reason_has_words(number: int, said: str, tmp_path: Path) -> None:
    told = write_error(OSError(number, os.strerror(number)), tmp_path / "no" / "such" / "out", surely=True)
    assert said in str(told) and str(tmp_path / "no" / "such" / "out") in str(told)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Error while serializing: I/O error: No space left on device (os error 28)", 28),
        ("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device", 28),
        (
            "Unable to create file (unable to open file: name = 'a', errno = 13, error message = 'Permission denied')",
            13,
        ),
        ("4096 requested and 512 written", None),
        ("something else", None),
    ],
)
def test_numbers_are_found_in_what_libraries_say(text: str, number: int | None) -> None:
    assert errno_of(RuntimeError(text)) == number
    if "requested" in text:
        assert errno_of(OSError(text)) == errno.ENOSPC


def limited(kilobytes: int) -> list[str]:
    """`xtok` in which no file may grow beyond so many kilobytes."""
    code = (
        f"import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({kilobytes << 10}, -1)); "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    return [sys.executable, "-c", code, cli_kit.TINY]


COMMANDS: dict[str, tuple[Callable[[Path, Path], list[object]], int, str]] = {
    # name: command line, kilobytes that a file may have, and how to go on
    "encode": (lambda data, out: ["encode", data, "-o", out, "--horizon", "8", "--stride", "1"], 4, "command again"),
    "pack": (lambda data, out: ["pack", data, "-o", out], 1, "whole shards are kept"),
    "adapt": (lambda data, out: ["adapt", data, "--books", "shared", "-o", out], 64, "command again"),
    "stats": (lambda data, out: ["stats", data, "-o", out], 0, "command again"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_tell_a_full_disk(name: str, data: Path, tmp_path: Path) -> None:
    command, kilobytes, hint = COMMANDS[name]
    out = tmp_path / "out"
    status, said = cli_kit.run(command(data, out), limited(kilobytes))
    assert status == EXIT_USER_ERROR, said
    assert "Traceback" not in said and "damaged" not in said
    assert "xtok: error: cannot write" in said and str(out) in said and hint in said
    assert not list(tmp_path.rglob("*.tmp")) and not list(tmp_path.rglob("*.lock"))
    assert not out.is_file()


@pytest.mark.slow
def test_encode_goes_on_once_there_is_room(data: Path, tmp_path: Path) -> None:
    def command(out: str) -> list[object]:  # by ranges: what was measured would fill every part
        return [*COMMANDS["encode"][0](data, tmp_path / out), "--ranges-only"]

    assert cli_kit.run(command("straight"), [sys.executable, cli_kit.TINY])[0] == 0
    size = (tmp_path / "straight").stat().st_size
    status, said = cli_kit.run(command("out"), limited(size // 2 >> 10))  # parts fit, the whole does not
    assert status == EXIT_USER_ERROR and f"cannot write {tmp_path / 'out'}: " in said
    assert len(list((tmp_path / "out.parts").glob("part-*"))) == 6
    assert cli_kit.run(command("out"), [sys.executable, cli_kit.TINY])[0] == 0
    assert (tmp_path / "out").read_bytes() == (tmp_path / "straight").read_bytes()


FILLING = """
import resource, sys
from xtok.cli.main import main
from xtok.pretrain.loop import Trainer

step = Trainer.train_step

def filling(self):
    if self.step == 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, -1))
    return step(self)

Trainer.train_step = filling
sys.exit(main())
"""


@pytest.mark.slow
def test_train_goes_on_from_the_checkpoint_before(tmp_path: Path) -> None:
    """A disk that is full after two steps: the log cannot grow; nothing is lost."""
    arguments = ["train", "tiny", "--data", sample_path(), "-o", tmp_path / "run"]
    status, said = cli_kit.run(arguments, [sys.executable, "-c", FILLING])
    assert status == EXIT_USER_ERROR, said
    assert f"cannot write {tmp_path / 'run/metrics.jsonl'}: " in said and "with --resume" in said, said
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["00000002"]
    assert main([*map(str, arguments), "--resume"]) == 0
    assert (tmp_path / "run/model.safetensors").is_file()


def without_privilege() -> None:
    """In a child, before it becomes the command: root may write everywhere, and no longer does after this."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            assert libc.prctl(24, capability, 0, 0, 0) == 0  # PR_CAPBSET_DROP


def as_anybody(arguments: list[object]) -> tuple[int, str]:
    return cli_kit.run(arguments, preexec_fn=without_privilege)


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """ro: a folder that may not be written in, with another one and a file in it."""
    folder = tmp_path / "ro"
    (folder / "old").mkdir(parents=True)
    (folder / "old.parquet").write_text("mine")
    for path in (folder / "old", folder):
        path.chmod(0o555)
    yield folder
    for path in (folder, folder / "old"):
        path.chmod(0o755)


@pytest.mark.parametrize(
    "command",
    [
        ["encode", "DATA", "-o", "RO/c.parquet"],
        ["encode", "DATA", "-o", "RO/old.parquet"],
        ["encode", "DATA", "-o", "RO/new/c.parquet"],
        ["stats", "DATA", "-o", "RO/st.json"],
        ["pack", "DATA", "-o", "RO/corpus"],
        ["pack", "DATA", "-o", "RO/old"],
        ["adapt", "DATA", "-o", "RO/tok"],
        ["train", "small_joints", "--data", "DATA", "-o", "RO/old"],
        ["eval", "--data", "DATA", "--json", "RO/e.json"],
        ["inspect", "DATA", "-o", "RO/pages"],
    ],
    ids=" ".join,
)
def test_a_read_only_folder_is_told_before_the_work(command: list[str], locked: Path, data: Path) -> None:
    given: list[object] = [each.replace("DATA", str(data)).replace("RO", str(locked)) for each in command]
    status, said = as_anybody(given)
    assert status == EXIT_USER_ERROR, said
    assert "damaged" not in said and "Traceback" not in said
    assert ("cannot write" in said and "chmod u+w" in said) or "is read-only" in said, said
    assert "episodes" not in said  # nothing was looked at yet
    assert (locked / "old.parquet").read_text() == "mine"


def test_data_that_may_not_be_read_are_not_called_damaged(locked: Path, data: Path) -> None:
    secret = data / "data/chunk-000/episode_000002.parquet"
    mode = secret.stat().st_mode
    secret.chmod(0)
    try:
        status, said = as_anybody(["stats", data])
    finally:
        secret.chmod(mode)
    assert status == EXIT_USER_ERROR, said
    assert "chmod -R u+rX" in said and "damaged" not in said, said


@pytest.mark.slow
def test_a_real_full_disk(tmp_path: Path, data: Path) -> None:
    """A file system of 200 kB, where this user may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip("only root may mount a small disk")
    try:
        for name in ("adapt", "pack"):
            if name == "pack":
                (disk / "filler").write_bytes(bytes(190 << 10))
            status, said = cli_kit.run(COMMANDS[name][0](data, disk / name), [sys.executable, cli_kit.TINY])
            assert status == EXIT_USER_ERROR, said
            assert "is full (0.0 MB left)" in said or "is full (0." in said, said
            assert f"cannot write {disk / name}" in said and "damaged" not in said
    finally:
        subprocess.run(["umount", str(disk)], check=True)
