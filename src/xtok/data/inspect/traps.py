"""What goes wrong silently when a data set is trained on as it is. Each test is a few lines of arithmetic on some
episodes.

# N frames of an episode, W columns of a feature
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_UNIT = 0.02  # how far from length 1 a quaternion may be
_WRAP = 0.03  # a wrapped step differs from a whole turn by the true step, 11 degrees at most
_SPEED_MAX_M_S = 5.0
_LISTED = 6  # columns named in one warning


@dataclass(frozen=True)
class Trap:
    """kind: a few words, the same for the same trap. text: where, how much, what to do."""

    kind: str
    text: str


def still(feature: str, label: Sequence[str], still_W: np.ndarray, value_W: np.ndarray) -> list[Trap]:
    """Columns that never move: a mask is cheaper than codes for them."""
    which = np.flatnonzero(still_W)
    if not len(which):
        return []
    named = ", ".join(f"{label[i]} = {value_W[i]:.4g}" for i in which[:_LISTED])
    more = f" and {len(which) - _LISTED} more" if len(which) > _LISTED else ""
    return [Trap("still channels", f"{len(which)} of {len(still_W)} columns of {feature} never move: {named}{more}")]


def action_and_state(action: str, state: str, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Trap]:
    """How the leading columns of an action go with those of a state; an action may have a gripper more, or a state."""
    width = min(pairs[0][0].shape[1], pairs[0][1].shape[1])
    pairs = [(a[:, :width], s[:, :width]) for a, s in pairs]
    a_NW, s_NW = (np.concatenate([pair[k] for pair in pairs]) for k in (0, 1))
    tolerance_W = 1e-4 * np.maximum(np.ptp(s_NW, axis=0), 1e-9) + 1e-7
    same = float(np.mean((np.abs(a_NW - s_NW) <= tolerance_W).all(axis=1)))
    if same > 0.5:
        text = f"{action}[t] equals {state}[t] in {same:.0%} of frames"
        return [
            Trap(
                "action equals state",
                f"{text}; action minus state would be nothing. xtok takes pose[t + k] - pose[t - 1]",
            )
        ]
    longer = [(a, s) for a, s in pairs if len(a) > 2]
    if not longer:
        return []
    now_a, now_s, next_s = (
        np.concatenate([part(a, s) for a, s in longer])
        for part in (lambda a, s: a[:-1], lambda a, s: s[:-1], lambda a, s: s[1:])
    )
    if (ahead := float(np.mean((np.abs(now_a - next_s) <= tolerance_W).all(axis=1)))) > 0.5:
        return [Trap("action is the next state", f"{action}[t] equals {state}[t + 1] in {ahead:.0%} of frames")]
    moving = [i for i in range(width) if np.std(next_s[:, i] - now_s[:, i]) > 1e-9 and np.std(now_a[:, i]) > 1e-9]
    differences = [i for i in moving if _looks_like(now_a[:, i], next_s[:, i] - now_s[:, i], now_s[:, i])]
    if len(differences) >= max(2, len(moving) // 2):
        few = f"{len(differences)} of {len(moving)} moving columns of {action}"
        text = f"{few} follow the change of {state}, not its value"
        return [Trap("action is a difference", f"{text}: differences or velocities. Take poses from {state}")]
    return []


def _looks_like(action_N: np.ndarray, change_N: np.ndarray, value_N: np.ndarray) -> bool:
    with_change = abs(np.corrcoef(action_N, change_N)[0, 1])
    with_value = abs(np.corrcoef(action_N, value_N)[0, 1]) if np.std(value_N) > 1e-9 else 0.0
    return bool(with_change > 0.5 and with_change > with_value + 0.2)


def unit_quaternions(arrays: Sequence[np.ndarray]) -> list[int]:
    """First columns of four neighbours that have length 1 in every frame, and are no four still or binary columns."""
    joined = np.concatenate(arrays)
    out = []
    for start in range(joined.shape[1] - 3):
        four = joined[:, start : start + 4]
        if (np.abs(np.linalg.norm(four, axis=1) - 1) < _UNIT).all() and (np.ptp(four, axis=0) > 1e-4).sum() >= 2:
            out.append(start)
    return out


def quaternion_flips(feature: str, arrays: Sequence[np.ndarray]) -> list[Trap]:
    """A quaternion that jumps to its negative is the same rotation, and a huge step for anything that takes
    differences.
    """
    out = []
    for start in unit_quaternions(arrays):
        quaternions = [array[:, start : start + 4] for array in arrays]
        flips = sum(int(((q[1:] * q[:-1]).sum(axis=1) < 0).sum()) for q in quaternions)
        if flips:
            where = f"{feature}[{start}:{start + 4}]"
            out.append(
                Trap(
                    "quaternion sign flips",
                    f"{where} changes sign {flips} times; xtok composes rotations, so it is safe here",
                )
            )
    return out


def wrapped_angles(feature: str, label: Sequence[str], arrays: Sequence[np.ndarray]) -> list[Trap]:
    """Jumps of a whole turn from one frame to the next, in radians or degrees."""
    hits = []
    for column in range(arrays[0].shape[1]):
        steps = np.concatenate([np.abs(np.diff(array[:, column])) for array in arrays])
        spread = float(np.ptp(np.concatenate([array[:, column] for array in arrays])))
        for turn in (2 * np.pi, 360.0):
            jumps = int((np.abs(steps - turn) < _WRAP * turn).sum())
            if jumps and spread < 1.02 * turn:
                hits.append(f"{label[column]} ({jumps} times)")
    if not hits:
        return []
    text = f"{feature}: {', '.join(hits[:_LISTED])} jump by a whole turn"
    return [
        Trap("wrapped angles", f"{text}; as a rotation (form euler) that is safe, as joints it is not: unwrap them")
    ]


def mixed_units(feature: str, label: Sequence[str], low_W: np.ndarray, high_W: np.ndarray) -> list[Trap]:
    """Columns of one feature of which some stay within a turn and others go far beyond, or that are no radians at
    all.
    """
    size_W = np.maximum(np.abs(low_W), np.abs(high_W))
    large, small = np.flatnonzero(size_W > 3 * np.pi), np.flatnonzero((size_W <= 2 * np.pi) & (size_W > 1e-6))
    if not len(large):
        return []
    if not len(small):
        text = f"{feature} reaches {size_W.max():.4g}: degrees, or LeRobot's -100..100 of a calibration, but no radians"
        return [Trap("units", text)] if len(large) > 1 else []
    named = ", ".join(f"{label[i]} to {size_W[i]:.4g}" for i in large[:_LISTED])
    return [Trap("mixed units", f"{feature}: {len(small)} columns stay within a turn, others go far beyond ({named})")]


def repeated_frames(feature: str, arrays: Sequence[np.ndarray]) -> list[Trap]:
    """Rows equal to the one before: a robot at rest, or a recorder faster than the robot."""
    steps = [np.abs(np.diff(array, axis=0)).max(axis=1) for array in arrays if len(array) > 1]
    if not steps or not np.concatenate(steps).any():
        return []
    share = float(np.mean(np.concatenate(steps) == 0))
    if share < 0.3:
        return []
    return [Trap("repeated frames", f"{share:.0%} of the rows of {feature} equal the row before")]


def gripper_inverted(channel: str, openings: Sequence[np.ndarray]) -> list[Trap]:
    """Demonstrations begin with an open hand: if most begin closed and then open, the convention is probably turned
    round.

    An arm that rests with a closed hand begins closed as well, but opens twice, to take and to let go; a hand read the
    wrong way round "opens" once, around the thing. So most of them must open once only.

    openings: the gripper channel of each episode, 0 closed .. 1 open.
    """
    moved = [opening for opening in openings if np.ptp(opening) > 0.3]
    begins_closed = [opening for opening in moved if opening[0] < 0.3]
    if len(moved) < 3 or len(begins_closed) <= 0.7 * len(moved):
        return []
    if 2 * sum(_times_opened(opening) > 1 for opening in begins_closed) > len(begins_closed):
        return []
    text = f"{channel}: {len(begins_closed)} of {len(moved)} demonstrations begin closed (0) and open later"
    look = "most sets begin open: 'closed' and 'open' are the wrong way round, or the arm rests with a closed hand"
    return [Trap("gripper inverted", f"{text}; {look}")]


def _times_opened(opening_N: np.ndarray) -> int:
    """How often it goes from the lower two fifths of its own range to the upper two."""
    share_N = (opening_N - opening_N.min()) / np.ptp(opening_N)
    ends_N = share_N[(share_N < 0.4) | (share_N > 0.6)] > 0.5
    return int((ends_N[1:] & ~ends_N[:-1]).sum())


def grippers_disagree(action: str, state: str, action_N: np.ndarray, state_N: np.ndarray) -> list[Trap]:
    """A commanded and a measured gripper that run against each other: one of the two is inverted."""
    if np.std(action_N) < 1e-6 or np.std(state_N) < 1e-6:
        return []
    if (correlation := float(np.corrcoef(action_N, state_N)[0, 1])) > -0.5:
        return []
    return [
        Trap(
            "gripper inverted",
            f"{action} and {state} run against each other (correlation {correlation:.2f}); one is inverted",
        )
    ]


def jumps(group: str, motions: Sequence[tuple[int, np.ndarray, float]]) -> list[Trap]:
    """Hands that move faster than any arm: unit, rate or frame are wrong, or frames are missing.

    motions: number, position_m [N, 3] and control_hz of each episode.
    """
    worst = [
        (float(speed_m_s.max()), int(speed_m_s.argmax()) + 1, index)
        for index, position_m, hz in motions
        if (speed_m_s := np.linalg.norm(np.diff(position_m, axis=0), axis=1) * hz).max() > _SPEED_MAX_M_S
    ]
    if not worst:
        return []
    fastest, frame, index = max(worst)
    where = f"frame {frame} of episode {index}"
    text = f"{group}: up to {fastest:.1f} m/s ({where}), in {len(worst)} of {len(motions)} episodes"
    return [Trap("jumps", f"{text}; check unit, rate and frame, or look for missing frames")]
