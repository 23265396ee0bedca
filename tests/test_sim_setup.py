"""What a simulation needs is looked at before it begins; a folder goes on only with the simulator that began it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

pytest.importorskip("gymnasium", reason="the simulation needs its extra: pip install 'xtok[sim]'")

import cli_kit
from xtok.cli.main import EXIT_USER_ERROR, main
from xtok.sim.staging import SETTINGS, STAGING, bind, open_staging, packages

NO_SCREEN = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
RENDERING = [
    ["sim", "record", "--tasks", "Lift", "--arms", "Panda", "-o", "OUT"],
    ["sim", "show", "--tasks", "Lift", "--arms", "Panda", "-o", "OUT"],
    ["sim", "corpus", "-o", "OUT"],
    ["sim", "questions", "--tasks", "Lift", "--arms", "Panda", "-o", "OUT"],
    ["sim", "eval", "--policy", "random", "--image-size", "64", "--json", "OUT/e.json"],
    ["teacher", "scenes", "-o", "OUT"],
]


@pytest.mark.parametrize("arguments", RENDERING, ids=lambda each: " ".join(each[:2]))
@pytest.mark.parametrize("backend", ["glx", "glfw", "off", "nonsense"])
def test_a_backend_that_cannot_work_here_is_told_at_once(arguments: list[str], backend: str, tmp_path: Path) -> None:
    if backend != "nonsense" and arguments[1] != "record":
        pytest.skip("one command tries them all")
    given = [each.replace("OUT", str(tmp_path / "out")) for each in arguments]
    with patch.dict(os.environ, {**NO_SCREEN, "MUJOCO_GL": backend}, clear=True):
        status, said = cli_kit.run(given)
    assert status == EXIT_USER_ERROR, said
    assert f"cannot render here with MUJOCO_GL={backend}" in said and "MUJOCO_GL=egl" in said, said
    assert "Traceback" not in said and "damaged" not in said
    assert list(tmp_path.iterdir()) == []


def test_an_empty_choice_is_none(tmp_path: Path) -> None:
    with patch.dict(os.environ, {"MUJOCO_GL": ""}):
        code = "import os, xtok.sim; print(os.environ['MUJOCO_GL'])"
        assert cli_kit.run([], [sys.executable, "-c", code]) == (0, "egl\n")


def test_kinematics_render_nothing_and_say_what_stands_in_the_way() -> None:
    code = (
        "from xtok.actions.kinematics import ForwardKinematics\n"
        "ForwardKinematics('<mujoco><worldbody><body name=\"a\"/></worldbody></mujoco>', ['a'])\n"
    )
    with patch.dict(os.environ, {"MUJOCO_GL": "nonsense"}):
        _, said = cli_kit.run([], [sys.executable, "-c", code])
    assert "unset MUJOCO_GL (it is 'nonsense')" in said


def test_a_folder_is_bound_to_request_and_simulator(tmp_path: Path) -> None:
    request = {"cells": (("Lift", "Panda"),), "episodes": 2}
    staging = open_staging(tmp_path / "out", request, "a recording")
    assert open_staging(tmp_path / "out", request, "a recording") == staging == tmp_path / "out" / STAGING
    with pytest.raises(ValueError, match=r"part of a recording with other settings: episodes \(2, now 3\)"):
        open_staging(tmp_path / "out", {**request, "episodes": 3}, "a recording")
    record = staging / SETTINGS
    before = json.loads(record.read_text())
    assert before["versions"] == packages() and before["versions"]["mujoco"]
    record.write_text(json.dumps({**before, "versions": {**before["versions"], "mujoco": "2.0"}}))
    with pytest.raises(ValueError, match=r"versions\.mujoco \(2\.0, now "):
        open_staging(tmp_path / "out", request, "a recording")
    record.write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        bind(record, request, "it holds a recording")


@pytest.mark.slow
def test_scenes_of_another_size_are_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes = ["teacher", "scenes", "-o", str(tmp_path / "scenes"), "--tasks", "Lift", "--arms-each", "1"]
    scenes += ["--episodes", "1"]
    assert main([*scenes, "--image-size", "64"]) == 0
    assert main([*scenes, "--image-size", "64"]) == 0
    capsys.readouterr()
    assert main([*scenes, "--image-size", "128"]) == EXIT_USER_ERROR
    assert "image_size (64, now 128)" in capsys.readouterr().err
    (tmp_path / "old").mkdir()
    (tmp_path / "old/Lift-Panda-easy-0.parquet").write_text("")
    assert main(["teacher", "scenes", "-o", str(tmp_path / "old")]) == EXIT_USER_ERROR
    assert "does not say how they were made" in capsys.readouterr().err


def test_a_policy_is_more_than_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`sim eval --resume` with a module that was edited."""
    from xtok.benchmark.closed_loop import decisive

    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "my_policy_of_a_test.py"
    module.write_text("def make(env, seed): return 1\n")
    first = decisive("my_policy_of_a_test:make", None)
    module.write_text("def make(env, seed): return 2\n")
    assert decisive("my_policy_of_a_test:make", None)["policy_code"] != first["policy_code"]
    data = cli_kit.joints(tmp_path / "demos", 0, episodes=2)
    seen = decisive("replay:arms26", data)
    assert "policy_code" not in seen
    cli_kit.joints(data, 1, episodes=2)
    assert decisive("replay:arms26", data)["data"] != seen["data"]
