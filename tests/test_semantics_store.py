"""The feature store: what goes in comes out at its frame; killed anywhere, it goes on; damage is seen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluate_kit import episode
from folders import CAMERA, STATE, numbers_shown, write_v21, write_v30, write_video
from pack_kit import contents
from teacher_kit import CountingTeacher
from xtok.actions.layout import ARMS26
from xtok.cli.main import main
from xtok.data import Episode, Segment
from xtok.semantics import extract as extraction
from xtok.semantics.extract import finish, is_done, plan, write_shard
from xtok.semantics.store import FeatureStore, sample_frames
from xtok.semantics.teacher import TEMPLATE, Frame, look, prompt

LENGTHS = (11, 20, 29)


class NumberTeacher(CountingTeacher):
    """Its first feature is the number that the picture shows."""

    def see(self, pictures):  # type: ignore[no-untyped-def]
        features = super().see(pictures)
        features[:, 0] = numbers_shown(np.stack(pictures))
        return features


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three episodes in one film; frame k of all shows k."""
    states = [{STATE: np.zeros((length, 3), np.float32)} for length in LENGTHS]
    folder = write_v30(tmp_path / "set", states)
    write_video(folder / f"videos/{CAMERA}/chunk-000/file-000.mp4", count=sum(LENGTHS))
    return folder


def make(data: Path, out: Path, teacher: CountingTeacher | None = None, template: str = TEMPLATE) -> FeatureStore:
    teacher = teacher or NumberTeacher()
    with patch.object(extraction, "EPISODES_PER_SHARD", 2):
        work, shards = plan([data], teacher, out, template, batch_size=7)
    for shard in shards:
        if not is_done(work, shard):
            write_shard(work, shard, teacher)
    return finish(work, shards)


def test_every_sample_is_found_at_its_frame(data: Path, tmp_path: Path) -> None:
    store = make(data, tmp_path / "store")
    assert store.views == ("top",) and store.width == 4 and store.stride_frames == 4 and len(store) == 3
    assert ("set", 1) in store and ("set", 3) not in store
    first = 0
    for index, length in enumerate(LENGTHS):
        frames = np.arange(length)
        found = store.lookup("set", index, frames)
        nearest = [min(sample_frames(length), key=lambda s: (abs(s - f), -s)) for f in frames]
        assert found.views.shape == (length, 1, 4) and found.views.dtype == np.float32
        assert found.view_mask.all()
        np.testing.assert_array_equal(found.views[:, 0, 0], np.array(nearest) + first)
        after = store.lookup("set", index, frames, side="after").views[:, 0, 0] - first
        np.testing.assert_array_equal(after, [min(s for s in sample_frames(length) if s >= f) for f in frames])
        first += length


@settings(max_examples=30, deadline=None)
@given(frames=st.integers(1, 300), where=st.floats(0, 1))
def test_no_frame_is_far_from_a_sample(frames: int, where: float) -> None:
    samples = sample_frames(frames)
    assert samples[0] == 0 and samples[-1] == frames - 1 and len(set(samples)) == len(samples)
    assert np.abs(samples - where * (frames - 1)).min() <= 2


def test_frames_of_any_shape_and_real_value(data: Path, tmp_path: Path) -> None:
    store = make(data, tmp_path / "store")
    grid = store.lookup("set", 2, [[0.4, 5.5, 28], [8, 9.9, 10.1]])
    assert grid.views.shape == (2, 3, 1, 4) and grid.text.shape == (2, 3, 4) and grid.view_mask.shape == (2, 3, 1)
    np.testing.assert_array_equal(grid.views[..., 0, 0] - 31, [[0, 4, 28], [8, 8, 12]])
    assert store.lookup("set", 0, 3).views.shape == (1, 4)
    for outside in (-0.1, 28.5):
        with pytest.raises(ValueError, match="it has 0 to 28"):
            store.lookup("set", 2, [1, outside])
    with pytest.raises(ValueError, match=r"no episode 7 of 'set'.*xtok features"):
        store.lookup("set", 7, 0)


