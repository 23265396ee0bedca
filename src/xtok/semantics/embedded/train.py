"""Training of the embedded teacher's network, in two parts; the language model's first layers stay as they are.

Looking: eyes tell what each cell shows and where the middles of things are, and words find what they name.
Answering: the host learns, on eyes that stay as they are: places and words that answer questions, captions, what comes
now.

# B pictures of a batch, R rows (a picture with a question), G cells, M mentions, S tokens said, Y tokens it can say
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xtok import ranks
from xtok.engine import PLAIN, Engine, Kept, Launch, Parts, Settings, Task
from xtok.engine.average import WeightAverage
from xtok.engine.checkpoint import prefixed, under
from xtok.engine.task import Figures
from xtok.semantics.backbone import Read
from xtok.semantics.embedded.batches import TeacherBatch, TeacherBatches, is_watched
from xtok.semantics.embedded.exam import exam
from xtok.semantics.embedded.eyes import Sight
from xtok.semantics.embedded.language import END, Language
from xtok.semantics.embedded.lessons import KIND_CAPTION, KIND_DOING, NOTHING, Lesson, Question, exchange
from xtok.semantics.embedded.model import WEIGHTS, EmbeddedVLM, Remembered, Words, file_digest
from xtok.semantics.embedded.network import Layout
from xtok.semantics.embedded.recipe import TeacherRecipe
from xtok.semantics.embedded.school import School

RUN = "run.json"
WATCHED_MAX = 150  # pictures that are asked about while training
EMPTY_WEIGHT = 0.1  # of cells that hold nothing, beside those of things
TINY = 1e-6
READ_BATCH = 4  # texts of one length that the language model reads at once


class TeacherTask(Task[TeacherBatch]):
    """A step is decided by seed and number alone."""

    name, cpu_only = "teacher", True

    def __init__(self, recipe: TeacherRecipe, model: EmbeddedVLM, school: School, out: Path) -> None:
        if (recipe.network.kinds, recipe.network.colours) != (school.kinds, school.colours):
            raise ValueError("the network has other words for what it sees than the scenes; see `for_school`")
        self.recipe, self.model, self.school, self.out = recipe, model, school, out
        self.batches = TeacherBatches.of(recipe, school)
        self.module = model.network
        self.average = WeightAverage(model.network, recipe.average_decay)
        large = [p for p in self.module.parameters() if p.ndim > 1]
        small = [p for p in self.module.parameters() if p.ndim <= 1]
        groups = [{"params": large, "weight_decay": recipe.weight_decay}, {"params": small, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.looking.learning_rate, betas=(0.9, 0.98))
        self.batch_size = min(recipe.looking.pictures, len(self.batches.learned))
        self.data_order = (
            f"every step has {recipe.looking.pictures} pictures, then {recipe.answering.pictures}, drawn from seed "
            f"{recipe.seed} and its number alike in every process; of R processes the r-th takes the r-th part of them"
        )
        self.config = recipe.to_dict()
        self._words: dict[str, Tensor] = {}  # text -> states of its tokens
        self._place = {token: i for i, token in enumerate(model.spoken.tolist())}
        self.identity = json.loads(json.dumps({"recipe": recipe.to_dict(), "lessons": school.digest}))

    # -- a step ---------------------------------------------------------------------------------------------------

    def losses(self, batch: TeacherBatch, step: int) -> dict[str, Tensor]:
        answering = step >= self.recipe.looking.steps
        words = self.words(batch.texts)
        with torch.autocast("cpu", torch.bfloat16):
            return self._answering(batch, words) if answering else self._looking(batch, words)

    def _looking(self, batch: TeacherBatch, words: Words) -> dict[str, Tensor]:
        network = self.model.network
        sight = network.eyes(batch.pixels)
        read = network.read(words.states_BLW, words.keep_BL)
        layout = Layout.of(batch.picture_R[:, None], len(batch.pixels))
        query_RQP = network.queries(read, words.keep_BL)
        found = network.pointing(network.keys(sight.cells).flatten(2), layout, query_RQP)[:, 0].log_softmax(-1)
        return {**self._cell_losses(batch, sight), "named": named_loss(batch, found)}

    def _answering(self, batch: TeacherBatch, words: Words) -> dict[str, Tensor]:
        network = self.model.network
        with torch.no_grad():
            sight = network.eyes(batch.pixels)
        looked = network.look(sight)
        read = network.read(words.states_BLW, words.keep_BL)
        picture = batch.picture_R[:, None]
        asked = network.prefix(looked, picture, read, words.keep_BL, batch.view_B[batch.picture_R][:, None])
        answered = self._answer_losses(batch, Read(asked.prefix, Remembered(looked, asked)))
        return {"named": named_loss(batch, asked.found_RVQG[:, 0]), **answered}

    def weights(self, step: int) -> Mapping[str, float]:
        return self.recipe.weights_at(step)

    def rates(self, step: int) -> list[float]:
        return [self.recipe.rate_at(step)] * 2

    def stepped(self, step: int) -> None:
        self.average.update(step)

    def _cell_losses(self, batch: TeacherBatch, sight: Sight) -> dict[str, Tensor]:
        told = self.model.network.tell(sight.cells)
        at_D = batch.place_D2[:, 0], batch.place_D2[:, 1]
        is_told = batch.held_D >= 0
        held_D, target_D = told.held_NG[at_D][is_told], batch.held_D[is_told].float()
        offset_D = sight.offset.flatten(2).transpose(1, 2)[at_D]
        return {
            "kind": _told_apart(told.kind_NXG, batch.kind_BGG.flatten(1)),
            "colour": _told_apart(told.colour_NYG, batch.colour_BGG.flatten(1)),
            "centre": centre_loss(sight.centre, batch.centre_BGG, len(batch.place_D2)),
            "offset": _mean((offset_D - batch.offset_D2).abs().clamp(max=8).mean(1)),
            "held": _mean(F.binary_cross_entropy_with_logits(held_D, target_D, reduction="none")),
        }

    def _answer_losses(self, batch: TeacherBatch, read: Read) -> dict[str, Tensor]:
        said = [self.model.language.tokens(f" {answer}") for answer in batch.answers]
        loss_R, places_RG = self._answered(read, said)
        points = batch.points_R
        return {"point": pointing_loss(places_RG[points], batch.cover_RG[points]), "said": _mean(loss_R)}

    def _answered(self, read: Read, said: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Of each row: mean cross-entropy of its tokens [R], and log-probabilities of its place [R, G + 1]."""
        model = self.model
        R, S = len(said), 1 + max(map(len, said))
        ids = torch.full((R, S), END)
        target_RS = torch.full((R, S), -100)
        for r, row in enumerate(said):
            ids[r, 1 : 1 + len(row)] = torch.tensor(row, dtype=torch.long)
            target_RS[r, : len(row) + 1] = torch.tensor([self._place[token] for token in (*row, END)])
        first = model.network.ask.expand(R, 1, -1)
        tail = torch.cat([first, model.tokens_in(ids[:, 1:]).to(first.dtype)], 1)
        keep = torch.arange(S)[None] <= torch.tensor([len(row) for row in said])[:, None]
        states, read = model.extend(read, tail, keep)
        extra: Remembered = read.extra
        places = model.network.point_logits(extra.looked, extra.asked, states[:, 0])[:, 0]
        loss = F.cross_entropy(model.logits(states).transpose(1, 2), target_RS, reduction="none", ignore_index=-100)
        return loss.sum(1) / (target_RS >= 0).sum(1), places

    def words(self, texts: Sequence[str]) -> Words:
        """As `EmbeddedVLM.words`, each text once a run, in a batch of fixed shape: what a text's states are must not
        hang on what it is read with, or a resumed run would be another one."""
        new = list(dict.fromkeys(text for text in texts if text not in self._words))
        by_length: dict[int, list[str]] = {}
        for text in new:
            by_length.setdefault(1 + len(self.model.language.tokens(text)), []).append(text)
        for some in by_length.values():
            for start in range(0, len(some), READ_BATCH):
                part = some[start : start + READ_BATCH]
                words = self.model.words([*part, *[part[0]] * (READ_BATCH - len(part))])
                for text, states in zip(part, words.states_BLW, strict=False):
                    self._words[text] = states.clone()
        states = [self._words[text] for text in texts]
        lengths = torch.tensor([len(each) for each in states])
        keep_BL = torch.arange(int(lengths.max())) < lengths[:, None]
        return Words(nn.utils.rnn.pad_sequence(states, batch_first=True), keep_BL)

    # -- what is told ---------------------------------------------------------------------------------------------

    def validate(self) -> Figures:
        """Share right by kind on episodes that are not learned from, answered by the averaged weights."""
        lessons = watched_lessons(self.recipe, self.school)
        if not lessons:
            return Figures()
        now = {name: p.detach().clone() for name, p in self.model.network.named_parameters()}
        self.average.copy_to_module()
        self.model.eval()
        table = exam(self.model, lessons, controls=False)["kinds"]
        self.model.train()
        with torch.no_grad():
            for name, parameter in self.model.network.named_parameters():
                parameter.copy_(now[name])
        right = {kind: row["right"] for kind, row in table.items()}
        return Figures({"watched": right}, {"right": f"{right['all']:.2f}"})

    # -- what is kept ---------------------------------------------------------------------------------------------

    def state(self) -> Parts:
        identity = torch.frombuffer(bytearray(json.dumps(self.identity).encode()), dtype=torch.uint8)
        training = {"identity": identity, **prefixed("average", self.average.tensors)}
        return {"model": self.module.state_dict(), "training": training}

    def load(self, parts: Parts) -> None:
        """Raises ValueError if the checkpoint is of another recipe or other lessons."""
        before = json.loads(parts["training"]["identity"].numpy().tobytes())
        if different := [key for key, value in self.identity.items() if before.get(key) != value]:
            raise ValueError(f"the run in {self.out} has another {' and '.join(different)}; choose a new folder")
        self.module.load_state_dict(parts["model"])
        self.average.load(under("average", parts["training"]))

    def finish(self) -> list[Figures]:
        self.average.copy_to_module()
        self.model.eval().save(self.out)
        return []

    def keep(self, batch: TeacherBatch) -> Kept:
        named = {f.name: getattr(batch, f.name) for f in fields(batch)}
        tensors = {name: value for name, value in named.items() if isinstance(value, Tensor)}
        tensors["pictures_B"] = torch.from_numpy(batch.pictures_B)
        return Kept(tensors, {"texts": list(batch.texts), "answers": list(batch.answers)})

    def restore(self, kept: Kept) -> TeacherBatch:
        tensors = {**kept.tensors, "pictures_B": kept.tensors["pictures_B"].numpy()}
        texts, answers = kept.about["texts"], kept.about["answers"]
        assert isinstance(texts, list) and isinstance(answers, list)
        return TeacherBatch(**cast(Any, tensors), texts=tuple(texts), answers=tuple(answers))


