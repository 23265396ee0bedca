"""The types of the evaluation's JSON are what is in it: no field more, none less, each of its type.

# N chunks, M slots, E dimensions
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest

import evaluate_kit as kit
from xtok.actions.layout import ARMS26
from xtok.evaluate import Budget, evaluate_dataset, to_json
from xtok.evaluate.labels import Labels
from xtok.evaluate.result import EvaluationResult
from xtok.evaluate.semantics import Aligned, TokenizerOutputs, measure_alignment, probe_codes
from xtok.evaluate.semantics_result import AlignmentResult, MeanJson, ProbesJson


def misfits(value: Any, hint: Any, where: str = "") -> list[str]:
    """Places where a value, as JSON gives it back, is not of its type."""
    if hasattr(hint, "__required_keys__"):
        if not isinstance(value, dict):
            return [where]
        fields = get_type_hints(hint)
        wrong = [f"{where}.{key}" for key in (hint.__required_keys__ - value.keys()) | (value.keys() - fields.keys())]
        inner = [misfits(value[key], fields[key], f"{where}.{key}") for key in value.keys() & fields.keys()]
        return sum(inner, wrong)
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        found = [misfits(value, part, where) for part in parts]
        return [] if [] in found else found[0]
    if origin is Literal:
        return [] if value in parts else [where]
    if origin in (list, Sequence, dict, Mapping) and type(value) not in (list, dict):
        return [where]
    if origin in (list, Sequence):
        return [each for i, item in enumerate(value) for each in misfits(item, parts[0], f"{where}[{i}]")]
    if origin in (dict, Mapping):
        return [each for key, item in value.items() for each in misfits(item, parts[1], f"{where}.{key}")]
    if hint is float:
        return [] if type(value) in (int, float) else [where]
    return [] if type(value) is hint else [where]


@pytest.mark.parametrize("baselines", [("fast", "bins"), ()])
def test_an_evaluation_is_of_its_type(baselines: tuple[str, ...]) -> None:
    statistics = kit.statistics(ARMS26)
    evaluation = evaluate_dataset(
        kit.dataset(ARMS26, [60] * 10),
        {"step": kit.StepTokenizer(statistics)},
        statistics,
        {"step": None},
        (8,),
        baselines=baselines,
        budget=Budget(16, 60, 16),
        corrupt=bool(baselines),
        robots_known_by={"Franka": "ranges"},
    )
    assert misfits(json.loads(to_json(evaluation.result)), EvaluationResult) == []


def test_measures_of_meaning_are_of_their_types() -> None:
    rng = np.random.default_rng(0)
    N, M = 40, 4
    verb_NM = np.where(rng.random((N, M)) < 0.5, "reach", "lift")
    nothing_NM = np.full((N, M), "")
    labels = Labels(
        subtask_NM=verb_NM,
        verb_NM=verb_NM,
        colour_NM=nothing_NM,
        object_NM=nothing_NM,
        gripper_NM=nothing_NM,
        text_NM=verb_NM,
        task_N=np.where(np.arange(N) % 16 < 8, "Lift", "Stack"),
        arm_N=np.where(np.arange(N) % 8 < 4, "panda", "ur5"),
        episode_N=np.repeat([f"set/{i}" for i in range(10)], 4),
        start_N=np.tile(np.arange(4) * 16, 10),
        last_N=np.tile(np.arange(4) * 16 + 15, 10),
    )
    path_NTC = rng.normal(size=(N, 16, 3))
    unit_NME = rng.normal(size=(N, M, 6))
    aligned = Aligned(unit_NME, unit_NME[::-1], path_NTC, {"teacher": path_NTC[::-1]}, {"": path_NTC.mean(axis=0)})
    found = measure_alignment(aligned, labels)
    assert "substitution" in found and misfits(json.loads(json.dumps(found)), AlignmentResult) == []
    held = {"step": TokenizerOutputs(rng.integers(8, size=(N, M, 2)), rng.random((N, 5)), unit_NME)}
    probes = probe_codes(held, labels, np.arange(N) < 24)
    assert probes["slot"]["step"].keys() == {"q0", "q1", "all", "h"} and probes["chunk"]["step"]["tokens"]
    assert misfits(json.loads(json.dumps(probes)), ProbesJson) == []


def test_a_misfit_is_told() -> None:
    assert misfits({"slot": {}}, ProbesJson) == [".chunk"]
    assert misfits({"slot": {}, "chunk": {}, "more": 1}, ProbesJson) == [".more"]
    mean = {"value": 0.5, "low": "0.4", "high": 0.6}
    assert misfits({"a": mean}, dict[str, MeanJson]) == [".a.low"]
    assert misfits({"a": [1.0, None]}, dict[str, list[float | None] | None]) == []
