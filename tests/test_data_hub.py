"""Hub ids without a network: a local cache as huggingface_hub lays it out, and a hub that can only say no."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.constants
import numpy as np
import pytest

from folders import CAMERA, STATE, numbers_shown, write_v21, write_v30, write_video
from xtok.data import open_dataset
from xtok.data.hub import fetch_missing, is_hub_id, is_snapshot

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def cached(cache: Path, repo_id: str = "someone/tidy") -> Path:
    """The snapshot folder of a set, as the cache has it; write files there."""
    root = cache / f"datasets--{repo_id.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(REVISION)
    (root / "blobs").mkdir()
    return root / "snapshots" / REVISION


def arrays(N: int = 12, width: int = 4) -> dict[str, np.ndarray]:
    return {STATE: np.random.default_rng(N).normal(0, 1, (N, width)).astype(np.float32)}


def test_a_cached_set_opens_by_its_id(cache: Path) -> None:
    write_v21(cached(cache), [arrays(12), arrays(9)])
    dataset = open_dataset("someone/tidy")
    assert len(dataset) == 2 and dataset.embodiment == "none:my_arm"
    np.testing.assert_allclose(dataset[1].absolute_ND[:, :4], arrays(9)[STATE])
    assert len(open_dataset(f"someone/tidy@{REVISION}")) == 2


def test_v30_with_film_opens_by_its_id(cache: Path) -> None:
    root = write_v30(cached(cache), [arrays(12), arrays(9)])
    write_video(root / f"videos/{CAMERA}/chunk-000/file-000.mp4", 21)
    episode = open_dataset("someone/tidy")[1]
    assert numbers_shown(episode.videos[CAMERA].frames([0, 8])) == [12, 20]


def test_tables_and_films_are_fetched_when_they_are_needed(cache: Path, tmp_path: Path, monkeypatch: Any) -> None:
    # A robot that the registry knows: nothing has to be looked at to open the set.
    whole = write_v21(tmp_path / "whole", [arrays(12, 19), arrays(9, 19)], robot_type="reachy2")
    write_video(whole / f"videos/chunk-000/{CAMERA}/episode_000001.mp4", 9)
    snapshot = cached(cache)
    shutil.copytree(whole / "meta", snapshot / "meta")
    asked: list[str] = []

    def download(repo_id: str, filename: str, **kwargs: Any) -> str:
        assert (repo_id, kwargs["repo_type"], kwargs["revision"]) == ("someone/tidy", "dataset", REVISION)
        asked.append(filename)
        (snapshot / filename).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(whole / filename, snapshot / filename)
        return str(snapshot / filename)

    dataset = open_dataset("someone/tidy")  # offline: meta/ is there
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert asked == []
    episode = dataset[1]
    assert asked == ["data/chunk-000/episode_000001.parquet"]
    assert numbers_shown(episode.videos[CAMERA].frames([4])) == [4]
    assert asked[1:] == [f"videos/chunk-000/{CAMERA}/episode_000001.mp4"]
    assert dataset[1].absolute_ND.shape == episode.absolute_ND.shape and len(asked) == 2


def test_a_robot_that_nobody_registered_is_looked_at_in_few_episodes(
    cache: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    names = {STATE: ["j1", "j2", "j3", "j4"]}
    whole = write_v21(tmp_path / "whole", [arrays(12 + i) for i in range(40)], names)
    snapshot = cached(cache)
    shutil.copytree(whole / "meta", snapshot / "meta")
    asked: list[str] = []

    def download(repo_id: str, filename: str, **kwargs: Any) -> str:
        asked.append(filename)
        (snapshot / filename).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(whole / filename, snapshot / filename)
        return str(snapshot / filename)

    monkeypatch.setattr("xtok.data.open.fetch_dataset", lambda hub_id: snapshot)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.warns(UserWarning, match="tidy: robot 'my_arm' is not registered"):
        dataset = open_dataset("someone/tidy")
    assert dataset.name == "tidy" and len(dataset) == 40 and 0 < len(asked) <= 5


def test_what_the_hub_does_not_have(cache: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot get 'someone/else' from the Hugging Face hub: .*; check the id"):
        open_dataset("someone/else")
    snapshot = cached(cache)
    write_v21(snapshot, [arrays()])
    shutil.rmtree(snapshot / "data")
    with pytest.raises(ValueError, match=r"cannot get data/chunk-000/episode_000000.parquet of 'someone/tidy'"):
        open_dataset("someone/tidy")[0]


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ("lerobot/pusht", True),
        ("lerobot/pusht@v2.1", True),
        ("pusht", False),
        ("a/b/c", False),
        ("../x", False),
        ("/work/data", False),
        ("a/..", False),
        ("a/b@", False),
    ],
)
def test_what_reads_as_an_id(text: str, reads: bool) -> None:
    assert is_hub_id(text) is reads


def test_a_folder_comes_before_an_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "someone" / "tidy").mkdir(parents=True)
    assert not is_hub_id("someone/tidy")
    with pytest.raises(ValueError, match="nothing to read"):
        open_dataset("someone/tidy")


def test_ordinary_paths_fetch_nothing(tmp_path: Path) -> None:
    assert not is_snapshot(tmp_path)
    fetch_missing(tmp_path / "absent.parquet")  # no error: whoever reads it says that it is missing


def test_the_hub_library_waits_until_an_id_is_opened() -> None:
    code = "import xtok.data, sys; assert 'huggingface_hub' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
