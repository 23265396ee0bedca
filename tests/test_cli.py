"""The command as a person uses it: what it writes, what it says when something is wrong, and going on after a stop."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import synthetic
import xtok
from xtok.actions.types import ChunkBatch, concatenate
from xtok.cli import encode as encode_command
from xtok.cli import encode_parts
from xtok.cli.main import EXIT_INTERRUPTED, EXIT_USER_ERROR, main
from xtok.codec.gaussian import GaussianCodec
from xtok.codec.gaussian.robot_statistics import RobotStatistics, load_statistics
from xtok.data import iter_chunks, open_dataset, sample_path, select
from xtok.pretrain.corpus import Corpus
from xtok.pretrain.initialise import initialise
from xtok.recipes import tiny

HORIZON = 16
SAMPLE = str(sample_path())


@pytest.fixture(scope="module")
def tokenizer_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small tokenizer with priors and books of the sample, networks as they start."""
    recipe = tiny()
    torch.manual_seed(0)
    codec = GaussianCodec(synthetic.TINY)
    corpus = Corpus.open(codec.layout, [sample_path()])
    initialise(codec, corpus, recipe.seed, recipe.codebooks.vectors, recipe.codebooks.iterations, progress=False)
    folder = tmp_path_factory.mktemp("tokenizer")
    xtok.Tokenizer(codec).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def codes(tokenizer_path: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("codes") / "codes.parquet"
    assert main(encode_arguments(path, tokenizer_path)) == 0
    return path


def encode_arguments(out: Path, tokenizer_path: str) -> list[str]:
    return ["encode", SAMPLE, "-o", str(out), "--tokenizer", tokenizer_path, "--horizon", str(HORIZON)]


def sample_chunks() -> ChunkBatch:
    """All chunks that `encode` cuts from the sample, in its order."""
    return concatenate([c for e in select(open_dataset(SAMPLE), "all") for c in iter_chunks([e], HORIZON, HORIZON)])


def rewrite(codes: Path, out: Path, row: int, sequence: list[int]) -> Path:
    """A copy of a code file with the codes of one row replaced."""
    table = pq.read_table(codes)
    rows = table["codes"].to_pylist()
    rows[row] = sequence
    index = table.schema.get_field_index("codes")
    pq.write_table(
        table.set_column(index, table.schema.field(index), pa.array(rows, table.schema.field(index).type)), out
    )
    return out


def test_encode_writes_the_codes_of_the_tokenizer_in_order(codes: Path, tokenizer_path: str) -> None:
    table = pq.read_table(codes)
    chunks = sample_chunks()
    expected = xtok.Tokenizer.from_pretrained(tokenizer_path).encode(chunks)
    assert [row.tolist() for row in expected.tokens] == table["codes"].to_pylist()
    anchor_BD = chunks.context.anchor_BD
    assert anchor_BD is not None
    np.testing.assert_array_equal(np.array(table["anchor"].to_pylist(), np.float32), anchor_BD.numpy())
    starts = np.array(table["frame_start"])
    assert set(starts % HORIZON) == {1}  # frame 0 is the first anchor
    assert set(table["horizon"].to_pylist()) == {HORIZON}


def test_decode_gives_the_actions_of_the_tokenizer(codes: Path, tokenizer_path: str, tmp_path: Path) -> None:
    out = tmp_path / "actions.parquet"
    assert main(["decode", str(codes), "-o", str(out), "--tokenizer", tokenizer_path, "--levels", "2"]) == 0
    tokenizer = xtok.Tokenizer.from_pretrained(tokenizer_path)
    chunks = sample_chunks()
    expected = tokenizer.decode(tokenizer.encode(chunks), chunks.context, levels=2).absolute_BTD
    assert expected is not None
    table = pq.read_table(out)
    np.testing.assert_array_equal(np.array(table["action"].to_pylist(), np.float32), expected.flatten(0, 1).numpy())
    frame = np.array(table["frame_index"]) - np.array(table["frame_start"])
    np.testing.assert_array_equal(frame, np.tile(np.arange(HORIZON), len(chunks)))
    assert all(table["complete"].to_pylist())


def test_encode_goes_on_after_a_stop_and_ends_with_the_same_bytes(
    codes: Path,
    tokenizer_path: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(encode_command, "EPISODES_PER_PART", 2)
    arguments = encode_arguments(tmp_path / "codes.parquet", tokenizer_path)
    assert main(arguments) == 0
    straight = (tmp_path / "codes.parquet").read_bytes()
    assert pq.read_table(tmp_path / "codes.parquet").equals(pq.read_table(codes))
    (tmp_path / "codes.parquet").unlink()

    write_part, written = encode_parts.write_part, []

    def stopped(path: Path, *rest: object) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        write_part(path, *rest)  # type: ignore[arg-type]
        written.append(path)

    monkeypatch.setattr(encode_parts, "write_part", stopped)
    assert main(arguments) == EXIT_INTERRUPTED
    assert "same command again" in capsys.readouterr().err
    assert not (tmp_path / "codes.parquet").exists()
    assert [pq.read_table(path).num_rows > 0 for path in written] == [True, True]

    resumed: list[Path] = []
    monkeypatch.setattr(encode_parts, "write_part", lambda path, *rest: resumed.append(path) or write_part(path, *rest))
    assert main(arguments) == 0
    assert not set(resumed) & set(written)
    assert (tmp_path / "codes.parquet").read_bytes() == straight
    assert [path.name for path in tmp_path.iterdir()] == ["codes.parquet"]


def test_encode_leaves_nothing_half_written(
    tokenizer_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(table: pa.Table, path: Path) -> None:
        path.write_bytes(b"PAR1 cut short")
        raise OSError("no space left")

    monkeypatch.setattr(pq, "write_table", torn)
    out = tmp_path / "codes.parquet"
    assert main(encode_arguments(out, tokenizer_path)) == EXIT_USER_ERROR
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["codes.parquet.parts", "settings.json"]


def test_parts_of_another_run_are_not_mixed_in(
    tokenizer_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(encode_command, "join", stop)
    arguments = encode_arguments(tmp_path / "codes.parquet", tokenizer_path)
    assert main(arguments) == EXIT_INTERRUPTED
    assert main([*arguments, "--stride", "4"]) == EXIT_USER_ERROR
    assert "other settings" in capsys.readouterr().err


def test_encode_can_refuse_saturated_values(
    tokenizer_path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = encode_arguments(tmp_path / "codes.parquet", tokenizer_path)
    assert main(arguments) == 0
    report = capsys.readouterr().err.split("saturated")[1]
    tokenizer = xtok.Tokenizer.from_pretrained(tokenizer_path)
    shares = {name: f"{share:.3%}" for name, share in tokenizer.saturation(sample_chunks()).items()}
    assert dict(line.split() for line in report.splitlines()[1:]) == shares
    assert main([*arguments, "--on-saturation", "raise"]) == EXIT_USER_ERROR
    assert "values beyond the statistics of 'panda'" in capsys.readouterr().err


def test_decode_refuses_another_tokenizer(
    codes: Path, tokenizer_path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = xtok.Tokenizer.from_pretrained(tokenizer_path)
    other.codec.quantizers[0].books_QVC[0, 0] += 0.001  # one code of one book
    other.save_pretrained(tmp_path / "other")
    out = tmp_path / "actions.parquet"
    assert main(["decode", str(codes), "-o", str(out), "--tokenizer", str(tmp_path / "other")]) == EXIT_USER_ERROR
    assert "codes mean nothing to another tokenizer" in capsys.readouterr().err
    assert not out.exists()


def test_decode_refuses_or_repairs_codes_that_cannot_be(
    codes: Path, tokenizer_path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sequence = pq.read_table(codes)["codes"].to_pylist()[3]
    bad = rewrite(codes, tmp_path / "bad.parquet", 3, [*sequence[:8], 9999, *sequence[9:]])
    out = tmp_path / "actions.parquet"
    arguments = ["decode", str(bad), "-o", str(out), "--tokenizer", tokenizer_path]
    assert main(arguments) == EXIT_USER_ERROR
    assert "9999" in capsys.readouterr().err
    assert not out.exists()
    assert main([*arguments, "--on-invalid", "repair"]) == 0
    assert "dropped 2 of 4" in capsys.readouterr().err
    complete = pq.read_table(out)["complete"].to_pylist()[3 * HORIZON : 4 * HORIZON]
    assert complete == [True] * 8 + [False] * 8


@pytest.mark.parametrize("keep", [0, 4, 0.5, 0.99])
def test_decode_refuses_a_truncated_file(
    codes: Path, tokenizer_path: str, tmp_path: Path, keep: float, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = codes.read_bytes()
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(whole[: keep if isinstance(keep, int) else int(keep * len(whole))])
    out = tmp_path / "actions.parquet"
    assert main(["decode", str(cut), "-o", str(out), "--tokenizer", tokenizer_path]) == EXIT_USER_ERROR
    assert "not a whole parquet file" in capsys.readouterr().err
    assert not out.exists()


def test_decode_refuses_a_parquet_file_that_holds_no_codes(
    tokenizer_path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    arguments = ["decode", str(tmp_path / "other.parquet"), "-o", str(tmp_path / "a.parquet")]
    assert main([*arguments, "--tokenizer", tokenizer_path]) == EXIT_USER_ERROR
    assert "not written by `xtok encode`" in capsys.readouterr().err


def test_adapt_writes_a_tokenizer_of_its_own(
    codes: Path,
    tokenizer_path: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys.modules["xtok.pretrain.adapt"], "WINDOWS", 256)  # seconds instead of half a minute
    monkeypatch.setattr(sys.modules["xtok.pretrain.adapt"], "CALIBRATION", 4)
    before = xtok.Tokenizer.from_pretrained(tokenizer_path).digest
    assert main(["adapt", SAMPLE, "-o", str(tmp_path / "mine"), "--tokenizer", tokenizer_path]) == 0
    adapted = xtok.Tokenizer.from_pretrained(tmp_path / "mine")
    assert adapted.digest in capsys.readouterr().out
    assert xtok.Tokenizer.from_pretrained(tokenizer_path).digest == before
    arguments = encode_arguments(tmp_path / "codes.parquet", str(tmp_path / "mine"))
    assert main(arguments) == 0
    assert pq.read_table(tmp_path / "codes.parquet").num_rows == pq.read_table(codes).num_rows


def test_stats_saves_what_encode_takes(tokenizer_path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "panda.json"
    assert main(["stats", SAMPLE, "-o", str(saved)]) == 0
    assert "right_position.0" in capsys.readouterr().out
    robot = load_statistics(saved)
    assert isinstance(robot, RobotStatistics) and robot.embodiment == "panda"
    arguments = encode_arguments(tmp_path / "codes.parquet", tokenizer_path)
    assert main([*arguments, "--statistics", str(saved)]) == EXIT_USER_ERROR
    assert "measured for codebooks" in capsys.readouterr().err
    assert main(["stats", SAMPLE, "--tokenizer", tokenizer_path, "-o", str(saved)]) == 0
    assert main([*arguments, "--statistics", str(saved)]) == 0


def test_eval_prints_a_table_and_writes_both_files(
    tokenizer_path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--json", str(tmp_path / "e.json"), "--report", str(tmp_path / "e.html")]
    arguments = ["eval", "--data", SAMPLE, "--tokenizer", tokenizer_path, "--horizons", "8", "--baselines", "bins"]
    assert main([*arguments, *files, "--chunks", "6"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("panda (panda), heldout episodes")
    assert [line.split()[:2] for line in lines[2:4]] == [["8", "xtok"], ["8", "bins"]]
    assert 0 < json.loads((tmp_path / "e.json").read_text())["chunks"]["8"] <= 6
    assert (tmp_path / "e.html").read_text().lstrip().startswith("<!")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stats", "no/such/folder"], "no folder at"),
        (["train", "no_such_recipe", "--data", SAMPLE, "-o", "out"], "unknown recipe"),
        (["encode", SAMPLE, "-o", "c.parquet", "--tokenizer", "./nowhere"], "nowhere"),
        (["decode", "nowhere.parquet", "-o", "a.parquet"], "no such file"),
        (["eval", "--data", SAMPLE, "--chunks", "0"], "expected 1 or more"),
    ],
)
def test_errors_are_one_line_without_a_traceback(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == EXIT_USER_ERROR
    said = capsys.readouterr().err
    assert said.startswith("xtok: error: ")
    assert message in said
    assert "Traceback" not in said
    with pytest.raises((ValueError, OSError)):
        main(["--debug", *arguments])


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"xtok {xtok.__version__}\n"