class Training(Engine[TeacherBatch]):
    """The engine with this task: `run` goes to the end, or to step `until`; a checkpoint every so often and there."""

    task: TeacherTask

    def __init__(
        self, recipe: TeacherRecipe, model: EmbeddedVLM, school: School, out: Path, launch: Launch = PLAIN
    ) -> None:
        watch = recipe.watch_every if recipe.watched else 0
        settings = Settings(recipe.steps, recipe.seed, recipe.log_every, watch, checkpoint_every=250, digits=4)
        super().__init__(TeacherTask(recipe, model, school, out), settings, out, launch)

    @property
    def trained(self) -> nn.Module:
        return self.task.module


def for_school(recipe: TeacherRecipe, school: School) -> TeacherRecipe:
    """With a network that tells the kinds and colours of these scenes."""
    return replace(recipe, network=replace(recipe.network, kinds=school.kinds, colours=school.colours))


def spoken_by(school: School, language: Language) -> list[int]:
    """Tokens of all that may be said, END first."""
    tokens = {token for text in spoken_texts(school) for token in language.tokens(text)}
    return [END, *sorted(tokens - {END})]


def started_from(model: EmbeddedVLM, folder: Path) -> str:
    """Give a model the weights of another run; returns their digest.

    Raises:
        ValueError: no weights there, or of a network of other sizes.
    """
    before = EmbeddedVLM.load(folder)
    if before.network.config != model.network.config:
        raise ValueError(f"{folder} is a network of other sizes than the recipe's; choose weights of the same recipe")
    model.network.load_state_dict(before.network.state_dict())
    return file_digest(folder / WEIGHTS)


