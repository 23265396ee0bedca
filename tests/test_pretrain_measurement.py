"""A robot that a tokenizer lacks: measured from a few episodes or many, and channels of it that never move.

# B chunks, T frames, D channels
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import codec_kit as kit
import synthetic
from xtok import Tokenizer, tokenizer_for
from xtok.actions.layout import ARMS26, JOINTS, Layout
from xtok.actions.statistics import Statistics
from xtok.actions.statistics_fit import fit_statistics
from xtok.actions.types import ChunkBatch
from xtok.codec.gaussian.robot_statistics import RobotStatistics, load_statistics
from xtok.data import Episode, iter_chunks
from xtok.data.episode import EpisodeDataset
from xtok.pretrain import measure, measure_robots

NEW, BOTH = "none:new", "none:both"


def tokenizer(layout: Layout) -> Tokenizer:
    return kit.tokenizer() if layout is ARMS26 else Tokenizer(synthetic.fitted_codec(layout_name="joints"))


def episodes(layout: Layout, robot: str = NEW, count: int = 4) -> list[Episode]:
    source = synthetic.episodes(layout, count)[-count:]  # arms26: two arms
    return [replace(episode, embodiment=robot) for episode in source]


def with_still(made: list[Episode], channels: list[int], value: dict[int, float] | None = None) -> list[Episode]:
    out = []
    for episode in made:
        absolute_ND = episode.absolute_ND.copy()
        absolute_ND[:, channels] = absolute_ND[:1, channels]
        for channel, at in (value or {}).items():
            absolute_ND[:, channel] = at
        out.append(replace(episode, absolute_ND=absolute_ND))
    return out


def chunks_of(made: list[Episode], horizon: int = 18) -> ChunkBatch:
    return next(iter_chunks(made, horizon, 16, short="skip"))


def dataset(made: list[Episode]) -> EpisodeDataset:
    robots = tuple(dict.fromkeys(episode.embodiment for episode in made))
    return EpisodeDataset("new", made[0].layout, robots, 20.0, tuple(range(len(made))), made.__getitem__)


STILL = {  # layout, channels that stand still, a value for some of them
    "gripper closed": (ARMS26, [], {"right_gripper": 0.0}),
    "gripper half open": (ARMS26, [], {"left_gripper": 0.37}),
    "one arm of two": (ARMS26, ["left_position", "left_rotation"], {"left_gripper": 1.0}),
    "a wrist that never turns": (ARMS26, ["right_rotation"], {}),
    "two joints of seven": (JOINTS, [1, 4], {}),
    "a joint at an odd place": (JOINTS, [], {2: -1.234567}),
}


def still(name: str) -> tuple[list[Episode], list[int]]:
    layout, named, values = STILL[name]
    channels: list[int] = []
    for each in [*named, *values]:
        where = layout.slices[each] if isinstance(each, str) else slice(each, each + 1)
        channels += range(where.start, where.stop)
    at = {layout.slices[k].start if isinstance(k, str) else k: v for k, v in values.items()}
    return with_still(episodes(layout), [c for c in channels if c not in at], at), channels


@pytest.mark.parametrize("name", STILL)
def test_what_never_moved_is_not_coded_and_decodes_exactly(name: str) -> None:
    made, channels = still(name)
    layout = made[0].layout
    measured = measure(tokenizer(layout), made)
    statistics = measured.statistics[NEW]
    assert sorted(np.flatnonzero(statistics.constant_D)) == sorted(channels)
    batch = chunks_of(made)
    for levels in (1, 4):
        decoded = measured.decode(measured.encode(batch), batch.context, levels=levels)
        assert decoded.absolute_BTD is not None
        torch.testing.assert_close(
            decoded.absolute_BTD[..., channels], batch.target_BTD[..., channels], atol=2e-7, rtol=0
        )
    assert measured.saturation(batch).keys().isdisjoint(layout.channel_names[c] for c in channels)


@pytest.mark.parametrize("name", STILL)
def test_a_constant_that_moves_after_all_is_told_and_changes_no_code(name: str) -> None:
    made, channels = still(name)
    measured = measure(tokenizer(made[0].layout), made)
    batch = chunks_of(made)
    target_BTD = batch.target_BTD.clone()
    moved = [c for c in channels if batch.context.layout.channel_kinds[c] != "rotation6d"]
    if not moved:
        pytest.skip("a rotation is moved by turning it, below")
    target_BTD[..., moved[0]] += 0.2
    told = measured.saturation(ChunkBatch(target_BTD, batch.context))
    assert told[batch.context.layout.channel_names[moved[0]]] == 1.0
    moving = ChunkBatch(target_BTD, batch.context)
    assert torch.equal(measured.encode(moving).grid_BMQ, measured.encode(batch).grid_BMQ)


def test_a_rare_motion_is_no_constant() -> None:
    made = with_still(episodes(JOINTS), [1])
    made[0].absolute_ND[70:73, 1] += 0.3  # less often than the quantiles look
    statistics = fit_statistics(JOINTS, NEW, 20.0, made[0].mask_D, [e.absolute_ND for e in made])
    assert not statistics.constant_D.any()


def test_a_robot_that_never_moves_is_refused() -> None:
    made = with_still(episodes(JOINTS), list(range(60)), dict.fromkeys(range(60, 64), 0.5))
    with pytest.raises(ValueError, match="never moves"):
        measure(tokenizer(JOINTS), made)


@pytest.mark.parametrize("frames", [3, 12, 60, 0])
def test_with_the_shipped_weights_measuring_beats_ranges_and_little_is_no_cliff(frames: int) -> None:
    """The packaged Panda under a name that the weights lack; frames: of one episode; 0: all train episodes."""
    shipped = Tokenizer.from_pretrained("arms26")
    train = [replace(episode, embodiment=NEW) for episode in kit.episodes("train")]
    seen = train
    if frames:
        first = train[0]
        cut = slice(200, 200 + frames)
        seen = [replace(first, absolute_ND=first.absolute_ND[cut], timestamps_s=first.timestamps_s[cut])]
    batch = kit.renamed(kit.chunks(32), NEW)
    whole = measure_robots(shipped, train)[0].statistics

    def error(each: Tokenizer) -> float:
        decoded = each.decode(each.encode(batch), batch.context)
        assert decoded.absolute_BTD is not None
        off_BTD = (decoded.absolute_BTD - batch.target_BTD) / torch.tensor(whole.half_D, dtype=torch.float32)
        return float(off_BTD[..., torch.tensor(whole.mask_D)].abs().mean())

    (robot,) = measure_robots(shipped, seen)
    by_ranges = error(shipped.with_ranges(robot.statistics))
    assert error(shipped.with_statistics(robot)) < (1.1 * by_ranges if frames else by_ranges)


def test_statistics_come_back_from_disk_with_the_same_codes(tmp_path: Path) -> None:
    for layout in (ARMS26, JOINTS):
        base, made = tokenizer(layout), episodes(layout)
        (robot,) = measure_robots(base, made)
        robot.save(tmp_path / "r.json")
        loaded = load_statistics(tmp_path / "r.json")
        assert isinstance(loaded, RobotStatistics) and loaded.digest == robot.digest
        batch = chunks_of(made)
        first, second = base.with_statistics(robot), base.with_statistics(loaded)
        assert first.digest == second.digest and first.known_by[NEW] == "measured"
        assert torch.equal(first.encode(batch).grid_BMQ, second.encode(batch).grid_BMQ)
        first.save_pretrained(tmp_path / layout.name)
        again = Tokenizer.from_pretrained(tmp_path / layout.name)
        assert again.digest == first.digest and again.known_by[NEW] == "measured"
        assert torch.equal(first.encode(batch).grid_BMQ, again.encode(batch).grid_BMQ)


def test_altered_or_foreign_statistics_are_refused(tmp_path: Path) -> None:
    base = kit.tokenizer()
    (robot,) = measure_robots(base, episodes(ARMS26))
    content = robot.to_dict()
    for field, value, match in (
        ("measured_for", "0" * 16, "altered"),
        ("format", 9, "expected the fields"),
        ("tensors", [], "damaged"),
        ("tensors", {**content["tensors"], "mean_SK": {"dtype": "float64", "shape": [1], "base64": ""}}, "damaged"),
        ("tensors", {**content["tensors"], "mean_SK": {"dtype": "float32", "shape": [2], "base64": "AAAA"}}, "damaged"),
    ):
        (tmp_path / "bad.json").write_text(json.dumps({**content, field: value}))
        with pytest.raises(ValueError, match=match):
            load_statistics(tmp_path / "bad.json")
    with pytest.raises(ValueError, match="measured for codebooks"):
        Tokenizer(synthetic.fitted_codec()).with_statistics(robot)
    with pytest.raises(ValueError, match=r"ranges alone.*tokenizer_for"):
        base.with_statistics(robot.statistics)  # type: ignore[arg-type]


def test_tokenizer_for_measures_on_train_episodes_only_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    made = episodes(ARMS26, count=6)
    spoilt = [*made[:4], replace(made[4], absolute_ND=made[4].absolute_ND * 0 + made[4].absolute_ND[:1]), made[5]]
    first = tokenizer_for(dataset(made), kit.tokenizer())
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and NEW in said and "5 train episodes" in said and "xtok adapt" in said
    held_out_differs = tokenizer_for(dataset(spoilt), kit.tokenizer())  # episode 4 is held out
    assert first.statistics[NEW].digest == held_out_differs.statistics[NEW].digest
    assert first.digest == held_out_differs.digest
    capsys.readouterr()
    assert tokenizer_for(dataset(made), first) is first and capsys.readouterr().err == ""
    ranges = tokenizer_for(dataset(made), kit.tokenizer(), ranges_only=True)
    assert ranges.known_by[NEW] == "ranges" and isinstance(ranges.statistics[NEW], Statistics)


def test_chunks_of_a_robot_without_statistics_name_the_call_that_makes_them() -> None:
    with pytest.raises(ValueError, match="tokenizer_for"):
        kit.tokenizer().encode(chunks_of(episodes(ARMS26)))


def test_measuring_leaves_the_random_numbers_of_its_caller_alone() -> None:
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    measure(kit.tokenizer(), episodes(ARMS26))
    assert torch.equal(torch.rand(3), wanted)
