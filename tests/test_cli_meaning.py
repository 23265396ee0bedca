"""`xtok eval` with meaning: codes and labels are gathered in order, a teacher's features meet the right slots."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

import evaluate_kit as kit
import semantics_kit
from xtok.actions.layout import ARMS26
from xtok.benchmark.semantics import measure_semantics
from xtok.codec import Tokenizer
from xtok.data import EpisodeDataset, Segment
from xtok.evaluate import Budget, evaluate_dataset, render, to_json
from xtok.evaluate.gather import gather
from xtok.evaluate.semantics import motion_errors
from xtok.semantics import store
from xtok.semantics.align import Alignment
from xtok.semantics.latents import decode_latents, latents

FRAMES = 90


class WavesStore(semantics_kit.FakeStore):
    teacher = {"name": "waves"}  # noqa: RUF012


@pytest.fixture(scope="module")
def waves() -> EpisodeDataset:
    """Fifteen episodes of two sub-tasks and two tasks."""
    bare = kit.dataset(ARMS26, [FRAMES] * 15)

    def load(i: int):
        parts = (Segment(0, 40, "reach for the red cube"), Segment(40, FRAMES, "lift the red cube"))
        return replace(bare[i], subtasks=parts, task="Lift" if i % 2 else "Stack")

    return replace(bare, load=load)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_pretrained("arms26").with_ranges(kit.statistics(ARMS26)["Franka"])


def test_own_latents_decode_as_q0_does(tokenizer: Tokenizer) -> None:
    chunks = kit.chunks(ARMS26, 18)
    h_NMC = latents(tokenizer, chunks)
    assert h_NMC.shape[:2] == (len(chunks), 5)
    codes = tokenizer.encode(chunks)
    want = tokenizer.decode(codes, chunks.context, levels=1).delta_BTD.numpy()
    np.testing.assert_allclose(decode_latents(tokenizer, h_NMC, chunks.context), want, atol=1e-5)


def test_train_chunks_come_first_and_unseen_tasks_fit_nothing(waves: EpisodeDataset) -> None:
    step = kit.StepTokenizer(kit.statistics(ARMS26))
    found = gather(waves, {"step": step}, step.statistics, 16, unseen_tasks={"Stack"}, train_chunks=60, test_chunks=30)
    first = found.labels.episode_N[found.train_N]
    assert {int(key.split("/")[1]) for key in first} == {1, 3, 5, 7, 11, 13}  # odd: Lift; 9 is held out
    assert {int(key.split("/")[1]) for key in found.test_labels.episode_N} == {4, 9, 14}
    assert set(found.novelty_N[~found.train_N]) == {"seen", "unseen task"}
    held = found.outputs["step"]
    assert held.codes_NMQ is not None and held.bag_NW is not None and held.decoded_NX is not None
    for n in (0, len(found.labels) - 1):  # codes, labels and chunks are of the same motion
        frames = waves[int(found.labels.episode_N[n].split("/")[1])].absolute_ND
        start = found.labels.start_N[n]
        np.testing.assert_array_equal(found.chunks.target_BTD[n], frames[start : start + 16])
        np.testing.assert_array_equal(held.codes_NMQ[n], step.encode(found.chunks[slice(n, n + 1)]).grid_BMQ[0])
    assert len(found.true_NX) == len(held.decoded_NX) == int((~found.train_N).sum())
    novelty_N = found.novelty_N[~found.train_N]
    rows = motion_errors(found.outputs, found.true_NX, found.mask_NX, found.test_labels, novelty_N)["step"]
    assert set(rows) == {"all", "seen", "unseen task", "task Lift", "task Stack"}
    assert rows["seen"] == rows["task Lift"] and rows["unseen task"] == rows["task Stack"]
    own = [i for i, name in enumerate(ARMS26.channel_names) if found.test.context.mask_BD[0, i]]
    by_hand = np.abs(held.decoded_NX - found.true_NX).reshape(len(found.true_NX), 16, -1)[..., own]
    assert rows["all"] == pytest.approx(by_hand.mean())
    assert rows["seen"] == pytest.approx(by_hand[novelty_N == "seen"].mean())


def test_the_report_shows_meaning_and_what_did_not_come_true(
    waves: EpisodeDataset, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    heads = Alignment(tokenizer.codec.latent_dim, semantics_kit.WIDTH, dim=8, views=2, hidden=16).eval()
    there = {("waves", i) for i in range(15) if i != 14}
    monkeypatch.setattr(semantics_kit, "FRAMES", FRAMES)
    monkeypatch.setattr(store.FeatureStore, "open", lambda path: WavesStore(there))
    monkeypatch.setattr("xtok.benchmark.semantics.load_heads", lambda path: heads)
    found = measure_semantics(waves, {"xtok": tokenizer}, None, 16, Path("store"), str(tmp_path), test_chunks=40)
    assert found is not None
    assert found["alignment"]["all"]["chunks"] < found["test_chunks"]  # episode 14 has no features
    assert set(found["alignment"]) == {"all", "task Lift", "task Stack"}
    assert -1 <= found["alignment"]["all"]["diagonal"]["value"] <= 1 and len(found["alignment"]["all"]["matrix"]) == 4
    assert set(found["probes"]["slot"]["xtok"]) == {"q0", "q1-q3", "all", "h"}
    assert set(found["probes"]["chunk"]) == {"xtok"}
    verb = found["probes"]["slot"]["xtok"]["h"]["verb"]
    assert verb["classes"] == 2 and verb["accuracy"]["low"] <= verb["accuracy"]["value"] <= verb["accuracy"]["high"]
    words = found["teacher_probes"]["words"]["verb"]  # the fake store's words change at frame 45, the verb at 40
    assert words["accuracy"]["value"] > 0.75 > words["shuffled"]
    for task in found["substitution"].values():
        assert task["cosines"]["all levels"]["value"] > 0.9  # its own codes go the right way
        assert set(task["cosines"]) == {"all levels", "own h", "teacher", "shuffled", "mean trajectory"}

    evaluation = evaluate_dataset(
        waves,
        {"xtok": tokenizer},
        tokenizer.statistics,
        {"xtok": tokenizer.digest},
        horizons=(16,),
        baselines=(),
        budget=Budget(evaluated=24),
    )
    evaluation = replace(evaluation, result=evaluation.result | {"semantics": found})
    assert json.loads(to_json(evaluation.result))["semantics"]["horizon"] == 16
    html = render(evaluation)
    assert "What did not come true" in html and "What codes mean" in html and "Motion beside what was seen" in html
    for drawing in re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL):
        ElementTree.fromstring(drawing)
        assert not re.search(r"\bnan\b|\binf\b", drawing)
    assert not re.search(r"https?:|<script|<link|@import|url\(|\bsrc=", html)


def test_features_and_heads_go_together(waves: EpisodeDataset, tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="go together"):
        measure_semantics(waves, {"xtok": tokenizer}, None, 16, features=Path("store"))


def test_a_set_without_held_out_episodes_has_no_meaning_but_a_remark(
    tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    few = kit.dataset(ARMS26, [FRAMES] * 4)
    assert measure_semantics(few, {"xtok": tokenizer}, None, 16) is None
    assert "no measures of meaning" in capsys.readouterr().err
