"""Alignment, retrieval, families, substitution and neighbours: planted structure is found, shuffled is at chance.

# N chunks, M slots, E dimensions
"""

from __future__ import annotations

import numpy as np
import pytest

from xtok.evaluate.alignment import align, centred, pooled, unit
from xtok.evaluate.cluster import clustered_mean
from xtok.evaluate.families import arm_families, principal_plane
from xtok.evaluate.neighbours import code_distances, distances, rank_correlation, spearman
from xtok.evaluate.retrieval import retrieve
from xtok.evaluate.substitution import FLOOR, direction_cosine, mean_trajectories, substitute

N, M, E = 240, 5, 24


def planted(noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """action, teacher [N, M, E]: the same points but for noise, far from the origin together; and episodes of 4."""
    rng = np.random.default_rng(seed)
    common = 10 * rng.normal(size=E)
    teacher = rng.normal(size=(N, M, E))
    action = teacher + noise * rng.normal(size=teacher.shape)
    return unit(action + common), unit(teacher + common), (np.arange(N) // 4).astype(str)


def test_alignment_is_on_the_diagonal_where_it_was_planted() -> None:
    action, teacher, episode_N = planted(0.3)
    found = align(action, teacher, episode_N)
    matrix = np.array(found.matrix)
    assert found.diagonal.value > 0.9 and found.mid_peak > 0.9
    assert found.contrast == pytest.approx(np.diag(matrix).mean() - matrix[~np.eye(M, dtype=bool)].mean())
    assert found.contrast is not None and found.contrast > 0.85
    assert found.teacher_contrast is not None and found.teacher_contrast > found.contrast
    assert abs(found.shuffled) < 0.05 and abs(found.floor) < 0.05


def test_a_teacher_that_hardly_changes_within_a_chunk_bounds_the_contrast() -> None:
    rng = np.random.default_rng(0)
    teacher = unit(rng.normal(size=(N, 1, E)) + 0.1 * rng.normal(size=(N, M, E)))
    found = align(teacher, teacher, np.arange(N).astype(str))
    assert found.diagonal.value == pytest.approx(1.0)
    assert found.contrast == pytest.approx(found.teacher_contrast) and found.contrast is not None
    assert found.contrast < 0.05


def test_cosines_without_centring_would_have_fooled_us() -> None:
    _, teacher, episode_N = planted(0.0)
    other = planted(0.0, seed=1)[1]
    common = teacher.mean((0, 1)) + unit(np.ones(E))
    raw = np.einsum("nie,nie->ni", unit(other + 9 * common), unit(teacher + 9 * common)).mean()
    assert raw > 0.9
    assert abs(align(unit(other + 9 * common), unit(teacher + 9 * common), episode_N).diagonal.value) < 0.05


def test_the_floor_is_what_a_slots_mean_alone_would_give() -> None:
    rng = np.random.default_rng(0)
    by_slot = rng.normal(size=(1, M, E))
    teacher = unit(by_slot + 0.1 * rng.normal(size=(N, M, E)))
    constant = np.repeat(unit(by_slot), N, axis=0)  # knows the slot, not the chunk
    found = align(constant, teacher, np.arange(N).astype(str))
    assert found.diagonal.value > 0.9 and found.floor > 0.9 and found.shuffled > 0.9


def test_one_slot_has_no_contrast_and_other_shapes_are_refused() -> None:
    action, teacher, episode_N = planted(0.3)
    found = align(action[:, :1], teacher[:, :1], episode_N)
    assert found.contrast is None and found.teacher_contrast is None
    with pytest.raises(ValueError, match="expected the same"):
        align(action, teacher[:-1], episode_N)
    with pytest.raises(ValueError, match="two or more"):
        align(action[:1], teacher[:1], episode_N[:1])


def test_a_true_partner_is_retrieved_and_a_shuffled_one_is_at_chance() -> None:
    action, teacher, episode_N = planted(0.5)
    a_NE, t_NE = pooled(centred(action)), pooled(centred(teacher))
    found = retrieve(a_NE, t_NE, episode_N, candidates=50)
    assert found is not None and found.r1.value > 0.95 and found.candidates == 50 and found.median_rank == 1
    assert found.times_chance == pytest.approx(50 * found.r1.value)
    wrong = retrieve(a_NE, t_NE[np.roll(np.arange(N), 100)], episode_N, candidates=50)
    assert wrong is not None and wrong.r1.value < 0.1 and 15 < wrong.median_rank < 36


def test_scores_that_say_nothing_are_at_chance_exactly() -> None:
    same_NE = np.tile(unit(np.ones(E)), (N, 1))
    found = retrieve(same_NE, same_NE, np.arange(N).astype(str), candidates=20)
    assert found is not None and found.r1.value == pytest.approx(1 / 20) and found.r5 == pytest.approx(5 / 20)
    assert found.times_chance == pytest.approx(1) and found.median_rank == 10.5


def test_candidates_come_from_other_episodes_of_the_same_group() -> None:
    """Every chunk of an episode is the same point: were its neighbours candidates, ties would lower R@1."""
    rng = np.random.default_rng(0)
    x_NE = unit(np.repeat(rng.normal(size=(N // 4, E)), 4, axis=0))
    episode_N = np.repeat(np.arange(N // 4), 4)
    group_N = episode_N % 2
    found = retrieve(x_NE, x_NE, episode_N, group_N, candidates=1000)
    assert found is not None and found.r1.value == 1 and found.candidates == 1 + N // 2 - 4
    assert retrieve(x_NE, x_NE, np.zeros(N), None) is None


def test_arm_families_are_the_means_over_pairs_of_different_episodes() -> None:
    rng = np.random.default_rng(0)
    x_NE, arm_N, episode_N = rng.normal(size=(30, 4)), np.repeat(["a", "b"], 15), np.arange(30) // 3
    found = arm_families(x_NE, arm_N, episode_N)
    y = unit(x_NE - x_NE.mean(0))
    for i, a in enumerate(found.arms):
        for j, b in enumerate(found.arms):
            pairs = [
                y[n] @ y[m]
                for n in np.flatnonzero(arm_N == a)
                for m in np.flatnonzero(arm_N == b)
                if episode_N[n] != episode_N[m]
            ]
            assert found.matrix[i][j] == pytest.approx(np.mean(pairs))
    lone = arm_families(x_NE, arm_N, np.where(arm_N == "a", 0, episode_N))
    assert lone.matrix[0][0] is None and lone.within == lone.matrix[1][1]


def test_the_principal_plane_is_the_one_of_most_variance() -> None:
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(200, 2)) * [5, 2]
    turn = np.linalg.qr(rng.normal(size=(7, 7)))[0][:2]
    xy, (first, second) = principal_plane(flat @ turn + 3)
    np.testing.assert_allclose(distances(xy), distances(flat), atol=1e-6)
    assert first > second and first + second == pytest.approx(1)
    with pytest.raises(ValueError, match="three or more"):
        principal_plane(flat[:2])


def test_substitution_is_held_against_the_mean_trajectory() -> None:
    rng = np.random.default_rng(0)
    T = 8
    aim_NC = rng.normal(size=(60, 3)) + np.array([3.0, 0, 0])
    true_NTC = 0.05 * np.linspace(0, 1, T)[None, :, None] * aim_NC[:, None]
    true_NTC[0] = 1e-5  # still
    task_N, episode_N = np.repeat(["Lift", "Press"], 30), np.arange(60) // 2
    decoded = {"teacher": 2 * true_NTC, "backwards": -true_NTC, "nothing": np.zeros_like(true_NTC)}
    found = substitute(true_NTC, decoded, mean_trajectories(true_NTC, task_N), task_N, episode_N)
    assert found["Lift"].still == 1 and found["Lift"].chunks == 29
    cosines = {name: mean.value for name, mean in found["Press"].cosines.items()}
    assert cosines["teacher"] == pytest.approx(1) and cosines["backwards"] == pytest.approx(-1)
    assert cosines["nothing"] == 0 and 0.7 < cosines[FLOOR] < 1
    with pytest.raises(ValueError, match="the true one is"):
        substitute(true_NTC, {"teacher": true_NTC[1:]}, {"": true_NTC[0]}, task_N, episode_N)
    assert np.isnan(direction_cosine(true_NTC, true_NTC)[0])


def test_rank_correlation_of_neighbours() -> None:
    assert spearman(np.array([1.0, 2, 3, 4]), np.array([1.0, 8, 27, 64])) == pytest.approx(1)
    assert spearman(np.array([1.0, 2, 2, 4]), np.array([4.0, 3, 2, 1])) == pytest.approx(-0.9486833)  # scipy.stats
    assert spearman(np.ones(4), np.arange(4.0)) is None
    rng = np.random.default_rng(0)
    x_NX = rng.normal(size=(120, 3))
    assert rank_correlation(x_NX, distances(2 * x_NX)) == pytest.approx(1)
    shuffled = rank_correlation(x_NX, distances(x_NX[rng.permutation(120)]))
    assert shuffled is not None and abs(shuffled) < 0.1
    groups = np.repeat(["a", "b"], 60)
    mixed = distances(x_NX) * np.where(groups[:, None] == groups, 1, -1)  # across groups the order is upside down
    assert rank_correlation(x_NX, mixed, group_N=groups) == pytest.approx(1)


def test_code_distances_weigh_the_first_level_most() -> None:
    codes_NMQ = np.array([[[1, 5], [2, 6]], [[1, 9], [2, 6]], [[3, 5], [2, 6]]])
    np.testing.assert_array_equal(code_distances(codes_NMQ), [[0, 0.5, 1], [0.5, 0, 1.5], [1, 1.5, 0]])


def test_an_interval_counts_episodes_not_chunks() -> None:
    rng = np.random.default_rng(0)
    values_N, group_N = np.repeat(rng.integers(2, size=20), 50).astype(float), np.repeat(np.arange(20), 50)
    by_episode, by_chunk = clustered_mean(values_N, group_N), clustered_mean(values_N, np.arange(1000))
    assert by_episode.high - by_episode.low > 5 * (by_chunk.high - by_chunk.low)
    with pytest.raises(ValueError, match="expected as many"):
        clustered_mean(values_N, group_N[:-1])
