"""One robot as motion words know it: its ranges, how its motion is compared with words, how segments are predicted.

Its tensors by name, for a file and a digest. What robots share, words and residual books, is kept once, so it is not
among them.

# K channels of the robot that move, V words, G groups of books, C dimensions of a code
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from xtok.actions.delta import tangent_mask
from xtok.actions.layout import Layout, get_layout
from xtok.actions.statistics import Statistics
from xtok.actions.tangent import tangent_scale
from xtok.actions.types import FRAMES_PER_SLOT, HORIZON_MAX
from xtok.codec.base import KnownBy
from xtok.codec.words.grammar import LENGTHS, LEVELS, Grammar
from xtok.codec.words.model import TAILS, WordModel
from xtok.codec.words.segment import BINS, HISTORIES, PAST, Level, SegmentCoder
from xtok.codec.words.shared import with_physical_book, with_whitened_book
from xtok.codec.words.shared_books import GROUPS, LevelMap, Maps, SharedBooks, with_shared_books
from xtok.codec.words.smoother import Smoother
from xtok.codec.words.word import BLOCK_FRAMES, NearestWords, Projection, WordSpace

Space = Literal["physical", "whitened"]
OWN_WORDS = "words.book_VFK"


@dataclass(frozen=True, eq=False)
class WordRobot:
    """statistics: its ranges; motion is in half of them. maps: what makes its residual books of the shared ones; None:
    they are its own. own_words: so is its book of words."""

    statistics: Statistics
    model: WordModel
    maps: Maps | None = None
    own_words: bool = False

    @property
    def known_by(self) -> KnownBy:
        """By residual books of its "own", or "measured" for the shared ones."""
        return "own" if self.maps is None else "measured"

    @property
    def name(self) -> str:
        return self.statistics.embodiment

    @property
    def layout(self) -> Layout:
        return get_layout(self.statistics.layout)

    @property
    def words(self) -> NearestWords:
        assert isinstance(self.model.words, NearestWords)
        return self.model.words


def moving(statistics: Statistics) -> Tensor:
    """Which tangent channels a robot moves, [D] bool."""
    return tangent_mask(get_layout(statistics.layout), torch.from_numpy(statistics.moving_D.copy()))


def scale_of(statistics: Statistics) -> Tensor:
    """Physical units of one normalised unit, of the channels that it moves, [K] float64."""
    return tangent_scale(get_layout(statistics.layout), statistics)[moving(statistics)]


def words_of(space: WordSpace, statistics: Statistics, book: Tensor) -> NearestWords:
    """A robot's words from a shared book: [V, 16, D] physical or [V, C] whitened."""
    if book.ndim == 2:
        return with_whitened_book(space, book)
    return with_physical_book(space, book, moving(statistics), scale_of(statistics))


def rounded(model: WordModel, books: bool = True) -> WordModel:
    """The same with large tensors at values that float16 holds: what is used is what is written. books: residual books
    too, where they are not made of shared ones."""
    words = model.words
    assert isinstance(words, NearestWords)
    space = words.space
    smoother = replace(space.smoother, factor_SKR=_half(space.smoother.factor_SKR), _at={})
    projections = {n: Projection(_half(p.direction_XC), _single(p.usual)) for n, p in space.projections.items()}
    space = replace(space, smoother=smoother, projections=projections)
    words = NearestWords(space, _half(words.book_VFK))
    coders = {
        length: replace(
            coder,
            weight_HFX=_half(coder.weight_HFX),
            direction_GXC=_half(coder.direction_GXC),
            books=coder.books if not books else tuple(tuple(rounded_level(x) for x in book) for book in coder.books),
            _double={},
        )
        for length, coder in model.coders.items()
    }
    return WordModel(model.grammar, words, coders)


def rounded_level(level: Level) -> Level:
    """A book at values that float16 holds."""
    return Level(_half(level.codes_VC), _half(level.spread_V))


def _single(value: float) -> float:
    return float(np.float32(value))


def _half(tensor: Tensor) -> Tensor:
    return tensor.half().float()


