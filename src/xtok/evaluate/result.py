"""The JSON of `xtok eval`, field by field: what is measured, written, printed and drawn.

None says that a question has no answer for this tokenizer or robot. T: frames of a chunk, as a string where it is a
key ("32"). The `semantics` entry is in `semantics_result`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from xtok.baselines.common import Form
from xtok.evaluate.semantics_result import SemanticsResult


class FiguresJson(TypedDict):
    """Errors, or ratios of errors to a rival's, and why there are none (`xtok.evaluate.compare.Figures`)."""

    l1: float | None
    position_mm: float | None
    rotation_deg: float | None
    joint: float | None
    reason: str | None


class CurvePointJson(TypedDict):
    """At `slots` times M tokens (`xtok.evaluate.compare.CurvePoint`). rivals, over: by rival, its errors and ratios.
    entropy_bits: by tokenizer, its own and its rivals'."""

    slots: int
    tokens: int
    own: FiguresJson
    rivals: dict[str, FiguresJson]
    over: dict[str, FiguresJson]
    entropy_bits: dict[str, float | None]


class BookUseJson(TypedDict):
    """One book of motion words: of segments of so many frames (words: 0) at a level (words: 0). size: its codes.
    tokens: how many were seen."""

    frames: int
    level: int
    size: int
    tokens: int
    usage: float
    perplexity: float


class RatePointJson(TypedDict):
    """A price and the errors that it buys (`xtok.evaluate.rate.RatePoint`)."""

    bits: float
    l1: float
    tokens: float | None
    entropy_bits: float | None
    position_mm: float | None
    rotation_deg: float | None
    joint: float | None


class Entry(TypedDict):
    """One tokenizer at one T, all answers. wer, q0_flip, flip_per_level: by sigma; the last has a share a level.

    usage, perplexity: a value a level. books: of motion words, None of others. at_equal_bits, at_equal_entropy_bits: by
    rival. ms: milliseconds.
    """

    tokens_mean: float
    bits_mean: float
    entropy_bits_mean: float | None
    l1: float
    position_mm: float | None
    rotation_deg: float | None
    gripper: float | None
    joint: float | None
    wer: dict[str, float]
    q0_flip: dict[str, float] | None
    flip_per_level: dict[str, list[float]] | None
    usage: list[float]
    perplexity: list[float]
    books: list[BookUseJson] | None
    encode_ms_per_chunk: float
    decode_ms_per_chunk: float
    encode_ms_per_chunk_batched: float
    decode_ms_per_chunk_batched: float
    decode_failures: int
    swap_failure_rate: float
    swap_repaired_rate: float
    swap_l1: float
    swap_position_mm: float | None
    rate_distortion: list[RatePointJson]
    l1_vs_fast_at_equal_bits: float | None
    l1_vs_fast_reason: str | None
    at_equal_bits: dict[str, FiguresJson]
    at_equal_entropy_bits: dict[str, FiguresJson]
    curve: list[CurvePointJson]


class FormChoice(TypedDict):
    """How FAST's form was chosen. mean_l1_at_equal_bits, curves: by form, of train chunks that judged it."""

    fitted_chunks: int
    judged_chunks: int
    mean_l1_at_equal_bits: dict[str, float]
    curves: dict[str, list[RatePointJson]]


class FastFitJson(TypedDict):
    """How FAST was fitted at one T. form: None in older results of robots without
    rotations, which had no choice."""

    chunks: int
    chunk_stride: int
    scales: list[float]
    headline_scale: float
    form: Form | None
    chosen_on_train: FormChoice


class PoolMemberJson(TypedDict):
    dataset: str
    robot: str
    chunks: int


class _PooledFit(TypedDict):
    members: list[PoolMemberJson]
    reason: str | None


class PooledFitJson(_PooledFit, total=False):
    """How `fast-pooled` was fitted at one T. A reason, and nothing but that, where it could not be."""

    scales: list[float]
    headline_scale: float
    form: Form | None
    saturated: int


class CorruptedJson(TypedDict):
    """At one rate of faults (`xtok.evaluate.corruption.Corrupted`)."""

    rate: float
    decoded: int
    repaired: int
    failed: int
    l1: float
    position_mm: float | None
    joint: float | None


class CorruptionJson(TypedDict):
    """tokenizers: name -> kind of fault -> a point a rate. one_token: name -> kind -> where one token of each chunk is
    met; rate: the mean share that one is. chunks: how many were looked at."""

    horizon: int
    chunks: int
    tokenizers: dict[str, dict[str, list[CorruptedJson]]]
    one_token: dict[str, dict[str, CorruptedJson]]


class ByHorizon(TypedDict):
    """What is told of each T. saturation: channel -> share of values beyond the statistics. horizons: name -> entry."""

    episodes_used: dict[str, int]
    chunks: dict[str, int]
    chunk_stride: dict[str, int]
    stride_runs_on: dict[str, bool]
    fast_fit: dict[str, FastFitJson | None]
    fast_pooled_fit: dict[str, PooledFitJson | None]
    saturation: dict[str, dict[str, float]]
    horizons: dict[str, dict[str, Entry]]


class _Added(TypedDict, total=False):
    semantics: SemanticsResult
    left_out: Sequence[Mapping[str, object]]  # of LeftOut.to_dict()


class EvaluationResult(_Added, ByHorizon):
    """All of it. weights: tokenizer -> hash. statistics: robot -> hash. sigmas: of the noise.

    robots_known_by: robot -> how the first tokenizer knows it, None where it has learned them all.
    """

    dataset: str
    layout: str
    embodiments: list[str]
    joint_unit: str | None
    split: str
    episodes: int
    subject: str
    weights: dict[str, str | None]
    vocab_sizes: dict[str, int]
    robots_known_by: dict[str, str] | None
    statistics: dict[str, str]
    sigmas: list[float]
    seed: int
    threads: int
    versions: dict[str, str | None]
    git_revision: str | None
    command: str
    corruption: CorruptionJson | None
