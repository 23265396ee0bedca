"""Video frames are exact: every frame shows its own number. There is no v3.0 mp4 among the data, so one is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from folders import CAMERA, STATE, numbers_shown, write_v21, write_v30, write_video
from xtok.data import VideoHandle, open_dataset


def states(*lengths: int) -> list[dict[str, np.ndarray]]:
    return [{STATE: np.zeros((length, 3), dtype=np.float32)} for length in lengths]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    write_video(path, count=60)
    return path


def test_v30_episodes_in_one_file_give_their_own_frames(tmp_path: Path, film: Path) -> None:
    folder = write_v30(tmp_path, states(11, 20, 29))
    (folder / f"videos/{CAMERA}/chunk-000").mkdir(parents=True)
    (folder / f"videos/{CAMERA}/chunk-000/file-000.mp4").write_bytes(film.read_bytes())
    for episode, first in zip(open_dataset(folder), (0, 11, 31), strict=True):
        video = episode.videos[CAMERA]
        assert len(video) == len(episode)
        frames = video.frames([len(video) - 1, 0, 5, 5])
        assert frames.dtype == np.uint8 and frames.shape == (4, 32, 128, 3)
        assert numbers_shown(frames) == [first + len(video) - 1, first, first + 5, first + 5]


def test_v21_episodes_have_a_file_each_and_some_have_none(tmp_path: Path) -> None:
    folder = write_v21(tmp_path, states(12, 9))
    write_video(folder / f"videos/chunk-000/{CAMERA}/episode_000001.mp4", count=9, first=100)
    without, with_video = open_dataset(folder)
    assert dict(without.videos) == {}
    assert numbers_shown(with_video.videos[CAMERA].frames(range(9))) == list(range(100, 109))


@settings(max_examples=25, deadline=None)
@given(start=st.integers(0, 40), picks=st.lists(st.integers(0, 19), min_size=1, max_size=6))
def test_any_frames_of_any_window(film: Path, start: int, picks: list[int]) -> None:
    video = VideoHandle(film, start / 10, start / 10 + 2.0, 10.0)
    assert numbers_shown(video.frames(picks)) == [start + pick for pick in picks]


@pytest.mark.parametrize(
    ("picks", "message"), [([], "no frame indices"), ([20], "outside 0..19"), ([-1], "outside 0..19")]
)
def test_frames_that_the_episode_lacks(film: Path, picks: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VideoHandle(film, 0.0, 2.0, 10.0).frames(picks)


def test_file_that_ends_before_the_episode(film: Path) -> None:
    with pytest.raises(ValueError, match="looks truncated"):
        VideoHandle(film, 0.0, 9.0, 10.0).frames([0, 89])


def test_truncated_missing_and_false_mp4(tmp_path: Path, film: Path) -> None:
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"cannot read .*cut.mp4.*looks truncated"):
        VideoHandle(cut, 0.0, 6.0, 10.0).frames([0])
    with pytest.raises(ValueError, match=r"missing file .*absent.mp4"):
        VideoHandle(tmp_path / "absent.mp4", 0.0, 6.0, 10.0).frames([0])
    cut.write_text("this is no film")
    with pytest.raises(ValueError, match=r"cannot read .*cut.mp4"):
        VideoHandle(cut, 0.0, 6.0, 10.0).frames([0])


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "filmed"), [("unitree-g1-inspire", 50), ("dobot-cr5-banana", 81), ("sim-gr1-picknplace", 5)]
)
def test_real_videos_match_a_plain_decode(shared_data: Path, name: str, filmed: int) -> None:
    av = pytest.importorskip("av")
    videos = [
        next(iter(episode.videos.values())) for episode in open_dataset(shared_data / name, "joints") if episode.videos
    ]
    assert len(videos) == filmed
    video = videos[-1]
    picks = [0, 1, len(video) // 2, len(video) - 1]
    with av.open(str(video.path)) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(decoded) == len(video)
    np.testing.assert_array_equal(video.frames(picks), np.stack([decoded[pick] for pick in picks]))
