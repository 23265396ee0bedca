"""Whether the rows of an episode stand in the order in which they happened, told by frame numbers and time stamps.

What is unambiguous is put right and told; what two columns say differently is an error, since no one can know which of
them is wrong; what does no harm to motion (jitter, a pause, missing frames) is told.

# N rows of an episode
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RATE_OFF = 0.1  # share by which the time stamps may contradict the stated rate
PAUSE = 10.0  # steps longer than so many usual ones are pauses


@dataclass(frozen=True)
class Remark:
    """Something odd that could be read all the same. kind: a few words, the same for the same oddity."""

    kind: str
    text: str


@dataclass(frozen=True)
class Order:
    """rows_N: the rows in order, None where they stand so. time_s_N: their time stamps in that order, None where none
    can be used."""

    rows_N: np.ndarray | None
    time_s_N: np.ndarray | None
    remarks: tuple[Remark, ...]


def find_order(frame_N: np.ndarray | None, time_s_N: np.ndarray | None, count: int, where: str) -> Order:
    """Order of `count` rows from their frame numbers and time stamps, float64 with NaN for null, None where the set has
    no such column.

    Raises:
        ValueError: the two contradict each other, or neither can tell the order.
    """
    frames, times = _state(frame_N), _state(time_s_N)
    if frame_N is not None and frames == "numbers" and (frame_N != np.round(frame_N)).any():
        frames = "broken"
    rows_N: np.ndarray | None = None
    told: list[Remark] = []
    if frames == "numbers":
        assert frame_N is not None
        rows_N, told = _by_frame(frame_N, time_s_N if times in ("numbers", "repeat") else None, where)
    elif times == "numbers":
        assert time_s_N is not None
        rows_N, told = _by_time(time_s_N, frames, where)
    else:
        _check_stored_order(frame_N, frames, time_s_N, times, where)
    if frames == "still" and count > 1:
        told.append(Remark("frame_index", "frame_index is the same in all rows, so it was left aside"))
    if frames == "none" and times == "none":
        told.append(Remark("order", "neither frame_index nor timestamp is there: rows are taken as they stand"))
    usable = times in ("numbers", "repeat")
    if times in ("broken", "still"):
        assert time_s_N is not None
        what = f"all {time_s_N[0]:g}" if times == "still" else f"{_first_bad(time_s_N)}"
        told.append(Remark("time stamps", f"time stamps are {what}; times are counted from frames and the rate"))
    elif times == "none" and frames != "none":
        told.append(Remark("time stamps", "there is no timestamp; times are counted from frames and the rate"))
    ordered_s = None
    if usable and time_s_N is not None:
        ordered_s = time_s_N if rows_N is None else time_s_N[rows_N]
        told += _steps(ordered_s)
    return Order(rows_N, ordered_s, tuple(told))


def rate_remark(time_s_N: np.ndarray, control_hz: float) -> Remark | None:
    """Time stamps whose usual step is another than the rate says."""
    steps_s = np.diff(time_s_N)
    steps_s = steps_s[steps_s > 0]
    if len(steps_s) < 2:
        return None
    measured_hz = 1 / float(np.median(steps_s))
    if abs(measured_hz / control_hz - 1) <= RATE_OFF:
        return None
    unit = next(
        (f"; they look like {u}" for u, n in _UNITS.items() if abs(measured_hz * n / control_hz - 1) < RATE_OFF), ""
    )
    return Remark(
        "rate",
        f"stated are {control_hz:g} Hz, the time stamps say {measured_hz:.4g} Hz{unit}; the stated rate is used: check "
        "fps, or give control_hz in a mapping",
    )


_UNITS = {"milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}


def _state(values_N: np.ndarray | None) -> str:
    """none, broken (not finite), still (one value, two rows or more), repeat, or numbers: all there and different."""
    if values_N is None:
        return "none"
    if not np.isfinite(values_N).all():
        return "broken"
    different = len(np.unique(values_N))
    if different == 1 and len(values_N) > 1:
        return "still"
    return "numbers" if different == len(values_N) else "repeat"


def _by_frame(frame_N: np.ndarray, time_s_N: np.ndarray | None, where: str) -> tuple[np.ndarray | None, list[Remark]]:
    rows_N = np.argsort(frame_N, kind="stable")
    shuffled = bool((np.diff(frame_N) < 0).any())
    if time_s_N is not None and (back := np.flatnonzero(np.diff(time_s_N[rows_N]) < 0)).size:
        first, second = rows_N[back[0]], rows_N[back[0] + 1]
        raise ValueError(
            f"{where}: time runs backwards from frame {frame_N[first]:.0f} to {frame_N[second]:.0f} "
            f"({time_s_N[first]:g} to {time_s_N[second]:g} s, rows {first} and {second}), in {back.size} places: "
            "frame_index and timestamp contradict each other, and which is right cannot be told; repair one of them"
        )
    told = [_sorted("frame_index")] if shuffled else []
    steps = np.diff(frame_N[rows_N])
    if (steps != 1).any():
        at = int(np.flatnonzero(steps != 1)[0])
        missing = int((steps - 1).sum())
        before, after = frame_N[rows_N[at]], frame_N[rows_N[at + 1]]
        text = f"frame_index jumps from {before:.0f} to {after:.0f} and {missing} frames are missing in all"
        told.append(Remark("missing frames", f"{text}; a chunk across a gap takes it for one step"))
    return (rows_N if shuffled else None), told


def _by_time(time_s_N: np.ndarray, frames: str, where: str) -> tuple[np.ndarray | None, list[Remark]]:
    if (np.diff(time_s_N) > 0).all():
        told = []
        if frames in ("repeat", "broken"):
            told = [Remark("frame_index", "frame_index repeats or is no number; the time stamps give the order")]
        return None, told
    if frames == "repeat":
        raise ValueError(
            f"{where}: frame_index repeats and time runs backwards, so the order of the rows cannot be told; repair one"
        )
    return np.argsort(time_s_N, kind="stable"), [_sorted("timestamp")]


def _check_stored_order(
    frame_N: np.ndarray | None, frames: str, time_s_N: np.ndarray | None, times: str, where: str
) -> None:
    """Nothing tells the order for certain: at least nothing may speak against the one that is stored."""
    if frames == "repeat":
        assert frame_N is not None
        values, counts = np.unique(frame_N, return_counts=True)
        rows = np.flatnonzero(frame_N == values[counts > 1][0])[:2].tolist()
        raise ValueError(
            f"{where}: frame {values[counts > 1][0]:.0f} is stored twice (rows {rows[0]} and {rows[1]}; "
            f"{int((counts > 1).sum())} frames are), and the time stamps do not tell them apart; remove the copies"
        )
    if frames == "broken":
        raise ValueError(f"{where}: frame_index is {_first_bad(frame_N)} and the time stamps tell no order; repair one")
    if times == "repeat":
        assert time_s_N is not None
        if (back := np.flatnonzero(np.diff(time_s_N) < 0)).size:
            row = int(back[0]) + 1
            raise ValueError(
                f"{where}: time runs backwards at row {row} ({time_s_N[row - 1]:g} to {time_s_N[row]:g} s) and "
                "repeats, so the order of the rows cannot be told; repair the time stamps"
            )


def _steps(time_s_N: np.ndarray) -> list[Remark]:
    steps_s = np.diff(time_s_N)
    told = []
    if still := int((steps_s == 0).sum()):
        row = int(np.flatnonzero(steps_s == 0)[0]) + 1
        told.append(Remark("repeated time", f"{still} time stamps equal the one before, the first in row {row}"))
    moving = steps_s[steps_s > 0]
    if len(moving) > 2 and moving.max() > PAUSE * np.median(moving):
        at = int(steps_s.argmax())
        text = f"{steps_s[at]:.3g} s pass between rows {at} and {at + 1}, usually {np.median(moving):.3g} s"
        told.append(Remark("pause", f"{text}; a chunk across it takes it for one step"))
    return told


def _sorted(column: str) -> Remark:
    return Remark("order", f"rows are not in the order of {column}; they were sorted by it")


def _first_bad(values_N: np.ndarray | None) -> str:
    assert values_N is not None
    bad = np.flatnonzero(~np.isfinite(values_N))
    return f"not a number in {bad.size} rows, the first row {bad[0]}" if bad.size else "no whole number in some rows"
