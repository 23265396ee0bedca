"""`xtok inspect` overwrites nobody's work, gives every set its own files, and its questions hold others back."""
# ruff: noqa: E501 - words of a page

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from folders import STATE
from proposal_kit import XYZ, XYZW, joints, opening, place, pose, state, turn, write
from xtok.cli.main import main
from xtok.data import open_dataset

JOINTS = {STATE: ["j1", "j2", "j3"]}


def joint_set(root: Path, **more: object) -> Path:
    return write(root, lambda r: state(joints(r, 3)), JOINTS, **more)  # type: ignore[arg-type]


def asked_set(root: Path) -> Path:
    """Which end of the gripper is open, nobody says."""
    return write(root, lambda r: state(pose(r), opening(r)), {STATE: [*XYZ, *XYZW, "gripper"]})


def test_an_edited_mapping_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = joint_set(tmp_path / "mine"), tmp_path / "out"
    inspect = ["inspect", str(folder), "-o", str(out)]
    assert main(inspect) == 0
    mapping = out / "mine.yaml"
    written = mapping.read_bytes()
    assert (
        main(inspect) == 0 and mapping.read_bytes() == written and not list(out.glob("*.new*"))
    )  # as written: replaced

    edited = written + b"# my remark\n"
    mapping.write_bytes(edited)
    capsys.readouterr()
    assert main(inspect) == 0
    assert mapping.read_bytes() == edited and (out / "mine.new.yaml").read_bytes() == written
    said = capsys.readouterr()
    assert f"{mapping} has been edited and stays as it is" in said.err and "mine.new.yaml" in said.out

    (out / "mine.new.yaml").write_bytes(edited)  # that one too
    assert main(inspect) == 0
    assert (out / "mine.new.yaml").read_bytes() == edited and (out / "mine.new2.yaml").read_bytes() == written
    mapping.unlink()
    assert main(inspect) == 0 and mapping.read_bytes() == written


@pytest.mark.parametrize(
    "content", [b"", b"layout: joints\n", b"\xff\xfe no text", b"# proposed by `xtok inspect`; of an older xtok\n"]
)
def test_a_file_that_it_did_not_write_is_nobodys_to_replace(tmp_path: Path, content: bytes) -> None:
    folder, out = joint_set(tmp_path / "mine"), tmp_path / "out"
    out.mkdir()
    (out / "mine.yaml").write_bytes(content)
    assert main(["inspect", str(folder), "-o", str(out)]) == 0
    assert (out / "mine.yaml").read_bytes() == content and (out / "mine.new.yaml").exists()


def test_sets_of_one_name_have_files_of_their_own(tmp_path: Path) -> None:
    out = tmp_path / "out"
    folders = [joint_set(tmp_path / parent / "set") for parent in ("a", "b", "x/b")]
    for _ in range(2):  # the second time everyone finds its own again
        for folder in folders:
            assert main(["inspect", str(folder), "-o", str(out)]) == 0
    found = sorted(out.glob("*.yaml"))
    assert len(found) == 3 and {path.name for path in found} >= {"set.yaml", "b-set.yaml"}
    data = {
        json.loads(line[6:]) for path in found for line in path.read_text().splitlines() if line.startswith("data: ")
    }
    assert data == {str(folder) for folder in folders}
    assert len(list(out.glob("*.html"))) == 3


