"""Training of the connector, in two parts. All else is frozen; the eyes look at each picture once.

Looking: point at what is asked for, and tell answers apart by a linear head that is thrown away. The language model
only reads, so steps are cheap and many.
Speaking: the language model goes on from the connector's tokens, as in LLaVA: captions without words, answers to
questions. Its gradient passes through all its frozen layers. What was learned by looking is kept up.

# B pictures of a batch, R rows (a picture with a question, or with none), A answers that the linear head knows
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from xtok import ranks
from xtok.engine import PLAIN, Engine, Kept, Launch, Parts, Settings, Task
from xtok.engine.task import Figures
from xtok.semantics.embedded.batches import TeacherBatch, TeacherBatches
from xtok.semantics.embedded.connector import Looked, point_logits
from xtok.semantics.embedded.language import END, START, padded
from xtok.semantics.embedded.model import EmbeddedVLM, Words
from xtok.semantics.embedded.recipe import TeacherRecipe
from xtok.semantics.embedded.school import Row, School

RUN = "run.json"
LOOKING, SPEAKING = ("facts", "point", "answer"), ("caption", "said")  # losses


class TeacherTask(Task[TeacherBatch]):
    """Connector, and the linear head that is thrown away. A step is decided by seed and number alone."""

    name, cpu_only = "teacher", True

    def __init__(self, recipe: TeacherRecipe, model: EmbeddedVLM, school: School, out: Path) -> None:
        self.recipe, self.model, self.school, self.out = recipe, model, school, out
        self.number = {answer: i for i, answer in enumerate(school.answers)}
        self.batches = TeacherBatches.of(recipe, school)
        torch.manual_seed(recipe.seed)
        self.head = nn.Linear(recipe.connector.width, len(self.number))
        self.module = nn.ModuleDict({"connector": model.connector, "head": self.head})
        mouth = list(model.connector.mixer.out.parameters())
        others = [p for p in self.module.parameters() if not any(p is each for each in mouth)]
        groups = [{"params": others, "mouth": False}, {"params": mouth, "mouth": True}]
        self.optimizer = torch.optim.AdamW(
            groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.98)
        )
        self.batch_size = min(recipe.pictures, len(school.rows))
        self.data_order = (
            f"every step has {recipe.pictures} pictures ({recipe.speaking_pictures} when speaking), drawn from seed "
            f"{recipe.seed} and its number alike in every process; of R processes the r-th takes the r-th part of them"
        )
        self.config = recipe.to_dict()
        self._read: dict[str, Tensor] = {}  # question -> states of its words
        self.identity = json.loads(json.dumps({"recipe": recipe.to_dict(), "lessons": school.digest}))

    # -- a step ---------------------------------------------------------------------------------------------------

    def losses(self, batch: TeacherBatch, step: int) -> dict[str, Tensor]:
        torch.manual_seed(self.recipe.seed * 1_000_003 + step + 7_368_787 * ranks.rank())
        place = {int(picture): i for i, picture in enumerate(batch.pictures_B)}
        sight, rows = batch.sight, self._rows(batch)
        with torch.autocast("cpu", torch.bfloat16):
            grid = self.model.connector.neck(sight)
            keys = self.model.connector.neck.point_keys(sight, grid)
            asked = self._look(grid, place, rows)
            plain = self.model.look(grid)
        losses = self._looking_losses(batch, rows, asked, plain, keys, place)
        return losses | (self._speaking_losses(batch, rows, asked, plain) if step >= self.recipe.looking else {})

    def weights(self, step: int) -> dict[str, float]:
        """All 1: `losses` has them weighed, as they are logged."""
        return dict.fromkeys((*LOOKING, *(SPEAKING if step >= self.recipe.looking else ())), 1.0)

    def rates(self, step: int) -> list[float]:
        return [self.recipe.rate_at(step, group["mouth"]) for group in self.optimizer.param_groups]

    def _rows(self, batch: TeacherBatch) -> list[Row]:
        return [self.school.rows[picture][i] for picture, i in batch.rows_R2.tolist()]

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
        batch: TeacherBatch,
        rows: Sequence[Row],
        asked: Looked,
        plain: Looked,
        keys: Tensor,
        place: Mapping[int, int],
    ) -> dict[str, Tensor]:
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

    def _speaking_losses(
        self, batch: TeacherBatch, rows: Sequence[Row], asked: Looked, plain: Looked
    ) -> dict[str, Tensor]:
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
            "said": loss(asked, batch.spoken, rows),
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
        tensors = {
            "pictures_B": torch.from_numpy(batch.pictures_B),
            "rows": torch.from_numpy(batch.rows_R2),
            "spoken": torch.tensor(batch.spoken, dtype=torch.long),
            "described": torch.tensor(batch.described, dtype=torch.long),
        }
        return Kept(tensors, {"questions": [[row.picture, row.question, row.said] for row in self._rows(batch)]})

    def restore(self, kept: Kept) -> TeacherBatch:
        t = kept.tensors
        spoken, described = (tuple(t[name].tolist()) for name in ("spoken", "described"))
        sight = self.school.sight()[t["pictures_B"]]
        return TeacherBatch(t["pictures_B"].numpy(), t["rows"].numpy(), spoken, described, sight)


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