def test_words_change_exactly_with_the_subtask() -> None:
    whole = episode(ARMS26, 40, 0)
    parts = (Segment(0, 10, "reach"), Segment(10, 23, "grasp"), Segment(23, 40, "reach"))
    whole = Episode(**{**vars(whole), "subtasks": parts, "instruction": "lift it."})
    entry, texts = extraction._entry(whole, 0, 0, TEMPLATE, {})
    assert list(texts) == ["Task: lift it. Now: reach.", "Task: lift it. Now: grasp."]
    assert (entry.cuts, entry.texts) == ((0, 10, 23), (0, 1, 0))
    assert prompt(TEMPLATE, "lift it", "") == "Task: lift it."
    for bad in ("no field", "{instruction} {verb}", "{instruction} {instruction}"):
        with pytest.raises(ValueError, match="prompt template"):
            prompt(bad, "a", "b")


def test_a_distinct_prompt_is_read_once(data: Path, tmp_path: Path) -> None:
    teacher = NumberTeacher()
    store = make(data, tmp_path / "store", teacher)
    assert teacher.prompts == ["Task: do it."] * 2  # once a shard
    assert store.prompts == ("Task: do it.",)
    assert teacher.pictures == store.manifest["pictures"] == sum(len(sample_frames(n)) for n in LENGTHS)


def test_a_view_that_an_episode_lacks_is_masked(tmp_path: Path) -> None:
    folder = write_v21(tmp_path / "set", [{STATE: np.zeros((n, 3), np.float32)} for n in (12, 9)])
    write_video(folder / f"videos/chunk-000/{CAMERA}/episode_000001.mp4", count=9)
    with pytest.raises(ValueError, match="no film"):  # the first episode tells the cameras
        make(folder, tmp_path / "without")
    teacher = NumberTeacher()
    work, shards = plan([folder], teacher, tmp_path / "store", TEMPLATE, views=["top"])
    for shard in shards:
        write_shard(work, shard, teacher)
    store = finish(work, shards)
    assert not store.lookup("set", 0, range(12)).view_mask.any()
    assert not store.lookup("set", 0, range(12)).views.any()
    assert store.lookup("set", 1, range(9)).view_mask.all()


def test_a_view_may_have_another_name_in_another_set(tmp_path: Path) -> None:
    states = [{STATE: np.zeros((9, 3), np.float32)}]
    folders = [write_v21(tmp_path / name, states) for name in ("one", "two")]
    other = CAMERA.replace("top", "left_wrist")
    for folder, camera in zip(folders, (CAMERA, other), strict=True):
        write_video(folder / f"videos/chunk-000/{camera}/episode_000000.mp4", count=9)
        info = json.loads((folder / "meta/info.json").read_text())
        info["features"][camera] = info["features"].pop(CAMERA)
        (folder / "meta/info.json").write_text(json.dumps(info))
    teacher = NumberTeacher()
    work, shards = plan(folders, teacher, tmp_path / "store", TEMPLATE, views=["top|left_wrist"])
    for shard in shards:
        write_shard(work, shard, teacher)
    store = finish(work, shards)
    assert [store.lookup(name, 0, range(9)).view_mask.all() for name in ("one", "two")] == [True, True]
    assert store.views == ("top|left_wrist",)


def test_going_on_computes_only_what_is_missing_and_gives_the_same_bytes(data: Path, tmp_path: Path) -> None:
    whole = make(data, tmp_path / "whole")
    teacher = NumberTeacher()
    with patch.object(extraction, "EPISODES_PER_SHARD", 2):
        work, shards = plan([data], teacher, tmp_path / "store", TEMPLATE, batch_size=7)
    write_shard(work, shards[1], teacher)
    with pytest.raises(ValueError, match=r"not finished.*command again"):
        FeatureStore.open(tmp_path / "store")
    (tmp_path / "store/shards/.00000.123.tmp").mkdir()  # what a kill leaves
    again = make(data, tmp_path / "store", second := NumberTeacher())
    assert second.pictures == sum(len(sample_frames(n)) for n in LENGTHS[:2])
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")
    assert again.digest == whole.digest


