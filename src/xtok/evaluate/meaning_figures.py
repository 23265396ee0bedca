"""The report's drawings of meaning, from the `semantics` entry of an evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from xtok.evaluate import meaning_charts as charts
from xtok.evaluate.figures import Figure
from xtok.evaluate.formatting import format_figure, format_percent
from xtok.evaluate.meaning_charts import Row
from xtok.evaluate.semantics import SEEN, UNSEEN_ARM, UNSEEN_BOTH, UNSEEN_TASK
from xtok.evaluate.semantics_result import (
    DirectionJson,
    MeanJson,
    PlaneJson,
    ProbeJson,
    RetrievalJson,
    SemanticsResult,
)
from xtok.evaluate.substitution import FLOOR

ASKED = {
    "subtask": "sub-task",
    "verb": "its verb",
    "gripper": "gripper opens, closes or holds",
    "object": "thing named",
    "colour": "colour named",
    "task": "task",
    "arm": "arm",
}
CLOUDS = 6  # tasks of the picture that have a colour of their own


def probes(meaning: SemanticsResult, colours: Mapping[str, str]) -> Iterator[Figure]:
    """A chart a label: slots of each tokenizer and level, then whole chunks."""
    slot, chunk = meaning["probes"]["slot"], meaning["probes"]["chunk"]
    for label, title in ASKED.items():
        rows: list[Row] = []
        for name, features in slot.items():
            found = [(feature, each[label]) for feature, each in features.items() if label in each]
            rows += [Row(name, None)] if found else []
            rows += [_probe_row(feature, probe, colours[name]) for feature, probe in found]
        taught = [(name, found[label]) for name, found in meaning.get("teacher_probes", {}).items() if label in found]
        rows += [Row("the teacher itself", None)] if taught else []
        rows += [_probe_row(name, probe, "bins") for name, probe in taught]
        whole = [(name, features["tokens"][label]) for name, features in chunk.items() if label in features["tokens"]]
        rows += [Row("whole chunks, all tokens", None)] if whole else []
        rows += [_probe_row(name, probe, colours[name]) for name, probe in whole]
        if any(row.value is not None for row in rows):
            classes = next(f[label]["classes"] for f in [*_features(slot), *_features(chunk)] if label in f)
            svg = charts.interval_chart(rows, "right, share of held-out", 1.0, f"probes for the {title}")
            yield Figure(title, f"{classes} answers", svg)


def novelty(meaning: SemanticsResult, subject: str) -> list[tuple[str, list[tuple[str, MeanJson | None]]]]:
    """Of the subject's q0: group of held-out slots -> label -> accuracy; empty where all is seen."""
    q0 = meaning["probes"]["slot"].get(subject, {}).get("q0", {})
    groups = list(dict.fromkeys(group for probe in q0.values() for group in probe["by_group"]))
    labels = [label for label in ASKED if label in q0]
    if len(groups) < 2:
        return []
    return [(group, [(ASKED[label], q0[label]["by_group"].get(group)) for label in labels]) for group in groups]


def alignment(meaning: SemanticsResult, colours: Mapping[str, str], subject: str) -> Iterator[Figure]:
    """Slots against moments, alignment and retrieval by rows, arms, the picture, substitution."""
    if "alignment" not in meaning:
        return
    rows = meaning["alignment"]
    matrix = rows["all"]["matrix"]
    svg = charts.matrix_chart(
        matrix, [str(i) for i in range(len(matrix))], "moment that the teacher saw", "slot of motion", "slot cosines"
    )
    yield Figure("Slots and moments", f"mid-chunk peak {format_figure(rows['all']['mid_peak'])}", svg)
    style = colours[subject]
    bars = [
        Row(
            _short(name),
            row["diagonal"]["value"],
            row["diagonal"]["low"],
            row["diagonal"]["high"],
            style,
            {"shuffled": row["shuffled"], "mean-prediction floor": row["floor"]},
        )
        for name, row in rows.items()
    ]
    yield Figure("Cosine with its own moment", "centred", charts.interval_chart(bars, "cosine", 1.0, "cosines"))
    yield from _retrieval(meaning["retrieval"], style)
    for side, families in meaning["families"].items():
        if len(families["arms"]) > 1:
            names = [_short(arm) for arm in families["arms"]]
            svg = charts.matrix_chart(families["matrix"], names, f"mean cosine of two chunks, by {side}", "", "arms")
            yield Figure(f"Arms, by {side}", f"between {format_figure(families['between'])}", svg)
    yield _plane(meaning["plane"])
    if "substitution" in meaning:
        yield _substitution(meaning["substitution"], style)


