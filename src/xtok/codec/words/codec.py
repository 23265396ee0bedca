"""The codec of motion words: one grammar, books that robots share, and what is known of each robot.

It is no torch module: nothing that casts, moves or initialises a host's parameters reaches it. Whoever adds a robot
gets another codec; nothing in one ever changes.

# V words, F = 16 frames, D tangent channels of the layout, C directions, B chunks, T frames, K channels of a robot
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from xtok.actions.delta import from_tangent, tangent_width, to_tangent
from xtok.actions.embodiments import NONE, get_embodiment
from xtok.actions.layout import Layout, get_layout
from xtok.actions.statistics import Statistics
from xtok.codec.base import narrowed
from xtok.codec.hashes import hashed, hashed_shared
from xtok.codec.words.grammar import Grammar
from xtok.codec.words.robot import Space, WordRobot, moving, scale_of, tensors_of
from xtok.codec.words.shared_books import SharedBooks
from xtok.codec.words.word import BLOCK_FRAMES

WORDS, SHARED = "words", "shared."


@dataclass(frozen=True, eq=False)
class WordCodec:
    """book: of words, [V, 16, D] in physical units or [V, C] along each robot's own directions; None: each robot has
    words of its own. shared: residual books for robots that have none of their own. robots: by name.

    Raises:
        ValueError: a book of another shape than grammar and layout ask for, or a robot of another layout.
    """

    layout: Layout
    grammar: Grammar
    book: Tensor | None
    shared: SharedBooks | None = None
    robots: Mapping[str, WordRobot] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.book is not None:
            whole = (self.grammar.words, BLOCK_FRAMES, tangent_width(self.layout))
            if (self.book.ndim != 2 and tuple(self.book.shape) != whole) or len(self.book) != self.grammar.words:
                raise ValueError(
                    f"the book of words has shape {list(self.book.shape)}; expected {list(whole)}, or "
                    f"[{self.grammar.words}, C] along directions"
                )
        if self.shared is not None:
            self.shared.check(self.grammar)
        for name, robot in self.robots.items():
            if robot.maps is not None and self.shared is None:
                raise ValueError(f"robot {name!r} is measured for shared residual books, and there are none")
            if robot.statistics.layout_digest != self.layout.digest or robot.model.grammar != self.grammar:
                raise ValueError(f"robot {name!r} is of another layout or grammar than this codec")
            if not robot.own_words and self.book is None:
                raise ValueError(f"robot {name!r} has no words of its own, and there is no shared book")

    @property
    def space(self) -> Space | None:
        """What the shared book is in."""
        return None if self.book is None else "whitened" if self.book.ndim == 2 else "physical"

    @property
    def statistics(self) -> dict[str, Statistics]:
        """Of every robot that it can code."""
        return {name: robot.statistics for name, robot in self.robots.items()}

    def with_robot(self, robot: WordRobot) -> WordCodec:
        """The same with one more robot, or another in its place."""
        return replace(self, robots={**self.robots, robot.name: robot})

    def robot(self, name: str, mask_D: Bool[np.ndarray, " D"]) -> WordRobot:
        """What codes chunks of a robot with these channels; those that it has and a chunk lacks stand still.

        Raises:
            ValueError: an unknown robot, or channels that it lacks.
        """
        if name not in self.robots:
            raise self.unknown_robot(name)
        narrowed(self.robots[name].statistics, mask_D)
        return self.robots[name]

    def unknown_robot(self, name: str) -> ValueError:
        """The error for a robot that this codec does not know."""
        if name != NONE and not name.startswith(f"{NONE}:"):
            get_embodiment(name)  # an unknown name is told its close matches
        return ValueError(
            f"this tokenizer has no robot {name!r}; it has {sorted(self.robots)}. Motion words are measured on a "
            "robot's train episodes: `xtok.tokenizer_for(dataset)` does it, `xtok adapt DATA -o TOKENIZER` keeps it"
        )

    # -- motion ---------------------------------------------------------------------------------------------------

    def motion(self, robot: WordRobot, delta_BTD: Float[Tensor, "B T D"]) -> Float[Tensor, "B T K"]:
        """Physical deltas as normalised motion of the channels that the robot moves."""
        return to_tangent(self.layout, delta_BTD.double())[..., moving(robot.statistics)] / scale_of(robot.statistics)

    def delta(self, robot: WordRobot, motion_BTK: Float[Tensor, "B T K"]) -> Float[Tensor, "B T D"]:
        """Inverse of `motion`; channels that never moved have their value."""
        statistics = robot.statistics
        tangent_BTD = motion_BTK.new_zeros(*motion_BTK.shape[:2], tangent_width(self.layout))
        tangent_BTD[..., moving(statistics)] = motion_BTK * scale_of(statistics)
        constant_D = torch.from_numpy(statistics.constant_D.copy())
        value_D = torch.from_numpy(statistics.low_D.copy())
        return torch.where(constant_D, value_D, from_tangent(self.layout, tangent_BTD))

    # -- what it is -----------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name."""
        out = {} if self.book is None else {WORDS: self.book.float().contiguous()}
        if self.shared is not None:
            out |= self.shared.tensors(SHARED)
        for name, robot in self.robots.items():
            out |= {f"robot.{name}.{key}": tensor for key, tensor in tensors_of(robot).items()}
        return out

    def to_dict(self) -> dict[str, object]:
        """Layout and grammar, JSON types."""
        return {
            "kind": "words",
            "layout": self.layout.name,
            "words": self.grammar.words,
            "residuals": [[length, level, size] for (length, level), size in self.grammar.residuals],
        }

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits over all that decides what ids mean."""
        return hashed(self.to_dict(), self.tensors(), self.statistics)

    @cached_property
    def foundation(self) -> str:
        """Sixteen hex digits over what its robots share."""
        return hashed_shared(self.to_dict(), self.tensors())


def codec_of(
    content: Mapping[str, object], book: Tensor | None, shared: SharedBooks | None, robots: Mapping[str, WordRobot]
) -> WordCodec:
    """From `WordCodec.to_dict` and its parts.

    Raises:
        ValueError: fields that are missing, unknown, or not what they should be.
    """
    return WordCodec(get_layout(str(content.get("layout"))), grammar_of(content), book, shared, robots)


def grammar_of(content: Mapping[str, object]) -> Grammar:
    """The grammar that `WordCodec.to_dict` wrote.

    Raises:
        ValueError: as `codec_of`.
    """
    words, residuals = content.get("words"), content.get("residuals")
    if content.keys() != {"kind", "layout", "words", "residuals"} or content["kind"] != "words":
        raise ValueError(f"a codec of motion words has kind, layout, words and residuals, not {sorted(content)}")
    whole = isinstance(residuals, list) and all(
        isinstance(row, list) and len(row) == 3 and all(type(value) is int for value in row) for row in residuals
    )
    if type(words) is not int or not whole:
        raise ValueError("words and residuals of a codec are whole numbers: how many, and [length, level, how many]")
    assert isinstance(residuals, list)
    if words > _MOST or max((row[2] for row in residuals), default=0) > _MOST:
        raise ValueError(f"a book of more than {_MOST} codes")
    return Grammar(words, tuple(((length, level), size) for length, level, size in residuals))


_MOST = 1 << 17  # codes of a book: a configuration may come from anywhere
