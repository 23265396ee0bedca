"""What a frame of each source weighs when chunks are drawn. The mean over all frames is 1."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

Kind = TypeVar("Kind", bound=Hashable)


def weigh_alike(frames: Sequence[int], kinds: Sequence[Hashable]) -> list[float]:
    """All sources of one kind weigh as much together as those of any other."""
    total = _sums(frames, kinds)
    return [sum(frames) / len(total) / total[kind] for kind in kinds]


def weigh_by_share(frames: Sequence[int], names: Sequence[str], sampling_weights: Mapping[str, float]) -> list[float]:
    """Each name gets its share of all chunks, whatever it has recorded. Shares need not add up to one.

    Raises:
        ValueError: a name without a share.
    """
    total = _sums(frames, names)
    if missing := sorted(total.keys() - sampling_weights.keys()):
        raise ValueError(
            f"the recipe gives no share to {missing}, which the data have; it knows {sorted(sampling_weights)}"
        )
    unit = sum(frames) / sum(sampling_weights[name] for name in total)
    return [unit * sampling_weights[name] / total[name] for name in names]


def _sums(frames: Sequence[int], kinds: Sequence[Kind]) -> dict[Kind, int]:
    out: dict[Kind, int] = {}
    for count, kind in zip(frames, kinds, strict=True):
        out[kind] = out.get(kind, 0) + count
    return out
