"""Files and folders that are there whole or not at all."""

from pathlib import Path

import pytest

from xtok.atomic import atomic_file, atomic_folder, atomic_write, forget_drafts


def test_a_file_keeps_its_old_content_if_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.json"
    atomic_write(path, "old")
    with pytest.raises(RuntimeError), atomic_file(path) as draft:
        draft.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_what_killed_runs_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    names = ["a[1].json", ".a[1].json.7.tmp", ".a1.json.7.tmp", ".b.json.7.tmp"]
    for name in names:
        (tmp_path / name).touch()
    forget_drafts(tmp_path / "a[1].json")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(set(names) - {".a[1].json.7.tmp"})


def test_a_folder_appears_with_all_its_files_or_not_at_all(tmp_path: Path) -> None:
    final = tmp_path / "shard"
    with pytest.raises(RuntimeError), atomic_folder(final) as draft:
        (draft / "a").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with atomic_folder(final) as draft:
        (draft / "a").write_text("whole")
        assert not final.exists()
    assert (final / "a").read_text() == "whole"


def test_of_two_processes_the_first_one_stays(tmp_path: Path) -> None:
    final = tmp_path / "shard"
    with atomic_folder(final) as draft:
        (draft / "a").write_text("second")
        final.mkdir()
        (final / "a").write_text("first")
    assert (final / "a").read_text() == "first"
    assert list(tmp_path.iterdir()) == [final]


def test_a_folder_cannot_take_the_place_of_a_file(tmp_path: Path) -> None:
    final = tmp_path / "shard"
    final.write_text("a file")
    with pytest.raises(OSError), atomic_folder(final) as draft:
        (draft / "a").write_text("whole")
    assert final.read_text() == "a file"
