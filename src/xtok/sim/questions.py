"""A set of questions on rendered scenes, stored as parquet and PNG, with the controls that say it cannot be guessed.

OUT/questions.parquet: a row a question. OUT/images/*.png: each picture once. OUT/manifest.json: counts and controls.
A scene is written whole or not at all while the set is made, so a run that was stopped goes on.

# S side of a picture in pixels
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeGuard

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image

from xtok.atomic import atomic_folder, atomic_write
from xtok.sim.arms import PairSpec, get_arm
from xtok.sim.ask import BOTH, Question, ask
from xtok.sim.blind import Asked, ControlsJson, balanced, controls
from xtok.sim.facts import ObjectFact, PairFact
from xtok.sim.props import COLOURS
from xtok.sim.recorder import MANIFEST, digest, seeds, tools
from xtok.sim.staging import STAGING, open_staging
from xtok.sim.workers import EpisodeSpec, environment, run_jobs

if TYPE_CHECKING:
    from xtok.sim.variation import Level, Split

VIEWS = ("scene", "front")  # asked about; what the wrist sees is too little
STEPS_MAX = 70  # the expert acts for so many steps at most before a scene is looked at, so that things are held
PAIR_SHARE = 2  # with two arms for its task's longest episode over this: most experts are done by then
SCENES_A_QUESTION, PAIR_SCENES_A_QUESTION = 0.25, 0.15  # made, before balancing; two arms give more to ask about
ROUNDS = 6  # of half as many scenes more, until there are enough questions
THUMBNAIL = 8


@dataclass(frozen=True)
class QuestionRequest:
    """What to ask about. cells: (task, arm). count: questions, at least. split: of seeds. image_size: S."""

    cells: tuple[tuple[str, str], ...]
    levels: tuple[Level, ...]
    count: int = 1000
    split: Split = "train"
    image_size: int = 128

    def __post_init__(self) -> None:
        if self.count < 1 or self.image_size < 64:
            raise ValueError(f"{self.count} questions at {self.image_size} pixels; expected 1 or more at 64 or more")

    @property
    def scenes(self) -> int:
        """Scenes of the first round."""
        pairs = all(_is_pair(arm) for _, arm in self.cells)
        return max(1, round(self.count * (PAIR_SCENES_A_QUESTION if pairs else SCENES_A_QUESTION)))

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


class QuestionJson(TypedDict):
    """A question in a file. point: x, y in pixels. mask: lengths of runs, row by row, False first."""

    kind: str
    question: str
    answer: str
    choices: list[str]
    point: list[int] | None
    mask: list[int] | None


class SceneJson(TypedDict):
    """What was asked about one picture of a scene. facts: every field of each thing's `ObjectFact`."""

    view: str
    step: int
    facts: list[dict[str, object]]
    questions: list[QuestionJson]


class QuestionRequestJson(TypedDict):
    """A `QuestionRequest`. cells: [task, arm] each."""

    cells: list[list[str]]
    levels: list[str]
    count: int
    split: str
    image_size: int


class QuestionManifest(TypedDict):
    """What `manifest.json` of a set says. kinds: by kind of question. files: sha256 by path."""

    request: QuestionRequestJson
    questions: int
    images: int
    scenes: int
    scenes_made: int
    bytes: int
    all: ControlsJson
    kinds: dict[str, ControlsJson]
    controls: str
    versions: dict[str, str | None]
    files: dict[str, str]


