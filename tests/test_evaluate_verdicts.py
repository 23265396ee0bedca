"""What did not come true is worked out from the figures: each target at its threshold, on both sides of it."""

from __future__ import annotations

from typing import Any

import pytest

from xtok.evaluate.verdicts import verdicts


def entry(**changes: Any) -> dict[str, Any]:
    flips = {sigma: [0.1, 0.5, 0.5, 0.5] for sigma in ("0.002", "0.004", "0.006", "0.008")}
    wer = dict.fromkeys(flips, 0.3)
    return {
        "l1": 0.01,
        "l1_vs_fast_at_equal_bits": 0.9,
        "usage": [0.8, 0.9, 0.9, 0.9],
        "tokens_mean": 32,
        "wer": wer,
        "flip_per_level": flips,
        **changes,
    }


def probe(value: float) -> dict[str, Any]:
    return {"subtask": {"accuracy": {"value": value, "low": value, "high": value}}}


def cosine(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.01, "high": value + 0.01}


def result(**changes: Any) -> dict[str, Any]:
    """All targets met."""
    rival = entry(wer=dict.fromkeys(("0.002", "0.004", "0.006", "0.008"), 0.9))
    row = {"mid_peak": 0.61, "contrast": 0.31, "teacher_contrast": 0.4, "shuffled": 0.0, "floor": 0.1}
    ways = {"r1": {"value": 0.06}, "times_chance": 6.0, "candidates": 100.0}
    meaning = {
        "alignment": {"all": row},
        "retrieval": {
            "within task and arm": {
                "all": {"motion to moment": ways, "moment to motion": ways, "shuffled": {**ways, "times_chance": 1.0}}
            }
        },
        "substitution": {
            "Lift": {"cosines": {"teacher": cosine(0.9), "mean trajectory": cosine(0.5)}},
            "Press": {"cosines": {"teacher": cosine(0.1), "mean trajectory": cosine(0.5)}},  # fine: told apart
        },
        "probes": {
            "slot": {"xtok": {"q0": probe(0.8), "q1-q3": probe(0.4)}, "rvq": {"q0": probe(0.6), "q1-q3": probe(0.4)}}
        },
    }
    whole = {
        "subject": "xtok",
        "vocab_sizes": {"xtok": 512},
        "chunks": {"32": 1000},
        "horizons": {"32": {"xtok": entry(), "no-heads": entry(), "fast": rival, "bins": rival}},
        "semantics": meaning,
    }
    return whole | changes


def judged(found: dict[str, Any]) -> dict[str, bool | None]:
    return {verdict.claim: verdict.met for verdict in verdicts(found)}


def test_all_met() -> None:
    assert set(judged(result()).values()) == {True} and len(judged(result())) == 12


@pytest.mark.parametrize(
    ("where", "value", "claim"),
    [
        (("horizons", "32", "xtok", "l1"), 0.0106, "without heads"),
        (("horizons", "32", "xtok", "l1_vs_fast_at_equal_bits"), 1.01, "FAST's at equal bits"),
        (("horizons", "32", "xtok", "usage"), [0.8, 0.05, 0.9, 0.9], "no level under 10"),
        (("horizons", "32", "xtok", "usage"), [0.75, 0.9, 0.9, 0.9], "q0 uses 76"),
        (("semantics", "alignment", "all", "mid_peak"), 0.59, "mid-chunk cosine"),
        (("semantics", "alignment", "all", "contrast"), 0.29, "off-diagonal"),
        (("semantics", "substitution", "Lift", "cosines", "teacher"), cosine(0.84), "in place of h"),
        (("semantics", "substitution", "Lift", "cosines", "mean trajectory"), cosine(0.9), "in place of h"),
        (
            ("semantics", "retrieval", "within task and arm", "all", "moment to motion", "times_chance"),
            4.9,
            "times chance",
        ),
        (("semantics", "probes", "slot", "rvq", "q0"), probe(0.66), "15 points"),
        (("semantics", "probes", "slot", "xtok", "q1-q3"), probe(0.81), "worse than q0"),
        (("horizons", "32", "bins", "wer", "0.006"), 0.3, "tokens change under sensor noise"),
        (("horizons", "32", "xtok", "flip_per_level", "0.008"), [0.2, 0.5, 0.5, 0.5], "q0 flips"),
    ],
)
def test_each_target_can_be_missed_alone(where: tuple[str, ...], value: Any, claim: str) -> None:
    found = result()
    place: Any = found
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = value
    missed = [name for name, met in judged(found).items() if met is not True]
    assert len(missed) == 1 and claim in missed[0]
    assert judged(found)[missed[0]] is False


def test_what_has_no_figures_is_unmeasured_and_never_met() -> None:
    bare = judged(result(semantics=None, horizons={"32": {"xtok": entry(l1_vs_fast_at_equal_bits=None)}}))
    assert [met for met in bare.values() if met is not None] == [True, True, True]  # use twice, and flips
    assert len(bare) >= 10


def test_a_rival_that_was_not_evaluated_was_not_beaten() -> None:
    found = result()
    found["horizons"]["32"].pop("bins")
    (verdict,) = [verdict for verdict in verdicts(found) if "tokens change" in verdict.claim]
    assert verdict.met is None and verdict.found == "than fast at every length and sigma; bins was not evaluated"
    found["horizons"]["32"]["fast"]["wer"] = dict.fromkeys(("0.002", "0.004", "0.006", "0.008"), 0.0)
    (verdict,) = [verdict for verdict in verdicts(found) if "tokens change" in verdict.claim]
    assert verdict.met is False


def test_few_codes_cannot_condemn_a_book() -> None:
    few = result(chunks={"32": 20})  # 160 codes a level of a book of 512
    few["horizons"]["32"]["xtok"]["usage"] = [0.2, 0.05, 0.3, 0.3]
    assert [met for claim, met in judged(few).items() if "use" in claim] == [None, None]


def test_seen_arms_and_tasks_are_judged_where_they_are_told_apart() -> None:
    found = result()
    good = found["semantics"]["alignment"]["all"]
    found["semantics"]["alignment"] = {"all": {**good, "mid_peak": 0.1}, "seen": good}
    assert judged(found)["centred mid-chunk cosine at least 0.6"] is True
