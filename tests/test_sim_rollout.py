"""Closed loop: intervals against known values, policies, replays through tokenizers, going on after a stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="the simulation needs its extra: pip install 'xtok[sim]'")

from sim_kit import GRIPPER, MASK, PATCHES, POSITION
from xtok.actions.layout import ARMS26
from xtok.actions.statistics import Statistics
from xtok.actions.types import Actions, ChunkBatch, Codes, Context
from xtok.baselines.bins import BinTokenizer
from xtok.sim import policies, rollout
from xtok.sim.intervals import bootstrap_mean, paired_ratio, wilson
from xtok.sim.policies import Demonstration, RandomPolicy, ReplayPolicy, factory, through
from xtok.sim.rollout import Coder, Ledger, Result, evaluate, evaluate_replay, plan
from xtok.sim.summary import compare, summarise

CELLS = (("Lift", "Panda"), ("Stack", "UR5e"))


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in PATCHES:
        monkeypatch.setattr(module, name, value)


def bins(count: int) -> BinTokenizer:
    """Bins over +-1 m (and 6D, gripper in -1..1), so that a step is 2 / count metres."""
    statistics = Statistics("arms26", ARMS26.digest, "sim_panda", 20.0, 64, 1000, MASK, -np.ones(26), np.ones(26))
    return BinTokenizer({"sim_panda": statistics}, count)


# -- intervals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [  # R 4.3, prop.test(..., correct = FALSE)
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (8, 10, 0.4902, 0.9433),
        (95, 100, 0.8882, 0.9785),
    ],
)
def test_wilson_against_known_values(successes: int, count: int, low: float, high: float) -> None:
    estimate = wilson(successes, count)
    assert estimate.value == successes / count
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-4)


def test_wilson_of_nothing_and_of_nonsense() -> None:
    assert wilson(0, 0).value is None
    with pytest.raises(ValueError, match="3 successes in 2 episodes"):
        wilson(3, 2)


def test_bootstrap_agrees_with_the_normal_interval() -> None:
    values = np.random.default_rng(1).uniform(size=400)
    estimate = bootstrap_mean(values.tolist())
    half = 1.96 * values.std() / 20
    assert estimate.value == pytest.approx(values.mean())
    assert (estimate.low, estimate.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=4e-3)
    assert bootstrap_mean(values.tolist()) == estimate


def test_paired_ratio_is_narrower_than_unpaired_would_be() -> None:
    theirs = [i % 2 == 0 for i in range(200)]
    estimate = paired_ratio(theirs, theirs)
    assert (estimate.value, estimate.low, estimate.high) == (1.0, 1.0, 1.0)
    ours = [success and i % 10 != 0 for i, success in enumerate(theirs)]
    estimate = paired_ratio(ours, theirs)
    assert estimate.value == pytest.approx(0.8)
    assert estimate.low is not None and estimate.high is not None
    assert 0.7 < estimate.low < 0.8 < estimate.high < 0.9
    assert paired_ratio([True], [False]).value is None


# -- policies -------------------------------------------------------------------------------------------------------


def test_replay_gives_every_goal_once_and_then_holds_the_last() -> None:
    goals = np.arange(10 * 26, dtype=float).reshape(10, 26)
    policy = ReplayPolicy(goals, frames=4)
    policy.reset("")
    acts = [policy.act({}) for _ in range(5)]
    np.testing.assert_array_equal(np.concatenate(acts), np.concatenate([goals, goals[-1:], goals[-1:]]))


def test_random_policy_is_the_same_for_the_same_seed_and_stays_near() -> None:
    observation = {"state": np.zeros(26)}
    first, again, other = (RandomPolicy(seed, MASK) for seed in (3, 3, 4))
    for policy in (first, again, other):
        policy.reset("")
    goals = first.act(observation)
    np.testing.assert_array_equal(goals, again.act(observation))
    assert np.abs(goals - other.act(observation)).max() > 0
    assert goals[:, :10].any() == False and set(goals[:, GRIPPER]) <= {0.0, 1.0}  # noqa: E712 (numpy)


def test_unknown_policies_are_named() -> None:
    with pytest.raises(ValueError, match=r"unknown policy 'expret'; expected 'expert'"):
        factory("expret")
    with pytest.raises(ValueError, match="cannot load policy"):
        factory("no.such.module:thing")
    assert factory("xtok.sim.policies:ExpertPolicy") is policies.ExpertPolicy


def demonstration(frames: int) -> Demonstration:
    start = np.zeros(26)
    start[13:19] = [1, 0, 0, 0, 1, 0]
    goals = np.tile(start, (frames, 1))
    goals[:, POSITION] = np.linspace(0.001, 0.3, frames)[:, None]
    return Demonstration(start, goals, MASK, "sim_panda", 20.0)


@pytest.mark.parametrize(("frames", "lengths"), [(70, [32, 32, 8]), (75, [32, 32, 11]), (5, [8]), (64, [32, 32])])
def test_through_cuts_anchors_and_pads_as_it_says(
    frames: int, lengths: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, seen = bins(4096), list[Context]()
    encode = tokenizer.encode

    def watched(chunks: ChunkBatch) -> Codes:
        seen.append(chunks.context)
        return encode(chunks)

    monkeypatch.setattr(tokenizer, "encode", watched)
    demo = demonstration(frames)
    coded = through(tokenizer, demo, horizon=32)
    assert [context.horizon for context in seen] == lengths
    known = np.concatenate([demo.start_D[None], demo.goals_ND])
    for number, context in enumerate(seen):
        assert context.anchor_BD is not None
        np.testing.assert_allclose(context.anchor_BD[0].numpy(), known[32 * number], atol=1e-6)
    assert coded.goals_ND.shape == demo.goals_ND.shape
    np.testing.assert_allclose(coded.goals_ND, demo.goals_ND, atol=2e-3)
    assert coded.bits == 12 * 10 * sum(lengths) and coded.chunks == len(lengths)
    seen.clear()
    through(tokenizer, demo, horizon=32, whole=True)
    assert {context.horizon for context in seen} == {32}


def test_a_chunk_that_cannot_be_decoded_is_held_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = bins(64)
    decode = tokenizer.decode

    def failing(codes: Codes, context: Context) -> Actions:
        actions = decode(codes, context)
        return replace(actions, failed_B=actions.failed_B | True)

    monkeypatch.setattr(tokenizer, "decode", failing)
    demo = demonstration(40)
    coded = through(tokenizer, demo, horizon=32)
    assert coded.chunks_failed == 2
    np.testing.assert_allclose(coded.goals_ND[:32, POSITION], 0.0)
    np.testing.assert_allclose(coded.goals_ND[32:], np.tile(demo.goals_ND[31], (8, 1)))


# -- many episodes --------------------------------------------------------------------------------------------------


def test_expert_and_random_are_counted_on_the_same_seeds() -> None:
    specs = plan(CELLS, ("easy", "hard"), 5)
    assert [spec.seed for spec in specs[:5]] == list(range(100_000, 100_005))
    results = [r for name in ("expert", "random") for r in evaluate(name, specs, Ledger(None, {}))]
    summary = summarise(results)
    assert summary["expert"]["all"]["successes"] == 16  # the fifth seed of each cell fails
    assert summary["random"]["all"]["successes"] == 0
    assert summary["expert"]["cells"]["Stack-UR5e-hard"]["success"]["value"] == 0.8
    assert summary["expert"]["all"]["progress"]["value"] < 1.0


def test_replay_raw_equals_the_expert_and_coarse_codes_fail() -> None:
    specs = plan(CELLS[:1], ("easy",), 4)
    coders = {"Panda": {"fine": Coder(bins(4096)), "coarse": Coder(bins(8)), "whole": Coder(bins(4096), whole=True)}}
    results = list(evaluate_replay(coders, specs, Ledger(None, {})))
    by = {(r.policy, r.seed): r for r in results}
    assert len(by) == 4 * 5
    for spec in specs:
        expert, raw = by["expert", spec.seed], by["raw", spec.seed]
        assert (expert.success, expert.steps, expert.progress) == (raw.success, raw.steps, raw.progress)
        assert by["fine", spec.seed].success and not by["coarse", spec.seed].success
    versus = compare(results)
    assert versus["fine"]["all"]["ratio"]["value"] == 1.0 and versus["fine"]["tasks"]["Lift"]["lost"] == 0
    assert versus["coarse"]["all"]["kept"]["value"] == 0.0 and versus["coarse"]["all"]["lost"] == 4
    bits = summarise(results)["fine"]["all"]["bits_a_chunk"]
    assert bits <= 12 * 10 * 32 < summarise(results)["whole"]["all"]["bits_a_chunk"] + 1


def test_a_stopped_run_goes_on_and_ends_with_the_same_results(tmp_path: Path) -> None:
    specs, path = plan(CELLS, ("easy",), 3), tmp_path / "results.jsonl"
    straight = sorted(evaluate("expert", specs, Ledger(None, {})), key=lambda r: r.episode.name)
    stream = evaluate("expert", specs, Ledger(path, {"policy": "expert"}))
    for _ in range(4):
        next(stream)
    stream.close()
    path.write_text(path.read_text()[:-20])  # a line cut short
    with pytest.raises(ValueError, match="add --resume"):
        Ledger(path, {"policy": "expert"})
    with pytest.raises(ValueError, match="other settings"):
        Ledger(path, {"policy": "random"}, resume=True)
    ledger = Ledger(path, {"policy": "expert"}, resume=True)
    assert len(ledger.results) == 3
    assert sorted(evaluate("expert", specs, ledger), key=lambda r: r.episode.name) == straight
    ledger.close()
    assert len(path.read_text().splitlines()) == 7


def test_a_replay_goes_on_with_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = plan(CELLS[:1], ("easy",), 2)
    coders = {"Panda": {"fine": Coder(bins(4096))}}
    straight = sorted(evaluate_replay(coders, specs, Ledger(None, {})), key=lambda r: (r.policy, r.seed))
    ledger = Ledger(None, {})
    for result in straight:
        if (result.policy, result.seed) != ("fine", 100_001):
            ledger.add(result)
    acted: list[object] = []
    roll = rollout._roll
    monkeypatch.setattr(rollout, "_roll", lambda *args, **more: acted.append(args) or roll(*args, **more))
    results = sorted(evaluate_replay(coders, specs, ledger), key=lambda r: (r.policy, r.seed))
    assert results == straight and len(acted) == 2  # the expert again, to have its commands, and the missing replay


def test_a_policy_that_acts_nonsense_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies.ExpertPolicy, "act", lambda self, observation: np.zeros(7))
    with pytest.raises(ValueError, match=r"policy 'expert' acted \(7,\); expected goals \[H, 26\]"):
        list(evaluate("expert", plan(CELLS, ("easy",), 1), Ledger(None, {})))


def test_results_survive_json() -> None:
    result = Result("Lift", "Panda", "easy", "eval", 7, "fine", True, 1.0, 12, 88.0, 1, 0)
    assert result.episode.name == "Lift-Panda-easy-eval-000007"
