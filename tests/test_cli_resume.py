"""Work that goes on after a stop is bound to the data, the mapping, the tokenizer and the settings, not to names."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cli_kit
from xtok.cli import encode as encode_command
from xtok.cli import encode_parts
from xtok.cli.main import EXIT_INTERRUPTED, EXIT_USER_ERROR, main
from xtok.data.digests import WHOLE_BYTES, differences, folder_digest
from xtok.data.fingerprint import fingerprint

MAPPING = "layout: joints\njoints: {from: observation.state, unit: rad}\nembodiment: none:mine\ncontrol_hz: 10\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """a/set, and b/set: a folder of the same name, robot and shape with other motion; two mappings of one name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(encode_command, "EPISODES_PER_PART", 2)
    for seed, who in enumerate("ab"):
        cli_kit.joints(tmp_path / who / "set", seed)
        (tmp_path / who / "m.yaml").write_text(MAPPING.replace("rad", "rad" if who == "a" else "deg"))
        assert main(["stats", f"{who}/set", "-o", f"{who}/st.json"]) == 0
    return tmp_path


def arguments(data: str = "a/set", mapping: str | None = None, statistics: str = "a/st.json", *more: str) -> list[str]:
    read = [] if mapping is None else ["--mapping", mapping]
    known = [] if mapping is not None else ["--statistics", statistics]
    return ["encode", data, *read, *known, "-o", "c.parquet", "--horizon", "8", *more]


def stop_after(parts: int, command: list[str]) -> None:
    """Run a command that is stopped after so many parts, as by Ctrl-C."""
    real, written = encode_parts.write_part, []

    def stopping(path: Path, *rest: object) -> None:
        if len(written) == parts:
            raise KeyboardInterrupt
        real(path, *rest)  # type: ignore[arg-type]
        written.append(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode_parts, "write_part", stopping)
        assert main(command) == EXIT_INTERRUPTED


def edit_small(place: Path) -> None:
    """One value of one episode, in a file of the same size."""
    path = place / "a/set/data/chunk-000/episode_000006.parquet"
    table, size = pq.read_table(path), path.stat().st_size
    rows = table["observation.state"].to_pylist()
    rows[40][2] += 0.01
    index = table.schema.get_field_index("observation.state")
    field = table.schema.field(index)
    pq.write_table(table.set_column(index, field, pa.array(rows, field.type)), path)
    assert path.stat().st_size == pytest.approx(size, rel=0.1)


def edit_rate(place: Path) -> None:
    info = place / "a/set/meta/info.json"
    content = json.loads(info.read_text())
    info.write_text(json.dumps({**content, "fps": 20}))


def add_episode(place: Path) -> None:
    cli_kit.joints(place / "a/set", seed=0, episodes=9)


def swap_folder(place: Path) -> None:
    shutil.rmtree(place / "a/set")
    shutil.copytree(place / "b/set", place / "a/set")


