"""Residual books shared by all robots, and the small tensors that turn them into one robot's books.

# V codes, R classes of codes, C shared dimensions, c dimensions of the robot (its directions, C at most)

A shared code is a point in whitened coordinates: each robot's own main directions of what its predictions leave, each
over its spread. Codes belong to classes of neighbours. A robot has an affine map for each class of each book:

    robot's code = [shared code, 1] @ map of its class          robot's spread = shared spread x factor

Shared codes are multiples of 2^-9 below 64, maps multiples of 2^-20 below 16: all products and sums of them are exact
in float64, so the books of a robot are the same bits on every machine, in whatever order a matrix product adds. Both
are values of float16 besides, so a file holds them in two bytes.

To keep: the shared books once (`SharedLevel`), and for each robot
its words, the predictors, sizes and directions of its four coders, and its `LevelMap`s (map_RDc, factor).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from xtok.actions.steady import exact
from xtok.codec.words.grammar import LENGTHS, LEVELS, Grammar
from xtok.codec.words.model import WordModel
from xtok.codec.words.segment import Level, SegmentCoder
from xtok.codec.words.word import Words

GROUPS = 2  # of books: of a chunk's first segment, of all others
CODE_STEP, CODE_MOST = 2.0**-9, 64.0
MAP_STEP, MAP_MOST = 2.0**-20, 16.0


@dataclass(frozen=True, eq=False)
class SharedLevel:
    """One book. spread_V: as of `Level`, up to a robot's factor."""

    code_VC: Float[Tensor, "V C"]
    class_V: Int[Tensor, " V"]
    spread_V: Float[Tensor, " V"]

    def __post_init__(self) -> None:
        if not torch.equal(self.code_VC, on_grid(self.code_VC, CODE_STEP, CODE_MOST)):
            raise ValueError(f"shared codes are multiples of {CODE_STEP} below {CODE_MOST}; these are not")

    def __len__(self) -> int:
        return len(self.code_VC)

    @property
    def classes(self) -> int:
        """R."""
        return int(self.class_V.max()) + 1

    def with_one(self) -> Float[Tensor, "V D"]:
        """[shared code, 1], D = C + 1, float64."""
        return torch.nn.functional.pad(self.code_VC.double(), (0, 1), value=1.0)


@dataclass(frozen=True, eq=False)
class LevelMap:
    """What one robot has in place of a book of its own. D = C + 1: the last row is what a class is moved by."""

    map_RDc: Float[Tensor, "R D c"]
    factor: float

    def __post_init__(self) -> None:
        if not torch.equal(self.map_RDc, on_grid(self.map_RDc, MAP_STEP, MAP_MOST)):
            raise ValueError(f"maps are multiples of {MAP_STEP} below {MAP_MOST}; these are not")

    @exact
    def book(self, shared: SharedLevel) -> Level:
        """The robot's book.

        Raises:
            ValueError: a map for another shared book.
        """
        if self.map_RDc.shape[:2] != (shared.classes, shared.code_VC.shape[1] + 1):
            expected = [shared.classes, shared.code_VC.shape[1] + 1]
            raise ValueError(f"a map of shape {list(self.map_RDc.shape)}; this shared book needs {expected} and c")
        one_VD, map_RDc = shared.with_one(), self.map_RDc.double()
        code_Vc = torch.empty(len(shared), map_RDc.shape[2], dtype=torch.float64)
        for number, map_Dc in enumerate(map_RDc):
            mine = shared.class_V == number
            code_Vc[mine] = one_VD[mine] @ map_Dc
        return Level(code_Vc.float(), shared.spread_V * torch.tensor(self.factor, dtype=torch.float32))


Maps = Mapping[int, tuple[tuple[LevelMap, ...], ...]]  # by length, group of books and level


@dataclass(frozen=True, eq=False)
class SharedBooks:
    """levels: by length (1, 2, 4 slots), group (a chunk's first segment, all others) and level."""

    levels: Mapping[int, tuple[tuple[SharedLevel, ...], ...]]

    def __post_init__(self) -> None:
        if sorted(self.levels) != list(LENGTHS):
            raise ValueError(f"shared books of lengths {sorted(self.levels)}; expected 1, 2 and 4 slots")

    def check(self, grammar: Grammar) -> None:
        """Raises ValueError where these books do not have the grammar's sizes."""
        for length, groups in self.levels.items():
            expected = [size for (other, _), size in grammar.residuals if other == length]
            for group in groups:
                if (sizes := [len(level) for level in group]) != expected:
                    raise ValueError(f"shared books of length {length} have {sizes} codes; the grammar {expected}")

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """All of them by name, float32."""
        return {
            f"{prefix}length{length}.book{group}.level{number}.{name}": tensor.float().contiguous()
            for length, groups in self.levels.items()
            for group, of_levels in enumerate(groups)
            for number, level in enumerate(of_levels, 1)
            for name, tensor in vars(level).items()
        }

    @staticmethod
    def of_tensors(tensors: Mapping[str, Tensor], prefix: str) -> SharedBooks:
        """Inverse of `tensors`.

        Raises:
            KeyError: one that is missing. ValueError: values or shapes that no shared book has.
        """

        def level(at: str) -> SharedLevel:
            code_VC, class_V, spread_V = (tensors[f"{at}.{name}"] for name in ("code_VC", "class_V", "spread_V"))
            whole_V = class_V.long()
            if code_VC.ndim != 2 or {tuple(class_V.shape), tuple(spread_V.shape)} != {(len(code_VC),)}:
                raise ValueError(
                    f"{at}: codes {list(code_VC.shape)}, classes {list(class_V.shape)}; expected [V, C], [V]"
                )
            if not torch.equal(whole_V.float(), class_V.float()) or whole_V.min() < 0:
                raise ValueError(f"{at}: classes are whole numbers from 0 on")
            return SharedLevel(code_VC, whole_V, spread_V)

        return SharedBooks(
            {
                length: tuple(
                    tuple(level(f"{prefix}length{length}.book{g}.level{q}") for q in range(1, LEVELS + 1))
                    for g in range(GROUPS)
                )
                for length in LENGTHS
            }
        )

    def books(self, maps: Maps) -> dict[int, tuple[tuple[Level, ...], ...]]:
        """A robot's books, by length."""
        return {
            length: tuple(
                tuple(mine.book(shared) for mine, shared in zip(of_group, group, strict=True))
                for of_group, group in zip(maps[length], groups, strict=True)
            )
            for length, groups in self.levels.items()
        }


@dataclass(frozen=True, eq=False)
class MeasuredRobot:
    """A robot on shared books. model: with its concrete books. maps: what they are made of."""

    model: WordModel
    maps: Maps


def with_shared_books(
    grammar: Grammar, words: Words, coders: Mapping[int, SegmentCoder], shared: SharedBooks, maps: Maps
) -> WordModel:
    """A robot's model. coders: predictors, sizes and directions; books that they may have are not looked at.

    Raises:
        ValueError: books of other sizes than the grammar's, or maps for other books.
    """
    shared.check(grammar)
    books = shared.books(maps)
    return WordModel(grammar, words, {n: replace(coder, books=books.get(n, ())) for n, coder in coders.items()})


def on_grid(x: Tensor, step: float, most: float) -> Tensor:
    """The nearest multiples of `step`, a power of 2, below `most`, that float16 holds too. float32."""
    limit = most - max(step, most / 2048)
    return ((x.double() / step).round() * step).clamp(-limit, limit).half().float()
