"""`fast-pooled`: its vocabulary comes from other robots, none of it from the one that is evaluated."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.fft import dct
from tokenizers import Tokenizer, models, trainers

import evaluate_kit as kit
from xtok.actions.layout import ARMS26, JOINTS, Layout
from xtok.actions.statistics_fit import fit_statistics
from xtok.baselines.common import normalised_chunks, rest_of, valid_values
from xtok.baselines.fast import VOCAB_SIZE, FastTokenizer
from xtok.benchmark.pool import open_pool
from xtok.data import EpisodeDataset, iter_chunks, open_dataset, sample_path
from xtok.data.episode import Episode
from xtok.evaluate import Budget, evaluate_dataset, render, to_json
from xtok.evaluate.coded import Coded
from xtok.evaluate.pool import PoolMember, fit_pooled
from xtok.evaluate.progress import silent
from xtok.evaluate.rivals import fit_fast

T = 16
OTHERS = {"arms26": ("sawyer", "ur5"), "joints": ("so101", "gr1")}


def member(layout: Layout, robot: str, seeds: Sequence[int], size: float = 1.0) -> PoolMember:
    episodes = []
    for seed in seeds:
        plain = kit.episode(layout, 120, seed)
        absolute_ND = plain.absolute_ND.copy()
        for kind in ("position", "joint"):
            for _, channels in layout.of_kind(kind):
                absolute_ND[:, channels] *= size
        episodes.append(replace(plain, embodiment=robot, absolute_ND=absolute_ND))
    motions = [episode.absolute_ND for episode in episodes]
    return PoolMember(f"waves of {robot}", episodes, fit_statistics(layout, robot, 20.0, kit.mask(layout), motions))


def pool(layout: Layout) -> list[PoolMember]:
    one, other = OTHERS[layout.name]
    return [member(layout, one, range(20, 26), 0.4), member(layout, other, range(30, 34), 2.5)]


def train(layout: Layout, seeds: Sequence[int] = range(3, 9)) -> list[Episode]:
    return [kit.episode(layout, 120, seed) for seed in seeds]


@pytest.mark.parametrize("layout", [ARMS26, JOINTS], ids=lambda layout: layout.name)
def test_its_vocabulary_is_that_of_the_other_robots_alone(layout: Layout) -> None:
    """Merges learnt anew here, with scipy and tokenizers, from the pool's chunks in their own ranges."""
    statistics = kit.statistics(layout)
    subject = Coded(kit.StepTokenizer(statistics), kit.chunks(layout, T))
    fast = fit_fast(train(layout), subject, statistics, 200)
    members = pool(layout)
    coded, how = fit_pooled(members, fast, subject, statistics, 400)
    assert coded is not None and [told["robot"] for told in how["members"]] == list(OTHERS[layout.name])
    coefficients = []
    (robot,) = statistics.values()
    furthest = 1 + np.abs(rest_of(layout, robot, fast.form)).max()  # of a value in its range, from 0
    for each in members:
        for batch in iter_chunks(each.episodes, T, stride_of(each, how)):
            values = normalised_chunks({each.robot: each.statistics}, batch, fast.form)
            coefficients += valid_values(dct(values, axis=1, norm="ortho"), batch.context, fast.form)
    for tokenizer in coded.points:
        assert isinstance(tokenizer, FastTokenizer)
        rounded = [np.around(values * tokenizer.scale).astype(int) for values in coefficients]
        reach = math.ceil(furthest * math.sqrt(T) * tokenizer.scale)
        low = min(-reach, *(int(values.min()) for values in rounded))
        high = max(reach, *(int(values.max()) for values in rounded))
        bpe = Tokenizer(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=VOCAB_SIZE,
            min_frequency=2,
            show_progress=False,
            initial_alphabet=[chr(symbol) for symbol in range(high - low + 1)],
            max_token_length=10_000,
        )
        bpe.train_from_iterator(("".join(chr(v - low) for v in values) for values in rounded), trainer)
        assert high - low + 1 <= VOCAB_SIZE // 2
        assert tokenizer.vocab_size == bpe.get_vocab_size()
        pieces = {tuple(ord(symbol) + low for symbol in piece) for piece in bpe.get_vocab()}
        assert {tuple(piece.tolist()) for piece in tokenizer._pieces} == pieces
        assert tokenizer.statistics == statistics  # the evaluated robot is normalised by its own ranges


def stride_of(each: PoolMember, how: dict[str, object]) -> int:
    """The stride that gave as many chunks as the fit says."""
    told = next(told for told in how["members"] if told["robot"] == each.robot)  # type: ignore[attr-defined]
    return next(
        stride
        for stride in range(1, 200)
        if sum(len(batch) for batch in iter_chunks(each.episodes, T, stride)) == told["chunks"]
    )


