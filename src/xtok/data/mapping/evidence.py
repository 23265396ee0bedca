"""What the numbers say of a reading: whether columns can be a rotation, a path of a hand, an opening; and which of two
readings they speak for.

Every test gives a measure or None where the data cannot tell. None is never taken for a yes.

# N frames of an episode, W columns
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xtok.data.mapping.rotation_forms import rotation_matrices

UNIT_TOLERANCE = 0.02  # how far from length 1 a quaternion, or a column of a matrix, may be
REACH_MAX_M = 3.0  # a hand farther than this from its robot has another unit
SPEED_MAX_M_S = 5.0
_SURE, _NOT = 0.8, 0.5  # correlations that count as following and as not following

Arrays = Sequence[np.ndarray]  # one [N, W] an episode


def unit_share(arrays: Arrays) -> float:
    """Share of rows that have length 1."""
    return float(np.mean(np.abs(np.linalg.norm(np.concatenate(arrays), axis=1) - 1) < UNIT_TOLERANCE))


def orthonormal_share(first: Arrays, second: Arrays) -> float:
    """Share of rows where two vectors have length 1 and stand at right angles."""
    a, b = np.concatenate(first), np.concatenate(second)
    lengths = [np.abs(np.linalg.norm(each, axis=1) - 1) < UNIT_TOLERANCE for each in (a, b)]
    return float(np.mean(lengths[0] & lengths[1] & (np.abs((a * b).sum(axis=1)) < UNIT_TOLERANCE)))


def rotation_order_by_velocity(
    arrays: Arrays, turning: Arrays, hz: float, orders: Sequence[tuple[str, str]]
) -> tuple[str, str] | None:
    """The (form, order) whose change over time is the angular velocity that the set gives beside it, in base or hand
    frame; None where none follows it, or more than one does.
    """
    scores = {}
    for form, order in orders:
        found: list[list[np.ndarray]] = [[], []]
        for values in arrays:
            if len(values) < 3:
                continue
            try:
                matrix = rotation_matrices(values, form, order, 1.0)
            except ValueError:
                return None
            before, after = matrix[:-1], matrix[1:]
            for k, step in enumerate((after @ before.transpose(0, 2, 1), before.transpose(0, 2, 1) @ after)):
                skew = (step - step.transpose(0, 2, 1)) / 2
                found[k].append(np.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], axis=1) * hz)
        told = (
            np.concatenate([(w[1:] + w[:-1]) / 2 for w in turning if len(w) >= 3]) if any(found) else np.zeros((0, 3))
        )
        scores[form, order] = max((_follows(np.concatenate(each), told) for each in found if each), default=0.0)
    ranked = sorted(scores, key=lambda each: -scores[each])
    if not ranked or scores[ranked[0]] < _SURE or (len(ranked) > 1 and scores[ranked[1]] > _NOT):
        return None
    return ranked[0]


def _follows(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of all columns together."""
    if a.std() < 1e-6 or b.std() < 1e-6:
        return 0.0
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def is_euler(angles: Arrays, half_turn: float) -> bool | None:
    """Whether three numbers go round as Euler angles do (True) or as a rotation vector does (False); None: as both.

    A rotation vector is never longer than half a turn and goes on at its opposite; an Euler angle alone jumps a turn.
    """
    longest = max(float(np.linalg.norm(each, axis=1).max()) for each in angles)
    if longest > 1.03 * half_turn:
        return True
    for each in angles:
        steps = np.abs(np.diff(each, axis=0))
        if ((np.abs(steps - 2 * half_turn) < 0.1 * half_turn).sum(axis=1) == 1).any():
            return True
        lengths = np.linalg.norm(each, axis=1)
        opposite = (each[1:] * each[:-1]).sum(axis=1) < -0.9 * lengths[1:] * lengths[:-1]
        if (opposite & (lengths[1:] > 0.9 * half_turn) & (lengths[:-1] > 0.9 * half_turn)).any():
            return False
    return None


def speed_share(positions_m: Arrays, hz: float) -> float:
    """Share of steps that are faster than any hand."""
    steps = [np.linalg.norm(np.diff(each, axis=0), axis=1) * hz for each in positions_m if len(each) > 1]
    return float(np.mean(np.concatenate(steps) > SPEED_MAX_M_S)) if steps else 0.0


def looks_like_differences(positions: Arrays) -> bool:
    """Whether a path stays around zero on all axes: what was asked of a hand as changes does, where a hand stands "
    "does not."""
    joined = np.concatenate(positions)
    return bool((np.abs(joined.mean(axis=0)) < 0.5 * joined.std(axis=0) + 1e-9).all())


def swapped(one: tuple[Arrays, Arrays], other: tuple[Arrays, Arrays]) -> bool | None:
    """Whether left and right of one source go with right and left of another; None where both go alike.

    one, other: (left, right) of the measured and of the commanded motion.
    """
    straight = _alike(one[0], other[0]) + _alike(one[1], other[1])
    crossed = _alike(one[0], other[1]) + _alike(one[1], other[0])
    if abs(straight - crossed) < 0.4:
        return None
    return crossed > straight


def _alike(a: Arrays, b: Arrays) -> float:
    one, two = np.concatenate(a), np.concatenate(b)
    one, two = one - one.mean(axis=0), two - two.mean(axis=0)
    scale = np.linalg.norm(one) * np.linalg.norm(two)
    return float((one * two).sum() / scale) if scale > 1e-9 else 0.0


def can_be_pose(arrays: Arrays) -> bool:
    """Whether six numbers or more can begin with a place within a hand's reach (m) and three angles (rad)."""
    joined = np.concatenate(arrays)
    place, angles = joined[:, :3], joined[:, 3:6]
    moves = (np.ptp(place, axis=0) > 1e-4).sum() >= 2
    return bool(moves and np.linalg.norm(place, axis=1).max() < 2.0 and np.abs(angles).max() < np.pi + 0.1)


def follows_columns(state: Arrays, action: Arrays) -> bool:
    """Whether each column of an action goes with the same column of a state, and with no other as well."""
    s, a = np.concatenate([x[1:] for x in state]), np.concatenate([x[:-1] for x in action])
    moving = np.flatnonzero((np.ptp(s, axis=0) > 1e-6) & (np.ptp(a, axis=0) > 1e-6))
    if len(moving) < 2:
        return False
    table = np.corrcoef(s[:, moving].T, a[:, moving].T)[: len(moving), len(moving) :]
    return bool((table.diagonal() > _SURE).all() and (table.argmax(axis=1) == np.arange(len(moving))).all())


def goes_with(changes: np.ndarray, velocity: np.ndarray) -> bool:
    """Whether a velocity is the change of a position, by correlation."""
    if changes.std() < 1e-9 or velocity.std() < 1e-9:
        return bool(changes.std() < 1e-9 and velocity.std() < 1e-9)
    return bool(np.corrcoef(changes, velocity)[0, 1] > _NOT)


def fingers(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> str:
    """Two columns of one hand: "equal", "mirrored" (one is the other turned round about some value), or "" for "
    "neither."""
    one, two = np.concatenate(a), np.concatenate(b)
    span = max(float(np.ptp(one)), float(np.ptp(two)))
    if span < 1e-6:
        return ""
    if np.ptp(one - two) < 0.1 * span and abs(float((one - two).mean())) < 0.1 * span:
        return "equal"
    return "mirrored" if np.ptp(one + two) < 0.1 * span else ""