def spoken_texts(school: School) -> list[str]:
    """Answers as they are said, mirrored ones too."""
    answers = {row.answer for rows in school.asked for row in rows}
    return sorted({f" {each}" for answer in answers for each in (answer, exchange(answer))} | {f" {NOTHING}"})


def watched_lessons(recipe: TeacherRecipe, school: School) -> list[Lesson]:
    """Questions on pictures of episodes that are not learned from; the same ones whenever asked for."""
    numbers = [i for i in range(len(school)) if is_watched(recipe, school, i)]
    rng = np.random.default_rng(0)
    pictures, labels = school.arrays()
    lessons = []
    for i in sorted(rng.permutation(numbers)[:WATCHED_MAX].tolist()):
        questions = []
        by_kind: dict[str, list[int]] = {}
        for j, row in enumerate(school.asked[i]):
            if row.kind not in (KIND_CAPTION, KIND_DOING):
                by_kind.setdefault(row.kind, []).append(j)
        for kind, rows in by_kind.items():
            row = school.asked[i][rows[int(rng.integers(len(rows)))]]
            pointed = kind in ("point", "target")
            mask = np.isin(labels[i].numpy(), row.things or ()) if pointed else None
            questions.append(Question(kind, row.text, row.answer, (), mask))
        lessons.append(Lesson(pictures[i].numpy(), tuple(questions)))
    return lessons