def test_pages_of_one_name_are_kept_apart_without_mappings_too(tmp_path: Path) -> None:
    import shutil

    from xtok.data import sample_path

    for parent in "ab":
        shutil.copytree(sample_path(), tmp_path / parent / "panda")
        assert main(["inspect", str(tmp_path / parent / "panda"), "-o", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*")) == ["b-panda.html", "panda.html"]


@pytest.mark.parametrize("name", ["mine", "数据集", "Übung 1", "données", "a+b"])
def test_a_set_has_the_name_of_its_folder_however_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = joint_set(tmp_path / "in" / name)
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(folder)
    ways = [".", "./", "../" + name, str(folder) + "/", str(tmp_path / "link"), "data/.."]
    assert {open_dataset(way).name for way in ways} == {name}
    assert open_dataset(".")[0].dataset == name
    assert main(["inspect", ".", "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / f"{name}.yaml").exists() and (tmp_path / "out" / f"{name}.html").exists()
    assert open_dataset(tmp_path / "out" / f"{name}.yaml").name == name


def test_a_question_holds_every_command_back_until_it_is_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out, codes = asked_set(tmp_path / "mine"), tmp_path / "out", tmp_path / "codes.parquet"
    assert main(["stats", str(folder)]) == 2
    said = capsys.readouterr().err
    assert (
        "which end of gripper is open" in said and f"xtok inspect {folder}" in said and "out/inspect/mine.yaml" in said
    )

    assert main(["inspect", str(folder), "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert "not decided: 1 question" in said and "answer the question there, then give it to any command" in said
    mapping = out / "mine.yaml"
    for command in (["stats"], ["encode", "-o", str(codes)], ["pack", "-o", str(tmp_path / "corpus")]):
        assert main([command[0], str(mapping), *command[1:]]) == 2
        assert "mine.yaml, line 7: not decided yet:" in capsys.readouterr().err
        assert main([command[0], str(folder), "--mapping", str(mapping), *command[1:]]) == 2
        capsys.readouterr()
    assert not codes.exists()
    with pytest.raises(ValueError, match="not decided yet"):
        open_dataset(mapping)

    assert main(["inspect", str(mapping), "-o", str(out)]) == 0  # to look at it, it is good
    assert "? 1. which end of gripper is open" in capsys.readouterr().out
    kept = [line for line in mapping.read_text().splitlines() if not line.startswith("  - ")]
    mapping.write_text("\n".join(kept) + "\n")  # the key alone is left
    assert main(["stats", str(mapping)]) == 0
    assert main(["inspect", str(folder), "-o", str(out)]) == 0
    assert mapping.read_text() == "\n".join(kept) + "\n"


def test_the_other_reading_is_a_line_that_can_be_used(tmp_path: Path) -> None:
    folder, out = asked_set(tmp_path / "mine"), tmp_path / "out"
    assert main(["inspect", str(folder), "-o", str(out)]) == 0
    text = (out / "mine.yaml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("  - ")]
    opened = open_mapping(tmp_path / "one.yaml", lines)
    at = next(i for i, line in enumerate(lines) if line.lstrip().startswith("# 1, or: gripper"))
    lines[at - 1] = lines[at].replace("# 1, or: ", "")
    turned = open_mapping(tmp_path / "two.yaml", lines)
    np.testing.assert_allclose(turned[:, 19], 1 - opened[:, 19], atol=1e-6)


def open_mapping(path: Path, lines: list[str]) -> np.ndarray:
    path.write_text("\n".join(lines) + "\n")
    return open_dataset(path)[0].absolute_ND


def test_the_page_has_traps_mapping_questions_and_the_sets_own_names(tmp_path: Path) -> None:
    names = [*XYZ, *XYZW, "gripper", "battery <V>"]
    folder = write(tmp_path / "mine", lambda r: state(pose(r), opening(r), np.full((90, 1), 12.0)), {STATE: names})
    assert main(["inspect", str(folder), "-o", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "mine.html").read_text()
    for part in ("<h2>Traps</h2>", "<h2>Mapping</h2>", "<h2>To decide</h2>", "<h2>Channels</h2>", "<b>still channels</b>", "battery &lt;V&gt;",
                 "<td>right_position.0</td><td>x</td>", "qx, qy, qz, qw"):  # fmt: skip
        assert part in page, part
    assert page.index("<h2>Traps") < page.index("<h2>Mapping") and "<details" not in page and "<script" not in page
    plots = page.count('<figure class="row">')
    assert plots == 3 and page.count("<svg") == 15  # each episode begins a row of five

    assert main(["inspect", str(joint_set(tmp_path / "joints")), "-o", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "joints.html").read_text()
    assert "</i>j3</li>" in page and "<td>joint.2</td><td>j3</td>" in page and "To decide" not in page


def native(root: Path, unit: str) -> Path:
    """A mapping of joints in some unit."""
    folder = joint_set(root)
    path = root.with_suffix(".yaml")
    path.write_text(f'data: {folder}\nlayout: joints\njoints: {{from: "observation.state[0:3]", unit: {unit}}}\n')
    return path


@pytest.mark.parametrize(("unit", "told"), [("native", "native"), ("rad", "rad"), ("deg", "rad")])
def test_the_unit_of_joints_goes_with_the_data(
    tmp_path: Path, unit: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = native(tmp_path / "other", "rad" if unit == "native" else "native")
    open_dataset(other)  # the same robot in another unit, read before
    mapping = native(tmp_path / "set", unit)
    assert main(["stats", str(mapping)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("  joint.")]
    assert len(rows) == 3 and {row[-1] for row in rows} == {told}
    codes, actions = tmp_path / "codes.parquet", tmp_path / "actions.parquet"
    assert main(["encode", str(mapping), "-o", str(codes)]) == 0
    assert main(["decode", str(codes), "-o", str(actions)]) == 0
    about = json.loads(pq.read_schema(actions).metadata[b"xtok.actions"])
    assert about["units"][:60] == [told] * 60 and about["units"][60] == "1"
    assert ("joint_units" in about) is (told == "native")

    from xtok.evaluate.dataset import joint_unit

    assert joint_unit(open_dataset(mapping)) == told
    corpus = tmp_path / "corpus"
    assert main(["pack", str(mapping), str(other), "-o", str(corpus)]) == 0
    packed = open_dataset(corpus / "set")
    assert joint_unit(packed) == told and packed[0].joint_unit == told


def test_sets_of_several_units_say_so(tmp_path: Path) -> None:
    from xtok.data import join
    from xtok.evaluate.dataset import joint_unit

    one, two = open_dataset(native(tmp_path / "a", "native")), open_dataset(native(tmp_path / "b", "rad"))
    assert joint_unit(join([one, one])) == "native" and joint_unit(join([two, two])) == "rad"
    with pytest.raises(ValueError, match="joints of 'none:my_arm' are in rad in b and in native"):
        join([one, two])
    named = (tmp_path / "b.yaml").read_text() + "embodiment: another\n"
    (tmp_path / "c.yaml").write_text(named)
    three = open_dataset(tmp_path / "c.yaml")
    assert joint_unit(join([one, three])) == "mixed" == joint_unit(join([three, one]))


def test_poses_that_can_be_read_are_drawn_with_their_rotation_vector(tmp_path: Path) -> None:
    names = [*XYZ, "rotvec_x", "rotvec_y", "rotvec_z"]
    folder = write(tmp_path / "mine", lambda r: state(place(r), turn(r).as_rotvec()), {STATE: names})
    assert main(["inspect", str(folder), "-o", str(tmp_path / "out")]) == 0
    assert "rotvec_x, rotvec_y, rotvec_z</td>" in (tmp_path / "out" / "mine.html").read_text()
