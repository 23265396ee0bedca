"""What each first code means: the motion it stands for, the words it goes with, who uses it, what follows it.

A place is what one first code is about: a slot of 4 frames, or a block of 16 that a motion word stands for.

# N chunks, M places, n places of all chunks, C codes in use, D channels, P = 5 points: the frame before a place, then
# its four, or every fourth of its sixteen
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xtok.actions.layout import Layout
from xtok.actions.rotation import matrix_from_rotation6d, rotvec_from_matrix
from xtok.actions.types import FRAMES_PER_SLOT
from xtok.evaluate.labels import COLOURS, NUMBERS, Labels

POINTS = 5
MIN_COUNT = 4  # a word or sub-task seen less often with a code is chance
TOP = 6
THREADS = 12  # single occurrences drawn behind a mean
_STOP = frozenset(
    (
        "the",
        "a",
        "an",
        "of",
        "to",
        "it",
        "is",
        "on",
        "in",
        "into",
        "for",
        "and",
        "with",
        "from",
        "then",
        "both",
        "at",
        "by",
    )
)
_WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class Motions:
    """Motion within every place, relative to the frame before it. position_nP3: mm, of the hand that moves; turn_nP3:
    degrees, as a rotation vector; opening_nP: of the gripper, as it is; joint_nPJ: joints (a layout without poses).
    offset_n3: mm from the chunk's anchor to the frame before the place. None where the robots have no such thing."""

    position_nP3: np.ndarray | None
    turn_nP3: np.ndarray | None
    opening_nP: np.ndarray | None
    joint_nPJ: np.ndarray | None
    offset_n3: np.ndarray | None


@dataclass(frozen=True)
class Association:
    """A word or sub-task and a code: pmi = log2(p(both) / p(code) p(text)), in bits; count together; of_code: share of
    the code's uses."""

    text: str
    pmi: float
    count: int
    of_code: float


@dataclass(frozen=True)
class Track:
    """Mean and spread (standard deviation) of one quantity over the five points of a place."""

    name: str
    unit: str
    mean_P: np.ndarray
    spread_P: np.ndarray


@dataclass(frozen=True)
class Entry:
    """One code. share: of all places. example_n: places nearest to the mean motion, of different episodes.

    path_P3, threads_tP3: mean and single paths in mm; turn_deg_3: rotation over the place; position_spread_mm,
    turn_spread_deg: of the end of the place; arms_apart_mm: rms of the ends of single arms' mean paths around the mean
    of all, None of fewer than two arms. arms: share of the code's uses; evenness: 1 where arms use it as they use
    all codes, 0 where one arm has it alone. following: next code of the same chunk, its probability. segments: of a
    motion word, how its blocks are refined: which residual segments, in frames, with which share; tokens: mean tokens
    of such a block, the word counted. None of codes of slots."""

    code: int
    count: int
    share: float
    tracks: tuple[Track, ...]
    path_P3: np.ndarray | None
    threads_tP3: np.ndarray | None
    position_spread_mm: float | None
    arms_apart_mm: float | None
    offset_mm_3: np.ndarray | None
    turn_deg_3: np.ndarray | None
    turn_spread_deg: float | None
    opening: tuple[float, float] | None
    subtasks: tuple[Association, ...]
    words: tuple[Association, ...]
    tasks: tuple[Association, ...]
    arms: dict[str, float]
    evenness: float
    following: tuple[tuple[int, float], ...]
    place_M: tuple[float, ...]
    example_n: tuple[int, ...]
    segments: tuple[tuple[str, float], ...] | None = None
    tokens: float | None = None


@dataclass(frozen=True)
class Refined:
    """How the blocks of motion words go on: segments_n: frames of their residual segments, "4 + 8", "" where there are
    none. tokens_n: tokens of each block, the word counted."""

    segments_n: np.ndarray
    tokens_n: np.ndarray


@dataclass(frozen=True)
class Dictionary:
    """Entries by falling use. arms: share of all places; places: how many were looked at, of so many frames.

    arms_apart_mm: of a code that several arms use, how far single arms' mean paths end from each other, weighted by
    use; codes_apart_mm: how far codes' own mean paths end from each other, both rms around their mean; None of one arm,
    or without positions.
    """

    entries: tuple[Entry, ...]
    arms: dict[str, float]
    places: int
    frames: int
    codebook_size: int
    perplexity: float
    arms_apart_mm: float | None = None
    codes_apart_mm: float | None = None


