"""Training of the connector, in two parts. All else is frozen; the eyes look at each picture once.

Looking: point at what is asked for, and tell answers apart by a linear head that is thrown away. The language model
only reads, so steps are cheap and many.
Speaking: the language model goes on from the connector's tokens, as in LLaVA: captions without words, answers to
questions. Its gradient passes through all its frozen layers. What was learned by looking is kept up.

# B pictures of a batch, R rows (a picture with a question, or with none), A answers that the linear head knows
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from xtok.atomic import atomic_file
from xtok.data.digests import digest_of
from xtok.semantics.embedded.connector import POINTS, ConnectorConfig, Looked, point_logits
from xtok.semantics.embedded.eyes import Sight
from xtok.semantics.embedded.language import END, START, padded
from xtok.semantics.embedded.lessons import KIND_DOING, Lesson
from xtok.semantics.embedded.model import EmbeddedVLM, Words

CHECKPOINT, LOG, RUN = "checkpoint.safetensors", "metrics.jsonl", "run.json"
EYES_BATCH = 64


@dataclass(frozen=True)
class TeacherRecipe:
    """looking, speaking: steps of each part. pictures: B. questions: asked of each while looking. spoken: rows that
    the language model goes on from in a step of speaking, a sixth of them captions. film_share: of the pictures.
    """

    connector: ConnectorConfig = field(default_factory=ConnectorConfig)
    looking: int = 600
    speaking: int = 150
    pictures: int = 32
    speaking_pictures: int = 16
    questions: int = 4
    spoken: int = 20
    film_share: float = 0.3
    learning_rate: float = 1.5e-3
    speaking_rate: float = 5e-4
    mouth_rate: float = 6e-3
    weight_decay: float = 0.05
    warmup: int = 50
    speaking_warmup: int = 10
    seed: int = 0

    @property
    def steps(self) -> int:
        return self.looking + self.speaking

    def rate_at(self, step: int, mouth: bool) -> float:
        """Cosine in each part, after a linear start. mouth: of the layer that makes tokens; nothing teaches it before
        the language model does, and then it wants steps as large as soft prompts do.
        """
        if step < self.looking:
            top, at, length, warmup = self.learning_rate, step, self.looking, self.warmup
        else:
            top = self.mouth_rate if mouth else self.speaking_rate
            at, length, warmup = step - self.looking, self.speaking, self.speaking_warmup
        return top * min(1, (at + 1) / warmup) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * at / length)))

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class Row:
    """One thing to learn from a picture. question None: a caption. answers: of the linear head, all equally right."""

    picture: int
    question: str | None
    said: str
    answers: tuple[str, ...]
    mask: Float[Tensor, "64 64"] | None
    kind: str


class School:
    """Lessons seen by the eyes, as rows by picture."""

    def __init__(self, model: EmbeddedVLM, progress: Callable[[int], Any] = lambda _: None) -> None:
        self._model, self._progress = model, progress
        self._sights: list[Sight] = []
        self.rows: list[list[Row]] = []  # of each picture
        self.captions: list[Row] = []

    def add(self, lessons: Sequence[Lesson]) -> None:
        """Also mirrored."""
        both = [each for lesson in lessons for each in (lesson, lesson.mirrored())]
        for start in range(0, len(both), EYES_BATCH):
            some = both[start : start + EYES_BATCH]
            self._sights.append(self._model.eyes([lesson.picture for lesson in some]))
            for lesson in some:
                number = len(self.rows)
                self.rows.append([_row(number, question) for question in lesson.questions])
                self.captions.append(Row(number, None, f" {lesson.caption}", lesson.facts, None, "caption"))
            self._progress(len(some))

    def sight(self) -> Sight:
        """Of all pictures, by number."""
        if len(self._sights) > 1:
            self._sights = [Sight.cat(self._sights)]
        if not self._sights:
            raise ValueError("nothing to learn from; give sets of `xtok sim questions`")
        return self._sights[0]

    @property
    def answers(self) -> tuple[str, ...]:
        every = [row for rows in self.rows for row in rows] + self.captions
        return tuple(sorted({answer for row in every for answer in row.answers}))

    @property
    def digest(self) -> str:
        rows = [[(r.question, r.said) for r in rows] for rows in self.rows]
        colour = self.sight().colour.float().mean((1, 2, 3)).tolist()
        return digest_of(rows=rows, captions=[r.said for r in self.captions], colour=[round(c, 3) for c in colour])


def _row(picture: int, question: Any) -> Row:
    mask = None
    if question.mask is not None:
        cells = F.adaptive_avg_pool2d(torch.from_numpy(question.mask.copy()).float()[None, None], POINTS)[0, 0]
        mask = cells / cells.sum()
    answers = () if mask is not None else (question.answer,)
    if question.kind == KIND_DOING:
        answers = (f"now {question.answer}",)
    return Row(picture, question.text, f" {question.answer}", answers, mask, question.kind)


class Training:
    """The state of a run: `run` goes to the end, or to step `until`; a checkpoint every so often and at the end."""

    def __init__(self, recipe: TeacherRecipe, model: EmbeddedVLM, school: School, out: Path) -> None:
        self.recipe, self.model, self.school, self.out = recipe, model, school, out
        self.sight = school.sight()
        self.number = {answer: i for i, answer in enumerate(school.answers)}
        seen = Counter((row.kind, row.said if row.mask is None else "") for rows in school.rows for row in rows)
        self.answer_weight = {key: count**-0.5 for key, count in seen.items()}
        film = np.array([rows[0].kind == KIND_DOING for rows in school.rows])
        share = recipe.film_share if 0 < film.sum() < len(film) else film.mean()
        self.likely = np.where(film, share / max(film.sum(), 1), (1 - share) / max((~film).sum(), 1))
        torch.manual_seed(recipe.seed)
        self.head = nn.Linear(recipe.connector.width, len(self.number))
        self.trained = nn.ModuleDict({"connector": model.connector, "head": self.head})
        mouth = list(model.connector.mixer.out.parameters())
        others = [p for p in self.trained.parameters() if not any(p is each for each in mouth)]
        groups = [{"params": others, "mouth": False}, {"params": mouth, "mouth": True}]
        self.optimizer = torch.optim.AdamW(
            groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.98)
        )
        self.step = 0
        self._read: dict[str, Tensor] = {}  # question -> states of its words
        self.identity = json.loads(json.dumps({"recipe": recipe.to_dict(), "lessons": school.digest}))

    def run(
        self, until: int | None = None, checkpoint_every: int = 100, log: Callable[..., Any] = lambda *_: None
    ) -> None:
        """log: called with the step and its losses."""
        last = self.recipe.steps if until is None else until
        while self.step < last:
            losses = self.train_step()
            log(self.step, losses)
            with (self.out / LOG).open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": self.step, **{k: round(v, 4) for k, v in losses.items()}}) + "\n")
            if self.step % checkpoint_every == 0 or self.step == last:
                self.save()

    def train_step(self) -> dict[str, float]:
        recipe = self.recipe
        rng = np.random.default_rng([recipe.seed, self.step])  # so that a resumed run draws the same
        torch.manual_seed(recipe.seed * 1_000_003 + self.step)
        speaking = self.step >= recipe.looking
        self.trained.train()
        size = min(recipe.speaking_pictures if speaking else recipe.pictures, len(self.school.rows))
        pictures = rng.choice(len(self.school.rows), size, replace=False, p=self.likely)
        rows = [row for picture in pictures for row in self._drawn(int(picture), rng)]
        captions = [self.school.captions[int(picture)] for picture in pictures]
        place = {int(picture): i for i, picture in enumerate(pictures)}
        sight = self.sight[torch.from_numpy(pictures)]
        with torch.autocast("cpu", torch.bfloat16):
            grid = self.model.connector.neck(sight)
            keys = self.model.connector.neck.point_keys(sight, grid)
            asked = self._look(grid, place, rows)
            plain = self.model.look(grid)
        losses = self._looking_losses(asked, plain, keys, place, rows, captions)
        if speaking:
            losses |= self._speaking_losses(asked, plain, rows, captions, rng)
        total = torch.stack(list(losses.values())).sum()
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate_at(self.step, group["mouth"])
        self.optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(self.trained.parameters(), 1.0, error_if_nonfinite=True)
        self.optimizer.step()
        self.step += 1
        return {name: float(value.detach()) for name, value in losses.items()}

    def _drawn(self, picture: int, rng: np.random.Generator) -> list[Row]:
        """Questions of a picture: kinds equally likely, and within a kind answers that are rare all over more so."""
        rows = self.school.rows[picture]
        kinds = sorted({row.kind for row in rows})
        size = min(self.recipe.questions, len(rows))
        weights = np.array([self.answer_weight[row.kind, row.said if row.mask is None else ""] for row in rows])
        for kind in kinds:
            mine = np.array([row.kind == kind for row in rows])
            weights[mine] /= weights[mine].sum()
        return [rows[i] for i in rng.choice(len(rows), size, replace=False, p=weights / weights.sum())]

    def _look(self, grid: Tensor, place: dict[int, int], rows: Sequence[Row]) -> Looked:
        where = torch.tensor([place[row.picture] for row in rows])
        return self.model.look(grid, self._words([row.question or "" for row in rows]), where)

    def _words(self, texts: Sequence[str]) -> Words:
        """As `EmbeddedVLM.read`, each text once a run."""
        new = list(dict.fromkeys(text for text in texts if text not in self._read))
        for start in range(0, len(new), 64):
            words = self.model.read(new[start : start + 64])
            for text, states, row in zip(new[start : start + 64], words.states_BLW, words.rows, strict=True):
                self._read[text] = states[: len(row)].clone()
        states = [self._read[text] for text in texts]
        lengths = torch.tensor([len(each) for each in states])
        keep_BL = torch.arange(int(lengths.max())) < lengths[:, None]
        rows = tuple((START, *self.model.language.tokens(text)) for text in texts)
        return Words(rows, nn.utils.rnn.pad_sequence(states, batch_first=True), keep_BL)

    def _looking_losses(
        self,
        asked: Looked,
        plain: Looked,
        keys: Tensor,
        place: dict[int, int],
        rows: Sequence[Row],
        captions: Sequence[Row],
    ) -> dict[str, Tensor]:
        points = [i for i, row in enumerate(rows) if row.mask is not None]
        others = [i for i, row in enumerate(rows) if row.answers]
        losses = {"facts": 0.3 * self._told_apart(plain.gist_BE, captions)}
        if points:
            where = torch.tensor([place[rows[i].picture] for i in points])
            logits = point_logits(keys[where], asked.query_BP[points]).flatten(1)
            target = torch.stack([mask for i in points if (mask := rows[i].mask) is not None]).flatten(1)
            losses["point"] = 0.5 * -(target * logits.log_softmax(1)).sum(1).mean()
        if others:
            losses["answer"] = self._told_apart(asked.gist_BE[others], [rows[i] for i in others])
        return losses

    def _told_apart(self, gist_RE: Tensor, rows: Sequence[Row]) -> Tensor:
        target_RA = torch.zeros(len(rows), len(self.number))
        for i, row in enumerate(rows):
            target_RA[i, [self.number[answer] for answer in row.answers]] = 1 / len(row.answers)
        return -(target_RA * self.head(gist_RE.float()).log_softmax(1)).sum(1).mean()

    def _speaking_losses(
        self, asked: Looked, plain: Looked, rows: Sequence[Row], captions: Sequence[Row], rng: np.random.Generator
    ) -> dict[str, Tensor]:
        n = self.recipe.spoken
        spoken = [i for i, row in enumerate(rows) if row.mask is None]
        spoken = [spoken[i] for i in rng.permutation(len(spoken))[: n - n // 6]]
        described = rng.permutation(len(captions))[: n // 6].tolist()
        tokens = self.model.language.tokens

        def loss(looked: Looked, chosen: Sequence[int], texts: Sequence[Row]) -> Tensor:
            before = [(START, *tokens(texts[i].question or "")) for i in chosen]
            after = [(*tokens(texts[i].said), END) for i in chosen]
            return said_loss(self.model, before, looked.tokens_BKW[torch.tensor(chosen)].float(), after).mean()

        losses = {"caption": 0.5 * loss(plain, described, captions)}
        if spoken:
            losses["said"] = loss(asked, spoken, rows)
        return losses

    def save(self) -> None:
        """All that a resumed run needs, whole or not at all."""
        state = self.optimizer.state_dict()["state"]
        tensors = {f"model/{key}": value for key, value in self.trained.state_dict().items()}
        tensors |= {f"adam/{i}/{key}": value for i, values in state.items() for key, value in values.items()}
        metadata = {"step": str(self.step), "identity": json.dumps(self.identity)}
        with atomic_file(self.out / CHECKPOINT) as draft:
            save_file({k: v.contiguous() for k, v in tensors.items()}, draft, metadata)

    def load(self) -> None:
        """Raises ValueError if the checkpoint is of another recipe or other lessons."""
        with safe_open(self.out / CHECKPOINT, "pt") as file:
            metadata = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, not a dict
        before = json.loads(metadata["identity"])
        if different := [key for key, value in self.identity.items() if before[key] != value]:
            raise ValueError(f"the run in {self.out} has another {' and '.join(different)}; choose a new folder")
        self.trained.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model/")})
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("adam/"):
                _, number, name = key.split("/")
                state.setdefault(int(number), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.step = int(metadata["step"])


def said_loss(
    model: EmbeddedVLM,
    before: Sequence[Sequence[int]],
    tokens_RKW: Float[Tensor, "R K W"],
    after: Sequence[Sequence[int]],
) -> Float[Tensor, " R"]:
    """Mean cross-entropy of each row's tokens `after`, given [before][K tokens]; what comes before has no gradient."""
    R, K = tokens_RKW.shape[:2]
    context = model.language.begin(*padded(before))
    ids_RS, keep_RS = padded([tail[:-1] for tail in after])
    embeddings = torch.cat([tokens_RKW.to(torch.bfloat16), model.language.embed(ids_RS)], 1)
    states = model.language.go_on(context, embeddings, torch.cat([torch.ones(R, K).bool(), keep_RS], 1))
    row = torch.tensor([r for r, tail in enumerate(after) for _ in tail])
    at = torch.tensor([K - 1 + i for tail in after for i in range(len(tail))])
    target = torch.tensor([token for tail in after for token in tail])
    loss_N = F.cross_entropy(model.language.logits(states[row, at]), target, reduction="none")
    count = torch.tensor([len(tail) for tail in after], dtype=torch.float32)
    return torch.zeros(R).index_add(0, row, loss_N) / count