def test_killed_at_any_moment_shards_are_whole_or_not_there(data: Path, tmp_path: Path) -> None:
    script = textwrap.dedent(
        f"""
        import sys, time; sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from test_semantics_store import NumberTeacher, make
        class Slow(NumberTeacher):
            def see(self, pictures):
                time.sleep(.2)
                return super().see(pictures)
        print("ready", flush=True)
        make(Path({str(data)!r}), Path({str(tmp_path / "store")!r}), Slow())
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=os.environ.copy())
    assert process.stdout is not None
    process.stdout.readline()
    deadline = time.monotonic() + 30
    while not (tmp_path / "store/shards/00000").is_dir() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / "store/shards/00000").is_dir() and not (tmp_path / "store/manifest.json").exists()
    store = make(data, tmp_path / "store")
    np.testing.assert_array_equal(store.lookup("set", 0, [0, 10]).views[:, 0, 0], [0, 10])


def test_another_teacher_layer_prompt_or_other_data_is_refused(data: Path, tmp_path: Path) -> None:
    store = make(data, tmp_path / "store")
    other = NumberTeacher()
    other.digest = "f" * 16
    with pytest.raises(ValueError, match="another teacher"):
        make(data, tmp_path / "store", other)
    with pytest.raises(ValueError, match="another template"):
        make(data, tmp_path / "store", template="{instruction}")
    assert make(data, tmp_path / "second", template="{instruction}").digest != store.digest
    (data / "meta/note.txt").write_text("changed")
    with pytest.raises(ValueError, match="another data"):
        make(data, tmp_path / "store")
    with pytest.raises(ValueError, match="share a name"):
        plan([data, data.parent / "." / "set" / ".." / "set"], NumberTeacher(), tmp_path / "new", TEMPLATE)
    with pytest.raises(ValueError, match="holds something else"):
        plan([data], NumberTeacher(), data, TEMPLATE)


def test_damage_is_seen_when_it_is_opened(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no feature store.*xtok features"):
        FeatureStore.open(tmp_path)
    make(data, tmp_path / "store")
    file = tmp_path / "store/shards/00001/views.npy"
    kept = file.read_bytes()
    file.write_bytes(kept[:-8])
    with pytest.raises(ValueError, match="missing or not of"):
        FeatureStore.open(tmp_path / "store")
    file.write_bytes(kept)
    manifest = tmp_path / "store/manifest.json"
    for broken in ("{", "{}", json.dumps({**json.loads(manifest.read_text()), "format": 9})):
        manifest.write_text(broken)
        with pytest.raises(ValueError, match="make the store again"):
            FeatureStore.open(tmp_path / "store")


def test_values_beyond_float16_are_refused(data: Path, tmp_path: Path) -> None:
    class Huge(NumberTeacher):
        def see(self, pictures):  # type: ignore[no-untyped-def]
            return super().see(pictures) + 1e5

    with pytest.raises(ValueError, match=r"beyond float16.*--layer"):
        make(data, tmp_path / "store", Huge())


def test_look_batches_pictures_and_masks_what_is_absent() -> None:
    teacher = CountingTeacher()
    red, black = (np.full((8, 8, 3), value, np.uint8) for value in ([200, 0, 0], [0, 0, 0]))
    frames = [Frame({"a": red, "b": black}, "lift", "reach"), Frame({"b": red}, "lift", "grasp")]
    found = look(teacher, frames, ["a", "b"])
    np.testing.assert_array_equal(found.view_mask, [[True, True], [False, True]])
    np.testing.assert_array_equal(found.views[..., 0], [[200, 0], [0, 200]])
    assert found.text.shape == (2, 4) and (found.text[0] != found.text[1]).any()
    with pytest.raises(ValueError, match="uint8 RGB"):
        look(teacher, [Frame({"a": red / 255}, "lift")], ["a"])
    with pytest.raises(ValueError, match="one to 3"):
        look(teacher, frames, list("abcd"))


def test_the_command(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with patch("xtok.semantics.load.load_teacher", lambda name, layer: NumberTeacher()):
        assert main(["features", str(data), "-o", str(tmp_path / "store"), "--batch-size", "8"]) == 0
        assert "3 episodes, 18 samples of 60 frames, 18 pictures, 1 prompts" in capsys.readouterr().out
        assert main(["features", str(data), "-o", str(tmp_path / "store"), "--prompt", "{instruction}"]) == 2
        assert "another template" in capsys.readouterr().err