# -- losses -------------------------------------------------------------------------------------------------------


def named_loss(batch: TeacherBatch, found_RQG: Tensor) -> Tensor:
    """Query m of a text points at its m-th mention."""
    found = found_RQG[:, : batch.named_RMG.shape[1]][batch.is_named_RM]
    return pointing_loss(found, batch.named_RMG[batch.is_named_RM])


def pointing_loss(log_share_RG: Tensor, cover_RG: Tensor) -> Tensor:
    """- log of the share that falls on what is asked for, cells weighed by how much of them it covers."""
    hit_R = (log_share_RG.float().exp() * cover_RG).sum(1)
    return _mean(-(hit_R + TINY).log())


def centre_loss(logit_BGG: Tensor, target_BGG: Tensor, count: int) -> Tensor:
    """Focal loss of middles (Law and Deng 2018, CornerNet, eq. 1), a mean over things."""
    share = logit_BGG.float().sigmoid().clamp(1e-4, 1 - 1e-4)
    is_middle = target_BGG > 0.99
    loss = torch.where(
        is_middle,
        -((1 - share) ** 2) * share.log(),
        -((1 - target_BGG) ** 4) * share**2 * (1 - share).log(),
    )
    return loss.sum() / ranks.divisor(torch.tensor(max(count, 1)))


def _told_apart(logits_BCG: Tensor, target_BG: Tensor) -> Tensor:
    """Cross-entropy of cells, empty ones counting little."""
    loss = F.cross_entropy(logits_BCG, target_BG, reduction="none", ignore_index=-1)
    weight = torch.where(target_BG > 0, 1.0, EMPTY_WEIGHT) * (target_BG >= 0)
    return (loss * weight).sum() / ranks.divisor(weight.sum())


def _mean(value_N: Tensor) -> Tensor:
    """Over the rows of all processes; 0 where there are none."""
    return value_N.sum() / ranks.divisor(torch.tensor(len(value_N)))