def test_motion_within_the_robots_ranges_never_saturates_it() -> None:
    """Other robots that hardly move: their coefficients stay small, the alphabet covers the evaluated one's."""
    statistics = kit.statistics(JOINTS)
    subject = Coded(kit.StepTokenizer(statistics), kit.chunks(JOINTS, T))
    fast = fit_fast(train(JOINTS), subject, statistics, 200)
    calm = member(JOINTS, "so101", range(20, 24))
    wide = replace(calm.statistics, low_D=20 * calm.statistics.low_D, high_D=20 * calm.statistics.high_D)
    coded, how = fit_pooled([replace(calm, statistics=wide)], fast, subject, statistics, 200)
    assert coded is not None and how["saturated"] == 0
    decoded = coded.tokenizer.decode(coded.codes, subject.chunks.context)
    assert not decoded.failed_B.any()


@pytest.mark.parametrize("layout", [ARMS26, JOINTS], ids=lambda layout: layout.name)
def test_it_stands_beside_fast_in_the_table_the_curve_and_the_report(layout: Layout) -> None:
    statistics = kit.statistics(layout)
    evaluation = evaluate_dataset(
        kit.dataset(layout, [90] * 10),
        {"step": kit.StepTokenizer(statistics, 4)},
        statistics,
        {"step": None},
        (8, T),
        baselines=("fast",),
        budget=Budget(24, 120, 30),
        pool=pool(layout),
    )
    result = json.loads(to_json(evaluation.result))
    assert result["weights"] == {"step": None, "fast": None, "fast-pooled": None}
    for horizon, entries in result["horizons"].items():
        assert list(entries) == ["step", "fast", "fast-pooled"]
        for entry in entries.values():
            assert set(entry["at_equal_bits"]) == {"fast", "fast-pooled"}
            assert all(set(point["over"]) == {"fast", "fast-pooled"} for point in entry["curve"])
        pooled = entries["fast-pooled"]
        assert all(point["over"]["fast-pooled"]["l1"] == pytest.approx(1.0) for point in pooled["curve"])
        assert result["fast_pooled_fit"][horizon]["form"] == result["fast_fit"][horizon]["form"]
        # Fitted on the robot itself, FAST is the stronger one over most of the curve.
        over = [point["over"]["fast"]["l1"] for point in pooled["curve"]]
        assert np.median([ratio for ratio in over if ratio is not None]) > 1
    html = render(evaluation)
    assert "fast-pooled has its vocabulary from other robots" in html
    assert all(robot in html for robot in OTHERS[layout.name])


def test_a_pool_that_is_too_short_for_a_length_says_so() -> None:
    statistics = kit.statistics(JOINTS)
    subject = Coded(kit.StepTokenizer(statistics), kit.chunks(JOINTS, 64))
    fast = fit_fast(train(JOINTS), subject, statistics, 60)
    whole = member(JOINTS, "so101", range(20, 22))
    short = [replace(e, absolute_ND=e.absolute_ND[:40], timestamps_s=e.timestamps_s[:40]) for e in whole.episodes]
    coded, how = fit_pooled([replace(whole, episodes=short)], fast, subject, statistics, 60)
    assert coded is None and how["reason"] == "no train episode of the pool is longer than 64 frames"


def evaluated(layout: Layout, members: list[PoolMember], baselines: tuple[str, ...] = ("fast",)) -> None:
    statistics = kit.statistics(layout)
    waves = kit.dataset(layout, [90] * 10)
    evaluate_dataset(
        waves,
        {"step": kit.StepTokenizer(statistics)},
        statistics,
        {"step": None},
        (8,),
        baselines=baselines,
        pool=members,
    )


def test_a_pool_that_cannot_be_fair_is_refused() -> None:
    own = member(ARMS26, kit.ROBOT["arms26"], range(20, 22))
    with pytest.raises(ValueError, match=r"the pool holds 'Franka' .* give sets of other robots"):
        evaluated(ARMS26, [*pool(ARMS26), own])
    with pytest.raises(ValueError, match="is pooled as 'joints', the data are 'arms26'"):
        evaluated(ARMS26, pool(JOINTS))
    with pytest.raises(ValueError, match="add fast to the baselines"):
        evaluated(ARMS26, pool(ARMS26), baselines=("bins",))


def test_the_command_leaves_evaluated_robots_out_of_the_pool(capsys: pytest.CaptureFixture[str]) -> None:
    sample = open_dataset(sample_path())
    waves = kit.dataset(ARMS26, [90] * 5)
    (found,) = open_pool([sample_path()], waves, silent)
    assert found.robot == "panda" and found.dataset == sample.name
    assert {episode.index for episode in found.episodes}.isdisjoint({4})  # held out
    with pytest.raises(ValueError, match=r"no train episode of another robot than panda.* or leave --pool out"):
        open_pool([sample_path()], sample, silent)
    assert "panda left out" in capsys.readouterr().err


def test_a_pool_of_another_layout_names_the_set(tmp_path: Path) -> None:
    joints: EpisodeDataset = kit.dataset(JOINTS, [90] * 5)
    with pytest.raises(ValueError, match=r"--pool .*nothing-here"):
        open_pool([tmp_path / "nothing-here"], joints, silent)