OTHERS: dict[str, tuple[Callable[[Path], object], list[str], list[str], str]] = {
    # what was changed between stop and start: how, the first command, the second, what is said to differ
    "another folder of that name": (lambda p: None, arguments(), arguments("b/set"), "contents of the data"),
    "the folder behind the name": (swap_folder, arguments(), arguments(), "contents of the data"),
    "one value": (edit_small, arguments(), arguments(), "contents of the data"),
    "the rate": (edit_rate, arguments(mapping="a/m.yaml"), arguments(mapping="a/m.yaml"), "contents of the data"),
    "an episode more": (add_episode, arguments(), arguments(), "contents of the data"),
    "another mapping of that name": (
        lambda p: shutil.copy(p / "b/m.yaml", p / "a/m.yaml"),
        arguments(mapping="a/m.yaml"),
        arguments(mapping="a/m.yaml"),
        "mapping",
    ),
    "statistics": (lambda p: None, arguments(), arguments(statistics="b/st.json"), "tokenizer"),
    "horizon": (lambda p: None, arguments(), [*arguments(), "--horizon", "16"], "horizon (8, now 16)"),
    "stride": (lambda p: None, arguments(), [*arguments(), "--stride", "4"], "stride (8, now 4)"),
    "split": (lambda p: None, arguments(), [*arguments(), "--split", "train"], "split (all, now train)"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_encode_does_not_go_on_with_other_work(what: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, first, second, said = OTHERS[what]
    stop_after(2, first)
    change(place)
    capsys.readouterr()
    assert main(second) == EXIT_USER_ERROR
    told = capsys.readouterr().err
    assert "other settings" in told and said in told and "remove the folder" in told, told
    assert not (place / "c.parquet").exists()
    assert len(list((place / "c.parquet.parts").glob("part-*"))) == 2


@pytest.mark.parametrize("same", ["again", "by another path", "a copy", "touched"])
def test_encode_goes_on_with_the_same_data_wherever_they_lie(same: str, place: Path) -> None:
    assert main([*arguments(), "-o", "straight.parquet"]) == 0
    stop_after(2, arguments())
    data = {"by another path": "./b/../a/set", "a copy": "copy/set"}.get(same, "a/set")
    if same == "a copy":
        shutil.copytree("a/set", "copy/set")
    if same == "touched":
        for path in Path("a/set").rglob("*.parquet"):
            os.utime(path)
    assert main(arguments(data)) == 0
    assert Path("c.parquet").read_bytes() == Path("straight.parquet").read_bytes()
    assert not Path("c.parquet.parts").exists()


def test_parts_without_a_record_are_not_trusted(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stop_after(2, arguments())
    (place / "c.parquet.parts/settings.json").unlink()
    assert main(arguments()) == EXIT_USER_ERROR
    assert "parts of an unknown run" in capsys.readouterr().err
    stop = place / "c.parquet.parts/settings.json"
    stop.write_text('{"horizon": ')
    assert main(arguments()) == EXIT_USER_ERROR
    assert "is damaged" in capsys.readouterr().err


def test_values_outside_are_refused_in_parts_that_were_only_to_report_them(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli_kit.joints(place / "wide", seed=0, scale=3)
    others = arguments("wide")
    stop_after(3, others)
    assert main([*others, "--on-saturation", "raise"]) == EXIT_USER_ERROR
    assert "values beyond the statistics" in capsys.readouterr().err


def test_pack_says_what_differs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", "a/set", "-o", "corpus"]) == 0
    changes = {
        "--no-statistics": "statistics (true, now false)",
        "--mapping=a/m.yaml": "units.0.mapping (none, now a/m",
    }
    for change, what in changes.items():
        assert main(["pack", "a/set", "-o", "corpus", change]) == EXIT_USER_ERROR
        told = capsys.readouterr().err
        assert "was begun with other" in told and what in told, told
    swap_folder(place)
    assert main(["pack", "a/set", "-o", "corpus"]) == EXIT_USER_ERROR
    assert "has changed since" in capsys.readouterr().err


def test_train_resumes_only_what_it_began(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Folders, names and rates: motion alone is not all that decides a run."""
    joint = ["train", "small_joints", "--data"]
    with pytest.MonkeyPatch.context() as patch:
        from xtok import recipes

        small = recipes.tiny()
        from dataclasses import replace

        codec = replace(small.codec, layout="joints")
        patch.setitem(recipes.RECIPES, "small_joints", lambda: replace(small, name="small_joints", codec=codec))
        assert main([*joint, "a/set", "-o", "run"]) == 0
        assert main([*joint, "a/set", "-o", "run", "--resume"]) == 0
        capsys.readouterr()
        assert main([*joint, "b/set", "-o", "run", "--resume"]) == EXIT_USER_ERROR
        assert "another data_digest" in capsys.readouterr().err
        edit_rate(place)
        assert main([*joint, "a/set", "-o", "run", "--resume"]) == EXIT_USER_ERROR
        assert "statistics" in capsys.readouterr().err
        shutil.copytree("b/set", "c/renamed")


def test_the_middle_of_a_long_file_counts(tmp_path: Path) -> None:
    """It is not read, so its time decides; of a corpus, which may be copied, it does not."""
    path = tmp_path / "set" / "long.bin"
    path.parent.mkdir()
    content = np.zeros(WHOLE_BYTES * 2, np.uint8)
    path.write_bytes(content.tobytes())
    os.utime(path, ns=(1, 1))
    first = folder_digest(path.parent, times=True)
    content[WHOLE_BYTES] = 1
    path.write_bytes(content.tobytes())
    os.utime(path, ns=(2, 2))
    assert folder_digest(path.parent, times=True) != first


def test_a_fingerprint_is_of_contents_and_rules(place: Path) -> None:
    a, b = (fingerprint(f"{who}/set") for who in "ab")
    assert a.contents != b.contents and a.rules == b.rules == ""
    mapped = [fingerprint("a/set", f"{who}/m.yaml") for who in "ab"]
    assert mapped[0].contents == mapped[1].contents == a.contents
    assert len({each.rules for each in (*mapped, a)}) == 3


def test_differences_are_told_in_words() -> None:
    before = {"a": 1, "same": [1], "deep": {"x": "old", "y": None}, "gone": True, "long": "x" * 200}
    now = {"a": 2, "same": [1], "deep": {"x": "new", "y": 3}, "long": "y" * 200, "come": (1, 2)}
    assert differences(before, now) == [
        "a (1, now 2)",
        "deep.x (old, now new)",
        "deep.y (none, now 3)",
        "long",
        "come (none, now [1, 2])",
        "gone (true, now none)",
    ]
    assert differences(now, json.loads(json.dumps(now))) == []
