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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from xtok import ranks
from xtok.engine import PLAIN, Engine, Kept, Launch, Parts, Settings, Task
from xtok.engine.task import Figures
from xtok.semantics.embedded.connector import ConnectorConfig, Looked, point_logits
from xtok.semantics.embedded.language import END, START, padded
from xtok.semantics.embedded.lessons import KIND_DOING
from xtok.semantics.embedded.model import EmbeddedVLM, Words
from xtok.semantics.embedded.school import Row, School

RUN = "run.json"
LOOKING, SPEAKING = ("facts", "point", "answer"), ("caption", "said")  # losses


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
class TeacherBatch:
    """pictures_B: their numbers. rows: questions about them. spoken: places in `rows` that are answered in words;
    described: places in pictures_B that are captioned. Both empty before the second part."""

    pictures_B: np.ndarray
    rows: tuple[Row, ...]
    spoken: tuple[int, ...] = ()
    described: tuple[int, ...] = ()


class TeacherTask(Task[TeacherBatch]):
    """Connector, and the linear head that is thrown away. A step is decided by seed and number alone."""

    name, cpu_only = "teacher", True

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
        self.module = nn.ModuleDict({"connector": model.connector, "head": self.head})
        mouth = list(model.connector.mixer.out.parameters())
        others = [p for p in self.module.parameters() if not any(p is each for each in mouth)]
        groups = [{"params": others, "mouth": False}, {"params": mouth, "mouth": True}]
        self.optimizer = torch.optim.AdamW(
            groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.98)
        )
        self.generator = torch.Generator()  # of no use: see above
        self.batch_size = min(recipe.pictures, len(school.rows))
        self.data_order = (
            f"every step has {recipe.pictures} pictures ({recipe.speaking_pictures} when speaking), drawn from seed "
            f"{recipe.seed} and its number alike in every process; of R processes the r-th takes the r-th part of them"
        )
        self.config = recipe.to_dict()
        self._read: dict[str, Tensor] = {}  # question -> states of its words
        self.identity = json.loads(json.dumps({"recipe": recipe.to_dict(), "lessons": school.digest}))

    # -- a step ---------------------------------------------------------------------------------------------------

    def draw(self, step: int) -> TeacherBatch:
        recipe = self.recipe
        rng = np.random.default_rng([recipe.seed, step])  # so that a resumed run draws the same
        speaking = step >= recipe.looking
        size = min(recipe.speaking_pictures if speaking else recipe.pictures, len(self.school.rows))
        pictures_B = rng.choice(len(self.school.rows), size, replace=False, p=self.likely)
        rows = tuple(row for picture in pictures_B for row in self._drawn(int(picture), rng))
        if not speaking:
            return TeacherBatch(pictures_B, rows)
        n = recipe.spoken
        in_words = [i for i, row in enumerate(rows) if row.mask is None]
        spoken = tuple(in_words[i] for i in rng.permutation(len(in_words))[: n - n // 6])
        return TeacherBatch(pictures_B, rows, spoken, tuple(rng.permutation(size)[: n // 6].tolist()))

    def part(self, batch: TeacherBatch, index: int, count: int) -> TeacherBatch:
        if count == 1:
            return batch
        places = np.array_split(np.arange(len(batch.pictures_B)), count)[index].tolist()
        mine = set(batch.pictures_B[places].tolist())
        kept = [i for i, row in enumerate(batch.rows) if row.picture in mine]
        return TeacherBatch(
            batch.pictures_B[places],
            tuple(batch.rows[i] for i in kept),
            tuple(kept.index(i) for i in batch.spoken if i in kept),
            tuple(places.index(i) for i in batch.described if i in places),
        )

    def losses(self, batch: TeacherBatch, step: int) -> dict[str, Tensor]:
        torch.manual_seed(self.recipe.seed * 1_000_003 + step + 7_368_787 * ranks.rank())
        place = {int(picture): i for i, picture in enumerate(batch.pictures_B)}
        sight = self.sight[torch.from_numpy(batch.pictures_B)]
        with torch.autocast("cpu", torch.bfloat16):
            grid = self.model.connector.neck(sight)
            keys = self.model.connector.neck.point_keys(sight, grid)
            asked = self._look(grid, place, batch.rows)
            plain = self.model.look(grid)
        losses = self._looking_losses(batch, asked, plain, keys, place)
        return losses | (self._speaking_losses(batch, asked, plain) if step >= self.recipe.looking else {})

    def weights(self, step: int) -> dict[str, float]:
        """All 1: `losses` has them weighed, as they are logged."""
        return dict.fromkeys((*LOOKING, *(SPEAKING if step >= self.recipe.looking else ())), 1.0)

    def rates(self, step: int) -> list[float]:
        return [self.recipe.rate_at(step, group["mouth"]) for group in self.optimizer.param_groups]

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
        self, batch: TeacherBatch, asked: Looked, plain: Looked, keys: Tensor, place: Mapping[int, int]
    ) -> dict[str, Tensor]:
        rows = batch.rows
        points = [i for i, row in enumerate(rows) if row.mask is not None]
        others = [i for i, row in enumerate(rows) if row.answers]
        where = torch.tensor([place[rows[i].picture] for i in points], dtype=torch.long)
        logits = point_logits(keys[where], asked.query_BP[points]).flatten(1)
        targets = [mask.flatten() for i in points if (mask := rows[i].mask) is not None]
        target = torch.stack(targets) if targets else logits.detach()
        captions = [self.school.captions[int(picture)] for picture in batch.pictures_B]
        return {
            "facts": 0.3 * self._told_apart(plain.gist_BE, captions),
            "point": 0.5 * _mean(-(target * logits.log_softmax(1)).sum(1)),
            "answer": self._told_apart(asked.gist_BE[others], [rows[i] for i in others]),
        }

    def _told_apart(self, gist_RE: Tensor, rows: Sequence[Row]) -> Tensor:
        target_RA = torch.zeros(len(rows), len(self.number))
        for i, row in enumerate(rows):
            target_RA[i, [self.number[answer] for answer in row.answers]] = 1 / len(row.answers)
        return _mean(-(target_RA * self.head(gist_RE.float()).log_softmax(1)).sum(1))

    def _speaking_losses(self, batch: TeacherBatch, asked: Looked, plain: Looked) -> dict[str, Tensor]:
        tokens = self.model.language.tokens
        captions = [self.school.captions[int(picture)] for picture in batch.pictures_B]

        def loss(looked: Looked, chosen: Sequence[int], texts: Sequence[Row]) -> Tensor:
            if not chosen:
                return _mean(looked.tokens_BKW.new_zeros(0, dtype=torch.float32))
            before = [(START, *tokens(texts[i].question or "")) for i in chosen]
            after = [(*tokens(texts[i].said), END) for i in chosen]
            return _mean(said_loss(self.model, before, looked.tokens_BKW[torch.tensor(chosen)].float(), after))

        return {
            "caption": 0.5 * loss(plain, batch.described, captions),
            "said": loss(asked, batch.spoken, batch.rows),
        }

    # -- what is kept ---------------------------------------------------------------------------------------------

    def state(self) -> Parts:
        identity = torch.frombuffer(bytearray(json.dumps(self.identity).encode()), dtype=torch.uint8)
        return {"model": self.module.state_dict(), "training": {"identity": identity}}

    def load(self, parts: Parts) -> None:
        """Raises ValueError if the checkpoint is of another recipe or other lessons."""
        before = json.loads(parts["training"]["identity"].numpy().tobytes())
        if different := [key for key, value in self.identity.items() if before[key] != value]:
            raise ValueError(f"the run in {self.out} has another {' and '.join(different)}; choose a new folder")
        self.module.load_state_dict(parts["model"])

    def finish(self) -> list[Figures]:
        self.model.eval().save(self.out)
        return []

    def keep(self, batch: TeacherBatch) -> Kept:
        at = [(row.picture, self.school.rows[row.picture].index(row)) for row in batch.rows]
        tensors = {
            "pictures_B": torch.from_numpy(batch.pictures_B),
            "rows": torch.tensor(at).view(-1, 2),
            "spoken": torch.tensor(batch.spoken, dtype=torch.long),
            "described": torch.tensor(batch.described, dtype=torch.long),
        }
        return Kept(tensors, {"questions": [[row.picture, row.question, row.said] for row in batch.rows]})

    def restore(self, kept: Kept) -> TeacherBatch:
        t = kept.tensors
        rows = tuple(self.school.rows[picture][i] for picture, i in t["rows"].tolist())
        return TeacherBatch(t["pictures_B"].numpy(), rows, tuple(t["spoken"].tolist()), tuple(t["described"].tolist()))


class Training(Engine[TeacherBatch]):
    """The engine with this task: `run` goes to the end, or to step `until`; a checkpoint every so often and there."""

    task: TeacherTask

    def __init__(
        self, recipe: TeacherRecipe, model: EmbeddedVLM, school: School, out: Path, launch: Launch = PLAIN
    ) -> None:
        settings = Settings(recipe.steps, recipe.seed, log_every=1, checkpoint_every=100, digits=4)
        super().__init__(TeacherTask(recipe, model, school, out), settings, out, launch)

    @property
    def trained(self) -> nn.Module:
        return self.task.module


def _mean(value_N: Tensor) -> Tensor:
    """Over the rows of all processes; 0 where there are none."""
    return value_N.sum() / ranks.divisor(torch.tensor(len(value_N)))


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