def make_questions(
    request: QuestionRequest, out: Path, workers: int = 1, progress: Callable[[int], Any] = lambda _: None
) -> QuestionManifest:
    """Make the set in the folder `out`, or go on where it was stopped; returns the manifest.

    Raises:
        ValueError: a folder of something else, or scenes that do not give so many questions.
    """
    if (done := out / MANIFEST).is_file():
        manifest: QuestionManifest = json.loads(done.read_text(encoding="utf-8"))
        if manifest["request"] != json.loads(request.to_json()):
            raise ValueError(f"{out} holds another set of questions; choose a new folder or remove it")
        shutil.rmtree(out / STAGING, ignore_errors=True)
        return manifest
    staging = open_staging(out, asdict(request), "another set of questions")
    specs: list[EpisodeSpec] = []
    for _ in range(ROUNDS):
        more = scene_specs(request, len(specs) + (request.scenes if not specs else -(-request.scenes // 2)))
        jobs = [spec for spec in more if not (staging / spec.name).is_dir()]
        progress(len(more) - len(specs) - len(jobs))
        for _ in run_jobs(partial(look, staging=staging, image_size=request.image_size), jobs, workers):
            progress(1)
        specs = more
        kept = balanced(_pool(specs, staging), request.count, np.random.default_rng(0))
        if len(kept) >= request.count:
            break
    else:
        raise ValueError(
            f"{len(specs)} scenes gave {len(kept)} balanced questions, {request.count} are wanted; add tasks"
        )
    manifest = _write(request, specs, kept, staging, out)
    atomic_write(done, json.dumps(manifest, indent=1) + "\n")
    shutil.rmtree(staging)
    return manifest


def scene_specs(request: QuestionRequest, count: int) -> list[EpisodeSpec]:
    """The first `count` scenes: as many of each cell and level, give or take one; those of a cell together."""
    cells = [(task, arm, level) for task, arm in request.cells for level in request.levels]
    each = [count // len(cells) + (i < count % len(cells)) for i in range(len(cells))]
    return [
        EpisodeSpec(*cell, request.split, seed)
        for cell, number in zip(cells, each, strict=True)
        for seed in islice(seeds(*cell, request.split), number)
    ]


def look(spec: EpisodeSpec, staging: Path, image_size: int) -> None:
    """Let the expert act for a while, then store a picture from each fixed camera and all its questions.

    Every second scene in which both arms may hold one thing is looked at when they do, which is soon over.
    """
    env = environment(spec, views=False, image_size=image_size)
    env.reset(seed=spec.seed, options={"split": spec.split})
    rng = np.random.default_rng([spec.seed, len(spec.task)])
    expert, over, steps = env.expert(), False, 0
    longest = env.max_steps // PAIR_SHARE if _is_pair(spec.arm) else STEPS_MAX
    wanted = int(rng.integers(longest)) * int(rng.integers(4) > 0)  # a quarter at the start
    meeting = spec.seed % 2 == 0 and any(_both_may_hold(fact) for fact in env.facts())
    while steps < (env.max_steps if meeting else wanted):
        if over or (meeting and any(_both_may_hold(fact) and len(fact.holders) == 2 for fact in env.facts())):
            break
        _, _, terminated, truncated, _ = env.step(expert.goal()[None])
        over, steps = terminated or truncated, steps + 1
    rendered, facts, aims = env.render_views(), env.facts(), env.aims()
    with atomic_folder(staging / spec.name) as folder:
        for view in VIEWS:
            masks, hands = env.seen(view)
            asked = ask(facts, masks, tuple(COLOURS), rng, spec.level == "hard", hands, aims)
            Image.fromarray(rendered[view]).save(folder / f"{view}.png", optimize=True)
            about: SceneJson = {
                "view": view,
                "step": steps,
                "facts": [{**vars(fact), "position_m": np.asarray(fact.position_m).tolist()} for fact in facts],
                "questions": [_to_dict(question) for question in asked],
            }
            (folder / f"{view}.json").write_text(json.dumps(about), encoding="utf-8")


def _both_may_hold(fact: ObjectFact) -> TypeGuard[PairFact]:
    return isinstance(fact, PairFact) and fact.kind in BOTH


def _is_pair(arm: str) -> bool:
    return isinstance(get_arm(arm), PairSpec)


def run_lengths(mask: np.ndarray) -> list[int]:
    """A mask row by row as lengths of runs, False first: COCO's form but for the order."""
    flat = np.concatenate([[False], mask.ravel(), [not mask.ravel()[-1]]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], changes])).tolist()


def mask_from_runs(lengths: Sequence[int], size: int) -> np.ndarray:
    """bool [S, S], the other way round."""
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape(size, size)


def _to_dict(question: Question) -> QuestionJson:
    return {
        "kind": question.kind,
        "question": question.text,
        "answer": question.answer,
        "choices": list(question.choices),
        "point": None if question.point is None else list(question.point),
        "mask": None if question.mask is None else run_lengths(question.mask),
    }


def _about(spec: EpisodeSpec, view: str, staging: Path) -> SceneJson:
    return json.loads((staging / spec.name / f"{view}.json").read_text(encoding="utf-8"))


def _pool(specs: Sequence[EpisodeSpec], staging: Path) -> list[Asked]:
    pool = []
    for spec in specs:
        for view in VIEWS:
            with Image.open(staging / spec.name / f"{view}.png") as picture:
                size = picture.width
            for row in _about(spec, view, staging)["questions"]:
                mask = None if row["mask"] is None else mask_from_runs(row["mask"], size)
                question = Question(row["kind"], row["question"], row["answer"], tuple(row["choices"]), mask)
                pool.append(Asked(question, f"{spec.name}-{view}", spec.name))
    return pool


def _write(
    request: QuestionRequest, specs: Sequence[EpisodeSpec], kept: Sequence[Asked], staging: Path, out: Path
) -> QuestionManifest:
    asked_of = {each.picture for each in kept}
    pictures = [(spec, view) for spec in specs for view in VIEWS if f"{spec.name}-{view}" in asked_of]
    (out / "images").mkdir(exist_ok=True)
    thumbnails: dict[str, np.ndarray] = {}
    about: dict[str, tuple[EpisodeSpec, SceneJson]] = {}
    for spec, view in pictures:
        name, source = f"{spec.name}-{view}", staging / spec.name / f"{view}.png"
        shutil.copyfile(source, out / "images" / f"{name}.png")
        with Image.open(source) as picture:
            small = picture.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
        thumbnails[name] = np.asarray(small, dtype=np.float64).ravel() / 255
        about[name] = (spec, _about(spec, view, staging))
    rows = []
    for number, each in enumerate(kept):
        spec, scene = about[each.picture]
        row = {"question_id": number, "image": f"images/{each.picture}.png", **_to_dict(each.question), **asdict(spec)}
        rows.append({**row, "view": scene["view"], "step": scene["step"], "facts": json.dumps(scene["facts"])})
    table = pyarrow.Table.from_pylist(rows, schema=SCHEMA)
    pyarrow.parquet.write_table(table, out / "questions.parquet", compression="zstd")
    found = {kind: each.rounded() for kind, each in controls(kept, thumbnails).items()}
    files = [out / "questions.parquet", *sorted((out / "images").glob("*.png"))]
    return {
        "request": json.loads(request.to_json()),
        "questions": len(kept),
        "images": len(pictures),
        "scenes": len({spec.name for spec, _ in pictures}),
        "scenes_made": len(specs),
        "bytes": sum(path.stat().st_size for path in files),
        "all": found.pop("all"),
        "kinds": found,
        "controls": "share right: chance among the words' answers; from the words alone; from the picture alone",
        "versions": tools(),
        "files": {str(path.relative_to(out)): digest(path) for path in files},
    }


SCHEMA = pyarrow.schema(
    {
        "question_id": pyarrow.int64(),
        "image": pyarrow.string(),
        "kind": pyarrow.string(),
        "question": pyarrow.string(),
        "answer": pyarrow.string(),
        "choices": pyarrow.list_(pyarrow.string()),
        "point": pyarrow.list_(pyarrow.int32()),  # x, y, pixels
        "mask": pyarrow.list_(pyarrow.int32()),  # run lengths, row by row, False first
        **dict.fromkeys(("task", "arm", "level", "split"), pyarrow.string()),
        "seed": pyarrow.int64(),
        "view": pyarrow.string(),
        "step": pyarrow.int64(),
        "facts": pyarrow.string(),  # JSON: all that was true of the scene
    }
)