# -- tensors by name ---------------------------------------------------------------------------------------------------


def tensors_of(robot: WordRobot) -> dict[str, Tensor]:
    """All that `robot_of` needs beside statistics, grammar and the shared book."""
    space = robot.words.space
    out = {
        "space.mean_SK": space.smoother.mean_SK,
        "space.factor_SKR": space.smoother.factor_SKR,
        "space.noise_K": space.smoother.noise_K,
        "space.spread_C": space.spread_C,
        "space.usual": torch.tensor(
            [space.projections[n].usual for n in sorted(space.projections)], dtype=torch.float32
        ),
    }
    out |= {f"space.direction_{n}": projection.direction_XC for n, projection in space.projections.items()}
    if robot.own_words:
        out[OWN_WORDS] = robot.words.book_VFK
    for length, coder in robot.model.coders.items():
        at = f"length{length}"
        out |= {f"{at}.weight_HFX": coder.weight_HFX, f"{at}.edge_HA": coder.edge_HA, f"{at}.size_HA": coder.size_HA}
        if length in LENGTHS:
            out[f"{at}.direction_GXC"] = coder.direction_GXC
        if robot.maps is not None:
            for group, of_levels in enumerate(robot.maps.get(length, ())):
                out |= {f"{at}.book{group}.level{q}.map_RDc": each.map_RDc for q, each in enumerate(of_levels, 1)}
                out[f"{at}.book{group}.factor_Q"] = torch.tensor([x.factor for x in of_levels], dtype=torch.float32)
            continue
        for group, book in enumerate(coder.books):
            for number, level in enumerate(book, 1):
                out[f"{at}.book{group}.level{number}.codes_VC"] = level.codes_VC
                out[f"{at}.book{group}.level{number}.spread_V"] = level.spread_V
    return {name: tensor.float().contiguous() for name, tensor in out.items()}


def robot_of(
    statistics: Statistics,
    grammar: Grammar,
    tensors: Mapping[str, Tensor],
    shared_words: Tensor | None,
    shared: SharedBooks | None,
) -> WordRobot:
    """Inverse of `tensors_of`.

    Raises:
        ValueError: tensors that are missing, too many, or of other shapes than robot and grammar have.
    """
    left = dict(tensors)

    def take(name: str) -> Tensor:
        if name not in left:
            raise ValueError(f"robot {statistics.embodiment!r} has no tensor {name!r}")
        return left.pop(name)

    smoother = Smoother(take("space.mean_SK"), take("space.factor_SKR"), take("space.noise_K"))
    usual = take("space.usual").tolist()
    frames = range(FRAMES_PER_SLOT, FRAMES_PER_SLOT * len(usual) + 1, FRAMES_PER_SLOT)
    projections = {n: Projection(take(f"space.direction_{n}"), u) for n, u in zip(frames, usual, strict=True)}
    space = WordSpace(smoother, projections, take("space.spread_C"))
    own = OWN_WORDS in left
    if own:
        words = NearestWords(space, take(OWN_WORDS))
    elif shared_words is None:
        raise ValueError(f"robot {statistics.embodiment!r} has no words of its own, and there are no shared ones")
    else:
        words = words_of(space, statistics, shared_words)
    measured = any(name.endswith("map_RDc") for name in left)
    coders = {length: _coder(length, take, measured) for length in TAILS}
    maps = None if not measured else {length: _maps(length, take) for length in LENGTHS}
    if left:
        raise ValueError(f"robot {statistics.embodiment!r} has a tensor {sorted(left)[0]!r} that nothing uses")
    if maps is None:
        model = WordModel(grammar, words, coders)
    elif shared is None:
        raise ValueError(f"robot {statistics.embodiment!r} is measured for shared residual books, and there are none")
    else:
        model = with_shared_books(grammar, words, coders, shared, maps)
    _check(statistics, model)
    return WordRobot(statistics, model, maps, own)


