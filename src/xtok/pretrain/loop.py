"""Pretraining of a codec, one step after another, and resumable at each. docs/method.md#losses.

# B batch, T frames, K tangent channels
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from xtok import provenance
from xtok.actions.layout import get_layout
from xtok.actions.types import ChunkBatch
from xtok.atomic import atomic_file
from xtok.codec import Tokenizer
from xtok.codec.base import Codec
from xtok.codec.batch import BatchContext
from xtok.codec.output import CodecOutput
from xtok.codec.storage import make_codec
from xtok.data.digests import differences
from xtok.pretrain import checkpoint
from xtok.pretrain.average import WeightAverage
from xtok.pretrain.condition_dropout import draw_levels, drop_conditions
from xtok.pretrain.corpus import REVERSED, Corpus
from xtok.pretrain.graceful_stop import stop_request
from xtok.pretrain.identity import RunJson, identity
from xtok.pretrain.initialise import initialise, refit_codebooks
from xtok.pretrain.losses import motion_l1, reconstruction_losses, weighted_sum
from xtok.pretrain.measurement import measure_unknown
from xtok.pretrain.precision import bfloat16_networks, round_to_half
from xtok.pretrain.recipe import Recipe
from xtok.pretrain.semantic import (
    code_head,
    fit_substitute,
    known_episodes,
    semantic_heads,
    semantic_losses,
)
from xtok.semantics.align import Alignment
from xtok.semantics.cotemporal import FrameFeatures, gather_features
from xtok.semantics.masked import (
    CodeMasking,
    code_masking_loss,
    draw_hidden,
    draw_masking,
    reconstruct_hidden,
)

_VALIDATION_CHUNKS = 128  # a horizon


def train(
    recipe: Recipe,
    data_paths: Sequence[Path],
    out: Path,
    resume: bool = False,
    features: FrameFeatures | None = None,
    tokenizer: Tokenizer | None = None,
    skip_bad: bool = False,
) -> Path:
    """Train by `recipe` on the train episodes of the data sets; returns `out`, which then opens as a tokenizer.

    features: of a teacher, for a recipe that aligns or predicts. Data sets that it lacks just do not take part in that.
    tokenizer: for a recipe with trainable="heads", the one that stays as it is; `out` then holds a copy beside the
        heads, with the robots that it lacked, measured.
    skip_bad: leave out episodes that cannot be read; run.json lists them.

    `out` also gets run.json (recipe, data hash, versions), metrics.jsonl, heads.safetensors and checkpoints/.

    Raises:
        ValueError: `out` holds a run and resume is False, or with resume none or one of another recipe or data; a
            tokenizer with a recipe that places its own, or none with one that needs it.
        KeyboardInterrupt: SIGINT or SIGTERM came; a checkpoint was written first.
    """
    recipe = _of_tokenizer(recipe, tokenizer)
    corpus = Corpus.open(
        get_layout(recipe.codec.layout), data_paths, recipe.data.action_sources, recipe.data.sampling_weights, skip_bad
    )
    trainer = (
        resume_run(recipe, corpus, out, features, tokenizer)
        if resume
        else begin_run(recipe, corpus, out, data_paths, features, tokenizer)
    )
    trainer.run()
    return trainer.finish()


def begin_run(
    recipe: Recipe,
    corpus: Corpus,
    out: Path,
    data_paths: Sequence[Path] = (),
    features: FrameFeatures | None = None,
    tokenizer: Tokenizer | None = None,
) -> Trainer:
    """Place priors and books (or take those of `tokenizer`), and write run.json.

    Raises:
        ValueError: `out` holds a run already, the corpus is too small, or the recipe needs features of its episodes.
    """
    if (out / "run.json").exists():
        raise ValueError(f"{out} holds a run; go on with it (--resume), or choose another folder")
    shutil.rmtree(out / "checkpoints", ignore_errors=True)  # of a beginning that was cut short
    torch.manual_seed(recipe.seed)
    if tokenizer is None:
        codec = make_codec(recipe.codec)
        initialise(
            codec, corpus, recipe.seed, recipe.codebooks.vectors, recipe.codebooks.iterations, own=recipe.codebooks.own
        )
        if recipe.codebooks.half:
            round_to_half(codec)
    else:
        codec = measure_unknown(tokenizer, corpus, recipe.seed).codec
    Tokenizer(codec).save_pretrained(out / "start")
    trainer = Trainer(recipe, corpus, codec, out, features)
    trainer.save()
    about: RunJson = {
        **identity(recipe, corpus, features, tokenizer),
        "data": [str(path) for path in data_paths],
        "left_out": [each.to_dict() for each in corpus.left_out],
        "git_revision": provenance.git_revision(),
        "versions": provenance.versions(),
        "command": provenance.command(),
    }
    checkpoint.write_json(out / "run.json", about)  # last: a run without it never began
    return trainer


def resume_run(
    recipe: Recipe,
    corpus: Corpus,
    out: Path,
    features: FrameFeatures | None = None,
    tokenizer: Tokenizer | None = None,
) -> Trainer:
    """The run in `out` as its newest checkpoint left it.

    Raises:
        ValueError: there is none, or it is of another recipe, other data, other features or another tokenizer.
    """
    if not (out / "run.json").exists():
        raise ValueError(f"no run to go on with in {out}; start without --resume")
    recorded = json.loads((out / "run.json").read_text(encoding="utf-8"))
    now = identity(recipe, corpus, features, tokenizer)
    if different := differences({key: recorded.get(key) for key in now}, now):
        raise ValueError(f"the run in {out} has another {' and '.join(different)}; give the ones it was begun with")
    trainer = Trainer(recipe, corpus, Tokenizer.from_pretrained(out / "start").codec, out, features)
    trainer.load()
    return trainer


def _of_tokenizer(recipe: Recipe, tokenizer: Tokenizer | None) -> Recipe:
    """A recipe for heads is for whatever codec it is given."""
    if (recipe.trainable == "heads") is (tokenizer is None):
        wants = "needs --tokenizer, the one that stays as it is" if tokenizer is None else "places a tokenizer itself"
        raise ValueError(f"recipe {recipe.name!r} {wants}; --tokenizer goes with a recipe of heads alone (`heads`)")
    return recipe if tokenizer is None else replace(recipe, codec=tokenizer.codec.config)


class Trainer:
    """The state of a run. `run` goes to its end (or to `until`), `finish` writes the tokenizer.

    features: with them, batches have one chunk an episode where possible; also in a recipe that does not look at them,
    so that it can stand beside one that does.
    """

    def __init__(
        self, recipe: Recipe, corpus: Corpus, codec: Codec, out: Path, features: FrameFeatures | None = None
    ) -> None:
        self.recipe, self.corpus, self.out, self.features = recipe, corpus, out, features
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.codec = codec.to(self.device)
        torch.manual_seed(recipe.seed)
        self.known = known_episodes(corpus, features)
        heads = {**code_head(recipe, codec), **semantic_heads(recipe, self.codec, corpus, features)}
        self.heads = nn.ModuleDict(heads).to(self.device)
        self.codec.requires_grad_(recipe.trainable != "heads")
        self.parameters = [p for p in (*self.codec.parameters(), *self.heads.parameters()) if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=recipe.optimiser.learning_rate, weight_decay=recipe.optimiser.weight_decay
        )
        self.average = WeightAverage(self.codec, recipe.optimiser.average_decay)
        self.heads_average = WeightAverage(self.heads, recipe.optimiser.average_decay)
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.step = 0
        n, horizons = _VALIDATION_CHUNKS, recipe.validation_horizons
        fixed = torch.Generator().manual_seed(recipe.seed)
        self.watched = {
            "train": {T: corpus.sample(T, n, fixed, augment=False) for T in horizons},
            "validation": {T: corpus.validate(T, n) for T in horizons},
        }

    def run(self, until: int | None = None) -> None:
        """Train up to step `until` (default: the recipe's last), with a checkpoint there."""
        last = self.recipe.steps if until is None else until
        self.codec.train(self.recipe.trainable != "heads")  # in training its books would move
        self.heads.train()
        seen: dict[str, list[float]] = defaultdict(list)
        shown: dict[str, str] = {}
        low_precision = [*self.codec.networks.values(), *self.heads.values()] if self.device.type == "cuda" else []
        with (
            stop_request() as stop,
            bfloat16_networks(low_precision, self.device.type),
            tqdm(total=self.recipe.steps, initial=self.step, desc=self.recipe.name) as bar,
        ):
            while self.step < last:
                for name, value in self.train_step().items():
                    seen[name].append(value)
                bar.update()
                if self.step % self.recipe.log_every == 0:
                    shown |= self._log_losses(seen)
                    seen.clear()
                if self.step % self.recipe.validate_every == 0:
                    shown |= self._log_validation()
                bar.set_postfix(shown, refresh=False)
                if stop or self.step == last or self.step % self.recipe.checkpoint_every == 0:
                    self.save()
                if stop:
                    raise KeyboardInterrupt

    def train_step(self) -> dict[str, float]:
        """One step of the optimiser and of the books; the losses before it, `total` too."""
        recipe = self.recipe
        low, high = recipe.data.horizons
        horizon = int(torch.randint(low, high + 1, (), generator=self.generator))
        # A chunk that is played backwards teaches nothing of what was seen and said.
        backwards = REVERSED if recipe.reconstructs else 0.0
        drawn = self.corpus.draw(
            horizon,
            recipe.data.batch_size,
            self.generator,
            one_chunk_each=self.known,
            backwards=backwards,
            cells=recipe.alignment.hard_negative_groups if self.step % 2 else None,
        )
        batch_context = self.codec.batch_context(drawn.chunks.context)
        motion_BTK = self.codec.motion(drawn.chunks, batch_context)
        batch_context = replace(
            batch_context, conditions=drop_conditions(batch_context.conditions, recipe, self.generator)
        )
        losses: dict[str, Tensor] = {}
        if not recipe.reconstructs:
            output = self.codec.first_level(motion_BTK, batch_context)
        else:
            output = self.codec(motion_BTK, batch_context, draw_levels(recipe, self.generator))
            losses |= reconstruction_losses(self.codec, output, motion_BTK, batch_context)
        losses |= self._masked_losses(output, motion_BTK, batch_context)
        if recipe.alignment.keys:
            assert self.features is not None
            seen = gather_features(self.features, drawn.origins, horizon).to(self.device)
            losses |= semantic_losses(recipe, self.codec, self.heads, output, drawn.origins, seen)
        total = weighted_sum(losses, recipe.weights(self.step))

        for group in self.optimizer.param_groups:
            group["lr"] = recipe.optimiser.rate_at(self.step, recipe.steps)
        self.optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(self.parameters, recipe.optimiser.gradient_clip, error_if_nonfinite=True)
        self.optimizer.step()
        self.average.update(self.step)
        self.heads_average.update(self.step)
        self.step += 1
        return {name: value.item() for name, value in {**losses, "total": total}.items()}

    def finish(self) -> Path:
        """Average the networks, place the books anew under them, write the tokenizer and the heads."""
        self.average.copy_to_module()
        self.heads_average.copy_to_module()
        recipe = self.recipe
        if recipe.trainable in ("all", "extra") and recipe.steps:
            vectors, iterations = recipe.codebooks.vectors, recipe.codebooks.iterations
            refit_codebooks(self.codec, self.corpus, recipe.seed, vectors, iterations, own=recipe.codebooks.own)
        if recipe.codebooks.half:
            round_to_half(self.codec)
        shown = self._log_validation("released_")
        tqdm.write(f"{recipe.name}: released: {shown}")
        if recipe.alignment.align:
            align = self.heads["align"]
            assert isinstance(align, Alignment)
            assert self.features is not None
            told = fit_substitute(align, self.codec, self.corpus, self.features, recipe.seed)
            self._log({"substitute_variance": told})
        Tokenizer(self.codec.cpu()).save_pretrained(self.out)
        with atomic_file(self.out / "heads.safetensors") as draft:
            save_file(self.heads.cpu().state_dict(), draft)
        return self.out

    @torch.no_grad()
    def l1(self, chunks: ChunkBatch) -> float:
        """Mean absolute error of the greedy reconstruction, normalised tangent units."""
        training = self.codec.training
        self.codec.eval()
        batch_context = self.codec.batch_context(chunks.context)
        motion_BTK = self.codec.motion(chunks, batch_context)
        l1 = motion_l1(self.codec(motion_BTK, batch_context).motion_BTK, motion_BTK, batch_context.conditions.mask_BK)
        self.codec.train(training)
        return float(l1)

    def save(self) -> None:
        training = {
            **checkpoint.prefixed("optimizer", checkpoint.pack_optimizer(self.optimizer)),
            **checkpoint.prefixed("average", self.average.tensors),
            **checkpoint.prefixed("heads_average", self.heads_average.tensors),
            **checkpoint.prefixed("random", checkpoint.pack_random(self.generator)),
        }
        parts = {"model": self.codec.state_dict(), "heads": self.heads.state_dict(), "training": training}
        checkpoint.save_checkpoint(self.out / "checkpoints", self.step, parts)

    def load(self) -> None:
        self.step, parts = checkpoint.load_checkpoint(self.out / "checkpoints")
        self.codec.load_state_dict(parts["model"])
        self.heads.load_state_dict(parts["heads"])
        training = parts["training"]
        checkpoint.unpack_optimizer(self.optimizer, checkpoint.under("optimizer", training))
        self.average.load(checkpoint.under("average", training))
        self.heads_average.load(checkpoint.under("heads_average", training))
        checkpoint.unpack_random(self.generator, checkpoint.under("random", training))
        self._forget_metrics_after(self.step)

    def _masked_losses(self, output: CodecOutput, motion_BTK: Tensor, batch_context: BatchContext) -> dict[str, Tensor]:
        forms = self.recipe.mam_forms(self.step)
        # A generator of its own: with and without masking a run sees the same chunks.
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + self.step)
        losses = {}
        if "mam_codes" in forms:
            B, M, _ = output.codes_BMQ.shape
            masking = draw_masking((B, M), self.recipe.codec.codebook_size, generator)
            head = self.heads["codes"]
            assert isinstance(head, CodeMasking)
            losses["mam_codes"] = code_masking_loss(head, self.codec, output, batch_context, masking)
        if "mam_actions" in forms:
            hidden_BTK = draw_hidden(batch_context, self.codec.layout, generator)
            found = reconstruct_hidden(self.codec, motion_BTK, batch_context, hidden_BTK)
            losses["mam_actions"] = motion_l1(found.motion_BTK, motion_BTK, batch_context.conditions.mask_BK)
        return losses

    def _log_losses(self, seen: dict[str, list[float]]) -> dict[str, str]:
        means = {name: sum(values) / len(values) for name, values in seen.items()}
        health = self.codec.health()
        use = {
            "usage": [level.usage for level in health],
            "perplexity": [level.perplexity for level in health],
            "resets": [level.resets for level in health],
        }
        rate = self.recipe.optimiser.rate_at(self.step - 1, self.recipe.steps)
        self._log({**means, **use, "learning_rate": rate})
        shown = {name: f"{value:.4f}" for name, value in means.items()}
        return shown | {f"q{q}": f"{level.usage:.0%}/{level.perplexity:.0f}" for q, level in enumerate(health)}

    def _log_validation(self, prefix: str = "") -> dict[str, str]:
        """l1 by horizon on fixed chunks of both parts; the means to show. Neither part is the held-out split."""
        l1 = {
            f"{prefix}l1_{part}": {T: self.l1(chunks) for T, chunks in batches.items()}
            for part, batches in self.watched.items()
        }
        self._log(l1)
        return {name: f"{sum(values.values()) / len(values):.4f}" for name, values in l1.items()}

    def _log(self, content: Mapping[str, object]) -> None:
        with (self.out / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": self.step, **content}) + "\n")

    def _forget_metrics_after(self, step: int) -> None:
        """Lines that the resumed run will write again; a line cut short by a crash, too."""
        path = self.out / "metrics.jsonl"
        if path.exists():
            lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
            kept = [line for line in lines if json.loads(line)["step"] <= step]
            path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