def errors(meaning: SemanticsResult, colours: Mapping[str, str]) -> Figure | None:
    """l1 of each tokenizer on what training saw and on what it did not; None where all is seen."""
    rows: list[Row] = []
    found = meaning.get("errors", {})  # reports of results made before this was measured
    for kind in (SEEN, UNSEEN_ARM, UNSEEN_TASK, UNSEEN_BOTH):
        known = [(name, of[kind]) for name, of in found.items() if kind in of]
        rows += [Row(kind, None)] if known else []
        rows += [Row(name, value, style=colours[name]) for name, value in known]
    if not rows:
        return None
    svg = charts.interval_chart(rows, "l1", None, "l1, seen and unseen")
    return Figure("Motion, seen and unseen", f"T {meaning['horizon']}, all levels", svg)


def neighbours(meaning: SemanticsResult, colours: Mapping[str, str]) -> Figure | None:
    rows: list[Row] = []
    names = {"latent": "h", "codes": "codes", "decoded": "decoded"}
    for name, found in meaning["neighbours"].items():
        known = [(key, found[key]) for key in names if found.get(key) is not None]
        rows += [Row(name, None)] if known else []
        control = {"shuffled": found.get("shuffled")}
        rows += [Row(names[key], value, style=colours[name], marks=control) for key, value in known]
    if not rows:
        return None
    svg = charts.interval_chart(rows, "rank correlation", 1.0, "rank correlation of neighbours")
    return Figure("Neighbours stay neighbours", "the 100 nearest", svg)


def _retrieval(retrieval: Mapping[str, Mapping[str, Mapping[str, RetrievalJson]]], style: str) -> Iterator[Figure]:
    for among, rows in retrieval.items():
        bars = []
        for name, ways in rows.items():
            shown = {way: row for way, row in ways.items() if way != "shuffled"}
            for way, row in shown.items():
                label = _short(name) if len(rows) > 1 else way
                if len(rows) > 1 and way != "motion to moment":
                    continue
                control = {"chance": row["chance_r1"], "shuffled": ways["shuffled"]["r1"]["value"]}
                r1 = row["r1"]
                bars.append(Row(label, r1["value"], r1["low"], r1["high"], style, control))
        first = next(iter(rows.values()))
        if bars and first:
            row = first["motion to moment"]
            note = f"of {row['candidates']:.0f}; R@5 {format_percent(row['r5'])}, median rank {row['median_rank']:.0f}"
            svg = charts.interval_chart(bars, "R@1", None, f"retrieval {among}")
            yield Figure(f"Found {among}", note, svg)


def _plane(plane: PlaneJson) -> Figure:
    tasks = np.array(plane["task"])
    motion, moment = np.array(plane["motion"]), np.array(plane["moment"])
    names = sorted(set(tasks.tolist()), key=lambda name: (-int((tasks == name).sum()), name))
    clouds = []
    for side, points in (("moment", moment), ("motion", motion)):
        for i, name in enumerate(names):
            tone = f"cloud{i}" if i < CLOUDS else "cloudrest"
            clouds.append((f"{side}: {name}", points[tasks == name], f"{tone} {side}"))
    x, y = (f"axis {i + 1}, {format_percent(share)}" for i, share in enumerate(plane["shares"]))
    names = [*names[:CLOUDS], "others"] if len(names) > CLOUDS else names
    keys = [(name, f"cloud{i}" if i < CLOUDS else "cloudrest") for i, name in enumerate(names)]
    svg = charts.cloud_chart(clouds, keys, x, y, "principal plane")
    return Figure("The common space, by task (PCA)", "full: motion, faint: moment", svg)


def _substitution(tasks: Mapping[str, DirectionJson], style: str) -> Figure:
    rows, own = [], []
    for task, row in tasks.items():
        cosines = row["cosines"]
        own.append(cosines["own h"]["value"])
        marks = {FLOOR: cosines[FLOOR]["value"], "shuffled": cosines["shuffled"]["value"]}
        found = cosines["teacher"]
        rows.append(Row(task, found["value"], found["low"], found["high"], style, marks))
    svg = charts.interval_chart(rows, "direction cosine; tick: mean trajectory", 1.0, "functional substitution")
    return Figure("The teacher's features in place of h", f"own h: {format_figure(float(np.mean(own)))}", svg)


def _probe_row(name: str, probe: ProbeJson, style: str) -> Row:
    accuracy = probe["accuracy"]
    marks = {"majority": probe["majority"], "shuffled": probe["shuffled"]}
    return Row(name, accuracy["value"], accuracy["low"], accuracy["high"], style, marks)


def _features(by_tokenizer: Mapping[str, Mapping[str, Mapping[str, ProbeJson]]]) -> list[Mapping[str, ProbeJson]]:
    return [each for features in by_tokenizer.values() for each in features.values()]


def _short(name: str) -> str:
    return {UNSEEN_BOTH: "unseen both"}.get(name, name.removeprefix("arm ").removeprefix("task ").removeprefix("sim_"))