def _coder(length: int, take: Callable[[str], Tensor], measured: bool) -> SegmentCoder:
    at = f"length{length}"
    weight_HFX, edge_HA, size_HA = (take(f"{at}.{name}") for name in ("weight_HFX", "edge_HA", "size_HA"))
    if length not in LENGTHS:
        return SegmentCoder(length, weight_HFX, edge_HA, size_HA, torch.zeros(GROUPS, weight_HFX.shape[2], 0), ())
    direction_GXC = take(f"{at}.direction_GXC")
    if measured:
        return SegmentCoder(length, weight_HFX, edge_HA, size_HA, direction_GXC, ())
    books = tuple(
        tuple(
            Level(take(f"{at}.book{g}.level{q}.codes_VC"), take(f"{at}.book{g}.level{q}.spread_V"))
            for q in range(1, LEVELS + 1)
        )
        for g in range(GROUPS)
    )
    return SegmentCoder(length, weight_HFX, edge_HA, size_HA, direction_GXC, books)


def _maps(length: int, take: Callable[[str], Tensor]) -> tuple[tuple[LevelMap, ...], ...]:
    groups = []
    for g in range(GROUPS):
        at = f"length{length}.book{g}"
        maps = [take(f"{at}.level{q}.map_RDc") for q in range(1, LEVELS + 1)]
        groups.append(tuple(LevelMap(*pair) for pair in zip(maps, take(f"{at}.factor_Q").tolist(), strict=True)))
    return tuple(groups)


def _check(statistics: Statistics, model: WordModel) -> None:
    """Raises ValueError where a tensor has not the shape that the robot's channels and the grammar ask for."""
    K = int(moving(statistics).sum())
    words = model.words
    assert isinstance(words, NearestWords)
    smoother, projections = words.space.smoother, words.space.projections
    R = smoother.factor_SKR.shape[-1]
    found = {
        "space.mean_SK": (smoother.mean_SK, (HORIZON_MAX, K)),
        "space.factor_SKR": (smoother.factor_SKR, (HORIZON_MAX, K, R)),
        "space.noise_K": (smoother.noise_K, (K,)),
        "words": (words.book_VFK, (model.grammar.words, BLOCK_FRAMES, K)),
    }
    for n, each in projections.items():
        found[f"space.direction_{n}"] = (each.direction_XC, (n * K, each.direction_XC.shape[-1]))
    if max(projections, default=0) == BLOCK_FRAMES:
        found["space.spread_C"] = (words.space.spread_C, projections[BLOCK_FRAMES].direction_XC.shape[-1:])
    for length, coder in model.coders.items():
        at, n = f"length{length}", length * FRAMES_PER_SLOT
        F, X, C = (PAST + 2 + n) * K + 1, n * K, coder.direction_GXC.shape[-1]
        found[f"{at}.weight_HFX"] = (coder.weight_HFX, (HISTORIES, F, X))
        found[f"{at}.edge_HA"] = (coder.edge_HA, (HISTORIES, BINS - 1))
        found[f"{at}.size_HA"] = (coder.size_HA, (HISTORIES, BINS))
        found[f"{at}.direction_GXC"] = (coder.direction_GXC, (GROUPS, X, C))
        for group, book in enumerate(coder.books):
            for number, level in enumerate(book, 1):
                size = model.grammar.size_of[length, number]
                found[f"{at}.book{group}.level{number}.codes_VC"] = (level.codes_VC, (size, C))
                found[f"{at}.book{group}.level{number}.spread_V"] = (level.spread_V, (size,))
    for name, (tensor, shape) in found.items():
        if tuple(tensor.shape) != tuple(shape):
            raise ValueError(
                f"robot {statistics.embodiment!r}: {name} has shape {list(tensor.shape)}; its {K} channels and the "
                f"grammar ask for {list(shape)}"
            )
    if sorted(projections) != list(range(FRAMES_PER_SLOT, BLOCK_FRAMES + 1, FRAMES_PER_SLOT)):
        raise ValueError(f"robot {statistics.embodiment!r} compares words of {sorted(projections)} frames")
