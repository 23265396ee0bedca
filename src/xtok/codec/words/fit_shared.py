"""Shared residual books from the motion of several robots, and a new robot measured on them, in seconds.

# n vectors, N windows, V codes, R classes, C shared dimensions, c dimensions of a robot, D = C + 1
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from xtok.actions.steady import exact
from xtok.actions.types import HORIZON_MAX
from xtok.codec.words.fit import DEFAULT, FitSettings, closed_loop, open_loop, shown_windows
from xtok.codec.words.fit_segments import GROUPS, Samples, closed_forms
from xtok.codec.words.grammar import LENGTHS, LEVELS, Grammar
from xtok.codec.words.model import TAILS, WordModel
from xtok.codec.words.segment import SegmentCoder
from xtok.codec.words.shared_books import MeasuredRobot, SharedBooks, SharedLevel, with_shared_books
from xtok.codec.words.shared_maps import MAPPED, fit_map
from xtok.codec.words.shared_place import place
from xtok.codec.words.word import Words

FEWEST = 3_000  # windows of each robot that shared books are placed on, if it has them
OPEN, CLOSED = 6_000, 2_500  # windows that a new robot is measured on
ROUGH = 1_500  # vectors of a map in its first round

Left = dict[tuple[int, int], Tensor]  # what predictions leave along a robot's directions, by length and group


@dataclass(frozen=True, eq=False)
class Taught:
    """A robot that shared books are placed on. ridge: as `ridge_for` has it, of its recorded frames."""

    windows_NSK: Float[Tensor, "N S K"]
    words: Words
    ridge: float = DEFAULT.ridge


@dataclass(frozen=True)
class _Formed:
    """Coders without books, and what they leave open."""

    coders: Mapping[int, SegmentCoder]
    left: Left


@exact
def fit_shared(robots: Sequence[Taught], grammar: Grammar, settings: FitSettings = DEFAULT) -> SharedBooks:
    """Books placed on what the predictions of several robots leave: on true pasts with noise on them first, then on the
    pasts that the encoder decodes with the books of that first round.

    Raises:
        ValueError: no robots, or windows that `measure` would refuse.
    """
    if not robots:
        raise ValueError("shared residual books need one robot or more")
    for robot in robots:
        _check(robot.windows_NSK)
    generator = torch.Generator().manual_seed(settings.seed)
    each = min(settings.closed, max(FEWEST, settings.closed // len(robots)))
    share = replace(
        settings, closed=each, open_rows=min(settings.open_rows, each), sample=max(1, settings.sample // len(robots))
    )
    rough = replace(share, sample=max(1, settings.rough_sample // len(robots)))
    formed = [_formed(_opened(robot, share, generator), robot, rough, generator) for robot in robots]
    shared = _placed([each.left for each in formed], grammar, settings, generator)
    for _ in range(settings.rounds):
        models = [
            _on_books(grammar, robot.words, form, shared).model for robot, form in zip(robots, formed, strict=True)
        ]
        formed = [
            _formed(_closed(model, robot, share, generator), robot, share, generator)
            for model, robot in zip(models, robots, strict=True)
        ]
        shared = _placed([each.left for each in formed], grammar, settings, generator)
    return shared


@exact
def measure(
    windows_NSK: Float[Tensor, "N S K"],
    words: Words,
    shared: SharedBooks,
    grammar: Grammar,
    settings: FitSettings = DEFAULT,
) -> MeasuredRobot:
    """A robot on shared books: predictors, sizes, directions and maps, all closed forms. The books stay as they are.

    What is specific to the robot are its words, the tensors of `SegmentCoder` but its books, and `MeasuredRobot.maps`;
    `with_shared_books` puts them together again, to the bit.

    Raises:
        ValueError: windows of another shape, or too few; books of other sizes than the grammar's.
    """
    _check(windows_NSK)
    shared.check(grammar)
    generator = torch.Generator().manual_seed(settings.seed)
    robot = Taught(windows_NSK, words, settings.ridge)
    few = replace(settings, sample=MAPPED, open_rows=min(settings.open_rows, OPEN), closed=min(settings.closed, CLOSED))
    formed = _formed(_opened(robot, few, generator), robot, few, generator)
    measured = _on_books(grammar, words, formed, shared)
    for _ in range(settings.rounds):
        many = replace(few, sample=min(settings.sample, MAPPED))
        formed = _formed(_closed(measured.model, robot, few, generator), robot, many, generator)
        measured = _on_books(grammar, words, formed, shared)
    return measured


def _check(windows_NSK: Tensor) -> None:
    if windows_NSK.ndim != 3 or windows_NSK.shape[1] != HORIZON_MAX or len(windows_NSK) < 2:
        raise ValueError(f"windows have shape {list(windows_NSK.shape)}; expected [2 or more, {HORIZON_MAX}, K]")


def _opened(robot: Taught, settings: FitSettings, generator: torch.Generator) -> Samples:
    windows = robot.windows_NSK.float()
    return open_loop(shown_windows(windows, robot.words, settings, generator), settings, generator)


def _closed(model: WordModel, robot: Taught, settings: FitSettings, generator: torch.Generator) -> Samples:
    """Segments behind what the encoder decodes, those of true pasts beside them where there are few."""
    samples = closed_loop(model, robot.windows_NSK.float(), settings, generator)
    samples.fill(_opened(robot, settings, generator))
    return samples


def _formed(samples: Samples, robot: Taught, settings: FitSettings, generator: torch.Generator) -> _Formed:
    settings = replace(settings, ridge=robot.ridge)
    coders, left = {}, Left()
    for length in TAILS:
        forms = closed_forms(length, samples, settings)
        directions = []
        for group in GROUPS if length in LENGTHS else ():
            left[length, group], direction_Xc = forms.left_open(group, settings, generator)
            directions.append(direction_Xc)
        coders[length] = forms.coder(directions, ())
    return _Formed(coders, left)


def _placed(left: Sequence[Left], grammar: Grammar, settings: FitSettings, generator: torch.Generator) -> SharedBooks:
    levels: dict[int, tuple[tuple[SharedLevel, ...], ...]] = {}
    for length in LENGTHS:
        sizes = [grammar.size_of[length, level] for level in range(1, LEVELS + 1)]
        levels[length] = tuple(
            place([each[length, group] for each in left], sizes, settings.dim, settings.iterations, generator)
            for group in GROUPS
        )
    return SharedBooks(levels)


def _on_books(grammar: Grammar, words: Words, formed: _Formed, shared: SharedBooks) -> MeasuredRobot:
    maps = {}
    for length, groups in shared.levels.items():
        of_groups = []
        for group, levels in zip(GROUPS, groups, strict=True):
            x_nc, of_levels = formed.left[length, group], []
            for level in levels:
                mine, x_nc = fit_map(x_nc, level)
                of_levels.append(mine)
            of_groups.append(tuple(of_levels))
        maps[length] = tuple(of_groups)
    return MeasuredRobot(with_shared_books(grammar, words, formed.coders, shared, maps), maps)