def motions_of(layout: Layout, mask_ND: np.ndarray, absolute_NFD: np.ndarray, frames: int = FRAMES_PER_SLOT) -> Motions:
    """Motions of every place of `frames` frames, a multiple of four. absolute_NFD: F = T + 1 frames, the anchor first;
    a last place that is cut short holds its last one."""
    N, F, _ = absolute_NFD.shape
    M = -(-(F - 1) // frames)
    at_MP = np.minimum(frames * np.arange(M)[:, None] + frames // (POINTS - 1) * np.arange(POINTS), F - 1)
    points = absolute_NFD[:, at_MP].reshape(N * M, POINTS, -1).astype(np.float64)
    mask_nD = np.repeat(mask_ND, M, axis=0)
    position = turn = opening = joint = offset = None
    if hands := [(group.name, where) for group, where in layout.of_kind("position") if mask_ND[:, where].all(1).any()]:
        moved_Hn = np.stack([_travelled(points[..., where]) * mask_nD[:, where].all(1) for _, where in hands])
        hand_n = moved_Hn.argmax(axis=0)
        anchor = np.repeat(absolute_NFD[:, :1], M, axis=1).reshape(N * M, 1, -1).astype(np.float64)
        starts = [where.start for _, where in hands]
        mine = np.array(starts)[hand_n][:, None, None] + np.arange(3)
        position = 1000 * np.take_along_axis(points, np.broadcast_to(mine, (N * M, POINTS, 3)), axis=2)
        begun = 1000 * np.take_along_axis(anchor, mine, axis=2)[:, 0]
        offset = position[:, 0] - begun
        position = position - position[:, :1]
        turns = [where for _, where in layout.of_kind("rotation6d")]
        if len(turns) == len(layout.of_kind("position")):
            first = np.array(
                [turns[[w for _, w in layout.of_kind("position")].index(where)].start for _, where in hands]
            )
            six = first[hand_n][:, None, None] + np.arange(6)
            turn = _turned(np.take_along_axis(points, np.broadcast_to(six, (N * M, POINTS, 6)), axis=2))
    grippers = [i for _, where in layout.of_kind("gripper") for i in range(where.start, where.stop)]
    grippers = [i for i in grippers if mask_ND[:, i].any()]
    if grippers:
        most_n = np.ptp(points[..., grippers], axis=1).argmax(axis=1)
        opening = points[np.arange(N * M)[:, None], np.arange(POINTS), np.array(grippers)[most_n][:, None]]
    if position is None and (joints := layout.of_kind("joint")):
        used = [i for _, where in joints for i in range(where.start, where.stop) if mask_ND[:, i].any()]
        joint = points[..., used] - points[:, :1, used]
    return Motions(position, turn, opening, joint, offset)


def build(
    codes_NM: np.ndarray,
    labels: Labels,
    motions: Motions,
    codebook_size: int,
    joint_names: Sequence[str] = (),
    frames: int = FRAMES_PER_SLOT,
    refined: Refined | None = None,
) -> Dictionary:
    """Entries of all codes that occur, most used first (ties by number). refined: of motion words.

    Raises:
        ValueError: codes and labels of different chunks.
    """
    N, M = codes_NM.shape
    if labels.text_NM.shape != (N, M):
        raise ValueError(f"codes are [{N}, {M}], labels {list(labels.text_NM.shape)}; expected the same chunks")
    code_n = codes_NM.ravel()
    used, index_n, count_C = np.unique(code_n, return_inverse=True, return_counts=True)
    arm_n, episode_n = np.repeat(labels.arm_N, M), np.repeat(labels.episode_N, M)
    arms, arm_share = np.unique(arm_n, return_counts=True)
    base = dict(zip(arms.tolist(), (arm_share / len(code_n)).tolist(), strict=True))
    subtask = associations(index_n, len(used), [[text] if text else [] for text in labels.subtask_NM.ravel()])
    word = associations(index_n, len(used), _words_of(labels.text_NM.ravel()))
    task = associations(index_n, len(used), [[text] for text in np.repeat(labels.task_N, M)])
    following = _following(codes_NM)
    place_n = np.tile(np.arange(M), N)
    rows = np.split(np.argsort(index_n, kind="stable"), np.cumsum(count_C)[:-1])
    entries = []
    for c, code in enumerate(used.tolist()):
        n = rows[c]
        shares = {name: float((arm_n[n] == name).mean()) for name in base}
        entries.append(
            Entry(
                code=code,
                count=len(n),
                share=len(n) / len(code_n),
                **_motion(motions, n, joint_names, arm_n[n]),
                subtasks=subtask[c],
                words=word[c],
                tasks=task[c],
                arms=shares,
                evenness=_evenness(shares, base),
                following=following.get(code, ()),
                place_M=tuple(float((place_n[n] == m).mean()) for m in range(M)),
                example_n=_examples(motions, n, episode_n, arm_n),
                **({} if refined is None else _refined(refined, n)),
            )
        )
    share_C = count_C / count_C.sum()
    return Dictionary(
        tuple(sorted(entries, key=lambda entry: (-entry.count, entry.code))),
        base,
        len(code_n),
        frames,
        codebook_size,
        float(np.exp(-(share_C * np.log(share_C)).sum())),
        *_apart(entries),
    )


def associations(index_n: np.ndarray, codes: int, texts_n: Sequence[Sequence[str]]) -> list[tuple[Association, ...]]:
    """For each code the texts that it goes with more than by chance, by falling pmi * share (what is both sure and
    common first), at most TOP. A place may have several texts or none; those seen under MIN_COUNT times with a code are
    left out."""
    total, of_text = len(index_n), Counter(text for texts in texts_n for text in set(texts))
    of_code = np.bincount(index_n, minlength=codes)
    both: list[Counter[str]] = [Counter() for _ in range(codes)]
    for code, texts in zip(index_n.tolist(), texts_n, strict=True):
        both[code].update(set(texts))
    out = []
    for code, counts in enumerate(both):
        found = [
            Association(
                text, float(np.log2(count * total / (of_code[code] * of_text[text]))), count, count / of_code[code]
            )
            for text, count in counts.items()
            if count >= MIN_COUNT
        ]
        found = [each for each in found if each.pmi > 0]
        out.append(tuple(sorted(found, key=lambda a: (-a.pmi * a.of_code, a.text))[:TOP]))
    return out


def _refined(refined: Refined, n: np.ndarray) -> dict:
    counts = Counter(refined.segments_n[n].tolist()).most_common(4)
    return {
        "segments": tuple((segments, count / len(n)) for segments, count in counts),
        "tokens": float(refined.tokens_n[n].mean()),
    }


def _apart(entries: Sequence[Entry]) -> tuple[float | None, float | None]:
    shared = [(entry.arms_apart_mm, entry.count) for entry in entries if entry.arms_apart_mm is not None]
    if not shared:
        return None, None
    apart, count = np.array(shared).T
    placed = [(entry.path_P3[-1], entry.count) for entry in entries if entry.path_P3 is not None]
    end_C3, use_C = np.stack([end for end, _ in placed]), np.array([use for _, use in placed])
    off_C = ((end_C3 - np.average(end_C3, axis=0, weights=use_C)) ** 2).sum(axis=1)
    return float(np.average(apart, weights=count)), float(np.sqrt(np.average(off_C, weights=use_C)))


def _words_of(texts_n: np.ndarray) -> list[list[str]]:
    words = {
        text: [w for w in dict.fromkeys(_WORD.findall(text.lower())) if w not in _STOP | COLOURS | NUMBERS]
        for text in set(texts_n.tolist())
    }
    return [words[text] for text in texts_n]


def _following(codes_NM: np.ndarray) -> dict[int, tuple[tuple[int, float], ...]]:
    pairs: dict[int, Counter[int]] = {}
    for now, then in zip(codes_NM[:, :-1].ravel().tolist(), codes_NM[:, 1:].ravel().tolist(), strict=True):
        pairs.setdefault(now, Counter())[then] += 1
    return {
        now: tuple((then, count / sum(counts.values())) for then, count in counts.most_common(5))
        for now, counts in pairs.items()
    }


def _motion(motions: Motions, n: np.ndarray, joint_names: Sequence[str], arm_n: np.ndarray) -> dict:
    tracks = []
    path = threads = offset = turn = opening = None
    spread_mm = spread_deg = apart_mm = None
    if motions.position_nP3 is not None:
        path = motions.position_nP3[n].mean(axis=0)
        threads = motions.position_nP3[n[np.linspace(0, len(n) - 1, min(THREADS, len(n))).astype(int)]]
        spread_mm = _spread(motions.position_nP3[n, -1])
        apart_mm = _arms_apart(motions.position_nP3[n, -1], arm_n)
        assert motions.offset_n3 is not None
        offset = motions.offset_n3[n].mean(axis=0)
        tracks += [_track(f"{axis}", "mm", motions.position_nP3[n, :, i]) for i, axis in enumerate("xyz")]
    if motions.turn_nP3 is not None:
        turn, spread_deg = motions.turn_nP3[n, -1].mean(axis=0), _spread(motions.turn_nP3[n, -1])
    if motions.joint_nPJ is not None:
        moved = np.abs(motions.joint_nPJ[n].mean(axis=0)).max(axis=0)
        for j in np.sort(np.argsort(-moved, kind="stable")[:3]):
            name = joint_names[j] if j < len(joint_names) else f"joint {j}"
            tracks.append(_track(name, "deg", np.rad2deg(motions.joint_nPJ[n, :, j])))
    if motions.opening_nP is not None:
        mean_P = motions.opening_nP[n].mean(axis=0)
        opening = (float(mean_P[0]), float(mean_P[-1]))
        tracks.append(_track("gripper", "", motions.opening_nP[n]))
    return {
        "tracks": tuple(tracks),
        "path_P3": path,
        "threads_tP3": threads,
        "position_spread_mm": spread_mm,
        "arms_apart_mm": apart_mm,
        "offset_mm_3": offset,
        "turn_deg_3": turn,
        "turn_spread_deg": spread_deg,
        "opening": opening,
    }


def _examples(
    motions: Motions, n: np.ndarray, episode_n: np.ndarray, arm_n: np.ndarray, most: int = 2
) -> tuple[int, ...]:
    """Places nearest to the mean motion; the second of another arm where there is one, else of another episode."""
    parts = [motions.position_nP3, motions.joint_nPJ, motions.opening_nP]
    scale = [1.0, 50.0, 50.0]  # mm, rad and openings on one footing
    x = np.concatenate(
        [k * p[n].reshape(len(n), -1) for p, k in zip(parts, scale, strict=True) if p is not None], axis=1
    )
    order = n[np.argsort(((x - x.mean(axis=0)) ** 2).sum(axis=1), kind="stable")]
    chosen = [int(order[0])]
    for same in (arm_n, episode_n):
        if len(chosen) < most and len(other := order[same[order] != same[chosen[0]]]):
            chosen.append(int(other[0]))
    return tuple(chosen)


def _track(name: str, unit: str, values_bP: np.ndarray) -> Track:
    return Track(name, unit, values_bP.mean(axis=0), values_bP.std(axis=0))


def _spread(values_b3: np.ndarray) -> float:
    """Root mean square distance from the mean."""
    return float(np.sqrt(((values_b3 - values_b3.mean(axis=0)) ** 2).sum(axis=1).mean()))


def _arms_apart(values_b3: np.ndarray, arm_b: np.ndarray) -> float | None:
    """How far single arms' means are from the mean of these, rms; of arms with a few uses of the code."""
    arms = [values_b3[arm_b == arm].mean(axis=0) for arm in np.unique(arm_b) if (arm_b == arm).sum() >= MIN_COUNT]
    return _spread(np.stack(arms)) if len(arms) > 1 else None


def _evenness(shares: dict[str, float], base: dict[str, float]) -> float:
    """1 - total variation between the code's arms and all arms, over the most that it could be."""
    if len(base) < 2:
        return 1.0
    apart = 0.5 * sum(abs(shares[arm] - base[arm]) for arm in base)
    return float(max(0.0, 1 - apart / (1 - min(base.values()))))


def _travelled(points_nP3: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.diff(points_nP3, axis=1), axis=-1).sum(axis=1)


def _turned(six_nP6: np.ndarray) -> np.ndarray:
    """[n, P, 3] rotation vectors since the first point, degrees, in the frame of the base."""
    import torch

    matrix = matrix_from_rotation6d(torch.from_numpy(six_nP6))
    return np.rad2deg(rotvec_from_matrix(matrix @ matrix[:, :1].transpose(-1, -2)).numpy())
