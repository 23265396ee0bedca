"""The dictionary: counts and means against plain loops, what is planted is found, one page that a browser can use.

# N chunks, M slots, P = 5 points of a slot
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import evaluate_kit as kit
from xtok.actions.layout import ARMS26, JOINTS
from xtok.data import iter_chunks
from xtok.evaluate.dictionary import Dictionary, Motions, Refined, associations, build, motions_of
from xtok.evaluate.dictionary_page import Strip, describe, render
from xtok.evaluate.labels import Labels, label_chunks

N, M = 60, 4
ABOUT = {"title": "waves & <wires>", "lines": {"command": "xtok dictionary waves"}}
PIXEL = bytes.fromhex("ffd8ffe0") + b"no picture, but bytes"


def labels(subtask_NM: np.ndarray, arm_N: np.ndarray) -> Labels:
    n = len(arm_N)
    same = np.full((n, M), "")
    return Labels(
        subtask_NM=subtask_NM,
        verb_NM=same,
        colour_NM=same,
        object_NM=same,
        gripper_NM=same,
        text_NM=subtask_NM,
        task_N=np.full(n, "Lift"),
        arm_N=arm_N,
        episode_N=(np.arange(n) // 3).astype(str),
        start_N=np.ones(n, dtype=int),
        last_N=np.full(n, 20),
    )


def planted() -> tuple[np.ndarray, Labels, Motions]:
    """Code 5 goes down and is grasping; code 2 goes up and is lifting, by arm b alone; codes 10 to 13 are anything."""
    rng = np.random.default_rng(0)
    codes_NM = rng.integers(10, 14, size=(N, M))
    codes_NM[:, 1], codes_NM[: N // 2, 2] = 5, 2
    arm_N = np.where(np.arange(N) < N // 2, "b", np.where(np.arange(N) % 2, "a", "b"))
    text_NM = np.select([codes_NM == 5, codes_NM == 2], ["grasp the cube", "lift the cube"], "reach for the cube")
    way = np.select([codes_NM == 5, codes_NM == 2], [-1.0, 1.0], 0.0).reshape(-1, 1, 1)
    position = way * np.array([0, 0, 20.0]) * np.linspace(0, 1, 5)[:, None] + 0.0
    opening = np.where(codes_NM.reshape(-1, 1) == 5, np.linspace(1, 0.3, 5), 0.3)
    turn = np.zeros_like(position)
    return codes_NM, labels(text_NM, arm_N), Motions(position, turn, opening, None, position[:, 0] + [1.0, 0, 0])


@pytest.fixture(scope="module")
def built() -> Dictionary:
    codes_NM, found, motions = planted()
    return build(codes_NM, found, motions, codebook_size=16)


def test_entries_say_what_was_planted(built: Dictionary) -> None:
    by_code = {entry.code: entry for entry in built.entries}
    assert built.entries[0].code == 5 and built.places == N * M and len(by_code) == 6
    grasp, lift = by_code[5], by_code[2]
    assert (grasp.count, lift.count) == (60, 30)
    assert [each.text for each in grasp.subtasks] == ["grasp the cube"] and grasp.subtasks[0].of_code == 1
    assert grasp.subtasks[0].pmi == pytest.approx(np.log2(N * M / 60))
    assert "cube" not in {word.text for word in grasp.words}  # it goes with everything, so with nothing
    assert lift.arms == {"a": 0.0, "b": 1.0} and lift.evenness < grasp.evenness == 1.0
    assert describe(grasp) == "down 20 mm · gripper closes" and describe(lift) == "up 20 mm · gripper at 30 % open"
    np.testing.assert_allclose(grasp.offset_mm_3, [1, 0, 0])
    assert grasp.place_M == (0, 1, 0, 0) and grasp.position_spread_mm == pytest.approx(0)


def test_what_follows_is_counted_within_chunks_only(built: Dictionary) -> None:
    codes_NM = planted()[0]
    entry = next(entry for entry in built.entries if entry.code == 5)
    after = codes_NM[:, 2]
    assert dict(entry.following) == {
        code: pytest.approx((after == code).mean()) for code in np.unique(after) if code in dict(entry.following)
    }
    assert entry.following[0] == (2, pytest.approx(0.5))
    assert sum(p for _, p in entry.following) == pytest.approx(1)


def test_examples_come_from_two_arms_where_there_are_two(built: Dictionary) -> None:
    _, found, _ = planted()
    arm_n = np.repeat(found.arm_N, M)
    for entry in built.entries:
        arms = {arm for arm, share in entry.arms.items() if share}
        assert {str(arm_n[n]) for n in entry.example_n} == arms or len(entry.example_n) == 2


def test_texts_under_four_times_are_chance_and_below_chance_is_not_told() -> None:
    index_n = np.array([0] * 20 + [1] * 20)
    texts = [["rare"] if i < 3 else ["left"] if i < 23 else ["right"] for i in range(40)]
    zero, one = associations(index_n, 2, texts)
    assert [each.text for each in zero] == ["left"] and [each.text for each in one] == ["right"]
    assert zero[0].count == 17 and zero[0].pmi == pytest.approx(np.log2(17 * 40 / (20 * 20)))


def test_motions_are_those_of_the_frames() -> None:
    episode = kit.episode(ARMS26, 40, 3)
    (batch,) = iter_chunks([episode], 10, 5)
    anchors, targets = batch.context.anchor_BD, batch.target_BTD
    assert anchors is not None
    frames = np.concatenate([anchors[:, None].numpy(), targets.numpy()], axis=1)
    found = motions_of(ARMS26, batch.context.mask_BD.numpy(), frames)
    where = ARMS26.slices["right_position"]
    assert found.position_nP3 is not None and found.position_nP3.shape == (3 * len(batch), 5, 3)
    # Chunk 1 starts after frame 5; its slot 1 is frames 10 to 13, after frame 9.
    want = 1000 * (episode.absolute_ND[9:14, where] - episode.absolute_ND[9, where])
    np.testing.assert_allclose(found.position_nP3[3 + 1], want, atol=1e-3)
    assert found.offset_n3 is not None
    np.testing.assert_allclose(
        found.offset_n3[4], 1000 * (episode.absolute_ND[9] - episode.absolute_ND[5])[where], atol=1e-3
    )
    # Its last slot has two frames only, 14 and 15, and holds the last.
    np.testing.assert_array_equal(found.position_nP3[5, 2], found.position_nP3[5, 4])
    assert found.turn_nP3 is not None and 0 < np.abs(found.turn_nP3[:, 4]).max() < 180
    assert not found.turn_nP3[:, 0].any() and found.joint_nPJ is None


def test_joints_have_tracks_in_place_of_paths() -> None:
    episode = kit.episode(JOINTS, 60, 1)
    (batch,) = iter_chunks([episode], 16, 4)
    assert batch.context.anchor_BD is not None
    frames = np.concatenate([batch.context.anchor_BD[:, None].numpy(), batch.target_BTD.numpy()], axis=1)
    motions = motions_of(JOINTS, batch.context.mask_BD.numpy(), frames)
    codes = np.random.default_rng(0).integers(0, 3, size=(len(batch), 4))
    found = build(codes, label_chunks([episode], 16, 4), motions, 8, [f"axis {i}" for i in range(6)])
    assert len(found.entries[0].tracks) == 4 and found.entries[0].path_P3 is None
    html = render(found, {}, ABOUT)
    assert "joints, deg" in html and "moves up" not in html


class Reader(HTMLParser):
    """Tags that stay open, ids and links, names of what a person can use."""

    VOID = frozenset({"meta", "input", "img", "path", "circle", "rect", "br", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.images: list[dict[str, Any]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        if "id" in found:
            assert found["id"] not in self.ids, f"two elements are called {found['id']}"
            self.ids.add(str(found["id"]))
        if tag == "a":
            self.links.add(str(found["href"]))
        if tag in ("img", "svg"):
            self.images.append(found)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_is_whole_fetches_nothing_and_names_everything(built: Dictionary) -> None:
    html = render(built, {5: [Strip(PIXEL, 'a "cube" <b>')]}, ABOUT)
    assert html == render(built, {5: [Strip(PIXEL, 'a "cube" <b>')]}, ABOUT)
    assert not re.search(r"https?:|<link|@import|url\(|\bsrc=\"(?!data:)", html)
    assert (
        "<wires>" not in html and "<b>" not in html and "nan" not in re.findall(r"<main.*</main>", html, re.DOTALL)[0]
    )
    reader = Reader()
    reader.feed(html)
    assert reader.open == [] and {f"q{entry.code}" for entry in built.entries} <= reader.ids
    assert {link[1:] for link in reader.links} <= reader.ids
    assert all(image.get("alt") or image.get("aria-label") for image in reader.images)
    assert len(reader.images) == 1 + len(built.entries)


def test_arms_apart_is_of_codes_that_several_arms_use() -> None:
    """Code 5 ends 20 mm down on arm b and 26 mm down on arm a, so 3 mm from its mean; code 2 is of arm b alone."""
    codes_NM, found, motions = planted()
    assert motions.position_nP3 is not None
    of_a = (np.repeat(found.arm_N, M) == "a") & (codes_NM.ravel() == 5)
    moved = motions.position_nP3.copy()
    moved[of_a] *= 1.3
    built = build(codes_NM, found, replace(motions, position_nP3=moved), codebook_size=16)
    by_code = {entry.code: entry for entry in built.entries}
    assert by_code[5].arms_apart_mm == pytest.approx(3.0) and by_code[2].arms_apart_mm is None
    shared = [entry for entry in built.entries if entry.arms_apart_mm is not None]
    weights = [entry.count for entry in shared]
    assert built.arms_apart_mm == pytest.approx(np.average([e.arms_apart_mm for e in shared], weights=weights))
    assert built.codes_apart_mm is not None and built.codes_apart_mm > 10 * built.arms_apart_mm
    assert "mean paths on several arms" in render(built, {}, ABOUT)
    alone = build(codes_NM, replace(found, arm_N=np.full(N, "a")), motions, codebook_size=16)
    assert alone.arms_apart_mm is None and "several arms" not in render(alone, {}, ABOUT)


def test_words_say_how_their_blocks_go_on() -> None:
    codes_NM, found, motions = planted()
    flat = codes_NM.ravel()
    segments_n = np.where(flat == 5, np.where(np.arange(len(flat)) % 3 == 0, "", "4 + 8"), "16")
    built = build(codes_NM, found, motions, 16, frames=16, refined=Refined(segments_n, np.where(flat == 5, 3, 2)))
    grasp = next(entry for entry in built.entries if entry.code == 5)
    share = float((segments_n[flat == 5] == "4 + 8").mean())
    assert grasp.tokens == 3 and grasp.segments is not None and dict(grasp.segments)["4 + 8"] == pytest.approx(share)
    html = render(built, {}, ABOUT)
    assert f"3.0 tokens a block; residuals of so many frames: {share:.0%} 4 + 8" in html
    assert "tokens a block" not in render(build(codes_NM, found, motions, 16), {}, ABOUT)


def test_a_dictionary_of_other_chunks_is_refused() -> None:
    codes_NM, found, motions = planted()
    with pytest.raises(ValueError, match="expected the same chunks"):
        build(codes_NM[:-1], found, motions, 16)


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")
def test_a_browser_searches_sorts_and_follows_links(built: Dictionary, tmp_path: Path) -> None:
    """In real Chromium: a script presses what a person would press and writes down what is then on the page."""
    press = """
      const cards = () => [...document.querySelectorAll("article")];
      const shown = () => cards().filter(a => !a.hidden && a.offsetHeight).map(a => a.id);
      const at = id => document.getElementById(id);
      const set = (id, value, event) => { at(id).value = value; at(id).dispatchEvent(new Event(event)); };
      const key = key => document.dispatchEvent(new KeyboardEvent("keydown", {key}));
      const said = {all: shown()};
      set("query", "gras", "input"); said.grasp = shown(); said.count = at("count").textContent;
      set("query", "zebra", "input"); said.zebra = shown(); said.none = !at("none").hidden;
      key("Escape"); said.escaped = shown().length;
      key("/"); said.focus = document.activeElement.id;
      set("sort", "up", "change"); said.up = shown()[0];
      set("sort", "close", "change"); said.close = shown()[0];
      set("sort", "use", "change");
      const button = document.querySelector("[data-word=lift]"); button.click();
      said.lift = shown(); said.pressed = button.getAttribute("aria-pressed");
      button.click(); said.released = shown().length;
      set("query", "grasp", "input"); location.hash = "#q2";
      setTimeout(() => {
        said.linked = shown().includes("q2"); said.on = document.activeElement.id;
        said.wide = document.documentElement.scrollWidth <= innerWidth;
        const pre = document.createElement("pre"); pre.id = "said"; pre.textContent = JSON.stringify(said);
        document.body.append(pre);
      }, 200);
    """
    page = tmp_path / "page.html"
    html = render(built, {}, ABOUT)
    page.write_text(html.replace("</body>", f"<script>addEventListener('load', () => {{{press}}});</script></body>"))
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--virtual-time-budget=5000", "--window-size=800,900", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    said = json.loads(re.search(r'<pre id="said">(.*?)</pre>', done.stdout, re.DOTALL).group(1))  # type: ignore[union-attr]
    assert len(said["all"]) == 6 and said["all"][0] == "q5"
    assert said["grasp"] == ["q5"] and said["count"] == "1 of 6 codes"
    assert said["zebra"] == [] and said["none"] and said["escaped"] == 6 and said["focus"] == "query"
    assert said["up"] == "q2" and said["close"] == "q5"
    assert said["lift"] == ["q2"] and said["pressed"] == "true" and said["released"] == 6
    assert said["linked"] and said["on"] == "q2" and said["wide"]


def test_the_command_writes_a_page_of_the_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from xtok.cli.main import main
    from xtok.data import sample_path

    out = tmp_path / "page.html"
    assert main(["dictionary", str(sample_path()), "-o", str(out), "--chunks", "40", "--pictured", "3"]) == 0
    html = out.read_text(encoding="utf-8")
    assert re.search(r"codes in use, 0 with frames", capsys.readouterr().out) and "panda" in html
    assert html.count("<article") > 10 and "gripper" in html
    assert main(["dictionary", str(sample_path()), "-o", str(out), "--horizon", "65"]) == 2


def test_a_frame_becomes_a_jpeg() -> None:
    import io

    image = pytest.importorskip("PIL.Image")
    from xtok.data.media.video_write import jpeg

    picture = np.zeros((32, 48, 3), dtype=np.uint8)
    picture[:, 24:] = (250, 20, 20)
    shown = np.asarray(image.open(io.BytesIO(jpeg(picture))).convert("RGB")).astype(int)
    assert shown.shape == picture.shape and np.abs(shown[8, 40] - [250, 20, 20]).max() < 12 and shown[8, 8].max() < 12


def test_motion_alone_is_the_headline_where_there_are_no_words(built: Dictionary) -> None:
    bare = replace(built, entries=tuple(replace(entry, subtasks=(), words=()) for entry in built.entries))
    html = render(bare, {}, ABOUT)
    assert "down 20 mm · gripper closes</h2>" in html and "goes with</h3>" not in html
