"""What a reading of a data set by its names and numbers is made of: arms, grippers, reasons and doubts.

# N frames of all episodes looked at, W columns of a feature
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from xtok.data.features import Column
from xtok.data.inspect.survey import FeatureSurvey, Survey
from xtok.data.mapping.column_names import Name
from xtok.data.mapping.text import Opening, Turned


@dataclass(frozen=True)
class Doubt:
    """What neither names nor numbers decide.

    place: the line of the mapping that it is about ("right.gripper", "joints", "layout", "sides"). text: what was seen
    and what has to be decided. others: the lines of the mapping in the other readings, one a reading or, for a whole
    mapping, all of it. safe: the reading in use claims nothing and loses nothing, so that it may be used while nobody
    has decided. alike, subject: doubts that are alike are one question, of all their subjects.
    """

    place: str
    text: str
    others: tuple[str, ...] = ()
    safe: bool = False
    alike: str = ""
    subject: str = ""


@dataclass(frozen=True)
class GuessedArm:
    position: tuple[Column, ...]
    position_unit: str
    rotation: Turned
    gripper: Opening | None = None


@dataclass
class Guess:
    """What a mapping would say, why, and what is open."""

    layout: str
    arms: dict[str, GuessedArm] = field(default_factory=dict)
    joints: tuple[tuple[tuple[Column, ...], str], ...] = ()  # columns and their unit
    grippers: tuple[Opening, ...] = ()
    commanded: bool = False
    reasons: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()


@dataclass(frozen=True)
class Looked:
    """A survey with what its names say. measured, commanded: features that may hold motion."""

    survey: Survey = field(repr=False)
    names: dict[tuple[str, int], Name]
    measured: tuple[FeatureSurvey, ...]
    commanded: tuple[FeatureSurvey, ...]
    reasons: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()

    @property
    def hz(self) -> float:
        """Stated, else measured, else a rate that speeds are judged with."""
        return self.survey.source.control_hz or self.survey.measured_hz or 10.0

    def name(self, column: Column) -> Name:
        return self.names[column.feature, column.index]

    def called(self, column: Column) -> str:
        """The column for people: its name, else feature[index]."""
        feature = self.survey.features[column.feature]
        return feature.names[column.index] if feature.names else f"{column.feature}[{column.index}]"

    def values(self, columns: Sequence[Column]) -> list[np.ndarray]:
        """[N, W] of some columns, an episode each."""
        return [np.stack([raw.arrays[c.feature][:, c.index] for c in columns], axis=1) for raw in self.survey.episodes]

    def largest(self, columns: Sequence[Column]) -> float:
        return max(float(np.abs(each).max()) for each in self.values(columns))

    def columns(self, commanded: bool) -> list[Column]:
        return [Column(f.name, i) for f in (self.commanded if commanded else self.measured) for i in range(f.width)]


def questions_of(doubts: Sequence[Doubt]) -> list[tuple[str, tuple[Doubt, ...]]]:
    """What has to be asked, each question with the doubts that it answers."""
    out: list[tuple[str, tuple[Doubt, ...]]] = []
    for doubt in (doubt for doubt in doubts if not doubt.safe):
        same = tuple(d for d in doubts if not d.safe and d.alike == doubt.alike) if doubt.alike else (doubt,)
        if same[0] is doubt:
            more = " and ".join(d.subject for d in same[1:])
            text = doubt.text if doubt.text[-1] in ".?" else f"{doubt.text}."
            out.append((f"{text} The same of {more}." if more else text, same))
    return out
