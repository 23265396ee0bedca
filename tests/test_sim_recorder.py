"""Recording: what is written is what was lived, in a folder that readers know, whatever stopped it on the way."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

pytest.importorskip("gymnasium", reason="the simulation needs its extra: pip install 'xtok[sim]'")

from sim_kit import IMAGE, PATCHES, ToyEnv
from xtok.data import open_dataset
from xtok.sim import recorder
from xtok.sim.recorder import Request, digest, record

CELLS = (("Lift", "Panda"), ("Stack", "UR5e"))
PROGRAM = Path(__file__).with_name("sim_kit.py")


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in PATCHES:
        monkeypatch.setattr(module, name, value)


def request(episodes: int = 4, **more: object) -> Request:
    return Request(CELLS, ("easy",), episodes, image_size=IMAGE, **more)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recording") / "out"
    with pytest.MonkeyPatch.context() as patch:
        for module, name, value in PATCHES:
            patch.setattr(module, name, value)
        record(Request(CELLS, ("easy", "hard"), 5, image_size=IMAGE), folder)
    return folder


def live_again(seed: int, level: str) -> tuple[np.ndarray, np.ndarray, list[str], list[dict[str, np.ndarray]]]:
    """States, goals, sub-tasks and pictures of an expert episode, without the recorder."""
    env = ToyEnv("Lift", "Panda", level)
    observation, _ = env.reset(seed, {"split": "train"})
    expert, over = env.expert(), False
    states, goals, subtasks, pictures = [], [], [], []
    while not over:
        goals.append(expert.goal())
        states.append(observation["state"])
        subtasks.append(expert.subtask)
        pictures.append({view: observation[view] for view in env.views})
        observation, _, terminated, truncated, _ = env.step(goals[-1][None])
        over = terminated or truncated
    return np.stack(states), np.stack(goals), subtasks, pictures


def test_episodes_read_back_as_they_were_lived(recording: Path) -> None:
    achieved, commanded = (open_dataset(recording / "panda", action_source=s) for s in ("achieved", "commanded"))
    assert achieved.embodiment == "sim_panda" and len(achieved) == 10
    tried = {"easy": [3, 6, 7, 8, 10], "hard": [0, 1, 2, 3, 5]}  # 4 and 9 fail; on Easy 3, 4, 6 are listed, 5 is not
    for position, (level, seed) in enumerate((level, seed) for level, good in tried.items() for seed in good):
        states, goals, subtasks, pictures = live_again(seed, level)
        episode, goal_episode = achieved[position], commanded[position]
        np.testing.assert_array_equal(episode.absolute_ND, states)
        np.testing.assert_allclose(goal_episode.absolute_ND, goals, atol=1e-6)
        assert (episode.action_source, goal_episode.action_source) == ("achieved", "commanded")
        assert episode.instruction == "reach it"
        said = [segment.text for segment in episode.subtasks for _ in range(segment.start, segment.end)]
        assert said == subtasks
        for view in ("scene", "front", "wrist"):
            film = episode.videos[f"observation.images.{view}"]
            assert len(film) == len(states)
            shown = film.frames(range(len(film))).astype(int)
            assert np.abs(shown - np.stack([p[view] for p in pictures])).mean() < 4  # H.264 loses a little


def test_folder_says_what_lerobot_asks_for(recording: Path) -> None:
    info = json.loads((recording / "panda/meta/info.json").read_text())
    rows = pq.read_table(recording / "panda/meta/episodes/chunk-000/file-000.parquet").to_pylist()
    stats = json.loads((recording / "panda/meta/stats.json").read_text())
    assert info["codebase_version"] == "v3.0" and info["fps"] == 20
    assert info["action_source"] == {"observation.state": "achieved", "action": "commanded"}
    film = "videos/observation.images.scene/"
    assert [row[film + "to_timestamp"] for row in rows[:-1]] == [row[film + "from_timestamp"] for row in rows[1:]]
    assert np.shape(stats["observation.images.wrist"]["mean"]) == (3, 1, 1)
    assert {"q01", "q99"} <= set(stats["action"])
    assert [row["seed"] for row in rows] == [3, 6, 7, 8, 10, 0, 1, 2, 3, 5]
    assert {row["level"] for row in rows} == {"easy", "hard"}
    assert len(list((recording / "panda/videos").rglob("*.mp4"))) == 3


def test_manifest_counts_and_seals_every_file(recording: Path) -> None:
    manifest = json.loads((recording / "manifest.json").read_text())
    found = contents(recording)
    del found["manifest.json"]
    assert {name: file["sha256"] for name, file in manifest["files"].items()} == found
    assert manifest["episodes"] == 20 and manifest["frames"] == sum(a["frames"] for a in manifest["arms"].values())
    assert manifest["cells"][0]["seeds_skipped_expert_failed"] == [4, 9]


def test_interrupted_recording_ends_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(request(), tmp_path / "straight")
    act, acted = recorder.record_episode, []

    def stopped(job: recorder.Job, staging: Path) -> bool:
        if len(acted) == 3:
            raise KeyboardInterrupt
        acted.append(job)
        return act(job, staging)

    monkeypatch.setattr(recorder, "record_episode", stopped)
    with pytest.raises(KeyboardInterrupt):
        record(request(), tmp_path / "stopped")
    with pytest.raises(ValueError, match="other settings"):
        record(request(episodes=5), tmp_path / "stopped")
    monkeypatch.undo()
    for module, name, value in PATCHES:
        monkeypatch.setattr(module, name, value)
    done: list[int] = []
    record(request(), tmp_path / "stopped", progress=done.append)
    assert sum(done) == 8
    assert contents(tmp_path / "stopped") == contents(tmp_path / "straight")


def test_a_finished_recording_is_not_recorded_again(tmp_path: Path) -> None:
    first = record(request(episodes=1), tmp_path / "out")
    before = contents(tmp_path / "out")
    assert record(request(episodes=1), tmp_path / "out") == first
    assert contents(tmp_path / "out") == before
    with pytest.raises(ValueError, match="another request"):
        record(request(episodes=2), tmp_path / "out")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match=r"something else .*thesis.tex"):
        record(request(), tmp_path)


def test_a_cell_whose_expert_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "record_episode", lambda job, staging: False)
    with pytest.raises(ValueError, match=r"succeeded on 0 of 23 seeds of Lift-Panda-easy"):
        record(request(episodes=1), tmp_path / "out")


def test_without_video_there_are_no_films(tmp_path: Path) -> None:
    record(request(episodes=1, video=False), tmp_path / "out")
    (episode,) = open_dataset(tmp_path / "out/panda")
    assert not episode.videos and len(episode.subtasks) == 2


@pytest.mark.slow
def test_killed_with_workers_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """kill -9 at random times, again and again; every worker dies with its parent."""
    command = [sys.executable, str(PROGRAM)]
    environment = {**os.environ, "PYTHONPATH": f"{PROGRAM.parent}:{os.environ.get('PYTHONPATH', '')}"}
    subprocess.run([*command, str(tmp_path / "straight"), "1"], check=True, env=environment)
    rng, kills = random.Random(0), 0
    for attempt in range(30):
        process = subprocess.Popen([*command, str(tmp_path / "killed"), "2"], env=environment)
        try:
            process.wait(timeout=4.0 + 0.3 * attempt + rng.random())
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            time.sleep(0.1)
    assert process.returncode == 0
    assert kills > 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "straight")
