"""Questions have exact answers, and neither words nor picture alone give them away."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

pytest.importorskip("gymnasium", reason="the simulation needs its extra: pip install 'xtok[sim]'")

from hypothesis import given
from hypothesis import strategies as st

from sim_kit import PATCHES, ToyFact, toy_environment
from xtok.sim import questions
from xtok.sim.ask import PAIR_KINDS, Aims, Question, ask, middle
from xtok.sim.blind import Asked, balanced, controls
from xtok.sim.facts import PairFact
from xtok.sim.questions import QuestionRequest, make_questions, mask_from_runs, run_lengths

COLOURS = ("red", "green", "blue")
SIZE = 128


def patch(x: int, y: int, side: int = 12) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    mask[y : y + side, x : x + side] = True
    return mask


FACTS = [
    ToyFact("one", "cube", "red", np.zeros(3), True),
    ToyFact("two", "cube", "blue", np.zeros(3), False),
    ToyFact("three", "tray", "green", np.zeros(3), False),
]
MASKS = {"one": patch(10, 50), "two": patch(60, 20), "three": patch(100, 90, 20)}


def asked(kind: str, facts: list[ToyFact] = FACTS, masks: dict[str, np.ndarray] = MASKS) -> list[Question]:
    return [q for q in ask(facts, masks, COLOURS, np.random.default_rng(0)) if q.kind == kind]  # type: ignore[arg-type]


def answers(kind: str, *words: str) -> set[str]:
    """Of the questions whose text has all the words."""
    return {question.answer for question in asked(kind) if all(word in question.text for word in words)}


def test_answers_are_what_the_scene_is() -> None:
    assert {(q.answer, q.point) for q in asked("point")} == {
        ("red cube", (15, 55)),
        ("blue cube", (65, 25)),
        ("green tray", (109, 99)),
    }
    assert answers("side", "is the red cube left or right of the blue") | answers("side", "blue cube is the red") == {
        "left"
    }
    assert len(asked("side")) == 6 and [q.answer for q in asked("side")].count("left") == 3
    assert {(q.answer) for q in asked("beside")} == {"red cube", "green tray"}  # beside the middle one
    assert {(q.answer, "red" in q.text) for q in asked("held")} == {("yes", True), ("no", False)}
    assert answers("which_held") == {"red cube"}
    assert answers("count", "cubes") == {"2"} and answers("count", "red things") == {"1"}
    assert answers("count", "gripper") == {"3"}
    assert answers("colour", "leftmost") == {"red"} and answers("colour", "rightmost") == {"green"}


PAIR_FACTS = [
    PairFact("one", "stick", "red", np.zeros(3), True, ("left", "right"), None),
    PairFact("two", "stick", "blue", np.zeros(3), False, (), "right", "left"),
    PairFact("three", "peg", "green", np.zeros(3), True, ("left",), "left", "right"),
]


def test_with_two_arms_answers_say_which_arm() -> None:
    everything = ask(PAIR_FACTS, MASKS, COLOURS, np.random.default_rng(0))
    by_kind = {kind: [q for q in everything if q.kind == kind] for kind in PAIR_KINDS}
    held = {q.answer: q.text for q in by_kind["which_arm"]}
    assert set(held) == {"both", "left", "neither"}
    assert "red stick" in held["both"] and "green peg" in held["left"] and "blue stick" in held["neither"]
    # the left hand holds two things, so only the right one is asked about
    assert [(q.answer, "right" in q.text) for q in by_kind["arm_holds"]] == [("red stick", True)]
    assert {(q.answer, next(w for w in ("red", "blue", "green") if w in q.text)) for q in by_kind["whose_side"]} == {
        ("right", "blue"),
        ("left", "green"),
    }
    assert [(q.answer, "blue stick" in q.text) for q in by_kind["nearer_hand"]] == [("left", True), ("right", False)]
    assert all(q.answer in q.choices for kind in PAIR_KINDS for q in by_kind[kind])
    assert not any("the gripper" in q.text for q in everything if q.kind == "held")
    assert not {q.kind for q in ask(FACTS, MASKS, COLOURS, np.random.default_rng(0))} & set(PAIR_KINDS)  # type: ignore[arg-type]


def test_with_two_arms_no_name_or_place_of_others_says_who_holds_a_thing() -> None:
    one_side = [PairFact(str(i), "cube", c, np.zeros(3), False, (), "left", "left") for i, c in enumerate(COLOURS)]
    masks = dict(zip("012", MASKS.values(), strict=True))
    everything = ask(one_side, masks, COLOURS, np.random.default_rng(0))
    assert not [q for q in everything if q.kind in ("whose_side", "nearer_hand")], "all are on the left"
    by_kind = {"stick": ("left", "right", "neither", "both"), "cube": ("left", "right", "neither"), "pot": None}
    for kind, choices in by_kind.items():
        fact = PairFact("0", kind, "red", np.zeros(3), True, ("left",), None)
        texts = [ask([fact], masks, COLOURS, np.random.default_rng(seed)) for seed in range(9)]
        found = [q for questions_ in texts for q in questions_ if q.kind == "which_arm"]
        assert {q.choices for q in found} == ({choices} if choices else set())
        assert any("both" in q.text for q in found) == (kind == "stick")


def test_with_two_arms_what_one_holds_is_asked_once() -> None:
    free = PairFact("three", "peg", "green", np.zeros(3), False, (), None)
    for holders in (("left", "right"), ()):
        facts = [PairFact("one", "stick", "red", np.zeros(3), bool(holders), holders, None), free]
        texts = [ask(facts, MASKS, COLOURS, np.random.default_rng(seed)) for seed in range(9)]
        found = [[q for q in of if q.kind == "arm_holds"] for of in texts]
        assert {q.answer for of in found for q in of} == {"red stick" if holders else "nothing"}
        assert all(len(of) == 1 for of in found) and {"left" in of[0].text for of in found} == {True, False}
        assert not [q for of in texts for q in of if q.kind == "which_held"], "it would be the same answer again"


def test_with_two_arms_counts_of_a_picture_all_differ() -> None:
    facts = [*PAIR_FACTS, PairFact("four", "tray", "white", np.zeros(3), False, (), "left")]
    masks = {**MASKS, "four": patch(60, 90, 20)}
    for seed in range(9):
        everything = ask(facts, masks, ("red", "blue", "yellow", "white"), np.random.default_rng(seed))
        counts = [q for q in everything if q.kind == "count"]
        assert [q.answer for q in counts] == ["1", "2"] and all(q.choices == ("0", "1", "2") for q in counts)
        named = {q.answer: {word for word in ("red", "blue", "yellow", "white") if word in q.text} for q in counts}
        assert named["2"] == {"red", "blue"} and "yellow" in named["1"] and len(named["1"]) == 2
    assert not [q for q in ask(facts, masks, COLOURS, np.random.default_rng(0), cluttered=True) if q.kind == "count"]


def test_what_is_ambiguous_or_hidden_is_not_asked() -> None:
    twins = [*FACTS, ToyFact("four", "cube", "red", np.zeros(3), False)]
    masks = {**MASKS, "four": patch(30, 50)}
    assert not any("red cube" in q.text for kind in ("side", "held") for q in asked(kind, twins, masks))
    (any_of,) = [q for q in asked("point", twins, masks) if q.answer == "red cube"]  # either is right, and words say so
    assert any_of.mask is not None and any_of.mask.sum() == 2 * 144 and " a red " in any_of.text
    assert not asked("colour", twins, masks) and not asked("beside", twins, masks)
    hidden = {**MASKS, "two": np.zeros((SIZE, SIZE), dtype=bool)}
    assert not any("blue cube" in q.text for q in asked("point", FACTS, hidden))
    assert not asked("count", FACTS, hidden) and not asked("which_held", FACTS, hidden)


def test_hands_are_pointed_at_and_instructions_mean_a_thing_and_a_place() -> None:
    aims = Aims("put the blue block into the bin", ("two",), ("three",))
    everything = ask(FACTS, MASKS, COLOURS, np.random.default_rng(0), hands={"gripper": patch(0, 0)}, aims=aims)  # type: ignore[arg-type]
    (hand,) = [q for q in everything if q.answer == "gripper"]
    assert hand.kind == "point" and hand.mask is not None and hand.mask[5, 5]
    targets = [q for q in everything if q.kind == "target"]
    assert [q.answer for q in targets] == ["blue cube", "green tray"]
    assert all(q.text.startswith(aims.instruction) for q in targets)
    assert targets[0].point == (65, 25) and targets[1].point == (109, 99)
    hidden = {**MASKS, "three": np.zeros((SIZE, SIZE), dtype=bool)}
    seen = ask(FACTS, hidden, COLOURS, np.random.default_rng(0), aims=aims)  # type: ignore[arg-type]
    assert [q.answer for q in seen if q.kind == "target"] == ["blue cube"]


def test_things_have_the_names_that_instructions_give_them() -> None:
    texts = {q.text for seed in range(20) for q in ask(FACTS, MASKS, COLOURS, np.random.default_rng(seed))}  # type: ignore[arg-type]
    assert any("red block" in text for text in texts) and any("green bin" in text for text in texts)


def test_in_clutter_only_what_is_named_is_asked_about() -> None:
    kinds = {q.kind for q in ask(FACTS, MASKS, COLOURS, np.random.default_rng(0), cluttered=True)}  # type: ignore[arg-type]
    assert kinds == {"point", "side", "held", "which_held", "count"}
    counts = [q for q in ask(FACTS, MASKS, COLOURS, np.random.default_rng(0), True) if q.kind == "count"]  # type: ignore[arg-type]
    assert all("cubes" in q.text or "trays" in q.text for q in counts)


def test_middle_lies_on_the_thing_even_if_it_is_a_ring() -> None:
    ring = patch(20, 20, 30)
    ring[25:45, 25:45] = False
    x, y = middle(ring)
    assert ring[y, x]


@given(st.lists(st.booleans(), min_size=16, max_size=16))
def test_runs_are_the_mask(bits: list[bool]) -> None:
    mask = np.array(bits).reshape(4, 4)
    np.testing.assert_array_equal(mask_from_runs(run_lengths(mask), 4), mask)


def leaky(count: int) -> list[Asked]:
    """Questions whose words give the answer away, unless they are balanced: 9 of 10 say left."""
    rng = np.random.default_rng(0)
    return [
        Asked(
            Question("side", "is it left or right?", "left" if rng.random() < 0.9 else "right", ("left", "right")), s, s
        )
        for s in map(str, range(count))
    ]


def test_controls_find_what_words_give_away_and_balance_takes_it() -> None:
    pictures = {str(i): np.random.default_rng(i).random(12) for i in range(300)}
    before = controls(leaky(300), pictures)["side"]
    assert before.image_blind > 0.85 and before.chance == 0.5
    kept = balanced(leaky(300), 1000, np.random.default_rng(0))
    said = [each.question.answer for each in kept]
    assert said.count("left") == said.count("right") > 15
    assert controls(kept, pictures)["side"].image_blind < 0.7


def test_controls_find_what_pictures_give_away() -> None:
    rng = np.random.default_rng(0)
    pictures = {str(i): np.full(12, float(i % 2)) + rng.normal(0, 0.01, 12) for i in range(60)}
    said = [
        Asked(Question("held", f"question {rng.integers(9)}?", ("no", "yes")[i % 2], ("yes", "no")), str(i), str(i))
        for i in range(60)
    ]
    assert controls(said, pictures)["held"].text_blind == 1.0


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in PATCHES:
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(questions, "environment", toy_environment)


REQUEST = QuestionRequest((("Lift", "Panda"), ("Stack", "UR5e")), ("easy",), 40, "train", 64)


def test_a_set_is_stored_whole_and_goes_on_after_a_stop(
    toy: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = make_questions(REQUEST, tmp_path / "straight")
    rows = pq.read_table(tmp_path / "straight/questions.parquet").to_pylist()
    assert len(rows) == manifest["questions"] >= 40
    assert {"all", "kinds", "files"} <= set(manifest)
    pictures = {row["image"] for row in rows}
    assert len(pictures) == manifest["images"] == len(list((tmp_path / "straight/images").glob("*.png")))
    for row in rows:
        with Image.open(tmp_path / "straight" / row["image"]) as picture:
            assert picture.size == (64, 64)
        if row["kind"] == "point":
            x, y = row["point"]
            assert mask_from_runs(row["mask"], 64)[y, x]
        assert json.loads(row["facts"])[0]["name"] == "red cube"

    look, looked = questions.look, []

    def stopped(*args: object, **more: object) -> None:
        if len(looked) == 7:
            raise KeyboardInterrupt
        looked.append(args)
        look(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(questions, "look", stopped)
    with pytest.raises(KeyboardInterrupt):
        make_questions(REQUEST, tmp_path / "stopped")
    monkeypatch.setattr(questions, "look", look)
    assert make_questions(REQUEST, tmp_path / "stopped") == manifest
    with pytest.raises(ValueError, match="another set"):
        make_questions(QuestionRequest(REQUEST.cells, ("easy",), 41, "train", 64), tmp_path / "stopped")
