"""The `semantics` entry of the JSON of `xtok eval`, field by field."""

from __future__ import annotations

from typing import TypedDict


class MeanJson(TypedDict):
    """A mean and its 95 % interval (`xtok.evaluate.cluster.Mean`)."""

    value: float
    low: float
    high: float


class ProbeJson(TypedDict):
    """A linear probe (`xtok.evaluate.probes.Probe`)."""

    accuracy: MeanJson
    balanced: float
    majority: float
    shuffled: float
    classes: int
    train: int
    test: int
    ridge: float
    by_group: dict[str, MeanJson]


class ProbesJson(TypedDict):
    """tokenizer -> features ("q0", "q1-q3", "all", "h"; of chunks "tokens") -> label -> probe."""

    slot: dict[str, dict[str, dict[str, ProbeJson]]]
    chunk: dict[str, dict[str, dict[str, ProbeJson]]]


class AlignmentJson(TypedDict):
    """Centred cosines of a set of chunks (`xtok.evaluate.alignment.Alignment`)."""

    diagonal: MeanJson
    mid_peak: float
    off_diagonal: float | None
    contrast: float | None
    teacher_contrast: float | None
    shuffled: float
    floor: float
    chunks: int
    matrix: list[list[float]]


class RetrievalJson(TypedDict):
    """Of a set of queries (`xtok.evaluate.retrieval.Retrieval`)."""

    r1: MeanJson
    r5: float
    median_rank: float
    chance_r1: float
    chance_r5: float
    times_chance: float
    candidates: float
    queries: int


class FamiliesJson(TypedDict):
    """Cosines between arms (`xtok.evaluate.families.Families`)."""

    arms: list[str]
    matrix: list[list[float | None]]
    within: float | None
    between: float | None


class PlaneJson(TypedDict):
    """A picture of the common space: two coordinates a chunk of both sides, and what chunk it is."""

    shares: list[float]
    motion: list[list[float]]
    moment: list[list[float]]
    task: list[str]
    arm: list[str]


class DirectionJson(TypedDict):
    """Direction cosines of a task by way of decoding (`xtok.evaluate.substitution.Direction`)."""

    cosines: dict[str, MeanJson]
    chunks: int
    still: int


class _AlignmentResult(TypedDict):
    alignment: dict[str, AlignmentJson]
    retrieval: dict[str, dict[str, dict[str, RetrievalJson]]]
    families: dict[str, FamiliesJson]
    plane: PlaneJson


class AlignmentResult(_AlignmentResult, total=False):
    """Motion beside a teacher's features. alignment: by row ("all", "seen", "arm X", ...). retrieval: among -> row ->
    way. families: by side. substitution: by task, where motion was decoded."""

    substitution: dict[str, DirectionJson]


class TeacherJson(TypedDict):
    """Whose features they are."""

    name: str
    digest: str
    layer: int
    width: int


class TeacherResult(AlignmentResult):
    """features: hash of the store. teacher_probes: the probes of the features themselves."""

    teacher: TeacherJson
    features: str
    temperature: float
    teacher_probes: dict[str, dict[str, ProbeJson]]


class UnseenJson(TypedDict):
    """What nothing was fitted on."""

    arms: list[str]
    tasks: list[str]


class CodesResult(TypedDict):
    """What codes alone tell. errors: tokenizer -> row -> l1. neighbours: tokenizer -> what -> rank correlation."""

    horizon: int
    train_chunks: int
    test_chunks: int
    unseen: UnseenJson
    errors: dict[str, dict[str, float]]
    probes: ProbesJson
    neighbours: dict[str, dict[str, float | None]]


class SemanticsResult(CodesResult, total=False):
    """All of it: with a teacher also what `TeacherResult` says."""

    teacher: TeacherJson
    features: str
    temperature: float
    teacher_probes: dict[str, dict[str, ProbeJson]]
    alignment: dict[str, AlignmentJson]
    retrieval: dict[str, dict[str, dict[str, RetrievalJson]]]
    families: dict[str, FamiliesJson]
    plane: PlaneJson
    substitution: dict[str, DirectionJson]
