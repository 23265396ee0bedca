"""FAST's form is chosen on train episodes alone, by l1 at equal bits; and nothing is encoded twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch

import evaluate_kit as kit
from xtok.actions.layout import ARMS26, JOINTS
from xtok.actions.rotation import matrix_from_rotvec, rotation6d_from_matrix
from xtok.actions.statistics import Statistics
from xtok.actions.statistics_fit import fit_statistics
from xtok.actions.types import ChunkBatch, Codes
from xtok.baselines.common import Form
from xtok.data.episode import Episode
from xtok.evaluate import Budget, evaluate_dataset
from xtok.evaluate.coded import Coded
from xtok.evaluate.rate import RatePoint
from xtok.evaluate.rivals import Rates, affordable, better_form, fit_fast
from xtok.evaluate.sweep import Price

T = 16


def turning(episode: Episode, rad_a_frame: float) -> Episode:
    """The same positions with a hand that spins about z: a rotation vector that jumps at every half turn."""
    angles_N = rad_a_frame * np.arange(len(episode))
    vectors_N3 = torch.from_numpy(np.stack([0 * angles_N, 0 * angles_N, angles_N], axis=-1))
    absolute_ND = episode.absolute_ND.copy()
    absolute_ND[:, ARMS26.slices["right_rotation"]] = rotation6d_from_matrix(matrix_from_rotvec(vectors_N3)).numpy()
    return replace(episode, absolute_ND=absolute_ND)


def episodes(seeds: Sequence[int], rad_a_frame: float | None) -> list[Episode]:
    plain = [kit.episode(ARMS26, 120, seed) for seed in seeds]
    return plain if rad_a_frame is None else [turning(episode, rad_a_frame) for episode in plain]


def ranges(train: Sequence[Episode]) -> dict[str, Statistics]:
    robot = train[0].embodiment
    motions = [episode.absolute_ND for episode in train]
    return {robot: fit_statistics(ARMS26, robot, kit.CONTROL_HZ, kit.mask(ARMS26), motions)}


def subject(statistics: dict[str, Statistics], held_out: Sequence[Episode]) -> Coded:
    from xtok.actions.types import concatenate
    from xtok.data.chunks import iter_chunks

    return Coded(kit.StepTokenizer(statistics), concatenate(list(iter_chunks(held_out, T, 4))))


@pytest.mark.parametrize(("rad_a_frame", "rotations"), [(None, "tangent"), (0.45, "columns")])
def test_the_form_is_the_best_one_of_the_motion(rad_a_frame: float | None, rotations: str) -> None:
    """Both forms of rotation with 0 at rest, and the better one centred too."""
    train = episodes(range(3, 13), rad_a_frame)
    statistics = ranges(train)
    found = fit_fast(train, subject(statistics, episodes(range(2), rad_a_frame)), statistics, 300)
    assert found.form == found.how["form"] == found.sweep.form
    means, curves = (found.how["chosen_on_train"][key] for key in ("mean_l1_at_equal_bits", "curves"))
    assert set(means) == set(curves) == {"columns-rest", "tangent-rest", rotations}
    assert found.form in (rotations, f"{rotations}-rest") and means[found.form] == min(means.values())


def resting(index: int) -> Episode:
    """Joints that go to one side now and then, and are still most of the time."""
    plain = kit.episode(JOINTS, 160, index)
    halting_N = np.maximum.accumulate(np.arange(160) * (np.arange(160) % 40 < 12))
    return replace(plain, absolute_ND=np.abs(plain.absolute_ND)[halting_N])


def test_a_robot_that_is_mostly_still_has_its_zeros_at_rest() -> None:
    train = [resting(index) for index in range(3, 11)]
    robot = train[0].embodiment
    motions = [episode.absolute_ND for episode in train]
    statistics = {robot: fit_statistics(JOINTS, robot, kit.CONTROL_HZ, kit.mask(JOINTS), motions)}
    found = fit_fast(train, subject(statistics, [resting(0), resting(1)]), statistics, 400)
    means = found.how["chosen_on_train"]["mean_l1_at_equal_bits"]
    assert found.form == "tangent-rest" and means["tangent-rest"] < 0.8 * means["tangent"]


def test_evaluated_chunks_have_no_say_in_the_form() -> None:
    """Held-out hands that spin, train ones that do not: the choice, and the curves that made it, stay as they are."""
    train = episodes(range(3, 13), None)
    statistics = ranges(train)
    plain, spun = (
        fit_fast(train, subject(statistics, episodes(range(2), rad)), statistics, 250) for rad in (None, 0.45)
    )
    assert plain.form == spun.form == "tangent-rest"
    assert plain.how["chosen_on_train"] == spun.how["chosen_on_train"]


def test_the_better_form_is_that_of_lower_l1_over_the_bits_of_interest() -> None:
    def line(l1_at_100: float, l1_at_300: float) -> list[RatePoint]:
        return [RatePoint(100.0, l1_at_100), RatePoint(300.0, l1_at_300)]

    rates = Rates(Price(100.0, 9.0), Price(300.0, 27.0), 300.0)
    curves: dict[Form, list[RatePoint]] = {"columns": line(0.04, 0.01), "tangent": line(0.04, 0.0025)}
    form, means = better_form(curves, rates)
    assert form == "tangent" and means == pytest.approx({"columns": 0.02, "tangent": 0.01})
    # Better at the dear end alone, which is not of interest:
    near = Rates(Price(100.0, 9.0), Price(120.0, 10.0), 110.0)
    crossing: dict[Form, list[RatePoint]] = {"columns": line(0.02, 0.02), "tangent": line(0.04, 0.001)}
    assert better_form(crossing, near)[0] == "columns" and better_form(crossing, rates)[0] == "tangent"


@pytest.mark.parametrize(
    ("most", "coefficients", "chunks"),
    [(8000, 8 * 20, 8000), (8000, 64 * 20, 4687), (8000, 64 * 26, 4000), (500, 1664, 500)],
)
def test_long_chunks_of_many_channels_are_fitted_on_fewer(most: int, coefficients: int, chunks: int) -> None:
    assert affordable(most, coefficients) == chunks


def test_joints_have_only_their_zero_to_choose() -> None:
    statistics = kit.statistics(JOINTS)
    train = [kit.episode(JOINTS, 120, seed) for seed in range(2, 8)]
    found = fit_fast(train, Coded(kit.StepTokenizer(statistics), kit.chunks(JOINTS, T)), statistics, 200)
    assert set(found.how["chosen_on_train"]["curves"]) == {"tangent", "tangent-rest"}


class Counting(kit.StepTokenizer):
    """How often each chunk was encoded, by its values."""

    seen: ClassVar[Counter[bytes]] = Counter()

    def encode(self, chunks: ChunkBatch) -> Codes:
        for target_TD in chunks.target_BTD:
            self.seen[target_TD.numpy().tobytes()] += 1
        return super().encode(chunks)

    @property
    def own_rate(self) -> int:
        return self.levels - 1

    def encode_rates(self, chunks: ChunkBatch) -> list[Codes]:
        grid = self.encode(chunks).grid_BMQ
        assert grid is not None
        return [Codes.from_grid(grid[..., :levels], self.vocab_size) for levels in range(1, self.levels + 1)]


def test_no_chunk_is_encoded_twice_but_to_measure_speed_and_to_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    from xtok.evaluate import run

    monkeypatch.setattr(run.speed, "run", lambda tokenizer, chunks: dict.fromkeys(SPEEDS, 1.0))
    statistics = kit.statistics(ARMS26)
    monkeypatch.setattr(Counting, "seen", Counter())
    tokenizer = Counting(statistics)
    evaluate_dataset(
        kit.dataset(ARMS26, [90] * 10),
        {"step": tokenizer},
        statistics,
        {"step": None},
        (T,),
        budget=Budget(24, 60, 30),
        corrupt=True,
    )
    counts = Counting.seen
    assert max(counts.values()) <= 3  # once; again where the report draws an episode and the middle of it
    assert sum(count > 1 for count in counts.values()) <= 1 + 90 // T


SPEEDS = tuple(f"{which}_ms_per_chunk{suffix}" for suffix in ("", "_batched") for which in ("encode", "decode"))
